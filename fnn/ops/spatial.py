"""Spatial: convolution, patches and blocks of images, for `fnn.ops.nn` and `fnn.ops.image`."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array, lax

from fnn.core.tree import Tree
from fnn.runtime.settings import settings

Sizes = int | tuple[int, ...]
LAST, FIRST = "channels_last", "channels_first"


def is_last(data_format: str | None) -> bool:
    """Whether channels are the last axis. Raises ValueError for an unknown format."""
    if data_format not in (LAST, FIRST, None):
        raise ValueError(
            f"expected data_format to be '{LAST}' or '{FIRST}', received {data_format!r}"
        )
    return (data_format or settings.image_data_format) != FIRST


def per_axis(sizes: Sizes, count: int) -> tuple[int, ...]:
    """One number for each of `count` axes."""
    if isinstance(sizes, int):
        return (sizes,) * count
    return tuple(sizes)


def to_channels_last(batch: Array, data_format: str | None) -> Array:
    """The batch with its channels in the last axis.   -> (batch, *space, channels)"""
    if is_last(data_format):
        return batch
    return jnp.moveaxis(batch, 1, -1)


def from_channels_last(batch: Array, data_format: str | None) -> Array:
    """The batch with its channels where the format has them."""
    if is_last(data_format):
        return batch
    return jnp.moveaxis(batch, -1, 1)


def _channels(inputs: Array, channels_last: bool) -> int:
    if channels_last:
        return inputs.shape[-1]
    return inputs.shape[1]


def padding_name(padding: str) -> str:
    """The name of a padding in upper case, as XLA has it. Raises ValueError for others."""
    if padding.lower() not in ("valid", "same"):
        raise ValueError(
            f"expected padding to be 'valid' or 'same', received {padding!r}"
        )
    return padding.upper()


def _dimensions(count: int, channels_last: bool) -> lax.ConvDimensionNumbers:
    """Where the batch, the channels and space stand; kernels are `(*space, in, out)`."""
    space = tuple(range(count))
    if channels_last:
        inputs = (0, count + 1, *(axis + 1 for axis in space))
    else:
        inputs = (0, 1, *(axis + 2 for axis in space))
    return lax.ConvDimensionNumbers(inputs, (count + 1, count, *space), inputs)


def conv(
    inputs: Array,
    kernel: Array,
    strides: Sizes = 1,
    padding: str = "valid",
    data_format: str | None = None,
    dilation_rate: Sizes = 1,
) -> Array:
    """Convolution over 1, 2 or 3 axes of space, in groups if the kernel has fewer inputs."""
    count, last = inputs.ndim - 2, is_last(data_format)
    channels, wanted = _channels(inputs, last), kernel.shape[-2]
    if channels % wanted:
        raise ValueError(
            f"conv: expected channels that {wanted} divides, the inputs of the kernel, "
            f"received {channels}; use a kernel of shape (*sizes, {channels}, outputs)"
        )
    y = lax.conv_general_dilated(
        inputs.astype(kernel.dtype),
        kernel,
        per_axis(strides, count),
        padding_name(padding),
        rhs_dilation=per_axis(dilation_rate, count),
        dimension_numbers=_dimensions(count, last),
        feature_group_count=channels // wanted,
    )
    if 0 in y.shape and 0 not in inputs.shape:
        raise ValueError(
            f"conv: expected inputs as large as the kernel, received shape {inputs.shape} "
            f"for a kernel of shape {kernel.shape}; use padding='same'"
        )
    return y


def _check_channels(
    name: str,
    inputs: Array,
    wanted: int,
    last: bool,
) -> int:
    channels = _channels(inputs, last)
    if channels != wanted:
        raise ValueError(
            f"{name}: expected inputs of {wanted} channels, as the kernel has, received "
            f"{channels} in shape {inputs.shape}; change the kernel or data_format"
        )
    return channels


def depthwise_conv(
    inputs: Array,
    kernel: Array,
    strides: Sizes = 1,
    padding: str = "valid",
    data_format: str | None = None,
    dilation_rate: Sizes = 1,
) -> Array:
    """Convolution of each channel by itself; the kernel is `(*sizes, channels, multiplier)`."""
    count, last = inputs.ndim - 2, is_last(data_format)
    channels = _check_channels("depthwise_conv", inputs, kernel.shape[-2], last)
    # (*sizes, channels, multiplier) -> (*sizes, 1, channels * multiplier)
    kernel = kernel.reshape(*kernel.shape[:-2], 1, -1)
    return lax.conv_general_dilated(
        inputs,
        kernel,
        per_axis(strides, count),
        padding_name(padding),
        rhs_dilation=per_axis(dilation_rate, count),
        dimension_numbers=_dimensions(count, last),
        feature_group_count=channels,
    )


def separable_conv(
    inputs: Array,
    depthwise_kernel: Array,
    pointwise_kernel: Array,
    strides: Sizes = 1,
    padding: str = "valid",
    data_format: str | None = None,
    dilation_rate: Sizes = 1,
) -> Array:
    """Convolution of each channel by itself, then of each place by itself."""
    y = depthwise_conv(
        inputs, depthwise_kernel, strides, padding, data_format, dilation_rate
    )
    return conv(y, pointwise_kernel, 1, "valid", data_format, dilation_rate)


def _transposed_padding(
    size: int,
    stride: int,
    padding: str,
    output_padding: int | None,
) -> tuple[int, int]:
    """What is added in front of and behind an axis between the strided elements."""
    if padding == "VALID":
        extra = output_padding
        if extra is None:
            extra = max(stride - size, 0)
        return size - 1, size - 1 + extra
    total = stride + size - 2
    if output_padding is not None:
        total = size + size % 2 - 2 + output_padding
    front = min(total - total // 2, size - 1)
    return front, total - front


def conv_transpose(
    inputs: Array,
    kernel: Array,
    strides: Sizes = 1,
    padding: str = "valid",
    output_padding: Sizes | None = None,
    data_format: str | None = None,
    dilation_rate: Sizes = 1,
) -> Array:
    """The transpose of a convolution; the kernel is `(*sizes, outputs, inputs)`."""
    count, last = inputs.ndim - 2, is_last(data_format)
    _check_channels("conv_transpose", inputs, kernel.shape[-1], last)
    steps, rates = per_axis(strides, count), per_axis(dilation_rate, count)
    extra: Tree = (None,) * count
    if output_padding is not None:
        extra = per_axis(output_padding, count)
    windows = zip(kernel.shape, rates, strict=False)
    sizes = [(n - 1) * rate + 1 for n, rate in windows]
    pads = [
        _transposed_padding(size, step, padding_name(padding), more)
        for size, step, more in zip(sizes, steps, extra, strict=True)
    ]
    return lax.conv_transpose(
        inputs,
        kernel,
        steps,
        pads,
        rhs_dilation=rates,
        dimension_numbers=_dimensions(count, last),
        transpose_kernel=True,
    )


def unfold(
    x: Array,
    kernel_size: Sizes,
    dilation: Sizes = 1,
    padding: Sizes = 0,
    stride: Sizes = 1,
) -> Array:
    """Patches of images (batch, channels, height, width), one in each column."""
    if x.ndim != 4:
        raise ValueError(f"unfold: expected an array of four axes, received {x.shape}")
    rows, columns = per_axis(padding, 2)
    pads = [(0, 0), (0, 0), (rows, rows), (columns, columns)]
    # (batch, channels * size, rows, columns)
    patches = lax.conv_general_dilated_patches(
        jnp.pad(x, pads),
        per_axis(kernel_size, 2),
        per_axis(stride, 2),
        "VALID",
        rhs_dilation=per_axis(dilation, 2),
        dimension_numbers=("NCHW", "OIHW", "NCHW"),
    )
    return patches.reshape(*patches.shape[:2], -1)


def fold(
    x: Array,
    output_size: Sizes,
    kernel_size: Sizes,
    dilation: Sizes = 1,
    padding: Sizes = 0,
    stride: Sizes = 1,
) -> Array:
    """Images from their patches, the opposite of `unfold`: overlapping elements add up."""
    if x.ndim != 3:
        raise ValueError(f"fold: expected an array of three axes, received {x.shape}")
    sizes, window = per_axis(output_size, 2), per_axis(kernel_size, 2)
    rates = per_axis(dilation, 2)
    pads = per_axis(padding, 2)
    steps = per_axis(stride, 2)
    counts = [
        (size + 2 * pad - rate * (n - 1) - 1) // step + 1
        for size, pad, rate, n, step in zip(
            sizes, pads, rates, window, steps, strict=True
        )
    ]
    batch, features, _ = x.shape
    y = x.reshape(batch, features, *counts)
    # (features, channels, height, width) -> (height, width, features, channels)
    kernel = jnp.eye(features, dtype=x.dtype)
    kernel = kernel.reshape(features, -1, *window)
    kernel = kernel.transpose(2, 3, 0, 1)
    kernel = jnp.flip(kernel, axis=(0, 1))
    y = lax.conv_transpose(
        y,
        kernel,
        steps,
        "VALID",
        rhs_dilation=rates,
        dimension_numbers=("NCHW", "HWIO", "NCHW"),
    )
    top, left = pads
    bottom = top + sizes[0]
    right = left + sizes[1]
    return y[:, :, top:bottom, left:right]


def _check_block(name: str, block_size: int) -> None:
    if block_size < 2:
        raise ValueError(
            f"{name}: expected block_size of 2 or more, received {block_size}"
        )


def depth_to_space(
    x: Array,
    block_size: int,
    data_format: str = LAST,
) -> Array:
    """Move channels into blocks of space: (h, w, n * n * c) -> (n * h, n * w, c)."""
    _check_block("depth_to_space", block_size)
    n = block_size
    if is_last(data_format):
        batch, height, width, channels = x.shape
        y = x.reshape(batch, height, width, n, n, -1)
        y = y.transpose(0, 1, 3, 2, 4, 5)
        return y.reshape(batch, height * n, width * n, channels // n**2)
    batch, channels, height, width = x.shape
    y = x.reshape(batch, -1, n, n, height, width)
    y = y.transpose(0, 1, 4, 2, 5, 3)
    return y.reshape(batch, channels // n**2, height * n, width * n)


def space_to_depth(
    x: Array,
    block_size: int,
    data_format: str = LAST,
) -> Array:
    """Move blocks of space into channels: (n * h, n * w, c) -> (h, w, n * n * c)."""
    _check_block("space_to_depth", block_size)
    n = block_size
    if is_last(data_format):
        batch, height, width, channels = x.shape
        rows = height // n
        columns = width // n
        y = x.reshape(batch, rows, n, columns, n, channels)
        y = y.transpose(0, 1, 3, 2, 4, 5)
        return y.reshape(batch, rows, columns, channels * n**2)
    batch, channels, height, width = x.shape
    rows = height // n
    columns = width // n
    y = x.reshape(batch, channels, rows, n, columns, n)
    y = y.transpose(0, 1, 3, 5, 2, 4)
    return y.reshape(batch, channels * n**2, rows, columns)
