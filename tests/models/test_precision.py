"""Precision of whole models: what a training step computes in, loss scaling, float64."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn import layers as L
from fnn.optimizers import SGD, LossScaleOptimizer
from tests.helpers.oracle import keras_rules
from tests.helpers.policies import operands, policy

RNG = np.random.default_rng(0)
X = RNG.normal(size=(16, 6, 6, 2)).astype("float32")
Y = RNG.integers(0, 3, 16)


def network(layers=L, model=fnn.Model, start=fnn.Input):
    """Convolution, both norms, attention, recurrence, penalties, softmax."""
    x = start((6, 6, 2))
    h = layers.Conv2D(4, 3, activation="relu", activity_regularizer="l2")(x)
    h = layers.BatchNormalization()(h)
    h = layers.Reshape((16, 4))(h)
    h = layers.LayerNormalization()(h)
    h = layers.MultiHeadAttention(2, 4)(h, h)
    h = layers.LSTM(6)(h)
    h = layers.Dense(5, "tanh", kernel_regularizer="l2")(h)
    return model(x, layers.Dense(3, "softmax")(h))


def dtypes(values):
    return {str(a.dtype) for a in jax.tree.leaves(values) if jnp.issubdtype(a.dtype, jnp.floating)}


def step_of(model):
    """The program of a training step, and what the state is after it."""
    step = model._program.train_step(model._program.objective)
    batch = {"x": X, "y": (Y,), "weight": ()}, np.ones(len(X), bool)
    made = jax.make_jaxpr(step, return_shape=True)
    program, (after, _) = made(model.train_state, batch, jax.random.key(0))
    return program.jaxpr, after


@pytest.mark.slow
@pytest.mark.parametrize("half", ["bfloat16", "float16"])
def test_a_training_step_multiplies_in_half_precision(half):
    with policy(f"mixed_{half}"):
        model = network()
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model._program.resolve({"x": X, "y": (Y,), "weight": ()})  # now there is an objective
    model._program.ensure_optimizer_state()
    program, after = step_of(model)
    assert operands(program, "dot_general", "conv_general_dilated") == {half}
    # softmax of attention and of the outputs; cross-entropy; norms; penalties and optimizer
    assert operands(program, "exp", "log", "rsqrt", "sqrt", "div") == {"float32"}
    assert dtypes((after.params, after.state, after.optimizer)) == {"float32"}
    called, predicted = model(X), model.predict(X, verbose=0)
    assert called.dtype == half
    assert predicted.dtype == model.predict_on_batch(X).dtype == "float32"
    assert model.predict(X[:0], verbose=0).dtype == "float32"
    np.testing.assert_array_equal(predicted, np.asarray(called, "float32"))


@pytest.mark.slow
def test_a_training_in_bfloat16_is_that_of_keras(keras):
    with policy("mixed_bfloat16", keras), keras_rules():
        theirs = network(keras.layers, keras.Model, keras.Input)
        ours = network()
        ours.set_weights(theirs.get_weights())
        for model, library in ((theirs, keras), (ours, fnn)):
            model.compile(library.optimizers.SGD(0.05), "sparse_categorical_crossentropy")
        expected = theirs.fit(X, Y, 8, 5, verbose=0, shuffle=False).history["loss"]
    received = ours.fit(X, Y, 8, 5, verbose=0, shuffle=False).history["loss"]
    np.testing.assert_allclose(received, expected, rtol=0.01)


class Inner(fnn.Model):
    def __init__(self, **options):
        super().__init__(**options)
        self.row = [L.Dense(3, "relu"), L.Dense(3)]
        self.end = L.Dense(2)

    def call(self, x):
        for layer in self.row:
            x = layer(x)
        return self.end(x)


class Pair(L.Layer):
    def __init__(self, **options):
        super().__init__(**options)
        self.row = [L.Dense(3), L.Dense(2)]

    def call(self, x):
        return self.row[1](self.row[0](x))


def graph(**options):
    x = fnn.Input((4,))
    return fnn.Model(x, L.Dense(2)(L.Dense(3)(x) * 2), **options)


MODELS = {
    "Sequential": lambda **o: fnn.Sequential([L.Dense(3, input_shape=(4,)), L.Dense(2)], **o),
    "graph": graph,
    "layer": lambda **o: fnn.Model(L.Sequential([L.Dense(3, input_shape=(4,))]), **o),
    "subclass": Inner,
    "own layer": lambda **o: fnn.Sequential([L.Dense(3, input_shape=(4,)), Pair()], **o),
}


@pytest.mark.parametrize(
    "name", ["Sequential", *(pytest.param(name, marks=pytest.mark.slow) for name in [*MODELS][1:])]
)
def test_a_model_takes_a_dtype_or_the_policy(name):
    make = MODELS[name]
    x = RNG.normal(size=(2, 4)).astype("float32")
    with policy("mixed_bfloat16"):
        made_under = make()
    for model in (make(dtype="mixed_bfloat16"), made_under):
        assert model(x).dtype == jnp.bfloat16
        program = jax.make_jaxpr(lambda x, model=model: model(x))(x).jaxpr
        assert operands(program, "dot_general") == {"bfloat16"}
        assert model.dtype_policy.name == "mixed_bfloat16"
        assert dtypes(model.params) == {"float32"}
    assert make()(x).dtype == jnp.float32


def test_ids_are_not_rounded():
    """Keras's Input is float32, and 257 is 256 in bfloat16."""
    ids = np.arange(250, 260, dtype="float32")[None]
    with policy("mixed_bfloat16"):
        inputs = fnn.Input((10,))
        model = fnn.Model(inputs, L.Embedding(300, 2)(inputs))
    table = np.asarray(model.get_weights()[0], jnp.bfloat16)
    np.testing.assert_array_equal(np.asarray(model(ids))[0], table[250:260])


