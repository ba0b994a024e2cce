"""Conv1D, Conv2D, Conv3D: one small kernel, moved over every position."""

from __future__ import annotations

from typing import Any, ClassVar

import jax.numpy as jnp
from jax import Array, lax

from fnn.core import arguments
from fnn.core.arithmetic import activate, add_bias
from fnn.core.context import INFERENCE, Context
from fnn.core.layer import Activation, Constraint, Initializer, Layer, Params, Regularizer, State

DATA_FORMATS = (None, "channels_last", "channels_first")


def channel_axis(layer: Any) -> int:
    """Where the channels are: the last axis, or the first after the batch."""
    return 1 if layer.data_format == "channels_first" else -1


def check_images(layer: Any, x: Any, spatial: int, reach: tuple[int, ...] = ()) -> None:
    """Checks in `init` the number of axes, and that a kernel of this reach fits in once."""
    names = ", ".join(("depth", "height", "width")[-spatial:]) if spatial > 1 else "steps"
    first = layer.data_format == "channels_first"
    layout = f"(batch, channels, {names})" if first else f"(batch, {names}, channels)"
    arguments.rank(layer, x, spatial + 2, layout=layout)
    sizes = tuple(x.shape[2:] if first else x.shape[1:-1])
    if any(size < need for size, need in zip(sizes, reach, strict=False)):
        raise ValueError(
            f"{type(layer).__name__}: expected inputs of at least {reach} positions, which the "
            f"kernel covers, received {sizes} in shape {tuple(x.shape)}; "
            "do use padding='same' or a smaller kernel_size"
        )


def convolve(
    x: Array,
    kernel: Array,
    *,
    strides: tuple[int, ...],
    padding: Any,
    dilation: tuple[int, ...],
    groups: int,
    data_format: str | None,
) -> Array:
    """`x` convolved with `kernel (*window, in / groups, out)`, in the wider of their dtypes."""
    axes = "DHW"[-len(strides) :]
    layout = f"NC{axes}" if data_format == "channels_first" else f"N{axes}C"
    dtype = jnp.result_type(x, kernel)
    return lax.conv_general_dilated(
        x.astype(dtype),
        kernel.astype(dtype),
        strides,
        padding,
        rhs_dilation=dilation,
        dimension_numbers=(layout, f"{axes}IO", layout),
        feature_group_count=groups,
    )


def reach(kernel_size: tuple[int, ...], dilation: tuple[int, ...]) -> tuple[int, ...]:
    """How many positions a dilated kernel covers along each axis.

    >>> reach((3, 3), (1, 2))
    (3, 5)
    """
    return tuple((k - 1) * d + 1 for k, d in zip(kernel_size, dilation, strict=True))


