"""Attributes: the attributes of a model as in Keras: weights, layers, nodes, shapes, names."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, ClassVar, TypeAlias

import jax
import numpy as np

from fnn import summaries
from fnn.core import arguments
from fnn.core.calling import walk
from fnn.core.layer import Layer
from fnn.core.tree import Tree
from fnn.models import sharing
from fnn.models.network import Network, nodes_of_shape
from fnn.models.program import Program
from fnn.models.weights import Weights
from fnn.optimizers.bound import BoundOptimizer
from fnn.saving import archive
from fnn.symbolic.node import Node
from fnn.training.state import TrainState

Filename: TypeAlias = str | os.PathLike[str]


class Attributes:
    """The attributes and small methods of a model, each answered by its network or its weights."""

    attribute_advice: ClassVar[dict[str, str]] = {}  # for attributes of other libraries

    _weights: Weights
    _program: Program
    # Keeps the layer that other networks use, so that it stays the same object.
    _used_as: Layer | None = None

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> object:
            raise arguments.no_attribute(self, name, self.attribute_advice)

    @property
    def _network(self) -> Network:
        return self._weights.network

    # -- weights ---------------------------------------------------------------------------------

    @property
    def built(self) -> bool:
        """Whether the weights have been made."""
        return self._weights.built

    def build(self, input_shape: Tree) -> None:
        """Makes the weights for inputs of this shape, the batch included: `(None, 28, 28, 1)`."""
        self._weights.build_for(nodes_of_shape(input_shape))

    @property
    def train_state(self) -> TrainState:
        """Everything that training changes, as one pytree; assign one to continue from it.

        An array assigned inside its dicts counts too, as with `params`.
        """
        return self._weights.shown

    @train_state.setter
    def train_state(self, state: TrainState) -> None:
        self._weights.shown = state

    @property
    def params(self) -> Tree:
        """The weights that gradients change, in nested dicts by layer.

        Assign a tree like it to replace all, or an array inside it to replace one: `params[
        "dense"]["bias"] = array` is checked and takes effect at the next use of the model, or of
        a model that shares its layers. After training, or after weights were assigned in any of
        these models, a tree that was read before shows the old weights.
        """
        return self._weights.ordered[0]

    @params.setter
    def params(self, params: Tree) -> None:
        self._weights.set_params(params)

    @property
    def state(self) -> Tree:
        """What changes without gradients (running averages), in nested dicts like `params`."""
        return self._weights.ordered[1]

    @state.setter
    def state(self, state: Tree) -> None:
        self._weights.set_state(state)

    def get_weights(self) -> list[np.ndarray]:
        """All weights as NumPy arrays, layer by layer, `params` before `state`."""
        return self._weights.get()

    def set_weights(self, arrays: list[Tree]) -> None:
        """Replaces all weights, in the order of `get_weights`. All or nothing.

        Raises ValueError that lists every place where number or shape differ.
        """
        self._weights.set(arrays)

    @property
    def weights(self) -> list[jax.Array]:
        """All weights as arrays on the device, in the order of `get_weights`."""
        return [entry.array for entry in self._weights.entries()]

    @property
    def trainable_weights(self) -> list[jax.Array]:
        """The weights that gradients change: neither of frozen layers nor running averages."""
        return [array for array, learns in self._weights.with_learning() if learns]

    @property
    def non_trainable_weights(self) -> list[jax.Array]:
        """The weights of frozen layers, and running averages."""
        return [array for array, learns in self._weights.with_learning() if not learns]

    def count_params(self) -> int:
        """The number of scalars in all weights, running averages included."""
        return self._weights.count()

    def reset_states(self) -> None:
        """Sets the states that recurrent layers with `stateful=True` carry on back to zeros."""
        self._weights.reset_recurrent_states()

    def as_layer(self) -> Layer:
        """The pure network for use inside another one, which shares the weights of this model."""
        self._used_as = self._weights.as_layer()
        return self._used_as

    def __iter__(self) -> Iterator[Callable[..., Tree]]:
        """`init, apply = model`: the pair of the pure network."""
        return iter(self.layer)

    # -- layers ----------------------------------------------------------------------------------

    @property
    def layer(self) -> Layer:
        """The pure network: `init, apply = model.layer`."""
        return self._network.layer

    @property
    def name(self) -> str:
        """The name of the model."""
        return self._network.name

    @name.setter
    def name(self, name: str) -> None:
        self._weights.network = self._network.with_name(name)

    @property
    def layers(self) -> list[Layer]:
        """The layers directly inside, in order."""
        return self._network.layers

    def get_layer(self, name: str | None = None, index: int | None = None) -> Layer:
        """The layer of that name or at that index. Raises ValueError with the names there are."""
        return self._network.get_layer(name, index)

    @property
    def trainable(self) -> bool:
        """False: training changes no weight of this model. Compile again after setting it."""
        return self.layer.trainable

    @trainable.setter
    def trainable(self, trainable: bool) -> None:
        self._weights.change_layer(self.layer.replace(trainable=bool(trainable)))

    def freeze(self, *layers: Layer | str) -> None:
        """Keeps the weights of these layers, and batch statistics in them, as they are.

        What Keras does by `layer.trainable = False` for layers of a model. Layers are given by
        name or as the objects in `model.layers`. Compile again afterwards. Raises ValueError for
        a layer that is not in the model.

        >>> model = fnn.Sequential([fnn.layers.Dense(2, input_shape=(4,)), fnn.layers.Dense(1)])
        >>> model.freeze(*model.layers[:-1])
        >>> [layer.trainable for layer in model.layers]
        [False, True]
        """
        self._set_trainable(layers, False)

    def unfreeze(self, *layers: Layer | str) -> None:
        """Lets training change the weights of these layers again; the opposite of `freeze`."""
        self._set_trainable(layers, True)

    def _set_trainable(self, chosen: tuple[Layer | str, ...], trainable: bool) -> None:
        inside = {id(layer) for path, layer, _ in walk(self.layer) if path}
        swaps = {}
        for one in chosen:
            layer = self.get_layer(one) if isinstance(one, str) else one
            if id(layer) not in inside:
                raise ValueError(
                    f"expected layers of {self.name!r}, received {layer!r}, which is not one of "
                    "its objects (freeze replaces them); pass names, or objects of model.layers"
                )
            changed = layer.replace(trainable=trainable)
            owner = sharing.owner_of(layer)
            if owner is not None:
                owner.mark(changed)
            swaps[id(layer)] = changed
        self._weights.change_layer(sharing.swapped(self.layer, swaps))

    # -- optimizer and metrics -------------------------------------------------------------------

    @property
    def optimizer(self) -> BoundOptimizer:
        """The optimizer that `compile` was given, with the current learning rate.

        `model.optimizer.learning_rate = 0.01` sets it, as `model.learning_rate = 0.01` does.
        """
        return BoundOptimizer(self._program.optimizer, self._program)

    @property
    def learning_rate(self) -> Tree:
        """The learning rate of the next step; None for an optimizer that does not show it."""
        return self._program.learning_rate

    @learning_rate.setter
    def learning_rate(self, value: Tree) -> None:
        self._program.set_learning_rate(value)

    @property
    def metrics_names(self) -> list[str]:
        """The names of the numbers that `evaluate` returns, in Keras's order.

        The loss, the losses of several outputs, then metrics: as compiled for one output, sorted
        for several. They are known after the first data.
        """
        return self._program.metrics_names

    def metric_directions(self) -> dict[str, str | None]:
        """For each metric whether more ("max") or less ("min") is better."""
        return self._program.metric_directions

    # -- nodes, shapes, names --------------------------------------------------------------------

    @property
    def input(self) -> Tree:
        """The node of the inputs, or their structure; a graph may start inside a model.

        >>> model = fnn.Sequential([fnn.layers.Dense(2, input_shape=(4,)), fnn.layers.Dense(1)])
        >>> fnn.Model(model.input, model.layers[0].output).output_shape
        (None, 2)
        """
        return self._network.wiring.inputs

    @property
    def inputs(self) -> list[Node]:
        """The nodes of the inputs, in a list."""
        return jax.tree.leaves(self.input)

    @property
    def output(self) -> Tree:
        """The node of the outputs, or their structure."""
        return self._network.wiring.outputs

    @property
    def outputs(self) -> list[Node]:
        """The nodes of the outputs, in a list."""
        return jax.tree.leaves(self.output)

    @property
    def input_shape(self) -> Tree:
        """The shape of the inputs, None for free sizes."""
        return self._network.input_shape

    @property
    def output_shape(self) -> Tree:
        """The shape of the outputs, None for free sizes."""
        return self._network.output_shape

    @property
    def output_names(self) -> list[str]:
        """The names of the outputs: the keys of a dict, or the names of their layers."""
        self._weights.now  # noqa: B018 - raises while the shape of the inputs is not known
        return list(self._network.output_names)

    # -- files -----------------------------------------------------------------------------------

    def save(self, path: Filename, overwrite: bool = True) -> None:
        """Writes the network and its weights into one file, whole or not at all.

        A zip of JSON and safetensors for `fnn.load`, whatever the file is called: a script may
        keep the name "best.keras", but Keras cannot read the file. It does not hold the state of
        the optimizer (`callbacks.BackupAndRestore` keeps it). Raises ValueError for a function or
        layer without a registered name, FileExistsError with `overwrite=False`.
        """
        archive.save_model(self, path, overwrite=overwrite)

    def save_weights(self, path: Filename, overwrite: bool = True) -> None:
        """Writes the weights alone, as a safetensors file with a checksum, whatever its name."""
        archive.save_weights(self, path, overwrite=overwrite)

    def load_weights(self, path: Filename) -> None:
        """Takes the weights of a file by `save_weights` or `save`, verified. All or nothing.

        Raises FileError, a ValueError, that lists every missing, unexpected or misshapen path.
        """
        archive.load_weights(self, path)

    summary, __repr__ = summaries.summary, summaries.describe
