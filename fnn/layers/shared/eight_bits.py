"""Eight bits: products and rows of weights that are stored as int8 with a scale."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax import Array

from fnn.core.layer import Params
from fnn.quantizers import abs_max_quantize

# A letter for each axis of inputs, kernel and outputs.
Letters: TypeAlias = tuple[str, str, str]


def quantize(weight: Array, axes: tuple[int, ...]) -> tuple[Array, Array]:
    """(weight as int8, its scale without `axes`): weight * scale is about the integers."""
    quantized, scale = abs_max_quantize(weight, axes)
    return quantized, jnp.squeeze(scale, axes)


@dataclasses.dataclass(frozen=True)
class EightBits:
    """How layers compute with such weights, as `Context.stored`.

    With `int8_inputs` the inputs of products are quantized too, each row by its own scale, and
    the sums are exact ones of integers. The gradient is that of the dequantized kernel (as in
    Keras). A `change` beside a weight is added to it: that of LoRA.
    """

    int8_inputs: bool

    def einsum(self, x: Array, params: Params, letters: Letters) -> Array:
        """The einsum of `x` and the kernel in `params`."""
        kernel, scale = params["kernel"], params["kernel_scale"]
        y = _product(letters, self.int8_inputs, x, kernel, scale)
        if "kernel_change" in params:
            y = y + jnp.einsum(_equation(letters), x, params["kernel_change"])
        return y

    def rows(self, params: Params, look_up: Callable[[Array], Array]) -> Array:
        """The rows of the table in `params` that `look_up` takes from an array."""
        rows, scale = params["embeddings"], params["embeddings_scale"]
        # NaN for an id that is not in the table comes from the scale; int8 has none.
        y = look_up(rows).astype(scale.dtype)
        y = y / look_up(scale[:, None])
        if "embeddings_change" in params:
            y = y + look_up(params["embeddings_change"])
        return y


def _equation(letters: Letters) -> str:
    of_x, of_kernel, of_y = letters
    return f"{of_x},{of_kernel}->{of_y}"


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _product(
    letters: Letters,
    int8_inputs: bool,
    x: Array,
    kernel: Array,
    scale: Array,
) -> Array:
    of_x, of_kernel, of_y = letters
    equation, dtype = _equation(letters), x.dtype
    kept = [n for n in of_kernel if n in of_y]
    scale = _placed(scale, kept, of_y)
    if not int8_inputs:
        return jnp.einsum(equation, x, kernel.astype(dtype)) / scale
    summed = tuple(i for i, n in enumerate(of_x) if n not in of_y)
    x, scale_of_x = abs_max_quantize(x, summed)
    y = jnp.einsum(equation, x, kernel, preferred_element_type=jnp.int32)
    rows = [n for n in of_x if n in of_y]
    scale_of_x = _placed(jnp.squeeze(scale_of_x, summed), rows, of_y)
    return y.astype(dtype) / (scale_of_x * scale)


@_product.defjvp
def _product_jvp(
    letters: Letters,
    int8_inputs: bool,
    primals: Any,
    tangents: Any,
) -> tuple[Array, Array]:
    x, kernel, scale = primals
    dx, _, _ = tangents
    _, of_kernel, of_y = letters
    kept = [n for n in of_kernel if n in of_y]
    dequantized = kernel.astype(x.dtype) / _placed(scale, kept, of_kernel)
    y = _product(letters, int8_inputs, x, kernel, scale)
    return y, jnp.einsum(_equation(letters), dx, dequantized)


def _placed(array: Array, letters: list[str], among: str) -> Array:
    """An array with the axes `letters`, moved to their places, size 1 along the others."""
    order = sorted(letters, key=among.index)
    array = array.transpose([letters.index(n) for n in order])
    sizes = dict(zip(order, array.shape, strict=True))
    return array.reshape([sizes.get(n, 1) for n in among])
