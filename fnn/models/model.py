"""Model: a network with its weights, and Keras's compile, fit, evaluate, predict."""

from __future__ import annotations

import functools
from collections.abc import Generator, Iterator
from typing import Any, cast

import jax
import numpy as np

from fnn.core import tree
from fnn.core.calling import applied_spec
from fnn.core.layer import Layer
from fnn.core.masking import strip_masks
from fnn.models import sharing
from fnn.models.batchwise import Batchwise
from fnn.models.compiled import batch_size_for
from fnn.models.weighted import Weighted
from fnn.optimizers.optimizer import without_rate
from fnn.runtime.devices import current
from fnn.saving import archive
from fnn.symbolic.graph import connect
from fnn.training import checks, evaluation, inputs
from fnn.training.data import lies_on_several
from fnn.training.diagnosis import diagnose
from fnn.training.engine import runs_apart
from fnn.training.history import History
from fnn.training.hooks import CallbackList, as_list
from fnn.training.interrupt import deferring, interruptible
from fnn.training.loop import train
from fnn.training.prediction import PREDICT_HOOKS, pieces, predict, predict_at_once
from fnn.training.ragged import why_not_padded_in_prediction
from fnn.training.step import (
    make_eval_step,
    make_flush,
    make_loss,
    make_train_step,
    with_average,
)
from fnn.training.stream import StreamData
from fnn.training.trainer import Plan


