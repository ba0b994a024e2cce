"""Network: a layer with the inputs it is built for; its shapes, names and nodes."""

from __future__ import annotations

import contextlib
import functools
import itertools
import weakref
from collections.abc import Iterator

import jax
import numpy as np

from fnn.core import tree, tying, weights
from fnn.core.calling import applied_spec, call, output_spec, walk, weight_spec
from fnn.core.context import Context, NeedsKeyError
from fnn.core.layer import Layer
from fnn.core.tree import Path, SpecTree, Tree, array_spec
from fnn.core.tying import Ties
from fnn.last_activation import End, outputs_by_path, without_last_activation
from fnn.layers.sequential import Sequential as SequentialLayer
from fnn.models.outputs import names_of_inputs, names_of_outputs
from fnn.models.wiring import Wiring, as_called, body_of
from fnn.preprocessing.adapting import Adapting
from fnn.preprocessing.host import Cut, cut_nodes, has_host
from fnn.runtime.program_cache import changes
from fnn.symbolic.graph import Graph
from fnn.symbolic.input_layer import InputLayer
from fnn.symbolic.node import free_shape, input_name
from fnn.training import checks
from fnn.training.computed import computed
from fnn.training.independence.jaxprs import needed, opened
from fnn.training.prediction import Predictor, predictor
from fnn.training.sources import NO_NAMES, Names
from fnn.training.step import output_leaves
from fnn.training.targets import moves_targets


