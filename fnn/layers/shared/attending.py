"""What attention layers share: folded axes, who may look at whom, the weighted mean."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from fnn.core import arguments
from fnn.core.context import Context
from fnn.core.layer import State
from fnn.core.masking import combine_masks, leading
from fnn.layers.shared.dropping import drop

Axes = tuple[int, ...]


def parts(x: Any) -> tuple[Any, Any, Any, Any]:
    """(query, value, key, attention_mask) of the inputs of an attention layer, or their masks.

    One array is query and value; without a key the values are the keys; the mask may be None.
    """
    given = list(x) if isinstance(x, (tuple, list)) else [x, x]
    query, value, key, mask = given + [None] * (4 - len(given))
    return query, value, value if key is None else key, mask


def blank_steps(x: Array, mask: Array | None) -> Array:
    """`x` with zeros in the masked steps: what stands there, NaN included, reaches no sum."""
    if mask is None:
        return x
    return jnp.where(leading(mask, x.ndim), x, 0)


def axes_of(layer: Any, ndim: int) -> tuple[int, ...]:
    """The axes of steps over which inputs of `ndim` axes attend, in their order."""
    given = layer.attention_axes or tuple(range(1, ndim - 1))
    axes = tuple(sorted({axis % ndim for axis in given if -ndim <= axis < ndim}))
    if len(axes) != len(given) or not set(axes) <= set(range(1, ndim - 1)):
        expected = f"to be some of the axes of steps, 1 to {ndim - 2}, each once"
        raise arguments.wrong(layer, "attention_axes", expected, layer.attention_axes)
    return axes


def fold(a: Array, axes: Axes, positions: int) -> Array:
    """(batch, *positions, ...) -> (batch and positions apart, positions in `axes`, ...).

    >>> fold(jnp.ones((2, 3, 4, 5)), (2,), positions=2).shape
    (6, 4, 5)
    """
    front = (0, *others(axes, positions))
    moved = a.transpose(*front, *axes, *range(positions + 1, a.ndim))
    apart, along = moved.shape[: len(front)], moved.shape[len(front) : positions + 1]
    return moved.reshape(math.prod(apart), math.prod(along), *a.shape[positions + 1 :])


def unfold(a: Array, shape: Axes, axes: Axes, positions: int) -> Array:
    """What `fold` undoes: back to `shape`, (batch, *positions, ...)."""
    order = (0, *others(axes, positions), *axes, *range(positions + 1, len(shape)))
    moved = a.reshape(tuple(shape[axis] for axis in order))
    return moved.transpose(tuple(order.index(axis) for axis in range(len(shape))))


def others(axes: Axes, positions: int) -> Axes:
    """The axes of positions over which there is no attention."""
    return tuple(axis for axis in range(1, positions + 1) if axis not in axes)


def score_shape(query: Axes, key: Axes, heads: int, axes: Axes, positions: int) -> Axes:
    """(batch, positions apart, heads, queries, keys), each as many axes as there are."""
    apart = (query[0], *(query[axis] for axis in others(axes, positions)))
    along = (shape[axis] for shape in (query, key) for axis in axes)
    return (*apart, heads, *along)


def full_mask(mask: Axes, axes: Axes, scores: Axes) -> Axes:
    """The shape of a mask of scores with as many axes as these: new ones stand before queries."""
    last = len(mask) - 2 * len(axes)
    return (
        *mask[: max(last, 0)],
        *(1,) * (len(scores) - len(mask)),
        *mask[max(last, 0) :],
    )


def fold_mask(mask: Array, axes: Axes, scores: Axes) -> Array:
    """A mask of scores as (batch and positions apart, heads or 1, queries, keys), of truths."""
    shape = full_mask(mask.shape, axes, scores)
    steps = len(scores) - 2 * len(axes)
    heads = shape[steps - 1]
    full = jnp.broadcast_to(
        mask.reshape(shape).astype(bool), (*scores[: steps - 1], heads, *scores[steps:])
    )
    queries, keys = scores[steps : steps + len(axes)], scores[steps + len(axes) :]
    return full.reshape(
        math.prod(scores[: steps - 1]), heads, math.prod(queries), math.prod(keys)
    )


def step_mask(
    mask: Array | None, like: Array, axes: tuple[int, ...], positions: int
) -> Any:
    """A mask (batch, time) for every position, folded as the values are."""
    if mask is None:
        return None
    shape = like.shape[: positions + 1]
    return fold(jnp.broadcast_to(leading(mask, len(shape)), shape), axes, positions)


def pair_mask(
    given: Any, masks: tuple[Any, Any], q: Array, k: Array, axes: Axes, scores: Axes
) -> Any:
    """Who may look at whom, by a mask of scores and by masks of the steps of queries and keys."""
    given = None if given is None else fold_mask(given, axes, scores)
    query, key = (
        step_mask(m, a, axes, a.ndim - 3) for m, a in zip(masks, (q, k), strict=True)
    )
    query = None if query is None else query[:, None, :, None]
    return combine_masks((given, query, None if key is None else key[:, None, None, :]))


def band_mask(
    queries: int, keys: int, offset: Any, causal: bool, window: int | None
) -> Any:
    """Which keys are not later (`causal`), and fewer than `window` steps away; None for all.

    `offset` is the place of the first query among the keys.
    """
    row, column = offset + jnp.arange(queries)[:, None], jnp.arange(keys)[None]
    near = None if window is None else abs(row - column) < window
    band = combine_masks((row >= column if causal else None, near))
    return None if band is None else band[None, None]


def shares_of(scores: Array, allowed: Array | None, somewhere: bool = False) -> Array:
    """The softmax over the last axis among what is allowed; zeros where nothing is.

    `somewhere` says that something is allowed to each: then the softmax has the zeros by itself.
    """
    if allowed is None:
        return jax.nn.softmax(scores)
    # The lowest finite number and not -inf: where nothing is allowed, the gradient is 0, not NaN.
    shares = jax.nn.softmax(jnp.where(allowed, scores, jnp.finfo(scores.dtype).min))
    return shares if somewhere else jnp.where(allowed, shares, 0)


def attend(
    layer: Any,
    q: Array,
    k: Array,
    v: Array,
    allowed: Array | None,
    ctx: Context,
    somewhere: bool = False,
) -> tuple[Array, Array]:
    """softmax(q k / sqrt(size)) v of (batch, steps, heads, size), and that softmax.

    `somewhere` is that of `shares_of`. By explicit products, grouped by heads of keys: on CPU (4
    heads of 32, 128 steps, forward and backward) `jax.nn.dot_product_attention` took 1.1 times as
    long.
    """
    (n, t, heads, size), (_, s, groups, _) = q.shape, k.shape
    exact = jnp.promote_types(q.dtype, jnp.float32)
    alone = heads == groups  # an axis of length 1 would cost XLA a copy of the scores
    several = heads // groups
    queries = (
        q if alone else q.reshape(n, t, groups, several, size)
    )  # (n, t, groups, several, d)
    pairs = "nthd,nshd->nhts" if alone else "ntgrd,nsgd->ngrts"
    scores = jnp.einsum(pairs, queries, k, preferred_element_type=exact)
    scores = scores.reshape(n, heads, t, s) / math.sqrt(size)
    shares = shares_of(scores, allowed, somewhere).astype(v.dtype)
    kept = drop(layer, shares, layer.dropout, ctx, "dropout")
    if alone:
        return jnp.einsum("nhts,nshe->nthe", kept, v), shares
    y = jnp.einsum("ngrts,nsge->ntgre", kept.reshape(n, groups, several, t, s), v)
    return y.reshape(n, t, heads, v.shape[-1]), shares


def attend_fused(
    q: Array, k: Array, v: Array, causal: bool = False, window: int | None = None
) -> Array:
    """The same by cuDNN's kernel, with no scores kept, where all or what is not later is allowed.

    A window goes with `causal`. JAX alone cannot vmap the kernel over some of the arrays.
    """
    band = {
        "is_causal": causal,
        "local_window_size": None if window is None else window - 1,
    }
    run = functools.partial(
        jax.nn.dot_product_attention, implementation="cudnn", **band
    )
    once = lambda q, k, v: run(q, k, v)
    forward = _with_axes_in_batch(once)
    backward = _with_axes_in_batch(lambda q, k, v, y: jax.vjp(once, q, k, v)[1](y))
    fused = jax.custom_vjp(forward)
    fused.defvjp(
        lambda *given: (forward(*given), given), lambda given, y: backward(*given, y)
    )
    return fused(q, k, v)


def _with_axes_in_batch(function: Callable[..., Any]) -> Any:
    """`function` of arrays (batch, ...) for which an axis of vmap is more of the batch."""
    mapped = jax.custom_batching.custom_vmap(function)

    @mapped.def_vmap
    def over_axis(size: int, batched: Any, *arrays: Array) -> Any:
        whole = (
            a if there else jnp.broadcast_to(a[None], (size, *a.shape))
            for a, there in zip(arrays, batched, strict=True)
        )
        y = mapped(*(a.reshape(-1, *a.shape[2:]) for a in whole))
        apart = jax.tree.map(lambda a: a.reshape(size, -1, *a.shape[1:]), y)
        return apart, jax.tree.map(lambda _: True, y)

    return mapped


def attend_masked(q: Array, k: Array, v: Array, allowed: Array) -> Array:
    """The same by cuDNN's kernel with any mask (batch or 1, heads or 1, queries, keys)."""
    y = jax.nn.dot_product_attention(q, k, v, mask=allowed, implementation="cudnn")
    return jnp.where(allowed.any(-1).swapaxes(1, 2)[..., None], y, 0)


