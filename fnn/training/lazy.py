"""LazyArray: an array on the host whose examples are checked and converted as they are read."""

from __future__ import annotations

import mmap
import sys
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from fnn.runtime.row_numbers import numbered

# Larger arrays are checked batch by batch, not before the first step.
CHECKED_AT_ONCE = 2**28  # bytes

Convert = Callable[[np.ndarray], np.ndarray]
Check = Callable[[np.ndarray], None]


class LazyArray:
    """Examples of a sparse matrix, a memmap or a large array, or `Computed`, read by their indices.

    `array[indices]` is a NumPy array, dense and in the dtype in which JAX computes
    (`convert`). Examples that are read for the first time are given to the checks that
    `check_later` noted.
    """

    def __init__(
        self,
        source: Any,
        convert: Convert,
        shape: tuple[int, ...] | None = None,
    ) -> None:
        self.source = source
        self.convert = convert
        self.shape = shape or tuple(source.shape)
        self.dtype = np.dtype(
            jax.dtypes.canonicalize_dtype(source.dtype.newbyteorder("="))
        )
        self.checks: list[Check] = []
        # The numbers of its examples in the whole data, and in the source if it has others.
        self._numbers = np.arange(self.shape[0])
        self._in_source: np.ndarray | None = None
        self._unseen: np.ndarray | None = None

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def in_memory(self) -> bool:
        """Whether the whole array is in memory, as numbers that can be copied to a device."""
        away = is_sparse(self.source) or _is_on_disk(self.source)
        return not (away or self._is_computed)

    @property
    def _is_computed(self) -> bool:
        """Whether reading the source computes it: see `fnn.training.computed`."""
        return getattr(self.source, "is_computed", False)

    def __len__(self) -> int:
        return self.shape[0]

    def check_later(self, check: Check) -> None:
        """Calls `check` with examples when they are read for the first time."""
        self.checks.append(check)
        self._unseen = None

    def part(self, rows: slice | np.ndarray) -> LazyArray:
        """Some of the examples, not read yet, with the same checks."""
        numbers = self._numbers[rows]
        shape = (len(numbers), *self.shape[1:])
        is_view = isinstance(rows, slice) and not self._is_computed
        if is_view and self._in_source is None:
            part = LazyArray(self.source[rows], self.convert, shape)
        else:
            part = LazyArray(self.source, self.convert, shape)
            places = self._in_source
            if places is None:
                places = np.arange(len(self))
            part._in_source = places[rows]
        part.checks = list(self.checks)
        part._numbers = numbers
        return part

    def reshape(self, *shape: int) -> LazyArray:
        """The same examples in another shape."""
        other = LazyArray(self.source, self.convert, shape)
        other.checks = list(self.checks)
        other._numbers, other._in_source = self._numbers, self._in_source
        return other

    def unchecked(self) -> np.ndarray:
        """All examples, without any check."""
        return self._read(slice(None))

    def __array__(
        self, dtype: np.dtype | None = None, copy: bool | None = None
    ) -> np.ndarray:
        return np.asarray(self[:], dtype)

    def __getitem__(self, index: Any) -> np.ndarray:
        examples = self._read(index)
        if self.checks:
            rows = _rows(index, len(self))
            self._check(rows, examples.reshape(-1, *self.shape[1:]))
        return examples

    def check(self, index: np.ndarray) -> None:
        """Reads and checks the examples of these indices that were never read."""
        if self.checks:
            unseen = np.unique(index[self._are_unseen(index)])
            if len(unseen):
                self._check(unseen, self._read(unseen))

    def _read(self, index: Any) -> np.ndarray:
        flat = index
        leading: tuple[int, ...] = (-1,)
        if isinstance(index, np.ndarray):
            flat, leading = index.reshape(-1), index.shape
        if self._in_source is not None:
            flat = self._in_source[flat]
        examples = self.source[flat]
        if is_sparse(examples):
            examples = examples.toarray()
        examples = self.convert(np.asarray(examples))
        if leading == (-1,):
            leading = (len(examples),)
        shaped: np.ndarray = examples.reshape(*leading, *self.shape[1:])
        return shaped

    def _are_unseen(self, rows: np.ndarray) -> np.ndarray:
        if self._unseen is None:
            self._unseen = np.ones(len(self), np.bool_)
        unseen: np.ndarray = self._unseen[rows]
        return unseen

    def _check(self, rows: np.ndarray, examples: np.ndarray) -> None:
        """Checks those of some examples that were never read before."""
        unseen = self._are_unseen(rows)
        if not unseen.any():
            return
        if not unseen.all():
            rows, examples = rows[unseen], examples[unseen]
        with numbered(self._numbers[rows]):
            for check in self.checks:
                check(examples)
        assert self._unseen is not None
        self._unseen[rows] = False


def _rows(index: Any, count: int) -> np.ndarray:
    """The numbers of the examples that a slice or an array of indices reads."""
    if isinstance(index, slice):
        return np.arange(*index.indices(count))
    return np.asarray(index).reshape(-1)


def is_sparse(value: object) -> bool:
    """Whether this is a sparse matrix or array of SciPy, which is not imported for it."""
    sparse: Any = sys.modules.get("scipy.sparse")
    return sparse is not None and bool(sparse.issparse(value))


def reads_lazily(value: object) -> bool:
    """Whether examples of this array are read when they are needed: it is large, or on disk."""
    if not isinstance(value, np.ndarray):
        return is_sparse(value)
    if not value.ndim:
        return False
    return value.nbytes > CHECKED_AT_ONCE or _is_on_disk(value)


def _is_on_disk(value: object) -> bool:
    while value is not None:
        if isinstance(value, (np.memmap, mmap.mmap)):
            return True
        value = getattr(value, "base", None)
    return False


def by_rows(matrix: Any) -> Any:
    """A sparse matrix in the format from which rows are read quickly."""
    if is_sparse(matrix):
        return matrix.tocsr()
    return matrix
