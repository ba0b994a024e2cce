"""Conv1DTranspose, Conv2DTranspose, Conv3DTranspose: convolution backwards, to larger images."""

from __future__ import annotations

from typing import Any, ClassVar

import jax.numpy as jnp
from jax import Array

from fnn.core import arguments
from fnn.core.context import INFERENCE, Context
from fnn.core.fields import one_of, per_axis, positive
from fnn.core.layer import (
    Activation,
    Constraint,
    Initializer,
    Layer,
    Params,
    Regularizer,
    State,
    activate,
    add_bias,
)
from fnn.layers.shared.spatial import (
    DATA_FORMATS,
    channel_axis,
    check_inputs,
    convolve,
    numbers,
    reach,
)


def transposed_padding(
    size: int, stride: int, dilation: int, padding: str, extra: int | None
) -> tuple[int, int]:
    """How many zeros stand before and after the spread-out inputs along one axis.

    "valid" makes (n - 1) stride + max(reach, stride) of n positions, "same" makes n stride; with
    `extra` (output_padding) it is (n - 1) stride + reach + extra, and the same with reach % 2.
    """
    (span,) = reach((size,), (dilation,))
    if padding == "valid":
        return span - 1, span - 1 + (max(stride - span, 0) if extra is None else extra)
    total = stride + span - 2 if extra is None else span + span % 2 - 2 + extra
    before = min(-(-total // 2), span - 1)
    return before, total - before


class _ConvTranspose(Layer):
    spatial: ClassVar[int]

    filters: int = positive()
    kernel_size: int | tuple[int, ...] = per_axis()
    strides: int | tuple[int, ...] = per_axis(default=1)
    padding: str = one_of(("valid", "same"), default="valid")
    output_padding: int | tuple[int, ...] | None = per_axis(default=None, minimum=0)
    data_format: str | None = one_of(DATA_FORMATS, default=None)
    dilation_rate: int | tuple[int, ...] = per_axis(default=1)
    activation: Activation = None
    use_bias: bool = True
    kernel_initializer: Initializer = "glorot_uniform"
    bias_initializer: Initializer = "zeros"
    kernel_regularizer: Regularizer = None
    bias_regularizer: Regularizer = None
    activity_regularizer: Regularizer = None
    kernel_constraint: Constraint = None
    bias_constraint: Constraint = None

    def validate(self) -> None:
        if self.output_padding is not None:
            (strides,) = numbers(self, "strides")
            (extra,) = numbers(self, "output_padding")
            if any(e >= s for e, s in zip(extra, strides, strict=True)):
                raise arguments.wrong(
                    self, "output_padding", f"to be less than strides={strides}", extra
                )

    def init(self, key: Array, x: Any) -> tuple[Params, State]:
        check_inputs(self, x)
        (window,) = numbers(self, "kernel_size")
        shape = (*window, self.filters, x.shape[channel_axis(self)])
        params = {"kernel": self.weight("kernel", key, shape)}
        if self.use_bias:
            params["bias"] = self.weight("bias", key, (self.filters,))
        return params, {}

    def apply(
        self, params: Params, state: State, x: Array, ctx: Context = INFERENCE
    ) -> tuple[Array, State]:
        kernel, channels = params["kernel"], channel_axis(self)
        window, strides, dilation = numbers(
            self, "kernel_size", "strides", "dilation_rate"
        )
        extra: tuple[int | None, ...] = (None,) * self.spatial
        if self.output_padding is not None:
            (extra,) = numbers(self, "output_padding")
        padding = [
            transposed_padding(k, s, d, self.padding, more)
            for k, s, d, more in zip(window, strides, dilation, extra, strict=True)
        ]
        y = convolve(
            x,
            jnp.flip(
                kernel, range(self.spatial)
            ),  # as in the gradient of a convolution
            channels,
            strides=(1,) * self.spatial,
            padding=padding,
            dilation=dilation,
            spread=strides,
            kernel_layout="OI",
        )
        if self.use_bias:
            y = add_bias(y, params["bias"], channels)
        return activate(self.activation, y), state


class Conv1DTranspose(_ConvTranspose):
    """What the gradient of a `Conv1D` by its inputs computes, as a layer.

    (batch, steps, channels) -> (batch, more steps, filters)

    "valid" gives (n - 1) strides + max(reach of the kernel, strides) steps, "same" n strides;
    `output_padding` sets what is added at the end. Weights: `kernel (kernel_size, filters,
    channels)`, `bias (filters,)`. Strides and dilation may be combined (Keras refuses that).
    Raises ValueError for wrong arguments and inputs of wrong rank or width.

    >>> init, apply = Conv1DTranspose(4, 3, strides=2, padding="same")
    >>> params, state = init(jax.random.key(0), jnp.ones((2, 5, 3)))
    >>> apply(params, state, jnp.ones((2, 5, 3)))[0].shape
    (2, 10, 4)
    """

    spatial = 1


class Conv2DTranspose(_ConvTranspose):
    """What the gradient of a `Conv2D` by its inputs computes, as a layer.

    (batch, h, w, channels) -> (batch, taller, wider, filters)

    As `Conv1DTranspose`, over images: `kernel (*kernel_size, filters, channels)`.
    Raises ValueError for wrong arguments and inputs of wrong rank or width.

    >>> init, apply = Conv2DTranspose(4, 3, strides=2)
    >>> params, state = init(jax.random.key(0), jnp.ones((1, 4, 4, 2)))
    >>> apply(params, state, jnp.ones((1, 4, 4, 2)))[0].shape
    (1, 9, 9, 4)
    """

    spatial = 2

    strides: int | tuple[int, ...] = per_axis(default=(1, 1))
    dilation_rate: int | tuple[int, ...] = per_axis(default=(1, 1))


class Conv3DTranspose(_ConvTranspose):
    """What the gradient of a `Conv3D` by its inputs computes, as a layer.

    (batch, d, h, w, channels) -> (batch, deeper, taller, wider, filters)

    As `Conv1DTranspose`, over volumes: `kernel (*kernel_size, filters, channels)`. Keras has
    `data_format` before `output_padding` here; fnn has one order for all three.
    Raises ValueError for wrong arguments and inputs of wrong rank or width.

    >>> init, apply = Conv3DTranspose(4, 2)
    >>> params, state = init(jax.random.key(0), jnp.ones((1, 2, 3, 4, 2)))
    >>> apply(params, state, jnp.ones((1, 2, 3, 4, 2)))[0].shape
    (1, 3, 4, 5, 4)
    """

    spatial = 3

    strides: int | tuple[int, ...] = per_axis(default=(1, 1, 1))
    dilation_rate: int | tuple[int, ...] = per_axis(default=(1, 1, 1))