class _Conv(Layer):
    ends_in_activation = True
    spatial: ClassVar[int]

    filters: int
    kernel_size: int | tuple[int, ...]
    strides: int | tuple[int, ...] = 1
    padding: str = "valid"
    data_format: str | None = None
    dilation_rate: int | tuple[int, ...] = 1
    groups: int = 1
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
        arguments.positive_int(self, "filters", "groups")
        for argument in ("kernel_size", "strides", "dilation_rate"):
            arguments.integers(self, argument, self.spatial)
        causal = ("causal",) if self.spatial == 1 else ()
        arguments.one_of(self, "padding", ("valid", "same", *causal))
        arguments.one_of(self, "data_format", DATA_FORMATS)
        if self.filters % self.groups:
            raise arguments.wrong(
                self, "filters", f"to be a multiple of groups={self.groups}", self.filters
            )

    @property
    def _window(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return tuple(
            arguments.integers(self, name, self.spatial)
            for name in ("kernel_size", "dilation_rate")
        )  # type: ignore[return-value]

    def init(self, key: Array, x: Any) -> tuple[Params, State]:
        window, dilation = self._window
        check_images(
            self, x, self.spatial, reach(window, dilation) if self.padding == "valid" else ()
        )
        channels = x.shape[channel_axis(self)]
        if channels % self.groups:
            raise ValueError(
                f"{type(self).__name__}: expected the number of input channels to be a multiple of "
                f"groups={self.groups}, received {channels} in shape {tuple(x.shape)}; do choose "
                "groups that divide it"
            )
        shape = (*window, channels // self.groups, self.filters)
        params = {"kernel": self.weight("kernel", key, shape)}
        if self.use_bias:
            params["bias"] = self.weight("bias", key, (self.filters,))
        return params, {}

    def apply(
        self, params: Params, state: State, x: Array, ctx: Context = INFERENCE
    ) -> tuple[Array, State]:
        window, dilation = self._window
        channels = channel_axis(self)
        arguments.width(self, x, params["kernel"].shape[-2] * self.groups, channels)
        padding: Any = self.padding.upper()
        if self.padding == "causal":  # a step sees itself and the past
            padding = [(reach(window, dilation)[0] - 1, 0)]
        y = convolve(
            x,
            params["kernel"],
            strides=arguments.integers(self, "strides", self.spatial),
            padding=padding,
            dilation=dilation,
            groups=self.groups,
            data_format=self.data_format,
        )
        if self.use_bias:
            y = add_bias(y, params["bias"], channels)
        return activate(self.activation, y), state


class Conv1D(_Conv):
    """activation(x * kernel + bias) along time.

    (batch, steps, channels) -> (batch, new steps, filters)

    `padding="causal"` pads the past only, so that no step sees a later one. Where the padding is
    uneven, "same" pads one more at the end. `data_format="channels_first"` has (batch, channels,
    steps) in and out and the same weights: `kernel (kernel_size, channels / groups, filters)`,
    `bias (filters,)`. Strides and dilation may be combined (Keras refuses that).
    Raises ValueError for wrong arguments, and for inputs of wrong rank, width or too few steps.

    >>> init, apply = Conv1D(4, 3, padding="causal")
    >>> params, state = init(jax.random.key(0), jnp.ones((2, 8, 5)))
    >>> apply(params, state, jnp.ones((2, 8, 5)))[0].shape
    (2, 8, 4)
    """

    spatial = 1


class Conv2D(_Conv):
    """activation(x * kernel + bias) over images.

    (batch, h, w, channels) -> (batch, new h, new w, filters)

    "valid" gives (n - (k - 1) d - 1) // s + 1 positions along an axis of n, "same" gives
    ceil(n / s), padded one more at the end where uneven. `data_format="channels_first"` has
    (batch, channels, h, w) in and out and the same weights: `kernel (*kernel_size, channels /
    groups, filters)`, `bias (filters,)`. Strides and dilation may be combined (Keras refuses that).
    Raises ValueError for wrong arguments, and for inputs of wrong rank, width or too small.

    >>> init, apply = Conv2D(32, (3, 3), activation="relu")
    >>> params, state = init(jax.random.key(0), jnp.ones((2, 28, 28, 1)))
    >>> apply(params, state, jnp.ones((2, 28, 28, 1)))[0].shape
    (2, 26, 26, 32)
    """

    spatial = 2

    strides: int | tuple[int, ...] = (1, 1)
    dilation_rate: int | tuple[int, ...] = (1, 1)


class Conv3D(_Conv):
    """activation(x * kernel + bias) over volumes.

    (batch, d, h, w, channels) -> (batch, new d, new h, new w, filters)

    As `Conv2D`, with one axis more.
    Raises ValueError for wrong arguments, and for inputs of wrong rank, width or too small.

    >>> init, apply = Conv3D(4, 2)
    >>> params, state = init(jax.random.key(0), jnp.ones((1, 3, 4, 5, 2)))
    >>> apply(params, state, jnp.ones((1, 3, 4, 5, 2)))[0].shape
    (1, 2, 3, 4, 4)
    """

    spatial = 3

    strides: int | tuple[int, ...] = (1, 1, 1)
    dilation_rate: int | tuple[int, ...] = (1, 1, 1)
