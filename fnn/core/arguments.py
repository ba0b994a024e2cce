"""Arguments: shared checks of arguments and inputs, and the errors that they raise."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp


def _owner(thing: object) -> str:
    """The name that begins an error message: the string itself, or the class of a value."""
    if isinstance(thing, str):
        return thing
    return type(thing).__name__


def wrong(
    thing: object,
    argument: str,
    expected: str,
    received: object,
    advice: str = "",
) -> ValueError:
    """The error for a wrong argument: `Dense: expected units ..., received units=-3; use ...`."""
    message = (
        f"{_owner(thing)}: "
        f"expected {argument} {expected}, received {argument}={shown(received)}"
    )
    if advice:
        message = f"{message}; {advice}"
    return ValueError(message)


def wrong_inputs(
    thing: object,
    expected: str,
    x: Any,
    advice: str,
) -> ValueError:
    """The error for inputs: `Conv1D: expected inputs of ..., received ...; use ...`."""
    received = kind_of(x)
    if isinstance(x, (tuple, list)):
        arrays = jax.tree.leaves(x, is_leaf=lambda a: a is None)
        received = f"shapes {[getattr(a, 'shape', None) for a in arrays]}"
    return ValueError(
        f"{_owner(thing)}: expected inputs {expected}, received {received}; {advice}"
    )


def shown(value: object, limit: int = 300) -> str:
    """A value for an error message: arrays by dtype and shape, other values shortened.

    >>> shown([np.zeros((1000, 16), "float32"), 3])
    '[an array float32[1000, 16], 3]'
    """
    dtype = getattr(value, "dtype", None)
    shape = getattr(value, "shape", ())
    if dtype is not None and (shape or jnp.issubdtype(dtype, jax.dtypes.prng_key)):
        return f"an array {dtype}{list(shape)}"
    # Item by item, since the numbers of one array would hide the other items.
    if isinstance(value, list) and len(value) < 10:
        string = f"[{', '.join(shown(item, limit) for item in value)}]"
    else:
        string = repr(value)
    if len(string) > limit:
        return f"{string[: limit - 3]}..."
    return string


def kind_of(x: object) -> str:
    """Describes unexpected inputs: an array by its shape, a tuple or list by its length.

    >>> kind_of(np.ones((4, 5))), kind_of([1, 2]), kind_of(None)
    ('one array of shape (4, 5)', 'a list of 2', 'None')
    """
    if hasattr(x, "shape"):
        return f"one array of shape {tuple(x.shape)}"
    if isinstance(x, (tuple, list)):
        return f"a {type(x).__name__} of {len(x)}"
    if x is None:
        return "None"
    return type(x).__name__


def no_attribute(
    value: object,
    name: str,
    known: Mapping[str, str],
) -> AttributeError:
    """The error for an attribute that a value does not have, with advice from `known`.

    If the class has a property of this name, its getter raised an AttributeError, which made
    Python call `__getattr__`; that error is returned.
    """
    if hasattr(type(value), name):
        try:
            object.__getattribute__(value, name)
        except AttributeError as error:
            return error
    message = f"{type(value).__name__!r} object has no attribute {name!r}"
    if name in known:
        # Without `name` and `obj`, since Python would append a suggestion of its own.
        return AttributeError(f"{message}: {known[name]}")
    return AttributeError(message, name=name, obj=value)


def no_cache(thing: object) -> ValueError:
    """The error for a layer that cannot process a sequence a few steps at a time."""
    name = type(thing).__name__
    return ValueError(
        f"{name}: expected a layer that treats each step alone or caches the previous steps, "
        f"received {thing!r}, which mixes steps and has no cache; use a layer that looks back "
        "only (LSTM, Conv1D(padding='causal'), MultiHeadAttention(use_causal_mask=True)); if "
        'the steps of your own layer are independent, set masking = "pass" or by_step = True'
    )


def layer(
    thing: object,
    given: object,
    place: str,
) -> None:
    """Raises TypeError unless the value given at this place is a layer."""
    if hasattr(given, "apply") and not isinstance(given, type):
        return
    example = "Lambda(function)"
    if isinstance(given, type):
        example = f"{given.__name__}(...)"
    raise TypeError(
        f"{type(thing).__name__}: expected a layer {place}, received {given!r}; "
        f"e.g. {example}"
    )


def layers(
    thing: object,
    given: object,
    argument: str,
) -> None:
    """Raises TypeError unless this argument is a list of layers."""
    if not isinstance(given, tuple):
        raise TypeError(
            f"{type(thing).__name__}: expected {argument} to be a list of layers, received "
            f"{given!r}; put it into [...]"
        )
    for index, item in enumerate(given):
        layer(thing, item, f"at position {index}")


def integers(
    thing: object,
    argument: str,
    length: int,
    *,
    minimum: int = 1,
    value: object = None,
) -> tuple[int, ...]:
    """The field as a tuple of `length` integers; a single integer is repeated.

    >>> integers("Conv2D", "strides", 2, value=3)
    (3, 3)
    """
    given: Any = value
    if value is None:
        given = getattr(thing, argument)
    numbers: tuple[int, ...] = given
    if not isinstance(given, tuple):
        numbers = (given,) * length
    if len(numbers) == length and all(_is_integer(n, minimum) for n in numbers):
        return numbers
    lower = "not below 0"
    if minimum:
        lower = f"of at least {minimum}"
    count = "one such"
    if length > 1:
        count = f"{length} such"
    expected = f"to be an integer {lower} or a tuple of {count}"
    raise wrong(thing, argument, expected, given)


def _is_integer(value: object, minimum: int) -> bool:
    if isinstance(value, bool) or not isinstance(value, int):
        return False
    return value >= minimum


@dataclasses.dataclass(frozen=True)
class Rule:
    """What a class declares about a field, or about its inputs, beyond annotations and bounds.

    `holds` takes the value, and its inputs if the rule is about them. The strings may name both:
    "to divide units={self.units}", "of {x.shape}".
    """

    subject: str  # a field, or "inputs"
    holds: Callable[..., object]
    expected: str
    advice: str = ""
    error: type[Exception] = ValueError

    def __call__(self, value: object, *inputs: Any) -> None:
        """Raises its error unless the rule holds for a value, and its inputs."""
        if self.holds(value, *inputs):
            return
        named = dict(zip(("self", "x"), (value, *inputs), strict=False))
        expected = self.expected.format(**named)
        advice = self.advice.format(**named)
        if self.subject == "inputs":
            error = wrong_inputs(value, expected, inputs[0], advice)
        else:
            held = getattr(value, self.subject)
            error = wrong(value, self.subject, expected, held, advice)
        raise self.error(*error.args)


def check_inputs(layer: Any, x: Any) -> None:
    """Raises the errors of the `input_layout` and the `input_rules` of a layer."""
    layout: str = layer.input_layout
    if layout:
        first = x
        # Of several inputs, as of a layer of time and its states, the first has this layout.
        if layer.input_names and isinstance(x, (tuple, list)) and x:
            first = x[0]
        rank(layer, first, layout)
    for rule in layer.input_rules:
        rule(layer, x)


def rank(
    thing: object,
    x: object,
    layout: str,
) -> None:
    """Raises an error unless `x` is an array with the axes named in `layout`, "..." for any.

    >>> rank("Dense", np.ones((2, 3, 5)), "(batch, ..., features)")
    """
    if not hasattr(x, "shape"):
        raise TypeError(
            f"{_owner(thing)}: expected one array as input, received {kind_of(x)}; "
            "merge several inputs first, e.g. with Concatenate()"
        )
    # "..." stands for any number of axes, none included.
    names = layout.strip("()").split(", ")
    named = len(names) - names.count("...")
    received = len(x.shape)
    if received == named or (received > named and "..." in names):
        return
    raise ValueError(
        f"{_owner(thing)}: expected inputs of {named} axes {layout}, received {received} axes, "
        f"shape {tuple(x.shape)}; reshape them, the first axis is the batch"
    )


def every_input(
    thing: object,
    inputs: Sequence[object],
    names: tuple[str, ...] = (),
) -> None:
    """Raises TypeError if one of the inputs is None."""
    for place, given in enumerate(inputs):
        if given is not None:
            continue
        missing = f"input {place}"
        if names:
            missing = names[place]
        raise TypeError(
            f"{type(thing).__name__}: expected {missing} to be an array, received None; only "
            "optional inputs may be left out, pass this one"
        )


def input_spec(thing: Any, x: object) -> None:
    """Raises ValueError unless the inputs of a layer fit its `input_spec`, if it has one."""
    specs = thing.input_spec
    if specs is not None:
        first = jax.tree.leaves(specs)[0]
        first.check(thing, specs, x)


def is_vector(x: object) -> bool:
    """Whether `x` is one array of one axis.

    >>> is_vector(np.zeros(3)), is_vector(np.zeros((1, 3))), is_vector((np.zeros(3),))
    (True, False, False)
    """
    return len(getattr(x, "shape", ())) == 1


# The arguments of constructors. `fnn.keras_names` fills these two tables with the arguments
# of Keras's layers that are not fields.
# Another name of a field -> (the field, a function that converts the value).
ARGUMENT_ALIASES: dict[str, tuple[str, Callable[[object], object]]] = {}
# Arguments without effect -> (the values accepted, None for all; advice for other values).
IGNORED_ARGUMENTS: dict[str, tuple[tuple[object, ...] | None, str]] = {}


def by_name(
    value: object,
    order: list[str],
    given: tuple[object, ...],
    named: dict[str, object],
) -> dict[str, object]:
    """All arguments of a constructor call by name.

    Raises TypeError for too many positional arguments, and for an argument given twice.
    """
    owner = type(value).__name__
    if len(given) > len(order):
        raise TypeError(
            f"{owner}: expected at most {len(order)} arguments by position, received "
            f"{len(given)}; pass the others by name"
        )
    # Fewer are given than there are fields: the others have defaults or names.
    by_position = dict(zip(order, given, strict=False))
    twice = by_position.keys() & named.keys()
    if twice:
        raise TypeError(f"{owner} got multiple values for argument {min(twice)!r}")
    return by_position | named


def missing_arguments(owner: str, missing: list[str]) -> TypeError:
    """The error for required arguments that are missing, with Python's own wording."""
    *first, last = map(repr, missing)
    names = last
    plural = ""
    if first:
        comma = "," * (len(first) > 1)
        names = f"{', '.join(first)}{comma} and {last}"
        plural = "s"
    number = f"{len(missing)} required argument{plural}"
    return TypeError(f"{owner}.__init__() missing {number}: {names}")


