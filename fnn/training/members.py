"""MemberMean: a metric of an ensemble, the mean of that of its members."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from numpy.typing import ArrayLike

from fnn.core.tree import Tree
from fnn.metrics import Metric


class MemberMean(Metric, loadable=False):
    """The mean of a metric over an ensemble, whose members are along axis 1 of the outputs."""

    metric: Any = None

    @property
    def direction(self) -> str | None:  # type: ignore[override]
        direction: str | None = self.metric.direction
        return direction

    @property
    def adds(self) -> bool:  # type: ignore[override]
        adds: bool = self.metric.adds
        return adds

    def update(
        self,
        sums: Tree,
        y_true: Tree,
        y_pred: Tree,
        weight: ArrayLike | None = None,
        **named: Tree,
    ) -> Tree:
        if not self.adds:
            # Those of every member, along a first axis.
            def updated(one: Tree, y: Array) -> Tree:
                return self.metric.update(one, y_true, y, weight=weight, **named)

            return jax.vmap(updated, in_axes=(0, 1))(sums, y_pred)

        def sums_of_one(y: Array) -> Tree:
            return self.metric.update(self.metric.init(), y_true, y, weight)

        of_batch = jax.vmap(sums_of_one, in_axes=1)(y_pred)  # (members, ...)
        return jax.tree.map(jnp.add, sums, of_batch)

    def init(self, y_true: Tree = None, y_pred: Tree = None) -> Tree:
        if self.adds:
            return self.metric.init()
        members = y_pred.shape[1]
        one = jax.eval_shape(lambda y: y[:, 0], y_pred)
        sums = self.metric.init(y_true, one)

        def repeated(array: Array) -> Array:
            return jnp.broadcast_to(array, (members, *array.shape))

        return jax.tree.map(repeated, sums)

    def result(self, sums: Tree) -> Tree:
        of_members = jax.vmap(self.metric.result)(sums)  # (members,)
        return jax.tree.map(lambda a: a.mean(0), of_members)
