"""Feed: the data that a user passes, checked and as arrays or batches for a step."""

from __future__ import annotations

from typing import TypeAlias

import jax
import numpy as np

from fnn.core import tree
from fnn.core.tree import SpecTree, Tree
from fnn.models.network import Network
from fnn.models.program import Program
from fnn.models.weights import Weights
from fnn.runtime.devices import current
from fnn.runtime.process import check_process
from fnn.symbolic.node import Node, input_specs
from fnn.training import checks, inputs
from fnn.training.class_weights import class_weights
from fnn.training.data import ArrayData, key_numbers
from fnn.training.objective import Objective
from fnn.training.ragged import (
    why_not_padded,
    why_not_padded_in_evaluation,
    why_not_padded_in_prediction,
)
from fnn.training.stream import StreamData

Data: TypeAlias = ArrayData | StreamData
Arrays: TypeAlias = dict[str, Tree]  # {"x": ..., "y": (...), "weight": (...)}


class Feed:
    """Reads data for a network; makes its weights at the first data where that was not possible."""

    def __init__(self, weights: Weights, program: Program) -> None:
        self.weights = weights
        self.program = program

    # -- arrays ----------------------------------------------------------------------------------

    def inputs(self, x: Tree, several: bool = False) -> Tree:
        """`x` as arrays in the structure of the network's inputs, with the right number of axes."""
        check_process()
        nodes = self.weights.network.inputs
        built = self.weights.built
        several = several or isinstance(nodes, (tuple, dict))
        if built and not several:
            inputs.refuse_several(x, nodes)
        if not built:
            several = several or inputs.are_arrays(x)
        x = inputs.as_inputs(x, several, finite=self.program.checks_values)
        if not built:
            self.weights.build_for(jax.tree.map(_free_batch, x))
            nodes = self.weights.network.inputs
        x = inputs.by_node(x, nodes)
        inputs.check_axes(x, nodes)
        return x

    def checked_inputs(self, x: Tree) -> Tree:
        """`inputs`, with shapes and values that the network accepts."""
        given = x
        network = self.weights.network
        if type(x) is np.ndarray and network.takes_as_it_is == (x.shape, x.dtype):
            check_process()
            if self.program.checks_values:
                checks.check_finite("x", x)
            checks.input_values(network.layer, x)
            return x
        x = self.inputs(x)
        if not hasattr(x, "shape"):
            checks.example_count({"x": x})
        network = self.weights.network
        network.check_accepts(x)
        checks.input_values(network.layer, x)
        if x is given and type(x) is np.ndarray and checks.is_working_dtype(x.dtype):
            network.takes_as_it_is = x.shape, x.dtype
        return x

    def arrays(self, x: Tree, y: Tree = None, weight: Tree = None) -> Arrays:
        """What a step takes: inputs, targets and sample weights, of equal length."""
        x = self.inputs(x)
        names = self.weights.network.output_names
        targets = inputs.as_targets(y, names, self.program.checks_values)
        weights = inputs.as_weights(weight, targets, names)
        arrays = {"x": x, "y": targets, "weight": weights}
        checks.example_count(arrays)
        return arrays

    def goals(
        self, x: Tree, y: Tree, weight: Tree, classes: Tree = None
    ) -> tuple[Arrays, Objective]:
        """(arrays, objective) for training or evaluation; `classes` are class weights."""
        if classes is not None and weight is not None:
            raise ValueError(
                "expected sample_weight or class_weight, received both; multiply them yourself"
            )
        arrays = self.arrays(x, y, weight)
        if not tree.batch_size(arrays):
            raise ValueError(
                "expected samples, received an empty batch or empty arrays"
            )
        objective = self.program.resolve(arrays)
        if classes is not None:
            network = self.weights.network
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
        if inputs.is_stream(x):
            _require_none(y=y, sample_weight=weight, class_weight=classes)
            return self._stream(x, steps, train)
        arrays, objective = self.goals(x, y, weight, classes)
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
        self, x: Tree, steps: int | None, train: bool
    ) -> tuple[Data, Objective]:
        """(a stream of batches, objective); reads and checks the first batch."""
        objectives: list[Objective] = []

        def prepare(batch: Tree) -> Arrays:
            arrays = self.arrays(*inputs.unpack_batch(batch))
            if objectives:
                self.program.check_values(objectives[0], arrays)
            else:
                objectives.append(self.program.resolve(arrays))
            return arrays

        def mixes(spec: SpecTree) -> bool:
            return self._mixes(objectives[0], spec, train)

        stream = StreamData(
            x, prepare, remainder="pad", steps=steps, continues=train, apart=mixes
        )
        # Prepares the first batch.
        stream.batch_spec()
        self._make_room(stream)
        return stream, objectives[0]

    def stream_of_inputs(self, x: Tree, steps: int | None) -> StreamData:
        """A stream of batches for `predict`; targets and weights in it are left out."""

        def prepare(batch: Tree) -> Tree:
            return self.checked_inputs(inputs.unpack_batch(batch)[0])

        def mixes(spec: SpecTree) -> bool:
            return not pads(self.weights, spec[0])

        stream = StreamData(x, prepare, remainder="pad", steps=steps, apart=mixes)
        stream.batch_spec()
        self._make_room(stream)
        return stream

    def _make_room(self, data: Data) -> None:
        """Pads batches to a size that the devices divide, where padding changes nothing."""
        size = data.batch_size
        data.room = size
        room = room_for(self.weights.network, size)
        if room != size and not data.apart(data.batch_spec()):
            data.room = room

    def _mixes(self, objective: Objective, spec: SpecTree, train: bool) -> bool:
        """Whether padding a batch would change what is computed from its examples."""
        why = why_not_padded if train else why_not_padded_in_evaluation
        layer = self.weights.network.layer
        return why(layer, objective, self.weights.now, spec) is not None

    def split(
        self, x: Tree, y: Tree, weight: Tree, fraction: float
    ) -> tuple[Tree, ...]:
        """(x, y, sample_weight, validation data): the last `fraction` of the examples."""
        if inputs.is_stream(x):
            raise ValueError(
                "validation_split needs arrays, but x is a stream of batches; pass validation_data"
            )
        first, last = inputs.split_validation(self.arrays(x, y, weight), fraction)
        return (*first, last)


def pads(weights: Weights, batch: SpecTree) -> bool:
    """Whether fewer examples may be padded to a batch like this one in `predict`."""
    now, layer = weights.now, weights.network.layer
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


def _free_batch(array: Tree) -> Node:
    """An input node like an array, for any number of examples."""
    return Node(None, (), input_specs((None, *array.shape[1:]), array.dtype))


def _require_none(**arguments: object) -> None:
    given = [name for name, value in arguments.items() if value is not None]
    if given:
        raise ValueError(
            f"a stream must bring its own targets and weights, but {given} came beside it; "
            "yield (x, y) or (x, y, sample_weight)"
        )
