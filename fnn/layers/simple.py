"""Simple layers: Identity, Bias, ActivityRegularization, Rescaling, Lambda."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fnn.core.arguments import Rule
from fnn.core.context import INFERENCE, Context, Masked
from fnn.core.layer import Constraint, Initializer, Layer, Params, Regularizer, State
from fnn.core.tree import SpecTree, Tree
from fnn.core.value import Fields
from fnn.regularizers import L1L2
from fnn.runtime.arithmetic import float_dtype
from fnn.runtime.placement import add_bias


class Identity(Layer):
    """x, with its mask.   same shape -> same shape

    >>> Identity().apply({}, {}, jnp.ones(2))[0].tolist()
    [1.0, 1.0]
    """

    masking = "pass"

    def apply(
        self,
        params: Params,
        state: State,
        x: Tree,
        ctx: Context = INFERENCE,
    ) -> tuple[Tree, State]:
        return x, state


class Bias(Layer):
    """x + bias, learned.   (batch, ..., features) -> same shape

    For what has none of its own, such as the logits of a `ReversibleEmbedding`.
    Weights: `bias (features,)`.

    >>> init, apply = Bias()
    >>> init(jax.random.key(0), jnp.ones((2, 3)))[0]["bias"].shape
    (3,)
    """

    masking = "pass"
    input_layout = "(batch, ..., features)"

    bias_initializer: Initializer = "zeros"
    bias_regularizer: Regularizer = None
    bias_constraint: Constraint = None

    def init(self, key: Array, x: SpecTree) -> tuple[Params, State]:
        return {"bias": self.weight("bias", key, (x.shape[-1],))}, {}

    def apply(
        self,
        params: Params,
        state: State,
        x: Array,
        ctx: Context = INFERENCE,
    ) -> tuple[Array, State]:
        return add_bias(x, params["bias"]), state


class ActivityRegularization(Layer):
    """x, and a penalty l1 * sum(abs(x)) + l2 * sum(x**2), divided by the batch size, on the loss.

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
        _ = self.activity_regularizer  # checks the factors

    @property
    def activity_regularizer(self) -> L1L2:
        """`L1L2(l1, l2)`, under the name that penalizes the outputs of any layer."""
        return L1L2(self.l1, self.l2)

    def apply(
        self,
        params: Params,
        state: State,
        x: Array,
        ctx: Context = INFERENCE,
    ) -> tuple[Array, State]:
        return x, state


# A number or a nested tuple of numbers: `_is_numeric` checks what an annotation cannot say.
Numbers: TypeAlias = Any


def _is_numeric(argument: str) -> Rule:
    def holds(layer: Layer) -> bool:
        try:
            array = np.asarray(getattr(layer, argument))
        except ValueError:  # nested lists of different lengths
            return False
        return array.dtype.kind in "iuf" and bool(np.isfinite(array).all())

    return Rule(argument, holds, "to be a finite number or a list of them")


def _broadcasts(argument: str) -> Rule:
    def holds(layer: Layer, x: SpecTree) -> bool:
        shape = np.shape(getattr(layer, argument))
        pairs = zip(reversed(shape), reversed(x.shape), strict=False)
        if len(shape) > len(x.shape):
            return False
        return all(n in (1, m) for n, m in pairs)

    expected = "to have the last axes of the inputs of shape {x.shape}"
    return Rule(argument, holds, expected, "give one number, or one for each channel")


class Rescaling(Layer):
    """x * scale + offset.   same shape -> same shape

    `scale` and `offset` are numbers, or nested lists that broadcast over the last axes of x.
    Integers, such as pixels, give float32.
    Raises ValueError for anything but numbers, and for inputs to which they do not broadcast.

    >>> Rescaling(1 / 255).apply({}, {}, jnp.array([[0, 255]], "uint8"))[0].tolist()
    [[0.0, 1.0]]
    """

    masking = "pass"
    field_rules = (_is_numeric("scale"), _is_numeric("offset"))
    input_rules = (_broadcasts("scale"), _broadcasts("offset"))

    scale: Numbers
    offset: Numbers = 0.0

    def apply(
        self,
        params: Params,
        state: State,
        x: Array,
        ctx: Context = INFERENCE,
    ) -> tuple[Array, State]:
        dtype = float_dtype(x)

        def expanded(value: Numbers) -> Array:
            array = jnp.asarray(value, dtype)
            new_axes = (1,) * (x.ndim - array.ndim)
            return array.reshape(new_axes + array.shape)  # (1, ..., last axes)

        y = x.astype(dtype) * expanded(self.scale)
        y = y + expanded(self.offset)
        return y, state


_FUNCTION = ("to be a function", "e.g. Lambda(jnp.square)", TypeError)


class Lambda(Layer):
    """function(x, **arguments): any function of the inputs as a layer, without weights.

    `mask`, a function `(x, mask) -> mask`, returns the mask of the outputs; without it a mask on
    the inputs is an error. `output_shape` is not needed, since shapes are inferred. To save the
    layer, put `fnn.register` on the function. A layer with weights or randomness, or with another
    result in training, is a subclass of `Layer`.
    On strings, in a network that takes them, it runs on the host: a function of NumPy.
    Raises TypeError for anything but a function, and for a function of NumPy on numbers.

    >>> Lambda(jnp.square).apply({}, {}, jnp.arange(3.0))[0].tolist()
    [0.0, 1.0, 4.0]
    """

    with_strings = "run"
    field_rules = (
        Rule("function", lambda layer: callable(layer.function), *_FUNCTION),
        Rule(
            "mask", lambda layer: layer.mask is None or callable(layer.mask), *_FUNCTION
        ),
        Rule(
            "arguments",
            lambda layer: isinstance(layer.arguments, Fields | None),
            "to be a dict",
            "e.g. Lambda(jnp.sum, arguments=dict(axis=1))",
            TypeError,
        ),
    )

    function: Callable[..., Tree]
    output_shape: object = None
    mask: Callable[..., Tree] | None = None
    arguments: Mapping[str, object] | Fields | None = None

    @property
    def masking(self) -> str:  # type: ignore[override]
        if self.mask is None:
            return "refuse"
        return "use"

    def apply(
        self,
        params: Params,
        state: State,
        x: Tree,
        ctx: Context = INFERENCE,
    ) -> tuple[Tree, State]:
        options = {}
        if isinstance(self.arguments, Fields):
            options = self.arguments.as_dict()
        try:
            y = self.function(x, **options)  # NumPy cannot compute with traced arrays
        except jax.errors.TracerArrayConversionError as error:
            raise TypeError(
                f"Lambda: expected a function of JAX, received {self.function!r}, which needs the "
                "values of its inputs, as functions of NumPy do; use those of jax.numpy"
            ) from error
        if self.mask is not None:
            y = Masked(y, self.mask(x, ctx.mask))
        return y, state
