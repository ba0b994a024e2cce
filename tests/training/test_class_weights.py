"""Class weights: what the class of a target is, against live Keras and the definition in NumPy."""

import jax.numpy as jnp
import keras
import numpy as np
import optax
import pytest

import fnn
from fnn import losses
from fnn.layers import Dense, Embedding, Ensemble, Input, Reshape
from tests.helpers.oracle import keras_rules

N, T, K = 6, 4, 3
generator = np.random.default_rng(0)
X = generator.normal(size=(N, 5)).astype("float32")
STEPS = generator.normal(size=(N, T, 5)).astype("float32")
BINARY = generator.integers(0, 2, N)
STEPWISE = generator.integers(0, 2, (N, T))
LABELS = np.arange(N) % K
STEP_LABELS = generator.integers(0, K, (N, T))
ONE_HOT = np.eye(K, dtype="float32")
TWO, THREE = {0: 1.0, 1: 9.0}, {0: 2.0, 2: 7.0}


def network(last, loss, x, **compiled):
    last = [layer.replace() for layer in last]  # of which each network has its own weights
    net = fnn.Sequential([Dense(4, "tanh", input_shape=x.shape[1:]), *last], seed=1)
    net.compile(fnn.optimizers.SGD(0.1), loss, **compiled)
    return net


def weighted(classes, table):
    """A weight for each class, 1 where the table has none."""
    return np.vectorize(lambda one: table.get(one, 1.0))(classes)


def binary(t, p):
    return -t * np.log(p) - (1 - t) * np.log(1 - p)


def of_class(labels, p):
    return -np.log(np.take_along_axis(p, labels[..., None], -1)[..., 0])


def squares(t, p):
    return ((t - p) ** 2).mean(-1)


