"""Compiled: a network that knows how it is to be trained, and reads what it is given."""

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Iterator
from typing import Any

import jax

from fnn import losses, metrics, optimizers
from fnn.core import tree
from fnn.core.calling import applied_spec, output_spec
from fnn.core.layer import Layer
from fnn.core.value import Fields
from fnn.last_activation import End, outputs_by_path, without_last_activation
from fnn.models import sharing
from fnn.models.weighted import Weighted
from fnn.optimizers import current_learning_rate, with_learning_rate
from fnn.optimizers.bound import BoundOptimizer, LiveRates, is_bound, plain
from fnn.optimizers.optimizer import with_rate_of, without_rate
from fnn.training import checks, endings, inputs
from fnn.training.checks import check_guard
from fnn.training.class_weights import class_weights
from fnn.training.data import ArrayData, key_numbers
from fnn.training.history import History
from fnn.training.interrupt import deferring
from fnn.training.objective import Objective, check_values, resolve_objective
from fnn.training.ragged import why_not_padded, why_not_padded_in_evaluation
from fnn.training.step import init_optimizer, output_leaves
from fnn.training.stream import StreamData


class Compiled(Weighted):
    """A network with weights, an optimizer and goals: what `Model` trains."""

    _compiled: dict[str, Any] | None = None
    _rates: tuple[Any, ...] = ()  # that were set before there were weights
    _objective: Objective | None = None
    _resolved: tuple[dict[str, Any], Any, Objective] | None = (
        None  # compiled, shapes -> objective
    )
    _ends_checked: Layer | None = None  # the network whose ends suit the objective
    _accepts: Any = (
        None  # the layer, and the kind of an example that was seen to fit it
    )
    # A callback sets these to end what is under way after the batch, as in Keras.
    stop_training: bool = False
    stop_evaluating: bool = False
    stop_predicting: bool = False
    history: History | None = None

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if self.history is not None:  # a copy has a record of its own, which knows it
            self.history = copy.copy(self.history)
            self.history.model = self

    @deferring
    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        loss_weights: Any = None,
        metrics: Any = None,
        weighted_metrics: Any = None,
        run_eagerly: bool = False,
        steps_per_execution: int = 1,
        jit_compile: Any = "auto",
        auto_scale_loss: bool = True,
        *,
        guard: str = "raise",
        checks: bool = True,
    ) -> None:
        """Says how to train: by names, values or functions, for one output or each.

        `guard`: at a loss or gradient that is not finite "raise" stops before that step, "skip"
        leaves the step out, "ignore" goes on. `checks=False` lets NaN in the data pass, and targets
        that are no probabilities (a one-hot times an advantage). How steps are compiled is the
        engine's choice: `run_eagerly`, `steps_per_execution`, `jit_compile` and `auto_scale_loss`
        are taken for Keras's sake and change nothing.
        An optimizer starts afresh, but `model.optimizer` goes on: it keeps its state (moments, the
        number of steps) and the learning rate that was set. Raises ValueError for unknown names.
        """
        check_guard(guard)
        goes_on = is_bound(optimizer, self)
        compiled = {
            "optimizer": optimizers.get(optimizer),
            "loss": _copied(loss),
            "loss_weights": _copied(loss_weights),
            "metrics": _copied(metrics),
            "weighted_metrics": _copied(weighted_metrics),
            "guard": guard,
            "checks": checks,
        }
        _check_names(compiled)
        self._compiled, self._objective, self._rates = compiled, None, ()
        before = self.layer
        self.layer = sharing.refreshed(self.layer, list(self._shares), self._cell.now)
        # Of a changed layer inside, other weights may learn.
        if self._cell.now is not None and not (goes_on and self.layer is before):
            self._cell.now = self._cell.now.replace(optimizer=None)

    @property
    def optimizer(self) -> Any:
        """The optimizer that `compile` was given, with the learning rate that holds now.

        `model.optimizer.learning_rate = 0.01` sets it, as `model.learning_rate = 0.01` does.
        """
        return BoundOptimizer(self._rule, self)

    @property
    def _rule(self) -> Any:
        """The optimizer as a value."""
        return self._require_compiled("optimizer")["optimizer"]

    @property
    def learning_rate(self) -> Any:
        """The learning rate of the next step; None where the optimizer does not tell."""
        now = current_learning_rate(self._rule, self._slots())
        return LiveRates(now, self._set_learning_rate) if isinstance(now, dict) else now

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        self._set_learning_rate(value)

    def _set_learning_rate(self, value: Any) -> None:
        value = plain(value)
        changed = with_learning_rate(self._slots(), value)
        if self.built:
            self.train_state = self.train_state.replace(optimizer=changed)
        else:
            self._rates += (value,)

    def _with_rate(self, rule: Any) -> Any:
        """An optimizer that this model was compiled with, with the learning rate that was set."""
        if not self._is_compiled_with(rule):
            return rule
        state = self._now.optimizer if self.built else None
        if state is None:
            state = functools.reduce(
                with_learning_rate, self._rates, self._rule.init({})
            )
        return with_rate_of(rule, state)

    def _is_compiled_with(self, rule: Any) -> bool:
        """Whether this is the optimizer of now, whatever its learning rate."""
        return bool(without_rate(rule) == without_rate(self._rule))

    def _iterations(self) -> Any:
        """How many steps the optimizer has made; of optax's, the model."""
        slots = self._slots()
        counts = isinstance(slots, dict) and "step" in slots
        return slots["step"] if counts else self.train_state.step

    def _slots(self) -> Any:
        """The state of the optimizer; while there are no weights, one for none."""
        if self.built:
            self._ensure_optimizer()
            return self.train_state.optimizer
        return functools.reduce(with_learning_rate, self._rates, self._rule.init({}))

    def _require_compiled(self, call: str) -> dict[str, Any]:
        if self._compiled is None:
            raise RuntimeError(
                f"expected a compiled model for {call}, received {self.name!r} before compile; "
                "use model.compile(optimizer='adam', loss='mse')"
            )
        return self._compiled

    def _ensure_optimizer(self) -> None:
        now = self._now
        if now.optimizer is None:
            slots = init_optimizer(self.layer, self._rule, now.params)
            slots = functools.reduce(with_learning_rate, self._rates, slots)
            self.train_state = now.replace(optimizer=slots)

    # -- data ------------------------------------------------------------------------------------

    def _arrays(self, x: Any, y: Any = None, weight: Any = None) -> Any:
        """What a step takes, from what a user gives; the model is built if it was not."""
        finite = self._compiled is None or self._compiled["checks"]
        x, names = self._as_inputs(x, finite), self.output_names
        targets = inputs.as_targets(y, names, finite)
        arrays = {
            "x": x,
            "y": targets,
            "weight": inputs.as_weights(weight, targets, names),
        }
        checks.rows_of(arrays)
        return arrays

    def _checked_inputs(self, x: Any) -> Any:
        """`x` as the inputs of the network, which can take them: shapes, and ids in range."""
        x = self._as_inputs(x, self._compiled is None or self._compiled["checks"])
        if not hasattr(x, "shape"):
            checks.rows_of({"x": x})
        kind, accepts = tree.kind(x, by_example=True), self._accepts
        if accepts is None or accepts[0] is not self.layer or accepts[1] != kind:
            self._output_specs(x)
            self._accepts = self.layer, kind
        checks.input_values(self.layer, x)
        return x

    def _goals(
        self, x: Any, y: Any, weight: Any, classes: Any = None
    ) -> tuple[Any, Objective]:
        """(what a step takes, the objective) after all checks; `classes` are weights of classes."""
        if classes is not None and weight is not None:
            raise ValueError(
                "expected sample_weight or class_weight, received both; multiply them yourself"
            )
        arrays = self._arrays(x, y, weight)
        if not checks.rows_of(arrays):
            raise ValueError(
                "expected samples, received an empty batch or empty arrays"
            )
        objective = self._checked(arrays)
        if classes is not None:
            specs, ends = self._output_specs(arrays["x"]), self._ends(arrays["x"])
            arrays["weight"] = class_weights(
                classes, arrays["y"], objective, specs, ends
            )
        return arrays, objective

    def _outputs(self, x: Any) -> Any:
        """The outputs for `x` as shapes and dtypes.

        Of an ensemble they are those of one member. They are traced for a batch of the trial size,
        once for any number of examples; not at all where the other sizes are those that the model
        was built for. Raises if `x` does not fit: an error names the sizes that were given.
        """
        now, trial = self._now, self._trial()
        batch, count = tree.batch_size(trial), tree.batch_size(x)
        one, spec = tree.resized(x, batch), None
        if one == trial:
            spec = output_spec(self.layer, one)
        else:
            with contextlib.suppress(Exception):
                spec = applied_spec(self.layer, now.params, now.state, one)
        by_example = all(a.shape[:1] == (batch,) for a in jax.tree.leaves(spec))
        if spec is None or not by_example:
            spec, batch = applied_spec(self.layer, now.params, now.state, x), count
        if self.layer.ensemble_size:
            member = lambda a: jax.ShapeDtypeStruct((a.shape[0], *a.shape[2:]), a.dtype)
            spec = jax.tree.map(member, spec)
        return tree.resized(spec, count) if batch != count else spec

    def _output_specs(self, x: Any) -> list[Any]:
        """Shapes and dtypes of the outputs for `x`; of an ensemble, those of one member."""
        return output_leaves(self._outputs(x))

    def _ends(self, x: Any) -> list[End | None]:
        """What each output for `x` ends in, None where that is not known."""
        trial = tree.resized(x, tree.batch_size(self._trial()))
        _, ends = without_last_activation(self.layer, trial)
        return [ends.get(path) for path, _ in outputs_by_path(self._outputs(x))]

    def _checked(self, arrays: Any) -> Objective:
        """The objective for such arrays, after all checks of their shapes and values."""
        outputs, compiled = (
            self._output_specs(arrays["x"]),
            self._require_compiled("fit"),
        )
        asked = (
            self.output_names,
            tree.spec(arrays["y"]),
            outputs,
            self.layer.ensemble_size,
        )
        known = self._resolved
        if known is not None and known[0] is compiled and known[1] == asked:
            objective = known[2]
        else:
            objective = resolve_objective(compiled, *asked)
            self._resolved = compiled, asked, objective
        if self._ends_checked is not self.layer or objective != self._objective:
            endings.check(
                objective, outputs, self._ends(arrays["x"])
            )  # which warns once
        self._check_values(objective, arrays)
        self._objective, self._ends_checked = objective, self.layer
        return objective

    def _check_values(self, objective: Objective, arrays: Any) -> None:
        """Raises for ids and labels out of range."""
        checks.input_values(self.layer, arrays["x"])
        if arrays["y"]:
            usual = self._require_compiled("fit and evaluate")["checks"]
            check_values(objective, arrays["y"], self._output_specs(arrays["x"]), usual)

    def _data(
        self,
        x: Any,
        y: Any,
        weight: Any,
        classes: Any,
        size: int | None,
        steps: int | None,
        shuffle: Any = False,
        goes_on: bool = False,
        keep: bool = True,
    ) -> tuple[Any, Objective]:
        """(data in batches, objective) for fit or evaluate.

        `goes_on` is that of `StreamData`, `keep` that of `ArrayData`.
        """
        if steps is not None:
            checks.whole_number("steps", steps, 1)
        if inputs.is_stream(x):
            _require_alone(y=y, sample_weight=weight, class_weight=classes)
            return self._stream(x, steps, goes_on)
        arrays, objective = self._goals(x, y, weight, classes)
        count = checks.rows_of(arrays)
        data = ArrayData(
            arrays,
            batch_size_for(size, steps=steps, count=count),
            shuffle=shuffle,
            seed=key_numbers(self._now.key),
            remainder="pad",
            keep=keep,
            apart=lambda spec: self._mixes(objective, spec, goes_on),
        )
        data.room = self._room(
            data.batch_size, lambda: not data.apart(data.batch_spec())
        )
        return data, objective

    def _stream(
        self, x: Any, steps: int | None, goes_on: bool
    ) -> tuple[Any, Objective]:
        """(a stream of batches, objective), the first batch read and checked."""
        checked: list[Objective] = []

        def prepare(batch: Any) -> Any:
            arrays = self._arrays(*inputs.unpack_batch(batch))
            if checked:
                self._check_values(checked[0], arrays)
            else:
                checked.append(self._checked(arrays))
            return arrays

        stream = StreamData(
            x,
            prepare,
            remainder="pad",
            steps=steps,
            goes_on=goes_on,
            apart=lambda spec: self._mixes(checked[0], spec, goes_on),
        )
        stream.batch_spec()  # for which the first batch is prepared
        stream.room = self._room(
            stream.batch_size, lambda: not stream.apart(stream.batch_spec())
        )
        return stream, checked[0]

    def _mixes(self, objective: Objective, spec: Any, train: bool) -> bool:
        """Whether padding a batch of this spec would change what is computed of its examples."""
        why = why_not_padded if train else why_not_padded_in_evaluation
        return why(self.layer, objective, self._now, spec) is not None

    def _as_result(self, logs: dict[str, float], return_dict: bool) -> Any:
        if return_dict:
            return logs
        ordered = [logs[name] for name in self.metrics_names]
        return ordered[0] if len(ordered) == 1 else ordered

    @property
    def metrics_names(self) -> list[str]:
        """The names of what `evaluate` returns, in its order (Keras's); known after the first data.

        The loss, the losses of several outputs, then metrics: as compiled for one output, sorted
        for several.
        """
        goals = self._objective.goals if self._objective else ()
        labels = [label for goal in goals for label, _, _ in goal.metrics]
        if len(goals) < 2:
            return ["loss", *labels]
        outputs = getattr(self.layer, "outputs", None)
        written = list(outputs.as_dict()) if isinstance(outputs, Fields) else []
        several = self._objective is not None and self._objective.several
        names = [goal.name for goal in goals if several and goal.loss is not None]
        names.sort(key=(written or names[:]).index)
        return ["loss", *(f"{name}_loss" for name in names), *sorted(labels)]

    def metric_directions(self) -> dict[str, str | None]:
        """For each metric whether more ("max") or less ("min") is better."""
        goals = self._objective.goals if self._objective else ()
        return {
            label: metric.direction
            for goal in goals
            for label, metric, _ in goal.metrics
        }