class Network:
    """A layer and the nodes of its inputs, None while their shapes are not known.

    Layer, inputs and name never change: a model in which they do gets another network. So what
    is computed from them once stays right. A layer that is changed in place is another value:
    see `current`.
    """

    def __init__(self, layer: Layer, inputs: Tree, name: str) -> None:
        self.layer = layer
        self.inputs = inputs
        self.name = name
        # When it was last compared with what it was made for.
        self.changes = changes.now
        self._value = layer._twin
        # Of the last array that was accepted unchanged.
        self.takes_as_it_is: tuple[tuple[int, ...], np.dtype] | None = None
        self._accepted: object = None
        self._checks_values: bool | None = None
        self._checked_state: Tree = None  # in which all layers have learned
        # Weak: the cache of programs drops those unused.
        self._last_predictor: tuple[object, weakref.ref[Predictor]] | None = None
        self._last_outputs: tuple[object, SpecTree] | None = None

    def __reduce__(self) -> tuple[type[Network], tuple[Layer, Tree, str]]:
        return Network, (self.layer, self.inputs, self.name)

    def current(self) -> Network:
        """This network, or another one if a layer has been changed in place."""
        self.changes = changes.now
        if self.layer._twin is self._value or self.layer == self._value:
            return self
        return self.with_layer(self.layer)

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
    def _cut(self) -> Cut | None:
        """The network in two, if a part of it runs on the host."""
        if self.inputs is None or not self.takes_strings:
            return None
        return cut_nodes(self.layer, self.inputs)

    @functools.cached_property
    def takes_strings(self) -> bool:
        """Whether a part of it may run on the host, so that inputs may be strings."""
        return has_host(self.layer)

    @functools.cached_property
    def compiled(self) -> Network:
        """The part that is compiled: without the layers on the host; itself if there are none.

        The weights have the same paths in both.
        """
        if self._cut is None:
            return self
        return Network(self._cut.rest, self._cut.inputs, self.name)

    def on_host(self, x: Tree, lazy: bool = False, in_stream: bool = False) -> Tree:
        """The inputs of the compiled part; with `lazy` large ones are computed as they are read."""
        if self._cut is None:
            return x
        run = functools.partial(self._cut.run, in_stream=in_stream)
        if not lazy:
            return run(x)
        return computed(run, x, self._cut.known_outputs(tree.batch_size(x)))

    def check_given(self, x: Tree, state: Tree) -> None:
        """Raises for strings in a network that is compiled whole, and if a layer has not learned.

        That is once for each state.
        """
        if self._cut is None and self.takes_strings and tree.has_strings(x):
            raise TypeError(
                f"{self.name}: expected a Sequential or functional model for strings, where the "
                "layers that take them run ahead of the compiled part, received a class with "
                "call; call these layers on the data before, or use model(x) alone"
            )
        if state is not self._checked_state:
            for path, layer in self._learners:
                layer.check_learned(tree.get(state, path))
            self._checked_state = state

    @functools.cached_property
    def _learners(self) -> list[tuple[Path, Adapting]]:
        """The layers that learn before training, with their paths."""
        inside = walk(self.layer)
        return [(path, one) for path, one, _ in inside if isinstance(one, Adapting)]

    @functools.cached_property
    def weight_specs(self) -> tuple[SpecTree, SpecTree]:
        """Shapes and dtypes of params and state, in the order of creation."""
        part = self.compiled
        return weight_spec(part.layer, part.trial())

    @functools.cached_property
    def ties(self) -> Ties:
        """The places inside that have the weights of other places."""
        return tying.everywhere(self.layer)

    def weight_places(self, place: Path = ()) -> list[tuple[str, Path]]:
        """("params" or "state", path) of each weight of the layer at `place`, in Keras's order."""
        return weights.in_order(self.layer, *self.weight_specs, place)

    @functools.cached_property
    def is_stateful(self) -> bool:
        """Whether a layer inside carries its state from one call to the next."""
        return weights.is_stateful(self.layer)

    @functools.cached_property
    def moves_targets(self) -> bool:
        """Whether a layer inside may change the targets, as those of images do."""
        return moves_targets(self.layer)

    def check_values(self, x: Tree) -> None:
        """Raises ValueError for inputs with impossible values, such as ids out of range."""
        if self._checks_values is None:
            self._checks_values = checks.any_checks_values(self.layer)
        if self._checks_values:
            checks.input_values(self.layer, x)

    @functools.cached_property
    def draws_in_inference(self) -> bool:
        """Whether the network draws random numbers in inference, as in Monte Carlo dropout."""
        if not any(inner.may_draw for _, inner, _ in walk(self.layer)):
            return False
        part = self.compiled

        def run(params: Tree, state: Tree, x: Tree) -> Tree:
            return call(part.layer, params, state, x, Context())[0]

        try:
            jax.eval_shape(run, *self.weight_specs, part.trial())
        except NeedsKeyError:
            return True
        return False

    @functools.cached_property
    def draws_in_training(self) -> bool:
        """Whether the network draws random numbers in training, as dropout does."""
        part = self.compiled

        def run(params: Tree, state: Tree, x: Tree, key: jax.Array) -> Tree:
            return call(part.layer, params, state, x, Context(train=True, key=key))

        if not getattr(self.layer, "computes", True):
            return False
        key = jax.eval_shape(jax.random.key, 0)
        traced = jax.make_jaxpr(run)(*self.weight_specs, part.trial(), key)
        program = opened(traced)
        wanted = program.invars[-1]
        return any(wanted in equation.invars for equation in needed(program))

    @functools.cached_property
    def frozen_paths(self) -> list[Path]:
        """The paths of the layers whose weights stay fixed."""
        return weights.frozen_paths(self._value)

    @functools.cached_property
    def names(self) -> dict[int, str]:
        """The name of each layer object inside, by its id; the children alone, if one has none."""
        return {id(child): name for name, child in _named(self.layer)}

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
        program = self._last_program(kind)
        if program is None:
            program = predictor(self.layer, kind)
            self._last_predictor = kind, weakref.ref(program)
        return program

    def last_predictor(self, x: object) -> Predictor | None:
        """The predictor of the last batch if `x` is a NumPy array like it, taken as it is."""
        if type(x) is not np.ndarray or tree.kind(x) != self.takes_as_it_is:
            return None
        return self._last_program(self.takes_as_it_is)

    def _last_program(self, kind: object) -> Predictor | None:
        last = self._last_predictor
        if last is None or last[0] != kind:
            return None
        return last[1]()

    @functools.cached_property
    def names_of_data(self) -> Names:
        """The names by which a batch that is a dict has the inputs and the targets."""
        if self.inputs is None:
            return NO_NAMES
        outputs = list(self.output_names)
        body = body_of(self.layer)
        if isinstance(body, SequentialLayer) and len(outputs) == 1:
            # As in Keras, the output of a `Sequential` has the name of its last layer.
            outputs = [name or outputs[0] for name, _ in body.children()][-1:]
        return Names(names_of_inputs(self.inputs), outputs)

    # -- structure -------------------------------------------------------------------------------

    @property
    def layers(self) -> list[Layer]:
        """The layers directly inside, as Keras lists them: inputs too, without operations."""
        return [as_called(one) for one in self.operations if not one.is_operation]

    @property
    def operations(self) -> list[Layer]:
        """The layers and operations directly inside, in Keras's order."""
        layer = body_of(self.layer)
        if isinstance(layer, SequentialLayer):
            return list(layer.row)
        children = dict(layer.children())
        if not isinstance(layer, Graph) or self.inputs is None:
            return list(children.values()) or [layer]
        found: list[Layer] = []
        for name in layer.with_inputs():
            if isinstance(name, str):
                found.append(children[name])
            else:
                found.append(self.input_layers[name])
        return found

    @functools.cached_property
    def input_layers(self) -> list[InputLayer]:
        """The inputs as layers, with Keras's names for those that have none."""
        nodes = jax.tree.leaves(self.inputs)
        names = itertools.count()
        return [InputLayer.of(n, n.name or input_name(next(names))) for n in nodes]

    def get_layer(self, name: str | None = None, index: int | None = None) -> Layer:
        """The layer of that name or at that index. Raises ValueError with the names."""
        layers = self.layers
        if index is not None and -len(layers) <= index < len(layers):
            return layers[index]
        named: dict[str | None, Layer] = {}
        named |= {one.name: one for one in layers if isinstance(one, InputLayer)}
        named |= dict(body_of(self.layer).children())
        if index is None and name in named:
            return as_called(named[name])
        wanted = name if index is None else index
        raise ValueError(
            f"expected one of the {len(named)} layers {list(named)}, received {wanted!r}"
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
    def output_structure(self) -> SpecTree:
        """The outputs for the trial input: shapes and dtypes in their structure."""
        return output_spec(self.layer, self.trial())

    @functools.cached_property
    def output_names(self) -> list[str]:
        """The names of the outputs: the keys of a dict, or the names of their layers."""
        names = getattr(self.layer, "output_names", [])
        return names_of_outputs(self.output_structure, names)


def _named(layer: Layer) -> Iterator[tuple[str, Layer]]:
    """Every layer inside that has a name among its siblings, and this name."""
    for name, child in layer.children():
        if name is not None:
            yield name, child
            yield name, as_called(child)
        yield from _named(child)


def _of_one_member(spec: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    batch, _, *shape = spec.shape
    return array_spec((batch, *shape), spec.dtype)
