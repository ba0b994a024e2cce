"""Precision: a layer runs in its dtype, and so do its children that have none of their own."""

from __future__ import annotations

import copy
import operator
from typing import TYPE_CHECKING, Any

from fnn.core import tree
from fnn.core.config import Fields

if TYPE_CHECKING:
    from fnn.core.layer import Layer


def with_dtype_of_children(layer: Layer) -> Layer:
    """`layer`, each layer in its fields in its dtype, unless that has a dtype of its own.

    The names of children, and so the paths of their weights, stay as they are.

    >>> from fnn.layers import Dense, Sequential
    >>> with_dtype_of_children(Sequential([Dense(2), Dense(3, dtype="float32")], dtype="bfloat16"))
    Sequential(dtype='bfloat16', layers=(Dense(dtype='bfloat16', units=2), \
Dense(dtype='float32', units=3)))
    """
    if layer.dtype is None:
        return layer
    fields = {name: value for name, value in vars(layer).items() if name[0] != "_"}
    changed = {name: _in_dtype(value, layer.dtype) for name, value in fields.items()}
    return _with(layer, {n: value for n, value in changed.items() if value is not fields[n]})


def _in_dtype(value: Any, dtype: str | None) -> Any:
    """The value of a field, the layers in it in `dtype`; the same object where there are none."""
    if isinstance(value, Fields):
        items = _in_dtype(value.items, dtype)
        return value if items is value.items else Fields(items)
    if type(value) is tuple:
        changed = tuple(_in_dtype(item, dtype) for item in value)
        return value if all(map(operator.is_, changed, value)) else changed
    without = getattr(value, "kind", None) == "layer" and value.dtype is None
    return _with(value, {"dtype": dtype}) if without and not isinstance(value, type) else value


def _with(layer: Layer, attributes: dict[str, Any]) -> Layer:
    """A copy with other attributes, also of a class with an `__init__` of its own."""
    if not attributes:
        return layer
    changed = copy.copy(layer)
    for name, value in attributes.items():
        object.__setattr__(changed, name, value)
    return changed


def run_init(function: Any, layer: Layer, *given: Any, **named: Any) -> Any:
    """`init` of a layer with a dtype: float64 children make weights of float64."""
    return function(with_dtype_of_children(layer), *given, **named)


def run_apply(function: Any, layer: Layer, *given: Any, **named: Any) -> Any:
    """`apply` of a layer with a dtype: inputs and own weights come in it, children take it on."""
    inner = with_dtype_of_children(layer)
    ways = {
        "params": lambda params: _cast_own(inner, params),
        "state": lambda state: state,
        "x": lambda x: tree.cast(x, layer.dtype),
    }
    cast = [way(value) for way, value in zip(ways.values(), given, strict=False)]
    named = {name: ways[name](value) if name in ways else value for name, value in named.items()}
    return function(inner, *cast, *given[len(ways) :], **named)


def _cast_own(layer: Layer, params: Any) -> Any:
    """Weights in the dtype of their layer, but for those of children, who see to that themselves.

    A child with a wider dtype would else get weights that are rounded already.
    """
    names = {name for name, _ in layer.children()}
    if None in names or not isinstance(params, dict):  # all belong to that child
        return params if names else tree.cast(params, layer.dtype)
    return {n: w if n in names else tree.cast(w, layer.dtype) for n, w in params.items()}
