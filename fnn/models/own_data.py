"""Own data: batches in the structures that a user passed, for steps and objectives of its own."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from fnn.core import tree
from fnn.core.tree import SpecTree, Tree
from fnn.data.batches import Batches
from fnn.data.splits import Split
from fnn.models.feed import Arrays, Data, Feed, checked_batch_size, in_batches
from fnn.models.own_steps import NO_GOALS, StepProgram
from fnn.training import checks, inputs, sources
from fnn.training.data import ArrayData, key_numbers
from fnn.training.hooks import CallbackList
from fnn.training.objective import Objective
from fnn.training.places import called, in_order
from fnn.training.prediction import in_full
from fnn.training.stream import StreamData


class StepFeed(Feed):
    """The data of a model that may have a step or an objective of its own: of any structure."""

    def own_arrays(
        self,
        x: Tree,
        y: Tree = None,
        weight: Tree = None,
        lazy: bool = False,
    ) -> Arrays:
        """What such a step takes: arrays in the structures that the user passed."""
        parts = {"x": x, "y": y, "weight": weight}
        arrays = {name: _as_arrays(name, part, lazy) for name, part in parts.items()}
        if not self.weights.built:
            self.program.build_from(self, arrays["x"])
        checks.example_count(arrays)
        return arrays

    def _own(self, train: bool) -> bool:
        return self.program.takes_any("train_step" if train else "test_step")

    def goals(
        self,
        x: Tree,
        y: Tree,
        weight: Tree,
        classes: Tree = None,
        train: bool = True,
        lazy: bool = False,
    ) -> tuple[Arrays, Objective]:
        if not self._own(train):
            return super().goals(x, y, weight, classes, train, lazy)
        if classes is not None:
            weight = _class_weights(classes, y)
        arrays = self.own_arrays(x, y, weight, lazy)
        return arrays, self._resolve(arrays)

    def _unpack(self, batch: Tree) -> tuple[Tree, Tree, Tree]:
        if self._own(True) or self._own(False):
            # As in Keras, such a class takes a dict whole.
            return sources.unpack_batch(batch)
        return super()._unpack(batch)

    def _resolve(self, arrays: Arrays) -> Objective:
        """The objective; finds the compiled metrics for these arrays, if the model has outputs."""
        if self.program.own_objective is not None:
            return self.program.resolve(arrays)
        network = self.weights.network
        given = self.program.compiled
        wants = given.arguments["loss"] is not None or len(given.trackers) > 1
        if not wants or arrays["y"] is None or network.inputs is None:
            return NO_GOALS
        y_pred = network.output_spec(as_tuples(arrays["x"]))
        names = self.program.output_names(y_pred)
        given.resolve(arrays["y"], y_pred, names)
        return NO_GOALS

    def data(
        self,
        x: Tree,
        y: Tree = None,
        weight: Tree = None,
        classes: Tree = None,
        *,
        batch_size: int | None = None,
        steps: int | None = None,
        shuffle: bool | str = False,
        train: bool = False,
        keep: bool = True,
    ) -> tuple[Data, Objective]:
        if not self._own(train):
            return super().data(
                x,
                y,
                weight,
                classes,
                batch_size=batch_size,
                steps=steps,
                shuffle=shuffle,
                train=train,
                keep=keep,
            )
        x, y, weight = self.readable(x, y, weight)
        if sources.is_stream(x):
            return self._own_stream(x, batch_size, steps, train)
        arrays, objective = self.goals(x, y, weight, classes, train, lazy=True)
        count = tree.batch_size(arrays)
        if batch_size is None and steps and count > 1:
            batch_size = -(-count // steps)
        seed = key_numbers(self.weights.now.key)
        size = checked_batch_size(batch_size)
        # Every batch runs at its own size: the step may compute anything from it.
        data = ArrayData(
            arrays,
            size,
            shuffle=shuffle,
            seed=seed,
            remainder="pad",
            keep=keep,
            apart=_always,
        )
        return data, objective

    def _own_stream(
        self, x: Tree, batch_size: int | None, steps: int | None, train: bool
    ) -> tuple[Data, Objective]:
        objectives: list[Objective] = []

        def prepare(batch: Tree) -> Arrays:
            arrays = self.own_arrays(*sources.unpack_batch(batch))
            objectives[:] = [self._resolve(arrays)]
            return arrays

        stream = StreamData(
            *self._source(x, batch_size),
            prepare,
            remainder="pad",
            steps=steps,
            continues=train,
            apart=_always,
        )
        stream.batch_spec()
        return stream, objectives[0]

    def own_inputs(
        self, x: Tree, batch_size: int | None, steps: int | None
    ) -> Iterator[Tree]:
        """The inputs of each batch of a stream."""
        source, collect = self._source(x, batch_size)
        items = collect(in_order(called(source)))
        return (self._unpack(item)[0] for item in itertools.islice(items, steps))

    def split(
        self, x: Tree, y: Tree, weight: Tree, split: float | Split
    ) -> tuple[Tree, ...]:
        if not self._own(True) or isinstance(x, Batches):
            return super().split(x, y, weight, split)
        arrays = self.own_arrays(x, y, weight)
        count = tree.batch_size(arrays)
        train, valid = inputs.split_rows(count, split, arrays["y"])
        return (*_cut(arrays, train), _cut(arrays, valid))


def own_predictions(
    feed: StepFeed,
    x: Tree,
    batch_size: int | None,
    steps: int | None,
    listen: Callable[[int | None], CallbackList],
) -> Tree:
    """The outputs of `predict_step` of the class for all batches, joined."""
    program = feed.program
    assert isinstance(program, StepProgram)
    batches: Iterator[Tree]
    if sources.is_stream(x):
        batches = feed.own_inputs(x, batch_size, steps)
    else:
        arrays = feed.own_arrays(x)["x"]
        batches = in_batches(arrays, checked_batch_size(batch_size), steps)
    found = []
    callbacks = listen(steps)
    callbacks.begin("predict")
    for number, batch in enumerate(batches):
        callbacks.call("on_predict_batch_begin", number, {})
        arrays = feed.own_arrays(batch)
        outputs = program.predict_step()(feed.weights.now, arrays)
        outputs = jax.tree.map(lambda y: in_full(np.asarray(y)), outputs)
        found.append(outputs)
        callbacks.call("on_predict_batch_end", number, {"outputs": outputs})
    callbacks.end("predict", {})
    return jax.tree.map(lambda *parts: np.concatenate(parts), *found)


def _cut(arrays: Arrays, examples: inputs.Rows) -> tuple[Tree, Tree, Tree]:
    """(x, y, sample_weight) of some examples."""
    part = jax.tree.map(lambda a: a[examples], arrays)
    return part["x"], part["y"], part["weight"]


def as_tuples(x: Tree) -> Tree:
    """Inputs in the structure of a network's nodes."""
    if isinstance(x, list):
        return tuple(x)
    return x


