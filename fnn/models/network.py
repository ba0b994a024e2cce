"""Network: a layer with the inputs it is built for; its shapes, names and nodes."""

from __future__ import annotations

import contextlib
import functools
import weakref
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from fnn.core import tree, weights
from fnn.core.calling import applied_spec, output_spec, weight_spec
from fnn.core.combining import Flow
from fnn.core.layer import Layer
from fnn.core.tree import SpecTree, Tree, array_spec
from fnn.last_activation import End, outputs_by_path, without_last_activation
from fnn.symbolic.node import Item, Node, free_shape, input_specs, symbolic_call
from fnn.training.prediction import Predictor, predictor
from fnn.training.step import output_leaves


class Network:
    """A layer and the nodes of its inputs, None while their shapes are not known.

    Layer, inputs and name never change: a model in which they do gets another network. So what
    is computed from them once stays right.
    """

    def __init__(self, layer: Layer, inputs: Tree, name: str) -> None:
        self.layer = layer
        self.inputs = inputs
        self.name = name
        # The shape and dtype of the last NumPy array that was accepted unchanged.
        self.takes_as_it_is: tuple[tuple[int, ...], np.dtype] | None = None
        self._accepted: object = None
        self._last_predictor: _LastPredictor | None = None
        self._last_outputs: tuple[object, SpecTree] | None = None

    def __reduce__(self) -> tuple[type[Network], tuple[Layer, Tree, str]]:
        return Network, (self.layer, self.inputs, self.name)

    def with_layer(self, layer: Layer) -> Network:
        """The network of another layer with the same inputs."""
        return Network(layer, self.inputs, self.name)

    def with_inputs(self, inputs: Tree) -> Network:
        """The network of the same layer with other inputs."""
        return Network(self.layer, inputs, self.name)

    def with_name(self, name: str) -> Network:
        """The network of the same layer and inputs with another name."""
        return Network(self.layer, self.inputs, name)

    # -- inputs and weights ----------------------------------------------------------------------

    def trial(self, index: int = 0) -> SpecTree:
        """Shapes and dtypes of the inputs; free sizes take the first or second trial size."""
        return jax.tree.map(lambda node: node.specs[index], self.inputs)

    @functools.cached_property
    def weight_specs(self) -> tuple[SpecTree, SpecTree]:
        """Shapes and dtypes of params and state, in the order of creation."""
        return weight_spec(self.layer, self.trial())

    @functools.cached_property
    def is_stateful(self) -> bool:
        """Whether a layer inside carries its state from one call to the next."""
        return weights.is_stateful(self.layer)

    @functools.cached_property
    def description(self) -> str:
        """The layer as a string, to compare with that of another process."""
        return repr(self.layer)

    # -- outputs ---------------------------------------------------------------------------------

    def output_spec(self, x: Tree) -> SpecTree:
        """Shapes and dtypes of the outputs for `x`; for an ensemble, those of one member.

        A batch of the trial size is traced, once for any number of examples. Nothing is traced
        if all other sizes are those that the network was built for. Raises if `x` does not fit;
        the error names the sizes of `x`.
        """
        kind = tree.kind(x)
        if self._last_outputs is None or self._last_outputs[0] != kind:
            self._last_outputs = kind, self._output_spec(x)
        return self._last_outputs[1]

    def _output_spec(self, x: Tree) -> SpecTree:
        trial = self.trial()
        size = tree.batch_size(trial)
        count = tree.batch_size(x)
        resized = tree.resized(x, size)
        spec = None
        if resized == trial:
            spec = output_spec(self.layer, resized)
        else:
            with contextlib.suppress(Exception):
                spec = applied_spec(self.layer, *self.weight_specs, resized)
        leaves = jax.tree.leaves(spec)
        if spec is None or any(leaf.shape[:1] != (size,) for leaf in leaves):
            # Not one output per example, or an error, which must name the sizes of `x`.
            spec = applied_spec(self.layer, *self.weight_specs, x)
            size = count
        if self.layer.ensemble_size:
            spec = jax.tree.map(_of_one_member, spec)
        if size == count:
            return spec
        return tree.resized(spec, count)

    def output_specs(self, x: Tree) -> list[SpecTree]:
        """`output_spec` as a list with one entry per output."""
        return output_leaves(self.output_spec(x))

    def last_activations(self, x: Tree) -> list[End | None]:
        """The last activation of each output for `x`, None where it is not known."""
        trial = tree.resized(x, tree.batch_size(self.trial()))
        _, ends = without_last_activation(self.layer, trial)
        return [ends.get(path) for path, _ in outputs_by_path(self.output_spec(x))]

    def check_accepts(self, x: Tree) -> None:
        """Raises if the shapes of `x` do not fit, whatever the number of examples."""
        kind = tree.kind(x, by_example=True)
        if kind != self._accepted:
            self.output_spec(x)
            self._accepted = kind

    def predictor(self, x: Tree) -> Predictor:
        """The compiled forward function for batches with the shapes of `x`."""
        kind = tree.kind(x)
        last = self._last_predictor
        if last is not None and last.kind == kind:
            program = last.program()
            if program is not None:
                return program
        program = predictor(self.layer, kind)
        self._last_predictor = _LastPredictor(kind, weakref.ref(program))
        return program

    def has_just_predicted(self, x: Tree) -> bool:
        """Whether the last prediction was of a batch with the shapes of `x`."""
        last = self._last_predictor
        return last is not None and last.kind == tree.kind(x)

    # -- structure -------------------------------------------------------------------------------

    @property
    def layers(self) -> list[Layer]:
        """The layers directly inside, in order."""
        return [child for _, child in self.layer.children()] or [self.layer]

    def get_layer(self, name: str | None = None, index: int | None = None) -> Layer:
        """The layer of that name or at that index. Raises ValueError with the names."""
        children = dict(self.layer.children())
        if name is not None and name in children:
            return children[name]
        if index is not None and -len(children) <= index < len(children):
            return list(children.values())[index]
        wanted = name if index is None else index
        raise ValueError(
            f"expected one of the {len(children)} layers {list(children)}, received {wanted!r}"
        )

    @functools.cached_property
    def wiring(self) -> Wiring:
        """The nodes of the network. Raises ValueError while the inputs are not known."""
        if self.inputs is None:
            raise ValueError(
                f"the shape of the inputs of the model {self.name!r} is not known yet; pass "
                "input_shape=(...) to its first layer"
            )
        return Wiring(self.layer, self.inputs)

    @property
    def input_shape(self) -> Tree:
        """The shape of the inputs, None for free sizes."""
        return jax.tree.map(lambda node: node.shape, self.inputs)

    @property
    def output_shape(self) -> Tree:
        """The shape of the outputs, None for free sizes."""
        specs = [output_spec(self.layer, self.trial(index)) for index in (0, 1)]
        return free_shape(*specs)

    @functools.cached_property
    def output_names(self) -> list[str]:
        """The names of the outputs: the keys of a dict, or the names of their layers."""
        spec = output_spec(self.layer, self.trial())
        if isinstance(spec, dict):
            return sorted(spec)
        count = len(output_leaves(spec))
        names: list[str] = getattr(self.layer, "output_names", [])
        if len(names) == count:
            return names
        if count == 1:
            return ["output"]
        return [f"output_{index}" for index in range(count)]


