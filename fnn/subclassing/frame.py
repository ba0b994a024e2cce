"""Frames: the run of one `build` or `call`: its weights, its layers, their masks and losses."""

from __future__ import annotations

from typing import TypeAlias

import jax
from jax import Array

from fnn.core import tree, tying
from fnn.core.calling import weight_spec
from fnn.core.checks import in_dtype
from fnn.core.combining import visit_child
from fnn.core.context import Context, Masked, is_masked, split_mask
from fnn.core.layer import Layer, Params, State
from fnn.core.tree import Path, SpecTree, Tree
from fnn.core.tying import Ties
from fnn.runtime.scope import Scope, scopes
from fnn.subclassing.signature import Named, Positional
from fnn.subclassing.tracking import (
    LISTS,
    below,
    free_name,
    layer_of,
    layers_in,
    variables_in,
    weights_in,
)
from fnn.symbolic.node import bound_call
from fnn.variables import Variable

# The inputs that a layer inside was declared for: (the layer, their shapes and dtypes).
Declared: TypeAlias = dict[str, tuple[Layer, SpecTree]]


class Frame(Scope):
    """The run of a method of `host`, a copy of a layer or the attributes of a model."""

    def __init__(self, host: object, ctx: Context) -> None:
        self.host = host
        self.ctx = ctx
        self.losses: list[Array] = []
        self._names: dict[int, str] = {}
        self._taken: set[str] = set()
        # The layers of the host by the id of the object, of a model or of its layer.
        self._layers: dict[int, tuple[str, Layer]] = {}
        self._masks: dict[int, tuple[Array, Tree]] = {}
        self._keys = 0
        self._looks = False
        self._variables: dict[str, Variable] = {}
        # Whether `call` runs, not `build`.
        self.calls = False
        # The attributes that `call` has assigned.
        self.assigned: set[str] = set()
        # The first argument as shapes, and those for which a base layer makes its weights.
        self.inputs: SpecTree = None
        self.native_inputs: SpecTree = None
        # The layers inside that have the weights of others.
        self.ties: Ties = ()
        self.look()

    def look(self) -> None:
        """Finds the layers and variables that the host has now."""
        self._taken = set(layers_in(self.host))
        for name, variable in variables_in(self.host).items():
            if id(variable) not in self._names:
                self._taken.add(name)
                self._names[id(variable)] = name
                self._variables[name] = variable
        for name, layer in layers_in(self.host).items():
            self._layers[id(layer)] = name, layer

    def add(self, variable: Variable) -> None:
        """Takes a variable that is made in this run."""
        name = (variable.given_name or "variable").replace("/", "_")
        name = free_name(name, self._taken)
        self._names[id(variable)] = name
        self._variables[name] = variable

    def variables(self) -> dict[str, Variable]:
        """The variables of the host by name, those made in this run included."""
        return self._variables

    def name_of(self, variable: object) -> str | None:
        """The name of a variable of this host."""
        return self._names.get(id(variable))

    def place_inside(self, variable: object) -> Path:
        """The path of a variable of a layer inside; empty if there is none."""
        for name, layer in self._layers.values():
            find = getattr(type(layer), "path_of_variable", None)
            path: Path = ()
            if find is not None:
                path = find(layer, variable)
            if path:
                return (name, *path)
        return ()

    def random_key(self) -> Array | None:
        """The key for the next random numbers; one for each request."""
        self._keys += 1
        return self.ctx.random_key(f"numbers_{self._keys}")

    # -- layers inside ---------------------------------------------------------------------------

    def find(self, thing: object) -> tuple[str, Layer] | None:
        """(name, layer) of a layer or model among the attributes, or "a/b" further inside."""
        layer = layer_of(thing)
        if layer is None:
            return None
        known = self._layers.get(id(layer))
        if known is None:
            self.look()  # it may have been made since
            known = self._layers.get(id(layer))
        if known is None:
            known = self.place_of(layer)
        if known is None:
            # One of an equal object: a function that closes over the original.
            equal = [pair for pair in self._layers.values() if pair[1] == layer]
            if len(equal) == 1:
                known = equal[0]
        return known

    def place_of(self, layer: Layer) -> tuple[str, Layer] | None:
        """(name, layer) of this very object; "a/b" is the name of a layer inside the layer a."""
        known = self._layers.get(id(layer))
        if known is None and not self._looks:
            self._looks = True  # what runs below may ask for attributes of layers
            try:
                known = below(self.host, layer)
            finally:
                self._looks = False
        return known

    def run(
        self,
        thing: object,
        inputs: Positional,
        named: Named,
    ) -> Tree:
        """The outputs of a layer inside for these arguments; NotImplemented if it is none."""
        found = self.find(thing)
        if found is None:
            return NotImplemented
        name, layer = found
        named = dict(named)
        training = named.pop("training", None)
        inputs, named = jax.tree.map(self._with_mask, (inputs, named))
        layer, x = bound_call(layer, inputs, named)
        held = vars(self.host)
        dtype = held.get("dtype") or held.get("_dtype_given")
        if dtype is not None:
            layer = in_dtype(layer, dtype)
        ctx = self.ctx
        if training is not None:
            ctx = ctx.replace(train=bool(training))
        return self.without_masks(self.visit(name, layer, x, ctx))

    def declare(self, thing: object, like: SpecTree) -> bool:
        """Notes the inputs of a layer inside, in a run on shapes. False if it is none."""
        return self.find(thing) is not None

    def visit(
        self,
        name: str,
        layer: Layer,
        x: Tree,
        ctx: Context,
    ) -> Tree:
        """The outputs of the layer called `name` for `x`."""
        raise NotImplementedError

    def attribute_of(self, layer: Layer, name: str) -> object:
        """A weight of a layer inside by its name, or a list of them; else NotImplemented."""
        found = self.parts_of(layer, ordered=name in LISTS)
        if found is None:
            return NotImplemented
        if name in LISTS:
            both = [weights_in(part) for part in found]
            return [array for part in both[LISTS[name]] for array in part]
        for part in found:
            if name in part:
                return part[name]
        return NotImplemented

    def parts_of(self, layer: Layer, ordered: bool) -> tuple[Params, State] | None:
        """Params and state of the host or of a layer inside, None for others."""
        return None

    def own_weight(self, name: str) -> Array | None:
        """A weight that the base layer of the host has made."""
        return None

    def run_native(
        self,
        native: type[Layer],
        inputs: Positional,
        named: Named,
    ) -> Tree:
        """The outputs of the base layer of the host: `super().call(inputs)`."""
        host = self.host
        assert isinstance(host, Layer)
        named = {
            name: value
            for name, value in named.items()
            if value is not None and name != "training"
        }
        inputs = jax.tree.map(self._with_mask, inputs)
        x = inputs[0] if len(inputs) == 1 else inputs
        x, mask = split_mask(x)
        ctx = self.ctx.replace(mask=named.pop("mask", mask))
        y, _ = self.apply_native(native, host, x, ctx)
        return self.without_masks(y)

    def apply_native(
        self,
        native: type[Layer],
        host: Layer,
        x: Tree,
        ctx: Context,
    ) -> tuple[Tree, State]:
        """`apply` of the class that the host extends."""
        raise NotImplementedError

    # -- masks -----------------------------------------------------------------------------------

    def without_masks(self, y: Tree) -> Tree:
        """Plain arrays; their masks are kept for the layers that get them."""
        return jax.tree.map(self._plain, y, is_leaf=is_masked)

    def _plain(self, leaf: Tree) -> Tree:
        if not is_masked(leaf):
            return leaf
        self._masks[id(leaf.values)] = leaf.values, leaf.mask
        return leaf.values

    def mask_of(self, array: object) -> Tree:
        """The mask of an array, None if it has none."""
        return self._masks.get(id(array), (None, None))[1]

    def _with_mask(self, leaf: Tree) -> Tree:
        mask = self.mask_of(leaf)
        if mask is None:
            return leaf
        return Masked(leaf, mask)


