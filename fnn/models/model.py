"""Model: a network with its weights, and Keras's compile, fit, evaluate, predict."""

from __future__ import annotations

import copy
import functools
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

import jax
import numpy as np

from fnn.core.layer import Layer
from fnn.core.registry import snake_case
from fnn.core.tree import Tree
from fnn.data.splits import Split
from fnn.models import cells, fitting, inference, scoped
from fnn.models.attributes import Attributes
from fnn.models.described import Described
from fnn.models.feed import Feed, checked_batch_size
from fnn.models.files import Files
from fnn.models.given import layer_of
from fnn.models.laid_out import distributed, on_devices
from fnn.models.measured import Measured
from fnn.models.network import Network
from fnn.models.one_batch import OneBatch
from fnn.models.outputs import as_given
from fnn.models.own_data import StepFeed
from fnn.models.policies import Policies
from fnn.models.program import Program
from fnn.models.steps import Steps
from fnn.models.stored import Stored
from fnn.models.weights import Weights
from fnn.runtime.compilations import active
from fnn.runtime.layouts import Distribution
from fnn.runtime.program_cache import Copied
from fnn.runtime.scope import scopes
from fnn.subclassing import running_frame
from fnn.symbolic.node import Node
from fnn.training import checks, evaluation, sources
from fnn.training.checkpoint import CheckpointLike, saver_of
from fnn.training.history import History
from fnn.training.hooks import as_list
from fnn.training.interrupt import deferring, interruptible
from fnn.training.loop import Callbacks, train
from fnn.training.prediction import fetched
from fnn.training.progress import Progress

Verbose: TypeAlias = str | int
# f(apply, params, state, batch, ctx) -> (loss, (state, logs))
Objective: TypeAlias = Callable[..., tuple[jax.Array, tuple[Tree, dict[str, Tree]]]]


