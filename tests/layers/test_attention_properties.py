"""Attention over drawn sizes, masks and axes, against NumPy and, where it heeds them, Keras."""

import dataclasses
import math
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import strategies as st

from fnn import layers as L
from fnn.core import tree
from fnn.core.calling import call, weight_spec
from fnn.core.context import INFERENCE, attach_mask, split_mask
from tests.helpers.catalogue import jit
from tests.helpers.drawn import examples
from tests.helpers.oracle import keras_rules, random_weights_unset

DRAWS = 15
CALL_ARGUMENTS = ("use_causal_mask", "return_attention_scores")
OURS = {*CALL_ARGUMENTS, "fixed_weights", "position", "name", "trainable", "dtype", "input_shape"}
sizes, steps, groups = st.integers(1, 4), st.integers(1, 5), st.integers(1, 3)


@dataclasses.dataclass
class Case:
    """A layer, its inputs, their masks of steps and the mask of scores (or None for each)."""

    layer: Any
    inputs: tuple[np.ndarray, ...]
    masks: tuple[np.ndarray | None, ...]
    allowed: np.ndarray | None = None

    def __post_init__(self):
        given = tuple(map(attach_mask, self.inputs, self.masks))
        last = () if self.allowed is None else (*(None,) * (3 - len(given)), self.allowed)
        self.x = given + last
        spec, draw = weight_spec(self.layer, self.x)[0], np.random.default_rng(1).normal
        self.paths = [path for path, _ in tree.flatten(spec)]
        self.params = jax.tree.map(lambda a: draw(0, 0.5, a.shape).astype("float32"), spec)

    def real(self, mask, axis):
        """A mask of steps along an axis of the scores, (batch, queries, keys)."""
        return True if mask is None else np.expand_dims(mask, 3 - axis)

    def pairs(self):
        """Which pairs the masks of steps and causality allow, (batch, queries, keys)."""
        query, value = (a.shape[1] for a in self.inputs[:2])
        pairs = np.ones((len(self.inputs[0]), query, value), bool)
        for index, mask in enumerate(self.masks):
            pairs &= self.real(mask, 2 if index else 1)
        if self.layer.use_causal_mask:
            pairs &= np.tri(query, value, dtype=bool)
        return pairs


def some(draw, rng, shape, first=False):
    """A mask, or none; with `first`, the first key stays: Keras errs where nothing is allowed."""
    if not draw(st.booleans()):
        return None
    mask = rng.random(shape) < 0.6
    if first:
        mask[..., 0] = True
    return mask


def options(draw, *names):
    return {name: draw(st.booleans()) for name in names}


@st.composite
def heads(draw, keras=False):
    """Multi-head or grouped-query attention; all masks, or those that Keras heeds."""
    rng, batch = np.random.default_rng(draw(st.integers(0, 999))), draw(groups)
    flags = options(draw, "use_bias", "use_gate", "use_causal_mask")
    if draw(st.booleans()):
        few = draw(groups)
        number = few * draw(groups)
        layer = L.GroupedQueryAttention(draw(sizes), number, few, **flags)
    else:
        number = draw(groups)
        # With dropout, off at inference: without, Keras 3.15.1 errs where value_dim differs.
        layer = L.MultiHeadAttention(number, draw(sizes), draw(st.none() | sizes), 0.5, **flags)
    queries, keys, more = draw(steps), draw(steps), draw(st.booleans())
    inputs = [rng.normal(size=(batch, n, draw(sizes))) for n in (queries, *(keys,) * (1 + more))]
    masks = [some(draw, rng, a.shape[:2], keras) for a in inputs]
    spread = st.sampled_from([(), (batch,), (batch, 1), (1, number), (batch, number)])
    allowed = some(draw, rng, (*draw(spread), queries, keys), keras)
    if keras:  # It heeds that of the queries not at all, the others not with a mask by head.
        by_head = allowed is not None and allowed.ndim == 4
        masks = [None if by_head or not index else mask for index, mask in enumerate(masks)]
    return Case(layer, tuple(a.astype("float32") for a in inputs), tuple(masks), allowed)


@st.composite
def boxes(draw):
    """Attention over some of several axes of steps, with a mask of scores or none."""
    rng, number = np.random.default_rng(draw(st.integers(0, 999))), draw(groups)
    shape = draw(st.lists(groups, min_size=2, max_size=3))
    axes = draw(st.sets(st.integers(1, len(shape)), min_size=1).map(sorted).map(tuple))
    keys = [draw(groups) if axis in axes else n for axis, n in enumerate(shape, 1)]
    layer = L.MultiHeadAttention(number, draw(sizes), attention_axes=axes)
    layer = layer.replace(use_causal_mask=len(axes) == 1 and draw(st.booleans()))
    inputs = [rng.normal(size=(2, *n, draw(sizes))).astype("float32") for n in (shape, keys)]
    apart = [n for axis, n in enumerate(shape, 1) if axis not in axes]
    scores = [n[axis - 1] for n in (shape, keys) for axis in axes]
    allowed = some(draw, rng, (2, *apart, draw(st.sampled_from([1, number])), *scores))
    if allowed is not None:
        allowed[(..., *(0,) * len(axes))] = True
    return Case(layer, tuple(inputs), (None, None), allowed)


