"""Conv1DTranspose, Conv2DTranspose, Conv3DTranspose: transposed convolution, to more positions."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from fnn.core.arguments import Rule
from fnn.core.context import INFERENCE, Context
from fnn.core.fields import one_of, per_axis, positive
from fnn.core.layer import (
    Activation,
    Constraint,
    Initializer,
    Params,
    Regularizer,
    State,
    activate,
)
from fnn.core.tree import SpecTree
from fnn.layers.shared.spatial import (
    DATA_FORMATS,
    PerAxis,
    Spatial,
    channel_axis,
    convolve,
    numbers,
    reach,
)
from fnn.runtime.placement import add_bias


def transposed_padding(
    size: int,
    stride: int,
    dilation: int,
    padding: str,
    extra: int | None,
) -> tuple[int, int]:
    """The zeros before and after the spread-out inputs along one axis.

    n positions become (n - 1) stride + max(reach, stride) with "valid" and n stride with "same".
    With `extra` (output_padding) they become (n - 1) stride + reach + extra with "valid" and
    (n - 1) stride + reach % 2 + extra with "same".
    """
    (span,) = reach((size,), (dilation,))
    if padding == "valid":
        if extra is None:
            extra = max(stride - span, 0)
        return span - 1, span - 1 + extra
    # An odd position of the total is in front, as in Keras.
    total = stride + span - 2
    if extra is not None:
        total = span + span % 2 - 2 + extra
    before = min(-(-total // 2), span - 1)
    return before, total - before


def _adds_less_than_strides(layer: _ConvTranspose) -> bool:
    if layer.output_padding is None:
        return True
    extra, strides = numbers(layer, "output_padding", "strides")
    return all(added < stride for added, stride in zip(extra, strides, strict=True))


class _ConvTranspose(Spatial):
    field_rules = (
        Rule(
            "output_padding",
            _adds_less_than_strides,
            "to be less than strides={self.strides}",
        ),
    )

    filters: int = positive()
    kernel_size: PerAxis = per_axis()
    strides: PerAxis = per_axis(default=1)
    padding: str = one_of(("valid", "same"), default="valid")
    output_padding: PerAxis | None = per_axis(default=None, minimum=0)
    data_format: str | None = one_of(DATA_FORMATS, default=None)
    dilation_rate: PerAxis = per_axis(default=1)
    activation: Activation = None
    use_bias: bool = True
    kernel_initializer: Initializer = "glorot_uniform"
    bias_initializer: Initializer = "zeros"
    kernel_regularizer: Regularizer = None
    bias_regularizer: Regularizer = None
    activity_regularizer: Regularizer = None
    kernel_constraint: Constraint = None
    bias_constraint: Constraint = None

    def init(self, key: Array, x: SpecTree) -> tuple[Params, State]:
        (window,) = numbers(self, "kernel_size")
        channels = x.shape[channel_axis(self)]
        # Filters before channels: it is the kernel of the convolution whose gradient this is.
        shape = (*window, self.filters, channels)
        params = {"kernel": self.weight("kernel", key, shape)}
        if self.use_bias:
            params["bias"] = self.weight("bias", key, (self.filters,))
        return params, {}

    def apply(
        self,
        params: Params,
        state: State,
        x: Array,
        ctx: Context = INFERENCE,
    ) -> tuple[Array, State]:
        channels = channel_axis(self)
        fields = "kernel_size", "strides", "dilation_rate"
        window, strides, dilation = numbers(self, *fields)
        # None: as many positions as the padding gives without `output_padding`.
        extra: tuple[int | None, ...] = (None,) * self.spatial
        if self.output_padding is not None:
            (extra,) = numbers(self, "output_padding")
        axes = zip(window, strides, dilation, extra, strict=True)
        padding = [
            transposed_padding(k, s, d, self.padding, more) for k, s, d, more in axes
        ]
        # As in the gradient of a convolution: spread-out inputs, convolved with the flipped kernel.
        # (*window, filters, channels)
        kernel = jnp.flip(params["kernel"], range(self.spatial))
        y = convolve(  # (batch, *new positions, filters)
            x,
            kernel,
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
    """Transposed convolution over steps: the gradient of a `Conv1D` by its inputs, as a layer.

    (batch, steps, channels) -> (batch, new steps, filters)

    n steps become (n - 1) strides + max(reach of the kernel, strides) with "valid" and n strides
    with "same"; `output_padding` sets how many are added at the end. Weights: `kernel (kernel_size,
    filters, channels)`, `bias (filters,)`. Strides and dilation may be combined (not in Keras).
    Raises ValueError for wrong arguments and inputs of wrong rank or width.

    >>> init, apply = Conv1DTranspose(4, 3, strides=2, padding="same")
    >>> params, state = init(jax.random.key(0), jnp.ones((2, 5, 3)))
    >>> apply(params, state, jnp.ones((2, 5, 3)))[0].shape
    (2, 10, 4)
    """

    spatial = 1


class Conv2DTranspose(_ConvTranspose):
    """Transposed convolution over images: the gradient of a `Conv2D` by its inputs, as a layer.

    (batch, h, w, channels) -> (batch, new h, new w, filters)

    As `Conv1DTranspose`, over images: `kernel (*kernel_size, filters, channels)`.
    Raises ValueError for wrong arguments and inputs of wrong rank or width.

    >>> init, apply = Conv2DTranspose(4, 3, strides=2)
    >>> params, state = init(jax.random.key(0), jnp.ones((1, 4, 4, 2)))
    >>> apply(params, state, jnp.ones((1, 4, 4, 2)))[0].shape
    (1, 9, 9, 4)
    """

    spatial = 2

    strides: PerAxis = per_axis(default=(1, 1))
    dilation_rate: PerAxis = per_axis(default=(1, 1))


class Conv3DTranspose(_ConvTranspose):
    """Transposed convolution over volumes: the gradient of a `Conv3D` by its inputs, as a layer.

    (batch, d, h, w, channels) -> (batch, new d, new h, new w, filters)

    As `Conv1DTranspose`, over volumes: `kernel (*kernel_size, filters, channels)`. `output_padding`
    comes before `data_format`, as in the other two (in Keras: after it).
    Raises ValueError for wrong arguments and inputs of wrong rank or width.

    >>> init, apply = Conv3DTranspose(4, 2)
    >>> params, state = init(jax.random.key(0), jnp.ones((1, 2, 3, 4, 2)))
    >>> apply(params, state, jnp.ones((1, 2, 3, 4, 2)))[0].shape
    (1, 3, 4, 5, 4)
    """

    spatial = 3

    strides: PerAxis = per_axis(default=(1, 1, 1))
    dilation_rate: PerAxis = per_axis(default=(1, 1, 1))