def fusible(q: Array, k: Array, v: Array) -> bool:
    """Whether cuDNN has a kernel for these, and the GPUs here run it: JAX itself is asked."""
    gradients = lambda *arrays: jax.vjp(attend_fused, *arrays)[1](arrays[0])
    try:
        gpus = jax.local_devices(backend="cuda")
        jax.eval_shape(gradients, q, k, v)
    except (
        RuntimeError,
        NotImplementedError,
        ValueError,
    ):  # no GPU, no cuDNN; sizes; dtypes
        return False
    return all(
        float(gpu.compute_capability) >= 8 for gpu in gpus
    )  # JAX does not check this


def remember(state: State, k: Array, v: Array, real: Array | None) -> tuple[Any, ...]:
    """Puts new keys and values behind those seen: (all keys, all values, their mask, state)."""
    real = jnp.ones(k.shape[:2], bool) if real is None else real
    names = ("cached_key", "cached_value", "cached_mask")
    seen = {
        name: lax.dynamic_update_slice_in_dim(
            state[name], a.astype(state[name].dtype), state["index"], axis=1
        )
        for name, a in zip(names, (k, v, real), strict=True)
    }
    return *seen.values(), {**state, **seen, "index": state["index"] + k.shape[1]}


def check_inputs(layer: Any, query: Any, value: Any, key: Any, mask: Any) -> None:
    """Raises TypeError for a missing query or value, ValueError for shapes that do not fit."""
    arguments.every_input(layer, (query, value), ("query", "value"))
    shapes = [tuple(a.shape) for a in (query, value, key)]
    ndim = len(shapes[0])
    arguments.minimum_rank(layer, query, 3, "(batch, time, features)")
    axes = axes_of(layer, ndim)
    apart = [axis for axis in range(ndim - 1) if axis not in axes]
    fits = (
        len({len(shape) for shape in shapes}) == 1
        and shapes[1][:-1] == shapes[2][:-1]
        and all(shapes[0][axis] == shapes[1][axis] for axis in apart)
    )
    if not fits:
        raise ValueError(
            f"{type(layer).__name__}: expected query, value and key of one batch, and as many "
            f"values as keys, received shapes {shapes}; give them as (query, value, key)"
        )
    if mask is None:
        return
    scores = score_shape(shapes[0], shapes[1], layer.sizes[0], axes, ndim - 2)
    full = full_mask(tuple(mask.shape), axes, scores)
    if len(full) != len(scores) or any(
        m not in (1, n) for m, n in zip(full, scores, strict=False)
    ):
        raise ValueError(
            f"{type(layer).__name__}: expected an attention_mask that spreads over scores of shape "
            f"{scores}, received shape {tuple(mask.shape)}; give (batch, queries, keys)"
        )
