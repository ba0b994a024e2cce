"""Accumulator: the sums of `metric.update_state`, stored outside the metric."""

from __future__ import annotations

import weakref

import jax
import jax.numpy as jnp

from fnn.core.tree import Tree
from fnn.metrics import exact


class Accumulator:
    """Sums over batches and their rounding errors. The only mutable part of a metric.

    >>> accumulator = Accumulator()
    >>> accumulator.sums is None  # before the first batch
    True
    >>> accumulator.add({"total": jnp.float32(2)}, {"total": jnp.float32(0)})
    >>> accumulator.sums["total"].item()
    2.0
    """

    def __init__(self) -> None:
        # (sums, rounding errors), None before the first batch
        self._kept: tuple[Tree, Tree] | None = None

    def add(self, more: Tree, zeros: Tree) -> None:
        """Adds the sums of one batch; `zeros` are the sums before the first one."""
        if self._kept is None:
            self._kept = (zeros, exact.nothing_lost(zeros))
        self._kept = exact.add(*self._kept, more)

    @property
    def sums(self) -> Tree:
        """The sums so far, or None before the first batch."""
        if self._kept is None:
            return None
        return jax.tree.map(jnp.add, *self._kept)

    def reset(self) -> None:
        """Resets the sums."""
        self._kept = None


# By identity, not by value: two equal metrics count separately, and a copy starts from zero.
_BY_ID: dict[int, Accumulator] = {}


def accumulator_of(metric: object) -> Accumulator:
    """The accumulator of this metric object; it is deleted together with the object.

    >>> from fnn.metrics import Mean
    >>> mean = Mean()
    >>> accumulator_of(mean) is accumulator_of(mean), accumulator_of(mean) is accumulator_of(Mean())
    (True, False)
    """
    key = id(metric)
    if key not in _BY_ID:
        _BY_ID[key] = Accumulator()
        weakref.finalize(metric, _BY_ID.pop, key).atexit = False
    return _BY_ID[key]
