"""Feed: the data that a user passes, checked and as arrays or batches for a step."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import TypeAlias

import jax
import numpy as np

from fnn.core import tree
from fnn.core.tree import SpecTree, Tree
from fnn.data.batches import Batches
from fnn.data.splits import Split
from fnn.models.network import Network
from fnn.models.program import Program
from fnn.models.weights import Weights
from fnn.models.wiring import free_batch
from fnn.preprocessing.host_layer import has_free_lengths
from fnn.runtime.layouts import current
from fnn.runtime.process import check_process
from fnn.training import checks, examples, inputs, sources
from fnn.training.class_weights import class_weights
from fnn.training.data import ArrayData, key_numbers
from fnn.training.examples import Collector
from fnn.training.lazy import reads_lazily
from fnn.training.objective import Objective
from fnn.training.ragged import (
    why_not_padded,
    why_not_padded_in_evaluation,
    why_not_padded_in_prediction,
)
from fnn.training.shares import room_for_hosts
from fnn.training.stream import StreamData

Data: TypeAlias = ArrayData | StreamData
Arrays: TypeAlias = dict[str, Tree]  # {"x": ..., "y": (...), "weight": (...)}


class Feed:
    """Reads data for a network; makes its weights at the first data where that was not possible."""

    def __init__(self, weights: Weights, program: Program) -> None:
        self.weights = weights
        self.program = program

    # -- arrays ----------------------------------------------------------------------------------

    def inputs(
        self,
        x: Tree,
        several: bool = False,
        lazy: bool = False,
        in_stream: bool = False,
    ) -> Tree:
        """`x` as arrays for the compiled part: what runs on the host has run.

        With `lazy`, examples of large arrays are read when a batch needs them.
        """
        x = self.given(x, several, lazy)
        return self.weights.network.on_host(x, lazy, in_stream)

    def given(self, x: Tree, several: bool = False, lazy: bool = False) -> Tree:
        """`x` as arrays in the structure of the network's inputs, with the right number of axes."""
        check_process()
        network = self.weights.network
        nodes = network.inputs
        built = self.weights.built
        several = several or isinstance(nodes, (tuple, dict))
        if built and not several:
            inputs.refuse_several(x, nodes)
        if not built:
            several = several or inputs.are_arrays(x)
        strings = network.takes_strings
        finite = self.program.checks_values
        x = inputs.as_inputs(x, several, finite=finite, lazy=lazy, strings=strings)
        if not built:
            self.weights.build_for(jax.tree.map(free_batch, x))
            network = self.weights.network
            nodes = network.inputs
        x = inputs.with_axes(inputs.by_node(x, nodes), nodes)
        network.check_given(x, self.weights.now.state)
        return x

    def checked_inputs(
        self, x: Tree, lazy: bool = False, in_stream: bool = False
    ) -> Tree:
        """`inputs`, with shapes and values that the network accepts."""
        given = x
        network = self.weights.network.compiled
        is_array = type(x) is np.ndarray or isinstance(x, jax.Array)
        known = is_array and network.takes_as_it_is == tree.kind(x)
        if known and not (lazy and reads_lazily(x)):
            check_process()
            self.check_values(x)
            return x
        x = self.inputs(x, lazy=lazy, in_stream=in_stream)
        if not hasattr(x, "shape"):
            checks.example_count({"x": x})
        network = self.weights.network.compiled
        network.check_accepts(x)
        network.check_values(x)
        if x is given and is_array and checks.is_working_dtype(x.dtype):
            network.takes_as_it_is = tree.kind(x)
        return x

    def check_values(self, x: Tree) -> None:
        """Raises ValueError for values of an array that the network does not take."""
        if self.program.checks_values:
            checks.check_finite("x", x)
        self.weights.network.compiled.check_values(x)

    def arrays(
        self,
        x: Tree,
        y: Tree = None,
        weight: Tree = None,
        lazy: bool = False,
        in_stream: bool = False,
    ) -> Arrays:
        """What a step takes: inputs, targets and sample weights, of equal length."""
        arrays = self.given_arrays(x, y, weight, lazy)
        x = self.weights.network.on_host(arrays["x"], lazy, in_stream)
        return {**arrays, "x": x}

    def given_arrays(self, x: Tree, y: Tree, weight: Tree, lazy: bool) -> Arrays:
        """`arrays`, before what runs on the host has run."""
        x = self.given(x, lazy=lazy)
        network = self.weights.network
        names, outputs = network.output_names, network.output_structure
        y = inputs.flat(y, outputs)
        weight = inputs.flat(weight, outputs)
        targets = inputs.as_targets(y, names, self.program.checks_values, lazy)
        weights = inputs.as_weights(weight, targets, names)
        arrays = {"x": x, "y": targets, "weight": weights}
        checks.example_count(arrays)
        return arrays

    def goals(
        self,
        x: Tree,
        y: Tree,
        weight: Tree,
        classes: Tree = None,
        train: bool = True,
        lazy: bool = False,
    ) -> tuple[Arrays, Objective]:
        """(arrays, objective) for training or evaluation; `classes` are class weights."""
        if classes is not None and weight is not None:
            raise ValueError(
                "expected sample_weight or class_weight, received both; multiply them yourself"
            )
        arrays = self.arrays(x, y, weight, lazy)
        if not tree.batch_size(arrays):
            raise ValueError(
                "expected samples, received an empty batch or empty arrays"
            )
        objective = self.program.resolve(arrays)
        if classes is not None:
            network = self.weights.network.compiled
            outputs = network.output_specs(arrays["x"])
            ends = network.last_activations(arrays["x"])
            arrays["weight"] = class_weights(
                classes, arrays["y"], objective, outputs, ends
            )
        return arrays, objective

    # -- batches ---------------------------------------------------------------------------------

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
        """(batches, objective) for `fit` (`train`) or `evaluate`.

        `keep`: small arrays stay on the device from one pass to the next.
        """
        if steps is not None:
            checks.as_integer("steps", steps, 1)
        x, y, weight = self.readable(x, y, weight)
        if sources.is_stream(x):
            _require_none(y=y, sample_weight=weight, class_weight=classes)
            return self._stream(x, batch_size, steps, train, bool(shuffle))
        arrays, objective = self.goals(x, y, weight, classes, train, lazy=True)
        count = tree.batch_size(arrays)
        if batch_size is None and steps and count > 1:
            batch_size = -(-count // steps)

        def mixes(spec: SpecTree) -> bool:
            return self._mixes(objective, spec, train)

        data = ArrayData(
            arrays,
            checked_batch_size(batch_size),
            shuffle=shuffle,
            seed=key_numbers(self.weights.now.key),
            remainder="pad",
            keep=keep,
            apart=mixes,
        )
        self._make_room(data)
        return data, objective

    def _stream(
        self,
        x: Tree,
        batch_size: int | None,
        steps: int | None,
        train: bool,
        shuffle: bool,
    ) -> tuple[Data, Objective]:
        """(a stream of batches, objective); reads and checks the first batch."""
        seed = key_numbers(self.weights.key) if shuffle else None
        objectives: list[Objective] = []

        def prepare(batch: Tree) -> Arrays:
            arrays = self.arrays(*self._unpack(batch), in_stream=True)
            if objectives:
                self.program.check_values(objectives[0], arrays)
            else:
                objectives.append(self.program.resolve(arrays))
            return arrays

        def mixes(spec: SpecTree) -> bool:
            return self._mixes(objectives[0], spec, train)

        stream = StreamData(
            *self._source(x, batch_size),
            prepare,
            remainder="pad",
            steps=steps,
            continues=train,
            apart=mixes,
            seed=seed,
            varies=has_free_lengths(self.weights.network.layer),
        )
        # Prepares the first batch.
        stream.batch_spec()
        self._make_room(stream)
        return stream, objectives[0]

    def stream_of_inputs(
        self, x: Tree, batch_size: int | None, steps: int | None
    ) -> StreamData:
        """A stream of batches for `predict`; targets and weights in it are left out."""

        def prepare(batch: Tree) -> Tree:
            names = self.weights.network.names_of_data
            given = sources.unpack_batch(batch, names)[0]
            return self.checked_inputs(given, in_stream=True)

        def mixes(spec: SpecTree) -> bool:
            return not pads(self.weights, spec[0])

        source, collect = self._source(x, batch_size)
        stream = StreamData(
            source,
            collect,
            prepare,
            remainder="pad",
            steps=steps,
            apart=mixes,
            varies=has_free_lengths(self.weights.network.layer),
            shared=False,
        )
        stream.batch_spec()
        self._make_room(stream)
        return stream

    def _source(self, x: Tree, batch_size: int | None) -> tuple[Tree, Collector]:
        """A source of batches, or of examples by their numbers, and what collects others."""
        size = checked_batch_size(batch_size)
        source = examples.as_batches(x, self._is_example, size)
        is_example = functools.partial(self._is_example, unless_batch=True)
        return source, Collector(is_example, size)

    def _is_example(self, item: Tree, unless_batch: bool = False) -> bool:
        """Whether an item of a stream is a single example, rather than a batch."""
        parts = self._unpack(item)
        nodes = self.weights.network.inputs
        if nodes is None:
            return examples.is_example(parts)
        return examples.is_example_of(parts, nodes, unless_batch)

    def _unpack(self, batch: Tree) -> tuple[Tree, Tree, Tree]:
        """(x, y, sample_weight) of a batch or an example, which may be a dict by names."""
        names = self.weights.network.names_of_data
        return sources.unpack_batch(batch, names, self.program.needs_targets)

    def readable(self, x: Tree, y: Tree = None, weight: Tree = None) -> list[Tree]:
        """Data of other libraries in forms that the rest of fnn reads."""
        x, y, weight = map(sources.readable, (x, y, weight))
        if not hasattr(x, "columns"):
            return [x, y, weight]
        return sources.by_column(x, y, weight, self.weights.network.names_of_data)

    def _make_room(self, data: Data) -> None:
        """Pads batches to a size that the devices divide, where padding changes nothing."""
        size = data.batch_size
        data.room = size
        if current() is None:
            return
        room = room_for(self.weights.network, size)
        if isinstance(data, StreamData) and data.hosts > 1:
            room = room_for_hosts(data)
        if room != size and not data.apart(data.batch_spec()):
            data.room = room

    def _mixes(self, objective: Objective, spec: SpecTree, train: bool) -> bool:
        """Whether padding a batch would change what is computed from its examples."""
        why = why_not_padded if train else why_not_padded_in_evaluation
        layer = self.weights.network.compiled.layer
        return why(layer, objective, self.weights.now, spec) is not None

    def split(
        self, x: Tree, y: Tree, weight: Tree, split: float | Split
    ) -> tuple[Tree, ...]:
        """(x, y, sample_weight, validation data): a fraction are the last examples."""
        if isinstance(x, Batches):
            _require_none(y=y, sample_weight=weight)
            if not isinstance(split, Split):
                split = Split(split, shuffle=False)
            train, valid = split(x)
            return train, None, None, valid
        if sources.is_stream(x):
            raise ValueError(
                "validation_split needs arrays or a stream of fnn.data that is made by index, but "
                f"x is a {type(x).__name__}; pass validation_data"
            )
        arrays = self.given_arrays(x, y, weight, lazy=True)
        first, last = inputs.split_validation(arrays, split)
        return (*first, last)


def pads(weights: Weights, batch: SpecTree) -> bool:
    """Whether fewer examples may be padded to a batch like this one in `predict`."""
    now, layer = weights.now, weights.network.compiled.layer
    return why_not_padded_in_prediction(layer, now.params, now.state, batch) is None


def room_for(network: Network, size: int) -> int:
    """The size to which batches of `size` would be padded, so that the devices divide it."""
    distribution = current()
    if distribution is None or size < distribution.parts or network.is_stateful:
        return size
    return distribution.room(size)


def checked_batch_size(given: int | None) -> int:
    """The batch size, 32 if none is given. Raises for what is not a positive integer."""
    if given is None:
        return 32
    return checks.as_integer("batch_size", given, 1)


def in_batches(arrays: Tree, size: int, steps: int | None = None) -> Iterator[Tree]:
    """The examples of some arrays in batches, the last of which may be smaller."""
    for start in range(0, tree.batch_size(arrays), size)[:steps]:
        yield jax.tree.map(lambda a: a[start : start + size], arrays)  # noqa: B023


def _require_none(**arguments: object) -> None:
    given = [name for name, value in arguments.items() if value is not None]
    if given:
        raise ValueError(
            f"a stream must bring its own targets and weights, but {given} came beside it; "
            "yield (x, y) or (x, y, sample_weight)"
        )
