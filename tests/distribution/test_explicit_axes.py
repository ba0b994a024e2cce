"""Layers on a mesh whose axes are explicit: batches and weights on several devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from fnn import layers as L
from fnn.core.calling import call, initialize, weight_spec
from fnn.core.context import Context, strip_masks
from fnn.runtime.placement import without
from tests.generate.trees import FILE
from tests.helpers.catalogue import CATALOGUE, COMPILED, KEY
from tests.helpers.sharding import (
    BY_BATCH,
    DATA,
    MODEL,
    WHOLE,
    arithmetic,
    close,
    columns,
    lie,
    mesh,
    on,
    put,
    rows,
)

slow = pytest.mark.slow

BATCH = 8
ONE_OF_EACH = frozenset(COMPILED)
# What consists of layers that have rows of their own.
MADE_OF_OTHERS = (
    L.Sequential, L.Repeat, L.Remat, L.Residual, L.Ensemble, L.LoRA, L.Quantized, L.TimeDistributed,
    L.Bidirectional, L.RNN, L.MixtureOfExperts, L.SpectralNormalization, L.TransformerDecoderBlock,
    L.RandAugment, L.AugMix,
)  # fmt: skip


def each_of(rows):
    return pytest.mark.parametrize("case", rows, ids=[case.id for case in rows])


def with_weights():
    """The rows of the catalogue that have some: tracing each to find out would take seconds."""
    row = ""
    for line in FILE.read_text().splitlines():
        if not line.startswith(" "):
            row = line
        elif line.startswith("    params "):
            yield row


HAVE_WEIGHTS = frozenset(with_weights())
DIVISIBLE = [  # a stateful layer's state has the batch of its inputs
    case
    for case in CATALOGUE
    if case.id in HAVE_WEIGHTS and not getattr(case.layer, "stateful", False)
]
# A batch is also divided where the weights are, in the tests of those.
BY_WEIGHTS = frozenset(DIVISIBLE) - ONE_OF_EACH
BATCHES = [case for case in CATALOGUE if case not in BY_WEIGHTS]


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

    @functools.cached_property
    def gradient(self):
        return jax.jit(jax.value_and_grad(self.loss, (0, 1), has_aux=True, allow_int=True))

    @functools.cached_property
    def weights(self):
        """Their shapes: (params, state)."""
        return weight_spec(self.layer, self.x)

    def arguments(self, params, state):
        return params, self.inputs, state, self.others, KEY


@functools.cache
def problem_of(case):
    return Problem(case.layer, case.x)


def divide(problem, params, state, kind=AxisType.Explicit, how=put):
    """The arguments of its function on the mesh, the batch divided."""
    by_state = BY_BATCH if getattr(problem.layer, "stateful", False) else WHOLE
    rules = WHOLE, BY_BATCH, by_state, BY_BATCH, WHOLE
    trees = problem.arguments(params, state)
    return [how(tree, rule, kind) for tree, rule in zip(trees, rules, strict=True)]


def assert_numbers_of_one_device(case, *kinds):
    problem = problem_of(case)
    of_one_size = getattr(case.layer, "stateful", False)
    weights = initialize(case.layer, KEY, problem.x) if of_one_size else case.weights
    expected = problem.gradient(*problem.arguments(*weights))
    for kind in kinds:
        with jax.set_mesh(mesh(kind)):
            close(problem.gradient(*divide(problem, *weights, kind)), expected)


@slow
@each_of(BATCHES)
def test_a_divided_batch_gives_what_one_device_gives(case):
    """The types say where arrays lie; and one row of each class is the arithmetic of one device.

    Where it is other arithmetic, its numbers are those of one device. So are those of convolutions,
    of which XLA has divided some wrongly.
    """
    problem = problem_of(case)
    with jax.set_mesh(mesh()):
        divided = problem.gradient.trace(*divide(problem, *problem.weights, how=lie)).jaxpr
    if case in ONE_OF_EACH and not isinstance(case.layer, MADE_OF_OTHERS):
        alone = problem.gradient.trace(*problem.arguments(*problem.weights)).jaxpr
        if "conv_general" in str(alone) or arithmetic(alone) != arithmetic(divided):
            assert_numbers_of_one_device(case, AxisType.Explicit)


@slow
@pytest.mark.thorough
@each_of(CATALOGUE)
def test_every_row_has_the_numbers_of_one_device(case):
    """With axes of both kinds: XLA alone decides where arrays lie on automatic ones."""
    assert_numbers_of_one_device(case, AxisType.Explicit, AxisType.Auto)


def test_the_arithmetic_of_a_program_is_not_where_its_arrays_lie():
    of = lambda function, x: arithmetic(jax.make_jaxpr(function)(x))
    doubled = lambda x: (jax.lax.scan(lambda a, b: (a + b, a * 2), x[0], x), np.ones(2))
    moved = lambda x: jax.sharding.reshard(x, on(*(None,) * x.ndim))
    others = [
        lambda x: (jax.lax.scan(lambda a, b: (a + b, b * 2), x[0], x), np.ones(2)),
        lambda x: (jax.lax.scan(lambda a, b: (a + b, a * 3), x[0], x), np.ones(2)),
        lambda x: (jax.lax.scan(lambda a, b: (a + b, a * 2), x[1], x), np.ones(2)),
        lambda x: (jax.lax.scan(lambda a, b: (a + b, a * 2), x[0], x), np.zeros(2)),
    ]
    x = np.ones((8, 4), "float32")
    with jax.set_mesh(mesh()):
        assert of(lambda x: doubled(moved(x)), put(x, WHOLE)) == of(doubled, x)
        assert all(of(other, x) != of(doubled, x) for other in others)


# -- weights on several devices --------------------------------------------------------------------


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
FEWER = (BY_BATCH, ("both",)), (BY_FEATURES, ("columns",))
FEWEST = FEWER[:1]


def trace_divided(case, divisions):
    """Forward and backward; what cannot lie as it should is an error of types."""
    problem, key = problem_of(case), lie(KEY, WHOLE)
    params, state = problem.weights
    for by_input, rules in divisions:
        inputs, others = lie(problem.inputs, by_input), lie(problem.others, by_input)
        for rule in rules:
            given = lie(params, RULES[rule]), inputs, lie(state, WHOLE), others
            with jax.set_mesh(mesh()):
                jax.eval_shape(problem.gradient, *given, key)
    with jax.set_mesh(mesh()):  # `given` is divided in the last of these ways
        jax.eval_shape(lambda *a: problem.loss(*a, None), *given)


FIRST = {type(case.layer): case for case in reversed(DIVISIBLE)}


@slow
@each_of(DIVISIBLE)
def test_every_layer_takes_divided_weights(case):
    """By all rules in one row of each class that is not made of others."""
    divisions = FEWER if case in ONE_OF_EACH else FEWEST
    if case is FIRST[type(case.layer)] and not isinstance(case.layer, MADE_OF_OTHERS):
        divisions = DIVISIONS
    trace_divided(case, divisions)


@slow
@pytest.mark.thorough
@each_of(DIVISIBLE)
def test_every_row_takes_weights_divided_by_all_rules(case):
    trace_divided(case, DIVISIONS)


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
    return problem, params, state, problem.gradient(*problem.arguments(params, state))


QUICK = {("Dense after Dense", "both"), ("Conv2D", "columns")}
LARGE = {"GroupedQueryAttention", "LSTM", "Repeat", "Ensemble", "MixtureOfExperts"}


def numbered():
    """Each layer with each rule; a sample of them: the large ones divided along both axes alone."""
    for name in COMMON:
        for rule in RULES:
            sampled = rule == "both" or (rule in ("rows", "columns") and name not in LARGE)
            marks = slow if sampled else pytest.mark.thorough
            yield pytest.param(name, rule, marks=() if (name, rule) in QUICK else marks)


@pytest.mark.parametrize(("name", "rule"), [*numbered()])
def test_divided_weights_give_what_one_device_gives(name, rule):
    problem, params, state, expected = on_one_device(name)
    with jax.set_mesh(mesh()):
        given = put(params, RULES[rule]), put(problem.inputs, BY_BATCH), put(state, WHOLE)
        received = problem.gradient(*given, put(problem.others, BY_BATCH), put(KEY, WHOLE))
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


@slow
def test_a_divided_batch_needs_no_mesh_around_it():
    """Arrays that lie on a mesh say so themselves, eagerly and under jit."""
    layer = L.Sequential([L.Dense(8), L.BatchNormalization(), L.Dense(2)])
    x = batch_of(np.zeros((8, 4), "float32"))
    params, state = initialize(layer, KEY, x)
    run = lambda params, state, x: call(layer, params, state, x, Context(train=True))
    compiled = jax.jit(run)
    expected = compiled(params, state, x)
    given = put(params, columns), put(state, WHOLE), put(x, BY_BATCH)
    close(run(*given), expected)
    close(compiled(*given), expected)


@slow
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


@slow
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
@pytest.mark.parametrize("layer", [L.Conv1D(6, 2, groups=2), L.DepthwiseConv1D(6)], ids=repr)
def test_the_gradient_of_a_grouped_convolution_is_not_multiplied(layer, kind):
    """XLA multiplies it by the size of the mesh's other axis if left to gather the batch itself."""
    problem = Problem(layer, np.zeros((8, 9, 4), "float32"))
    params, state = initialize(layer, KEY, problem.x)
    expected = problem.gradient(*problem.arguments(params, state))
    with jax.set_mesh(mesh(kind)):
        close(problem.gradient(*divide(problem, params, state, kind)), expected)


def test_a_mesh_axis_is_used_once():
    assert without(("data", ("model", "data"), ("model", "more")), {"data"}) == (
        None,
        "model",
        ("model", "more"),
    )