ONE, MANY = [Dense(1, "sigmoid")], [Dense(K, "softmax")]
GRID = [Dense(4, "sigmoid"), Reshape((2, 2))]
HARD = np.array([[0.9, 0.1, 0.0]] * 3 + [[0.2, 0.2, 0.6]] * 3, "float32")
# name: (layers, loss, x, y, table, value of each class entry by NumPy, classes)
CASES = {
    "(n,)": (ONE, "bce", X, BINARY, TWO, lambda p: binary(BINARY, p[:, 0]), BINARY),
    "(n, 1)": (ONE, "bce", X, BINARY[:, None], TWO, lambda p: binary(BINARY, p[:, 0]), BINARY),
    "(n, T) for (n, T, 1)": (
        ONE, "bce", STEPS, STEPWISE, TWO, lambda p: binary(STEPWISE, p[..., 0]), STEPWISE,
    ),
    "(n, T, 1)": (
        ONE, "bce", STEPS, STEPWISE[..., None], TWO,
        lambda p: binary(STEPWISE, p[..., 0]), STEPWISE,
    ),
    "logits (n, T, 1)": (
        [Dense(1)], losses.BinaryCrossentropy(from_logits=True), STEPS, STEPWISE[..., None], TWO,
        lambda z: np.logaddexp(0, z[..., 0]) - STEPWISE * z[..., 0], STEPWISE,
    ),
    "multi-label (n, K)": (
        [Dense(T, "sigmoid")], "bce", X, STEPWISE, TWO, lambda p: binary(STEPWISE, p), STEPWISE,
    ),
    "multi-label (n, H, W)": (
        GRID, "bce", X, STEPWISE.reshape(N, 2, 2), TWO,
        lambda p: binary(STEPWISE.reshape(N, 2, 2), p), STEPWISE.reshape(N, 2, 2),
    ),
    "labels (n,)": (
        MANY, "sparse_categorical_crossentropy", X, LABELS, THREE,
        lambda p: of_class(LABELS, p), LABELS,
    ),
    "labels (n, T)": (
        MANY, "sparse_categorical_crossentropy", STEPS, STEP_LABELS, THREE,
        lambda p: of_class(STEP_LABELS, p), STEP_LABELS,
    ),
    "labels (n, T, 1)": (
        MANY, "sparse_categorical_crossentropy", STEPS, STEP_LABELS[..., None], THREE,
        lambda p: of_class(STEP_LABELS, p), STEP_LABELS,
    ),
    "labels along another axis": (
        [Dense(K), fnn.layers.Permute((2, 1))],
        losses.SparseCategoricalCrossentropy(from_logits=True, axis=1), STEPS, STEP_LABELS, THREE,
        lambda z: of_class(STEP_LABELS, softmax(np.swapaxes(z, 1, 2))), STEP_LABELS,
    ),
    "one-hot (n, K)": (
        MANY, "categorical_crossentropy", X, ONE_HOT[LABELS], THREE,
        lambda p: of_class(LABELS, p), LABELS,
    ),
    "one-hot (n, T, K)": (
        MANY, "categorical_crossentropy", STEPS, ONE_HOT[STEP_LABELS], THREE,
        lambda p: of_class(STEP_LABELS, p), STEP_LABELS,
    ),
    "probabilities": (
        MANY, "categorical_crossentropy", X, HARD, THREE,
        lambda p: -(HARD * np.log(p)).sum(-1), HARD.argmax(-1),
    ),
    "one-hot with mse of a softmax": (
        MANY, "mse", X, ONE_HOT[LABELS], THREE, lambda p: squares(ONE_HOT[LABELS], p), LABELS,
    ),
    "hinge": (
        [Dense(1, "tanh")], "hinge", X, 2 * BINARY - 1, {-1: 4.0, 1: 2.0},
        lambda p: np.maximum(1 - (2 * BINARY - 1) * p[:, 0], 0), 2 * BINARY - 1,
    ),
    "classes as numbers": (
        [Dense(1)], "mse", X, LABELS, THREE, lambda p: (LABELS - p[:, 0]) ** 2, LABELS,
    ),
    "soft labels of two classes": (
        ONE, "bce", X, np.where(BINARY, 0.9, 0.2), TWO,
        lambda p: binary(np.where(BINARY, 0.9, 0.2), p[:, 0]), BINARY,
    ),
    "a function of one's own": (
        [Dense(1)], lambda t, p: abs(t - p), X, BINARY, TWO, lambda p: abs(BINARY - p[:, 0]),
        BINARY,
    ),
    "a function of labels": (
        MANY, lambda t, p: losses.sparse_categorical_crossentropy(t, p), X, LABELS[:, None], THREE,
        lambda p: of_class(LABELS, p), LABELS,
    ),
    "labels of optax": (
        [Dense(K)], optax.losses.softmax_cross_entropy_with_integer_labels, X, LABELS, THREE,
        lambda z: of_class(LABELS, softmax(z)), LABELS,
    ),
    "labels of embeddings": (
        [Dense(2)], lambda t, p: jnp.square(p).sum(-1), X, LABELS, THREE,
        lambda p: (p**2).sum(-1), LABELS,
    ),
    "an ensemble": (
        [Ensemble(Dense(1, "sigmoid"), 2)], "bce", X, BINARY, TWO,
        lambda p: binary(BINARY[:, None], p[..., 0]).mean(1), BINARY,
    ),
}  # fmt: skip


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


FUNCTIONS = {
    "tanh": np.tanh,
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "softmax": softmax,
    None: lambda z: z,
}


def by_numpy(layers, weights, x):
    """The outputs of the layers in a row that are used here."""
    weights = iter(weights)
    for layer in layers:
        if isinstance(layer, Reshape):
            x = x.reshape(len(x), *layer.target_shape)
        elif isinstance(layer, fnn.layers.Permute):
            x = np.swapaxes(x, 1, 2)
        elif isinstance(layer, Ensemble):
            kernel, bias = next(weights), next(weights)
            function = FUNCTIONS[layer.inner.activation]
            x = function(np.einsum("nk,eku->neu", x, kernel) + bias)
        else:
            x = FUNCTIONS[layer.activation](x @ next(weights) + next(weights))
    return x


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_each_target_weighs_what_its_class_does(case):
    last, loss, x, y, table, values, classes = CASES[case]
    net = network(last, loss, x)
    outputs = by_numpy(net.layers, net.get_weights(), x.astype("float64"))
    expected = (weighted(classes, table) * values(outputs)).mean()
    found = net.train_on_batch(x, y, class_weight=table)
    assert found == pytest.approx(expected, rel=1e-5)


