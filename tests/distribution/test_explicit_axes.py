"""Layers on a mesh whose axes are explicit: batches and weights on several devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import fnn
from fnn import layers as L
from fnn.core.calling import call, initialize, weight_spec
from fnn.core.context import Context, strip_masks
from fnn.runtime.placement import without
from fnn.training.objective import Objective, OutputGoal
from fnn.training.state import TrainState
from fnn.training.step import init_optimizer, make_train_step
from tests.helpers.catalogue import CATALOGUE, COMPILED, KEY

pytestmark = pytest.mark.slow

DATA, MODEL = 4, 2
BATCH = 8
each_row = pytest.mark.parametrize("case", CATALOGUE, ids=[case.id for case in CATALOGUE])


def mesh(kind=AxisType.Explicit):
    return jax.make_mesh((DATA, MODEL), ("data", "model"), axis_types=(kind, kind))


def on(*spec, kind=AxisType.Explicit):
    return NamedSharding(mesh(kind), PartitionSpec(*spec))


def batch_of(a):
    """As many examples as the devices divide: other random numbers, or the same integers again."""
    a = np.asarray(a)
    if a.dtype.kind == "f":
        return np.random.default_rng(a.size).normal(size=(BATCH, *a.shape[1:])).astype(a.dtype)
    return np.resize(a, (BATCH, *a.shape[1:]))


class Problem:
    """A row of the catalogue as a function of (params, float inputs, state, other inputs, key)."""

    def __init__(self, layer, x, state=None):
        self.layer, self.x = layer, jax.tree.map(batch_of, x)
        leaves, self.treedef = jax.tree.flatten(self.x)
        self.floats = [a.dtype.kind == "f" for a in leaves]
        self.inputs = [a for a, real in zip(leaves, self.floats, strict=True) if real]
        self.others = [a for a, real in zip(leaves, self.floats, strict=True) if not real]

    def loss(self, params, inputs, state, others, key):
        inputs, others = iter(inputs), iter(others)
        x = self.treedef.unflatten([next(inputs if real else others) for real in self.floats])
        y, after = call(self.layer, params, state, x, Context(train=key is not None, key=key))
        y = strip_masks(y)
        total = sum(((a**2).sum() for a in jax.tree.leaves(y) if a.dtype.kind == "f"), 0.0)
        return total, (y, after)

    @property
    def gradient(self):
        return jax.value_and_grad(self.loss, (0, 1), has_aux=True, allow_int=True)


def problem_of(case):
    problem = Problem(case.layer, case.x)
    of_one_size = getattr(case.layer, "stateful", False)
    weights = initialize(case.layer, KEY, problem.x) if of_one_size else case.weights
    return problem, *weights


def close(received, expected):
    paths = jax.tree_util.tree_leaves_with_path(expected)
    for (path, a), b in zip(paths, jax.tree.leaves(received), strict=True):
        if a.dtype == jax.dtypes.float0:
            continue  # integers have no gradient
        a, b = np.asarray(a, "float64"), np.asarray(b, "float64")
        scale = max(1, np.abs(a).max(initial=0))
        np.testing.assert_allclose(b / scale, a / scale, rtol=1e-5, atol=1e-5, err_msg=str(path))


def put(tree, rule, kind=AxisType.Explicit):
    return jax.tree.map(lambda a: jax.device_put(a, on(*rule(a), kind=kind)), tree)


WHOLE, BY_BATCH = (lambda a: ()), (lambda a: ("data",))


def divide(problem, params, state, kind):
    """The arguments of its function on the mesh, the batch divided."""
    by_state = BY_BATCH if getattr(problem.layer, "stateful", False) else WHOLE
    trees = params, problem.inputs, state, problem.others, KEY
    rules = WHOLE, BY_BATCH, by_state, BY_BATCH, WHOLE
    return [put(tree, rule, kind) for tree, rule in zip(trees, rules, strict=True)]


def assert_numbers_of_one_device(case, *kinds):
    problem, params, state = problem_of(case)
    run = jax.jit(problem.gradient)
    expected = run(params, problem.inputs, state, problem.others, KEY)
    for kind in kinds:
        with jax.set_mesh(mesh(kind)):
            close(run(*divide(problem, params, state, kind)), expected)


@each_row
def test_a_divided_batch_gives_what_one_device_gives(case):
    """The numbers in one row of each class; in the others the types, which say where arrays lie."""
    if case in COMPILED:
        assert_numbers_of_one_device(case, AxisType.Explicit)
    else:
        problem, params, state = problem_of(case)
        with jax.set_mesh(mesh()):
            jax.eval_shape(problem.gradient, *divide(problem, params, state, AxisType.Explicit))


@pytest.mark.thorough
@each_row
def test_every_row_has_the_numbers_of_one_device(case):
    """With axes of both kinds: XLA alone decides where arrays lie on automatic ones."""
    assert_numbers_of_one_device(case, AxisType.Explicit, AxisType.Auto)


# -- weights on several devices --------------------------------------------------------------------


def rows(a, axis="model", size=MODEL):
    return (axis,) if a.ndim and a.shape[0] % size == 0 else ()


def columns(a, axis="model", size=MODEL):
    return (*(None,) * (a.ndim - 1), axis) if a.ndim and a.shape[-1] % size == 0 else ()


RULES = {
    "rows": rows,
    "columns": columns,
    "rows by data": lambda a: rows(a, "data", DATA),
    "columns by data": lambda a: columns(a, "data", DATA),
    "both": lambda a: ("data", *columns(a)[1:]) if a.ndim > 1 and rows(a, "data", DATA) else (),
}
BY_FEATURES = lambda a: ("data", *columns(a)[1:]) if a.ndim > 1 else ("data",)
# How inputs are divided, and the weights beside them: each rule once, by both kinds of inputs.
DIVISIONS = (
    (BY_BATCH, ("rows", "columns by data", "both")),
    (BY_FEATURES, ("columns", "rows by data")),
)


DIVISIBLE = [  # a stateful layer's state has the batch of its inputs
    case
    for case in CATALOGUE
    if not getattr(case.layer, "stateful", False) and weight_spec(case.layer, case.x)[0]
]


@pytest.mark.parametrize("case", DIVISIBLE, ids=[case.id for case in DIVISIBLE])
def test_every_layer_takes_divided_weights(case):
    """Traced alone, forward and backward: what cannot lie as it should is an error of types.

    By every rule in the first rows of a class, in the others by one beside each kind of inputs.
    """
    problem = Problem(case.layer, case.x)
    params, state = weight_spec(case.layer, problem.x)
    divided = lambda tree, rule: jax.tree.map(
        lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=on(*rule(a))), tree
    )
    key = divided(jax.eval_shape(lambda: KEY), WHOLE)
    for by_input, rules in DIVISIONS:
        inputs, others = divided(problem.inputs, by_input), divided(problem.others, by_input)
        for rule in rules if case in COMPILED else rules[:1]:
            given = divided(params, RULES[rule]), inputs, divided(state, WHOLE), others
            with jax.set_mesh(mesh()):
                jax.eval_shape(problem.gradient, *given, key)
    with jax.set_mesh(mesh()):  # `given` is divided in the last of these ways
        jax.eval_shape(lambda *a: problem.loss(*a, None), *given)


SEQUENCE, IMAGE = np.zeros((8, 6, 4), "float32"), np.zeros((8, 6, 6, 4), "float32")
COMMON = {
    "Dense": (L.Dense(8, "relu"), SEQUENCE),
    "Dense after Dense": (L.Sequential([L.Dense(8, "relu"), L.Dense(4)]), SEQUENCE),
    "Conv2D": (L.Conv2D(8, 3, padding="same"), IMAGE),
    "Conv2D in groups": (L.Conv2D(8, 3, groups=2), IMAGE),
    "Embedding": (L.Embedding(8, 4, mask_zero=True), np.arange(48).reshape(8, 6) % 8),
    "EinsumDense": (L.EinsumDense("...a,abc->...bc", (4, 2), bias_axes="bc"), SEQUENCE),
    "MultiHeadAttention": (L.MultiHeadAttention(4, 2), SEQUENCE),
    "GroupedQueryAttention": (L.GroupedQueryAttention(2, 4, 2, use_causal_mask=True), SEQUENCE),
    "LSTM": (L.LSTM(4, return_sequences=True), SEQUENCE),
    "Repeat": (L.Repeat(L.TransformerEncoderBlock(4, 2), 2), SEQUENCE),
    "BatchNormalization": (
        L.Sequential([L.Dense(8), L.BatchNormalization(), L.Activation("tanh"), L.Dense(4)]),
        SEQUENCE,
    ),
    "Ensemble": (L.Ensemble(L.Sequential([L.Dense(8, "relu"), L.Dense(2)]), 4), SEQUENCE),
    "MixtureOfExperts": (L.MixtureOfExperts(L.Dense(4), 4, capacity_factor=2.0), SEQUENCE),
}


@functools.cache
def on_one_device(name):
    layer, x = COMMON[name]
    problem = Problem(layer, x)
    params, state = initialize(layer, KEY, problem.x)
    run = jax.jit(problem.gradient)
    return problem, params, state, run, run(params, problem.inputs, state, problem.others, KEY)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", COMMON)
def test_divided_weights_give_what_one_device_gives(name, rule):
    problem, params, state, run, expected = on_one_device(name)
    with jax.set_mesh(mesh()):
        given = put(params, RULES[rule]), put(problem.inputs, BY_BATCH), put(state, WHOLE)
        received = run(*given, put(problem.others, BY_BATCH), put(KEY, WHOLE))
    close(received, expected)
    for weight, gradient in zip(*map(jax.tree.leaves, (given[0], received[1][0])), strict=True):
        assert weight.sharding.is_equivalent_to(gradient.sharding, weight.ndim)


def test_features_stay_divided_from_columns_to_rows():
    """The second of two Dense layers sums over features that are on several devices."""
    first, second = L.Dense(8, use_bias=False), L.Dense(4, use_bias=False)
    x = np.ones((8, 4), "float32")

    def run(x, a, b):
        hidden, _ = call(first, {"kernel": a}, {}, x, Context())
        y, _ = call(second, {"kernel": b}, {}, hidden, Context())
        return jax.typeof(hidden).sharding.spec, jax.typeof(y).sharding.spec

    specs = []
    with jax.set_mesh(mesh()):
        kernels = jnp.ones((4, 8)), jnp.ones((8, 4))
        jax.jit(lambda *a: specs.extend(run(*a)))(
            jax.device_put(x, on("data")),
            jax.device_put(kernels[0], on(None, "model")),
            jax.device_put(kernels[1], on("model")),
        )
    assert specs == [PartitionSpec("data", "model"), PartitionSpec("data", None)]


def test_a_divided_batch_needs_no_mesh_around_it():
    """Arrays that lie on a mesh say so themselves, eagerly and under jit."""
    layer = L.Sequential([L.Dense(8), L.BatchNormalization(), L.Dense(2)])
    x = batch_of(np.zeros((8, 4), "float32"))
    params, state = initialize(layer, KEY, x)
    run = lambda params, state, x: call(layer, params, state, x, Context(train=True))
    expected = run(params, state, x)
    given = put(params, columns), put(state, WHOLE), put(x, BY_BATCH)
    close(run(*given), expected)
    close(jax.jit(run)(*given), expected)


def test_axes_may_be_explicit_in_part():
    kinds = AxisType.Explicit, AxisType.Auto
    partly = jax.make_mesh((DATA, MODEL), ("data", "model"), axis_types=kinds)
    layer = L.Sequential([L.Embedding(8, 8), L.Dense(8), L.BatchNormalization(), L.LSTM(4)])
    x = np.arange(48).reshape(8, 6) % 8
    params, state = initialize(layer, KEY, x)
    run = jax.jit(lambda params, state, x: call(layer, params, state, x, Context(train=True)))
    expected = run(params, state, x)
    lay = lambda tree, rule: jax.tree.map(
        lambda a: jax.device_put(a, NamedSharding(partly, PartitionSpec(*rule(a)))), tree
    )
    with jax.set_mesh(partly):
        close(run(lay(params, columns), lay(state, WHOLE), lay(x, BY_BATCH)), expected)


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
@pytest.mark.parametrize("layer", [L.Conv1D(6, 2, groups=2), L.DepthwiseConv1D(6)], ids=repr)
def test_the_gradient_of_a_grouped_convolution_is_not_multiplied(layer, kind):
    """XLA multiplies it by the size of the mesh's other axis if left to gather the batch itself."""
    problem = Problem(layer, np.zeros((8, 9, 4), "float32"))
    params, state = initialize(layer, KEY, problem.x)
    run = jax.jit(problem.gradient)
    expected = run(params, problem.inputs, state, [], KEY)
    given = put(params, WHOLE, kind), put(problem.inputs, BY_BATCH, kind)
    with jax.set_mesh(mesh(kind)):
        close(run(*given, {}, [], put(KEY, WHOLE, kind)), expected)