# -- loss scaling --------------------------------------------------------------------------------


@pytest.mark.slow
def test_loss_scaling_has_the_numbers_of_keras(keras):
    """Scale, counter and weights after each of 12 steps, of which some overflow."""
    start = np.array([1.0, -2.0], "float32")
    steps = [[3.0, 4.0]] * 4 + [[np.inf, 1.0], [np.nan, 1.0]] + [[2.0, -1.0]] * 6
    with keras_rules():
        theirs = keras.optimizers.LossScaleOptimizer(
            keras.optimizers.SGD(0.125, 0.5), initial_scale=64.0, dynamic_growth_steps=3
        )
        theirs.build([keras.Variable(start)])
        variables, held = [v.value for v in theirs.variables], [start]
        names = [v.name for v in theirs.variables]
        fresh = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD())
    ours = LossScaleOptimizer(SGD(0.125, 0.5), 64.0, 3)
    weight, state = jnp.asarray(start), ours.init(start)
    scales = set()
    for gradient in steps:
        scale = float(state["loss_scale"])
        scaled = scale * np.asarray(gradient, "float32")
        with keras_rules():
            held, variables = theirs.stateless_apply(variables, [scaled], held)
        updates, state = ours.update(scaled, state, weight)
        weight = weight + updates
        now = dict(zip(names, variables, strict=True))
        assert state["loss_scale"] == now["dynamic_scale"]
        assert state["good_steps"] == now["step_counter"]
        np.testing.assert_allclose(weight, held[0], rtol=1e-6)
        scales.add(scale)
    assert scales >= {64.0, 128.0, 32.0}
    default = LossScaleOptimizer(SGD())
    assert (default.initial_scale, default.dynamic_growth_steps) == (
        fresh.initial_scale,
        fresh.dynamic_growth_steps,
    )


def test_compile_scales_the_loss_of_float16_as_keras_does(keras):
    for name in ("mixed_float16", "mixed_bfloat16", "float32"):
        for scales in (True, False):
            with policy(name, keras), keras_rules():
                theirs = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
                ours = fnn.Sequential([fnn.Input((4,)), L.Dense(2)])
                for model in (theirs, ours):
                    model.compile("adam", "mse", auto_scale_loss=scales)
            scaled = isinstance(theirs.optimizer, keras.optimizers.LossScaleOptimizer)
            assert isinstance(ours.optimizer, LossScaleOptimizer) == scaled
            assert scaled == (scales and name == "mixed_float16")
    given = LossScaleOptimizer(SGD(0.1), 8.0)
    model = fnn.Sequential([L.Dense(2, input_shape=(4,))], dtype="float16")
    model.compile(given, "mse")
    assert model.optimizer == given
    model.compile("sgd", "mse")
    model.learning_rate = 0.25
    assert float(model.optimizer.learning_rate) == 0.25


@pytest.mark.slow
def test_steps_that_overflow_are_left_out():
    """The first gradients are above 65504, the largest number of float16."""
    x, y = np.ones((8, 4), "float32"), np.full((8, 1), 100, "float32")
    row = [L.Dense(1, input_shape=(4,), kernel_initializer="zeros")]
    model = fnn.Sequential(row, dtype="float16")
    model.compile(SGD(0.01), "mse")
    before = model.get_weights()
    model.fit(x, y, 8, 1, verbose=0)
    assert float(model.train_state.optimizer["loss_scale"]) == 2**14
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(new, old)
    losses = model.fit(x, y, 8, 30, verbose=0).history["loss"]
    assert float(model.train_state.optimizer["loss_scale"]) < 2**14
    assert losses[-1] < losses[0]


