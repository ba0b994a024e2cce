"""Objective: the losses and metrics of a model, matched to its outputs and targets."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fnn import losses as losses_module
from fnn import metrics as metrics_module
from fnn.core import tree
from fnn.core.context import leading, split_mask
from fnn.core.tree import SpecTree, Tree
from fnn.core.value import Value
from fnn.losses import Loss, checks
from fnn.metrics import Metric
from fnn.training.lazy import LazyArray
from fnn.training.members import MemberMean
from fnn.training.state import LOSS_METRIC, Accumulator, Logs, Waiting, log_name


class OutputGoal(Value, loadable=False):
    """The loss of one output, its weight, and the metrics of that output.

    A metric is (its name in the logs, the metric, whether it uses sample weights).
    """

    name: str = ""
    loss: Any = None
    weight: float = 1.0
    metrics: tuple[tuple[str, Any, bool], ...] = ()


class WeightedLosses(Metric, loadable=False):
    """The loss of a model: the weighted sum of the mean loss of each output, plus penalties."""

    weights: tuple[float, ...] = (1.0,)

    def result(self, sums: Tree) -> Array:
        *outputs, penalty = (total / jnp.maximum(count, 1e-12) for total, count in sums)
        weighted = (w * m for w, m in zip(self.weights, outputs, strict=True))
        total: Array = sum(weighted, penalty)
        return total


class Objective(Value, loadable=False):
    """The losses and metrics of all outputs, in the order of the outputs' leaves.

    In an ensemble of `members` networks each is trained as it would be alone: the
    differentiated loss is the sum over members, the logged one is their mean.

    >>> objective = Objective((OutputGoal("output", fnn.losses.MeanSquaredError()),))
    >>> outputs, valid = [jnp.array([[3.0], [9.0]])], jnp.array([True, False])  # one is padding
    >>> batch = {"x": None, "y": (jnp.zeros((2, 1)),), "weight": ()}
    >>> loss, logs = objective.evaluate(outputs, [None], batch, valid, jnp.zeros(()))
    >>> loss.item(), logs["loss"].result.item()
    (9.0, 9.0)
    """

    goals: tuple[OutputGoal, ...] = ()
    members: int = 0
    # A function of the user's in place of the goals; layers to compute again in the backward pass.
    function: Any = None
    remat: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.goals)

    @property
    def several(self) -> bool:
        """Whether more than one output has a loss: each of them is then logged."""
        return sum(goal.loss is not None for goal in self.goals) > 1

    @property
    def directions(self) -> dict[str, str | None]:
        """For each metric whether more ("max") or less ("min") is better."""
        return {
            log_name(label): metric.direction
            for goal in self.goals
            for label, metric, _ in goal.metrics
        }

    def evaluate(
        self,
        outputs: Sequence[Tree],
        logits: Sequence[Array | None],
        batch: Mapping[str, Any],
        valid: Array,
        penalty: Array,
    ) -> tuple[Array, Logs]:
        """The loss of one batch, and the accumulators of all logs.

        `outputs` are the leaves of the model's outputs; `logits` the values for losses
        that are computed from logits (else None); `valid` marks the examples that are not
        padding.
        """
        loss = penalty
        members = max(self.members, 1)
        sums: list[tuple[Array, Array]] = []
        logs: Logs = {}
        for index, goal in enumerate(self.goals):
            y_pred, mask = split_mask(outputs[index])
            y_true = _entry(batch["y"], index)
            weight = _entry(batch["weight"], index)
            counted = self._counted(valid, mask)
            if goal.loss is not None:
                total, count = self._totals(
                    goal.loss, y_true, y_pred, logits[index], weight, counted
                )
                scale = members * goal.weight
                loss += scale * total / jnp.maximum(count, 1e-12)
                sums.append((total, count))
                if self.several:
                    logs[f"{goal.name}_loss"] = _accumulated_loss(total, count)
            logs.update(
                _accumulated_metrics(goal, y_true, y_pred, weight, valid, counted, mask)
            )

        count = jnp.sum(valid, dtype=jnp.float32)
        weights = tuple(goal.weight for goal in self.goals if goal.loss is not None)
        sums.append((penalty / members * count, count))
        logs["loss"] = Accumulator(WeightedLosses(weights=weights), tuple(sums))
        return loss, logs

    def _counted(self, valid: Array, mask: Array | None) -> Array:
        """Which examples, or steps of examples, count in losses and metrics."""
        if mask is None:
            return valid
        if self.members:
            mask = mask[:, 0]  # all members share the mask of the inputs
        return leading(valid, mask.ndim) & mask

    def _totals(
        self,
        loss: Loss,
        y_true: Tree,
        y_pred: Array,
        logits: Array | None,
        weight: Array | None,
        counted: Array,
    ) -> tuple[Array, Array]:
        """The sum and the count of one loss, over all members."""
        if logits is not None:
            loss = loss.on_logits()
            y_pred = logits

        def totals_of_one(y: Array) -> tuple[Array, Array]:
            return loss.totals(y_true, y, weight, counted)

        totals = totals_of_one
        if self.members:
            totals = jax.vmap(totals_of_one, in_axes=1)  # (members,) each
        total, count = totals(y_pred)
        # float64 stays: the gradient passes through the total.
        exact = jnp.promote_types(jnp.result_type(total), jnp.float32)
        summed = jnp.sum(jnp.asarray(total, exact))
        return summed, jnp.sum(jnp.asarray(count, exact))


def _entry(parts: Sequence[Any], index: int) -> Any:
    """The targets or weights of an output; None if there are none at all."""
    if not parts:
        return None
    return parts[index]


def _accumulated_loss(total: Array, count: Array) -> Accumulator:
    """The accumulator of the loss of a single output, without penalty."""
    no_penalty = (jnp.zeros(()), jnp.ones(()))
    return Accumulator(WeightedLosses(), ((total, count), no_penalty))


def _accumulated_metrics(
    goal: OutputGoal,
    y_true: Tree,
    y_pred: Array,
    weight: Array | None,
    valid: Array,
    counted: Array,
    mask: Array | None,
) -> Logs:
    """The accumulators of the metrics of one output, by their names in the logs."""
    accumulators: Logs = {}
    for name, metric, weighted in goal.metrics:
        used = None
        if weighted:
            used = weight
        if not metric.adds:
            accumulators[name] = _waiting(metric, y_true, y_pred, used, valid, mask)
            continue
        metric_weight = _metric_weight(used, counted)
        sums = metric.update(metric.init(), y_true, y_pred, metric_weight)
        accumulators[name] = Accumulator(metric, sums)
    return accumulators


def _waiting(
    metric: Metric,
    y_true: Tree,
    y_pred: Array,
    weight: Array | None,
    valid: Array,
    mask: Array | None,
) -> Waiting:
    """A batch for a metric in Keras's way, which gets weights only where the user gave some.

    Where it then counts padding, `ragged` finds that out, and an incomplete batch is not padded.
    """
    if weight is not None:
        weight = _metric_weight(weight, valid)
    if mask is not None:
        mask = leading(valid, mask.ndim) & mask
    return Waiting(metric, (y_true, y_pred, weight, mask))


def entry_count(objective: Objective, loss: Accumulator) -> Array | None:
    """The number of entries in the loss of a batch; with several losses, of examples.

    None if every loss is a sum: gradients of several batches are then added. (Several
    losses under different masks would each need a sum and a count of their own.)
    """
    losses = [goal.loss for goal in objective.goals if goal.loss is not None]
    sums = ("sum", "none", None)
    if losses and all(getattr(one, "reduction", "") in sums for one in losses):
        return None
    *outputs, (_, examples) = loss.sums
    entries: Array = examples
    if len(outputs) == 1:
        entries = outputs[0][1]
    return entries


def _metric_weight(weight: Array | None, counted: Array) -> Array:
    """Sample weights with zeros for examples and steps that do not count."""
    counts = counted.astype(jnp.float32)
    if weight is None:
        return counts
    axes = max(weight.ndim, counts.ndim)
    return leading(weight, axes) * leading(counts, axes)


def resolve_objective(
    compiled: Mapping[str, Any],
    names: list[str],
    y_specs: SpecTree,
    output_specs: Sequence[SpecTree],
    members: int = 0,
) -> Objective:
    """The objective for the arguments of `compile`, given the shapes of targets and outputs.

    The shapes are those of one network; `members` is the number of networks of an
    ensemble. Raises ValueError for names, numbers of losses or shapes that do not match.
    """
    losses = _per_output(compiled["loss"], names, "loss")
    weights = _per_output(compiled["loss_weights"], names, "loss_weights")
    plain = _per_output_list(compiled["metrics"], names, "metrics")
    weighted = _per_output_list(compiled["weighted_metrics"], names, "weighted_metrics")
    goals = []
    taken: set[str] = set()
    for index, name in enumerate(names):
        y_pred, _ = split_mask(output_specs[index])
        y_true = _entry(y_specs, index)
        loss = _resolve_loss(losses[index], name, y_true, y_pred)
        prefix = ""
        if len(names) > 1:
            prefix = f"{name}_"
        metrics = []
        lists = (plain[index], False), (weighted[index], True)
        for identifiers, by_weight in lists:
            for identifier in identifiers:
                metric = metrics_module.get(identifier, y_true, y_pred)
                metric.check(y_true, y_pred)
                label = _free_label(prefix, str(metric.name), taken, by_weight)
                if members:
                    metric = MemberMean(metric)
                metrics.append((label, metric, by_weight))
        weight = 1.0
        if weights[index] is not None:
            weight = float(weights[index])
        goals.append(OutputGoal(name, loss, weight, tuple(metrics)))

    if all(goal.loss is None for goal in goals) and compiled["loss"] is not None:
        raise ValueError(
            f"expected a loss for one of the outputs {names}, received none; call "
            "compile(loss=...)"
        )
    return Objective(tuple(goals), members)


def _resolve_loss(
    identifier: object, name: str, y_true: SpecTree, y_pred: SpecTree
) -> Loss | None:
    """The loss of one output. Raises ValueError if it does not match targets and output."""
    loss = losses_module.get(identifier, y_true, y_pred)
    if loss is None:
        return None
    if y_true is None:
        raise ValueError(
            f"expected targets for the output {name!r}, since it has the loss {loss!r}, "
            "received y=None; call fit(x, y)"
        )
    loss.check(y_true, y_pred)
    return loss


def _free_label(prefix: str, name: str, taken: set[str], weighted: bool) -> str:
    """The name of a metric in the logs: Keras's, with a number if it is taken."""
    label = f"{prefix}{name}"
    if label in taken and weighted:
        label = f"{prefix}weighted_{name}"
    chosen = label
    if label == "loss" and LOSS_METRIC not in taken:
        chosen = LOSS_METRIC
    number = 0
    while chosen in taken or chosen == "loss":
        number += 1
        chosen = f"{label}_{number}"
    taken.add(chosen)
    return chosen


