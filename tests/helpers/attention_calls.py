"""Attention over inputs, masks and axes as they come: layers, what they are called on."""

import jax
import jax.numpy as jnp
import numpy as np

from fnn import layers as L
from fnn.core.calling import weight_spec
from fnn.core.context import attach_mask


def drawn(*shape, seed=0):
    return jax.device_put(np.random.default_rng(seed).normal(size=shape).astype("float32"))


def put(a, place, value):
    """A copy with this value in a place."""
    changed = np.array(a)
    changed[place] = value
    return changed


def close(received, expected, tolerance=1e-5):
    np.testing.assert_allclose(received, expected, rtol=tolerance, atol=tolerance)


def random_params(layer, x, scale=0.4):
    spec, draw = weight_spec(layer, x)[0], np.random.default_rng(3).normal
    return jax.tree.map(
        lambda a: jax.device_put((scale * draw(size=a.shape)).astype(a.dtype)), spec
    )


# The steps that are real. Every example has some: Keras takes a mean over the others if none is.
REAL_QUERIES = jnp.array([[True, True, True, False, False], [True, False, True, True, True]])
REAL_KEYS = jnp.array([[True, False, True], [True, True, False]])
ALLOWED = np.random.default_rng(7).random((2, 5, 3)) < 0.5
ALLOWED[..., 0] = True
SELF = drawn(2, 5, 6), drawn(2, 5, 6, seed=1)
CROSS = drawn(2, 5, 6), drawn(2, 3, 4, seed=1)
THREE = *CROSS, drawn(2, 3, 5, seed=2)


def with_masks(inputs, *masks):
    return tuple(attach_mask(a, m) for a, m in zip(inputs, masks, strict=True))


MASKED = with_masks(CROSS, REAL_QUERIES, REAL_KEYS)
OTHER_KEYS = jnp.array([[True, True, False], [True, False, True]])
ALL_MASKED = with_masks(THREE, REAL_QUERIES, REAL_KEYS, OTHER_KEYS)
BOX = drawn(2, 3, 4, 6)


def mha(*args, **options):
    return L.MultiHeadAttention(2, 3, *args, **options)


def gqa(*args, **options):
    return L.GroupedQueryAttention(3, 4, 2, *args, **options)


RELATIVES = {
    "cross": (mha(), CROSS),
    "key": (mha(), THREE),
    # with dropout, as Keras 3.15.1 has an error where value_dim differs and there is none
    "value_dim, output_shape": (mha(4, 0.5, output_shape=(2, 3)), CROSS),
    "no bias": (mha(use_bias=False), CROSS),
    "gate": (mha(4, 0.5, use_gate=True), CROSS),
    "scores": (mha(return_attention_scores=True), CROSS),
    "attention_mask": (mha(), (*THREE, jnp.asarray(ALLOWED))),
    "attention_mask of ints, no key": (mha(), (*CROSS, None, jnp.asarray(ALLOWED, "int32"))),
    "attention_mask by head": (mha(), (*CROSS, None, jnp.asarray(ALLOWED[:, None]))),
    "attention_mask of no batch": (mha(), (*CROSS, None, jnp.asarray(ALLOWED[0]))),
    "masks of three": (mha(), ALL_MASKED),
    "masks, scores": (mha(return_attention_scores=True), MASKED),
    "masks, attention_mask": (mha(), (*ALL_MASKED, jnp.asarray(ALLOWED))),
    "causal": (mha(use_causal_mask=True), SELF),
    "causal, scores": (mha(use_causal_mask=True, return_attention_scores=True), SELF),
    "causal, dropout": (mha(dropout=0.5, use_causal_mask=True), SELF),
    "causal, masks": (mha(use_causal_mask=True), MASKED),
    "causal, attention_mask": (
        mha(use_causal_mask=True),
        (*CROSS, None, jnp.asarray(ALLOWED)),
    ),
    "window": (mha(sliding_window=2), SELF),
    "causal window": (mha(sliding_window=2, use_causal_mask=True), SELF),
    "attention_axes": (mha(attention_axes=2), (BOX, BOX)),
    "attention_axes before others": (mha(attention_axes=(1,)), (BOX, np.asarray(BOX)[:, ::-1])),
    "attention_axes, scores": (mha(attention_axes=-2, return_attention_scores=True), (BOX, BOX)),
    "attention_axes, mask": (
        mha(attention_axes=2),
        (BOX, BOX, None, jnp.asarray(ALLOWED[:, :4].repeat(2, 2)[..., :4])),
    ),
    "all axes": (mha(), (BOX, np.asarray(BOX)[:, :2])),
    "all axes, scores": (mha(return_attention_scores=True), (BOX, np.asarray(BOX)[:, :2])),
    "grouped, key": (gqa(), THREE),
    "grouped, causal, gate": (gqa(use_gate=True, use_causal_mask=True), SELF),
    "grouped, causal window, masks": (gqa(sliding_window=4, use_causal_mask=True), MASKED),
    "grouped, masks, scores": (gqa(return_attention_scores=True, use_bias=False), ALL_MASKED),
    "grouped, attention_mask": (gqa(), (*CROSS, None, jnp.asarray(ALLOWED))),
    "grouped, one, dropout": (L.GroupedQueryAttention(3, 4, 1, dropout=0.5), SELF),
}
# Of masks and flags that test_attention_properties.py draws together, and compares with NumPy.
DRAWN_TOO = (
    *("key", "masks, scores", "causal", "causal, attention_mask", "grouped, key"),
    *("attention_axes, scores", "all axes, scores"),
)
