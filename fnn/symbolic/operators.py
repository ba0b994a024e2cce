"""Operators: `x + y`, `x * 2`, `x @ y`, `x[:, 0]` of nodes, each a node of a layer."""

from __future__ import annotations

import inspect
import numbers
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn.core import arguments
from fnn.symbolic.operations import OPERATORS, SYMBOLS, GetItem, MatMul, Operator

CONSTANTS = (numbers.Number, np.generic, np.ndarray, jax.Array, list, tuple)

_PERMUTE = "use Permute(dims)(x), since the batch stays first"
_RESHAPE = "use Reshape(shape)(x), the shape of one example"
_JOIN = "use Concatenate(axis=-1)([x, y]), since axis 0 is the batch"

# Attributes of arrays and functions of NumPy, and what to use on a node in their place.
ADVICE = {
    **dict.fromkeys(
        ("transpose", "T", "mT", "swapaxes", "moveaxis", "permute_dims"), _PERMUTE
    ),
    **dict.fromkeys(("reshape", "squeeze"), _RESHAPE),
    **dict.fromkeys(
        ("concatenate", "concat", "append", "hstack", "vstack", "dstack"), _JOIN
    ),
    **dict.fromkeys(("flatten", "ravel"), "use Flatten()(x), which keeps the batch"),
    "stack": "use Concatenate(axis=1)([x[:, None], y[:, None]]), since axis 0 is the batch",
    "dot": "use x @ constant, or Dot(axes=-1)([x, y])",
    "einsum": "use Lambda(lambda pair: jnp.einsum('bi,bi->b', *pair))([x, y])",
    "expand_dims": "use x[:, None] or x[..., None]",
    "where": "use Lambda(lambda x: jnp.where(x > 0, x, 0))(x)",
    "ndim": "use len(x.shape)",
    "size": "use x.shape",
    "astype": "use Lambda(lambda x: x.astype(dtype))(x)",
    "numpy": "use model.predict(x) on arrays",
    "at": "use Lambda(lambda x: x.at[...].set(...))(x)",
}

# NumPy's functions that are operators of Python, by the names that layers give them.
UFUNCS = {"true_divide": "divide", "remainder": "mod", "invert": "bitwise_not"}


def combine(name: str, *operands: Any) -> Any:
    """The node of an operator on nodes, or on a node and a constant; NotImplemented for others."""
    make: Any = MatMul if name == "matmul" else Operator
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
    plain = method == "__call__" and not named
    if plain and name == "positive":
        return self
    node = combine(name, *operands) if plain and name in OPERATORS else NotImplemented
    if node is not NotImplemented:
        return node
    if method == "__call__" and named and name in SYMBOLS:
        sides = ("array = array", "x") if "out" in named else ("x", "y")
        advice = (
            f"write {f' {SYMBOLS[name]} '.join(sides)}, without {' and '.join(named)}"
        )
    elif method == "__call__" and sum(isinstance(a, Operators) for a in operands) == 2:
        advice = f"use Lambda(lambda pair: jnp.{name}(*pair))([x, y])"
    else:
        advice = _of_jax(name if method == "__call__" else "sum")
    shown = f"np.{ufunc.__name__}" + (f".{method}" if method != "__call__" else "")
    raise TypeError(
        f"expected arrays for {shown}, received {self!r}, {_SYMBOLIC}; {advice}"
    )


def _array_function(
    self: Any, function: Any, types: Any, given: Any, named: Any
) -> Any:
    """NumPy's other functions (np.sum, np.concatenate): none computes with a node."""
    if function is np.shape:
        return self.shape
    name = function.__name__
    shown = f"{function.__module__}.{name}".replace("numpy", "np", 1)
    advice = ADVICE.get(name) or _of_jax(shown.removeprefix("np.")) or _GENERAL
    raise TypeError(
        f"expected arrays for {shown}, received {self!r}, {_SYMBOLIC}; {advice}"
    )


_SYMBOLIC = "a symbolic node, which has no values yet"
_GENERAL = (
    "use operators (x + y, x[:, 0]), a layer (Concatenate, Flatten, Reshape, Permute, Add, "
    "Average, Maximum, Activation), or a function of JAX on each example: "
    "Lambda(lambda x: jnp.sum(x, axis=-1))(x)"
)


