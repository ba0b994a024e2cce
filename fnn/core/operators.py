"""Operators: `x + y`, `x * 2`, `x @ y`, `x[:, 0]` of nodes, each a node of a layer."""

from __future__ import annotations

import numbers
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn.core import absent
from fnn.core.registry import lookup

CONSTANTS = (numbers.Number, np.generic, np.ndarray, jax.Array, list, tuple)


UNARY = ("negative", "absolute", "bitwise_not")
BINARY = (
    *("add", "subtract", "multiply", "divide", "floor_divide", "mod", "power"),
    *("less", "less_equal", "greater", "greater_equal", "equal", "not_equal"),
    *("bitwise_and", "bitwise_or", "bitwise_xor"),
)
OPERATORS = {*UNARY, *BINARY, "matmul"}

# Attributes of arrays that are no function of JAX, and what to do on a node.
ATTRIBUTES = {
    "ndim": "use len(x.shape)",
    "size": "use x.shape",
    "reshape": "use Reshape(shape)(x), the shape of one example",
    "transpose": "use Permute(dims)(x), since the batch stays first",
    "astype": "use Lambda(lambda x: x.astype(dtype))(x)",
    "T": "use Permute(dims)(x), since the batch stays first",
    "numpy": "its values are not there yet: use model.predict(x) on arrays",
    "at": "use Lambda(lambda x: x.at[...].set(...))(x)",
}

# NumPy's functions that are operators of Python, by the names that layers give them.
UFUNCS = {"true_divide": "divide", "remainder": "mod", "invert": "bitwise_not"}


def combine(name: str, *operands: Any) -> Any:
    """The node of an operator on nodes, or on a node and a constant; NotImplemented for others."""
    make = lookup("layer", "MatMul" if name == "matmul" else "Operator")
    function = () if name == "matmul" else (name,)
    constants = [a for a in operands if not isinstance(a, Operators)]
    if not constants:
        return make(*function)(operands if len(operands) > 1 else operands[0])
    if not isinstance(constants[0], CONSTANTS):
        return NotImplemented
    constant, reflected = constants[0], operands[0] is constants[0]
    constant = np.asarray(constant) if isinstance(constant, jax.Array) else constant
    return make(*function, constant, reflected)(operands[1 if reflected else 0])


def _operator(name: str, reflected: bool = False) -> Callable[[Any, Any], Any]:
    """The method for an operator between a node and another or a constant."""

    def method(self: Any, other: Any) -> Any:
        return combine(name, other, self) if reflected else combine(name, self, other)

    return method


def _unary(name: str) -> Callable[[Any], Any]:
    return lambda self: combine(name, self)


def _equality(name: str) -> Callable[[Any, Any], Any]:
    """With numbers and arrays an operator; with anything else, nodes too, whether it is the same.

    Nodes are kept in sets and compared with None, so these need an answer that is no node.
    """

    def method(self: Any, other: Any) -> Any:
        if isinstance(other, (numbers.Number, np.generic, np.ndarray, jax.Array)):
            return combine(name, self, other)
        return (self is other) == (name == "equal")

    return method


def _ufunc(self: Any, ufunc: Any, method: str, *operands: Any, **named: Any) -> Any:
    """What NumPy's functions make of nodes: nodes where they are operators, else an error.

    So `array + node`, which NumPy computes as `np.add(array, node)`, is an operator too.
    """
    name = UFUNCS.get(ufunc.__name__, ufunc.__name__)
    if method == "__call__" and not named and name in OPERATORS:
        node = combine(name, *operands)
        if node is not NotImplemented:
            return node
    shown, function = f"np.{ufunc.__name__}", f"lambda x: jnp.{name}(x, ...)"
    if method != "__call__":
        shown, function = f"{shown}.{method}", "jnp.sum"
    elif len(operands) == 1:
        function = f"jnp.{name}"
    raise TypeError(
        f"expected arrays for {shown}, received {self!r}, which stands for values that "
        f"are not there yet; use Lambda({function})(x), a layer of the function of JAX"
    )


def _no_array(self: Any, *args: Any, **named: Any) -> Any:
    raise ValueError(
        f"expected an array, received {self!r}, which stands for values that are not there yet; do "
        "Lambda(jnp.sum)(x) for a function of JAX or NumPy, Activation for an activation, and put "
        "a constant array after the node: x * constant"
    )


_LATER = "do Lambda(function)(x) for what depends on them"


def _no_value(word: str, advice: str) -> Callable[..., Any]:
    def method(self: Any, *given: Any) -> Any:
        raise TypeError(
            f"expected a value with {word}, received {self!r}, which stands for values that are "
            f"not there yet; {advice}"
        )

    return method


class Operators:
    """What makes a node answer to Python's operators and NumPy's functions; `Node` is one."""

    __array_ufunc__ = _ufunc
    __array__ = _no_array
    __jax_array__ = property(_no_array)  # JAX asks whether there is one, and hides what it raises

    __bool__ = _no_value("a truth", _LATER)
    __float__ = __int__ = __complex__ = __index__ = _no_value("a number", _LATER)
    __round__ = _no_value("a number", "use Lambda(jnp.round)(x)")
    __contains__ = _no_value("items", _LATER)
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
    __eq__, __ne__ = _equality("equal"), _equality("not_equal")
    __hash__ = object.__hash__
    __and__, __rand__ = _operator("bitwise_and"), _operator("bitwise_and", True)
    __or__, __ror__ = _operator("bitwise_or"), _operator("bitwise_or", True)
    __xor__, __rxor__ = _operator("bitwise_xor"), _operator("bitwise_xor", True)
    __neg__, __abs__, __invert__ = _unary("negative"), _unary("absolute"), _unary("bitwise_not")

    def __pos__(self) -> Any:
        return self

    def __getitem__(self, index: Any) -> Any:
        return lookup("layer", "GetItem")(index)(self)

    def __setitem__(self, index: Any, value: Any) -> None:
        raise TypeError(
            f"expected an array to write into, received {self!r}, whose values never change; use "
            "Lambda(lambda x: x.at[...].set(...))(x)"
        )

    if not TYPE_CHECKING:  # a type checker would take every name for one that is there

        def __getattr__(self, name: str) -> Any:
            """Attributes of arrays, with what a node has in their place."""
            function = None if name.startswith("_") else getattr(jnp, name, None)
            known = {name: f"use Lambda(jnp.{name})(x), a layer of the function of JAX"}
            raise absent.attribute(self, name, (known if callable(function) else {}) | ATTRIBUTES)
