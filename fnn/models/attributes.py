"""Attributes: the attributes of a model as in Keras: weights, layers, nodes, shapes, names."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar

import jax
import numpy as np

from fnn import summaries
from fnn.core import arguments
from fnn.core.calling import walk
from fnn.core.layer import Layer
from fnn.core.tree import Tree
from fnn.models.freezing import freeze, is_pattern
from fnn.models.network import Network
from fnn.models.outputs import as_tuple
from fnn.models.variables import WeightVariable, losses, seed_variable, variables
from fnn.models.wiring import nodes_of_shape, output_shape_for
from fnn.optimizers.bound import BoundOptimizer
from fnn.symbolic.input_layer import InputLayer
from fnn.symbolic.node import Node, symbolic_call
from fnn.training.state import TrainState

# Beside each other in the bases of `Model`: flat groups of its methods.
if TYPE_CHECKING:
    from fnn.models.described import Described
    from fnn.models.policies import Policies
    from fnn.models.stored import Stored

    class _Beside(Described, Policies, Stored):
        pass
else:
    _Beside = object


def _as_it_is(layer: Layer) -> Any:
    """The default of `Attributes.as_shown`."""
    return layer


class Attributes(_Beside):
    """The attributes and small methods of a model, each answered by its network or its weights."""

    attribute_advice: ClassVar[dict[str, str]] = {}  # for attributes of other libraries

    # The model that a layer inside stands for, or the layer; set by `fnn.models.owned`.
    as_shown: ClassVar[Callable[[Layer], Any]] = staticmethod(_as_it_is)

    # `plot_model` of `fnn.utils`, which sets it.
    as_picture: ClassVar[Callable[..., Any]]

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

        Its leaves are arrays, for Orbax, `jax.tree` and pickle as they are. It is complete, with
        the state of the optimizer, as soon as the model is built and compiled. An array assigned
        inside its dicts counts too, as with `params`.
        """
        if self.built and self._program.arguments is not None:
            self._program.complete()
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
        if not self.built:
            return [weight.numpy() for weight in self.weights]
        return self._weights.get()

    def set_weights(self, arrays: list[Tree]) -> None:
        """Replaces all weights, in the order of `get_weights`. All or nothing.

        Raises ValueError that lists every place where number or shape differ.
        """
        self._weights.set(arrays)

    @property
    def weights(self) -> list[WeightVariable]:
        """All weights in the order of `get_weights`; `assign` of one changes the model.

        >>> model = fnn.Sequential([fnn.layers.Dense(2, input_shape=(4,))], name="net")
        >>> model.weights[1].assign([1.0, 2.0])
        >>> [w.path for w in model.weights], model.params["dense"]["bias"].tolist()
        (['net/dense/kernel', 'net/dense/bias'], [1.0, 2.0])
        """
        return self._listed("weights", None)

    def _listed(self, name: str, learned: bool | None) -> list[WeightVariable]:
        """The weights, as `variables` has them; before they are made those of layers inside."""
        if self.built:
            return variables(self._weights, learned=learned)
        made = [weight for layer in self.layers for weight in getattr(layer, name)]
        return list({id(weight): weight for weight in made}.values())

    @property
    def trainable_weights(self) -> list[WeightVariable]:
        """The weights that gradients change: neither of frozen layers nor running averages."""
        return self._listed("trainable_weights", True)

    @property
    def non_trainable_weights(self) -> list[WeightVariable]:
        """The weights of frozen layers, and running averages."""
        return self._listed("non_trainable_weights", False)

    trainable_variables = trainable_weights

    @property
    def variables(self) -> list[WeightVariable]:
        """All weights, and the state of the random numbers if the model draws any."""
        return [*self.weights, *self._seed()]

    @property
    def non_trainable_variables(self) -> list[WeightVariable]:
        """Those that gradients do not change, and the state of the random numbers."""
        return [*self.non_trainable_weights, *self._seed()]

    def _seed(self) -> list[WeightVariable]:
        return seed_variable(self._weights) if self.built else []

    @property
    def losses(self) -> list[jax.Array]:
        """What layers add to the loss: regularizers of weights, and the rest of the last step."""
        return losses(self._weights)

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
    def layers(self) -> list[Any]:
        """The layers directly inside, in Keras's order; those of a graph begin with its inputs."""
        return [type(self).as_shown(layer) for layer in self._network.layers]

    @property
    def operations(self) -> list[Layer]:
        """`layers`, and the operations on nodes between them (`x + y`, `fnn.ops`)."""
        return self._network.operations

    def get_layer(self, name: str | None = None, index: int | None = None) -> Any:
        """The layer of that name or at that index. Raises ValueError with the names there are."""
        return type(self).as_shown(self._network.get_layer(name, index))

    @property
    def trainable(self) -> bool:
        """False: training changes no weight of this model. Setting it reaches all layers inside.

        Models that contain this one, or one of its layers, follow.
        """
        return self.layer.trainable

    @trainable.setter
    def trainable(self, trainable: bool) -> None:
        self._set_all_trainable(bool(trainable))

    def _set_all_trainable(self, trainable: bool) -> None:
        for layer in (self.layer, self._weights.used_as):
            if layer is not None:
                layer.trainable = bool(trainable)  # type: ignore[misc]

    def freeze(self, *layers: Layer | str) -> None:
        """Keeps the weights of these layers, and batch statistics in them, as they are.

        Short for `layer.trainable = False` for several layers of a model, given by name or as
        the objects in `model.layers`. A pattern of paths chooses layers and single weights at any
        depth: "encoder/**" all inside `encoder`, "**/bias" all biases (`*` is any part of a name,
        `**` any number of names, as in `ByPath`). It takes effect at the next call of `fit`; the
        optimizer has no state for frozen weights, and keeps that of all others. Raises ValueError
        for a layer that is not in the model, and for a pattern that matches nothing.

        >>> model = fnn.Sequential([fnn.layers.Dense(2, input_shape=(4,)), fnn.layers.Dense(1)])
        >>> model.freeze(*model.layers[:-1])
        >>> [layer.trainable for layer in model.layers]
        [False, True]
        >>> model.freeze("**/bias")
        >>> [weight.path for weight in model.trainable_weights]
        ['sequential/dense_1/kernel']
        """
        self._set_trainable(layers, False)

    def unfreeze(self, *layers: Layer | str) -> None:
        """Lets training change these weights again, named as for `freeze`."""
        self._set_trainable(layers, True)

    def _set_trainable(self, chosen: tuple[Layer | str, ...], trainable: bool) -> None:
        inside = {id(layer) for path, layer, _ in walk(self.layer) if path}
        found = []
        patterns = []
        for one in chosen:
            if isinstance(one, str) and is_pattern(one):
                patterns.append(one)
                continue
            layer: Any = self.get_layer(one) if isinstance(one, str) else one
            if isinstance(layer, InputLayer):
                continue
            if isinstance(layer, Attributes):
                layer = layer.as_layer()
            if id(layer) not in inside:
                raise ValueError(
                    f"expected layers of {self.name!r}, received {layer!r}, which is not one of "
                    "its objects; pass names, or objects of model.layers"
                )
            found.append(layer)
        for layer in found:
            layer.trainable = trainable
        for pattern in patterns:
            freeze(self._weights, pattern, not trainable)

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

    def compute_output_shape(self, input_shape: Tree) -> Tree:
        """The shape of the outputs for inputs of this shape, None for free sizes."""
        return output_shape_for(self.layer, input_shape)

    @property
    def output_names(self) -> list[str]:
        """The names of the outputs: the keys of a dict, or the names of their layers."""
        self._weights.now  # noqa: B018 - raises while the shape of the inputs is not known
        return list(self._network.output_names)

    def _symbolic(self, given: tuple[Tree, ...], named: dict[str, object]) -> Tree:
        if not self.built:
            self._weights.build_for(as_tuple(given[0]) if len(given) == 1 else given)
        result = symbolic_call(self.as_layer(), given, named)
        for node in jax.tree.leaves(result):
            node.source = self
        return result

    def plot(
        self,
        to_file: str | os.PathLike[str] | None = None,
        show_shapes: bool = True,
        show_layer_names: bool = True,
        **options: Any,
    ) -> Any:
        """A picture of the graph, which a notebook shows; `to_file` saves it (svg, png, pdf, dot).

        It is `fnn.utils.plot_model` with shapes and names, and takes its other arguments. Raises
        ValueError for a model that does not know its input shape.

        >>> model = fnn.Sequential([fnn.layers.Dense(2, input_shape=(3,), name="last")])
        >>> "last (Dense)" in model.plot().svg
        True
        """
        return type(self).as_picture(
            self, to_file, show_shapes, show_layer_names=show_layer_names, **options
        )

    summary, __repr__ = summaries.summary, summaries.describe
    _repr_html_ = summaries.model_html
