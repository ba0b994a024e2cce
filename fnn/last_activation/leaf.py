"""End: the activation that a layer computes last; and the layer without it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax

from fnn.core.layer import Layer, activate
from fnn.core.masking import attach_mask, split_mask
from fnn.core.value import resolve
from fnn.layers import (
    Activation,
    ActivityRegularization,
    Conv1D,
    Conv1DTranspose,
    Dense,
    DepthwiseConv1D,
    EinsumDense,
    Flatten,
    Identity,
    Lambda,
    Reshape,
    SeparableConv1D,
    Softmax,
)

# Layers whose outputs are their field `activation` of something. Conv2D has the same `apply` as
# Conv1D, and so on.
_DENSE = {layer.apply for layer in (Activation, Dense, EinsumDense)}
_CONVOLUTIONS = {
    layer.apply for layer in (Conv1D, Conv1DTranspose, DepthwiseConv1D, SeparableConv1D)
}
# Layers whose outputs are their inputs, in other places at most.
_MOVING = {
    layer.apply for layer in (Identity, ActivityRegularization, Flatten, Reshape)
}

_NAMES = {
    jax.nn.softmax: "softmax",
    jax.nn.sigmoid: "sigmoid",
    jax.scipy.special.softmax: "softmax",
    jax.scipy.special.expit: "sigmoid",
}


@dataclass(frozen=True)
class End:
    """What an output of a network ends in: the last layer that computes it, and its activation.

    `name` is "softmax" or "sigmoid" where the activation can be cut off; a softmax is then one of
    the last axis of the output. `dtype` is the one to compute it in, if not that of the logits.

    >>> End(Dense(2, "sigmoid"), "sigmoid", "sigmoid").of(jnp.zeros((1, 2))).tolist()
    [[0.5, 0.5]]
    """

    layer: Layer
    activation: Any
    name: str | None = None
    dtype: Any = None

    def of(self, logits: Any) -> Any:
        """The output, made of the logits (or what is there without a name); a mask stays."""
        z, mask = split_mask(logits)
        if self.dtype is None:
            return attach_mask(activate(self.name, z), mask)
        return attach_mask(
            activate(self.name, z.astype(self.dtype)).astype(z.dtype), mask
        )

    def name_for(self, shape: tuple[int, ...]) -> str | None:
        """`name`, for outputs of this shape: a softmax over one class has no logits."""
        return None if self.name == "softmax" and shape[-1:] == (1,) else self.name


def moves_inputs(layer: Any) -> bool:
    """Whether the outputs of a layer are its inputs, in other places at most."""
    apply = type(layer).apply
    return apply in _MOVING or (
        apply is Activation.apply and layer.activation in (None, "linear")
    )


def penalty(layer: Layer) -> Any:
    """The regularizer of the outputs of a layer, or None."""
    return getattr(layer, "activity_regularizer", None)


def split(
    layer: Any, spec: Callable[[], Any], rank: Callable[[], int]
) -> tuple[Any, End] | None:
    """(the layer without the activation that it computes last, that); None if it is not known.

    `spec()` are the shapes of the inputs, `rank()` is the number of axes of the output.
    """
    apply, rest = type(layer).apply, layer
    if apply in _DENSE or apply in _CONVOLUTIONS:
        rest, activation = layer.replace(activation=None), layer.activation
    elif apply is Softmax.apply and not _masks_classes(spec()):
        common = {name: getattr(layer, name) for name in ("name", "trainable", "dtype")}
        rest = Activation(None, **common)
        activation = functools.partial(
            resolve("activation", "softmax"), axis=layer.axis
        )
    elif apply is Lambda.apply:
        options = layer.arguments.as_dict() if layer.arguments else {}
        rest = layer.replace(function=_unchanged, arguments=None)
        activation = functools.partial(layer.function, **options)
    else:
        return None
    return rest, End(layer, activation, _name(activation, rank))


def _unchanged(x: Any) -> Any:
    return x


def _masks_classes(inputs: Any) -> bool:
    """Whether the inputs of a `Softmax` bring a mask of its classes."""
    values, mask = split_mask(inputs)
    return not hasattr(values, "shape") or (
        mask is not None and len(mask.shape) == values.ndim
    )


def _name(activation: Any, rank: Callable[[], int]) -> str | None:
    """The activation if it is a sigmoid or a softmax of the last axis, by its name; else None."""
    options: dict[str, Any] = {}
    while isinstance(activation, functools.partial) and not activation.args:
        activation, options = activation.func, {**activation.keywords, **options}
    functions = {resolve("activation", name): name for name in ("softmax", "sigmoid")}
    name = activation
    if not isinstance(activation, str):
        known = (_NAMES | functions).items()
        name = next((name for function, name in known if function is activation), None)
    axis = options.pop("axis", -1)
    axis = axis[0] if isinstance(axis, tuple) and len(axis) == 1 else axis
    if name not in ("softmax", "sigmoid") or options:
        return None
    return name if name == "sigmoid" or axis == -1 or axis == rank() - 1 else None
