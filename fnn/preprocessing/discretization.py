"""Discretization: numbers to the index of a bin, whose boundaries are given or learned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import jax.numpy as jnp
import numpy as np
from jax import Array

from fnn.core.context import INFERENCE, Context
from fnn.core.fields import not_negative
from fnn.core.layer import Params, State
from fnn.core.tree import SpecTree
from fnn.preprocessing.adapting import Adapting, Data
from fnn.preprocessing.encoding import encode, mode
from fnn.preprocessing.strings import as_host, dtype_of, refuse_sparse


class Discretization(Adapting):
    """The index of the bin of each number: bin i is from boundary i - 1 up to boundary i.

    `bin_boundaries` are given, or `adapt` learns those of `num_bins` bins that hold about equally
    many examples each: quantiles of the data, exact up to a fraction `epsilon` of it.
    `output_mode` encodes the indices as `CategoryEncoding` does.
    Raises ValueError unless one of the two is given, for NaN in the data, and without boundaries.

    >>> Discretization(bin_boundaries=[0.0, 1.0])(np.array([-1.5, 0.0, 3.4])).tolist()
    [0, 1, 2]
    """

    assignable = (*Adapting.assignable, "bin_boundaries")
    automatic_axes = True
    # The dtype is that of the outputs.
    casts_inputs = False

    bin_boundaries: tuple[float, ...] | None = None
    num_bins: int | None = not_negative(default=None)
    epsilon: float = 0.01
    output_mode: str = mode("int", "one_hot", "multi_hot", "count", default="int")
    sparse: bool = False

    def validate(self) -> None:
        refuse_sparse(self)
        if self.bin_boundaries is None and self.num_bins is None:
            raise ValueError(
                "Discretization: expected num_bins or bin_boundaries, received neither; pass "
                "num_bins and call layer.adapt(data), or pass the boundaries"
            )
        if not 0 < self.epsilon < 1:
            raise ValueError(
                "Discretization: expected epsilon between 0 and 1, received "
                f"epsilon={self.epsilon!r}; e.g. epsilon=0.01"
            )

    def init(self, key: Array, x: SpecTree) -> tuple[Params, State]:
        self._boundaries()
        return {}, {}

    def _boundaries(self) -> np.ndarray:
        if self.bin_boundaries is None:
            raise ValueError(
                "Discretization: expected a layer with boundaries, received one that has not "
                "learned them yet; call layer.adapt(data) before, or pass bin_boundaries"
            )
        return np.asarray(self.bin_boundaries, np.float32)

    def apply(
        self, params: Params, state: State, x: Array, ctx: Context = INFERENCE
    ) -> tuple[Array, State]:
        boundaries = self._boundaries()
        indices = jnp.searchsorted(jnp.asarray(boundaries), x, side="right")
        dtype = np.dtype("int32")
        if self.output_mode != "int":
            dtype = dtype_of(self, self.output_mode)
        return encode(indices, self.output_mode, len(boundaries) + 1, dtype), state

    # -- learning --------------------------------------------------------------------------------

    def update_state(self, data: Data) -> None:
        """Takes one more batch into account. Raises ValueError for NaN."""
        if self.num_bins is None:
            raise ValueError(
                "Discretization: expected a layer with num_bins to adapt, received one with "
                "bin_boundaries; pass num_bins in their place, or do not adapt"
            )
        array = as_host(self, data)
        if array.dtype.kind in "USMm":
            raise TypeError(
                f"Discretization: expected numbers to learn from, received {array.dtype}; use "
                "StringLookup for strings"
            )
        values = array.astype(np.float32).reshape(-1)
        if np.isnan(values).any():
            raise ValueError(
                "Discretization: expected numbers to learn from, received NaN in "
                f"{int(np.isnan(values).sum())} of {len(values)}; fill or drop them"
            )
        summary = _summary(values, self.epsilon)
        before = vars(self).get("_fnn_summary")
        if before is None:
            before = np.zeros((2, 0), np.float32)
        merged = np.concatenate((summary, before), axis=1)
        merged = merged[:, np.argsort(merged[0])]
        vars(self)["_fnn_summary"] = _compressed(merged, self.epsilon)

    def finalize_state(self) -> None:
        summary = vars(self).get("_fnn_summary")
        if summary is None or not self.num_bins:
            return
        boundaries = _compressed(summary, 1.0 / self.num_bins)[0, :-1]
        self._learn(bin_boundaries=tuple(boundaries.tolist()))

    def reset_state(self) -> None:
        vars(self).pop("_fnn_summary", None)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """The layer that `get_config` described, of fnn or of Keras."""
        return super().from_config(config)


def _summary(values: np.ndarray, epsilon: float) -> np.ndarray:
    """(values, weights) of about 1 / epsilon values, in order, each standing for those before."""
    values = np.sort(values)
    step = max(values.size * epsilon, 1)
    chosen = values[int(step - 1) :: int(step)]
    return np.stack([chosen, np.full_like(chosen, step)])


def _compressed(summary: np.ndarray, epsilon: float) -> np.ndarray:
    """A summary of 1 / epsilon values: quantiles, interpolated between those of this one."""
    if summary.shape[1] * epsilon < 1:
        return summary
    wanted = epsilon + np.arange(0.0, 1.0, epsilon)
    total = summary[1].cumsum()
    fraction = total / total[-1]
    values = np.interp(wanted, fraction, summary[0])
    weights = np.diff(np.interp(wanted, fraction, total), prepend=0)
    return np.stack((values, weights)).astype(np.float32)
