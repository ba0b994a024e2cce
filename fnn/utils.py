"""Utilities: what prepares arrays for a network, by Keras's names."""

from __future__ import annotations

import gc
import random
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn.core.registry import register_keras_serializable
from fnn.runtime.program_cache import clear_all, programs
from fnn.runtime.seed import set_seed

__all__ = [
    "clear_session",
    "normalize",
    "pad_sequences",
    "register_keras_serializable",
    "set_program_cache_size",
    "set_random_seed",
    "to_categorical",
]


def to_categorical(x: Any, num_classes: int | None = None) -> np.ndarray:
    """Class numbers as rows with a one at that place: `(...)` or `(..., 1) -> (..., num_classes)`.

    A NumPy array of float64, for `categorical_crossentropy`; the sparse loss needs none of it.
    Without `num_classes` there are as many classes as the largest number in `x` asks for, which may
    be fewer in one part of the data than in another. Raises ValueError for numbers outside of them
    (Keras counts negative ones from the end).

    >>> to_categorical([0, 2]).tolist()
    [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    """
    numbers = np.asarray(x).astype("int64")
    if numbers.ndim > 1 and numbers.shape[-1] == 1:
        numbers = numbers[..., 0]
    count = num_classes or int(numbers.max(initial=-1)) + 1
    if numbers.size and (numbers.min() < 0 or numbers.max() >= count):
        raise ValueError(
            f"to_categorical: expected class numbers from 0 to {count - 1}, received numbers from "
            f"{numbers.min()} to {numbers.max()}; give {num_classes=} as what there are, or "
            "renumber the classes"
        )
    return np.eye(count)[numbers]


def normalize(x: Any, axis: int = -1, order: float = 2) -> Any:
    """x / norm(x), so that each vector along `axis` has length 1; one of zeros stays.

    `order` is that of the norm: 1 the sum of sizes, 2 the Euclidean length, `np.inf` the largest.
    The shape stays; NumPy for a NumPy array or a list, JAX for an array of JAX.

    >>> normalize(np.array([[3.0, 4.0], [0.0, 0.0]])).tolist()
    [[0.6, 0.8], [0.0, 0.0]]
    """
    xp: Any = jnp if isinstance(x, jax.Array) else np
    x = xp.asarray(x)
    norm = xp.linalg.norm(x, order, axis, keepdims=True)
    return x / xp.where(norm == 0, 1, norm)


def pad_sequences(
    sequences: Any,
    maxlen: int | None = None,
    dtype: Any = "int32",
    padding: str = "pre",
    truncating: str = "pre",
    value: Any = 0.0,
) -> np.ndarray:
    """Sequences of different lengths as one array: n of `(length, ...) -> (n, maxlen, ...)`.

    Shorter ones are filled up with `value`, longer ones cut. Both happen at the start ("pre"), as
    in Keras, so that a recurrent layer reads the real steps last; "post" is at the end. `maxlen`
    None is the length of the longest. With `Embedding(mask_zero=True)` 0 must stay free for the
    filling. Raises ValueError for what is no list of sequences of one kind.

    >>> pad_sequences([[1], [2, 3, 4]], maxlen=2).tolist()
    [[0, 1], [3, 4]]
    """
    for name, side in (("padding", padding), ("truncating", truncating)):
        if side not in ("pre", "post"):
            raise ValueError(
                f'pad_sequences: expected {name} "pre" or "post", received {side!r}'
            )
    if not isinstance(sequences, Iterable) or not all(
        hasattr(s, "__len__") for s in sequences
    ):
        raise ValueError(
            f"pad_sequences: expected a list of sequences, received {sequences!r}; give a list "
            "of lists or arrays, one for each example"
        )
    if isinstance(value, str) and np.dtype(dtype).kind not in "OSU":
        raise ValueError(
            f"pad_sequences: expected a number as value for {dtype=}, received {value!r}; give "
            "dtype=object for strings"
        )
    rows = [np.asarray(sequence, dtype) for sequence in sequences]
    length = max(map(len, rows), default=0) if maxlen is None else maxlen
    shapes = {row.shape[1:] for row in rows if len(row)} or {()}
    if len(shapes) > 1:
        raise ValueError(
            f"pad_sequences: expected steps of one shape, received steps of {sorted(shapes)}; "
            "give every sequence as (length, ...) with the same shape after its length"
        )
    padded = np.full((len(rows), length, *shapes.pop()), value, dtype)
    for out, row in zip(padded, rows, strict=True):
        extra = max(len(row) - length, 0)
        kept = row[extra:] if truncating == "pre" else row[:length]
        out[
            slice(length - len(kept), None) if padding == "pre" else slice(len(kept))
        ] = kept
    return padded


def set_random_seed(seed: int) -> None:
    """`fnn.set_seed`, and Python's and NumPy's seeds too: a whole script gives the same numbers.

    Raises ValueError unless `seed` is an integer.

    >>> set_random_seed(0)
    >>> np.random.randint(100)
    44
    """
    set_seed(seed)
    random.seed(seed)
    np.random.seed(seed)


def set_program_cache_size(size: int) -> None:
    """How many compiled programs are kept for models to come: 24 unless set.

    One is needed for each network, kind of step (training, evaluation, prediction) and shape of
    batches, and takes some MB. Beyond the size those unused longest are freed; an equal model, or
    the same one with such batches, then compiles again. 0 keeps none beyond its use.
    Raises ValueError unless `size` is an integer of at least 0.

    >>> set_program_cache_size(8)  # less memory, where each of many models is used once
    >>> set_program_cache_size(24)
    """
    if isinstance(size, bool) or not isinstance(size, int) or size < 0:
        raise ValueError(
            f"set_program_cache_size: size must be an integer of at least 0, got {size!r}; "
            "pass e.g. 24"
        )
    programs.resize(size)


def clear_session(free_memory: bool = True) -> None:
    """Frees all compiled programs. Models and their weights stay, and compile at their next use.

    `free_memory` also collects garbage. There are no counters of names to reset, as in Keras.
    (The C library may keep freed memory for what comes next.)

    >>> model = fnn.Sequential([fnn.layers.Dense(1, input_shape=(2,))], seed=0)
    >>> before = model.predict(np.ones((1, 2)), verbose=0)
    >>> clear_session()
    >>> bool((model.predict(np.ones((1, 2)), verbose=0) == before).all())
    True
    """
    clear_all()
    if free_memory:
        gc.collect()
