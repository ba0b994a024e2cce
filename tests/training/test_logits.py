"""A network that ends in softmax or sigmoid is trained through its logits, wherever it ends."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn import losses
from fnn.core.calling import call, initialize
from fnn.core.combining import Flow
from fnn.core.context import INFERENCE, Context, Masked
from fnn.last_activation import outputs_by_path, without_last_activation
from fnn.layers import (
    Activation,
    ActivityRegularization,
    BatchNormalization,
    Concatenate,
    Conv1D,
    Conv1DTranspose,
    Dense,
    DepthwiseConv1D,
    Dropout,
    EinsumDense,
    Ensemble,
    Flatten,
    Frozen,
    Identity,
    Input,
    Lambda,
    Masking,
    Parallel,
    Remat,
    Reshape,
    SeparableConv1D,
    Sequential,
    Softmax,
    TimeDistributed,
)
from fnn.symbolic.graph import connect
from fnn.training.objective import Objective, OutputGoal
from fnn.training.step import Forward

# At such logits probabilities are 0 or 1 in float32, and every slope through them is 0.
Z = np.array([[60.0, 0.0, -60.0], [0.0, 60.0, 1.0], [-60.0, 1.0, 60.0]], "float32")
WRONG = np.array([2, 0, 0])
ONE_HOT = np.eye(3, dtype="float32")[WRONG]
SPARSE = losses.SparseCategoricalCrossentropy()
BINARY = losses.BinaryCrossentropy()
REST = Context(train=True, key=jax.random.key(0))


def loss_of(layer, goals, targets):
    """The function of logits that training differentiates, the layer having no weights."""
    goals = tuple(OutputGoal(f"y{i}", loss) for i, loss in enumerate(goals))
    objective = Objective(goals)

    def run(z):
        params, state = initialize(layer, jax.random.key(0), z)
        batch = {"x": z, "y": targets, "weight": None}
        outputs, bare, _, batch = Forward(layer, objective)(params, state, batch, REST)
        rows = jnp.ones(len(z), bool)
        return objective.evaluate(outputs, bare, batch, rows, jnp.zeros(()))[0]

    return run


def cut(layer, x, ctx=REST):
    """(logits, a list of the outputs made of them, state) of a layer, and (outputs, state)."""
    params, state = initialize(layer, jax.random.key(0), x)
    bare, ends = without_last_activation(layer, x)
    names = lambda tree: jax.tree.map(jnp.shape, tree)
    assert names(initialize(bare, jax.random.key(0), x)) == names((params, state))
    logits, after = call(bare, params, state, x, ctx)
    outputs = [ends[path].of(z) if path in ends else z for path, z in outputs_by_path(logits)]
    return (logits, outputs, after), call(layer, params, state, x, ctx)


def slopes(*functions, z=Z):
    """The value and the gradient of each function, in one program."""
    return jax.jit(lambda z: [jax.value_and_grad(function)(z) for function in functions])(z)


def same(layer, loss, y_true, by_hand, z=Z):
    """Value and gradient are those of the form by hand."""
    found, expected = slopes(loss_of(layer, [loss], [y_true]), by_hand, z=z)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-4, atol=1e-6)
    assert np.abs(found[1]).max() > 1e-3


def sparse(z):
    return losses.SparseCategoricalCrossentropy(from_logits=True)(WRONG, z)


def binary(z):
    return losses.BinaryCrossentropy(from_logits=True)(ONE_HOT, z)


ENDS = {
    "by name": Activation("softmax"),
    "function of jax": Activation(jax.nn.softmax),
    "function of jax with its axis": Activation(functools.partial(jax.nn.softmax, axis=-1)),
    "function of fnn": Activation(fnn.activations.softmax),
    "Softmax": Softmax(),
    "Softmax of the last axis": Softmax(1),
    "Softmax of one axis": Softmax((-1,)),
    "Lambda": Lambda(jax.nn.softmax),
    "Lambda with arguments": Lambda(fnn.activations.softmax, arguments={"axis": -1}),
    "penalized": Sequential([Activation("softmax"), ActivityRegularization(l2=0.0)]),
    "Reshape": Sequential([Softmax(), Reshape((1, 3)), Reshape((3,))]),
    "Flatten": Sequential([Softmax(), Flatten()]),
    "Identity": Sequential([Softmax(), Identity(), Activation("linear"), Activation(None)]),
    "Frozen": Frozen(Softmax()),
    "Remat": Remat(Sequential([Identity(), Softmax()])),
    "nested": Sequential([Sequential([Sequential([Softmax()])])]),
    "Parallel": Parallel([Softmax()]),
}


@pytest.mark.slow
@pytest.mark.parametrize("end", ENDS)
def test_a_softmax_is_seen_through(end):
    same(ENDS[end], SPARSE, WRONG, sparse)


@pytest.mark.slow
@pytest.mark.parametrize(
    "activation",
    ["sigmoid", jax.nn.sigmoid, fnn.activations.sigmoid, jax.scipy.special.expit],
)
def test_a_sigmoid_is_seen_through(activation):
    same(Activation(activation), BINARY, ONE_HOT, binary)
    same(Sequential([Activation(activation), Reshape((3, 1)), Flatten()]), BINARY, ONE_HOT, binary)


def test_a_layer_with_a_penalty_on_its_outputs_is_seen_through():
    layer = Dense(3, "softmax", kernel_initializer="Identity", activity_regularizer="l2")
    z = jnp.asarray(Z)
    (logits, y, after), (plain, expected) = cut(layer, z)
    np.testing.assert_allclose(logits, z)
    np.testing.assert_array_equal(y[0], plain)
    np.testing.assert_array_equal(after["aux_loss"], expected["aux_loss"])
    assert after["aux_loss"] > 0.001


def exact(function):
    """A loss of log p and log(1 - p), in float64 by NumPy, with its slope by differences."""

    def value(z):
        with np.errstate(over="ignore"):
            return float(np.mean(function(z.astype("float64"))))

    def slope(z):
        steps = np.eye(z.size).reshape(z.size, *z.shape) * 1e-4
        slopes = [(value(z + step) - value(z - step)) / 2e-4 for step in steps]
        return np.reshape(slopes, z.shape)

    return value, slope


def log_softmax(z):
    return z - np.logaddexp.reduce(z, -1, keepdims=True)


def log_sigmoid(z):
    return -np.logaddexp(0, -z)


def others(z):
    """log(1 - softmax(z)): the logarithm of what the other classes have together."""
    rest = [np.logaddexp.reduce(np.delete(z, i, -1), -1) for i in range(z.shape[-1])]
    return np.stack(rest, -1) - np.logaddexp.reduce(z, -1, keepdims=True)


def picked(log_p):
    return np.take_along_axis(log_p, WRONG[:, None], -1)[:, 0]


SHARES = np.array([[0.1, 0.2, 0.7], [0.5, 0.5, 0.0], [1.0, 0.0, 0.0]], "float32")
T = np.clip(SHARES, 1e-7, 1).astype("float64")
BY_HAND = {
    ("BinaryCrossentropy", "softmax"): (
        ONE_HOT,
        lambda z: -(ONE_HOT * log_softmax(z) + (1 - ONE_HOT) * others(z)).mean(-1),
    ),
    ("KLDivergence", "softmax"): (SHARES, lambda z: (T * (np.log(T) - log_softmax(z))).sum(-1)),
    ("KLDivergence", "sigmoid"): (SHARES, lambda z: (T * (np.log(T) - log_sigmoid(z))).sum(-1)),
    ("CategoricalCrossentropy", "softmax"): (ONE_HOT, lambda z: -picked(log_softmax(z))),
    ("CategoricalCrossentropy", "sigmoid"): (
        ONE_HOT,
        lambda z: -picked(log_softmax(log_sigmoid(z))),
    ),
    ("SparseCategoricalCrossentropy", "sigmoid"): (
        WRONG,
        lambda z: -picked(log_softmax(log_sigmoid(z))),
    ),
    ("CategoricalGeneralizedCrossEntropy", "softmax"): (
        WRONG,
        lambda z: -2 * np.expm1(picked(log_softmax(z)) / 2),
    ),
    ("CategoricalFocalCrossentropy", "softmax"): (
        ONE_HOT,
        lambda z: -0.25 * picked(np.exp(2 * others(z)) * log_softmax(z)),
    ),
    ("BinaryFocalCrossentropy", "softmax"): (
        ONE_HOT,
        lambda z: (
            -(
                ONE_HOT * np.exp(2 * others(z)) * log_softmax(z)
                + (1 - ONE_HOT) * np.exp(2 * log_softmax(z)) * others(z)
            ).mean(-1)
        ),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "activation"), BY_HAND)
def test_every_probability_loss_has_a_logits_form_of_either_activation(name, activation):
    y_true, by_hand = BY_HAND[name, activation]
    loss, (value, slope) = getattr(losses, name)(), exact(by_hand)
    # the generalized loss is flat, by what it is, where a class has no chance at all
    run = jax.jit(jax.value_and_grad(loss_of(Activation(activation), [loss], [y_true])))
    for z in (Z, Z / 10) if "Generalized" not in name else (Z / 10, Z / 30):
        found = run(z)
        np.testing.assert_allclose(found[0], value(z), rtol=2e-5)
        np.testing.assert_allclose(found[1], slope(z), rtol=1e-3, atol=2e-6)
        assert np.abs(found[1]).max() > 1e-3


# -- several outputs -----------------------------------------------------------------------------


def heads(kind):
    """A graph with two heads over logits; the second one counts from the right class."""
    z = Input((3,))
    soft = Activation("softmax")
    if kind == "nested":
        inner = connect(z, (soft(z), Activation("softmax")(Identity()(z))))
        return connect(z, tuple(inner(z)))
    if kind == "nested by key":
        inner = connect(z, {"a": Activation("softmax")(z), "b": soft(Identity()(z))})
        return inner
    if kind == "shared":
        return connect(z, (soft(z), soft(Identity()(z))))
    if kind == "twice":
        y = soft(z)
        return connect(z, (y, y))
    y = soft(z)  # feeds another head
    return connect(z, (y, Softmax()(Lambda(lambda p: 60 * p)(y))))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["nested", "nested by key", "shared", "twice", "feeds another"])
def test_every_head_is_seen_through(kind):
    from_logits = losses.SparseCategoricalCrossentropy(from_logits=True)
    second = lambda z: 60 * jax.nn.softmax(z) if kind == "feeds another" else z
    by_hand = lambda z: sparse(z) + from_logits(WRONG[::-1], second(z))
    loss = loss_of(heads(kind), [SPARSE, SPARSE], [WRONG, WRONG[::-1]])
    found, expected = slopes(loss, by_hand)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-4, atol=1e-6)


def test_one_head_of_logits_and_one_of_numbers():
    z = Input((3,))
    graph = connect(z, (Activation("softmax")(z), Lambda(lambda z: 2 * z)(z)))
    goals = [SPARSE, losses.MeanSquaredError()]
    by_hand = lambda z: sparse(z) + jnp.mean((2 * z - Z) ** 2)
    found, expected = slopes(loss_of(graph, goals, [WRONG, Z]), by_hand)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_a_nested_model_of_two_heads_is_trained_through_both():
    start = fnn.Input((3,))
    dense = lambda name: Dense(3, "softmax", use_bias=False, name=name)
    inner = fnn.Model(start, [dense("a")(start), dense("b")(start)])
    outer = fnn.Input((3,))
    model = fnn.Model(outer, inner(outer))
    model.compile(fnn.optimizers.SGD(1.0), ["sparse_categorical_crossentropy"] * 2)
    x = np.eye(3, dtype="float32")
    model.fit(x, [WRONG, WRONG], epochs=0, verbose=0)
    model.params = jax.tree.map(lambda _: jnp.asarray(Z), model.params)
    history = model.fit(x, [WRONG, WRONG], batch_size=3, verbose=0).history
    value, gradient = jax.value_and_grad(sparse)(Z)
    np.testing.assert_allclose(history["loss"], 2 * value, rtol=1e-5)
    for kernel in jax.tree.leaves(model.params):
        np.testing.assert_allclose(Z - kernel, gradient, rtol=1e-4, atol=1e-5)


def networks():
    """Networks by what is special about their ends, each with the names that are cut off."""
    x = Input((3,))
    soft = lambda name, **more: Dense(3, "softmax", name=name, **more)
    h, p = Dense(3, "relu", name="h")(x), soft("p")(x)
    yield "inner activations stay", [Dense(4, "sigmoid"), Dense(3, "softmax"), Dense(3)], []
    yield "a penalty after", [soft("p"), ActivityRegularization(0.5, 0.5), Reshape((1, 3))], [0]
    yield "two penalties", [soft("p", activity_regularizer="l2"), ActivityRegularization(0.5)], [0]
    yield "a penalty inside what moves", [soft("p"), Frozen(ActivityRegularization(0.5))], []
    yield "moved inside", [soft("p"), Sequential([Flatten(), Remat(Reshape((1, 3)))])], [0]
    apart = Sequential([Flatten("channels_first"), Reshape((2, 3))])  # it mixes the classes
    yield "mixed inside", [Dense(6), Reshape((2, 3)), soft("p"), apart], []
    yield "a penalty in a network", [soft("p"), Sequential([ActivityRegularization(0.5)])], []
    yield "several moved at once", [connect(x, (h, p)), Identity()], []
    yield "over time", [Reshape((1, 3)), TimeDistributed(Softmax(1))], [0]
    yield "frozen as a whole", Sequential([BatchNormalization(), soft("p")], trainable=False), [0]
    yield "in half precision", Sequential([Dense(3), soft("p")], dtype="bfloat16"), [0]
    exact = Dense(3, "softmax", name="exact", dtype="float32", activity_regularizer="l2")(x)
    mixed = connect(x, (exact, Dense(2, name="q")(exact))).replace(dtype="bfloat16")
    yield "in half precision, and feeds", mixed, [0]
    yield "widened", [soft("p", dtype="bfloat16"), Activation("linear", dtype="float32")], [0]
    yield "narrowed", [soft("p"), Identity(dtype="bfloat16"), Identity(dtype="float32")], []
    yield "a layer of a class that is made in another way", [Made("softmax")], []
    yield "a layer that does more", [Halved(3, "softmax")], []
    yield "feeds a head itself", connect(x, (p, soft("q", activity_regularizer="l2")(p))), [0, 1]
    yield "moved, and feeds", connect(x, (Flatten()(p), Dense(2, name="q")(p), p)), [0, 2]
    yield "moved in vain", connect(x, (p, Reshape((3, 1))(p))), [0]
    yield "feeds, and is no output", connect(x, (Dense(2, name="q")(p), h)), []
    inner = connect(x, (h, soft("a")(h), {"b": Dense(1, "sigmoid", name="b")(p)}))
    first, second, rest = inner(x)
    joined = Concatenate()([second, rest["b"]])
    yield "of a nested one", connect(x, {"y": second, "z": soft("z")(joined)}), [0, 1]
    yield "of a nested one, unused", connect(x, (first, soft("z")(joined))), [1]
    shared = soft("shared", activity_regularizer="l2")
    yield "one layer, twice", connect(x, shared(shared(x))), [0]
    yield "frozen", [Frozen(soft("p", activity_regularizer="l2"), name="f")], [0]
    yield "several", Parallel([Softmax(), Dense(3), Dense(2, "sigmoid"), soft("q")]), [0, 2, 3]
    conv = [Reshape((3, 1)), Conv1D(2, 1), SeparableConv1D(2, 1), Conv1DTranspose(2, 1)]
    for layer in (*conv[1:], DepthwiseConv1D(1), EinsumDense("abc,cd->abd", (None, 2))):
        yield type(layer).__name__, [Reshape((3, 1)), layer.replace(activation="sigmoid")], [0]


class Choosy(Flow):
    """It looks into its inputs, so that it cannot be followed; or calls what suits them."""

    looks: bool = True

    def flow(self, x, visit):
        x = x + 1 if self.looks else x
        extra = visit("a", Dense(3, "softmax"), x) if isinstance(x, Masked) else x
        return visit("b", Dense(3, "softmax"), visit("c", Dense(2), extra))


@pytest.mark.slow
def test_a_flow_that_cannot_be_followed_is_left_as_it_is():
    x = jnp.asarray(Z)
    assert without_last_activation(Choosy(), x) == (Choosy(), {})
    steps = Masked(jnp.stack([x, x], 1), jnp.ones((3, 2), bool))
    params, state = initialize(Choosy(False), jax.random.key(0), steps)
    bare, _ = without_last_activation(Choosy(False), steps)
    with pytest.raises(TypeError, match="flow of Choosy must visit the same layers for all inp"):
        call(bare, params, state, steps, REST)


class Made(Dense):
    def __init__(self, activation):
        super().__init__(3, activation)


class Halved(Dense):
    def apply(self, params, state, x, ctx=INFERENCE):
        y, state = super().apply(params, state, x, ctx)
        return y / 2, state


NETWORKS = {name: (network, places) for name, network, places in networks()}


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_without_its_last_activation_has_its_weights_outputs_and_penalties(name):
    network, places = NETWORKS[name]
    layer = Sequential(network) if isinstance(network, list) else network
    (logits, y, after), (plain, state) = cut(layer, jnp.asarray(Z / 20))
    plain = jax.tree.leaves(plain)
    jax.tree.map(np.testing.assert_array_equal, y, plain)
    jax.tree.map(np.testing.assert_array_equal, after, state)
    pairs = zip(jax.tree.leaves(logits), plain, strict=True)
    assert [i for i, (z, p) in enumerate(pairs) if np.any(z != p)] == places


# -- wrappers ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_members_of_an_ensemble_and_steps_of_a_sequence_are_seen_through():
    z = jnp.asarray(Z)
    layer = Ensemble(Sequential([Identity(), Softmax()]), 2)
    (logits, y, _), (plain, _) = cut(layer, z)
    np.testing.assert_allclose(logits, jnp.stack([z, z], 1))
    np.testing.assert_array_equal(y[0], plain)
    steps = jnp.stack([z, 2 * z], 1)
    layer = Sequential([Masking(-60.0), TimeDistributed(Sequential([Softmax()]))])
    (logits, y, _), (plain, _) = cut(layer, steps)
    np.testing.assert_allclose(logits.values, steps)
    np.testing.assert_array_equal(logits.mask, plain.mask)
    np.testing.assert_array_equal(y[0].mask, plain.mask)
    np.testing.assert_array_equal(y[0].values, plain.values)


# -- where it is not -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "layer",
    [
        Sequential([Softmax(), Dropout(0.5)]),
        Sequential([Softmax(), Lambda(lambda p: p / 2)]),
        Sequential([Softmax(), Reshape((1, 3)), Reshape((3, 1))]),
        Sequential([Softmax(), Activation("relu")]),
        Softmax(0),
        Softmax((0, 1)),
        Lambda(lambda z: jax.nn.softmax(z)),
        Activation(functools.partial(jax.nn.softmax, where=True)),
        Activation("relu"),
    ],
)
def test_elsewhere_the_outputs_are_all_there_is(layer):
    z = jnp.asarray(Z)
    bare, ends = without_last_activation(layer, z)
    assert bare is layer
    assert all(end.name is None for end in ends.values())


def test_a_mask_of_classes_stays_in_the_softmax():
    z, mask = jnp.asarray(Z), jnp.array([[True, True, False]] * 3)
    for x in ((z, mask), Masked(z, mask)):
        assert without_last_activation(Softmax(), x) == (Softmax(), {})
        y, _ = call(Softmax(), {}, {}, x, Context())
        y = y.values if isinstance(y, Masked) else y
        np.testing.assert_array_equal(y[:, 2], 0)
    _, ends = without_last_activation(Softmax(), z[:, :1])
    assert ends[()].name_for((3, 1)) is None  # one class: no odds
    assert ends[()].name_for((3, 2)) == "softmax"


def test_what_is_seen_through_does_not_change_the_outputs():
    z = jnp.asarray(Z / 20)
    net = Sequential([Dense(4, "sigmoid"), Dense(3, "relu"), Dense(3), Softmax()])
    (_, y, _), (plain, _) = cut(net, z)
    np.testing.assert_array_equal(y[0], plain)
