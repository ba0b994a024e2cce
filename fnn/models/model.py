"""Model: a network with its weights, and Keras's compile, fit, evaluate, predict."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterable
from typing import TypeAlias

import jax
import numpy as np

from fnn.core import arguments
from fnn.core.calling import snake_case
from fnn.core.layer import Layer
from fnn.core.tree import Tree
from fnn.models import fitting, inference, sharing
from fnn.models.attributes import Attributes
from fnn.models.feed import Feed, checked_batch_size
from fnn.models.network import Network
from fnn.models.program import Program
from fnn.models.weights import Weights
from fnn.symbolic.graph import connect
from fnn.symbolic.node import Node, symbolic_call
from fnn.training import checks, evaluation, inputs
from fnn.training.history import History
from fnn.training.hooks import Callback, CallbackList, as_list
from fnn.training.interrupt import deferring, interruptible
from fnn.training.loop import train
from fnn.training.one_batch import run_one_batch
from fnn.training.state import without_counters

Verbose: TypeAlias = str | int
Callbacks: TypeAlias = Callback | Iterable[Callback] | None
Logs: TypeAlias = dict[str, float]


class Model(Attributes):
    """A network and its current weights, with Keras's methods to train and use it.

    `Model(inputs, outputs)` takes symbolic nodes in any structure, `Model(layer)` any layer, with
    weights of its own each time. `model.layer` is the pure network (`init, apply = model.layer`);
    `model.params` and `model.state` are its current weights. They are made as soon as the shape of
    the inputs is known: at once for nodes, else at the first data or `build`. `seed` makes weights,
    shuffling and dropout reproducible (`fnn.set_seed` does so for all models).

    A model used as a layer inside another one shares its weights with it. Raises TypeError for
    what is no layer, ValueError for nodes that do not connect.

    >>> x = fnn.Input((4,))
    >>> model = Model(x, fnn.layers.Dense(2)(x), seed=0)
    >>> model.predict(np.ones((3, 4)), verbose=0).shape
    (3, 2)
    """

    # Set by a callback to end what is running after the batch, as in Keras.
    stop_training: bool = False
    stop_evaluating: bool = False
    stop_predicting: bool = False
    history: History | None = None

    def __init__(
        self,
        inputs: Tree,
        outputs: Tree = None,
        *,
        name: str | None = None,
        seed: int | None = None,
    ) -> None:
        if outputs is not None:
            inputs = _as_tuple(inputs)
            layer: Layer = connect(inputs, _as_tuple(outputs))
        elif isinstance(inputs, Model):
            layer = inputs.as_layer()
            inputs = sharing.stated_inputs(layer)
        elif isinstance(inputs, Layer):
            layer = sharing.apart(inputs)
            inputs = sharing.stated_inputs(layer)
        else:
            raise TypeError(
                f"Model: expected a layer, or inputs and outputs of a graph, received {inputs!r}; "
                "e.g. x = Input((10,)), then Model(x, Dense(3)(x))"
            )
        if name is not None:
            layer = layer.replace(name=name)
        self._set_up(layer, inputs, layer.name or snake_case(type(self).__name__), seed)
        if inputs is not None:
            self._weights.build()

    def _set_up(
        self, layer: Layer, inputs: Tree, name: str, seed: int | None = None
    ) -> None:
        """The parts of a model: a network, its weights (none yet), and a program (none yet)."""
        self._weights = Weights(Network(layer, inputs, name), seed)
        self._program = Program(self._weights)
        self._feed = Feed(self._weights, self._program)

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        arguments.refuse_methods(
            cls,
            ("call", "train_step", "test_step", "predict_step"),
            "a network that is a value, and steps that are pure functions",
            "write a function that returns Model(inputs, outputs), or a subclass of Layer with "
            "init and apply for Model(layer); in place of train_step give a pure "
            "step(state, batch, key) -> (state, logs) to fnn.training.fit",
        )

    def __getstate__(self) -> dict[str, object]:
        """A copy has parts of its own: the same weights, which it shares with no other model."""
        weights = copy.copy(self._weights)
        program = self._program.copy_for(weights)
        own = {
            "_weights": weights,
            "_program": program,
            "_feed": Feed(weights, program),
        }
        return {**vars(self), **own, "_used_as": None}

    def __setstate__(self, state: dict[str, object]) -> None:
        vars(self).update(state)
        if self.history is not None:
            # A copy has a record of its own, which refers to the copy.
            self.history = copy.copy(self.history)
            self.history.model = self

    @deferring
    def compile(
        self,
        optimizer: object = "rmsprop",
        loss: Tree = None,
        loss_weights: Tree = None,
        metrics: Tree = None,
        weighted_metrics: Tree = None,
        run_eagerly: bool = False,
        steps_per_execution: int = 1,
        jit_compile: bool | str = "auto",
        auto_scale_loss: bool = True,
        *,
        guard: str = "raise",
        checks: bool = True,
    ) -> None:
        """Sets optimizer, losses and metrics: names, functions or values, for one output or each.

        `guard`: at a loss or gradient that is not finite, "raise" stops before that step, "skip"
        leaves the step out, "ignore" continues. `checks=False` accepts NaN in the data, and
        targets that do not sum to 1 (such as a one-hot target times an advantage).
        `run_eagerly`, `steps_per_execution`, `jit_compile` and `auto_scale_loss` are accepted for
        compatibility with Keras and change nothing: steps are always compiled.

        A new optimizer starts afresh. `compile(model.optimizer, ...)` keeps its state (moments,
        number of steps) and the learning rate that was set. Raises ValueError for unknown names.
        """
        self._program.compile(
            guard,
            checks,
            optimizer,
            loss=loss,
            loss_weights=loss_weights,
            metrics=metrics,
            weighted_metrics=weighted_metrics,
        )

    # -- training --------------------------------------------------------------------------------

    def fit(
        self,
        x: Tree = None,
        y: Tree = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: Verbose = "auto",
        callbacks: Callbacks = None,
        validation_split: float = 0.0,
        validation_data: Tree = None,
        shuffle: bool | str = True,
        class_weight: Tree = None,
        sample_weight: Tree = None,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        validation_freq: int | Iterable[int] = 1,
    ) -> History:
        """Trains on arrays or on a stream of batches for `epochs` passes. Returns the History.

        Arguments are Keras's. `class_weight` is a dict from class to weight (1 for a class that
        is left out), or a dict of such dicts by output name; the loss and the last activation
        tell which class a target has, also for each step or pixel.

        The last batch is padded, and padding has no weight, so every example counts once per
        epoch. Data that fits stays on the device. Ctrl-C ends training after a complete step and
        keeps its weights; after any error the model is as it was before the step.
        Raises ValueError for data that cannot be right, before the first step.
        """
        self._program.require("fit")
        callbacks = as_list(callbacks)
        with interruptible(), self._weights.training:
            if validation_split and validation_data is None:
                split = self._feed.split(x, y, sample_weight, validation_split)
                x, y, sample_weight, validation_data = split
            data, objective = self._feed.data(
                x,
                y,
                sample_weight,
                class_weight,
                batch_size=batch_size,
                steps=steps_per_epoch,
                shuffle=shuffle,
                train=True,
            )
            due = checks.validation_schedule(validation_freq)
            size = (
                batch_size if validation_batch_size is None else validation_batch_size
            )
            validate = fitting.validation(
                self._feed, validation_data, size, validation_steps, due, epochs
            )
            plan = fitting.plan_of(
                self,
                self._feed,
                data,
                objective,
                callbacks,
                epochs=epochs,
                initial_epoch=initial_epoch,
                steps=steps_per_epoch,
                verbose=verbose,
                validate=validate,
                validates=due,
            )
            return train(plan)

    @deferring
    def evaluate(
        self,
        x: Tree = None,
        y: Tree = None,
        batch_size: int | None = None,
        verbose: Verbose = "auto",
        sample_weight: Tree = None,
        steps: int | None = None,
        callbacks: Callbacks = None,
        return_dict: bool = False,
    ) -> Tree:
        """Loss and metrics over all examples: a number, a list `[loss, *metrics]`, or a dict.

        Exact for any batch size: sums over examples, divided once. The weights stay as they are.
        """
        self._program.require("evaluate")
        data, objective = self._feed.data(
            x, y, sample_weight, batch_size=batch_size, steps=steps, keep=False
        )
        logs = evaluation.evaluate(
            self._program.eval_step(objective),
            self._weights,
            data,
            callbacks=self._listening(callbacks, verbose, data.steps),
            verbose=verbose,
            steps=steps,
            carry=self._weights.keep_state if self._network.is_stateful else None,
        )
        return self._as_result(logs, return_dict)

    @deferring
    def train_on_batch(
        self,
        x: Tree,
        y: Tree = None,
        sample_weight: Tree = None,
        class_weight: Tree = None,
        return_dict: bool = False,
    ) -> Tree:
        """One step on one batch. Returns loss and metrics of this batch alone."""
        program, weights = self._program, self._weights
        program.require("train_on_batch")
        with weights.training:
            arrays, objective = self._feed.goals(x, y, sample_weight, class_weight)
            program.ensure_optimizer_state()
            now = without_counters(weights.now)
            step = program.train_step(objective)
            weights.now, logs = run_one_batch(step, now, arrays, now, program.guard)
        return self._as_result(logs, return_dict)

    @deferring
    def test_on_batch(
        self,
        x: Tree,
        y: Tree = None,
        sample_weight: Tree = None,
        return_dict: bool = False,
    ) -> Tree:
        """Loss and metrics of one batch."""
        self._program.require("test_on_batch")
        arrays = self._feed.arrays(x, y, sample_weight)
        step = self._program.eval_step(self._program.resolve(arrays))
        now = self._weights.now
        before = now.params, now.state
        (_, state), logs = run_one_batch(step, before, arrays, now, "ignore")
        if self._network.is_stateful:
            self._weights.keep_state(state)
        return self._as_result(logs, return_dict)

    def _as_result(self, logs: Logs, return_dict: bool) -> Tree:
        if return_dict:
            return logs
        ordered = [logs[name] for name in self.metrics_names]
        if len(ordered) == 1:
            return ordered[0]
        return ordered

    def _listening(
        self, callbacks: Callbacks, verbose: Verbose, steps: int | None
    ) -> CallbackList:
        return CallbackList(callbacks, self, {"verbose": verbose, "steps": steps})

    # -- inference -------------------------------------------------------------------------------

    def predict(
        self,
        x: Tree,
        batch_size: int | None = None,
        verbose: Verbose = "auto",
        steps: int | None = None,
        callbacks: Callbacks = None,
    ) -> Tree:
        """The outputs for all examples, as NumPy arrays in the structure of the outputs.

        Needs no compile. Empty input returns empty arrays. The weights stay as they are. Stateful
        layers carry their state from batch to batch and call to call, until `reset_states`.
        """
        self.stop_predicting = False
        plain = not verbose and steps is None and callbacks is None
        if plain and inference.fits_at_once(self._weights, x, batch_size):
            # JAX traces nothing here, so Ctrl-C may strike at any line.
            return inference.at_once(self._feed, x)
        return self._predict(x, batch_size, verbose, steps, callbacks)

    @deferring
    def _predict(
        self,
        x: Tree,
        batch_size: int | None,
        verbose: Verbose,
        steps: int | None,
        callbacks: Callbacks,
    ) -> Tree:
        if steps is not None:
            checks.as_integer("steps", steps, 1)
        if inputs.is_stream(x):
            listen = functools.partial(self._listening, callbacks, verbose)
            return inference.predict_stream(self._feed, x, steps, listen, verbose)
        x = self._feed.checked_inputs(x)
        if not checks.example_count({"x": x}):
            checked_batch_size(batch_size)
            return inference.empty_outputs(self._weights, x)
        prediction = inference.Prediction(self._feed, x, batch_size, steps)
        if prediction.batches == 1 and callbacks is None and not verbose:
            return prediction.at_once()
        listening = self._listening(callbacks, verbose, prediction.batches)
        return prediction.run(listening, verbose)

    @deferring
    def predict_on_batch(self, x: Tree) -> Tree:
        """The outputs for one batch, as NumPy arrays."""
        outputs = inference.forward(self._weights, self._feed.checked_inputs(x))
        return jax.tree.map(np.asarray, outputs)

    def __call__(self, *given: Tree, **named: object) -> Tree:
        """A node of a graph for symbolic inputs; for arrays the outputs, on the device."""
        if any(isinstance(leaf, Node) for leaf in jax.tree.leaves(given)):
            return self._symbolic(given, named)
        for name, value in named.items():
            if value is not None and value is not False:
                raise TypeError(
                    f"a model called on arrays runs as in inference, but {name}= was "
                    "passed too; use apply(params, state, x, Context(train=True, key=key)) of "
                    "model.layer, which takes masks as Masked(x, mask)"
                )
        several = len(given) > 1
        if several or type(given[0]) is not np.ndarray:
            x = self._feed.inputs(given if several else given[0], several)
            checks.input_values(self.layer, x)
        else:
            x = self._feed.checked_inputs(given[0])
        return inference.forward(self._weights, inference.owned(x))

    def _symbolic(self, given: tuple[Tree, ...], named: dict[str, object]) -> Tree:
        if not self.built:
            self._weights.build_for(_as_tuple(given[0]) if len(given) == 1 else given)
        result = symbolic_call(self.as_layer(), given, named)
        for node in jax.tree.leaves(result):
            node.source = self
        return result


def _as_tuple(nodes: Tree) -> Tree:
    if isinstance(nodes, list):
        return tuple(nodes)
    return nodes
