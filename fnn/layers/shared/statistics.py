"""What normalization layers share: their weights, their axes, their precision."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from fnn.core import arguments
from fnn.core.context import Context
from fnn.core.layer import Params
from fnn.core.masking import combine_masks, leading


def gamma_beta(layer: Any, key: Array, shape: tuple[int, ...]) -> Params:
    """The weights `gamma` and `beta`, as far as the layer wants them."""
    names = [
        name for name, on in (("gamma", layer.scale), ("beta", layer.center)) if on
    ]
    return {name: layer.weight(name, key, shape) for name in names}


def real_entries(ctx: Context, ndim: int, axes: Iterable[int]) -> Array | None:
    """Which entries may enter a mean over `axes`, to spread over the inputs; None for all.

    A mask counts only where one of its own axes is among these: else nothing real meets padding.
    """
    known = (m for m in (ctx.rows, ctx.mask) if m is not None and min(axes) < m.ndim)
    return combine_masks([leading(mask.astype(bool), ndim) for mask in known])


def zeros_elsewhere(x: Array, real: Array | None) -> Array:
    """`x` where it is real, else 0: what stands there, NaN included, reaches no gradient."""
    return x if real is None else jnp.where(real, x, 0)


def mean(
    x: Array, axes: tuple[int, ...], real: Array | None, keepdims: bool = True
) -> Array:
    """The mean over `axes` of the real entries, where `x` is 0 elsewhere; 0 if none is real."""
    if real is None:
        return x.mean(axes, keepdims=keepdims)
    alike = math.prod(x.shape[axis] for axis in axes if real.shape[axis] == 1)
    count = real.sum(axes, keepdims=keepdims) * alike
    return x.sum(axes, keepdims=keepdims) / jnp.maximum(count, 1)


def center(
    x: Array, axes: tuple[int, ...], epsilon: float, real: Array | None
) -> tuple[Array, Array]:
    """(x - mean, 1 / sqrt(variance + epsilon)), both over `axes` and as `mean` has it.

    Centered once: var() would do so again, and a transformer feels it (a sixth of a step).
    """
    centered = zeros_elsewhere(x - mean(x, axes, real), real)
    return centered, lax.rsqrt(mean(jnp.square(centered), axes, real) + epsilon)


def standardize(
    x: Array, axes: tuple[int, ...], epsilon: float, real: Array | None
) -> Array:
    """(x - mean) / sqrt(variance + epsilon), both over `axes` and as `mean` has it."""
    if real is None:
        return _standardize(x, axes, epsilon)
    centered, factor = center(x, axes, epsilon, real)
    return centered * factor


@functools.partial(jax.custom_jvp, nondiff_argnums=(1, 2))
def _standardize(x: Array, axes: tuple[int, ...], epsilon: float) -> Array:
    centered, factor = center(x, axes, epsilon, None)
    return centered * factor


@_standardize.defjvp
def _slope(
    axes: Any, epsilon: float, primals: Any, tangents: Any
) -> tuple[Array, Array]:
    """The derivative by means of the result, with `factor` first, which its transpose has last.

    XLA fuses that well: a step of a transformer takes 267 ms of CPU time, 311 without this rule,
    366 with `factor` last (benchmarks/README.md has it as gpt).
    """
    (x,), (dx,) = primals, tangents
    centered, factor = center(x, axes, epsilon, None)
    y = centered * factor
    along = factor * dx
    return y, along - mean(along, axes, None) - y * mean(y * along, axes, None)


def scale_shift(
    y: Array, params: Params, axes: tuple[int, ...], scale: str = "gamma"
) -> Array:
    """y * gamma + beta, as far as there are such, their axes laid along `axes` of y."""
    shape = [n if axis in axes else 1 for axis, n in enumerate(y.shape)]
    if scale in params:
        y = y * params[scale].reshape(shape)
    return y + params["beta"].reshape(shape) if "beta" in params else y


def at_least_float32(x: Array) -> Array:
    """`x` in float32, or in its own dtype where that is wider."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def axes_of(layer: Any, x: Any) -> tuple[int, ...]:
    """The axes of the layer counted from the front, in their order in x."""
    arguments.minimum_rank(layer, x, 1, "(batch, ...)")
    given = layer.axis if isinstance(layer.axis, tuple) else (layer.axis,)
    ndim = len(x.shape)
    axes = tuple(sorted({axis % ndim for axis in given if -ndim <= axis < ndim}))
    if len(axes) != len(given):
        expected = (
            f"to be axes of the inputs, which have shape {tuple(x.shape)}, each once"
        )
        raise arguments.wrong(layer, "axis", expected, layer.axis)
    return axes


def check_axis_and_epsilon(layer: Any, several: bool = True) -> None:
    """Raises ValueError for a wrong axis or epsilon."""
    axes = layer.axis if several and isinstance(layer.axis, tuple) else (layer.axis,)
    if not axes or any(
        isinstance(axis, bool) or not isinstance(axis, int) for axis in axes
    ):
        expected = "to be an integer" + (" or a tuple of such" if several else "")
        raise arguments.wrong(layer, "axis", expected, layer.axis)
