"""Progress bar: Keras's `Progbar`, for loops of your own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

import numpy as np

from fnn.training.progress import Progress

Values: TypeAlias = Iterable[tuple[str, Any]]  # of one step, by name


class Progbar:
    """A progress bar on standard output, with the averages of values.

    `target` is the number of steps, None if it is not known; `verbose` 1 draws a bar, 2 writes a
    line at the end, 0 nothing. Values are averaged over the steps, but those in
    `stateful_metrics` (or, if given instead, not in `stateless_metrics`) are shown as they are.
    `interval` is the least time between two updates in seconds, `unit_name` what is counted.
    Raises ValueError for both lists of metrics.

    >>> bar = Progbar(target=4, verbose=2)
    >>> for step in range(4):
    ...     bar.add(1, values=[("loss", step)])
    4/4 - 0s - .../step - loss: 3.0000
    """

    def __init__(
        self,
        target: int | None,
        width: int = 20,
        verbose: int = 1,
        interval: float = 0.05,
        stateful_metrics: Iterable[str] | None = None,
        stateless_metrics: Iterable[str] | None = None,
        unit_name: str = "step",
    ) -> None:
        if stateful_metrics is not None and stateless_metrics is not None:
            raise ValueError(
                "Progbar: expected stateful_metrics or stateless_metrics, received both; pass "
                "the shorter list"
            )
        self.target = target
        self._as_they_are = frozenset(stateful_metrics or ())
        self._averaged: frozenset[str] | None = None
        if stateless_metrics is not None:
            self._averaged = frozenset(stateless_metrics)
        self._progress = Progress(verbose, target)
        self._progress.width = width
        self._progress.unit = unit_name
        self._progress.interval = interval
        self._progress.last = float("-inf")  # the first update is drawn at once
        self._sums: dict[str, tuple[float, int]] = {}  # and the steps in them
        self._done = 0

    def update(
        self,
        current: int,
        values: Values | None = None,
        finalize: bool | None = None,
    ) -> None:
        """Draws the bar after `current` steps, with the values of the last one.

        `finalize` ends the bar; by default when `target` is reached. A final value is shown as it
        is, as in Keras.
        """
        if finalize is None:
            finalize = self.target is not None and current >= self.target
        for name, value in values or ():
            value = float(np.mean(value))
            steps = max(current - self._done, 1)
            total, count = self._sums.get(name, (0.0, 0))
            if finalize or not self._is_averaged(name):
                self._sums[name] = value, 1
            else:
                self._sums[name] = total + value * steps, count + steps
        self._done = current
        means = {name: total / count for name, (total, count) in self._sums.items()}
        if finalize:
            self._progress.end(current, means)
        elif self._progress.reached(current):
            self._progress.update(current, means)

    def add(self, n: int, values: Values | None = None) -> None:
        """Draws the bar `n` steps further."""
        self.update(self._done + n, values)

    def _is_averaged(self, name: str) -> bool:
        if self._averaged is not None:
            return name in self._averaged
        return name not in self._as_they_are
