"""Spatial: axes, input checks and convolution of layers over steps, images and volumes."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import ClassVar, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax import Array, lax

from fnn.core.arguments import Rule
from fnn.core.layer import Layer
from fnn.core.tree import SpecTree
from fnn.runtime import convolutions
from fnn.runtime.arithmetic import iinfo
from fnn.runtime.placement import on_each_device

Shape: TypeAlias = tuple[int, ...]
PerAxis: TypeAlias = int | tuple[int, ...]  # one for all axes, or one for each
Padding: TypeAlias = str | Sequence[tuple[int, int]]

DATA_FORMATS = (None, "channels_last", "channels_first")


class Spatial(Layer, loadable=False):
    """The base class of layers over positions: steps, images (`spatial` 2) or volumes (3).

    Channels come last unless a field `data_format` says "channels_first".
    """

    spatial: ClassVar[int]
    window_field: ClassVar[str] = "kernel_size"

    @property
    def input_layout(self) -> str:  # type: ignore[override]
        """`(batch, height, width, channels)`."""
        return layout(self)

    @property
    def covered(self) -> Shape:
        """How many positions a window covers along each axis; none if padding makes it fit."""
        if getattr(self, "padding", None) != "valid":
            return ()
        (window,) = numbers(self, self.window_field)
        if not hasattr(self, "dilation_rate"):
            return window
        return reach(window, *numbers(self, "dilation_rate"))


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


def layout(layer: Spatial, *before: str) -> str:
    """The names of the axes of the inputs; those of `before` come after the batch."""
    positions: tuple[str, ...] = ("steps",)
    if layer.spatial > 1:
        positions = ("depth", "height", "width")[-layer.spatial :]
    axes = [*positions, "channels"]
    if channel_axis(layer) == 1:
        axes = ["channels", *positions]
    return f"({', '.join(['batch', *before, *axes])})"


def _fits(layer: Spatial, x: SpecTree) -> bool:
    sizes = [x.shape[axis] for axis in spatial_axes(layer)]
    pairs = zip(sizes, layer.covered, strict=False)  # no window fits anywhere
    return all(size >= needed for size, needed in pairs)


WINDOW_FITS = Rule(
    "inputs",
    _fits,
    "of at least {self.covered} positions, the size of one window",
    "use padding='same' or a smaller {self.window_field}",
)


def reach(kernel_size: Shape, dilation: Shape) -> Shape:
    """How many positions a dilated kernel covers along each axis.

    >>> reach((3, 3), (1, 2))
    (3, 5)
    """
    sizes = zip(kernel_size, dilation, strict=True)
    return tuple((k - 1) * d + 1 for k, d in sizes)


# A product joins as many shifted copies of the image as the window has positions.
MOST_OFFSETS = 128
MOST_IN_PATCHES = 2**26  # numbers in all of them


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

    On CPU it is a product of matrices where that is faster: for small images (`_is_product`), and
    in training where the step or a loop asks for it (`fnn/runtime/convolutions.py`).

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
    x, kernel = x.astype(dtype), kernel.astype(dtype)
    form = _Form(layout, kernel_layout, strides, padding, dilation, spread, groups)
    is_fast = is_possible = False
    if jax.default_backend() == "cpu" and form.may_be_product(x, kernel):
        form = form.in_numbers(x, kernel)
        counts = form.counts(x, kernel)
        number = x.shape[0] * math.prod(counts)
        patches = number * math.prod(kernel.shape[:-1])
        if not isinstance(patches, int):  # in a program for any number of examples
            patches = MOST_IN_PATCHES + 1
        is_fast = dtype == jnp.float32 and _is_fast(kernel, patches)
        is_possible = patches <= MOST_IN_PATCHES
        if _is_product(x.shape[1:-1], counts, form.covered(kernel)):
            return _as_product(x, kernel, form)
        form = form._replace(recomputes=convolutions.is_in_loop())
    # (batch, *positions, in) -> (batch, *new positions, out)
    if convolutions.is_product(is_fast, is_possible):
        return _as_product_in_training(x, kernel, form)
    if groups == 1:
        return _by_xla(x, kernel, form)
    return on_each_device(lambda x: _by_xla(x, kernel, form), x)


class _Form(NamedTuple):
    """How a convolution goes, besides its arrays."""

    layout: str
    kernel_layout: str
    strides: Shape
    padding: Padding
    dilation: Shape | None
    spread: Shape | None
    groups: int
    recomputes: bool = False  # patches, which a loop would keep for all of its turns

    @property
    def rates(self) -> Shape:
        """The dilation of each axis."""
        return self.dilation or (1,) * len(self.strides)

    def may_be_product(self, x: Array, kernel: Array) -> bool:
        """Whether there is a product for it, of not too many copies of the image."""
        kind = self.layout[-1], self.kernel_layout, self.spread, self.groups
        is_small = math.prod(kernel.shape[:-2]) <= MOST_OFFSETS
        is_known = all(isinstance(size, int) for size in x.shape[1:-1])
        return kind == ("C", "IO", None, 1) and is_small and is_known

    def in_numbers(self, x: Array, kernel: Array) -> _Form:
        """With padding and dilation for each axis."""
        pads = self.padding
        if isinstance(pads, str):
            sizes = x.shape[1:-1], self.covered(kernel)
            pads = lax.padtype_to_pads(*sizes, self.strides, pads)
        return self._replace(padding=tuple(pads), dilation=self.rates)

    def covered(self, kernel: Array) -> Shape:
        """How many positions a window covers along each axis."""
        return reach(kernel.shape[:-2], self.rates)

    def counts(self, x: Array, kernel: Array) -> list[int]:
        """The number of outputs along each axis; padding is in numbers."""
        assert not isinstance(self.padding, str)
        sizes = x.shape[1:-1], self.covered(kernel), self.strides, self.padding
        return [
            (size + sum(pad) - window) // stride + 1
            for size, window, stride, pad in zip(*sizes, strict=True)
        ]


def _by_xla(x: Array, kernel: Array, form: _Form) -> Array:
    positions = form.layout.strip("NC")
    kernel_layout = f"{positions}{form.kernel_layout}"
    return lax.conv_general_dilated(
        x,
        kernel,
        form.strides,
        form.padding,
        lhs_dilation=form.spread,
        rhs_dilation=form.dilation,
        dimension_numbers=(form.layout, kernel_layout, form.layout),
        feature_group_count=form.groups,
    )


# Forward alone, the convolution of XLA is faster.
_as_product_in_training = jax.custom_jvp(_by_xla, nondiff_argnums=(2,))


@_as_product_in_training.defjvp
def _product_jvp(
    form: _Form, primals: tuple[Array, Array], tangents: tuple[Array, Array]
) -> tuple[Array, Array]:
    product: Callable[[Array, Array], Array] = functools.partial(_as_product, form=form)
    if form.recomputes:
        product = jax.checkpoint(product)
    return jax.jvp(product, primals, tangents)


def _is_product(sizes: Shape, counts: Sequence[int], covered: Shape) -> bool:
    """Whether a product is faster on CPU: for windows of one position, or wider than the image.

    For windows wider than inputs or outputs XLA has a plain loop: with 2 x 2 positions, 512
    channels and a window of 3 x 3 it takes 50 times as long.
    """
    return all(
        window == 1 or min(size, count) < window
        for size, count, window in zip(sizes, counts, covered, strict=True)
    )


def _is_fast(kernel: Array, patches: int) -> bool:
    """Whether a product takes no longer, forward and backward, with so many numbers in patches.

    As measured (benchmarks/README.md): with twice as many filters as channels, with few channels,
    or for small images; there the arithmetic outweighs the memory for patches.
    """
    channels, filters = kernel.shape[-2:]
    if filters > 128:
        return False  # XLA's convolution uses all cores
    if 32 <= 2 * channels <= filters:
        return patches <= 2**24
    if channels <= 4:
        return patches <= 2**21
    # XLA is fast for multiples of 8 channels.
    return patches <= 2**19 and (filters >= 32 or channels % 8 > 0)


def _as_product(x: Array, kernel: Array, form: _Form) -> Array:
    """`x` convolved with `kernel` as one product: patches times weights."""
    *window, _, filters = kernel.shape
    counts = form.counts(x, kernel)
    edges = ((0, 0), *form.padding, (0, 0))
    x = jnp.pad(x, edges)  # positions grow
    parts = []
    for offset in itertools.product(*map(range, window)):
        at = [slice(None)] * x.ndim
        steps = zip(offset, form.rates, form.strides, counts, strict=True)
        for axis, (index, apart, stride, count) in enumerate(steps, start=1):
            first = index * apart
            last = first + (count - 1) * stride
            at[axis] = slice(first, last + 1, stride)
        parts.append(x[tuple(at)])  # (batch, *new positions, in)
    patches = jnp.concatenate(parts, axis=-1)  # (..., window * in)
    return patches @ kernel.reshape(-1, filters)  # (batch, *new positions, filters)


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
