"""Arrays for networks: one-hot vectors, unit vectors, padded sequences."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike, DTypeLike

# Lists, tuples or arrays of different lengths: no annotation says what their items are.
Sequences: TypeAlias = Any


def to_categorical(x: ArrayLike, num_classes: int | None = None) -> np.ndarray:
    """One-hot vectors of class numbers.   `(...)` or `(..., 1) -> (..., num_classes)`

    A NumPy array of float64, for `categorical_crossentropy`; the sparse loss takes class numbers.
    `num_classes` is by default the largest number in `x` plus 1, which may differ between parts of
    the data. Raises ValueError for numbers outside of 0 to `num_classes` - 1 (Keras counts negative
    ones from the end).

    >>> to_categorical([0, 2]).tolist()
    [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    """
    numbers = np.asarray(x).astype("int64")
    if numbers.ndim > 1 and numbers.shape[-1] == 1:  # (..., 1), a column of labels
        numbers = numbers[..., 0]
    count = num_classes or int(numbers.max(initial=-1)) + 1
    is_outside = (numbers < 0) | (numbers >= count)
    if is_outside.any():
        raise ValueError(
            f"to_categorical: expected class numbers from 0 to {count - 1}, received numbers from "
            f"{numbers.min()} to {numbers.max()}; pass the number of classes instead of "
            f"{num_classes=}, or renumber the classes"
        )
    one_hot: np.ndarray = np.eye(count)[numbers]  # (..., count)
    return one_hot


def normalize(
    x: ArrayLike,
    axis: int = -1,
    order: float = 2,
) -> np.ndarray | jax.Array:
    """x / norm(x): each vector along `axis` gets norm 1; vectors of zeros stay zeros.

    `order` is the order of the norm: 1 for the sum of absolute values, 2 for the Euclidean norm,
    `np.inf` for the largest absolute value. Returns a JAX array for a JAX array, else a NumPy
    array.

    >>> normalize(np.array([[3.0, 4.0], [0.0, 0.0]])).tolist()
    [[0.6, 0.8], [0.0, 0.0]]
    """
    # The module whose arrays come out.
    xp: Any = np
    if isinstance(x, jax.Array):
        xp = jnp
    array = xp.asarray(x)
    norm = xp.linalg.norm(array, order, axis, keepdims=True)  # size 1 along `axis`
    divisor = xp.where(norm == 0, 1, norm)
    normalized: np.ndarray | jax.Array = array / divisor
    return normalized


def pad_sequences(
    sequences: Sequences,
    maxlen: int | None = None,
    dtype: DTypeLike = "int32",
    padding: str = "pre",
    truncating: str = "pre",
    value: float | str = 0.0,
) -> np.ndarray:
    """Sequences of different lengths as one array: n of `(length, ...) -> (n, maxlen, ...)`.

    Shorter sequences are padded with `value`, longer ones cut. Both happen at the start ("pre"), as
    in Keras, so that a recurrent layer reads the valid steps last, or at the end ("post"). `maxlen`
    None is the length of the longest sequence. With `Embedding(mask_zero=True)`, use 0 for padding
    only. Raises ValueError for anything but a list of sequences with steps of one shape.

    >>> pad_sequences([[1], [2, 3, 4]], maxlen=2).tolist()
    [[0, 1], [3, 4]]
    """
    _check_sides(padding=padding, truncating=truncating)
    is_list = isinstance(sequences, Iterable)
    if not is_list or not all(hasattr(s, "__len__") for s in sequences):
        raise ValueError(
            f"pad_sequences: expected a list of sequences, received {sequences!r}; pass a list "
            "of lists or arrays, one for each example"
        )
    if isinstance(value, str) and np.dtype(dtype).kind not in "OSU":
        raise ValueError(
            f"pad_sequences: expected a number as value for {dtype=}, received {value!r}; pass "
            "dtype=object for strings"
        )
    arrays = [np.asarray(sequence, dtype) for sequence in sequences]
    if maxlen is None:
        maxlen = max(map(len, arrays), default=0)
    shapes = {array.shape[1:] for array in arrays if len(array)} or {()}
    if len(shapes) > 1:
        raise ValueError(
            f"pad_sequences: expected steps of one shape, received steps of {sorted(shapes)}; "
            "pass every sequence as (length, ...) with the same shape after its length"
        )
    shape = (len(arrays), maxlen, *shapes.pop())
    padded = np.full(shape, value, dtype)
    for out, array in zip(padded, arrays, strict=True):
        kept = array[:maxlen]  # (at most maxlen, ...)
        if truncating == "pre":
            kept = array[max(len(array) - maxlen, 0) :]
        start = 0
        if padding == "pre":
            start = maxlen - len(kept)
        out[start : start + len(kept)] = kept
    return padded


def _check_sides(**sides: str) -> None:
    for name, side in sides.items():
        if side not in ("pre", "post"):
            raise ValueError(
                f'pad_sequences: expected {name} to be "pre" or "post", received {side!r}'
            )
