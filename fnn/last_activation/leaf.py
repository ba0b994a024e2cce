"""End: the last activation of a layer; and the layer without it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
from jax import Array

from fnn.core.context import attach_mask, split_mask
from fnn.core.layer import Activation as ActivationField
from fnn.core.layer import Layer, Regularizer, activate
from fnn.core.tree import SpecTree, Tree
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

# Layers that apply their field `activation` last. Conv2D has the same `apply` as Conv1D, and so
# on.
_WITH_ACTIVATION = {
    layer.apply
    for layer in (
        Activation,
        Dense,
        EinsumDense,
        Conv1D,
        Conv1DTranspose,
        DepthwiseConv1D,
        SeparableConv1D,
    )
}
# Layers that return their inputs, at most in another shape.
_MOVING = {
    layer.apply for layer in (Identity, ActivityRegularization, Flatten, Reshape)
}

_NAMES: dict[Callable[..., Array], str] = {
    jax.nn.softmax: "softmax",
    jax.nn.sigmoid: "sigmoid",
    jax.scipy.special.softmax: "softmax",
    jax.scipy.special.expit: "sigmoid",
}


@dataclass(frozen=True)
class End:
    """How an output of a network is computed last: the layer, and its activation.

    `name` is "softmax" or "sigmoid" if the activation can be removed, else None; a softmax is over
    the last axis of the output. `dtype` is the dtype to compute it in, if not that of the logits.

    >>> End(Dense(2, "sigmoid"), "sigmoid", "sigmoid").of(jnp.zeros((1, 2))).tolist()
    [[0.5, 0.5]]
    """

    layer: Layer
    activation: ActivationField
    name: str | None = None
    dtype: Any = None

    def of(self, logits: Tree) -> Tree:
        """The output for these logits (without a name, for the output itself); a mask is kept."""
        z, mask = split_mask(logits)
        if self.dtype is None:
            return attach_mask(activate(self.name, z), mask)
        y = activate(self.name, z.astype(self.dtype))
        return attach_mask(y.astype(z.dtype), mask)

    def name_for(self, shape: tuple[int, ...]) -> str | None:
        """`name` for outputs of this shape: None for a softmax over one class."""
        if self.name == "softmax" and shape[-1:] == (1,):
            return None
        return self.name


class Split(NamedTuple):
    """A layer without its last activation, and that activation."""

    rest: Layer
    end: End


def moves_inputs(layer: Layer) -> bool:
    """Whether a layer returns its inputs, at most in another shape."""
    apply = type(layer).apply
    if apply in _MOVING:
        return True
    if apply is not Activation.apply:
        return False
    return getattr(layer, "activation", None) in (None, "linear")


def penalty(layer: Layer) -> Regularizer:
    """The regularizer of the outputs of a layer, or None."""
    return getattr(layer, "activity_regularizer", None)


def split(
    layer: Any,
    spec: Callable[[], SpecTree],
    rank: Callable[[], int],
) -> Split | None:
    """The layer without its last activation, and that; None if the layer is not known.

    `spec()` returns the shapes of the inputs, `rank()` the number of axes of the output.
    """
    apply = type(layer).apply
    if apply in _WITH_ACTIVATION:
        rest = layer.replace(activation=None)
        activation = layer.activation
    elif apply is Softmax.apply and not _masks_classes(spec()):
        rest = Activation(
            None,
            name=layer.own_name,
            trainable=layer.trainable,
            dtype=layer.dtype,
        )
        softmax = resolve("activation", "softmax")
        activation = functools.partial(softmax, axis=layer.axis)
    elif apply is Lambda.apply:
        options = {}
        if layer.arguments:
            options = layer.arguments.as_dict()
        rest = layer.replace(function=_unchanged, arguments=None)
        activation = functools.partial(layer.function, **options)
    else:
        return None
    return Split(rest, End(layer, activation, _name(activation, rank)))


def _unchanged(x: Tree) -> Tree:
    return x


def _masks_classes(inputs: SpecTree) -> bool:
    """Whether the inputs of a `Softmax` include a mask of its classes."""
    values, mask = split_mask(inputs)
    if not hasattr(values, "shape"):
        return True
    return mask is not None and len(mask.shape) == values.ndim


def _name(activation: ActivationField, rank: Callable[[], int]) -> str | None:
    """ "sigmoid", or "softmax" for one over the last axis; None for other activations."""
    options: dict[str, Any] = {}
    while isinstance(activation, functools.partial) and not activation.args:
        options = {**activation.keywords, **options}
        activation = activation.func
    name = _registered_name(activation)
    axis = options.pop("axis", -1)
    if name not in ("softmax", "sigmoid") or options:
        return None
    if isinstance(axis, tuple) and len(axis) == 1:
        axis = axis[0]
    if name == "sigmoid" or axis == -1 or axis == rank() - 1:
        return name
    return None


def _registered_name(activation: ActivationField) -> str | None:
    """The name of an activation given by name, or as one of the functions of these names."""
    if isinstance(activation, str):
        return activation
    names = dict(_NAMES)
    for name in ("softmax", "sigmoid"):
        names[resolve("activation", name)] = name
    for function, name in names.items():
        if function is activation:
            return name
    return None