class _LastPredictor(NamedTuple):
    kind: object
    program: Callable[[], Predictor | None]  # None after the cache has dropped it


class Wiring:
    """The nodes of a network: the inputs and outputs of each layer directly inside."""

    def __init__(self, layer: Layer, inputs: Tree) -> None:
        # By the id of the layer object: inputs and outputs of its first call.
        self.calls: dict[int, tuple[Tree, Tree]] = {}
        self.inputs = inputs
        if isinstance(layer, Flow):
            self.outputs = layer.flow(inputs, self._visit)
        else:
            self.outputs = symbolic_call(layer, (inputs,), {})

    def _visit(self, name: str, layer: Layer, x: Tree) -> Tree:
        if isinstance(layer, Item) and isinstance(x, tuple):
            # The call before it has returned its outputs one by one.
            return x[layer.index]  # type: ignore[index]
        y = symbolic_call(layer, (x,), {})
        self.calls.setdefault(id(layer), (x, y))
        return y


def nodes_of_shape(shape: Tree) -> Tree:
    """Input nodes for a shape, or for a tuple or list of shapes, the batch included."""
    if shape and isinstance(shape[0], (tuple, list)):
        return tuple(map(nodes_of_shape, shape))
    return Node(None, (), input_specs(shape))


def _of_one_member(spec: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    batch, _, *shape = spec.shape
    return array_spec((batch, *shape), spec.dtype)
