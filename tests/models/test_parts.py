"""A model is a network, its weights and a program: each alone, and how they stand together."""

import gc
import inspect
import traceback
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn.layers import LSTM, BatchNormalization, Dense
from fnn.models.network import Network
from fnn.models.program import Program
from fnn.models.weights import Weights
from fnn.models.wiring import nodes_of_shape
from tests.helpers.compiling import run_as_users_do

X = np.linspace(-1, 1, 24, dtype="float32").reshape(6, 4)
ROW = fnn.layers.Sequential((Dense(3), BatchNormalization(), Dense(2, name="last")))


def network(layer=ROW, shape=(None, 4)):
    return Network(layer, nodes_of_shape(shape), "row")


# -- the parts alone -----------------------------------------------------------------------------


def test_a_network_tells_shapes_names_and_nodes_without_weights():
    net = network()
    before = len(jax.live_arrays())
    assert net.input_shape == (None, 4)
    assert net.output_shape == (None, 2)
    assert net.output_names == ["output"]
    assert net.output_spec(X).shape == (6, 2)
    assert net.get_layer("last") is net.layers[-1]
    assert net.wiring.outputs.shape == (None, 2)
    assert not net.is_stateful
    assert network(LSTM(2, stateful=True), (5, 3, 4)).is_stateful
    assert net.weight_specs[0]["dense"]["kernel"].shape == (4, 3)
    assert len(jax.live_arrays()) == before


def test_a_network_whose_layer_changes_is_another_one():
    net = network()
    other = net.with_layer(Dense(7))
    assert (net.output_shape, other.output_shape) == ((None, 2), (None, 7))
    assert net.with_inputs(nodes_of_shape((None, 9))).weight_specs[0]["dense"]["kernel"].shape == (
        9,
        3,
    )


@pytest.mark.slow
def test_weights_are_made_read_and_replaced_without_a_model():
    weights = Weights(network(), seed=0)
    assert not weights.built
    weights.build()
    assert [entry.path[0] for entry in weights.entries()][:2] == ["dense", "dense"]
    arrays = [np.full_like(a, 0.5) for a in weights.get()]
    weights.set(arrays)
    assert all(np.all(a == 0.5) for a in weights.get())
    params, state = weights.ordered
    y, _ = ROW.apply(params, state, X)
    assert y.shape == (6, 2)
    params["dense"]["bias"] = np.zeros(3)
    assert not np.any(weights.now.params["dense"]["bias"])


def test_a_program_makes_steps_for_weights_without_a_model():
    weights = Weights(network(), seed=0)
    weights.build()
    program = Program(weights)
    with pytest.raises(RuntimeError, match="fit needs a compiled model, but 'row' is not"):
        program.require("fit")
    program.compile(
        "raise", True, "sgd", loss="mse", loss_weights=None, metrics=None, weighted_metrics=None
    )
    arrays = {"x": X, "y": (np.ones((6, 2), "float32"),), "weight": ()}
    objective = program.resolve(arrays)
    program.ensure_optimizer_state()
    step = jax.jit(program.train_step(objective))
    now, logs = step(weights.now, (arrays, jnp.ones(6, bool)), weights.now.key)
    assert int(now.step) == 1
    params, state = weights.now.params, weights.now.state
    y, _ = ROW.apply(params, state, X, fnn.Context(train=True, key=jax.random.key(0)))
    np.testing.assert_allclose(logs["loss"].result, np.mean((np.asarray(y) - 1) ** 2), rtol=1e-6)
    program.learning_rate = 0.25
    assert float(program.learning_rate) == 0.25
    weights.now = now.replace(optimizer=weights.now.optimizer)
    assert float(program.learning_rate) == 0.25


def test_weights_outlive_a_model_only_where_a_layer_of_it_is_used():
    model = fnn.Sequential([Dense(3, input_shape=(4,))], seed=0)
    weights, layer = weakref.ref(model._weights), model.as_layer()
    del model
    gc.collect()
    assert weights() is not None
    del layer
    gc.collect()
    assert weights() is None


# -- how they stand together ---------------------------------------------------------------------


def test_a_model_inherits_through_two_classes_at_most():
    def depth(cls):
        bases = [base for base in cls.__bases__ if base.__module__.startswith("fnn")]
        return max((depth(base) + 1 for base in bases), default=0)

    assert depth(fnn.Model) == 1
    assert depth(fnn.Sequential) == 2


BASES = (
    fnn.Layer,
    fnn.losses.Loss,
    fnn.metrics.Metric,
    fnn.optimizers.Optimizer,
    fnn.initializers.Initializer,
    fnn.callbacks.Callback,
)