@st.composite
def plain(draw, keras=False):
    """Attention without heads; all masks, or those that Keras heeds."""
    rng, batch = np.random.default_rng(draw(st.integers(0, 999))), draw(groups)
    flags = options(draw, "use_scale", *CALL_ARGUMENTS)
    if draw(st.booleans()):
        layer = L.Attention(score_mode=draw(st.sampled_from(["dot", "concat"])), **flags)
    else:
        layer = L.AdditiveAttention(**flags)
    width, keys = draw(sizes), draw(steps)
    shapes = [(draw(steps), width), (keys, draw(sizes)), (keys, width)]
    inputs = [rng.normal(size=(batch, *shape)).astype("float32") for shape in shapes]
    masks = [some(draw, rng, a.shape[:2], keras) for a in inputs]
    masks = [None, masks[1], None] if keras else masks
    return Case(layer, tuple(inputs), tuple(masks))


def in_fnn(case, params):
    """Outputs, and scores where they are returned; the mask of the queries stays on them."""
    y, _ = call(case.layer, params, {}, case.x, INFERENCE)
    outputs, *scores = y if case.layer.return_attention_scores else [y]
    return [*split_mask(outputs), *scores]


def in_keras(case):
    """The layer of Keras, called on weights, and given the masks that it takes by name."""
    import keras

    fields = {n: v for n, v in vars(case.layer).items() if n[0] != "_" and n not in OURS}
    name = type(case.layer).__name__.replace("GroupedQuery", "GroupQuery")
    given = {name: getattr(case.layer, name) for name in CALL_ARGUMENTS}
    with random_weights_unset():
        twin = getattr(keras.layers, name)(**fields)
        if hasattr(case.layer, "sizes"):
            twin.build(*(a.shape for a in case.inputs))
            given |= dict(zip(("value_mask", "key_mask"), case.masks[1:], strict=False))
            given["attention_mask"] = case.allowed
            inputs = dict(zip(("query", "value", "key"), case.inputs, strict=False))
        else:
            twin.build([a.shape for a in case.inputs])
            inputs, given["mask"] = {"inputs": list(case.inputs)}, list(case.masks)
    others = [v.value for v in twin.non_trainable_variables]

    def run(params):
        weights = [tree.get(params, path) for path in case.paths]
        return jax.tree.leaves(twin.stateless_call(weights, others, **inputs, **given)[0])

    return run


def compare(strategy, oracle=None, draws=DRAWS):
    """All examples of a strategy as one program, against `oracle(case)` or else Keras."""
    cases = examples(strategy, draws)
    weights = [case.params for case in cases]
    run = lambda weights: [in_fnn(*pair) for pair in zip(cases, weights, strict=True)]
    found = jit(run)(weights)
    if oracle is None:
        with keras_rules():
            twins = [in_keras(case) for case in cases]
            each = lambda weights: [twin(p) for twin, p in zip(twins, weights, strict=True)]
            expected = jit(each)(weights)
    else:
        expected = map(oracle, cases)
    for case, (outputs, mask, *scores), wanted in zip(cases, found, expected, strict=True):
        np.testing.assert_array_equal(mask, case.masks[0])
        for a, b in zip([outputs, *scores], wanted, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5, err_msg=str(case))


def shares(scores, allowed):
    """The softmax of each row among what is allowed; nothing where nothing is."""
    e = np.where(allowed, np.exp(scores - scores.max(-1, keepdims=True)), 0)
    return e / np.where(e.any(-1, keepdims=True), e.sum(-1, keepdims=True), 1)


def heads_in_numpy(case):
    """Head by head."""
    p, layer, (query, value, *key) = case.params, case.layer, case.inputs
    project = lambda name, a: (
        np.einsum("btd,dhk->bhtk", a, p[name]["kernel"])
        + p[name].get("bias", np.zeros(1))[..., None, :]
    )
    q, k, v = project("query", query), project("key", [*key, value][0]), project("value", value)
    allowed = case.pairs()[:, None] & (True if case.allowed is None else spread(case.allowed))
    y = np.zeros((*q.shape[:3], v.shape[-1]))
    for h in range(q.shape[1]):
        group = h * k.shape[1] // q.shape[1]
        scores = q[:, h] @ k[:, group].swapaxes(1, 2) / math.sqrt(q.shape[-1])
        y[:, h] = shares(scores, allowed[:, h % allowed.shape[1]]) @ v[:, group]
    if layer.use_gate:
        y = y / (1 + np.exp(-project("gate", query)))
    last = p["attention_output"]
    return np.einsum("bhtv,hvd->btd", y, last["kernel"]) + last.get("bias", 0)


def spread(allowed):
    """A mask of scores as (batch or 1, heads or 1, queries, keys)."""
    return allowed[:, None] if allowed.ndim == 3 else allowed


def plain_in_numpy(case):
    p, layer, (query, value, key) = case.params, case.layer, case.inputs
    scale = p.get("scale", np.float32(1))
    pairs = query[:, :, None] + key[:, None]
    if isinstance(layer, L.AdditiveAttention):
        scores = (scale * np.tanh(pairs)).sum(-1)
    elif layer.score_mode == "concat":
        scores = p["concat_score_weight"] * np.tanh(scale * pairs).sum(-1)
    else:
        scores = scale * np.einsum("bqd,bkd->bqk", query, key)
    found = shares(scores, case.pairs())
    return [found @ value, *([found] if layer.return_attention_scores else [])]


def test_heads_equal_numpy():
    """With masks that may leave a query nothing to look at."""
    compare(heads(), lambda case: [heads_in_numpy(case)])


@pytest.mark.thorough  # test_attention.py has its options, and NumPy above all masks
def test_heads_equal_keras():
    compare(heads(keras=True))


@pytest.mark.slow
def test_heads_over_axes_equal_keras():
    compare(boxes(), draws=8)


def test_plain_attention_equals_numpy():
    compare(plain(), plain_in_numpy)


@pytest.mark.thorough  # as above
def test_plain_attention_equals_keras():
    compare(plain(keras=True))
