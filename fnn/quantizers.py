"""Quantizers: arrays as small integers and a scale, with Keras's names and numbers."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, ClassVar, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from fnn.core.arguments import wrong
from fnn.core.config import Configurable, serializers
from fnn.core.registry import register
from fnn.core.value import resolve
from fnn.runtime.arithmetic import finfo

Axis: TypeAlias = int | Sequence[int] | None
Range: TypeAlias = tuple[int, int]

EPSILON = 1e-7  # no division by 0

serialize, deserialize = serializers("quantizer", __name__, "AbsMaxQuantizer()")


def get(identifier: object) -> object:
    """The quantizer of a name; a quantizer or None is returned as it is.

    >>> get("abs_max_quantizer")
    AbsMaxQuantizer()
    """
    return resolve("quantizer", identifier)


class Quantizer(Configurable, loadable=False):
    """A way to write an array in `output_dtype`: a value, called as `quantizer(x)`.

    >>> Quantizer()(3)
    3
    """

    kind = "quantizer"

    output_dtype: str = "int8"

    def __call__(self, x: ArrayLike) -> object:
        """The array as it is."""
        return x


class AbsMaxQuantizer(Quantizer):
    """round(x * scale), clipped to `value_range`; scale = value_range[1] / max |x| over `axis`.

    Returns (quantized, scale). `axis` of the call comes before that of the constructor; the last
    axis if neither is given. Raises ValueError for a range that int8 cannot hold.

    >>> quantized, scale = AbsMaxQuantizer()(jnp.array([[1.0, -2.0]]))
    >>> quantized.tolist(), scale.tolist()
    ([[64, -127]], [[63.5]])
    """

    axis: Axis = None
    value_range: Range = (-127, 127)
    epsilon: float = EPSILON
    output_dtype: str = "int8"

    def __post_init__(self) -> None:
        super().__post_init__()
        low, high = self.value_range
        if self.output_dtype == "int8" and (low < -128 or high > 127):
            raise ValueError(
                "AbsMaxQuantizer: value_range must be within [-128, 127] for output_dtype='int8', "
                f"got {self.value_range}; pass a smaller range"
            )

    def __call__(
        self, x: ArrayLike, axis: Axis = None, to_numpy: bool = False
    ) -> tuple[Array, Array]:
        """(quantized, scale)."""
        if axis is None:
            axis = self.axis
        if axis is None:
            axis = -1
        return abs_max_quantize(
            x, axis, self.value_range, self.output_dtype, self.epsilon, to_numpy
        )


register(AbsMaxQuantizer, "abs_max_quantizer")


class Int8QuantizationConfig(Configurable):
    """How `model.quantize(config=...)` stores weights: as int8, with the maximum as 127.

    `activation_quantizer` None keeps the inputs of products as they are; by default they are
    quantized row by row. Raises ValueError for other quantizers than `AbsMaxQuantizer`.

    >>> Int8QuantizationConfig(activation_quantizer=None).mode
    'int8'
    """

    kind = "quantizer"
    mode: ClassVar[str] = "int8"

    weight_quantizer: Any = None
    activation_quantizer: Any = "default"

    def validate(self) -> None:
        given = self.activation_quantizer
        if given == "default":
            object.__setattr__(self, "activation_quantizer", AbsMaxQuantizer())
        elif given is not None and given.replace(axis=None) != AbsMaxQuantizer():
            raise wrong(
                self,
                "activation_quantizer",
                "to be fnn.quantizers.AbsMaxQuantizer() or None",
                given,
            )
        if self.weight_quantizer is not None:
            raise wrong(
                self, "weight_quantizer", "to be None: the maximum is 127",
                self.weight_quantizer,
            )  # fmt: skip


def abs_max_quantize(
    inputs: ArrayLike,
    axis: Axis,
    value_range: Range = (-127, 127),
    dtype: DTypeLike = "int8",
    epsilon: float = EPSILON,
    to_numpy: bool = False,
) -> tuple[Array, Array]:
    """(quantized, scale) as `AbsMaxQuantizer` computes them; `to_numpy` has no effect.

    >>> abs_max_quantize(jnp.array([1.0, -2.0]), axis=0)[0].tolist()
    [64, -127]
    """
    x = jnp.asarray(inputs)
    axes = axis
    if axis is not None and not isinstance(axis, int):
        axes = tuple(axis)
    largest = jnp.max(jnp.abs(x), axis=axes, keepdims=True)
    scale = (value_range[1] / (largest + epsilon)).astype(x.dtype)
    scaled = jnp.round(x * scale)
    return jnp.clip(scaled, *value_range).astype(dtype), scale


def abs_max_quantize_grouped_with_zero_point(
    inputs: ArrayLike,
    block_size: int,
    value_range: Range = (-8, 7),
    dtype: DTypeLike = "int8",
    epsilon: float = EPSILON,
    to_numpy: bool = False,
) -> tuple[Array, Array, Array]:
    """(quantized, scale, zero point) of a matrix, with one scale for `block_size` rows a column.

    quantized = round(x / scale) + zero point, where scale = (max - min + epsilon) / (high - low).
    inputs `(rows, columns)`; scale and zero point `(groups, columns)`. `to_numpy` has no effect.

    >>> x = jnp.array([[0.0], [1.5]])
    >>> quantize = jax.jit(abs_max_quantize_grouped_with_zero_point, static_argnums=1)
    >>> quantized, scale, zero = quantize(x, 2)
    >>> quantized.tolist(), zero.tolist()
    ([[-8], [7]], [[-8]])
    """
    x = jnp.asarray(inputs)
    low, high = value_range
    rows, columns = x.shape
    groups = -(-rows // block_size)
    missing = groups * block_size - rows
    padded = jnp.pad(x, ((0, missing), (0, 0)))
    blocks = padded.reshape(groups, block_size, columns)
    least, most = blocks.min(1), blocks.max(1)  # (groups, columns)
    scale = (most - least + epsilon) / (high - low)
    zero = jnp.clip(jnp.round(-least / scale) + low, low, high)
    quantized = jnp.round(blocks / scale[:, None]) + zero[:, None]
    quantized = jnp.clip(quantized, low, high).astype(dtype)
    quantized = quantized.reshape(-1, columns)[:rows]
    return quantized, scale.astype(x.dtype), zero.astype("int8")


def fake_quant_with_min_max_vars(
    inputs: ArrayLike,
    min_vals: ArrayLike,
    max_vals: ArrayLike,
    num_bits: int = 8,
    narrow_range: bool = False,
    axis: int | None = None,
) -> Array:
    """`inputs` rounded to the 2^num_bits values between `min_vals` and `max_vals`.

    The range moves a little, so that 0 is one of the values. Gradients pass within the range; those
    of clipped entries go to `min_vals` and `max_vals`, one for each index of `axis`.

    >>> fake_quant_with_min_max_vars(jnp.array([0.3, 0.7, 9.0]), 0.0, 1.0, num_bits=1).tolist()
    [0.0, 1.0, 1.0]
    """
    x = jnp.asarray(inputs)
    low = jnp.asarray(min_vals, jnp.float32)
    high = jnp.asarray(max_vals, jnp.float32)
    return _fake_quantized(x, low, high, int(num_bits), narrow_range, axis)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5))
def _fake_quantized(
    x: Array,
    low: Array,
    high: Array,
    bits: int,
    narrow: bool,
    axis: int | None,
) -> Array:
    low = _along(low, x.ndim, axis)
    high = _along(high, x.ndim, axis)
    least, most, scale = _moved(low, high, bits, narrow)
    steps = (1 << bits) - 1 - narrow
    inverse = scale.dtype.type(steps) / (high - low)
    zero = jnp.floor(0.5 - least * inverse)
    shifted = jnp.clip(x.astype(least.dtype), least, most) - least
    rounded = jnp.floor(shifted * inverse - zero + 0.5)
    return (rounded * scale).astype(x.dtype)


def _moved(
    low: Array, high: Array, bits: int, narrow: bool
) -> tuple[Array, Array, Array]:
    """(lowest value, highest value, distance of two), with 0 among the values."""
    first, last = int(narrow), (1 << bits) - 1
    scale = (high - low) / (last - first)
    zero = jnp.round(jnp.clip(first - low / scale, first, last))
    return (first - zero) * scale, (last - zero) * scale, scale


def _along(limit: Array, axes: int, axis: int | None) -> Array:
    """Limits of each channel beside arrays with this many axes."""
    if axis is None or limit.ndim == 0:
        return limit
    shape = [1] * axes
    shape[axis] = -1
    return limit.reshape(shape)


def _forward(
    x: Array,
    low: Array,
    high: Array,
    bits: int,
    narrow: bool,
    axis: int | None,
) -> tuple[Array, tuple[Array, Array, Array]]:
    return _fake_quantized(x, low, high, bits, narrow, axis), (x, low, high)


def _backward(
    bits: int,
    narrow: bool,
    axis: int | None,
    held: tuple[Array, Array, Array],
    gradient: Array,
) -> tuple[Array, Array, Array]:
    x, low, high = held
    limits = _along(low, x.ndim, axis), _along(high, x.ndim, axis)
    least, most, _ = _moved(*limits, bits, narrow)

    def total(which: Array, like: Array) -> Array:
        axes: tuple[int, ...] = tuple(range(x.ndim))
        if axis is not None and like.ndim:
            axes = tuple(i for i in axes if i != axis % x.ndim)
        found = jnp.sum(jnp.where(which, gradient, 0), axis=axes)
        return found.reshape(like.shape).astype(like.dtype)

    inside = (x >= least) & (x <= most)
    of_x = jnp.where(inside, gradient, 0).astype(x.dtype)
    return of_x, total(x <= least, low), total(x >= most, high)


_fake_quantized.defvjp(_forward, _backward)


# -- float8 ---------------------------------------------------------------------------------------


def compute_float8_scale(
    amax: ArrayLike, scale: ArrayLike, dtype_max: float, margin: float = 0
) -> Array:
    """amax * 2^margin / dtype_max; the old `scale` where amax is not positive and finite.

    >>> float(compute_float8_scale(448.0, 1.0, 448.0))
    1.0
    """
    amax, scale = jnp.asarray(amax), jnp.asarray(scale)
    fits = (amax > 0) & jnp.isfinite(amax)
    factor = dtype_max / jnp.where(fits, amax, 1) / 2**margin
    return 1 / jnp.where(fits, factor, 1 / scale)


def compute_float8_amax_history(x: ArrayLike, amax_history: ArrayLike) -> Array:
    """The history moved on by one, with max |x| at its start.

    >>> compute_float8_amax_history(jnp.array([-5.0]), jnp.array([1.0, 2.0, 3.0])).tolist()
    [5.0, 3.0, 1.0]
    """
    history = jnp.asarray(amax_history)
    newest = jnp.max(jnp.abs(jnp.asarray(x))).astype(history.dtype)
    return jnp.roll(history, -1).at[0].set(newest)


def quantize_and_dequantize(
    inputs: ArrayLike,
    scale: ArrayLike,
    quantized_dtype: DTypeLike,
    compute_dtype: DTypeLike,
) -> Array:
    """`inputs / scale` rounded to a dtype such as float8_e4m3fn, times `scale`.

    >>> float(quantize_and_dequantize(3.1, 1.0, "float8_e4m3fn", "float32"))
    3.0
    """
    scale = jnp.asarray(scale, compute_dtype)
    limit = float(finfo(jnp.dtype(quantized_dtype)).max)
    largest = jnp.asarray(limit, compute_dtype)
    x = jnp.clip(jnp.asarray(inputs) / scale, -largest, largest)
    return x.astype(quantized_dtype).astype(compute_dtype) * scale


# -- int4 -----------------------------------------------------------------------------------------


def pack_int4(
    arr: ArrayLike, axis: int = 0, dtype: str = "int8"
) -> tuple[Array, tuple[int, ...], int]:
    """(packed, its shape, the length before) of an array of integers from -8 to 7.

    Two neighbours along `axis` share a byte, the first one its lower half; a length that is odd
    gets a zero more. Raises TypeError for another dtype of `arr`.

    >>> packed, shape, length = pack_int4(np.array([-3, 7, 2], "int8"))
    >>> packed.tolist(), shape, unpack_int4(packed, length).tolist()
    ([125, 2], (2,), [-3, 7, 2])
    """
    _check_int4(dtype)
    array = np.asarray(arr)
    if array.dtype != dtype:
        raise TypeError(
            f"expected an array of {dtype} for pack_int4, received {array.dtype}; cast it"
        )
    array = np.moveaxis(array, axis, 0)
    length = len(array)
    if length % 2:
        array = np.concatenate([array, np.zeros_like(array[:1])])
    halves = array.astype(np.uint8)
    packed = (halves[::2] & 15) | (halves[1::2] << 4)
    packed = np.moveaxis(packed.astype(dtype), 0, axis)
    return jnp.asarray(packed), packed.shape, length


def unpack_int4(
    packed: ArrayLike, orig_len: int, axis: int = 0, dtype: str = "int8"
) -> Array:
    """The array of length `orig_len` along `axis` that `pack_int4` packed.

    >>> unpack_int4(np.array([125, 2], "int8"), 3).tolist()
    [-3, 7, 2]
    """
    _check_int4(dtype)
    array = jnp.asarray(packed)
    if array.dtype not in ("int8", "uint8"):
        raise TypeError(
            f"expected an array of int8 or uint8 for unpack_int4, received {array.dtype}; pass "
            "what pack_int4 returned"
        )
    array = jnp.moveaxis(array, axis, 0)
    halves = jnp.stack([array & 15, (array >> 4) & 15], axis=1)  # (pairs, 2, ...)
    if dtype == "int8":
        halves = (halves ^ 8) - 8  # 8 to 15 are -8 to -1
    unpacked = halves.reshape(-1, *array.shape[1:])[:orig_len]
    return jnp.moveaxis(unpacked, 0, axis).astype(dtype)


def _check_int4(dtype: str) -> None:
    if dtype not in ("int8", "uint8"):
        raise ValueError(
            f"expected dtype 'int8' or 'uint8', received {dtype!r}; pass one"
        )
