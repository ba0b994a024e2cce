"""The dtype of a layer: what it computes in, and of a combinator what its children compute in."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import layers as L
from fnn.core.calling import apply_child, call, init_child, unzip, walk
from fnn.core.context import INFERENCE
from fnn.core.layer import Layer
from fnn.core.tree import cast
from fnn.testing.subject import Subject, is_float, jit
from tests.helpers.catalogue import CATALOGUE, SEQUENCE
from tests.helpers.policies import operands

COMBINATORS = [case for case in CATALOGUE if case.layer.children()]
# What they multiply in float32 whatever their dtype: the router, and the power iterations.
IN_FULL = (L.MixtureOfExperts, L.SpectralNormalization)
# Combinators that do nothing to the outputs of their children.
PASSING = (L.Sequential, L.Parallel, L.Graph, L.Remat, L.Frozen, L.Inference, L.Ensemble)
PASSING = (*PASSING, L.TimeDistributed, L.SpectralNormalization)


def case_ids(cases):
    return [case.id for case in cases]


def traced(layer, case):
    """The dtypes of what the layer multiplies as matrices, and shapes and dtypes of its results.

    The inputs and weights are in float32.
    """
    run = Subject(layer, case.x, case.key).run
    program, shapes = jax.make_jaxpr(run, return_shape=True)(*case.weights, case.x)
    return operands(program.jaxpr, "dot_general", "conv_general_dilated"), shapes


def with_leaves(value, dtype):
    """A layer whose innermost layers have this dtype."""
    if isinstance(value, tuple):
        return tuple(with_leaves(item, dtype) for item in value)
    if not isinstance(value, Layer):
        return value
    fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    changed = {name: with_leaves(item, dtype) for name, item in fields.items()}
    inside = {n: item for n, item in changed.items() if item != fields[n]}
    return value.replace(**inside) if inside else value.replace(dtype=dtype)


@pytest.mark.slow
@pytest.mark.parametrize("case", COMBINATORS, ids=case_ids(COMBINATORS))
def test_children_compute_in_the_dtype_of_their_combinator(case):
    layer = case.layer.replace(dtype="bfloat16")
    products, (y, state) = traced(layer, case)
    assert {str(a.dtype) for a in jax.tree.leaves(y) if is_float(a)} == {"bfloat16"}
    assert jax.tree.map(lambda a: a.dtype, state) == jax.tree.map(
        lambda a: a.dtype, case.weights[1]
    )
    assert products - {"float32"} <= {"bfloat16"}
    if not isinstance(layer, IN_FULL):
        assert "float32" not in products


REPEATED = [
    case
    for case in COMBINATORS
    if any(isinstance(layer, L.Repeat) for _, layer, _ in walk(case.layer))
]
OWN = [
    case
    for case in COMBINATORS
    if with_leaves(case.layer, "float32").dtype is None  # it has layers in its fields
    and not hasattr(case.layer, "position")  # nor makes others by itself
    and case not in REPEATED
]


@pytest.mark.slow
@pytest.mark.parametrize("case", OWN, ids=case_ids(OWN))
def test_children_keep_a_dtype_of_their_own(case):
    inner = with_leaves(case.layer, "float32")
    assert traced(inner.replace(dtype="bfloat16"), case)[0] <= {"float32"}


@pytest.mark.slow
@pytest.mark.parametrize("case", REPEATED, ids=case_ids(REPEATED))
def test_a_repeat_refuses_children_that_change_the_dtype(case):
    layer = with_leaves(case.layer, "float32").replace(dtype="bfloat16")
    with pytest.raises(ValueError, match="put the change of shape or dtype outside"):
        traced(layer, case)


EXACT = [case for case in OWN if isinstance(case.layer, PASSING)]


@pytest.mark.slow
@pytest.mark.parametrize("case", EXACT, ids=case_ids(EXACT))
def test_weights_of_a_child_with_a_wider_dtype_are_not_rounded(case):
    inner = with_leaves(case.layer, "float32")
    x = cast(cast(case.x, "bfloat16"), "float32")  # the inputs are, those of the combinator

    def both(params, state):
        layers = inner, inner.replace(dtype="bfloat16")
        return [call(layer, params, state, x, INFERENCE)[0] for layer in layers]

    whole, mixed = jit(both)(*case.weights)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-5, 1e-6), mixed, whole)


@pytest.mark.slow
@pytest.mark.parametrize(
    "layer",
    [
        L.Dense(4, dtype="bfloat16"),
        L.BatchNormalization(dtype="bfloat16"),
        L.GRU(4, dtype="bfloat16"),
        L.Sequential([L.Dense(4), L.Dense(4)], dtype="bfloat16"),
        L.RNN(L.LSTMCell(4), dtype="bfloat16"),
        L.TransformerEncoderBlock(4, 2, dtype="bfloat16"),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_apply_by_itself_computes_in_the_dtype(layer):
    """Of the pair that a user unpacks, as inside a network."""
    init, apply = layer
    x = jnp.ones(SEQUENCE)
    params, state = jax.eval_shape(init, jax.random.key(0), x)
    assert {str(a.dtype) for a in jax.tree.leaves(params)} == {"float32"}
    for run in (apply, lambda params, state, x: apply(params=params, state=state, x=x)):
        assert jax.eval_shape(run, params, state, x)[0].dtype == jnp.bfloat16
    gradient = jax.grad(lambda params, state: apply(params, state, x)[0].sum())
    learned = jax.eval_shape(gradient, params, state)
    assert {str(a.dtype) for a in jax.tree.leaves(learned)} == {"float32"}


class Branches(Layer):
    """A combinator as a user may write it, its children in a dict."""

    masking = "inside"
    branches: dict

    def children(self):
        return self.branches.items

    def init(self, key, x):
        return unzip({name: init_child(name, child, key, x) for name, child in self.children()})

    def apply(self, params, state, x, ctx=INFERENCE):
        run = lambda name, child: apply_child(name, child, params, state, x, ctx)[0]
        return sum(run(name, child) for name, child in self.children()), state


class Opened(Branches):
    """The same with an `__init__` of its own."""

    def __init__(self, **branches):
        super().__init__(branches)


def test_a_combinator_of_a_user_hands_its_dtype_on():
    one, two, x = L.Dense(3), L.Dense(3, dtype="bfloat16"), jnp.ones((2, 4))
    layer = Branches({"one": one, "two": two}, dtype="float16")
    weights = layer.init(jax.random.key(0), x)
    assert jax.eval_shape(layer.apply, *weights, x)[0].dtype == jnp.float32  # of both halves
    same = layer.replace(branches={"one": one, "two": one})
    assert jax.eval_shape(same.apply, *weights, x)[0].dtype == jnp.float16
    opened = Opened(one=one, two=one)
    opened.dtype = "float16"
    assert jax.eval_shape(opened.apply, *weights, x)[0].dtype == jnp.float16
    assert one.dtype is None
