"""Model and Sequential: a network with its weights, and Keras's compile, fit, evaluate, predict."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Iterator
from typing import Any, cast

import jax
import numpy as np

from fnn import losses, metrics, optimizers
from fnn.core import tree
from fnn.core.calling import applied_spec
from fnn.core.layer import Layer
from fnn.core.node import Node, input_specs
from fnn.layers.graph import connect
from fnn.layers.sequential import Sequential as SequentialLayer
from fnn.saving import archive
from fnn.training import checks, engine, evaluation, inputs
from fnn.training.data import ArrayData
from fnn.training.diagnosis import diagnose
from fnn.training.history import History
from fnn.training.hooks import CallbackList
from fnn.training.loop import train
from fnn.training.objective import Objective, check_values, resolve_objective
from fnn.training.state import numbers
from fnn.training.step import (
    init_optimizer,
    make_eval_step,
    make_loss,
    make_predict_step,
    make_train_step,
    output_leaves,
)
from fnn.training.stream import StreamData
from fnn.training.trainer import Plan
from fnn.weighted import Weighted, key_data


class Model(Weighted):
    """A network and its current weights, with Keras's ways to train and use it.

    `Model(inputs, outputs)` of symbolic nodes, with any structure of either, or `Model(layer)` of
    any layer. `model.layer` is the pure network: `init, apply = model.layer`; `model.params` and
    `model.state` are its weights now. Weights are made when the shape of the inputs is known: at
    once for nodes, else at the first data or `build`. `seed` makes weights, shuffling and dropout
    reproducible (`fnn.set_seed` does so for all models).

    A model used as a layer of another brings its current weights along: they are copied when the
    other is built. Raises TypeError for what is no layer, ValueError for nodes that do not connect.

    >>> x = fnn.Input((4,))
    >>> model = Model(x, fnn.layers.Dense(2)(x), seed=0)
    >>> model.predict(np.ones((3, 4)), verbose=0).shape
    (3, 2)
    """

    def __init__(
        self,
        inputs: Any,
        outputs: Any = None,
        *,
        name: str | None = None,
        seed: int | None = None,
    ) -> None:
        nodes, layer = None, cast(Layer, inputs)
        if outputs is not None:
            inputs, outputs = _as_tuple(inputs), _as_tuple(outputs)
            layer, nodes = connect(inputs, outputs), inputs
        elif isinstance(inputs, (Weighted, Layer)):
            if isinstance(inputs, Weighted):
                layer = inputs.as_layer()
            if layer.input_shape is not None:
                nodes = Node(None, (), input_specs((None, *layer.input_shape)))
        else:
            raise TypeError(
                f"Model: expected a layer, or inputs and outputs of a graph, received {inputs!r}; "
                "do e.g. x = Input((10,)), then Model(x, Dense(3)(x))"
            )
        self._prepare()
        if name is not None:
            layer = layer.replace(name=name)
        super().__init__(layer, "model", seed, nodes)

    def _prepare(self) -> None:
        self._compiled: dict[str, Any] | None = None
        self._training = threading.Lock()
        self._objective: Objective | None = None
        self.stop_training = False
        self.history: History | None = None

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
        leaves the step out, "ignore" goes on. `checks=False` lets NaN in the data pass. How steps
        are compiled is the engine's choice: `run_eagerly`, `steps_per_execution`, `jit_compile` and
        `auto_scale_loss` are taken for Keras's sake and change nothing.
        Compiling starts the optimizer afresh. Raises ValueError for unknown names.
        """
        if guard not in ("raise", "skip", "ignore"):
            raise ValueError(f'expected guard "raise", "skip" or "ignore", received {guard!r}')
        compiled = {
            "optimizer": optimizers.get(optimizer),
            "loss": loss,
            "loss_weights": loss_weights,
            "metrics": metrics,
            "weighted_metrics": weighted_metrics,
            "guard": guard,
            "checks": checks,
        }
        _check_names(compiled)
        self._compiled, self._objective = compiled, None
        if self._train_state is not None:
            self._train_state = self._train_state.replace(optimizer=None)

    @property
    def optimizer(self) -> Any:
        """The optimizer that `compile` was given, as a value."""
        return self._require_compiled("optimizer")["optimizer"]

    @property
    def learning_rate(self) -> Any:
        """The learning rate of the next step; None where the optimizer does not tell."""
        self._ensure_optimizer()
        return optimizers.current_learning_rate(self.optimizer, self.train_state.optimizer)

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        self._ensure_optimizer()
        changed = optimizers.with_learning_rate(self.train_state.optimizer, value)
        self.train_state = self.train_state.replace(optimizer=changed)

    def _require_compiled(self, call: str) -> dict[str, Any]:
        if self._compiled is None:
            raise RuntimeError(
                f"expected a compiled model for {call}, received {self.name!r} before compile; "
                "do model.compile(optimizer='adam', loss='mse')"
            )
        return self._compiled

    def _ensure_optimizer(self) -> None:
        now = self.train_state
        if now.optimizer is None:
            slots = init_optimizer(self.layer, self.optimizer, now.params)
            self.train_state = now.replace(optimizer=slots)

    # -- data ------------------------------------------------------------------------------------

    def _arrays(self, x: Any, y: Any = None, weight: Any = None, classes: Any = None) -> Any:
        """What a step takes, from what a user gives; the model is built if it was not."""
        finite = self._compiled is None or self._compiled["checks"]
        several = self._several if self._inputs is not None else False
        x = inputs.as_inputs(x, several, finite=finite)
        self._ensure_built(self._match_inputs(x))
        x, names = self._match_inputs(x), self.output_names
        targets = inputs.as_targets(y, names, finite)
        arrays = {
            "x": x,
            "y": targets,
            "weight": inputs.as_weights(weight, classes, targets, names),
        }
        checks.rows_of(arrays)
        return arrays

    def _output_specs(self, x: Any) -> list[Any]:
        now = self.train_state
        return output_leaves(applied_spec(self.layer, now.params, now.state, x))

    def _checked(self, arrays: Any) -> Objective:
        """The objective for such arrays, after all checks of their shapes and values."""
        specs = self._output_specs(arrays["x"])
        y_specs = tree.spec(arrays["y"])
        objective = resolve_objective(
            self._require_compiled("fit and evaluate"), self.output_names, y_specs, specs
        )
        self._check_values(objective, arrays)
        self._objective = objective
        return objective

    def _check_values(self, objective: Objective, arrays: Any) -> None:
        """Raises for ids and labels out of range."""
        checks.input_values(self.layer, arrays["x"])
        if arrays["y"]:
            check_values(objective, arrays["y"], self._output_specs(arrays["x"]))

    def _data(
        self,
        x: Any,
        y: Any,
        weight: Any,
        classes: Any,
        size: int | None,
        steps: int | None,
        shuffle: Any = False,
    ) -> tuple[Any, Objective]:
        """(data in batches, objective) for fit or evaluate."""
        if inputs.is_stream(x):
            _require_alone(y=y, sample_weight=weight, class_weight=classes)
            checked: list[Objective] = []

            def prepare(batch: Any) -> Any:
                arrays = self._arrays(*inputs.unpack_batch(batch))
                if checked:
                    self._check_values(checked[0], arrays)
                else:
                    checked.append(self._checked(arrays))
                return arrays

            stream = StreamData(x, prepare, remainder="pad", steps=steps)
            stream.batch_spec()
            return stream, checked[0]
        arrays = self._arrays(x, y, weight, classes)
        count = checks.rows_of(arrays)
        if count == 0:
            raise ValueError("expected samples, received empty arrays; do check the data")
        objective = self._checked(arrays)
        size = _batch_size(size, steps, count)
        seed = key_data(self.train_state.key)
        return ArrayData(arrays, size, shuffle=shuffle, seed=seed, remainder="pad"), objective

    # -- Keras's verbs ---------------------------------------------------------------------------

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: Any = "auto",
        callbacks: Any = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: Any = True,
        class_weight: Any = None,
        sample_weight: Any = None,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        validation_freq: Any = 1,
    ) -> History:
        """Trains on arrays or on a stream of batches, `epochs` times. Returns the History.

        Arguments are Keras's. The last batch is filled up and the filling weighs nothing, so every
        row counts once an epoch. Data that fits stays on the device. Ctrl-C ends after a complete
        step, with that step's weights; after any error the model is as it was before the step.
        Raises ValueError for data that cannot be right, before the first step.
        """
        compiled = self._require_compiled("fit")
        with self._exclusive():
            if validation_split and validation_data is None:
                x, y, sample_weight, validation_data = self._split(
                    x, y, sample_weight, validation_split
                )
            data, objective = self._data(
                x, y, sample_weight, class_weight, batch_size, steps_per_epoch, shuffle
            )
            validate = None
            if validation_data is not None:
                size = validation_batch_size or batch_size
                validate = self._validation(validation_data, size, validation_steps, epochs)
            self._ensure_optimizer()
            now = self.train_state
            wanted = lambda epoch: (
                epoch + 1 in validation_freq
                if isinstance(validation_freq, (list, tuple, set))
                else (epoch + 1) % validation_freq == 0
            )
            plan = Plan(
                step=make_train_step(self.layer, objective, compiled["optimizer"]),
                data=data,
                run=self,
                callbacks=callbacks,
                key=now.key,
                epochs=epochs,
                initial_epoch=initial_epoch,
                steps=steps_per_epoch,
                verbose=verbose,
                guard=compiled["guard"],
                validate=(lambda e: validate() if wanted(e) else {}) if validate else None,
                first_step=int(now.step),
                first_epoch=int(now.epoch),
                diagnose=functools.partial(diagnose, self.layer, make_loss(self.layer, objective)),
            )
            return train(plan)

    @contextlib.contextmanager
    def _exclusive(self) -> Iterator[None]:
        if not self._training.acquire(blocking=False):
            raise RuntimeError(
                f"expected the model {self.name!r} at rest, received a second training of it: "
                "it is already training, in a callback or another thread; do wait until it ends"
            )
        try:
            yield
        finally:
            self._training.release()

    def _split(self, x: Any, y: Any, weight: Any, share: float) -> tuple[Any, Any, Any, Any]:
        if inputs.is_stream(x):
            raise ValueError(
                "expected arrays for validation_split, received a stream of batches; "
                "do give validation_data"
            )
        arrays = self._arrays(x, y, weight)
        first, last = inputs.split_validation(arrays, share)
        parts = [
            (a["x"], list(a["y"]) if a["y"] else None, list(a["weight"]) if a["weight"] else None)
            for a in (first, last)
        ]
        return (*parts[0], parts[1])

    def _validation(self, given: Any, size: int | None, steps: int | None, epochs: int) -> Any:
        if inputs.is_stream(given):
            if isinstance(given, Iterator) and epochs > 1 and steps is None:
                raise ValueError(
                    "expected validation_data that starts again every epoch, received an iterator; "
                    "do give a function that returns it, or arrays"
                )
            data, objective = self._data(given, None, None, None, size, steps)
        else:
            x, y, weight = inputs.unpack_batch(given)
            data, objective = self._data(x, y, weight, None, size, None)
        step = make_eval_step(self.layer, objective)
        quiet = CallbackList((), self, {})

        def validate() -> dict[str, float]:
            now = self.train_state
            weighted = (now.params, now.state)
            return evaluation.evaluate(step, weighted, data, now.key, callbacks=quiet, steps=steps)

        return validate

    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        verbose: Any = "auto",
        sample_weight: Any = None,
        steps: int | None = None,
        callbacks: Any = None,
        return_dict: bool = False,
    ) -> Any:
        """The loss and metrics over all rows: a number, a list `[loss, *metrics]`, or a dict.

        Exact for any batch size: sums over rows, divided once. The weights stay where they are.
        """
        self._require_compiled("evaluate")
        data, objective = self._data(x, y, sample_weight, None, batch_size, steps)
        now = self.train_state
        logs = evaluation.evaluate(
            make_eval_step(self.layer, objective),
            (now.params, now.state),
            data,
            now.key,
            callbacks=CallbackList(callbacks, self, {"verbose": verbose, "steps": data.steps}),
            verbose=verbose,
            steps=steps,
        )
        return self._as_result(logs, return_dict)

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
        parts = [f"{goal.name}_loss" for goal in goals if goal.loss is not None]
        return ["loss", *parts, *sorted(labels)]

    def metric_directions(self) -> dict[str, str | None]:
        """For each metric whether more ("max") or less ("min") is better."""
        goals = self._objective.goals if self._objective else ()
        return {label: metric.direction for goal in goals for label, metric, _ in goal.metrics}

    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: Any = "auto",
        steps: int | None = None,
        callbacks: Any = None,
    ) -> Any:
        """The outputs for all rows, as NumPy arrays in the structure of the outputs.

        Needs no compile. No rows give arrays of no rows. The weights stay where they are.
        """
        if inputs.is_stream(x):
            each = lambda batch: self._arrays(inputs.unpack_batch(batch)[0])["x"]
            stream = StreamData(x, each, remainder="pad", steps=steps)
            stream.batch_spec()
            batches: Iterator[Any] = (
                (jax.tree.map(lambda a: a[0], arrays), int(rows.sum()))
                for (arrays, rows), _ in stream.chunks(0, 1, steps)
            )
            total = stream.steps
        else:
            rows = self._arrays(x)["x"]
            self._check_inputs(rows)
            count, size = len(jax.tree.leaves(rows)[0]), _batch_size(batch_size, None, 1)
            if count == 0:
                return self._nothing(rows)
            batches = evaluation.padded_batches(rows, size, steps)
            total = min(-(-count // size), steps or 2**31)
        now, step = self.train_state, make_predict_step(self.layer)
        return evaluation.predict(
            lambda part: step(now.params, now.state, part),
            batches,
            callbacks=CallbackList(callbacks, self, {"verbose": verbose, "steps": total}),
            verbose=verbose,
            total=total,
        )

    def _check_inputs(self, x: Any) -> None:
        """Raises if the network cannot take `x`: shapes, and ids out of range."""
        one = lambda a: jax.ShapeDtypeStruct((1, *a.shape[1:]), a.dtype)
        self._output_specs(jax.tree.map(one, x))
        checks.input_values(self.layer, x)

    def _nothing(self, x: Any) -> Any:
        now = self.train_state
        spec = applied_spec(self.layer, now.params, now.state, x)
        return jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), spec)

    def train_on_batch(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        class_weight: Any = None,
        return_dict: bool = False,
    ) -> Any:
        """One step on one batch. Returns the loss and metrics of this batch alone."""
        compiled = self._require_compiled("train_on_batch")
        with self._exclusive():
            arrays = self._arrays(x, y, sample_weight, class_weight)
            objective = self._checked(arrays)
            self._ensure_optimizer()
            step = make_train_step(self.layer, objective, compiled["optimizer"])
            now = self.train_state
            state, logs = self._one_step(step, now, arrays, now, compiled["guard"])
            self.train_state = state
        return self._as_result(logs, return_dict)

    def test_on_batch(
        self, x: Any, y: Any = None, sample_weight: Any = None, return_dict: bool = False
    ) -> Any:
        """The loss and metrics of one batch."""
        self._require_compiled("test_on_batch")
        arrays = self._arrays(x, y, sample_weight)
        step, now = make_eval_step(self.layer, self._checked(arrays)), self.train_state
        _, logs = self._one_step(step, (now.params, now.state), arrays, now, "ignore")
        return self._as_result(logs, return_dict)

    def _one_step(self, step: Any, state: Any, arrays: Any, now: Any, guard: str) -> Any:
        count = checks.rows_of(arrays)
        if count == 0:
            raise ValueError("expected samples, received an empty batch; do check the data")
        batch = jax.tree.map(lambda a: np.array(a, copy=True), (arrays, np.ones(count, bool)))
        program = engine.program(step, state, batch, now.key, capacity=1)
        chunk = jax.tree.map(lambda a: a[None], batch)
        state, tallies, healthy = program(
            state, program.zeros(), chunk, now.key, 0, 1, int(now.step), guard=guard
        )
        if not bool(healthy):
            raise checks.TrainingError(
                f"expected a finite loss and finite gradients, received NaN or infinity at step "
                f"{int(now.step)}; the model is as it was; do lower the learning rate"
            )
        return state, numbers(tallies)

    def predict_on_batch(self, x: Any) -> Any:
        """The outputs for one batch, as NumPy arrays."""
        arrays = self._arrays(x)["x"]
        self._check_inputs(arrays)
        now = self.train_state
        outputs = make_predict_step(self.layer)(now.params, now.state, arrays)
        return jax.tree.map(np.asarray, outputs)

    # -- files -----------------------------------------------------------------------------------

    def save(self, path: Any, overwrite: bool = True) -> None:
        """Writes the network and its weights into one file, whole or not at all.

        A zip of JSON and safetensors, read by `fnn.load`. Raises ValueError for a function or layer
        that has no registered name, FileExistsError with `overwrite=False`.
        """
        archive.save_model(self, path, overwrite=overwrite)

    def save_weights(self, path: Any, overwrite: bool = True) -> None:
        """Writes the weights alone, as a safetensors file."""
        archive.save_weights(self, path, overwrite=overwrite)

    def load_weights(self, path: Any) -> None:
        """Takes the weights of a file by `save_weights` or `save`. All or nothing.

        Raises ValueError listing every path that is missing, unexpected or of another shape.
        """
        archive.load_weights(self, path)