class Model(
    OneBatch,
    Measured,
    Steps,
    Attributes,
    Described,
    Policies,
    Stored,
    Files,
    Copied,
):
    """A network and its current weights, with Keras's methods to train and use it.

    `Model(inputs, outputs)` takes symbolic nodes in any structure, `Model(layer)` any layer, with
    weights of its own each time. `model.layer` is the pure network (`init, apply = model.layer`);
    `model.params` and `model.state` are its current weights. They are made as soon as the shape of
    the inputs is known: at once for nodes, else at the first data or `build`. `seed` makes weights,
    shuffling and dropout reproducible (`fnn.set_seed` does so for all models). `dtype` is what the
    layers compute in that have no dtype of their own: "mixed_bfloat16".

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
        dtype: str | None = None,
    ) -> None:
        layer, inputs = layer_of(inputs, outputs, name, dtype)
        name = layer.own_name or snake_case(type(self).__name__)
        self._set_up(layer, inputs, name, seed)
        if inputs is not None:
            self._weights.build()

    def _set_up(
        self, layer: Layer, inputs: Tree, name: str, seed: int | None = None
    ) -> None:
        """The parts of a model: a network, its weights (none yet), and a program (none yet)."""
        self._take_parts(Weights(Network(layer, inputs, name), seed))

    def _take_parts(self, weights: Weights) -> None:
        self._weights = weights
        weights.user = weakref.ref(self)
        self._program = Program(weights)
        self._feed = Feed(weights, self._program)

    def __getstate__(self) -> dict[str, object]:
        """A copy has parts of its own: the same weights, which it shares with no other model."""
        weights = copy.copy(self._weights)
        program = self._program.copy_for(weights)
        own = {
            "_weights": weights,
            "_program": program,
            "_feed": type(self._feed)(weights, program),
        }
        return {**vars(self), **own, "_used_as": None}

    def __setstate__(self, state: dict[str, object]) -> None:
        vars(self).update(state)
        if "_weights" in state:
            self._weights.user = weakref.ref(self)
        if self.history is not None:
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
        objective: Objective | None = None,
        remat: str | Sequence[str] = (),
        max_compiles: int | None = None,
        distribution: Distribution | None = None,
    ) -> None:
        """Sets optimizer, losses and metrics: names, functions or values, for one output or each.

        `guard`: at a loss or gradient that is not finite, "raise" stops before that step, "skip"
        leaves the step out, "ignore" continues. `checks=False` accepts NaN in the data, and
        targets that do not sum to 1 (such as a one-hot target times an advantage).
        `distribution`: a value of `fnn.distribution`, for several devices (docs/guides/devices.md).
        `run_eagerly`, `steps_per_execution`, `jit_compile` have no effect. A model that computes in
        float16 trains with a `LossScaleOptimizer`, unless `auto_scale_loss=False`.

        `objective`: a pure function `f(apply, params, state, batch, ctx) -> (loss, (state, logs))`
        in place of loss and metrics. `apply(params, state, x)` is the network, in training or not
        as `ctx` says; `batch` is x, (x, y) or (x, y, sample_weight) as passed to `fit`, of any
        structure; `logs` is a dict of numbers. Penalties of layers are added to the loss. Saved by
        its registered name (`fnn.register`).
        `remat`: patterns of paths of layers, such as "blocks/**" (each layer in `blocks`), whose
        values the backward pass computes again: less memory, more time, the same numbers.
        `max_compiles`: an error where the program of training, of evaluation or of prediction
        would be compiled more often, with the reason (see `compilations`).

        A new optimizer starts afresh. `compile(model.optimizer, ...)` keeps its state (moments,
        number of steps) and the learning rate that was set. Raises ValueError for unknown names.
        """
        self._program.compile(
            guard,
            checks,
            self._scaling(optimizer, auto_scale_loss),
            loss=loss,
            loss_weights=loss_weights,
            metrics=metrics,
            weighted_metrics=weighted_metrics,
            objective=objective,
            remat=remat,
            max_compiles=max_compiles,
        )
        if objective is not None:
            self._feed = StepFeed(self._weights, self._program)
        self._program.distribute(distribution)

    # -- training --------------------------------------------------------------------------------

    def fit(
        self,
        x: Tree = None,
        y: Tree = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: Verbose = "auto",
        callbacks: Callbacks = None,
        validation_split: float | Split = 0.0,
        validation_data: Tree = None,
        shuffle: bool | str = True,
        class_weight: Tree = None,
        sample_weight: Tree = None,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        validation_freq: int | Iterable[int] = 1,
        *,
        checkpoint: CheckpointLike = None,
        resume: bool = False,
    ) -> History:
        """Trains on arrays or on a stream of batches for `epochs` passes. Returns the History.

        Arguments are Keras's; `validation_split` may be an `fnn.data.split`. `class_weight` is a
        dict from class to weight (1 for one that is left out), or a dict of such dicts by output;
        the loss and the last activation tell the class of a target, also for each step or pixel.

        The last batch is padded, without weight, so every example counts once per epoch. Data that
        fits stays on the device; memmaps, sparse matrices and arrays above 256 MB are read batch by
        batch. Ctrl-C ends training after a step; after an error the model is as before the step.
        The training is saved in `checkpoint`, a folder or an `fnn.training.Checkpoint`, and with
        `resume` continues from there. Raises ValueError for bad data.
        """
        self._program.require("fit")
        epochs, steps_per_epoch = fitting.limited(epochs, steps_per_epoch)
        saver = saver_of(checkpoint, resume)
        progress = Progress.of_fit(verbose)
        devices = on_devices(self._weights, self._program.distribution)
        with interruptible(), self._weights.training, devices, progress:
            x, y, sample_weight, validation_data = fitting.split(
                self._feed, x, y, sample_weight, validation_data, validation_split
            )
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
            sizes = validation_batch_size, batch_size
            validate = fitting.validation(
                self._feed, validation_data, sizes, validation_steps, due, epochs
            )
            plan = fitting.plan_of(
                self,
                self._feed,
                data,
                objective,
                as_list(callbacks),
                epochs=epochs,
                initial_epoch=initial_epoch,
                steps=steps_per_epoch,
                verbose=verbose,
                validate=validate,
                validates=due,
                progress=progress,
                saver=saver,
            )
            return train(plan)

    @deferring
    @distributed
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
        steps = fitting.limited_steps(steps)
        active.set(self._weights.compilations)
        data, objective = self._feed.data(
            x, y, sample_weight, batch_size=batch_size, steps=steps, keep=False
        )
        logs = evaluation.evaluate(
            self._program.eval_step(objective),
            self._program.evaluated,
            data,
            callbacks=fitting.listening(self, callbacks, verbose, data.steps),
            verbose=verbose,
            steps=steps,
            carry=self._program.carry(keeps=True),
        )
        return self._as_result(logs, return_dict)

    # -- inference -------------------------------------------------------------------------------

    @distributed
    def predict(
        self,
        x: Tree,
        batch_size: int | None = None,
        verbose: Verbose = "auto",
        steps: int | None = None,
        callbacks: Callbacks = None,
    ) -> Tree:
        """The outputs for all examples, as NumPy arrays in the structure of the outputs.

        Half precision comes as float32. Needs no compile. Empty input returns empty arrays. The
        weights stay as they are. Stateful layers carry their state from batch to batch and call to
        call, until `reset_states`.
        """
        self.stop_predicting = False
        steps = fitting.limited_steps(steps)
        plain = not verbose and steps is None and callbacks is None
        if plain and inference.is_one_batch(x, batch_size):
            outputs = inference.as_before(self._feed, x)
            if outputs is not None:
                return fetched(outputs, len(x), False)
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
        x = self._feed.readable(x)[0]
        if sources.is_stream(x):
            listen = functools.partial(fitting.listening, self, callbacks, verbose)
            return inference.predict_stream(
                self._feed, x, batch_size, steps, listen, verbose
            )
        x = self._feed.checked_inputs(x, lazy=True)
        if not checks.example_count({"x": x}):
            checked_batch_size(batch_size)
            return inference.empty_outputs(self._weights, x)
        watched = callbacks is not None
        prediction = inference.Prediction(self._feed, x, batch_size, steps, watched)
        if prediction.fits_at_once and callbacks is None and not verbose:
            return prediction.at_once()
        listening = fitting.listening(self, callbacks, verbose, prediction.batches)
        return prediction.run(listening, verbose)

    def __call__(self, *given: Tree, **named: object) -> Tree:
        """A node of a graph for symbolic inputs; for arrays the outputs, on the device."""
        if len(given) == 1 and not (named or scopes() or self.layer.training_alone):
            outputs = inference.as_before(self._feed, given[0], copies=True)
            if outputs is not None:
                return outputs
        plain = len(given) == 1 and isinstance(given[0], (np.ndarray, jax.Array))
        if not plain and any(isinstance(one, Node) for one in jax.tree.leaves(given)):
            return self._symbolic(given, named)
        if named.get("training") is None and self.layer.training_alone:
            named["training"] = True
        is_inside = running_frame() is not None
        in_place = is_inside or scoped.holds(self._weights)
        if in_place or named.keys() - {"training"} or named.get("training"):
            if not self.built and not is_inside:
                self._feed.inputs(given[0], False)
            given = as_given(self._network.inputs, given)
            return cells.on_arrays(self.as_layer(), given, named)
        if plain:
            x = self._feed.checked_inputs(given[0])
        else:
            several = len(given) > 1
            x = self._feed.inputs(given if several else given[0], several)
            self._network.compiled.check_values(x)
        return inference.forward(self._weights, inference.owned(x))
