"""Accumulator: the sums behind `metric.update_state`, beside the metric and no part of it."""

from __future__ import annotations

import weakref
from typing import Any

import jax
import jax.numpy as jnp

from fnn.metrics import exact


class Accumulator:
    """Sums over batches, with what rounding takes from them. The only mutable part of a metric.

    >>> accumulator = Accumulator()
    >>> accumulator.sums is None  # before the first batch
    True
    >>> accumulator.add({"total": jnp.float32(2)}, {"total": jnp.float32(0)})
    >>> accumulator.sums["total"].item()
    2.0
    """

    def __init__(self) -> None:
        self._held: tuple[Any, Any] | None = None

    def add(self, more: Any, zeros: Any) -> None:
        """Adds the sums of one batch; `zeros` are those of no batch."""
        sums, lost = self._held or (zeros, exact.nothing_lost(zeros))
        self._held = exact.add(sums, lost, more)

    @property
    def sums(self) -> Any:
        """The sums so far, or None before the first batch."""
        return None if self._held is None else jax.tree.map(jnp.add, *self._held)

    def reset(self) -> None:
        """Forgets all batches."""
        self._held = None


# By identity, not by value: two equal metrics count separately, and a copy starts from zero.
_BY_ID: dict[int, Accumulator] = {}


def accumulator_of(metric: Any) -> Accumulator:
    """The accumulator of this metric object, which goes when the object goes.

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
