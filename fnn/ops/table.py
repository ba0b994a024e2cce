"""The table: makes each function of a row, Keras's signature and the function of JAX behind it."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from fnn.core.registry import TABLE
from fnn.core.tree import Tree
from fnn.ops.examples import EXAMPLES
from fnn.ops.operation import OPERATIONS, Known, on_nodes
from fnn.runtime.keras_objects import refuse_keras
from fnn.symbolic.node import Node
from fnn.variables import ArrayLike, value_of

Function = Callable[..., Tree]
Table = dict[str, Function]  # signature in Keras's words -> what computes it

# Types of arguments seen so far that neither are nodes nor contain any, for a fast check.
_PLAIN: set[type] = {bool, int, float, str, type(None)}

# Arguments that are arrays wherever they stand: lists and numbers are made arrays.
_NAMES_OF_ARRAYS = (
    "x x1 x2 y a b inputs images image1 image2 volumes kernel depthwise_kernel "
    "pointwise_kernel target output target_length output_length sequence_lengths mean "
    "variance offset scale query value bias mask data segment_ids indices values "
    "updates condition weights sorted_sequence q gamma beta coordinates transform "
    "start_points end_points targets predictions translation array abs_ angle"
)
ARRAYS = frozenset(_NAMES_OF_ARRAYS.split())


# Types of JAX's arrays and tracers seen so far.
_JAX_TYPES: set[type] = set()


def keeps_lists(function: Function) -> Function:
    """Marks a function that makes arrays of its arguments by itself."""
    function.keeps_lists = True  # type: ignore[attr-defined]
    return function


def takes_any(function: Function) -> Function:
    """Marks a function that hands its arguments to functions of JAX as they are."""
    function.takes_any = True  # type: ignore[attr-defined]
    return function


def rows(
    arguments: str,
    names: str,
    module: object,
    wrap: Callable[[Function], Function] | None = None,
) -> dict[str, Function]:
    """Rows of functions of a module that have these arguments.

    >>> list(rows("(x)", "sin cos", jnp))
    ['sin(x)', 'cos(x)']
    """
    found: dict[str, Function] = {}
    for name in names.split():
        function = getattr(module, name)
        found[name + arguments] = function if wrap is None else wrap(function)
    return found


def functions(home: str, table: Mapping[str, Function]) -> dict[str, Function]:
    """The functions of a table, by name; each is known to `Operation` from here on."""
    made = {}
    for text, compute in table.items():
        name, signature = _parsed(text)
        function = _function(name, signature, compute)
        function.__module__ = home
        function.__name__ = function.__qualname__ = name
        function.__doc__ = _sentence(name, compute)
        function.__signature__ = signature  # type: ignore[attr-defined]
        OPERATIONS[name] = Known(signature, function)
        # For layers that hold it, like Lambda; plain names are left to functions of users.
        TABLE["function", f"ops.{name}"] = function
        made[name] = function
    return made


def _parsed(text: str) -> tuple[str, inspect.Signature]:
    """The name and the signature in a string like "mean(x, axis=None)"."""
    definition: Any = ast.parse(f"def {text}: ...").body[0]
    given = definition.args
    kind = inspect.Parameter
    parameters = []
    first = len(given.args) - len(given.defaults)
    for place, argument in enumerate(given.args):
        default: object = kind.empty
        if place >= first:
            default = ast.literal_eval(given.defaults[place - first])
        parameters.append(
            kind(argument.arg, kind.POSITIONAL_OR_KEYWORD, default=default)
        )
    if given.vararg:
        parameters.append(kind(given.vararg.arg, kind.VAR_POSITIONAL))
    for argument, value in zip(given.kwonlyargs, given.kw_defaults, strict=True):
        default = ast.literal_eval(value)
        parameters.append(kind(argument.arg, kind.KEYWORD_ONLY, default=default))
    if given.kwarg:
        parameters.append(kind(given.kwarg.arg, kind.VAR_KEYWORD))
    return definition.name, inspect.Signature(parameters)


def _first_sentence(function: object) -> str:
    """The first sentence of a docstring; for an alias, that of the aliased function."""
    text = inspect.getdoc(function) or ""
    text = text.partition("\n\n")[0].replace("\n", " ")
    alias = re.fullmatch(r"Alias of :func:`jax\.(numpy|nn)\.(\w+)`\.?", text)
    if alias:
        module = jnp if alias[1] == "numpy" else jax.nn
        return _first_sentence(getattr(module, alias[2]))
    return re.sub(r":\w+:`|``", "`", text).rstrip(".") + "."


def _sentence(name: str, compute: Function) -> str:
    """The docstring of a function: the first sentence of the one behind it, and an example."""
    behind: Any = inspect.unwrap(compute)
    source = ""
    if str(getattr(behind, "__module__", "")).startswith("jax"):
        source = f" Computed by JAX's `{getattr(behind, '__name__', name)}`."
    return (
        f"{_first_sentence(compute)}\n\nArguments as of `keras.ops.{name}`; nodes make a "
        f"layer.{source}\n\n{EXAMPLES.get(name, '')}\n"
    )


def _holds_node(value: Tree) -> bool:
    """Whether a node stands in an argument; other types are remembered as plain."""
    kind = type(value)
    if kind in _PLAIN:
        return False
    if isinstance(value, Node):
        return True
    if isinstance(value, (list, tuple)):
        return any(map(_holds_node, value))
    if isinstance(value, dict):
        return any(map(_holds_node, value.values()))
    if not isinstance(value, ArrayLike):
        refuse_keras(value)
        _PLAIN.add(kind)
    return False


def _values(value: Tree) -> Tree:
    """An argument with the arrays of variables in their place."""
    if type(value) is list or type(value) is tuple:
        return type(value)(map(_values, value))
    if type(value) is dict:
        return {name: _values(item) for name, item in value.items()}
    return value_of(value)


def _array(value: Tree) -> Tree:
    """An argument that is an array, as an array of JAX; None stays None."""
    if isinstance(value, jax.Array):
        _JAX_TYPES.add(type(value))
        return value
    if value is None:
        return None
    return jnp.asarray(value)


def _list_as_array(value: Tree) -> Tree:
    if isinstance(value, (list, tuple)):
        return jnp.asarray(value)
    return value


def _function(
    name: str,
    signature: inspect.Signature,
    compute: Function,
) -> Function:
    kinds = {p.kind for p in signature.parameters.values()}
    if kinds - {inspect.Parameter.POSITIONAL_OR_KEYWORD}:
        return _of_any_number(name, compute)
    return _of_fixed_number(_Row(name, signature, compute))


def _of_any_number(name: str, compute: Function) -> Function:
    """A function with `*args` or keyword-only arguments, which are passed on unchanged."""

    def function(*args: Tree, **named: Tree) -> Tree:
        if _holds_node(args) or _holds_node(named):
            return on_nodes(name, args, named)
        return compute(*_values(args), **_values(named))

    return function


def _differing_defaults(
    optional: Mapping[str, object], compute: Function
) -> dict[str, object]:
    """The defaults of Keras that the function behind does not have."""
    if not optional:
        return {}
    own = inspect.signature(compute).parameters
    return {
        name: default
        for name, default in optional.items()
        if name not in own or own[name].default != default
    }


class _Row:
    """A row of the table whose arguments have a fixed number, ready to be called.

    Arguments without a default are passed on by position, the others by name.
    """

    def __init__(
        self,
        name: str,
        signature: inspect.Signature,
        compute: Function,
    ) -> None:
        empty = inspect.Parameter.empty
        parameters = signature.parameters.items()
        optional = {n: p.default for n, p in parameters if p.default is not empty}
        behind = str(getattr(inspect.unwrap(compute), "__module__", ""))
        self.name = name
        self.signature = signature
        self.compute = compute
        self.needed = [n for n, _ in parameters if n not in optional]
        self.later = tuple(optional)
        self.allowed = frozenset(optional)
        self.differing = _differing_defaults(optional, compute)
        self.is_ours = behind.startswith("fnn") and not hasattr(compute, "takes_any")
        self.convert = _array if self.is_ours else _list_as_array
        arrays = frozenset() if hasattr(compute, "keeps_lists") else ARRAYS
        self.places = [p for p, n in enumerate(self.needed) if n in arrays]
        self.named_arrays = arrays & self.allowed

    def call(self, args: tuple[Tree, ...], named: dict[str, Tree]) -> Tree:
        """The result for any arguments: nodes, lists, and others by position or name."""
        convertible = self.is_ours
        special = False
        for value in (*args, *named.values()):
            kind = type(value)
            if kind not in _PLAIN:
                if _holds_node(value):
                    return on_nodes(self.name, args, named)
                convertible = convertible or kind is list or kind is tuple
                special = True
        if special:
            args, named = _values(args), _values(named)
        if len(args) != len(self.needed) or not self.allowed.issuperset(named):
            args, named = self.in_order(args, named)
        if convertible:
            args = self.converted(args, named)
        return self.compute(*args, **self.differing | named)

    def converted(
        self, args: tuple[Tree, ...], named: dict[str, Tree]
    ) -> tuple[Tree, ...]:
        """The arguments by position, arrays made of lists; in `named` they are replaced."""
        values = list(args)
        for place in self.places:
            values[place] = self.convert(values[place])
        for name in self.named_arrays.intersection(named):
            named[name] = self.convert(named[name])
        if type(named.get("axis")) is list:  # JAX wants it hashable
            named["axis"] = tuple(named["axis"])
        return tuple(values)

    def in_order(
        self, args: tuple[Tree, ...], named: dict[str, Tree]
    ) -> tuple[tuple[Tree, ...], dict[str, Tree]]:
        """The arguments without a default by position, the others by name."""
        count = len(self.needed)
        by_place = dict(zip(self.later, args[count:], strict=False))
        if (
            count <= len(args) <= count + len(self.later)
            and self.allowed.issuperset(named)
            and by_place.keys().isdisjoint(named)
        ):
            return args[:count], by_place | named
        try:
            given = self.signature.bind(*args, **named).arguments
        except TypeError as error:
            raise TypeError(f"{self.name}{self.signature}: {error}") from None
        return tuple(given.pop(name) for name in self.needed), given


def _of_fixed_number(row: _Row) -> Function:
    """The function of a row; calls with numbers and arrays alone take short ways."""
    count, compute, differing = len(row.needed), row.compute, row.differing
    allowed, later, other_call = row.allowed, row.later, row.call
    # Functions of fnn get arrays of JAX; those of JAX make them of what they are given.
    arrays = row.places if row.is_ours else []
    has_short_ways = not (row.is_ours and row.named_arrays)

    def function(*args: Tree, **named: Tree) -> Tree:
        number = len(args)
        if number < count or not _PLAIN.issuperset(map(type, args)):
            return other_call(args, named)
        for place in arrays:
            if type(args[place]) not in _JAX_TYPES:
                return other_call(args, named)
        if number == count and not named:
            return compute(*args, **differing)
        if not has_short_ways or not _PLAIN.issuperset(map(type, named.values())):
            return other_call(args, named)
        if number == count and allowed.issuperset(named):
            return compute(*args, **differing | named)
        if named or number > count + len(later):
            return other_call(args, named)
        by_place = dict(zip(later, args[count:], strict=False))
        return compute(*args[:count], **differing | by_place)

    return function