def batch_size_for(
    given: int | None, *, steps: int | None = None, count: int = 0
) -> int:
    """The batch size: as given, or what makes `steps` batches of `count` examples, or 32."""
    if given is not None:
        return checks.whole_number("batch_size", given, 1)
    return -(-count // steps) if steps and count > 1 else 32


def _require_alone(**arguments: Any) -> None:
    given = [name for name, value in arguments.items() if value is not None]
    if given:
        raise ValueError(
            f"expected a stream to bring its own targets and weights, received {given} beside it; "
            "yield (x, y) or (x, y, sample_weight)"
        )


def _check_names(compiled: dict[str, Any]) -> None:
    """Raises for losses and metrics that are not known, at the line of `compile`."""
    for part, module in (
        ("loss", losses),
        ("metrics", metrics),
        ("weighted_metrics", metrics),
    ):
        for identifier in _flat(compiled[part]):
            if not (
                isinstance(identifier, str) and identifier.lower() in module.BY_SHAPE
            ):
                module.get(identifier)


def _copied(given: Any) -> Any:
    """`given` in lists and dicts of its own, so that a later change of the caller's counts not."""
    if isinstance(given, dict):
        return {name: _copied(item) for name, item in given.items()}
    return [_copied(item) for item in given] if isinstance(given, list) else given


def _flat(given: Any) -> Iterator[Any]:
    if isinstance(given, dict):
        given = list(given.values())
    if isinstance(given, (list, tuple)):
        for item in given:
            yield from _flat(item)
    elif given is not None:
        yield given
