"""Segments, largest elements, distances, complex numbers and rearranged axes."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array, lax

from fnn.core.tree import Tree


def _segments(function: Callable[..., Array], title: str) -> Callable[..., Array]:
    """The function of segments: its name, its checks, its docstring."""
    name = function.__name__

    def of_segments(
        data: Array,
        segment_ids: Array,
        num_segments: int | None = None,
        sorted: bool = False,
    ) -> Array:
        if segment_ids.ndim != 1 or segment_ids.shape != data.shape[:1]:
            raise ValueError(
                f"{name}: expected segment_ids of one axis, as long as the first of data, "
                f"received shapes {segment_ids.shape} and {data.shape}"
            )
        if num_segments is None:
            raise ValueError(
                f"{name}: expected num_segments, which JAX needs, received None; "
                "e.g. the number of groups"
            )
        return function(data, segment_ids, num_segments, indices_are_sorted=sorted)

    of_segments.__doc__ = (
        f"{title} of the elements of each segment along the first axis."
    )
    return of_segments


segment_sum = _segments(jax.ops.segment_sum, "The sum")
segment_max = _segments(jax.ops.segment_max, "The largest")
segment_min = _segments(jax.ops.segment_min, "The smallest")
segment_prod = _segments(jax.ops.segment_prod, "The product")


def top_k(
    x: Array,
    k: int,
    sorted: bool = True,
) -> tuple[Array, Array]:
    """The largest elements along the last axis, and where they stand."""
    values, places = lax.top_k(x, k)
    return values, places


def in_top_k(
    targets: Array,
    predictions: Array,
    k: int,
) -> Array:
    """Whether the predictions of the target classes are among the k largest."""
    own = jnp.take_along_axis(predictions, targets[..., None], axis=-1)
    own = jnp.where(jnp.isnan(own), -jnp.inf, own)
    return jnp.sum(predictions > own, axis=-1) < k


def cdist(x: Array, y: Array) -> Array:
    """Distances between all pairs of rows.   (..., n, d), (..., m, d) -> (..., n, m)"""
    if min(x.ndim, y.ndim) < 2 or x.shape[-1] != y.shape[-1]:
        raise ValueError(
            "cdist: expected arrays of two axes or more with equally many columns, received "
            f"shapes {x.shape} and {y.shape}"
        )
    x = x[..., :, None, :]  # (..., n, 1, d)
    y = y[..., None, :, :]  # (..., 1, m, d)
    difference = x - y  # (..., n, m, d)
    return jnp.sqrt(jnp.sum(difference * difference, axis=-1))


def logdet(x: Array) -> Array:
    """The logarithm of the absolute determinant of matrices."""
    result: Array = jnp.linalg.slogdet(x)[1]
    return result


def view_as_complex(x: Array) -> Array:
    """Complex numbers of their real and imaginary parts in the last axis."""
    if not x.ndim or x.shape[-1] != 2:
        raise ValueError(
            f"view_as_complex: expected a last axis of size 2, received shape {x.shape}"
        )
    real = x[..., 0].astype("complex64")
    imaginary = x[..., 1].astype("complex64")
    return real + 1j * imaginary


def view_as_real(x: Array) -> Array:
    """The real and imaginary parts of numbers, in a new last axis."""
    parts = [jnp.real(x), jnp.imag(x)]
    return jnp.stack(parts, axis=-1)


def _groups(pattern: str) -> list[list[str]]:
    """ "b (h w) c" -> [["b"], ["h", "w"], ["c"]]"""
    parts = re.findall(r"\([^)]*\)|\w+", pattern)
    return [re.findall(r"\w+", part) for part in parts]


def rearrange(
    tensor: Tree,
    pattern: str,
    **axes_lengths: int,
) -> Array:
    """Axes in another order, split and joined, as a pattern like "b h w c -> b (h w) c" says."""
    tensor = jnp.asarray(tensor)
    before, arrow, after = pattern.partition("->")
    given, wanted = _groups(before), _groups(after)
    if not arrow or len(given) != tensor.ndim:
        raise ValueError(
            f"rearrange: expected a pattern 'axes -> axes' with {tensor.ndim} axes in front, "
            f"received {pattern!r} for shape {tensor.shape}"
        )
    sizes = dict(axes_lengths)
    for names, size in zip(given, tensor.shape, strict=True):
        unknown = [name for name in names if name not in sizes]
        if unknown:
            known = math.prod(sizes[name] for name in names if name in sizes)
            sizes[unknown[0]] = size // known
    flat = [name for names in given for name in names]
    order = [flat.index(name) for names in wanted for name in names]
    tensor = tensor.reshape([sizes[name] for name in flat])
    tensor = tensor.transpose(order)
    shape = [math.prod(sizes[name] for name in names) for names in wanted]
    result: Array = tensor.reshape(shape)
    return result
