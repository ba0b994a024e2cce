"""Operators: `x + y`, `x * 2`, `x @ y`, `x[:, 0]` of nodes, each a node of a layer."""

from __future__ import annotations

import numbers
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from fnn.core.registry import lookup

CONSTANTS = (numbers.Number, np.generic, np.ndarray, jax.Array, list, tuple)


def _operator(name: str, reflected: bool = False) -> Callable[[Any, Any], Any]:
    """The method for an operator between a node and another or a constant."""

    def method(self: Any, other: Any) -> Any:
        make = lookup("layer", "MatMul" if name == "matmul" else "Operator")
        function = () if name == "matmul" else (name,)
        if isinstance(other, Operators):
            return make(*function)((self, other))
        if not isinstance(other, CONSTANTS):
            return NotImplemented
        constant = np.asarray(other) if isinstance(other, jax.Array) else other
        return make(*function, constant, reflected)(self)

    return method


def _no_array(self: Any, *args: Any, **named: Any) -> Any:
    raise ValueError(
        f"expected an array, received {self!r}, which stands for values that are not there yet; do "
        "Lambda(jnp.sum)(x) for a function of JAX or NumPy, Activation for an activation, and put "
        "a constant array after the node: x * constant"
    )


def _no_value(word: str, advice: str) -> Callable[[Any], Any]:
    def method(self: Any) -> Any:
        raise TypeError(
            f"expected a value with {word}, received {self!r}, which stands for values that are "
            f"not there yet; {advice}"
        )

    return method


class Operators:
    """What makes a node answer to Python's operators; `Node` is one."""

    __array_ufunc__ = None  # so that NumPy leaves array * node to the node
    __array__ = _no_array
    __jax_array__ = property(_no_array)  # JAX asks whether there is one, and hides what it raises

    __bool__ = _no_value("a truth", "do Lambda(function)(x) for what depends on them")
    __len__ = _no_value("a length", "do x.shape")
    __iter__ = _no_value("items", "do x[:, 0] for a part, x.shape for the shape")

    __add__, __radd__ = _operator("add"), _operator("add", True)
    __sub__, __rsub__ = _operator("subtract"), _operator("subtract", True)
    __mul__, __rmul__ = _operator("multiply"), _operator("multiply", True)
    __truediv__, __rtruediv__ = _operator("divide"), _operator("divide", True)
    __floordiv__, __rfloordiv__ = _operator("floor_divide"), _operator("floor_divide", True)
    __mod__, __rmod__ = _operator("mod"), _operator("mod", True)
    __pow__, __rpow__ = _operator("power"), _operator("power", True)
    __matmul__, __rmatmul__ = _operator("matmul"), _operator("matmul", True)
    __lt__, __le__ = _operator("less"), _operator("less_equal")
    __gt__, __ge__ = _operator("greater"), _operator("greater_equal")

    def __neg__(self) -> Any:
        return lookup("layer", "Operator")("negative")(self)

    def __abs__(self) -> Any:
        return lookup("layer", "Operator")("absolute")(self)

    def __getitem__(self, index: Any) -> Any:
        return lookup("layer", "GetItem")(index)(self)
