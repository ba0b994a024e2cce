"""Every property of `fnn.testing` over every row of the catalogue; and that it is complete."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn.layers
from fnn.core.context import Masked, is_masked
from fnn.core.layer import Layer
from fnn.preprocessing.host_layer import HostLayer
from fnn.testing.checking import check
from fnn.testing.promises import PROPERTIES
from tests.helpers import catalogue
from tests.helpers.catalogue import CATALOGUE, COMPILED, Case

each_row = pytest.mark.parametrize("case", CATALOGUE, ids=[case.id for case in CATALOGUE])


# One row of each class: its first with a mask, else its first. One of each file of layers, whose
# classes compute by the same functions: that of its first class.
MASKED = [case for case in CATALOGUE if any(isinstance(given, Masked) for given in case.inputs)]
BY_CLASS = {type(case.layer): case for case in (*reversed(CATALOGUE), *reversed(MASKED))}
OF_CLASS = BY_CLASS.values()
OF_FILE = {cls.__module__: case for cls, case in BY_CLASS.items()}.values()

LOOKING_AHEAD = "a_later_step_changes_nothing_earlier"
GRADIENTS = "gradients_are_finite"
# In the row of a class; of its other rows something else says as much: that inference needs no key
# and reads no values by the shapes, dtypes in test_policy.py.
IN_ROW_OF_CLASS = {"inference_needs_no_key", "calls_are_pure", "bfloat16", "vmap_over_weights"}
# In the row of a file: the other layers run without jit in test_doctests.py, but for four; and
# test_independence.py finds in the program of every row that examples stay apart, those also that
# pad a batch.
ALONE = {"an_example_alone_is_as_in_the_batch", "padded_rows_change_nothing"}
IN_ROW_OF_FILE = {"jit_equals_eager", *ALONE}
RUN_BY_NO_EXAMPLE = fnn.layers.Frozen, fnn.layers.Remat, fnn.layers.PReLU, fnn.layers.Bias
# But not in these programs, which mix examples or which that analysis cannot resolve; and these
# classes have statistics, or a batch, of their own.
MIXING = (
    fnn.layers.MixUp,
    fnn.layers.CutMix,
    fnn.layers.ContrastLimitedAdaptiveHistogramEqualization,
    fnn.layers.MelSpectrogram,
    fnn.layers.GroupNormalization,
    fnn.layers.TimeDistributed,
)
# Of other rows that Keras has too, assert_equals_keras says it; and of all of these that gradients
# are finite and not all zero, but for what is drawn in training: that is shown in the row of a
# class, and in the cells, whose dropout is that of the recurrent layers.
AS_IN_KERAS = {"shapes_by_eval_shape_are_those_of_running", "batch_order_changes_nothing"}
DRAWING = re.compile("Random|AugMix|MixUp|CutMix|Solarization|[dD]ropout|Noise")
CELLS = fnn.layers.LSTMCell, fnn.layers.GRUCell, fnn.layers.SimpleRNNCell
# And of other rows whose masked steps hold random numbers that masked steps change nothing, in what
# reads the mask there too.
SKIPPING = "masked_steps_change_nothing"
READING_MASKS = fnn.layers.LSTM, fnn.layers.GRU, fnn.layers.SimpleRNN, fnn.layers.RNN

# Both choose by one mechanism among ten layers that have rows of their own, in large programs:
# test_policy.py has their dtypes, and the gradients of `AugMix` are those of the mechanism.
CHOOSING = {
    fnn.layers.AugMix: {"bfloat16", "jit_equals_eager"},
    fnn.layers.RandAugment: {"bfloat16", "jit_equals_eager", GRADIENTS},
}


def is_said_elsewhere(name, case):
    if name in CHOOSING.get(type(case.layer), ()):
        return True
    if name in IN_ROW_OF_FILE and case not in OF_FILE:
        needed = MIXING if name in ALONE else RUN_BY_NO_EXAMPLE
        return case not in COMPILED or not isinstance(case.layer, needed)
    if case.keras is not None and name in AS_IN_KERAS:
        return case not in COMPILED
    if case.keras is not None and name == GRADIENTS:
        drawn = case in OF_CLASS or isinstance(case.layer, CELLS)
        return not (drawn and DRAWING.search(case.id))
    if case.keras is not None and name == SKIPPING and isinstance(case.layer, READING_MASKS):
        return case in MASKED and case not in COMPILED and not DRAWING.search(case.id)
    return name in IN_ROW_OF_CLASS and case not in OF_CLASS


def is_quick(name, case):
    if name in ("equality_and_hash", "config_round_trip"):
        return True
    return case in OF_FILE and (name in AS_IN_KERAS or name == "state_keeps_its_structure")


def marks(name, case):
    if is_said_elsewhere(name, case):
        return pytest.mark.thorough
    return () if is_quick(name, case) else pytest.mark.slow


PAIRS = [  # row by row, so that what is compiled for a row serves all its properties
    pytest.param(name, case, id=f"{name}-{case.id}", marks=marks(name, case))
    for case in CATALOGUE
    for name in PROPERTIES
    if name not in case.without and (case.causal or name != LOOKING_AHEAD)
]


class Traced(Case):
    """A row that is traced with NumPy's arrays where it would run operation by operation.

    Each operation is a program to compile; the same lines of Python run, and read or write the same
    arrays.
    """

    def __init__(self, case):
        shared = {"weights": case.weights, "_programs": case._programs}
        vars(self).update({**vars(case), **shared, "_eager": {}})

    def eager(self, train):
        jax.eval_shape(lambda: super(Traced, self).eager(train).results)
        return self._eager[train]

    def compiled(self, *arguments, **options):
        return (), ()  # the dtypes of bfloat16 are found by a trace; no values to look at


def is_traced(name, case):
    if isinstance(case.layer, (fnn.layers.MixUp, fnn.layers.CutMix)):
        return False  # they index arrays by drawn numbers, NumPy's own by numbers alone
    if name == "bfloat16":
        return case not in OF_FILE
    return name in ("inference_needs_no_key", "calls_are_pure")


@pytest.mark.parametrize(("name", "case"), PAIRS)
def test_property(name, case):
    check(name, Traced(case) if is_traced(name, case) else case)


@pytest.mark.thorough
@pytest.mark.parametrize(
    "case", [case for case in OF_CLASS if case not in OF_FILE], ids=lambda case: case.id
)
def test_values_in_bfloat16(case):
    check("bfloat16", case)


@each_row
def test_repr_evaluates_back(case):
    names = {**vars(fnn.layers), **vars(fnn.core.config), **vars(catalogue)}
    assert eval(repr(case.layer), names) == case.layer


def test_ids_are_unique():
    assert len({case.id for case in CATALOGUE}) == len(CATALOGUE)


# Bases of other layers; wrappers of functions, which have tests of their own; and `Training`, which
# needs a key in inference.
BASES = {Layer, fnn.layers.Composite, fnn.layers.Wrapper, fnn.layers.Training}
BASES |= {fnn.layers.JaxLayer, fnn.layers.FlaxLayer}


def test_every_layer_has_a_row():
    public = {thing for thing in vars(fnn.layers).values() if isinstance(thing, type)}
    layers = {thing for thing in public if issubclass(thing, Layer)}
    # Those that run on the host have no weights and no gradients: see tests/preprocessing.
    layers = {layer for layer in layers if not issubclass(layer, HostLayer)}
    missing = layers - {type(case.layer) for case in CATALOGUE} - BASES
    assert not missing, f"tests/helpers/catalogue.py has no row for {sorted(map(str, missing))}"


REFUSING = [case for case in CATALOGUE if case.layer.masking == "refuse"]


@pytest.mark.parametrize("case", REFUSING, ids=[case.id for case in REFUSING])
def test_a_mask_that_would_be_lost_is_refused(case):
    masked = jax.tree.map(all_real, case.x, is_leaf=is_masked)
    with pytest.raises(ValueError, match=r"expected inputs without a mask.*Unmask\(\) to drop it"):
        case.run(*case.weights, masked)


def all_real(x):
    return Masked(x, jnp.asarray(np.ones(x.shape[:2], bool)))
