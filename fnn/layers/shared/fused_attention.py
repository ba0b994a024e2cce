"""Fused attention: cuDNN's kernel where it is required or faster, plain products elsewhere."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import Array, lax

from fnn.core.context import Context, combine_masks
from fnn.core.tree import Tree
from fnn.layers.shared.attending import AttentionLayer, attend, band_mask
from fnn.runtime.settings import settings

# All arrays q, k and v here are (batch, steps, heads, size).


def attend_fast(
    layer: AttentionLayer,
    q: Array,
    k: Array,
    v: Array,
    allowed: Array | None,
    ctx: Context,
    *,
    offset: Array | int,
    window: int | None,
    fused: bool | None,
) -> tuple[Array, Array | None]:
    """As `attend`, with causality and a window; the weights are None if they were not computed.

    `fused` requires cuDNN's kernel (True), rules it out (False) or uses it where it is faster.
    `offset` is the position of the first query among the keys.
    """
    causal = layer.use_causal_mask
    queries = q.shape[1]
    keys = k.shape[1]
    # Masks that the kernel has built in; as an array, they would be as large as the scores
    # that the kernel avoids.
    built_in = allowed is None and isinstance(offset, int)
    if causal and queries != keys:
        built_in = False
    if window is not None and not causal:
        built_in = False
    band = band_mask(queries, keys, offset, causal, window)
    allowed = combine_masks((allowed, band))
    run_fused = functools.partial(attend_fused, causal=causal, window=window)
    if fused:
        if built_in or allowed is None:
            return run_fused(q, k, v), None
        return attend_masked(q, k, v, allowed), None

    def attend_plain(
        q: Array,
        k: Array,
        v: Array,
    ) -> tuple[Array, Array]:
        # With a built-in mask, each step may attend to itself.
        return attend(layer, q, k, v, allowed, ctx, never_empty=built_in)

    needs_weights = layer.return_attention_scores or (ctx.train and layer.dropout)
    may_fuse = fused is None and built_in and not needs_weights
    if settings.flash_attention is False:
        may_fuse = False
    if may_fuse and has_fused_kernel(q, k, v):

        def outputs_alone(*arrays: Array) -> Array:
            return attend_plain(*arrays)[0]

        y = lax.platform_dependent(q, k, v, cuda=run_fused, default=outputs_alone)
        return y, None
    return attend_plain(q, k, v)


def attend_fused(
    q: Array,
    k: Array,
    v: Array,
    causal: bool = False,
    window: int | None = None,
) -> Array:
    """The outputs of `attend` by cuDNN's kernel, which does not keep the scores.

    Every key is allowed, or with `causal` those that are not later and in the window.
    """
    left_window = None
    if window is not None:
        left_window = window - 1

    def attend_once(
        q: Array,
        k: Array,
        v: Array,
    ) -> Array:
        return jax.nn.dot_product_attention(
            q,
            k,
            v,
            implementation="cudnn",
            is_causal=causal,
            local_window_size=left_window,
        )

    def gradients(
        q: Array,
        k: Array,
        v: Array,
        dy: Array,
    ) -> Tree:
        return jax.vjp(attend_once, q, k, v)[1](dy)

    # JAX cannot vmap the kernel where only some of the arrays have the mapped axis.
    forward = _vmap_as_batch(attend_once)
    backward = _vmap_as_batch(gradients)

    def forward_and_inputs(*arrays: Array) -> tuple[Array, tuple[Array, ...]]:
        return forward(*arrays), arrays

    def gradients_of(arrays: tuple[Array, ...], dy: Array) -> Tree:
        return backward(*arrays, dy)

    fused = jax.custom_vjp(forward)
    fused.defvjp(forward_and_inputs, gradients_of)
    y: Array = fused(q, k, v)
    return y


def _vmap_as_batch(function: Callable[..., Tree]) -> Callable[..., Tree]:
    """`function` of arrays (batch, ...), whose vmap puts the mapped axis into the batch."""
    mapped = jax.custom_batching.custom_vmap(function)

    @mapped.def_vmap
    def over_axis(
        size: int,
        is_mapped: Sequence[bool],
        *arrays: Array,
    ) -> tuple[Tree, Tree]:
        batches = []
        for a, has_axis in zip(arrays, is_mapped, strict=True):
            if not has_axis:
                a = jnp.broadcast_to(a[None], (size, *a.shape))
            batches.append(a.reshape(-1, *a.shape[2:]))  # (size * batch, ...)

        def split(a: Array) -> Array:  # (size * batch, ...) -> (size, batch, ...)
            return a.reshape(size, -1, *a.shape[1:])

        y = jax.tree.map(split, mapped(*batches))
        return y, jax.tree.map(lambda _: True, y)

    return mapped


def attend_masked(
    q: Array,
    k: Array,
    v: Array,
    allowed: Array,
) -> Array:
    """As `attend_fused` with any mask (batch or 1, heads or 1, queries, keys)."""
    y = jax.nn.dot_product_attention(q, k, v, mask=allowed, implementation="cudnn")
    # (batch or 1, heads or 1, queries) -> (batch or 1, queries, heads or 1, 1)
    not_empty = allowed.any(-1).swapaxes(1, 2)[..., None]
    return jnp.where(not_empty, y, 0)


def has_fused_kernel(
    q: Array,
    k: Array,
    v: Array,
) -> bool:
    """Whether cuDNN has a kernel for these arrays and every local GPU can run it."""

    def gradients(*arrays: Array) -> Tree:
        return jax.vjp(attend_fused, *arrays)[1](arrays[0])

    try:
        gpus = jax.local_devices(backend="cuda")
        jax.eval_shape(gradients, q, k, v)
    # JAX raises these without a GPU or cuDNN, and for sizes or dtypes without a kernel.
    except (RuntimeError, NotImplementedError, ValueError):
        return False
    # JAX does not check the compute capability.
    return all(float(gpu.compute_capability) >= 8 for gpu in gpus)