@pytest.mark.parametrize("base", BASES, ids=lambda base: base.__name__)
def test_few_classes_stand_between_a_class_and_the_base_of_its_kind(base):
    most = 3 if base is fnn.Layer else 2  # ConvLSTM1D: _ConvLSTM, LSTMStep, GatedStep

    def between(cls):
        bases = [parent for parent in cls.__bases__ if issubclass(parent, base)]
        return max((between(parent) + 1 for parent in bases if parent is not base), default=0)

    parts = (fnn.layers, fnn.losses, fnn.metrics, fnn.optimizers, fnn.initializers, fnn.callbacks)
    public = {
        value
        for module in parts
        for name, value in vars(module).items()
        if name[0] != "_" and inspect.isclass(value) and issubclass(value, base)
    }
    assert public
    deep = {cls.__name__: between(cls) for cls in public if cls is not base and between(cls) > most}
    assert not deep


FUNCTIONS_OF_A_FIT, FRAMES_TO_THE_FIRST_TRACE, FRAMES_OF_APPLY = 342, 12, 4

COUNTED = """
import sys
from collections import Counter
import numpy as np
import fnn
from fnn.layers import Dense

model = fnn.Sequential([Dense(41, "relu", input_shape=(4,)), Dense(1)], seed=0)
model.compile("adam", "mse", metrics=["mae"])
x, y = np.ones((256, 4), "float32"), np.ones((256, 1), "float32")
model.fit(x, y, batch_size=32, verbose=0)
calls = []

def count(frame, event, argument):
    if event == "call" and "/fnn/" in frame.f_code.co_filename:
        calls.append(frame.f_code.co_qualname)

sys.setprofile(count)
model.fit(x, y, batch_size=32, verbose=0)
sys.setprofile(None)
assert 50 < len(calls) <= LIMIT, (len(calls), Counter(calls).most_common(20))
"""


@pytest.mark.slow
def test_a_fit_of_8_batches_calls_few_functions_of_fnn():
    # Alone in a process: what other tests left in the caches costs calls to look through.
    run_as_users_do(COUNTED.replace("LIMIT", str(FUNCTIONS_OF_A_FIT)))


@pytest.mark.slow
class Spy(fnn.Layer):
    """Notes the functions of fnn that stand between the user and its `apply`."""

    stacks = []

    def apply(self, params, state, x, ctx=fnn.INFERENCE):
        ours = [f.name for f in traceback.extract_stack() if f"{fnn.__path__[0]}/" in f.filename]
        self.stacks.append((ctx.train, ours))
        return x, state


def test_few_frames_stand_between_fit_and_the_first_trace():
    Spy.stacks.clear()
    model = fnn.Sequential([Dense(8, input_shape=(4,)), Spy(), Dense(1)], seed=0)
    model.compile("adam", "mse")
    model.fit(np.ones((64, 4), "float32"), np.ones((64, 1), "float32"), verbose=0)
    first = next(frames for train, frames in Spy.stacks if train)
    assert 0 < len(first) <= FRAMES_TO_THE_FIRST_TRACE, first


def test_few_frames_stand_between_apply_and_the_second_layer():
    net = fnn.layers.Sequential([Dense(8), Spy()])
    weights = net.init(jax.random.key(0), X)
    Spy.stacks.clear()
    jax.eval_shape(lambda x: net.apply(*weights, x), X)
    [(_, frames)] = Spy.stacks
    assert 0 < len(frames) <= FRAMES_OF_APPLY, frames


STEPS, IMAGES = np.ones((2, 5, 8), "float32"), np.ones((2, 4, 5, 3), "float32")


@pytest.mark.parametrize(
    ("layer", "x"),
    [
        (fnn.layers.TransformerEncoderBlock(8, 2, 16), STEPS),
        (fnn.layers.RNN([fnn.layers.GRUCell(3), fnn.layers.LSTMCell(2)]), STEPS),
        (fnn.layers.RandomColorJitter(brightness_factor=0.1, hue_factor=0.1), IMAGES),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_layer_makes_those_inside_once(monkeypatch, layer, x):
    weights = layer.init(jax.random.key(0), x)

    def trace():
        jax.eval_shape(lambda x: layer.apply(*weights, x, ctx), x)

    ctx = fnn.Context(train=True, key=jax.random.key(1))
    trace()
    made, names = [], "MultiHeadAttention EinsumDense Dense StackedRNNCells RandomBrightness"
    for name in names.split():
        cls = getattr(fnn.layers, name)
        monkeypatch.setattr(cls, "__init__", lambda self, *_, **__: made.append(type(self)))
    trace()
    assert not made


class OwnRNN(fnn.layers.RNN):
    def __init__(self, units):
        super().__init__(fnn.layers.GRUCell(1))
        self.cell = fnn.layers.GRUCell(units)


class OwnAttention(fnn.layers.MultiHeadAttention):
    def __init__(self, heads):
        super().__init__(heads, 4)
        self.children()
        self.key_dim = 6


def test_the_layers_inside_follow_fields_that_a_class_of_yours_assigns():
    params, _ = OwnRNN(3).init(jax.random.key(0), STEPS)
    assert {leaf.shape[-1] for leaf in jax.tree.leaves(params)} == {9}
    params, _ = OwnAttention(3).init(jax.random.key(0), STEPS)
    assert params["query"]["kernel"].shape == (8, 3, 6)
