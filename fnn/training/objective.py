"""Objective: the losses and metrics of a model, resolved against its outputs and targets."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fnn import losses as losses_module
from fnn import metrics as metrics_module
from fnn.core.masking import leading, split_mask
from fnn.core.value import Value
from fnn.losses import checks
from fnn.metrics import Metric
from fnn.training.state import Tally


class OutputGoal(Value, loadable=False):
    """What one output is trained and measured by: a loss, its weight, and metrics.

    A metric is (its name in the logs, the metric, whether sample weights count).
    """

    name: str = ""
    loss: Any = None
    weight: float = 1.0
    metrics: tuple[tuple[str, Any, bool], ...] = ()


class WeightedLosses(Metric, loadable=False):
    """The loss of a model: the mean of each output's loss by its weight, and the penalties."""

    weights: tuple[float, ...] = (1.0,)

    def result(self, sums: Any) -> Array:
        *outputs, penalty = (total / jnp.maximum(count, 1e-12) for total, count in sums)
        return sum(
            (w * mean for w, mean in zip(self.weights, outputs, strict=True)), penalty
        )


class MemberMean(Metric, loadable=False):
    """The mean of a metric over networks whose outputs stand side by side along axis 1."""

    metric: Any = None

    @property
    def direction(self) -> str | None:  # type: ignore[override]
        return self.metric.direction

    def update(self, sums: Any, y_true: Any, y_pred: Any, weight: Any = None) -> Any:
        one = lambda y: self.metric.update(self.metric.init(), y_true, y, weight)
        return jax.tree.map(jnp.add, sums, jax.vmap(one, in_axes=1)(y_pred))

    def init(self, y_true: Any = None, y_pred: Any = None) -> Any:
        return self.metric.init()

    def result(self, sums: Any) -> Array:
        return jax.vmap(self.metric.result)(sums).mean(0)


class Objective(Value, loadable=False):
    """The goals of all outputs, in the order of the outputs' leaves.

    Of an ensemble of `members` networks each is trained as it would be alone: the loss that is
    differentiated is the sum of theirs, the one that is logged their mean.

    >>> objective = Objective((OutputGoal("output", fnn.losses.MeanSquaredError()),))
    >>> outputs, rows = [jnp.array([[3.0], [9.0]])], jnp.array([True, False])  # one row is padding
    >>> batch = {"x": None, "y": (jnp.zeros((2, 1)),), "weight": ()}
    >>> loss, logs = objective.evaluate(outputs, [None], batch, rows, jnp.zeros(()))
    >>> loss.item(), logs["loss"].result.item()
    (9.0, 9.0)
    """

    goals: tuple[OutputGoal, ...] = ()
    members: int = 0

    def __len__(self) -> int:
        return len(self.goals)

    @property
    def several(self) -> bool:
        """Whether more than one output has a loss, so that each is logged."""
        return sum(goal.loss is not None for goal in self.goals) > 1

    def evaluate(
        self, outputs: Any, bare: Any, batch: Any, rows: Array, penalty: Array
    ) -> tuple[Array, dict[str, Tally]]:
        """The loss of one batch and the tallies of everything that is logged.

        `outputs` are the leaves of the model's outputs, and `bare` where the loss goes through
        logits those in the form that it takes (else None).
        """
        total, sums, logs, size = penalty, [], {}, max(self.members, 1)
        for index, goal in enumerate(self.goals):
            y_pred, mask = split_mask(outputs[index])
            if mask is not None and self.members:
                mask = mask[:, 0]  # it came with the inputs, which all members share
            y_true = batch["y"][index] if batch["y"] else None
            weight = batch["weight"][index] if batch["weight"] else None
            valid = rows if mask is None else leading(rows, mask.ndim) & mask
            if goal.loss is not None:
                pair = self._totals(
                    goal.loss, y_true, y_pred, bare[index], weight, valid
                )
                total += size * goal.weight * pair[0] / jnp.maximum(pair[1], 1e-12)
                sums.append(pair)
                if self.several:
                    mean = WeightedLosses()
                    logs[f"{goal.name}_loss"] = Tally(
                        mean, (pair, (jnp.zeros(()), jnp.ones(())))
                    )
            for label, metric, weighted in goal.metrics:
                chosen = _metric_weight(weight if weighted else None, valid)
                logs[label] = Tally(
                    metric, metric.update(metric.init(), y_true, y_pred, chosen)
                )
        count = jnp.sum(rows, dtype=jnp.float32)
        weights = tuple(goal.weight for goal in self.goals if goal.loss is not None)
        logs["loss"] = Tally(
            WeightedLosses(weights=weights), (*sums, (penalty / size * count, count))
        )
        return total, logs

    def _totals(
        self, loss: Any, y_true: Any, y_pred: Any, bare: Any, weight: Any, valid: Any
    ) -> tuple[Array, Array]:
        """(total, count) of one loss, over all members."""
        if bare is not None:
            loss, y_pred = loss.on_logits(), bare
        one = lambda y: loss.totals(y_true, y, weight, valid)
        pair = jax.vmap(one, in_axes=1)(y_pred) if self.members else one(y_pred)
        total, count = (jnp.sum(jnp.asarray(part, jnp.float32)) for part in pair)
        return total, count