def test_half_of_the_steps_of_a_class_that_weighs_nine():
    """5 ln 2, and not ln 2: each step has its own class."""
    y = np.zeros((N, T, 1))
    y[:, ::2] = 1
    net = fnn.Sequential([Dense(1, "sigmoid", kernel_initializer="zeros", input_shape=(T, 5))])
    net.compile("sgd", "binary_crossentropy")
    for targets in (y, y[..., 0]):
        found = net.train_on_batch(STEPS, targets, class_weight={0: 1.0, 1: 9.0})
        assert found == pytest.approx(5 * np.log(2), rel=1e-5)
        net.set_weights([np.zeros_like(weight) for weight in net.get_weights()])


@pytest.mark.slow
@pytest.mark.parametrize(
    "case",
    [
        "(n,)",
        "labels (n,)",
        "one-hot (n, K)",
        # The numbers of these are compared with NumPy's above.
        *(
            pytest.param(case, marks=pytest.mark.thorough)
            for case in ("(n, 1)", "one-hot with mse of a softmax", "probabilities", "hinge")
        ),
    ],
)
def test_one_axis_of_classes_is_as_in_keras(case):
    last, loss, x, y, table, *_ = CASES[case]
    net = network(last, loss, x)
    with keras_rules():
        units, activation = last[0].units, last[0].activation
        other = keras.Sequential(
            [keras.layers.Dense(4, "tanh"), keras.layers.Dense(units, activation)]
        )
        other.build(x.shape)
        other.set_weights(net.get_weights())
        name = {"bce": "binary_crossentropy"}.get(loss, loss)
        other.compile(keras.optimizers.SGD(0.1), name)
        expected = float(other.train_on_batch(x, y, class_weight=table))
        after = other.get_weights()
    assert net.train_on_batch(x, y, class_weight=table) == pytest.approx(expected, rel=1e-5)
    for a, b in zip(net.get_weights(), after, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_masked_steps_do_not_count():
    ids = np.array([[1, 2, 0, 0], [3, 1, 2, 0]])
    y = np.array([[1, 0, 1, 1], [0, 0, 1, 1]])
    net = fnn.Sequential(
        [Embedding(4, 5, mask_zero=True, input_shape=(4,)), Dense(1, "sigmoid")], seed=0
    )
    net.compile("sgd", "binary_crossentropy")
    values = binary(y, net.predict(ids, verbose=0)[..., 0].astype("float64"))
    expected = (values * weighted(y, TWO))[ids != 0].mean()
    assert net.train_on_batch(ids, y, class_weight=TWO) == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
def test_entries_to_be_ignored_have_no_class():
    loss = losses.SparseCategoricalCrossentropy(ignore_class=-1)
    labels = np.where(np.arange(N) == 2, -1, LABELS)
    net = network(MANY, loss, X)
    values = of_class(LABELS, net.predict(X, verbose=0).astype("float64"))
    expected = (values * weighted(LABELS, THREE))[labels != -1].mean()
    assert net.train_on_batch(X, labels, class_weight=THREE) == pytest.approx(expected, rel=1e-5)


def two_outputs():
    x = Input((5,))
    heads = [Dense(1, "sigmoid", name="kind")(x), Dense(K, "softmax", name="sort")(x)]
    net = fnn.Model(x, heads, seed=0)
    net.compile("sgd", ["binary_crossentropy", "sparse_categorical_crossentropy"])
    return net


@pytest.mark.slow
@pytest.mark.parametrize(
    ("given", "kind", "sort"),
    [
        ({"kind": {0: 1.0, 1: 3.0}}, {1: 3.0}, {}),
        ({"sort": {2: 5.0}, "kind": {0: 2.0}}, {0: 2.0}, {2: 5.0}),
        ({"sort": {2: 5.0}, "kind": None}, {}, {2: 5.0}),
        ([None, {1: 4.0}], {}, {1: 4.0}),
    ],
)
def test_several_outputs_have_their_own(given, kind, sort):
    net = two_outputs()
    p, q = (a.astype("float64") for a in net.predict(X, verbose=0))
    first = (binary(BINARY, p[:, 0]) * weighted(BINARY, kind)).mean()
    second = (of_class(LABELS, q) * weighted(LABELS, sort)).mean()
    logs = net.train_on_batch(X, [BINARY, LABELS], class_weight=given, return_dict=True)
    assert logs["kind_loss"] == pytest.approx(first, rel=1e-5)
    assert logs["sort_loss"] == pytest.approx(second, rel=1e-5)
    assert logs["loss"] == pytest.approx(first + second, rel=1e-5)


def test_one_output_may_be_named():
    net, other = (network([Dense(1, "sigmoid")], "bce", X) for _ in range(2))
    found = net.train_on_batch(X, BINARY, class_weight={net.output_names[0]: TWO})
    assert found == other.train_on_batch(X, BINARY, class_weight=TWO)


def test_keys_and_weights_of_any_kind_of_number():
    expected = network(ONE, "bce", X).train_on_batch(X, BINARY, class_weight=TWO)
    for given in (
        {0.0: 1, 1.0: 9}, {np.int64(0): np.float32(1), np.float32(1): 9.0}, {False: 1, True: 9},
        {1: 9.0},
    ):  # fmt: skip
        assert network(ONE, "bce", X).train_on_batch(X, BINARY, class_weight=given) == expected


def test_a_class_of_weight_zero_is_left_out():
    net = network(ONE, "bce", X)
    values = binary(BINARY, net.predict(X, verbose=0)[:, 0].astype("float64"))
    expected = (values * (BINARY == 1)).mean()
    assert net.train_on_batch(X, BINARY, class_weight={0: 0.0}) == pytest.approx(expected, rel=1e-5)


def own(**given):
    return lambda: network(ONE, "bce", X).fit(X, BINARY, verbose=0, **given)


WRONG = {
    "names": (own(class_weight={"cat": 1.0}), ValueError, "classes in class_weight as .*'cat'"),
    "digits": (own(class_weight={"0": 1.0}), ValueError, "as integers, .*received '0'"),
    "empty": (own(class_weight={}), ValueError, "a weight for a class, received an empty dict"),
    "None": (own(class_weight={0: 1.0, 1: None}), ValueError, "weight of class 1 .* received None"),
    "half": (own(class_weight={0.5: 1.0}), ValueError, "as integers, .*received 0.5"),
    "NaN": (own(class_weight={float("nan"): 1.0}), ValueError, "as integers, .*received nan"),
    "a list": (own(class_weight=[1.0, 2.0]), TypeError, "as a dict from class to weight"),
    "negative": (own(class_weight={0: -1.0}), ValueError, "at least 0 and finite, received -1"),
    "infinite": (own(class_weight={0: np.inf}), ValueError, "at least 0 and finite, received inf"),
    "unknown": (own(class_weight={7: 1.0}), ValueError, r"classes 0\.\.1, received one for \[7\]"),
    "zeros": (own(class_weight={0: 0.0, 1: 0}), ValueError, "above 0, received only zeros"),
    "with sample_weight": (
        own(class_weight=TWO, sample_weight=np.ones(N)), ValueError, "received both; multiply them",
    ),
    "unknown output": (
        lambda: two_outputs().fit(X, [BINARY, LABELS], class_weight={"size": TWO}, verbose=0),
        ValueError, r"class_weight by the names of the outputs \['kind', 'sort'\], .*'size'",
    ),
    "one dict for two outputs": (
        lambda: two_outputs().fit(X, [BINARY, LABELS], class_weight=TWO, verbose=0),
        ValueError, r"class_weight by the names of the 2 outputs .*pass e\.g\. \{'kind': \{0: 1",
    ),
    "a number for an output": (
        lambda: two_outputs().fit(
            X, [BINARY, LABELS], class_weight={"kind": TWO, "sort": 3}, verbose=0
        ),
        TypeError, "class_weight as a dict .*received 3",
    ),
    "no targets": (
        lambda: network(ONE, None, X).fit(X, None, class_weight=TWO, verbose=0),
        ValueError, "expected targets and a loss for the output",
    ),
    "several entries without a softmax": (
        lambda: network([Dense(T)], "mse", X).fit(X, STEPWISE, class_weight=TWO, verbose=0),
        ValueError, r"determines the class of targets \(6, 4\).*pass sample_weight instead",
    ),
    "no classes": (
        lambda: network([Dense(1)], "mse", X).fit(X, BINARY + 0.5, class_weight=TWO, verbose=0),
        ValueError, r"targets that are classes \(integers\).*received .\.5; pass sample_weight",
    ),
    "one number for the batch": (
        lambda: network([Dense(1, "sigmoid")], "dice", X).fit(
            X, BINARY, class_weight=TWO, verbose=0
        ),
        ValueError, r"a loss with a value for each example .*received Dice\(\).*inside the loss",
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_is_refused(case):
    call, error, message = WRONG[case]
    with pytest.raises(error, match=message):
        call()
