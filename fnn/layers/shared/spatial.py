"""Spatial: axes, input checks and convolution of layers over steps, images and volumes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import ClassVar, Protocol, TypeAlias

import jax.numpy as jnp
from jax import Array, lax

from fnn.core import arguments
from fnn.core.arithmetic import iinfo
from fnn.core.tree import SpecTree
from fnn.runtime.placement import on_each_device

Shape: TypeAlias = tuple[int, ...]
PerAxis: TypeAlias = int | tuple[int, ...]  # one for all axes, or one for each
Padding: TypeAlias = str | Sequence[tuple[int, int]]

DATA_FORMATS = (None, "channels_last", "channels_first")


class Spatial(Protocol):
    """A layer over positions: `spatial` is 1 for steps, 2 for images, 3 for volumes.

    Its channels come last unless it has a field `data_format` that says "channels_first".
    """

    spatial: ClassVar[int]


def channel_axis(layer: Spatial) -> int:
    """The axis of the channels: the last one, or the first one after the batch."""
    if getattr(layer, "data_format", None) == "channels_first":
        return 1
    return -1


def spatial_axes(layer: Spatial) -> range:
    """The axes of positions, between batch and channels or after both."""
    first = 1
    if channel_axis(layer) == 1:
        first = 2
    return range(first, first + layer.spatial)


def numbers(layer: Spatial, *names: str) -> tuple[Shape, ...]:
    """The values of these fields, each as one integer for each axis of positions."""
    values = []
    for name in names:
        value = getattr(layer, name)
        if not isinstance(value, tuple):
            value = (value,) * layer.spatial
        values.append(value)
    return tuple(values)


def check_inputs(
    layer: Spatial,
    x: SpecTree,
    window: Shape = (),
    argument: str = "kernel_size",
) -> None:
    """Checks in `init` that `x` has the right rank and is at least as large as a window.

    `argument` is the name of the field that sets the window, for the error message.
    """
    arguments.rank(layer, x, layer.spatial + 2, layout=_layout(layer))
    sizes = tuple(x.shape[axis] for axis in spatial_axes(layer))
    pairs = zip(sizes, window, strict=False)  # an empty window fits anywhere
    if any(size < need for size, need in pairs):
        raise ValueError(
            f"{type(layer).__name__}: expected inputs of at least {window} positions, the size of "
            f"one window, received {sizes} in shape {tuple(x.shape)}; "
            f"use padding='same' or a smaller {argument}"
        )


def _layout(layer: Spatial) -> str:
    """The names of the axes of the inputs, for error messages."""
    positions = "steps"
    if layer.spatial > 1:
        names = ("depth", "height", "width")
        positions = ", ".join(names[-layer.spatial :])
    if channel_axis(layer) == 1:
        return f"(batch, channels, {positions})"
    return f"(batch, {positions}, channels)"


def reach(kernel_size: Shape, dilation: Shape) -> Shape:
    """How many positions a dilated kernel covers along each axis.

    >>> reach((3, 3), (1, 2))
    (3, 5)
    """
    sizes = zip(kernel_size, dilation, strict=True)
    return tuple((k - 1) * d + 1 for k, d in sizes)


def convolve(
    x: Array,
    kernel: Array,
    channels: int,
    *,
    strides: Shape,
    padding: Padding,
    dilation: Shape | None = None,
    spread: Shape | None = None,
    groups: int = 1,
    kernel_layout: str = "IO",
) -> Array:
    """`x` convolved with `kernel (*window, in / groups, out)`, in the wider of their dtypes.

    `channels` is the axis of the channels of `x`. `spread` is the distance between neighboring
    inputs, with zeros between them (a transposed convolution). A kernel of layout "OI" is
    `(*window, out, in / groups)`.
    """
    # The layouts of XLA: N is the batch, C the channels, I and O the kernel's inputs and outputs.
    positions = "DHW"[-len(strides) :]
    layout = f"N{positions}C"
    if channels == 1:
        layout = f"NC{positions}"
    dtype = jnp.result_type(x, kernel)

    def run(x: Array) -> Array:
        return lax.conv_general_dilated(
            x.astype(dtype),
            kernel.astype(dtype),
            strides,
            padding,
            lhs_dilation=spread,
            rhs_dilation=dilation,
            dimension_numbers=(layout, f"{positions}{kernel_layout}", layout),
            feature_group_count=groups,
        )

    # (batch, *positions, in) -> (batch, *new positions, out)
    if groups == 1:
        return run(x)
    return on_each_device(run, x)


def lowest(x: Array) -> float | int:
    """The smallest value of the dtype of `x`."""
    if jnp.issubdtype(x.dtype, jnp.floating):
        return -jnp.inf
    return iinfo(x.dtype).min


def reduce_axis(
    x: Array,
    axis: int,
    combine: Callable[[Array, Array], Array],
    reduce: Callable[..., Array],
) -> Array:
    """`x` reduced along `axis`: up to four entries pairwise by `combine`, more by `reduce`."""
    size = x.shape[axis]
    if size > 4:
        return reduce(x, axis=axis)
    # A few slices combined in pairs are twice as fast as a reduction, forward and backward.
    parts = [lax.index_in_dim(x, i, axis, keepdims=False) for i in range(size)]
    return functools.reduce(combine, parts)