def test_a_mesh_axis_is_used_once():
    assert without(("data", ("model", "data"), ("model", "more")), {"data"}) == (
        None,
        "model",
        ("model", "more"),
    )


# -- losses, metrics, a step of training -----------------------------------------------------------

DRAW = np.random.default_rng(0)
SHARES = DRAW.dirichlet(np.ones(3), 8).astype("float32")
CLASSES = np.arange(8) % 3
SCORES, HITS = SHARES[:, :1], (CLASSES[:, None] == 0).astype("float32")
VECTORS = DRAW.normal(size=(8, 4)).astype("float32")
WEIGHTS = np.linspace(0.5, 1.5, 8).astype("float32")
LOSSES = {
    "MeanSquaredError": (VECTORS, VECTORS[::-1]),
    "BinaryCrossentropy": (HITS, SCORES),
    "CategoricalCrossentropy": (np.eye(3, dtype="float32")[CLASSES], SHARES),
    "SparseCategoricalCrossentropy": (CLASSES, SHARES),
    "CosineSimilarity": (VECTORS, VECTORS[::-1]),
    "Circle": (CLASSES, VECTORS),
    "Triplet": (CLASSES, VECTORS),
    "InfoNCE": (VECTORS, VECTORS[::-1] + VECTORS),
    "CTC": (np.full((8, 2), 1), DRAW.normal(size=(8, 6, 3)).astype("float32")),
}
METRICS = {
    "SparseCategoricalAccuracy": (CLASSES, SHARES),
    "SparseTopKCategoricalAccuracy": (CLASSES, SHARES),
    "AUC": (HITS, SCORES),
    "Precision": (HITS, SCORES),
    "RecallAtPrecision": (HITS, SCORES),
    "F1Score": (np.eye(3, dtype="float32")[CLASSES], SHARES),
    "BinaryIoU": (HITS, SCORES),
    "ExpectedCalibrationError": (CLASSES, SHARES),
    "R2Score": (VECTORS, VECTORS[::-1]),
}


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_of_a_divided_batch(name):
    loss, (y, p) = getattr(fnn.losses, name)(), LOSSES[name]
    valid = np.arange(8) != 3
    run = jax.jit(jax.value_and_grad(lambda p, *a: jnp.divide(*loss.totals(a[0], p, *a[1:]))))
    given = np.ascontiguousarray(p), y, WEIGHTS, valid
    expected = run(*given)
    with jax.set_mesh(mesh()):
        close(run(*put(given, BY_BATCH)), expected)


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_of_a_divided_batch(name):
    options = {"RecallAtPrecision": (0.5,), "SparseTopKCategoricalAccuracy": (2,)}
    metric = getattr(fnn.metrics, name)(*options.get(name, ()))
    given = *map(np.ascontiguousarray, METRICS[name]), WEIGHTS
    run = jax.jit(lambda y, p, w: metric.result(metric.update(metric.init(y, p), y, p, w)))
    expected = run(*given)
    with jax.set_mesh(mesh()):
        close(run(*put(given, BY_BATCH)), expected)


def test_a_step_of_training_on_divided_batches_and_weights():
    layers = [L.Dense(8, "relu"), L.BatchNormalization(), L.Dropout(0.2), L.Dense(3, "softmax")]
    net, optimizer = L.Sequential(layers), fnn.optimizers.Adam(0.01)
    accuracy = "accuracy", fnn.metrics.SparseCategoricalAccuracy(), True
    goal = OutputGoal("output", fnn.losses.SparseCategoricalCrossentropy(), 1.0, (accuracy,))
    params, state = net.init(KEY, VECTORS)
    now = TrainState(params, state, init_optimizer(net, optimizer, params), KEY)
    batch = {"x": VECTORS, "y": (CLASSES,), "weight": ()}, np.arange(8) < 7
    step = jax.jit(make_train_step(net, Objective((goal,)), optimizer))
    expected, logs = step(now, batch, KEY)
    rule = lambda a: columns(a) if a.ndim == 2 else ()
    with jax.set_mesh(mesh()):
        received, same = step(put(now, rule), put(batch, BY_BATCH), put(KEY, WHOLE))
    close(received.params, expected.params)
    close(received.state, expected.state)
    close(same["loss"].result, logs["loss"].result)
    close(same["accuracy"].result, logs["accuracy"].result)