class Model(Batchwise):
    """A network and its current weights, with Keras's ways to train and use it.

    `Model(inputs, outputs)` of symbolic nodes, with any structure of either, or `Model(layer)` of
    any layer, with weights of its own each time. `model.layer` is the pure network: `init, apply =
    model.layer`; `model.params` and `model.state` are its weights now. Weights are made when the
    shape of the inputs is known: at once for nodes, else at the first data or `build`. `seed`
    makes weights, shuffling and dropout reproducible (`fnn.set_seed` does so for all models).

    A model used as a layer of another brings its current weights along: they are copied when the
    other is built. Raises TypeError for what is no layer, ValueError for nodes that do not connect.

    >>> x = fnn.Input((4,))
    >>> model = Model(x, fnn.layers.Dense(2)(x), seed=0)
    >>> model.predict(np.ones((3, 4)), verbose=0).shape
    (3, 2)
    """

    _known_recipe: tuple[Any, dict[str, str]] | None = None

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
            inputs, outputs = (
                tuple(n) if isinstance(n, list) else n for n in (inputs, outputs)
            )
            layer, nodes = connect(inputs, outputs), inputs
        elif isinstance(inputs, (Weighted, Layer)):
            layer = (
                inputs.as_layer()
                if isinstance(inputs, Weighted)
                else sharing.apart(inputs)
            )
            nodes = sharing.stated_inputs(layer)
        else:
            raise TypeError(
                f"Model: expected a layer, or inputs and outputs of a graph, received {inputs!r}; "
                "e.g. x = Input((10,)), then Model(x, Dense(3)(x))"
            )
        if name is not None:
            layer = layer.replace(name=name)
        super().__init__(layer, seed, nodes)

    # -- Keras's verbs ---------------------------------------------------------------------------

    @deferring
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

        Arguments are Keras's. `class_weight` is a dict from class to weight (1 for a class that it
        leaves out), or a dict of them by the names of the outputs. The loss and what the network
        ends in tell the class of a target, also of each step or pixel.
        The last batch is filled up and the filling weighs nothing, so every row counts once an
        epoch. Data that fits stays on the device. Ctrl-C ends after a complete step, with that
        step's weights; after any error the model is as it was before the step.
        Raises ValueError for data that cannot be right, before the first step.
        """
        compiled = self._require_compiled("fit")
        callbacks = as_list(callbacks)
        with self._exclusive():
            if validation_split and validation_data is None:
                x, y, sample_weight, validation_data = self._split(
                    x, y, sample_weight, validation_split
                )
            data, objective = self._data(
                x,
                y,
                sample_weight,
                class_weight,
                batch_size,
                steps_per_epoch,
                shuffle,
                True,
            )
            validate, validates = None, checks.validation_times(validation_freq)
            if validation_data is not None:
                size = (
                    batch_size
                    if validation_batch_size is None
                    else validation_batch_size
                )
                validate = self._validation(
                    validation_data, size, validation_steps, validates, epochs
                )
            self._ensure_optimizer()
            plan = Plan(
                step=self._train_step(objective, callbacks),
                data=data,
                run=self,
                callbacks=callbacks,
                key=self._now.key,
                epochs=epochs,
                initial_epoch=initial_epoch,
                steps=steps_per_epoch,
                verbose=verbose,
                guard=compiled["guard"],
                validate=validate,
                validates=validates,
                diagnose=functools.partial(
                    diagnose, self.layer, make_loss(self.layer, objective)
                ),
                end_epoch=make_flush(self.layer, self._rule),
                end_training=functools.partial(with_average, self.layer, self._rule),
                recipe=self._recipe(objective),
            )
            return train(plan)

    def _recipe(self, objective: Any) -> dict[str, str]:
        """What the weights after a training depend on, beside its data: no metrics."""
        parts = without_rate(self._rule), objective, self.layer
        known = self._known_recipe
        if known is None or any(
            a is not b for a, b in zip(known[0], parts, strict=True)
        ):
            losses = [(goal.name, goal.loss, goal.weight) for goal in objective.goals]
            recipe = {"goals": repr((parts[0], losses)), "network": repr(self.layer)}
            known = self._known_recipe = parts, recipe
        return known[1]

    def _split(
        self, x: Any, y: Any, weight: Any, share: float
    ) -> tuple[Any, Any, Any, Any]:
        if inputs.is_stream(x):
            raise ValueError(
                "expected arrays for validation_split, received a stream of batches; "
                "give validation_data"
            )
        first, last = inputs.split_validation(self._arrays(x, y, weight), share)
        return (*first, last)

    def _validation(
        self, given: Any, size: int | None, steps: int | None, is_due: Any, epochs: int
    ) -> Any:
        """The function that validates after an epoch, if it is time: (epoch, callbacks) -> logs."""
        checks.positive_if_given(validation_steps=steps, validation_batch_size=size)
        if inputs.is_stream(given):
            if isinstance(given, Iterator) and epochs > 1 and steps is None:
                raise ValueError(
                    "expected validation_data that starts again every epoch, received an iterator; "
                    "give a function that returns it, or arrays"
                )
            data, objective = self._data(given, None, None, None, size, steps)
        else:
            x, y, weight = inputs.unpack_batch(given)
            data, objective = self._data(x, y, weight, None, size, None)
        step = make_eval_step(self.layer, objective)

        def validate(epoch: int, callbacks: CallbackList) -> dict[str, float]:
            if not is_due(epoch):
                return {}
            key = self._now.key
            carry = self._carry and (
                lambda weighted: None
            )  # the training goes on from its own
            return evaluation.evaluate(
                step,
                self._weights,
                data,
                key,
                callbacks=callbacks,
                steps=steps,
                carry=carry,
            )

        return validate

    def _train_step(self, objective: Any, callbacks: Any) -> Any:
        """The step to train with; one that also logs norms, if a callback asks for them."""
        if any(getattr(callback, "step_statistics", False) for callback in callbacks):
            return make_train_step(self.layer, objective, self._rule, True)
        return make_train_step(self.layer, objective, self._rule)

    def _weights(self) -> tuple[Any, Any]:
        return self._now.params, self._now.state

    @deferring
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
        data, objective = self._data(
            x, y, sample_weight, None, batch_size, steps, keep=False
        )
        logs = evaluation.evaluate(
            make_eval_step(self.layer, objective),
            self._weights,
            data,
            self._now.key,
            callbacks=CallbackList(
                callbacks, self, {"verbose": verbose, "steps": data.steps}
            ),
            verbose=verbose,
            steps=steps,
            carry=self._carry,
        )
        return self._as_result(logs, return_dict)

    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: Any = "auto",
        steps: int | None = None,
        callbacks: Any = None,
    ) -> Any:
        """The outputs for all rows, as NumPy arrays in the structure of the outputs.

        Needs no compile. Empty input returns empty arrays. The weights stay where they are. Layers
        that are stateful go on from batch to batch and call to call, until `reset_states`.
        """
        quiet = not verbose and steps is callbacks is None
        if quiet and self._predicts_at_once(x, batch_size):
            # JAX traces nothing here, so Ctrl-C may strike at any line.
            self.stop_predicting = False
            x = self._checked_inputs(x)
            return predict_at_once(self._run_piece(x, len(x), None), (x, len(x)))
        return self._predict(x, batch_size, verbose, steps, callbacks)

    @deferring
    def _predict(
        self,
        x: Any,
        batch_size: int | None,
        verbose: Any,
        steps: int | None,
        callbacks: Any,
    ) -> Any:
        if steps is not None:
            checks.whole_number("steps", steps, 1)
        self.stop_predicting = False
        if inputs.is_stream(x):
            return self._predict_stream(x, steps, verbose, callbacks)
        x, size = self._checked_inputs(x), batch_size_for(batch_size)
        count = tree.batch_size(x)
        if count == 0:
            return self._nothing(x)
        carry = self._carry
        if carry:
            size = self._stateful_size(batch_size)
        count = count if steps is None else min(count, steps * size)
        if count < size and not carry:
            size = (
                1 << (count - 1).bit_length()
            )  # few compilations for any number of examples
        pad = carry is not None or not count % size or self._pads(tree.resized(x, size))
        size = size if pad else min(size, count)
        end = size if pad else count % size or size
        room = self._room(size, lambda: self._pads(tree.resized(x, size)))
        if count <= size and callbacks is None and not verbose:
            (piece,) = pieces(x, count, size, 1, end, room)
            return predict_at_once(self._run_piece(piece[0], size, carry), piece)
        told = CallbackList(
            callbacks, self, {"verbose": verbose, "steps": -(-count // size)}
        )
        batch = tree.resized(x, room)
        alone = count <= size or told.watches("on_predict_begin", *PREDICT_HOOKS)
        # Batches on several devices are divided over them one by one.
        alone = alone or current() is not None or lies_on_several((x, self._now.params))
        if pad and room == size and not carry and self._runs_apart(batch, count % size):
            end = 1 << (count % size - 1).bit_length()  # few compilations here, too
        cut = pieces(x, count, size, 1 if alone else self._capacity(batch), end, room)
        run = self._run_piece(batch, size, carry)
        return predict(run, cut, size, told, verbose, -(-count // size))

    def _predict_stream(
        self, x: Any, steps: int | None, verbose: Any, callbacks: Any
    ) -> Any:
        stream = StreamData(
            x, lambda batch: self._checked_inputs(inputs.unpack_batch(batch)[0]), remainder="pad",
            steps=steps, apart=lambda spec: not self._pads(spec[0]),
        )  # fmt: skip
        spec, size = stream.batch_spec(), stream.batch_size
        stream.room = self._room(size, lambda: not stream.apart(spec))
        batch, _ = stream.batch_spec()
        with interruptible() as interrupt:  # the one of the whole verb
            chunks = stream.chunks(0, 1, steps, interrupt.poll)
        batches: Generator[Any] = (
            (jax.tree.map(lambda a: a[0], arrays), int(rows.sum()))
            for (arrays, rows), _ in chunks
        )
        told = CallbackList(
            callbacks, self, {"verbose": verbose, "steps": stream.steps}
        )
        return predict(
            self._run_piece(batch, size, self._carry),
            batches,
            size,
            told,
            verbose,
            stream.steps,
        )

    def _stateful_size(self, given: int | None) -> int:
        """The batch size of a network that keeps a state for each example of a batch."""
        size = tree.batch_size(self._trial())
        if given not in (None, size):
            raise ValueError(
                f"the model {self.name!r} is stateful and keeps states for batches of {size}; pass "
                f"batch_size={size} or leave it out"
            )
        return size

    def _pads(self, batch: Any) -> bool:
        """Whether fewer examples may be padded to a batch like this one."""
        now = self._now
        return (
            why_not_padded_in_prediction(self.layer, now.params, now.state, batch)
            is None
        )

    def _capacity(self, batch: Any) -> int:
        """How many batches like this one go into one dispatch."""
        now = self._now
        return self._predictor(batch).capacity(now.params, now.state, batch)

    def _runs_apart(self, batch: Any, valid: int) -> bool:
        """Whether a last batch of so few examples gets a program of its own."""
        now, size = self._now, tree.batch_size(batch)
        if not valid:
            return False
        return runs_apart(
            self._predictor(batch).work(now.params, now.state, batch), valid, size
        )

    def _run_piece(self, batch: Any, size: int, carry: Any) -> Any:
        """The function that dispatches a piece, of batches of `size`, with the weights of then.

        Pieces hold batches like `batch`, or are one of fewer examples.
        """
        whole = self._predictor(batch)

        def run(x: Any, valid: int) -> Any:
            params, moving, x = self._placed(x)
            program = whole if tree.batch_size(x) >= size else self._predictor(x)
            if valid > size:
                count = np.int32(-(-valid // size))
                outputs, state = program.loop(params, moving, x, count, size)
            else:
                outputs, state = program.step(params, moving, x)
            if carry:
                carry((params, state))
            return outputs

        return run

    def _nothing(self, x: Any) -> Any:
        now = self._now
        spec = strip_masks(applied_spec(self.layer, now.params, now.state, x))
        return jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), spec)

    # -- files -----------------------------------------------------------------------------------

    def save(self, path: Any, overwrite: bool = True) -> None:
        """Writes the network and its weights into one file, whole or not at all.

        A zip of JSON and safetensors, read by `fnn.load`, whatever the file is called: a script may
        go on to say "best.keras", but Keras cannot read it. The optimizer's state is not in it
        (`callbacks.BackupAndRestore` keeps it). Raises ValueError for a function or layer that has
        no registered name, FileExistsError with `overwrite=False`.
        """
        archive.save_model(self, path, overwrite=overwrite)

    def save_weights(self, path: Any, overwrite: bool = True) -> None:
        """Writes the weights alone, as a safetensors file with a checksum, whatever its name."""
        archive.save_weights(self, path, overwrite=overwrite)

    def load_weights(self, path: Any) -> None:
        """Takes the weights of a file by `save_weights` or `save`, verified. All or nothing.

        Raises FileError, a ValueError, listing every path that is missing, unexpected or misshapen.
        """
        archive.load_weights(self, path)