def _of_jax(name: str) -> str:
    """The advice to put a function of JAX into a layer; empty where JAX has none of that name.

    Where it has an axis, the call names one: by default it would mix the examples of the batch.
    """
    found: Any = jnp
    for part in name.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        return ""
    ufunc = getattr(np, name, None)
    if getattr(ufunc, "nin", 2) == 1 or name == "round":
        return f"use Lambda(jnp.{name})(x)"
    try:
        taken = inspect.signature(found).parameters
    except ValueError:
        return ""
    needed = [
        p
        for p in taken.values()
        if p.default is p.empty and p.kind is not p.VAR_KEYWORD
    ]
    call = "x, ..." if len(needed) > 1 or "axis" not in taken else "x"
    if "axis" not in taken:
        return f"use Lambda(lambda x: jnp.{name}({call}))(x)"
    return f"use Lambda(lambda x: jnp.{name}({call}, axis=-1))(x), any axis but 0, the batch"


def _no_array(self: Any, *args: Any, **named: Any) -> Any:
    raise ValueError(
        f"expected an array, received {self!r}, {_SYMBOLIC}; {_GENERAL}; put a constant array "
        "after the node: x * constant"
    )


def _has_no(what: str, advice: str) -> Callable[..., Any]:
    def method(self: Any, *given: Any) -> Any:
        raise TypeError(
            f"{self!r} is a symbolic node, which has no {what} yet; {advice}"
        )

    return method


def _power(self: Any, other: Any, modulus: Any = None) -> Any:
    if modulus is not None:
        raise TypeError(
            f"pow({self!r}, y, z) takes two arguments of a node; write x**y % z"
        )
    return combine("power", self, other)


class Operators:
    """What makes a node answer to Python's operators and NumPy's functions; `Node` is one."""

    is_symbolic = True

    __array_ufunc__, __array_function__ = _ufunc, _array_function
    __array__ = _no_array
    __jax_array__ = property(
        _no_array
    )  # JAX asks whether there is one, and hides what it raises

    __bool__ = _has_no(
        "truth value",
        "write (x > 0) & (x < 1) for `0 < x < 1` and for `and`, | for `or`, ~ for `not`, and "
        "Lambda(lambda x: jnp.where(x > 0, x, 0))(x) for `if`",
    )
    __float__ = __int__ = __complex__ = __index__ = _has_no(
        "values",
        "compute with the node (x * 2), use x.shape for sizes, model.predict(x) for values",
    )
    __round__ = _has_no("values", "use Lambda(jnp.round)(x)")
    __contains__ = _has_no(
        "values", "use Lambda(lambda x: jnp.any(x == 1, axis=-1))(x)"
    )
    __len__ = _has_no("length", "use x.shape")
    __iter__ = _has_no(
        "values to go through", "use x[:, 0] for a part, x.shape for the shape"
    )

    __add__, __radd__ = _operator("add"), _operator("add", True)
    __sub__, __rsub__ = _operator("subtract"), _operator("subtract", True)
    __mul__, __rmul__ = _operator("multiply"), _operator("multiply", True)
    __truediv__, __rtruediv__ = _operator("divide"), _operator("divide", True)
    __floordiv__, __rfloordiv__ = (
        _operator("floor_divide"),
        _operator("floor_divide", True),
    )
    __mod__, __rmod__ = _operator("mod"), _operator("mod", True)
    __pow__, __rpow__ = _power, _operator("power", True)
    __matmul__, __rmatmul__ = _operator("matmul"), _operator("matmul", True)
    __lt__, __le__ = _operator("less"), _operator("less_equal")
    __gt__, __ge__ = _operator("greater"), _operator("greater_equal")
    __eq__, __ne__ = _equality("equal"), _equality("not_equal")
    __hash__ = object.__hash__
    __and__, __rand__ = _operator("bitwise_and"), _operator("bitwise_and", True)
    __or__, __ror__ = _operator("bitwise_or"), _operator("bitwise_or", True)
    __xor__, __rxor__ = _operator("bitwise_xor"), _operator("bitwise_xor", True)
    __neg__, __abs__, __invert__ = (
        _unary("negative"),
        _unary("absolute"),
        _unary("bitwise_not"),
    )

    def __pos__(self) -> Any:
        return self

    def __getitem__(self, index: Any) -> Any:
        return GetItem(index)(self)

    def __setitem__(self, index: Any, value: Any) -> None:
        raise TypeError(
            f"expected an array to write into, received {self!r}, whose values never change; use "
            "Lambda(lambda x: x.at[...].set(...))(x)"
        )

    if not TYPE_CHECKING:  # a type checker would take every name for one that is there

        def __getattr__(self, name: str) -> Any:
            """Attributes of arrays, with what a node has in their place."""
            advice = ADVICE.get(name) or ("" if name.startswith("_") else _of_jax(name))
            raise arguments.no_attribute(self, name, {name: advice} if advice else {})