def by_field(
    owner: str,
    fields: tuple[str, ...],
    named: dict[str, Any],
) -> dict[str, Any]:
    """The arguments by field: aliases are translated, ignored arguments are dropped.

    A field called `kwargs` collects all other arguments as pairs of name and value.
    Raises TypeError for an unknown argument.

    >>> by_field("Dense", ("units", "input_shape"), {"units": 3, "input_dim": 5})
    {'units': 3, 'input_shape': (5,)}
    """
    found: dict[str, Any] = {}
    others = []
    for name, value in named.items():
        field, convert = ARGUMENT_ALIASES.get(name, (name, None))
        if name in fields:
            found[name] = value
        elif convert and field in fields and field not in named:
            found[field] = convert(value)
        elif "kwargs" in fields:
            others.append((name, value))
        elif name in IGNORED_ARGUMENTS and "input_shape" in fields:  # a layer
            _check_ignored(owner, name, value)
        else:
            raise _unknown_argument(owner, fields, name, value)
    if others:
        found["kwargs"] = (*found.get("kwargs", ()), *others)
    return found


def _check_ignored(
    owner: str,
    name: str,
    value: object,
) -> None:
    """Raises ValueError for an ignored argument with a value that would have an effect."""
    accepted, advice = IGNORED_ARGUMENTS[name]
    if accepted is None or (type(value), value) in [(type(a), a) for a in accepted]:
        return
    expected = f"to be {accepted[0]!r}, the only value that fnn supports"
    raise wrong(owner, name, expected, value, advice)


def _unknown_argument(
    owner: str,
    fields: tuple[str, ...],
    name: str,
    value: object,
) -> TypeError:
    # Most unknown arguments are misspelled.
    close = difflib.get_close_matches(name, fields, 3)
    advice = "leave it out"
    if close:
        advice = f"did you mean {' or '.join(close)}?"
    return TypeError(
        f"{owner}: expected arguments among {', '.join(fields) or 'none'}, received "
        f"{name}={value!r}; {advice}"
    )
