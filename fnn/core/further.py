"""Further: arguments that Keras's layers take beside the fields, and what others are told."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable
from typing import Any

from fnn.core import arguments

# Another word for a field: (the field, what it holds then).
OTHER_WORDS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "input_dim": ("input_shape", lambda size: None if size is None else (size,)),
    "layer": ("inner", lambda layer: layer),
    "alpha": ("negative_slope", lambda slope: slope),
}
# What changes nothing in a layer: at these values (None: at any), and what to do for another.
IDLE: dict[str, tuple[tuple[Any, ...] | None, str]] = {
    "input_length": (None, ""),  # shapes are known from the inputs
    "use_cudnn": (None, ""),  # XLA chooses
    "implementation": (None, ""),
    "autocast": ((True,), "do dtype='float32' for a layer that computes in full precision"),
    "time_major": ((False,), "do swap the axes: inputs are (batch, time, features)"),
    "weights": ((None,), "do make the model, then layer.set_weights(weights)"),
    "activity_regularizer": ((None,), "do put ActivityRegularization(l1, l2) after the layer"),
    "batch_input_shape": ((None,), "do input_shape=..., or Input(batch_shape=...) before it"),
    "lora_rank": ((None,), "do LoRA(layer, rank=...)"),
    "lora_alpha": ((None,), "do LoRA(layer, rank=..., alpha=...)"),
    "quantization_config": ((None,), "do leave it out: weights are not quantized here"),
    "gptq_unpacked_column_size": ((None,), "do leave it out: weights are not quantized here"),
}


def accept(cls: Any) -> None:
    """Lets the constructor of a dataclass take such arguments, and answer to unknown ones."""
    make, declared = cls.__init__, cls.__dataclass_fields__
    fields = tuple(sorted(declared, key=lambda name: declared[name].kw_only))

    @functools.wraps(make)
    def __init__(self: Any, *given: Any, **named: Any) -> None:  # noqa: N807
        if any(name not in fields for name in named):
            named = in_fields(type(self).__name__, fields, named)
        make(self, *given, **named)

    cls.__init__ = __init__


def by_position(cls: Any, order: Callable[[list[str], list[str]], list[str]]) -> None:
    """Lets arguments of a constructor go by position in an order of Keras's.

    A dataclass would put the fields of its bases first, so those are declared by keyword; `order`
    is given the names of the class's own arguments and of those by keyword.
    """
    make, signature = cls.__init__, inspect.signature(cls.__init__)
    (itself, *given), named = list(signature.parameters.values()), inspect.Parameter.KEYWORD_ONLY
    own, more = (
        [p.name for p in given if (p.kind is named) == by_name] for by_name in (False, True)
    )
    places = {p.name: p for p in given}
    free = [
        places[name].replace(kind=inspect.Parameter.POSITIONAL_OR_KEYWORD)
        for name in order(own, more)
    ]
    rest = [p for p in given if p.name not in {p.name for p in free}]
    if rest and rest[-1].name == "kwargs":
        rest[-1] = inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD)
    shown = signature.replace(parameters=[itself, *free, *rest])

    @functools.wraps(make)
    def __init__(self: Any, *given: Any, **named: Any) -> None:  # noqa: N807
        if len(given) > len(free):
            raise TypeError(
                f"{type(self).__name__}: expected at most {len(free)} arguments by position, "
                f"received {len(given)}; do name the others"
            )
        by_place = dict(zip((p.name for p in free), given, strict=False))
        twice = sorted(by_place.keys() & named.keys())
        if twice:  # Python's own error is a bare KeyError while another error is handled
            raise TypeError(
                f"{type(self).__name__} got multiple values for keyword argument {twice[0]!r}"
            )
        make(self, **by_place, **named)

    __init__.__signature__ = shown  # type: ignore[attr-defined]
    cls.__init__ = __init__


def as_declared(cls: type, root: type, shared: tuple[str, ...]) -> None:
    """Lets arguments go by position as a class and its bases below `root` declare them.

    The `shared` ones, which are those of `root`, come last unless they are declared again.
    """

    def order(own: list[str], more: list[str]) -> list[str]:
        bases = [base for base in cls.__mro__[::-1] if issubclass(base, root) and base is not root]
        declared = [name for base in bases for name in inspect.get_annotations(base)]
        places = [name for name in declared if name in own or name in shared]
        return list(dict.fromkeys([*places, *shared]))

    by_position(cls, order)


def in_fields(owner: str, fields: tuple[str, ...], named: dict[str, Any]) -> dict[str, Any]:
    """The arguments by the names of the fields. Raises TypeError for one that has no meaning.

    A field called `kwargs` takes what no other does, as pairs of name and value.

    >>> in_fields("Dense", ("units", "input_shape"), {"units": 3, "input_dim": 5})
    {'units': 3, 'input_shape': (5,)}
    """
    found: dict[str, Any] = {}
    for name, value in named.items():
        field, convert = OTHER_WORDS.get(name, (name, None))
        if name in fields:
            found[name] = value
        elif convert and field in fields and field not in named:
            found[field] = convert(value)
        elif "kwargs" in fields:
            found["kwargs"] = (*found.get("kwargs", named.get("kwargs", ())), (name, value))
        elif name in IDLE and "input_shape" in fields:  # in a layer
            values, advice = IDLE[name]
            if values is not None and not any(value is idle for idle in values):
                expected = f"to be {values[0]!r}, since it has no other meaning here"
                raise arguments.wrong(owner, name, expected, value, advice)
        else:
            close = difflib.get_close_matches(name, fields, 3)
            advice = f"do you mean {' or '.join(close)}?" if close else "do leave it out"
            raise TypeError(
                f"{owner}: expected arguments among {', '.join(fields) or 'none'}, received "
                f"{name}={value!r}; {advice}"
            )
    return found
