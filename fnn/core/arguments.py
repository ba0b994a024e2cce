"""The argument checks that layers share, and their words."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp


def wrong(
    thing: Any, argument: str, expected: str, received: Any, advice: str = ""
) -> ValueError:
    """The error for a wrong argument: `Dense: expected units ..., received units=-3; do ...`."""
    name = thing if isinstance(thing, str) else type(thing).__name__
    return ValueError(
        f"{name}: expected {argument} {expected}, received {argument}={shown(received)}"
        + (f"; {advice}" if advice else "")
    )


def shown(value: Any, limit: int = 300) -> str:
    """A value in an error: arrays by dtype and shape, anything else cut short.

    >>> shown([np.zeros((1000, 16), "float32"), 3])
    '[an array float32[1000, 16], 3]'
    """
    dtype = getattr(value, "dtype", None)
    if dtype is not None and (
        value.shape or jnp.issubdtype(dtype, jax.dtypes.prng_key)
    ):
        return f"an array {value.dtype}{list(value.shape)}"
    if isinstance(value, list) and len(value) < 10:
        text = f"[{', '.join(shown(item, limit) for item in value)}]"
    else:
        text = repr(value)
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def kind_of(x: Any) -> str:
    """What came in place of other inputs: an array by its shape, a tuple by its length.

    >>> kind_of(np.ones((4, 5))), kind_of([1, 2]), kind_of(None)
    ('one array of shape (4, 5)', 'a list of 2', 'None')
    """
    if hasattr(x, "shape"):
        return f"one array of shape {tuple(x.shape)}"
    if isinstance(x, (tuple, list)):
        return f"a {type(x).__name__} of {len(x)}"
    return "None" if x is None else type(x).__name__


def no_attribute(value: Any, name: str, known: dict[str, str]) -> AttributeError:
    """The error for an attribute that a value does not have, with what takes its place.

    For a property of its own, which came here because its function raised one, that one.
    """
    if hasattr(type(value), name):
        try:
            object.__getattribute__(value, name)
        except AttributeError as error:
            return error
    text = f"{type(value).__name__!r} object has no attribute {name!r}"
    if name in known:  # without the object, or Python adds what it thinks was meant
        return AttributeError(f"{text}: {known[name]}")
    return AttributeError(text, name=name, obj=value)


def refuse_methods(
    cls: type, methods: tuple[str, ...], expected: str, advice: str
) -> None:
    """Raises TypeError for a subclass that writes what Keras's class of that name is made of."""
    found = [name for name in methods if name in vars(cls)]
    if found:
        raise TypeError(
            f"{cls.__name__}: expected {expected}, received a method {found[0]}; {advice}"
        )


def no_cache(thing: Any) -> ValueError:
    """The error for a layer that cannot go through a sequence a few steps at a time."""
    name = type(thing).__name__
    return ValueError(
        f"{name}: expected a layer that takes each step by itself or keeps a cache of the steps "
        f"before, received {thing!r}, which mixes steps without one; use one that looks back "
        "only (LSTM, Conv1D(padding='causal'), MultiHeadAttention(use_causal_mask=True)), or, if "
        'no step depends on another in a layer of yours, masking = "pass" or by_step = True'
    )


def layer(thing: Any, given: Any, place: str) -> None:
    """Raises TypeError unless what is given at this place is a layer."""
    if not hasattr(given, "apply") or isinstance(given, type):
        hint = (
            f"{given.__name__}(...)" if isinstance(given, type) else "Lambda(function)"
        )
        raise TypeError(
            f"{type(thing).__name__}: expected a layer {place}, received {given!r}; e.g. {hint}"
        )


def layers(thing: Any, argument: str = "layers") -> None:
    """Checks that this field is a list of layers."""
    given = getattr(thing, argument)
    if not isinstance(given, tuple):
        raise TypeError(
            f"{type(thing).__name__}: expected {argument} to be a list of layers, received "
            f"{given!r}; put it into [...]"
        )
    for index, item in enumerate(given):
        layer(thing, item, f"at position {index}")


def integers(
    thing: Any, argument: str, length: int, *, minimum: int = 1, value: Any = None
) -> tuple[int, ...]:
    """The field as a tuple of `length` integers; one number stands for all.

    >>> integers("Conv2D", "strides", 2, value=3)
    (3, 3)
    """
    given = getattr(thing, argument) if value is None else value
    numbers = given if isinstance(given, tuple) else (given,) * length
    if len(numbers) != length or any(
        isinstance(n, bool) or not isinstance(n, int) or n < minimum for n in numbers
    ):
        least = f"of at least {minimum}" if minimum else "not below 0"
        plural = (
            f"or a tuple of {length} such" if length > 1 else "or a tuple of one such"
        )
        raise wrong(thing, argument, f"to be an integer {least} {plural}", given)
    return numbers


def rank(thing: Any, x: Any, *ranks: int, layout: str = "") -> None:
    """Checks in `init` that the inputs have one of these numbers of axes."""
    if not hasattr(x, "shape"):
        raise TypeError(
            f"{type(thing).__name__}: expected one array as input, received {kind_of(x)}; "
            "merge several inputs first, e.g. with Concatenate()"
        )
    if len(x.shape) not in ranks:
        expected = " or ".join(map(str, ranks))
        raise ValueError(
            f"{type(thing).__name__}: expected inputs of {expected} axes{layout and ' ' + layout}, "
            f"received {len(x.shape)} axes, shape {tuple(x.shape)}; "
            f"reshape them, the first axis is the batch"
        )


def every_input(thing: Any, inputs: Any, names: tuple[str, ...] = ()) -> None:
    """Raises TypeError where one of these inputs, by their names, is left out: None."""
    for place, given in enumerate(inputs):
        if given is None:
            missing = names[place] if names else f"input {place}"
            raise TypeError(
                f"{type(thing).__name__}: expected {missing} to be an array, received None; only "
                "optional inputs may be left out, give this one"
            )


def minimum_rank(thing: Any, x: Any, minimum: int, layout: str) -> None:
    """Checks in `init` that the inputs have at least this many axes."""
    rank(
        thing,
        x,
        *range(minimum, max(minimum, len(getattr(x, "shape", ()))) + 1),
        layout=layout,
    )


def is_vector(x: Any) -> bool:
    """Whether `x` is one array of one axis.

    >>> is_vector(np.zeros(3)), is_vector(np.zeros((1, 3))), is_vector((np.zeros(3),))
    (True, False, False)
    """
    return len(getattr(x, "shape", ())) == 1


def width(thing: Any, x: Any, expected: int, axis: int = -1) -> None:
    """Checks in `apply` that the inputs are as wide as those that the weights were made for."""
    if x.shape[axis] != expected:
        raise ValueError(
            f"{type(thing).__name__}: expected inputs of {expected} features, received "
            f"{x.shape[axis]} in shape {tuple(x.shape)}; give inputs like those of init"
        )
