"""Checks of data before the first step: dtypes, lengths, NaN, values out of range."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from fnn.core.calling import walk
from fnn.core.checks import check_numbers
from fnn.core.combining import Flow
from fnn.core.layer import Layer
from fnn.core.tree import Tree
from fnn.runtime.frames import array_of_frame
from fnn.runtime.keras_objects import refuse_keras
from fnn.runtime.row_numbers import row_number
from fnn.symbolic.operators import Operators
from fnn.training.lazy import (
    LazyArray,
    by_rows,
    is_sparse,
    reads_lazily,
)

Array: TypeAlias = Any  # a NumPy or JAX array, or a `LazyArray`


class TrainingError(FloatingPointError):
    """A loss or gradient that is not finite. The model is as it was before that step.

    >>> def step(w, batch, key):
    ...     return w - 1.0, {"loss": jnp.log(w)}  # NaN as soon as w is below 0
    >>> try:
    ...     fnn.training.fit(step, jnp.full((), 1.5), np.ones(128, "float32"), verbose=0)
    ... except TrainingError as error:
    ...     print(error.train_state)
    -0.5
    """


# The dtypes of NumPy in which JAX computes whatever its settings are.
_WORKING_DTYPES = set(
    map(np.dtype, ("float32", "int32", "uint8", "bool", "float16", "int8"))
)
_EXTENDED_FLOATS = ("bfloat16", "float8_e4m3fn")


def is_working_dtype(dtype: np.dtype) -> bool:
    """Whether JAX computes in this NumPy dtype whatever its settings are."""
    return dtype in _WORKING_DTYPES


def as_array(
    name: str,
    value: Any,
    lazy: bool = False,
    strings: bool = False,
) -> Array:
    """`value` as a numeric array (NumPy, or JAX as it is), in a dtype in which JAX computes.

    With `lazy`, sparse matrices, memmaps and large arrays become a `LazyArray`. With `strings`,
    strings and integers of any size stay as they are: layers on the host read them. Raises
    TypeError for strings, objects, dates and complex numbers; ValueError for ragged lists
    and for numbers that do not fit 32 bits.
    """
    if isinstance(value, LazyArray):
        return value if lazy else value[:]
    if hasattr(value, "to_numpy"):  # pandas, polars
        value = array_of_frame(value)
    if lazy and reads_lazily(value) and not (strings and _may_be_read_on_host(value)):
        return _as_lazy(name, value)
    if isinstance(value, jax.Array) and value.ndim and value.dtype.kind != "c":
        return value
    if type(value) is np.ndarray and value.dtype in _WORKING_DTYPES and value.ndim:
        return value
    if is_sparse(value):
        value = value.toarray()
    if isinstance(value, Operators):
        # Raises the error for symbolic tensors.
        value.__array__()
    if hasattr(value, "detach"):  # torch
        value = value.detach().cpu().numpy()
    try:
        array = np.asarray(value)
    except ValueError as error:
        refuse_keras(value)
        raise _ragged(name, value) from error
    if strings and array.ndim and _may_be_read_on_host(array):
        return array
    if strings and not array.ndim and array.dtype.kind in "USO":
        raise ValueError(
            f"expected {name} with an axis of examples, received the single string "
            f"{array.item()!r}; pass a list, [{array.item()!r}]"
        )
    if not _holds_numbers(array.dtype):
        if array.dtype == object and array.ndim == 1 and _ragged_rows(array):
            raise _ragged(name, array)
        raise TypeError(_wrong_dtype(name, array))
    if array.ndim == 0:
        raise ValueError(
            f"expected {name} with an axis of examples, received the single number {array}"
        )
    return _in_working_dtype(name, array)


def _may_be_read_on_host(array: Any) -> bool:
    """Whether these are strings, or integers, which layers on the host read too."""
    return array.dtype.kind in "USOTiu"


def _holds_numbers(dtype: np.dtype) -> bool:
    return dtype.kind in "fiub" or dtype.name in _EXTENDED_FLOATS


def _as_lazy(name: str, value: Any) -> LazyArray:
    if not _holds_numbers(value.dtype):
        raise TypeError(_wrong_dtype(name, value[:1]))

    def convert(part: np.ndarray) -> np.ndarray:
        return _in_working_dtype(name, part)

    return LazyArray(by_rows(value), convert)


def _ragged(name: str, value: Iterable[Any]) -> ValueError:
    return ValueError(
        f"expected {name} as an array of numbers of one shape, received a ragged list"
        f"{_ragged_rows(value)}; pad the examples to one length"
    )


def _ragged_rows(value: Iterable[Any]) -> str:
    """Which rows of a ragged list or array of objects differ, as part of a message."""
    shapes: list[Any] = []
    for row, item in enumerate(value):
        try:
            shapes.append(np.shape(item))
        except ValueError:
            return f": row {row} is ragged"
        if shapes[-1] != shapes[0] and shapes[0]:
            return f": row 0 has shape {shapes[0]} and row {row} has {shapes[-1]}"
    return ""


# How to turn the kinds of dtypes into numbers.
_CONVERSIONS = {
    "U": "turn strings into numbers first, e.g. by np.unique(y, return_inverse=True)",
    "S": "decode and turn strings into numbers first",
    "O": (
        "turn it into numbers, examples of one length, no None, then "
        "np.asarray(x, 'float32')"
    ),
    "M": "turn dates into numbers, e.g. days since a start",
    "m": "turn durations into numbers, e.g. seconds",
    "c": "split complex numbers into real and imaginary parts",
}


def _wrong_dtype(name: str, array: np.ndarray) -> str:
    row, item = _first_not_a_number(array)
    advice = _CONVERSIONS.get(array.dtype.kind, "convert it to numbers")
    return (
        f"expected {name} to hold numbers, received dtype {array.dtype}, {item!r} in row "
        f"{row}; {advice}"
    )


def _first_not_a_number(array: np.ndarray) -> tuple[int, object]:
    """The first item that is not a number, with its row; else the very first item."""
    rows = np.atleast_1d(array)
    for row, items in enumerate(rows):
        for item in np.ravel(items):
            if not np.issubdtype(np.asarray(item).dtype, np.number):
                return row, item
    first = None
    if array.size:
        first = array.reshape(-1)[0]
    return 0, first


def _in_working_dtype(name: str, array: np.ndarray) -> np.ndarray:
    """The array in a dtype that JAX keeps. Raises ValueError for values that do not fit."""
    target = jax.dtypes.canonicalize_dtype(array.dtype.newbyteorder("="))
    if target == array.dtype:
        return array
    if array.dtype.kind in "iu" and array.size:
        limits = np.iinfo(target)
        for extreme in (array.min(), array.max()):
            if not limits.min <= extreme <= limits.max:
                raise ValueError(
                    f"expected the integers of {name} to fit {target}, received {extreme}; "
                    "renumber them, or set jax_enable_x64"
                )
    with np.errstate(over="ignore"):
        converted = array.astype(target)
    if array.dtype.kind != "f" or np.isfinite(converted).all():
        return converted
    if np.isfinite(array).all():
        raise ValueError(
            f"expected the numbers of {name} to fit {target}, received "
            f"{np.abs(array).max():g}; scale them down"
        )
    return converted


def example_count(arrays: Mapping[str, Tree]) -> int:
    """The common number of examples. Raises ValueError, with the names, if they differ."""
    lengths = {}
    for name, part in arrays.items():
        for path, leaf in jax.tree_util.tree_leaves_with_path(part):
            lengths[f"{name}{jax.tree_util.keystr(path)}"] = len(leaf)
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{name} with {n} examples" for name, n in lengths.items())
        raise ValueError(
            f"expected arrays with the same number of examples, received {shown}"
        )
    return next(iter(lengths.values()), 0)


def check_finite(
    name: str, array: Array, columns: Sequence[object] | None = None
) -> None:
    """Raises ValueError for NaN, with the rows and, in a table, the columns.

    The examples of a `LazyArray` are checked when they are read.
    """
    # Nearly every call ends here: of a small network it takes a part of the time of `predict`.
    is_plain = type(array) is np.ndarray and array.dtype.kind == "f" and array.size
    if is_plain and not _may_hold_nan(array):
        return
    if isinstance(array, LazyArray):
        array.check_later(lambda part: check_finite(name, part, columns))
        return
    if isinstance(array, jax.core.Tracer) or not np.size(array):
        return
    if not jnp.issubdtype(array.dtype, jnp.floating):
        return
    if not _may_hold_nan(array):
        return
    if array.dtype != np.float64:
        array = np.asarray(array, np.float32)
    is_nan = np.isnan(array)
    if not is_nan.any():
        return
    of_rows = is_nan.reshape(len(is_nan), -1)
    rows = np.flatnonzero(of_rows.any(axis=1))
    numbers = map(row_number, rows[:5])
    shown = ", ".join(map(str, numbers))
    if len(rows) > 5:
        shown += ", ..."
    place = f"{_plural('row', len(rows))} {shown}"
    if is_nan.ndim == 2:
        titles = []
        for number in np.flatnonzero(is_nan.any(axis=0))[:5]:
            title = str(number)
            if columns is not None:
                title = repr(columns[number])
            titles.append(title)
        place += f" of {_plural('column', len(titles))} {', '.join(titles)}"
    raise ValueError(
        f"expected numbers in {name}, received NaN in {place}; fill or drop them "
        "(checks=False in compile accepts them)"
    )


def _may_hold_nan(array: Array) -> bool:
    """Whether the minimum is NaN, which it is if any element is: the fastest test."""
    if not isinstance(array, np.ndarray) and jax.default_backend() == "cpu":
        # NumPy reads the memory of a JAX array; JAX would dispatch a program.
        array = np.asarray(array)
    if array.dtype.kind != "f":
        array = array.astype(np.float32)
    least = array.min()
    return bool(least != least)


def _plural(noun: str, count: int) -> str:
    if count == 1:
        return noun
    return f"{noun}s"


def check_guard(guard: object) -> None:
    """Raises ValueError unless this is a known reaction to a loss that is not finite."""
    if guard not in ("raise", "skip", "ignore"):
        raise ValueError(
            f'expected guard "raise", "skip" or "ignore", received {guard!r}'
        )


def as_integer(name: str, value: object, minimum: int) -> int:
    """`value` as an int. Raises ValueError unless it is an integer of at least `minimum`."""
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        number = int(value)
        if number >= minimum:
            return number
    raise ValueError(
        f"expected {name} as an integer of at least {minimum}, received {value!r}"
    )


def check_positive(**numbers: object) -> None:
    """Raises ValueError unless each of these arguments is None or an integer above 0."""
    for name, value in numbers.items():
        if value is not None:
            as_integer(name, value, 1)


def finite_weights(name: str, weight: np.ndarray) -> None:
    """Raises ValueError for weights that are negative, NaN or infinite."""
    valid = (weight >= 0) & (weight < np.inf)  # False for NaN
    if not valid.all():
        raise ValueError(
            f"expected {name} of at least 0 and finite, received {weight[~valid][0]:g}; "
            "clip or drop it"
        )


def validation_schedule(often: Any) -> Callable[[int], bool]:
    """A function that says whether to validate after an epoch (from 0).

    `often` is Keras's `validation_freq`: a number of epochs, or the epochs (from 1).
    """
    if isinstance(often, (list, tuple, set)):
        for number in often:
            as_integer("validation_freq", number, 1)
        return lambda epoch: epoch + 1 in often
    as_integer("validation_freq", often, 1)
    return lambda epoch: (epoch + 1) % often == 0


def sample_weight(name: str, weight: Array) -> None:
    """Raises ValueError for weights that are negative, NaN, infinite, or all zero."""
    array = np.asarray(weight)
    finite_weights(name, array)
    if array.size and not array.any():
        raise ValueError(f"expected {name} with a weight above 0, received only zeros")


def input_values(layer: Layer, x: Tree) -> None:
    """Lets each layer that reads an input directly check its values (`Embedding`: ids in range)."""
    _visit("", layer, x)


def any_checks_values(layer: Layer) -> bool:
    """Whether a layer inside checks the values of its input."""
    return any(hasattr(inner, "check_values") for _, inner, _ in walk(layer))


def _visit(name: str, layer: Layer, x: Tree) -> type[_Computed]:
    """Checks the inputs of a layer, if they are known. Its outputs are not."""
    if not _holds_arrays(jax.tree.leaves(x)):
        return _Computed
    if isinstance(layer, Flow):
        outputs: type[_Computed] = layer.flow(x, _visit)
        return outputs
    _check_numbers(layer, x)
    for path, child in layer.children():
        if path is None:
            _visit(name, child, x)
    return _Computed


def _check_numbers(layer: Layer, x: Tree) -> None:
    if isinstance(x, LazyArray):
        x.check_later(functools.partial(check_numbers, layer))
    else:
        check_numbers(layer, x)


def _holds_arrays(leaves: Iterable[object]) -> bool:
    kinds = np.ndarray, jax.Array, LazyArray
    return any(isinstance(leaf, kinds) for leaf in leaves)


class _Computed:
    """Stands for the outputs of a layer, which are not known before it runs."""
