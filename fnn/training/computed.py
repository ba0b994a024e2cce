"""Computed: outputs of a function of examples on the host, computed for those that are read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import numpy as np

from fnn.core import tree
from fnn.core.tree import SpecTree, Tree
from fnn.training.lazy import LazyArray

AT_ONCE = 2**28  # bytes: smaller outputs are computed before the first batch
# An array of positions, or a slice.
Rows: TypeAlias = Any
Run: TypeAlias = Callable[[Tree], Sequence[np.ndarray]]


class Computed:
    """One of the outputs of a run over examples: a source for `LazyArray`."""

    # Reading it takes time and memory: see `LazyArray`.
    is_computed = True

    def __init__(self, runs: _Runs, number: int, spec: SpecTree) -> None:
        self._runs = runs
        self._number = number
        self.shape = spec.shape
        self.dtype = np.dtype(spec.dtype)

    def __getitem__(self, rows: Rows) -> np.ndarray:
        return self._runs.of(rows)[self._number]


class _Runs:
    """The outputs for the examples that were read last; several outputs take one run."""

    def __init__(self, run: Run, x: Tree) -> None:
        self._run, self._x = run, x
        self._last: tuple[Rows, Sequence[np.ndarray]] | None = None

    def of(self, rows: Rows) -> Sequence[np.ndarray]:
        if self._last is None or not _are_equal(self._last[0], rows):
            self._last = rows, self._outputs(rows)
        return self._last[1]

    def _outputs(self, rows: Rows) -> Sequence[np.ndarray]:
        if isinstance(rows, slice):
            return self._run(self._examples(rows))
        # Padding repeats an example, which is computed once.
        different, places = np.unique(rows, return_inverse=True)
        outputs = self._run(self._examples(different))
        return [output[places] for output in outputs]

    def _examples(self, rows: Rows) -> Tree:
        return jax.tree.map(lambda array: array[rows], self._x)


def _are_equal(first: Rows, second: Rows) -> bool:
    if isinstance(first, slice) or isinstance(second, slice):
        return bool(type(first) is type(second) and first == second)
    return np.array_equal(first, second)


def computed(
    run: Run, x: Tree, specs: Sequence[SpecTree] | None
) -> Sequence[np.ndarray | LazyArray]:
    """The outputs of `run` for the examples of `x`: as arrays read lazily if they are large.

    `specs` are theirs; None if they are not known before.
    """
    if specs is None or tree.nbytes(specs) <= AT_ONCE:
        return run(x)
    runs = _Runs(run, x)
    outputs = []
    for number, spec in enumerate(specs):
        source = Computed(runs, number, spec)
        outputs.append(LazyArray(source, lambda part: part))
    return tuple(outputs)