class Sequential(Model):
    """A model of layers in a row; `add` and `pop` change it, `input_shape` or `Input` builds it.

    >>> model = Sequential([fnn.layers.Dense(2, input_shape=(4,))], seed=0)
    >>> model.add(fnn.layers.Dense(1))
    >>> model.output_shape
    (None, 1)
    """

    def __init__(
        self, layers: Any = None, *, name: str | None = None, seed: int | None = None
    ) -> None:
        self._prepare()
        self._given: list[Any] = []
        self._input: Node | None = None
        Weighted.__init__(self, SequentialLayer((), name=name), "sequential", seed)
        given = layers.layers if isinstance(layers, SequentialLayer) else layers or []
        self._extend(list(given))

    def add(self, layer: Any) -> None:
        """Appends a layer. Weights that there were are made anew."""
        self._extend([layer])

    def pop(self) -> None:
        """Removes the last layer. Raises ValueError if there is none."""
        if not self._given:
            raise ValueError("expected a model with layers, received an empty one")
        self._given.pop()
        self._extend([])

    def _extend(self, layers: list[Any]) -> None:
        for layer in layers:
            if isinstance(layer, Node):
                self._input = layer
            else:
                self._given.append(layer)
        pure = SequentialLayer(tuple(self._given), name=self.layer.name)
        self.layer, self._train_state, self._inputs = pure, None, self._input
        first: Any = self._given[0] if self._given else None
        while first is not None and self._inputs is None:
            if isinstance(first, Weighted):
                self._inputs = first._inputs
                break
            if first.input_shape is not None:
                dtype = getattr(first, "input_dtype", "float32")
                self._inputs = Node(None, (), input_specs((None, *first.input_shape), dtype))
            children = first.children()
            first = children[0][1] if children else None
        if self._inputs is not None and self._given:
            self._build()


