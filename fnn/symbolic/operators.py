"""Operators: the methods of nodes behind `x + y`, `x @ y`, `x[:, 0]` and NumPy's functions."""

from __future__ import annotations

import functools
import inspect
import numbers
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from fnn.core import arguments
from fnn.core.layer import Layer
from fnn.runtime.keras_objects import is_called_by_keras, refuse_keras
from fnn.symbolic.operations import OPERATORS, SYMBOLS, GetItem, MatMul, Operator

_NUMERIC = (numbers.Number, np.generic, np.ndarray, jax.Array)
CONSTANTS = (*_NUMERIC, list, tuple)

# A node, of the class that `fnn.symbolic.node` defines above; or NotImplemented.
NodeLike: TypeAlias = Any

_PERMUTE = "use Permute(dims)(x), since the batch stays first"
_RESHAPE = "use Reshape(shape)(x), the shape of one example"
_JOIN = "use Concatenate(axis=-1)([x, y]), since axis 0 is the batch"
_FLATTEN = "use Flatten()(x), which keeps the batch"


def _for_all(names: str, advice: str) -> dict[str, str]:
    return dict.fromkeys(names.split(), advice)


# Attributes of arrays and functions of NumPy, with their replacement for a node.
ADVICE = {
    **_for_all("transpose T mT swapaxes moveaxis permute_dims", _PERMUTE),
    **_for_all("reshape squeeze", _RESHAPE),
    **_for_all("concatenate concat append hstack vstack dstack", _JOIN),
    **_for_all("flatten ravel", _FLATTEN),
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

# The NumPy functions of operators that have another name in `OPERATORS`.
UFUNCS = {"true_divide": "divide", "remainder": "mod", "invert": "bitwise_not"}


def combine(name: str, *operands: object) -> NodeLike:
    """The node of an operator on nodes, or on a node and a constant; NotImplemented for others."""
    layer: Callable[..., Layer] = functools.partial(Operator, name)
    if name == "matmul":
        layer = MatMul
    constants = [a for a in operands if not isinstance(a, Operators)]
    if not constants:
        if len(operands) == 1:
            return layer()(operands[0])
        return layer()(operands)
    constant = constants[0]
    if not isinstance(constant, CONSTANTS):
        refuse_keras(constant)
        return NotImplemented
    first, *others = operands
    reflected = first is constant
    node = first
    if reflected:
        node = others[0]
    if isinstance(constant, jax.Array):
        constant = np.asarray(constant)
    return layer(constant, reflected)(node)


def _operator(name: str, reflected: bool = False) -> Callable[..., NodeLike]:
    """The method of an operator between a node and another node or a constant."""

    def method(self: Operators, other: object) -> NodeLike:
        if reflected:
            return combine(name, other, self)
        return combine(name, self, other)

    return method


def _unary(name: str) -> Callable[..., NodeLike]:
    """The method of an operator on one node."""

    def method(self: Operators) -> NodeLike:
        return combine(name, self)

    return method


def _equality(name: str) -> Callable[..., NodeLike]:
    """The method of == or !=: an operator with numbers and arrays, else identity as a bool.

    Nodes are kept in sets and compared with None, which needs a bool.
    """

    def method(self: Operators, other: object) -> NodeLike:
        if isinstance(other, _NUMERIC):
            return combine(name, self, other)
        return (self is other) == (name == "equal")

    return method


def _ufunc(
    self: Operators,
    ufunc: np.ufunc,
    method: str,
    *operands: object,
    **named: object,
) -> NodeLike:
    """NumPy's universal functions of nodes: a node if the function is an operator, else an error.

    So `array + node`, which NumPy computes as `np.add(array, node)`, is an operator too.
    """
    name = UFUNCS.get(ufunc.__name__, ufunc.__name__)
    if method == "__call__" and not named:
        if name == "positive":
            return self
        if name in OPERATORS:
            node = combine(name, *operands)
            if node is not NotImplemented:
                return node
    shown = f"np.{ufunc.__name__}"
    if method != "__call__":
        shown = f"{shown}.{method}"
    advice = _advice_for_ufunc(name, method, operands, named)
    raise TypeError(
        f"expected arrays for {shown}, received {self!r}, {_SYMBOLIC}; {advice}"
    )


def _advice_for_ufunc(
    name: str,
    method: str,
    operands: tuple[object, ...],
    named: dict[str, object],
) -> str:
    """The replacement for a call of a universal function that is not an operator."""
    if method != "__call__":
        return _advice_of_jax("sum")
    if named and name in SYMBOLS:
        left, right = "x", "y"
        if "out" in named:
            left, right = "array = array", "x"
        return f"write {left} {SYMBOLS[name]} {right}, without {' and '.join(named)}"
    if sum(isinstance(a, Operators) for a in operands) == 2:
        return f"use Lambda(lambda pair: jnp.{name}(*pair))([x, y])"
    return _advice_of_jax(name)


def _array_function(
    self: Operators,
    function: Callable[..., object],
    types: object,
    given: tuple[object, ...],
    named: dict[str, object],
) -> tuple[int | None, ...]:
    """NumPy's other functions (np.sum, np.concatenate): an error, except for np.shape."""
    if function is np.shape:
        return self.shape
    name = function.__name__
    shown = f"{function.__module__}.{name}".replace("numpy", "np", 1)
    advice = (
        ADVICE.get(name) or _advice_of_jax(shown.removeprefix("np.")) or _ALTERNATIVES
    )
    raise TypeError(
        f"expected arrays for {shown}, received {self!r}, {_SYMBOLIC}; {advice}"
    )


_SYMBOLIC = "a symbolic node, which has no values yet"
_ALTERNATIVES = (
    "use operators (x + y, x[:, 0]), a layer (Concatenate, Flatten, Reshape, Permute, Add, "
    "Average, Maximum, Activation), or a function of JAX on each example: "
    "Lambda(lambda x: jnp.sum(x, axis=-1))(x)"
)


def _advice_of_jax(name: str) -> str:
    """The advice to put a function of JAX into a layer; empty if JAX has none of that name.

    A call names an axis if the function takes one: the default would mix the examples.
    """
    function: Any = jnp
    for part in name.split("."):
        function = getattr(function, part, None)
    if not callable(function):
        return ""
    ufunc = getattr(np, name, None)
    if getattr(ufunc, "nin", 2) == 1 or name == "round":
        return f"use Lambda(jnp.{name})(x)"
    try:
        parameters = inspect.signature(function).parameters
    except ValueError:
        return ""
    required = [
        p
        for p in parameters.values()
        if p.default is p.empty and p.kind is not p.VAR_KEYWORD
    ]
    if "axis" not in parameters:
        return f"use Lambda(lambda x: jnp.{name}(x, ...))(x)"
    call = "x"
    if len(required) > 1:
        call = "x, ..."
    return f"use Lambda(lambda x: jnp.{name}({call}, axis=-1))(x), any axis but 0, the batch"


def _no_array(self: Operators, *args: object, **named: object) -> NoReturn:
    if is_called_by_keras():
        raise TypeError(
            f"expected a node or array of Keras, received {self!r} of fnn; import the layer or "
            "function that was called on it from fnn.layers or fnn.ops"
        )
    raise ValueError(
        f"expected an array, received {self!r}, {_SYMBOLIC}; {_ALTERNATIVES}; put a constant "
        "array after the node: x * constant"
    )


def _has_no(noun: str, advice: str) -> Callable[..., NoReturn]:
    """A method that raises TypeError: nodes have no values, so no truth value, no length."""

    def method(self: Operators, *given: object) -> NoReturn:
        raise TypeError(
            f"{self!r} is a symbolic node, which has no {noun} yet; {advice}"
        )

    return method


def _power(self: Operators, other: object, modulus: object = None) -> NodeLike:
    if modulus is not None:
        raise TypeError(
            f"pow({self!r}, y, z) takes two arguments of a node; write x**y % z"
        )
    return combine("power", self, other)


class Operators:
    """The base class of `Node`: Python's operators and NumPy's functions make nodes, or raise."""

    is_symbolic = True

    if TYPE_CHECKING:

        @property
        def shape(self) -> tuple[int | None, ...]: ...

    __array_ufunc__ = _ufunc
    __array_function__ = _array_function
    __array__ = _no_array
    # A property, which raises when JAX looks it up: JAX hides the errors of a call.
    __jax_array__ = property(_no_array)

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
        "values to iterate over", "use x[:, 0] for a part, x.shape for the shape"
    )

    __add__ = _operator("add")
    __radd__ = _operator("add", reflected=True)
    __sub__ = _operator("subtract")
    __rsub__ = _operator("subtract", reflected=True)
    __mul__ = _operator("multiply")
    __rmul__ = _operator("multiply", reflected=True)
    __truediv__ = _operator("divide")
    __rtruediv__ = _operator("divide", reflected=True)
    __floordiv__ = _operator("floor_divide")
    __rfloordiv__ = _operator("floor_divide", reflected=True)
    __mod__ = _operator("mod")
    __rmod__ = _operator("mod", reflected=True)
    __pow__ = _power
    __rpow__ = _operator("power", reflected=True)
    __matmul__ = _operator("matmul")
    __rmatmul__ = _operator("matmul", reflected=True)
    __lt__ = _operator("less")
    __le__ = _operator("less_equal")
    __gt__ = _operator("greater")
    __ge__ = _operator("greater_equal")
    __eq__ = _equality("equal")
    __ne__ = _equality("not_equal")
    __hash__ = object.__hash__
    __and__ = _operator("bitwise_and")
    __rand__ = _operator("bitwise_and", reflected=True)
    __or__ = _operator("bitwise_or")
    __ror__ = _operator("bitwise_or", reflected=True)
    __xor__ = _operator("bitwise_xor")
    __rxor__ = _operator("bitwise_xor", reflected=True)
    __neg__ = _unary("negative")
    __abs__ = _unary("absolute")
    __invert__ = _unary("bitwise_not")

    def __pos__(self) -> Any:
        return self

    def __getitem__(self, index: object) -> Any:
        return GetItem(index)(self)

    def __setitem__(self, index: object, value: object) -> NoReturn:
        raise TypeError(
            f"expected an array to write into, received {self!r}, whose values never change; use "
            "Lambda(lambda x: x.at[...].set(...))(x)"
        )

    if not TYPE_CHECKING:  # a type checker would accept every name

        def __getattr__(self, name: str) -> object:
            """Raises AttributeError with the replacement for an attribute of arrays."""
            advice = ADVICE.get(name, "")
            if not advice and not name.startswith("_"):
                advice = _advice_of_jax(name)
            known = {}
            if advice:
                known[name] = advice
            raise arguments.no_attribute(self, name, known)