class Running(Frame):
    """A run on arrays with the weights that a layer is applied to."""

    def __init__(
        self,
        host: object,
        params: Params,
        state: State,
        ctx: Context,
        ties: Ties = (),
    ) -> None:
        super().__init__(host, ctx)
        self.ties = ties
        self.params = params
        self.state = dict(state)
        self._uses: dict[Path, dict[str, int]] = {}
        self._visited: Declared = {}

    def visit(
        self,
        name: str,
        layer: Layer,
        x: Tree,
        ctx: Context,
    ) -> Tree:
        self._visited.setdefault(name, (layer, tree.spec(x)))
        *outer, last = name.split("/")
        around = tuple(outer)
        for part in around:
            ctx = ctx.child(part)
        params = tree.get(self.params, around)
        state = {**tree.get(self.state, around)}
        uses = self._uses.setdefault(around, {})
        y = visit_child(params, state, uses, ctx, last, layer, x)
        if state:
            self.state = tree.put(self.state, around, state)
        return y

    def own_weight(self, name: str) -> Array | None:
        for part in (self.params, self.state):
            if name in part:
                return part[name]  # type: ignore[no-any-return]
        return None

    def apply_native(
        self,
        native: type[Layer],
        host: Layer,
        x: Tree,
        ctx: Context,
    ) -> tuple[Tree, State]:
        y, state = native.unchecked_apply(host, self.params, self.state, x, ctx)
        self.state |= state
        return y, self.state

    def parts_of(self, layer: Layer, ordered: bool) -> tuple[Params, State] | None:
        if layer is self.host:
            return self._own_parts() if ordered else (self.params, self.state)
        found = self.place_of(layer)
        if found is None:
            return None
        if ordered:
            return self._ordered(found[0])
        return self._weights_of(found[0])

    def _weights_of(self, name: str) -> tuple[Params, State]:
        """The weights of a layer inside."""
        path = tuple(name.split("/"))
        return tree.get(self.params, path), tree.get(self.state, path)

    def _ordered(self, name: str) -> tuple[Params, State]:
        """The weights of a layer inside, in the order of creation: JAX sorts dicts."""
        weights = self._weights_of(name)
        if name not in self._visited:
            return weights
        like = weight_spec(*self._visited[name])
        params, state = map(tree.same_order, weights, like)
        return params, state

    def _own_parts(self) -> tuple[Params, State]:
        inside = layers_in(self.host)
        found: list[Params] = []
        for part in (self.params, self.state):
            own = [name for name in self.variables() if name in part]
            others = [name for name in part if name not in (*own, *inside)]
            found.append({name: part[name] for name in (*others, *own)})
        for name in inside:
            for part, branch in zip(found, self._ordered(name), strict=True):
                part[name] = branch
        params, state = found
        return tying.pruned(params, self.ties), tying.pruned(state, self.ties)

    def read(self, variable: object) -> Array | None:
        name = self.name_of(variable)
        if name is not None:
            value = self.own_weight(name)
            if value is not None:
                return value
        return self._read_inside(variable)

    def _read_inside(self, variable: object) -> Array | None:
        """The value of a variable of a layer inside."""
        path = self.place_inside(variable)
        if not path:
            return None
        for part in (self.params, self.state):
            value = tree.get(part, path)
            if not isinstance(value, dict):
                found: Array = value
                return found
        return None

    def write(self, variable: object, value: Array) -> bool:
        name = self.name_of(variable)
        path = self.place_inside(variable) if name is None else (name,)
        if not path:
            return False
        if not isinstance(tree.get(self.params, path), dict):
            raise TypeError(
                "expected call to assign weights made with trainable=False, received the trainable "
                f"weight {path[-1]!r}, which the optimizer changes; make it with "
                "add_weight(..., trainable=False)"
            )
        self.state = tree.put(self.state, path, value)
        return True


def running_frame() -> Frame | None:
    """The innermost run of a method of a class in Keras's way."""
    for scope in scopes():
        if isinstance(scope, Frame):
            return scope
    return None
