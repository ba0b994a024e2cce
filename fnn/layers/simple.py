"""Identity, ActivityRegularization, Rescaling, Lambda: layers of a line of mathematics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fnn.core import arguments
from fnn.core.arithmetic import float_dtype
from fnn.core.context import INFERENCE, Context
from fnn.core.layer import Layer, Params, State
from fnn.core.masking import Masked
from fnn.core.value import Fields
from fnn.regularizers import L1L2


class Identity(Layer):
    """x, mask and all.   same shape -> same shape

    >>> Identity().apply({}, {}, jnp.ones(2))[0].tolist()
    [1.0, 1.0]
    """

    masking = "pass"

    def apply(
        self, params: Params, state: State, x: Any, ctx: Context = INFERENCE
    ) -> tuple[Any, State]:
        return x, state


class ActivityRegularization(Layer):
    """x; the loss gains l1 * sum(abs(x)) + l2 * sum(x**2), a mean over the examples.

    Raises ValueError for a factor below 0.

    >>> model = fnn.Sequential([ActivityRegularization(l1=0.5)])
    >>> model.compile(loss="mse")
    >>> x = np.array([[1.0, -3.0], [0.0, 0.0]])
    >>> model.evaluate(x, x, verbose=0)  # no error; 0.5 * 4 over 2 examples
    1.0
    """

    masking = "pass"

    l1: float = 0.0
    l2: float = 0.0

    def validate(self) -> None:
        _ = self.activity_regularizer  # which checks the factors

    @property
    def activity_regularizer(self) -> Any:
        """`L1L2(l1, l2)`, under the name by which every layer has its outputs penalized."""
        return L1L2(self.l1, self.l2)

    def apply(
        self, params: Params, state: State, x: Array, ctx: Context = INFERENCE
    ) -> tuple[Array, State]:
        return x, state


class Rescaling(Layer):
    """x * scale + offset.   same shape -> same shape

    `scale` and `offset` are numbers, or one for each of the last axes (a nested list). Whole
    numbers, as pixels are, come out as float32.
    Raises ValueError for what is no number, and for inputs of other last axes.

    >>> Rescaling(1 / 255).apply({}, {}, jnp.array([[0, 255]], "uint8"))[0].tolist()
    [[0.0, 1.0]]
    """

    masking = "pass"

    scale: Any
    offset: Any = 0.0

    def validate(self) -> None:
        for argument in ("scale", "offset"):
            value = getattr(self, argument)
            try:
                array = np.asarray(value)
                fits = array.dtype.kind in "iuf" and np.isfinite(array).all()
            except ValueError:  # rows of unequal length
                fits = False
            if not fits:
                expected = "to be a finite number or a list of them"
                raise arguments.wrong(self, argument, expected, value)

    def init(self, key: Array, x: Any) -> tuple[Params, State]:
        for argument in ("scale", "offset"):
            shape = np.shape(getattr(self, argument))
            last = tuple(x.shape[len(x.shape) - len(shape) :])
            if len(shape) > len(x.shape) or any(
                n not in (1, m) for n, m in zip(shape, last, strict=True)
            ):
                raise ValueError(
                    f"Rescaling: expected inputs whose last axes are as {argument} of shape "
                    f"{shape}, received shape {tuple(x.shape)}; give one number, or one for "
                    "each channel"
                )
        return {}, {}

    def apply(
        self, params: Params, state: State, x: Array, ctx: Context = INFERENCE
    ) -> tuple[Array, State]:
        dtype = float_dtype(x)

        def fitting(value: Any) -> Array:
            array = jnp.asarray(value, dtype)
            return array.reshape((1,) * (x.ndim - array.ndim) + array.shape)

        return x.astype(dtype) * fitting(self.scale) + fitting(self.offset), state


class Lambda(Layer):
    """function(x, **arguments): any function of the inputs as a layer, without weights.

    `mask`, a function `(x, mask) -> mask`, says what becomes of a mask; without it the layer
    refuses one. `output_shape` is not needed, since shapes are inferred. To save the layer, put
    `fnn.register` on the function. Layers of your own (weights, randomness, training or not) are
    subclasses of `Layer`.
    Raises TypeError for what is no function, and for a function of NumPy.

    >>> Lambda(jnp.square).apply({}, {}, jnp.arange(3.0))[0].tolist()
    [0.0, 1.0, 4.0]
    """

    function: Callable[..., Any]
    output_shape: Any = None
    mask: Callable[..., Any] | None = None
    arguments: Any = None

    @property
    def masking(self) -> str:  # type: ignore[override]
        return "refuse" if self.mask is None else "use"

    def validate(self) -> None:
        for name, value in (("function", self.function), ("mask", self.mask)):
            if not callable(value) and (name, value) != ("mask", None):
                raise TypeError(
                    f"Lambda: expected {name} to be a function, received {name}={value!r}; "
                    "e.g. Lambda(jnp.square)"
                )
        if self.arguments is not None and not isinstance(self.arguments, Fields):
            raise TypeError(
                "Lambda: expected arguments to be a dict, received "
                f"arguments={self.arguments!r}; e.g. Lambda(jnp.sum, arguments={{'axis': 1}})"
            )

    def apply(
        self, params: Params, state: State, x: Any, ctx: Context = INFERENCE
    ) -> tuple[Any, State]:
        options = self.arguments.as_dict() if self.arguments else {}
        try:
            y = self.function(x, **options)
        except jax.errors.TracerArrayConversionError as error:
            raise TypeError(
                f"Lambda: expected a function of JAX, received {self.function!r}, which asks for "
                "the numbers of its inputs, as the functions of NumPy do; use those of jax.numpy"
            ) from error
        return (y if self.mask is None else Masked(y, self.mask(x, ctx.mask))), state