# -- float64 -------------------------------------------------------------------------------------

IN_FLOAT64 = """
import jax, numpy as np
from tests.models import test_precision as t
t.fnn.config.set_dtype_policy("float64")
t.X = t.X.astype("float64")
model = t.network()
model.compile("adam", "sparse_categorical_crossentropy")
loss = model.fit(t.X, t.Y, verbose=0).history["loss"][0]
now = model.train_state
assert t.dtypes((now.params, now.state, now.optimizer)) == {"float64"}, t.dtypes(now.optimizer)
program, _ = t.step_of(model)
names = "dot_general", "conv_general_dilated", "exp", "log", "rsqrt", "sqrt", "div"
assert t.operands(program, *names) == {"float64"}
y = model.predict(t.X, verbose=0)
assert y.dtype == jax.eval_shape(model, t.X).dtype == "float64"
model.compile("sgd", "sparse_categorical_crossentropy")
found, entropy = model.evaluate(t.X, t.Y, verbose=0), -np.log(y[range(len(y)), t.Y])
penalty = float(0.01 * (np.asarray(model.layers[-2].kernel) ** 2).sum())
inner = t.fnn.Model(model.inputs, model.layers[1].output)
penalty += 0.01 * float((inner.predict(t.X, verbose=0) ** 2).sum()) / len(y)
assert abs(found - entropy.mean() - penalty) < 1e-13 * found, (found, entropy.mean() + penalty)
"""


@pytest.mark.slow
def test_float64_everywhere():
    environment = {**os.environ, "JAX_ENABLE_X64": "1", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    given = [sys.executable, "-c", IN_FLOAT64]
    done = subprocess.run(given, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


# -- networks ------------------------------------------------------------------------------------

NETWORKS = {
    "mlp": ((lambda **o: fnn.networks.mlp([4, 3], **o)), np.zeros((2, 5), "float32")),
    "lstm_classifier": (
        lambda **o: fnn.networks.lstm_classifier(4, 3, **o),
        np.zeros((2, 5, 4), "float32"),
    ),
    "gpt": (lambda **o: fnn.networks.gpt(9, 8, 2, 2, 6, **o), np.zeros((2, 6), "int32")),
    "lenet": (lambda **o: fnn.networks.lenet(3, **o), np.zeros((2, 28, 28, 1), "float32")),
}


@pytest.mark.parametrize(
    "name", ["mlp", *(pytest.param(name, marks=pytest.mark.slow) for name in [*NETWORKS][1:])]
)
def test_functions_of_networks_take_a_dtype_or_the_policy(name):
    make, x = NETWORKS[name]
    with policy("mixed_bfloat16"):
        made_under, exact = make(), make(dtype="float32")
    for network, dtype in ((make(dtype="bfloat16"), "bfloat16"), (made_under, "bfloat16"),
                           (exact, "float32"), (make(), "float32")):  # fmt: skip
        weights = jax.eval_shape(network.init, jax.random.key(0), x)
        assert dtypes(weights) == {"float32"}
        program = jax.make_jaxpr(network.apply)(*weights, x).jaxpr
        assert operands(program, "dot_general", "conv_general_dilated") == {dtype}


@pytest.mark.thorough
@pytest.mark.parametrize(("workload", "steps"), [("cnn", 60), ("gpt", 6)])
def test_bfloat16_reaches_the_loss_of_float32(workload, steps):
    """The networks of the benchmarks, fewer steps and a shorter gpt.

    Some labels of the images are random: without these the loss falls to 0, and 2 % of that says
    nothing.
    """
    from benchmarks.peers.fnn import LOSSES, NETWORKS, gpt
    from benchmarks.workloads import WORKLOADS

    x, y = WORKLOADS[workload].examples(WORKLOADS[workload].batch * steps)
    if workload == "cnn":
        rng = np.random.default_rng(1)
        y = np.where(rng.random(len(y)) < 0.3, rng.integers(0, 10, len(y), "int32"), y)
    losses = []
    for name in ("float32", "mixed_bfloat16"):
        fnn.set_seed(0)
        with policy(name):
            model = gpt(1) if workload == "gpt" else NETWORKS[workload]()
        model.compile(fnn.optimizers.Adam(1e-3), LOSSES[workload])
        history = model.fit(x, y, WORKLOADS[workload].batch, 2, verbose=0).history["loss"]
        assert history[-1] < 0.97 * history[0]
        losses.append(history[-1])
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
