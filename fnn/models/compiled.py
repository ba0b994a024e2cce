"""Compiled: the losses and metrics of `compile` for the steps of a class, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from fnn.core import tree
from fnn.core.context import leading, split_mask
from fnn.core.tree import SpecTree, Tree
from fnn.metrics import Mean, Metric
from fnn.subclassing.tracking import attributes
from fnn.training.objective import Objective, OutputGoal, resolve_objective
from fnn.training.step import output_leaves
from fnn.variables import Variable


class CompiledMetrics:
    """The metrics of all outputs as one, whose result is a dict by their names in the logs."""

    name = "compile_metrics"

    def __init__(self) -> None:
        self.objective: Objective | None = None

    @property
    def _goals(self) -> tuple[OutputGoal, ...]:
        if self.objective is None:
            return ()
        return self.objective.goals

    def _each(self) -> Iterator[tuple[int, str, Any, bool]]:
        for index, goal in enumerate(self._goals):
            for label, metric, weighted in goal.metrics:
                yield index, label, metric, weighted

    @property
    def variables(self) -> list[Variable]:
        """The variables of all of them; none before the shapes of outputs are known."""
        return [v for _, _, metric, _ in self._each() for v in metric.variables]

    def update_state(self, y: Tree, y_pred: Tree, sample_weight: Tree = None) -> None:
        """Updates each by its output."""
        count = len(self._goals)
        outputs, targets = output_leaves(y_pred), per_output(y, count)
        weights = per_output(sample_weight, count)
        for index, _, metric, weighted in self._each():
            values, mask = split_mask(outputs[index])
            weight = _counted(weights[index] if weighted else None, mask)
            metric.update_state(targets[index], values, sample_weight=weight)

    def result(self) -> dict[str, Tree]:
        """The value of each by its name."""
        return {label: metric.result() for _, label, metric, _ in self._each()}

    def reset_state(self) -> None:
        """Sets all back to their start."""
        for _, _, metric, _ in self._each():
            metric.reset_state()

    def _metrics(self) -> list[Any]:
        return [metric for _, _, metric, _ in self._each()]

    def stateless_update_state(
        self,
        values: list[Tree],
        y: Tree,
        y_pred: Tree,
        sample_weight: Tree = None,
    ) -> list[Array]:
        """The values of the variables after `update_state`."""
        count = len(self._goals)
        outputs, targets = output_leaves(y_pred), per_output(y, count)
        after: list[Array] = []
        for index, _, metric, _ in self._each():
            own = values[len(after) : len(after) + len(metric.variables)]
            after += metric.stateless_update_state(own, targets[index], outputs[index])
        return after

    def stateless_result(self, values: list[Tree]) -> dict[str, Tree]:
        """The value of each by its name, for these values of the variables."""
        found, start = {}, 0
        for _, label, metric, _ in self._each():
            own = values[start : start + len(metric.variables)]
            found[label] = metric.stateless_result(own)
            start += len(own)
        return found

    def stateless_reset_state(self) -> list[Array]:
        """The values of the variables before the first batch."""
        return [v for one in self._metrics() for v in one.stateless_reset_state()]


class Compiled:
    """What `compile` was given, for batches in Keras's form."""

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        self.arguments = arguments
        self.objective: Objective | None = None
        self.loss_tracker = Mean(name="loss")
        self.metrics = CompiledMetrics()
        self.output_trackers: dict[str, Mean] = {}

    @property
    def trackers(self) -> list[Any]:
        """The mean of the loss, the metrics, and the means of the losses of several outputs."""
        found: list[Any] = [self.loss_tracker]
        given = (self.arguments["metrics"], self.arguments["weighted_metrics"])
        if any(given):
            found.append(self.metrics)
        return [*found, *self.output_trackers.values()]

    def resolve(self, y: SpecTree, y_pred: SpecTree, names: list[str]) -> None:
        """Matches losses and metrics to outputs of these shapes, the first time."""
        if self.objective is not None:
            return
        outputs = output_leaves(y_pred)
        targets = per_output(tree.spec(y), len(outputs))
        if y is None:
            targets = ()
        objective = resolve_objective(self.arguments, names, targets, outputs)
        self.objective = self.metrics.objective = objective
        if objective.several:
            for goal in objective.goals:
                name = f"{goal.name}_loss"
                self.output_trackers[name] = Mean(name=name)

    def loss(
        self,
        y: Tree,
        y_pred: Tree,
        weight: Tree,
        penalty: Array,
        names: list[str],
    ) -> Array:
        """The loss of a batch, plus a penalty."""
        if self.arguments["loss"] is None:
            return penalty
        self.resolve(y, tree.spec(y_pred), names)
        assert self.objective is not None
        outputs = output_leaves(y_pred)
        goals = tuple(goal.replace(metrics=()) for goal in self.objective.goals)
        batch = {"y": per_output(y, len(outputs)), "weight": ()}
        if weight is not None:
            batch["weight"] = per_output(weight, len(outputs))
        examples = jax.tree.leaves(y_pred)[0].shape[0]
        valid = jnp.ones(examples, bool)
        no_logits = [None] * len(outputs)
        loss, logs = Objective(goals).evaluate(
            outputs, no_logits, batch, valid, penalty
        )
        for name, tracker in self.output_trackers.items():
            if name in logs:
                tracker.update_state(logs[name].result, sample_weight=examples)
        return loss

    def order(self, names: list[str], others: list[Any]) -> list[str]:
        """Names of logs in Keras's order: as in `metrics`, then all others."""
        known: list[str] = []
        for metric in others:
            labels = [metric.name]
            if isinstance(metric, CompiledMetrics):
                labels = list(metric.result())
            known += [label for label in labels if label in names]
        return [*known, *(name for name in names if name not in known)]


def per_output(value: Tree, count: int) -> tuple[Tree, ...]:
    """Targets or weights one by one, as many as there are outputs."""
    if isinstance(value, dict):
        return tuple(value[name] for name in sorted(value))
    if isinstance(value, (list, tuple)) and len(value) == count:
        return tuple(value)
    return (value,) * count


def _counted(weight: Tree, mask: Array | None) -> Tree:
    """The weights of entries, 0 where they are masked."""
    if mask is None:
        return weight
    counts = mask.astype("float32")
    if weight is None:
        return counts
    axes = max(jnp.ndim(weight), counts.ndim)
    return leading(jnp.asarray(weight), axes) * leading(counts, axes)


def metrics_in(model: Any) -> list[Any]:
    """The metrics among the attributes of a model, also in lists and dicts, each once."""
    found: dict[int, Any] = {}
    for _, value in attributes(model):
        for leaf in jax.tree.leaves(value, is_leaf=_is_metric):
            if _is_metric(leaf):
                found[id(leaf)] = leaf
    return list(found.values())


def _is_metric(value: object) -> bool:
    return isinstance(value, Metric)
