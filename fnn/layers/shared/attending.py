"""Attending, for all attention layers: inputs, folded axes, masks, the weighted mean, the cache."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax import Array, lax

from fnn.core import arguments
from fnn.core.context import Context, combine_masks, leading
from fnn.core.layer import Layer, State
from fnn.core.tree import SpecTree, Tree
from fnn.layers.shared.dropping import drop
from fnn.layers.shared.products import product
from fnn.runtime.arithmetic import exactly, finfo

Shape: TypeAlias = tuple[int, ...]
Axes: TypeAlias = tuple[int, ...]


class AttentionLayer(Layer, loadable=False):
    """The base class of attention layers: the fields that each of them declares."""

    masking = "use"
    mixes_features = True
    call_fields = ("use_causal_mask", "return_attention_scores")

    # Fields that the subclasses declare. Annotations here would make them fields of this
    # class, and the first arguments of every constructor.
    if TYPE_CHECKING:

        @property
        def dropout(self) -> float: ...

        @property
        def attention_axes(self) -> int | Axes | None: ...

        @property
        def use_causal_mask(self) -> bool: ...

        @property
        def return_attention_scores(self) -> bool: ...


class Inputs(NamedTuple):
    """The inputs of an attention layer, their shapes, or their masks."""

    query: Tree
    value: Tree
    key: Tree
    attention_mask: Tree


def split_inputs(x: Tree) -> Inputs:
    """The inputs by name; the mask may be None.

    A single array is both query and value. Without a key, the values are the keys.
    """
    given = [x, x]
    if isinstance(x, (tuple, list)):
        given = list(x)
    missing = [None] * (4 - len(given))
    query, value, key, mask = given + missing
    if key is None:
        key = value
    return Inputs(query, value, key, mask)


def zero_masked_steps(x: Array, mask: Array | None) -> Array:
    """`x` with zeros in its masked steps, so that no value there, not even NaN, enters a sum."""
    if mask is None:
        return x
    return jnp.where(leading(mask, x.ndim), x, 0)


def step_axes(layer: AttentionLayer, ndim: int) -> Axes:
    """The sorted axes of steps over which inputs of `ndim` axes attend."""
    steps = range(1, ndim - 1)
    given = layer.attention_axes or tuple(steps)
    if isinstance(given, int):
        given = (given,)
    known = {axis % ndim for axis in given if -ndim <= axis < ndim}
    axes = tuple(sorted(known))
    if len(axes) != len(given) or not known <= set(steps):
        expected = f"to be distinct axes of steps, from 1 to {ndim - 2}"
        raise arguments.wrong(layer, "attention_axes", expected, layer.attention_axes)
    return axes


# In the functions below, `positions` is the number of axes between batch and features.
# Attention runs over those in `axes`; the other ones act like the batch. `fold` merges them
# with the batch, and the attended ones into a single axis.


def fold(
    a: Array,
    axes: Axes,
    positions: int,
) -> Array:
    """(batch, *positions, ...) -> (batch * other positions, positions in `axes`, ...).

    >>> fold(jnp.ones((2, 3, 4, 5)), (2,), positions=2).shape
    (6, 4, 5)
    """
    front = (0, *other_axes(axes, positions))
    # (batch, *other positions, *attended positions, ...)
    back = range(positions + 1, a.ndim)
    moved = a.transpose(*front, *axes, *back)
    batch = math.prod(moved.shape[: len(front)])
    steps = math.prod(moved.shape[len(front) : positions + 1])
    # (batch * other positions, steps, ...)
    return moved.reshape(batch, steps, *a.shape[positions + 1 :])


def unfold(
    a: Array,
    shape: Shape,
    axes: Axes,
    positions: int,
) -> Array:
    """The inverse of `fold`: back to `shape`, (batch, *positions, ...)."""
    trailing = range(positions + 1, len(shape))
    order = (0, *other_axes(axes, positions), *axes, *trailing)
    # (batch, *other positions, *attended positions, ...)
    moved = a.reshape(tuple(shape[axis] for axis in order))
    inverse = [order.index(axis) for axis in range(len(shape))]
    return moved.transpose(inverse)  # (batch, *positions, ...)


def other_axes(axes: Axes, positions: int) -> Axes:
    """The axes of positions over which there is no attention."""
    return tuple(axis for axis in range(1, positions + 1) if axis not in axes)


def score_shape(
    query: Shape,
    key: Shape,
    heads: int,
    axes: Axes,
    positions: int,
) -> Shape:
    """(batch, *other positions, heads, *queries, *keys)."""
    other = [query[axis] for axis in other_axes(axes, positions)]
    queries = (query[axis] for axis in axes)
    keys = (key[axis] for axis in axes)
    return (query[0], *other, heads, *queries, *keys)


def full_mask_shape(
    mask: Shape,
    axes: Axes,
    scores: Shape,
) -> Shape:
    """The shape `mask` with as many axes as `scores`: new ones of length 1 before the queries."""
    first_query = max(len(mask) - 2 * len(axes), 0)
    new = (1,) * (len(scores) - len(mask))
    return (*mask[:first_query], *new, *mask[first_query:])


def fold_mask(
    mask: Array,
    axes: Axes,
    scores: Shape,
) -> Array:
    """A mask of scores as booleans (batch * other positions, heads or 1, queries, keys)."""
    shape = full_mask_shape(mask.shape, axes, scores)
    first_query = len(scores) - 2 * len(axes)
    first_key = first_query + len(axes)
    batch = scores[: first_query - 1]
    heads = shape[first_query - 1]  # 1 where the mask is the same for all heads
    # (batch, *other positions, heads or 1, *queries, *keys)
    full = mask.reshape(shape).astype(bool)
    full_shape = (*batch, heads, *scores[first_query:])
    full = jnp.broadcast_to(full, full_shape)
    queries = math.prod(scores[first_query:first_key])
    keys = math.prod(scores[first_key:])
    return full.reshape(math.prod(batch), heads, queries, keys)


def fold_step_mask(
    mask: Array | None,
    like: Array,
    axes: Axes,
    positions: int,
) -> Array | None:
    """A mask (batch, time), for every position of `like` and folded as its values are."""
    if mask is None:
        return None
    shape = like.shape[: positions + 1]
    mask = jnp.broadcast_to(leading(mask, len(shape)), shape)  # (batch, *positions)
    return fold(mask, axes, positions)  # (batch * other positions, steps)


def pair_mask(
    given: Array | None,
    query_mask: Array | None,
    key_mask: Array | None,
    q: Array,
    k: Array,
    axes: Axes,
) -> Array | None:
    """Which query may attend to which key, (batch, heads or 1, queries, keys), folded.

    It combines a mask of scores with the step masks of queries and keys. `q` and `k` are
    (batch, *positions, heads, size).
    """
    positions = q.ndim - 3
    if given is not None:
        heads = q.shape[-2]
        scores = score_shape(q.shape, k.shape, heads, axes, positions)
        given = fold_mask(given, axes, scores)
    query_mask = fold_step_mask(query_mask, q, axes, positions)
    key_mask = fold_step_mask(key_mask, k, axes, positions)
    if query_mask is not None:
        query_mask = query_mask[:, None, :, None]  # (batch, 1, queries, 1)
    if key_mask is not None:
        key_mask = key_mask[:, None, None, :]  # (batch, 1, 1, keys)
    return combine_masks((given, query_mask, key_mask))


def band_mask(
    queries: int,
    keys: int,
    offset: Array | int,
    causal: bool,
    window: int | None,
) -> Array | None:
    """True for keys that are not later (`causal`) and fewer than `window` steps away.

    (1, 1, queries, keys), or None if every key is allowed. `offset` is the position of the
    first query among the keys.
    """
    row = offset + jnp.arange(queries)[:, None]  # (queries, 1)
    column = jnp.arange(keys)[None]  # (1, keys)
    near = not_later = None
    if window is not None:
        near = abs(row - column) < window  # (queries, keys)
    if causal:
        not_later = row >= column  # (queries, keys)
    band = combine_masks((not_later, near))
    if band is None:
        return None
    return band[None, None]


def attention_weights(
    scores: Array,
    allowed: Array | None,
    never_empty: bool = False,
) -> Array:
    """The softmax of the scores of the allowed keys, the last axis; zeros for the others.

    A query that is allowed no key gets zeros. `never_empty` says that there is no such query:
    the softmax then has the zeros by itself.
    """
    if allowed is None:
        return exactly(jax.nn.softmax, scores)
    # The lowest finite number rather than -inf: a query without any allowed key then has a
    # gradient of 0, not NaN.
    lowest = finfo(scores.dtype).min
    weights = exactly(jax.nn.softmax, jnp.where(allowed, scores, lowest))
    if never_empty:
        return weights
    return jnp.where(allowed, weights, 0)


def attend(
    layer: AttentionLayer,
    q: Array,
    k: Array,
    v: Array,
    allowed: Array | None,
    ctx: Context,
    never_empty: bool = False,
) -> tuple[Array, Array]:
    """softmax(q k / sqrt(size)) v and that softmax, of arrays (batch, steps, heads, size).

    Queries may have more heads than keys and values (grouped-query attention).
    `never_empty` is passed on to `attention_weights`.
    """
    n, t, heads, size = q.shape
    _, s, groups, _ = k.shape
    # Explicit products: on CPU (4 heads of 32, 128 steps, forward and backward),
    # `jax.nn.dot_product_attention` took 1.1 times as long.
    grouped = heads != groups
    if grouped:
        per_group = heads // groups
        q = q.reshape(n, t, groups, per_group, size)
        # (batch, groups, heads of a group, queries, keys)
        scores = product("ntgrd,nsgd->ngrts", q, k)
    else:  # no group axis of length 1: it would cost XLA a copy of the scores
        # (batch, heads, queries, keys)
        scores = product("nthd,nshd->nhts", q, k)
    # (batch, heads, queries, keys)
    scores = scores.reshape(n, heads, t, s) / math.sqrt(size)
    weights = attention_weights(scores, allowed, never_empty).astype(v.dtype)
    dropped = drop(layer, weights, layer.dropout, ctx, "dropout")
    if not grouped:
        # (batch, queries, heads, value size)
        return jnp.einsum("nhts,nshe->nthe", dropped, v), weights
    # (batch, groups, heads of a group, queries, keys)
    dropped = dropped.reshape(n, groups, per_group, t, s)
    # (batch, queries, groups, heads of a group, value size)
    y = jnp.einsum("ngrts,nsge->ntgre", dropped, v)
    # (batch, queries, heads, value size)
    return y.reshape(n, t, heads, v.shape[-1]), weights


def append_to_cache(
    state: State,
    k: Array,
    v: Array,
    mask: Array | None,
) -> tuple[Array, Array, Array, State]:
    """Writes new keys and values behind the cached ones: (all keys, all values, mask, state)."""
    if mask is None:
        mask = jnp.ones(k.shape[:2], bool)
    cached = {}
    new_steps = {"cached_key": k, "cached_value": v, "cached_mask": mask}
    for name, new in new_steps.items():
        old = state[name]  # (batch, length, ...)
        cached[name] = lax.dynamic_update_slice_in_dim(
            old, new.astype(old.dtype), state["index"], axis=1
        )
    index = state["index"] + k.shape[1]
    state = {**state, **cached, "index": index}
    return state["cached_key"], state["cached_value"], state["cached_mask"], state


def check_query_and_value(layer: AttentionLayer, x: SpecTree) -> None:
    """Raises TypeError for a missing query or value."""
    query, value, _, _ = split_inputs(x)
    arguments.every_input(layer, (query, value), ("query", "value"))


def check_shapes(layer: AttentionLayer, x: SpecTree) -> None:
    """Raises ValueError for query, value, key and mask of shapes that do not fit together."""
    query, value, key, mask = split_inputs(x)
    arguments.rank(layer, query, "(batch, time, ..., features)")
    shapes = [tuple(a.shape) for a in (query, value, key)]
    axes = step_axes(layer, len(shapes[0]))
    if not _fit_together(axes, *shapes):
        raise ValueError(
            f"{type(layer).__name__}: expected query, value and key of one batch, and as many "
            f"values as keys, received shapes {shapes}; pass them as (query, value, key)"
        )
    if mask is not None:
        positions = len(shapes[0]) - 2
        heads, *_ = getattr(layer, "sizes", (1,))
        scores = score_shape(shapes[0], shapes[1], heads, axes, positions)
        _check_attention_mask(layer, tuple(mask.shape), axes, scores)


def _fit_together(
    axes: Axes,
    query: Shape,
    value: Shape,
    key: Shape,
) -> bool:
    """Whether the shapes agree on everything but the number of queries and the features."""
    if not len(query) == len(value) == len(key):
        return False
    if value[:-1] != key[:-1]:
        return False
    batch = set(range(len(query) - 1)).difference(axes)
    return all(query[axis] == value[axis] for axis in batch)


def _check_attention_mask(
    layer: AttentionLayer,
    mask: Shape,
    axes: Axes,
    scores: Shape,
) -> None:
    """Raises ValueError unless a mask of this shape broadcasts to the scores."""
    full = full_mask_shape(mask, axes, scores)
    pairs = zip(full, scores, strict=False)
    broadcasts = all(size in (1, wanted) for size, wanted in pairs)
    if len(full) != len(scores) or not broadcasts:
        raise ValueError(
            f"{type(layer).__name__}: expected an attention_mask that broadcasts to scores of "
            f"shape {scores}, received shape {mask}; pass (batch, queries, keys)"
        )
