"""Checks of data before the first step: kinds of arrays, lengths, NaN, values out of range."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn.core.calling import walk
from fnn.core.combining import Flow
from fnn.core.door import check_numbers
from fnn.core.layer import Layer
from fnn.runtime.program_cache import small_cache
from fnn.symbolic.operators import Operators


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


# NumPy's dtypes that JAX computes in whatever its settings are.
_READY = {
    np.dtype(name) for name in ("float32", "int32", "uint8", "bool", "float16", "int8")
}


def as_array(name: str, value: Any) -> Any:
    """`value` as a numeric array (NumPy, or JAX as it is), in a dtype that JAX computes in.

    Raises TypeError for strings, objects, dates and complex numbers, and ValueError for ragged
    lists and for numbers that do not fit 32 bits.
    """
    if isinstance(value, jax.Array) and value.ndim and value.dtype.kind != "c":
        return value
    if type(value) is np.ndarray and value.dtype in _READY and value.ndim:
        return value
    if isinstance(value, Operators):
        value.__array__()  # which says what to do
    if hasattr(value, "to_numpy"):  # pandas, polars
        value = value.to_numpy()
    if hasattr(value, "detach"):  # torch
        value = value.detach().cpu().numpy()
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(
            f"expected {name} as an array of numbers of one shape, received a ragged list; "
            "pad the rows to one length"
        ) from error
    if array.dtype.kind not in "fiub" and array.dtype.name not in (
        "bfloat16",
        "float8_e4m3fn",
    ):
        raise TypeError(_wrong_kind(name, array))
    if array.ndim == 0:
        raise ValueError(
            f"expected {name} with rows, received the single number {array}"
        )
    return _in_working_dtype(name, array)


def _wrong_kind(name: str, array: np.ndarray) -> str:
    row, first = _first_that_is_no_number(array)
    advice = {
        "U": "turn strings into numbers first, e.g. by np.unique(y, return_inverse=True)",
        "S": "decode and turn strings into numbers first",
        "O": "turn it into numbers, rows of one length, no None, then np.asarray(x, 'float32')",
        "M": "turn dates into numbers, e.g. days since a start",
        "m": "turn durations into numbers, e.g. seconds",
        "c": "split complex numbers into real and imaginary parts",
    }.get(array.dtype.kind, "convert it to numbers")
    return (
        f"expected {name} to hold numbers, received dtype {array.dtype}, {first!r} in row {row}; "
        f"{advice}"
    )


def _first_that_is_no_number(array: np.ndarray) -> tuple[int, Any]:
    """(its row, it); of an array that holds numbers in another dtype, the first of them."""
    rows = array if array.ndim else array[None]
    for row, items in enumerate(rows):
        for item in np.ravel(items):
            if isinstance(item, str) or not np.issubdtype(
                np.asarray(item).dtype, np.number
            ):
                return row, item
    return 0, array.reshape(-1)[0] if array.size else None


def _in_working_dtype(name: str, array: np.ndarray) -> np.ndarray:
    target = jax.dtypes.canonicalize_dtype(array.dtype.newbyteorder("="))
    if target == array.dtype:
        return array
    if array.dtype.kind in "iu" and array.size:
        limits, low, high = np.iinfo(target), array.min(), array.max()
        if low < limits.min or high > limits.max:
            worst = low if low < limits.min else high
            raise ValueError(
                f"expected the integers of {name} to fit {target}, received {worst}; "
                "renumber them, or set jax_enable_x64"
            )
    with np.errstate(over="ignore"):
        converted = array.astype(target)
    if (
        array.dtype.kind == "f"
        and not np.isfinite(converted).all()
        and np.isfinite(array).all()
    ):
        raise ValueError(
            f"expected the numbers of {name} to fit {target}, received {np.abs(array).max():g}; "
            "scale them down"
        )
    return converted


def rows_of(arrays: dict[str, Any]) -> int:
    """The common number of rows. Raises ValueError, by the names, for different numbers."""
    lengths = {
        f"{name}{jax.tree_util.keystr(path)}": len(leaf)
        for name, part in arrays.items()
        for path, leaf in jax.tree_util.tree_leaves_with_path(part)
    }
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{name} with {n} rows" for name, n in lengths.items())
        raise ValueError(
            f"expected arrays with the same number of rows, received {shown}"
        )
    return next(iter(lengths.values()), 0)


def finite(name: str, array: Any, columns: Any = None) -> None:
    """Raises ValueError if there is a NaN, naming rows and, in a table, the column."""
    if isinstance(array, jax.core.Tracer) or not np.size(array):
        return
    if not jnp.issubdtype(array.dtype, jnp.floating):
        return
    least = (
        array if array.dtype.kind == "f" else array.astype(np.float32)
    ).min()  # NaN wins
    if least == least:
        return
    bad = np.isnan(
        np.asarray(array, np.float32) if array.dtype != np.float64 else array
    )
    if not bad.any():
        return
    rows = np.flatnonzero(bad.reshape(len(bad), -1).any(axis=1))
    shown = ", ".join(map(str, rows[:5])) + (", ..." if len(rows) > 5 else "")
    where = ""
    if bad.ndim == 2:
        numbers = np.flatnonzero(bad.any(axis=0))[:5]
        titles = [repr(columns[i]) if columns is not None else str(i) for i in numbers]
        where = f" of column{'s' if len(titles) > 1 else ''} {', '.join(titles)}"
    raise ValueError(
        f"expected numbers in {name}, received NaN in row{'s' if len(rows) > 1 else ''} "
        f"{shown}{where}; fill or drop them (checks=False in compile lets them pass)"
    )


def check_guard(guard: Any) -> None:
    """Raises ValueError for what is no way to deal with a loss that is not finite."""
    if guard not in ("raise", "skip", "ignore"):
        raise ValueError(
            f'expected guard "raise", "skip" or "ignore", received {guard!r}'
        )


def whole_number(name: str, value: Any, minimum: int) -> int:
    """`value` as an int. Raises ValueError unless it is an integer of at least `minimum`."""
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, np.integer))
        or value < minimum
    ):
        raise ValueError(
            f"expected {name} as an integer of at least {minimum}, received {value!r}"
        )
    return int(value)


def positive_if_given(**numbers: Any) -> None:
    """Raises ValueError for one of these arguments that is neither None nor an integer above 0."""
    for name, value in numbers.items():
        if value is not None:
            whole_number(name, value, 1)


def finite_weights(name: str, weight: np.ndarray) -> None:
    """Raises ValueError for weights that are negative, NaN or infinite."""
    right = (weight >= 0) & (weight < np.inf)  # NaN is neither
    if not right.all():
        raise ValueError(
            f"expected {name} of at least 0 and finite, received {weight[~right][0]:g}; clip or "
            "drop it"
        )


def validation_times(often: Any) -> Callable[[int], bool]:
    """Whether to validate after an epoch (from 0), by Keras's `validation_freq`."""
    listed = isinstance(often, (list, tuple, set))
    for number in often if listed else [often]:
        whole_number("validation_freq", number, 1)
    return lambda epoch: epoch + 1 in often if listed else (epoch + 1) % often == 0


def sample_weight(name: str, weight: Any) -> None:
    """Raises ValueError for weights that are negative, NaN, infinite, or all zero."""
    array = np.asarray(weight)
    finite_weights(name, array)
    if array.size and not array.any():
        raise ValueError(f"expected {name} with a weight above 0, received only zeros")


def input_values(layer: Layer, x: Any) -> None:
    """Lets each layer that reads an input directly check its values (`Embedding`: ids in range)."""
    if _checks_values(layer):
        _visit("", layer, x)


@small_cache(64)
def _checks_values(layer: Layer) -> bool:
    return any(hasattr(inner, "check_values") for _, inner, _ in walk(layer))


def _visit(name: str, layer: Layer, x: Any) -> Any:
    if not any(
        isinstance(leaf, (np.ndarray, jax.Array)) for leaf in jax.tree.leaves(x)
    ):
        return _Computed
    if isinstance(layer, Flow):
        return layer.flow(x, _visit)
    check_numbers(layer, x)
    for path, child in layer.children():
        if path is None:
            _visit(name, child, x)
    return _Computed


class _Computed:
    """Stands for what a layer made: not known before it runs."""
