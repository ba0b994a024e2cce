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
from tests.helpers.catalogue import CATALOGUE, COMPILED

pytestmark = pytest.mark.slow

each_row = pytest.mark.parametrize("case", CATALOGUE, ids=[case.id for case in CATALOGUE])


LOOKING_AHEAD = "a_later_step_changes_nothing_earlier"
# Shown in the first rows of a class; of its other rows something else says as much: that inference
# needs no key and reads no values by the shapes, dtypes in test_policy.py, the independence of
# examples, and of what pads a batch, in test_independence.py.
IN_FIRST_ROWS = {
    "inference_needs_no_key",
    "calls_are_pure",
    "jit_equals_eager",
    "bfloat16",
    "vmap_over_weights",
    "an_example_alone_is_as_in_the_batch",
    "padded_rows_change_nothing",
}
# Of other rows that Keras has too, assert_equals_keras says it, but for what is drawn in training.
AS_IN_KERAS = {"shapes_by_eval_shape_are_those_of_running", "batch_order_changes_nothing"}
GRADIENTS = "gradients_are_finite"
DRAWING = re.compile("Random|MixUp|CutMix|[dD]ropout|Noise")

# Both choose by one mechanism among ten layers that have rows of their own, in large programs:
# test_policy.py has their dtypes, and the gradients of `AugMix` are those of the mechanism.
CHOOSING = {
    fnn.layers.AugMix: {"bfloat16", "jit_equals_eager"},
    fnn.layers.RandAugment: {"bfloat16", "jit_equals_eager", GRADIENTS},
}


def marks(name, case):
    if case in COMPILED:
        return pytest.mark.thorough if name in CHOOSING.get(type(case.layer), ()) else ()
    compared = name in AS_IN_KERAS or (name == GRADIENTS and not DRAWING.search(case.id))
    said = name in IN_FIRST_ROWS or (case.keras is not None and compared)
    return pytest.mark.thorough if said else ()


PAIRS = [  # row by row, so that what is compiled for a row serves all its properties
    pytest.param(name, case, id=f"{name}-{case.id}", marks=marks(name, case))
    for case in CATALOGUE
    for name in PROPERTIES
    if name not in case.without and (case.causal or name != LOOKING_AHEAD)
]


@pytest.mark.parametrize(("name", "case"), PAIRS)
def test_property(name, case):
    check(name, case)


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
