"""What layers over steps, images and volumes share: their axes, their checks, convolution, windows.

`layer` is one with the class variable `spatial`, its number of axes of positions, and, unless its
channels always come last, with a field `data_format`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import Array, lax

from fnn.core import arguments
from fnn.runtime.placement import on_each_device

DATA_FORMATS = (None, "channels_last", "channels_first")


def channel_axis(layer: Any) -> int:
    """Where the channels are: the last axis, or the first after the batch."""
    return 1 if getattr(layer, "data_format", None) == "channels_first" else -1


def spatial_axes(layer: Any) -> range:
    """The axes of positions, between batch and channels or after both."""
    first = 2 if channel_axis(layer) == 1 else 1
    return range(first, first + layer.spatial)


def numbers(layer: Any, *names: str) -> tuple[tuple[int, ...], ...]:
    """Each of these fields as one integer for each axis of positions."""
    values = [getattr(layer, name) for name in names]
    return tuple(v if isinstance(v, tuple) else (v,) * layer.spatial for v in values)


def check_inputs(
    layer: Any, x: Any, window: tuple[int, ...] = (), argument: str = "kernel_size"
) -> None:
    """Checks in `init` the number of axes, and that a window, set by `argument`, fits in once."""
    names = ", ".join(("depth", "height", "width")[-layer.spatial :])
    names = names if layer.spatial > 1 else "steps"
    first = channel_axis(layer) == 1
    layout = f"(batch, channels, {names})" if first else f"(batch, {names}, channels)"
    arguments.rank(layer, x, layer.spatial + 2, layout=layout)
    sizes = tuple(x.shape[axis] for axis in spatial_axes(layer))
    if any(size < need for size, need in zip(sizes, window, strict=False)):
        raise ValueError(
            f"{type(layer).__name__}: expected inputs of at least {window} positions, which one "
            f"window covers, received {sizes} in shape {tuple(x.shape)}; "
            f"use padding='same' or a smaller {argument}"
        )


def reach(kernel_size: tuple[int, ...], dilation: tuple[int, ...]) -> tuple[int, ...]:
    """How many positions a dilated kernel covers along each axis.

    >>> reach((3, 3), (1, 2))
    (3, 5)
    """
    return tuple((k - 1) * d + 1 for k, d in zip(kernel_size, dilation, strict=True))


def convolve(
    x: Array,
    kernel: Array,
    channels: int,
    *,
    strides: tuple[int, ...],
    padding: Any,
    dilation: tuple[int, ...] | None = None,
    spread: tuple[int, ...] | None = None,
    groups: int = 1,
    kernel_layout: str = "IO",
) -> Array:
    """`x`, its channels at that axis, convolved with `kernel (*window, in / groups, out)`.

    It computes in the wider of their dtypes. `spread` puts so many positions where there was one,
    with zeros between them; a kernel of layout "OI" is `(*window, out, in / groups)`.
    """
    axes = "DHW"[-len(strides) :]
    layout = f"NC{axes}" if channels == 1 else f"N{axes}C"
    dtype = jnp.result_type(x, kernel)
    run = lambda x: lax.conv_general_dilated(
        x.astype(dtype),
        kernel.astype(dtype),
        strides,
        padding,
        lhs_dilation=spread,
        rhs_dilation=dilation,
        dimension_numbers=(layout, f"{axes}{kernel_layout}", layout),
        feature_group_count=groups,
    )
    return run(x) if groups == 1 else on_each_device(run, x)


def lowest(x: Array) -> Any:
    """What no value of `x` is below."""
    floating = jnp.issubdtype(x.dtype, jnp.floating)
    return -jnp.inf if floating else jnp.iinfo(x.dtype).min


def reduce_axis(
    x: Array, axis: int, combine: Callable[..., Array], reduce: Any
) -> Array:
    """`x` reduced along an axis: of up to four, by `combine` on pairs, else by `reduce`.

    A few slices combined pairwise are twice as fast as a reduction, forward and backward.
    """
    size = x.shape[axis]
    if size > 4:
        return reduce(x, axis=axis)
    parts = [lax.index_in_dim(x, i, axis, keepdims=False) for i in range(size)]
    return functools.reduce(combine, parts)