def _per_output(given: Any, names: list[str], argument: str) -> list[Any]:
    """An argument of `compile` for each output; a single value counts for all."""
    if isinstance(given, dict):
        unknown = sorted(set(given) - set(names))
        if unknown:
            raise ValueError(
                f"expected {argument} by the names of the outputs {names}, received "
                f"{unknown}; name the output layers, or use these names"
            )
        return [given.get(name) for name in names]
    if isinstance(given, (list, tuple)):
        if len(given) != len(names):
            raise ValueError(
                f"expected {argument} for {len(names)} outputs {names}, received "
                f"{len(given)}; pass one for each, or a dict by these names"
            )
        return list(given)
    return [given] * len(names)


def _per_output_list(given: Any, names: list[str], argument: str) -> list[list[Any]]:
    """The metrics of each output. A flat list is for every output, unless the lengths match."""
    if isinstance(given, (list, tuple)):
        nested = any(isinstance(item, (list, tuple)) or item is None for item in given)
        flat = len(names) == 1 or len(given) != len(names)
        if flat and not nested:
            return [list(given) for _ in names]
    return [_as_list(item) for item in _per_output(given, names, argument)]


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    if isinstance(value, (list, tuple)):
        return list(value)
    return [value]


def check_values(
    objective: Objective, y: Tree, output_specs: Sequence[SpecTree], usual: bool
) -> None:
    """Raises ValueError for targets with impossible values (labels out of range, ...).

    `usual=False` accepts any values except labels out of range.
    """
    for goal, y_true, spec in zip(objective.goals, y, output_specs, strict=True):
        y_pred, _ = split_mask(spec)
        if isinstance(y_true, LazyArray):
            y_true.check_later(functools.partial(_check_part, goal, y_pred, usual))
        elif y_true is not None:
            _check_targets(goal, y_pred, usual, np.asarray(y_true))


def _check_part(
    goal: OutputGoal, y_pred: SpecTree, usual: bool, targets: np.ndarray
) -> None:
    """Checks the targets of some examples of an output."""
    _check_targets(goal, tree.resized(y_pred, len(targets)), usual, targets)


def _check_targets(
    goal: OutputGoal, y_pred: SpecTree, usual: bool, targets: np.ndarray
) -> None:
    if goal.loss is not None and (usual or goal.loss.targets == "labels"):
        goal.loss.check_targets(targets, y_pred)
    for _, metric, _ in goal.metrics:
        if metric.targets != "labels":
            continue
        labels = targets
        ignored = getattr(metric, "ignore_class", None)
        if ignored is not None:
            labels = np.where(targets == ignored, 0, targets)
        checks.labels(metric, labels, y_pred.shape[-1])