def _as_tuple(nodes: Any) -> Any:
    return tuple(nodes) if isinstance(nodes, list) else nodes


def _batch_size(size: int | None, steps: int | None, count: int) -> int:
    if size is None:
        return -(-count // steps) if steps and count > 1 else 32
    return checks.whole_number("batch_size", size, 1)


def _require_alone(**arguments: Any) -> None:
    given = [name for name, value in arguments.items() if value is not None]
    if given:
        raise ValueError(
            f"expected a stream to bring its own targets and weights, received {given} beside it; "
            "do yield (x, y) or (x, y, sample_weight)"
        )


_BY_SHAPE = ("accuracy", "acc", "crossentropy", "ce")


def _check_names(compiled: dict[str, Any]) -> None:
    """Raises for losses and metrics that are not known, at the line of `compile`."""
    for part, module in (("loss", losses), ("metrics", metrics), ("weighted_metrics", metrics)):
        for identifier in _flat(compiled[part]):
            if not (isinstance(identifier, str) and identifier.lower() in _BY_SHAPE):
                module.get(identifier)


def _flat(given: Any) -> Iterator[Any]:
    if isinstance(given, dict):
        given = list(given.values())
    if isinstance(given, (list, tuple)):
        for item in given:
            yield from _flat(item)
    elif given is not None:
        yield given