def entries(objective: Objective, loss: Tally) -> Array | None:
    """How many entries the loss of a batch is a mean over; of several losses, how many rows.

    None where every loss is a sum: gradients of several batches are then added. Those of several
    losses under different masks would each need a sum and a count of their own.
    """
    losses = [goal.loss for goal in objective.goals if goal.loss is not None]
    if losses and all(
        getattr(one, "reduction", "") in ("sum", "none", None) for one in losses
    ):
        return None
    *outputs, (_, rows) = loss.sums
    return outputs[0][1] if len(outputs) == 1 else rows


def _metric_weight(weight: Array | None, valid: Array) -> Array:
    """Sample weights with zeros where a row or step is not real."""
    real = valid.astype(jnp.float32)
    if weight is None:
        return real
    axes = max(weight.ndim, real.ndim)
    return leading(weight, axes) * leading(real, axes)


def resolve_objective(
    compiled: dict[str, Any],
    names: list[str],
    y_specs: Any,
    output_specs: list[Any],
    members: int = 0,
) -> Objective:
    """The objective that `compile` described, now that shapes of targets and outputs are known.

    The shapes are those of one network; `members` says of how many there are outputs.
    Raises ValueError where they do not fit: names of outputs, numbers of losses, shapes.
    """
    losses = _per_output(compiled["loss"], names, "loss")
    weights = _per_output(compiled["loss_weights"], names, "loss_weights")
    plain = _per_output_list(compiled["metrics"], names, "metrics")
    weighted = _per_output_list(compiled["weighted_metrics"], names, "weighted_metrics")
    goals, taken = [], set[str]()
    for index, name in enumerate(names):
        y_pred, _ = split_mask(output_specs[index])
        y_true = y_specs[index] if y_specs else None
        loss = losses_module.get(losses[index], y_true, y_pred)
        if loss is not None and y_true is None:
            raise ValueError(
                f"expected targets for the output {name!r}, since it has the loss {loss!r}, "
                "received y=None; call fit(x, y)"
            )
        if loss is not None:
            loss.check(y_true, y_pred)
        prefix = f"{name}_" if len(names) > 1 else ""
        entries = []
        for identifiers, by_weight in ((plain[index], False), (weighted[index], True)):
            for identifier in identifiers:
                metric = metrics_module.get(identifier, y_true, y_pred)
                metric.check(y_true, y_pred)
                label = _free_label(prefix, metric.name, taken, by_weight)
                metric = MemberMean(metric) if members else metric
                entries.append((label, metric, by_weight))
        weight = 1.0 if weights[index] is None else float(weights[index])
        goals.append(OutputGoal(name, loss, weight, tuple(entries)))
    if all(goal.loss is None for goal in goals) and compiled["loss"] is not None:
        raise ValueError(
            f"expected a loss for one of the outputs {names}, received none; use compile(loss=...)"
        )
    return Objective(tuple(goals), members)


def _free_label(prefix: str, name: Any, taken: set[str], weighted: bool) -> str:
    """The key of a metric in the logs, Keras's, where none has it yet."""
    label = f"{prefix}{name}"
    if label in taken and weighted:
        label = f"{prefix}weighted_{name}"
    chosen, number = label, 0
    while chosen in taken or chosen == "loss":
        number += 1
        chosen = f"{label}_{number}"
    taken.add(chosen)
    return chosen


def _per_output(given: Any, names: list[str], argument: str) -> list[Any]:
    if isinstance(given, dict):
        unknown = sorted(set(given) - set(names))
        if unknown:
            raise ValueError(
                f"expected {argument} by the names of the outputs {names}, received {unknown}; "
                "name the output layers, or use these names"
            )
        return [given.get(name) for name in names]
    if isinstance(given, (list, tuple)):
        if len(given) != len(names):
            raise ValueError(
                f"expected {argument} for {len(names)} outputs {names}, received {len(given)}; "
                "give one for each, or a dict by these names"
            )
        return list(given)
    return [given] * len(names)


def _per_output_list(given: Any, names: list[str], argument: str) -> list[list[Any]]:
    """Metrics output by output. A flat list measures every output, unless there is one for each."""
    if given is None:
        return [[] for _ in names]
    if isinstance(given, (list, tuple)):
        nested = any(isinstance(item, (list, tuple)) or item is None for item in given)
        if len(names) == 1 and not nested:
            return [list(given)]
        if not nested and len(given) != len(names):
            return [list(given) for _ in names]
    found = _per_output(given, names, argument)
    as_list = lambda v: (
        [] if v is None else list(v) if isinstance(v, (list, tuple)) else [v]
    )
    return [as_list(item) for item in found]


def check_values(
    objective: Objective, y: Any, output_specs: list[Any], usual: bool
) -> None:
    """Raises ValueError for targets whose values cannot be right (labels out of range, ...).

    `usual=False` lets any numbers pass, but no labels out of range.
    """
    for goal, y_true, spec in zip(objective.goals, y, output_specs, strict=True):
        if y_true is None:
            continue
        labels, y_pred = np.asarray(y_true), split_mask(spec)[0]
        if goal.loss is not None and (usual or goal.loss.targets == "labels"):
            goal.loss.check_targets(labels, y_pred)
        for _, metric, _ in goal.metrics:
            if metric.targets == "labels":
                ignored = getattr(metric, "ignore_class", None)
                real = (
                    labels
                    if ignored is None
                    else np.where(labels == ignored, 0, labels)
                )
                checks.labels(metric, real, y_pred.shape[-1])