def _always(spec: SpecTree) -> bool:
    return True


def _as_arrays(name: str, value: Tree, lazy: bool) -> Tree:
    """A structure of arrays; a list of numbers is an array."""
    if isinstance(value, dict):
        return {
            key: _as_arrays(f"{name}[{key!r}]", part, lazy)
            for key, part in value.items()
        }
    if isinstance(value, (list, tuple)) and any(map(_is_part, value)):
        return [_as_arrays(name, part, lazy) for part in value]
    if value is None:
        return None
    return checks.as_array(name, value, lazy)


def _is_part(value: object) -> bool:
    return hasattr(value, "shape") or isinstance(value, (list, tuple, dict))


def _class_weights(classes: dict[Any, float], y: Tree) -> np.ndarray:
    """The weight of each example, by its class: an integer, or the largest of several numbers."""
    leaves = jax.tree.leaves(y)
    if isinstance(y, (dict, list, tuple)) and any(map(_is_part, leaves)):
        raise ValueError(
            "expected targets of one output beside class_weight for a class with steps of its own, "
            f"as in Keras, received {type(y).__name__} of several; pass sample_weight"
        )
    labels = np.asarray(y)
    if labels.ndim > 1 and labels.shape[-1] > 1:
        labels = labels.argmax(-1)
    flat = labels.reshape(len(labels)).astype(int)
    weights = [classes.get(int(label), 1.0) for label in flat]
    return np.array(weights, np.float32)
