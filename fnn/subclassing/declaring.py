"""Declaring: a run of `build` or `call` on shapes, which notes what layers inside are given."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax import Array, random

from fnn.core import tree, tying
from fnn.core.calling import output_spec_of_child, weight_spec
from fnn.core.context import Context
from fnn.core.layer import Layer, Params, State
from fnn.core.tree import Path, SpecTree, Tree
from fnn.subclassing.frame import Declared, Frame
from fnn.subclassing.tracking import joined, layers_in
from fnn.variables import Variable


class Declaring(Frame):
    """A run on shapes, which finds out what weights there are and what each layer is given."""

    def __init__(self, host: object, ctx: Context, declared: Declared) -> None:
        super().__init__(host, ctx)
        self.declared = declared
        # Variables of layers inside that are used by themselves, by their paths.
        self.used: dict[Path, Variable] = {}

    def declare(self, thing: object, like: SpecTree) -> bool:
        """Notes the inputs of a layer inside. False if it is none."""
        found = self.find(thing)
        if found is None:
            return False
        name, layer = found
        self._note(name, layer, tree.spec(like))
        return True

    def visit(
        self,
        name: str,
        layer: Layer,
        x: Tree,
        ctx: Context,
    ) -> Tree:
        like = tree.spec(x)
        self._note(name, layer, like)
        return jax.tree.map(_zeros, output_spec_of_child(name, layer, like))

    def _note(self, name: str, layer: Layer, like: SpecTree) -> None:
        if name not in self.declared:
            self.declared[name] = layer, like
            prepare = getattr(type(layer), "prepare", None)
            if prepare is not None:
                prepare(layer, like)

    def declared_in_order(self) -> Declared:
        """The layers inside that were called or built, in the order of the attributes."""
        order = list(layers_in(self.host))

        def position(name: str) -> int:
            return order.index(name.split("/")[0])

        names = sorted(self.declared, key=position)
        return {name: self.declared[name] for name in names}

    def own_weight(self, name: str) -> Array | None:
        native = getattr(self.host, "_native", None)
        if native is None or self.native_inputs is None:
            return None
        make = functools.partial(native.init, self.host)
        for part in jax.eval_shape(make, random.key(0), self.native_inputs):
            if name in part:
                zeros: Array = jax.tree.map(_zeros, part[name])
                return zeros
        return None

    def apply_native(
        self,
        native: type[Layer],
        host: Layer,
        x: Tree,
        ctx: Context,
    ) -> tuple[Tree, State]:
        if self.native_inputs is None:
            self.native_inputs = tree.spec(x)
        params, state = native.init(host, random.key(0), x)
        result: tuple[Tree, State]
        result = native.unchecked_apply(host, params, state, x, ctx)
        return result

    def parts_of(self, layer: Layer, ordered: bool) -> tuple[Params, State] | None:
        if self._looks:
            return None
        found = self.place_of(layer)
        self._looks = True  # what runs below asks for other attributes of this layer
        try:
            if layer is self.host:
                return self._own_parts()
            if found is None or found[0] not in self.declared:
                return None
            like = weight_spec(*self.declared[found[0]])
            weights: tuple[Params, State] = jax.tree.map(_zeros, like)
            return weights
        finally:
            self._looks = False

    def _own_parts(self) -> tuple[Params, State]:
        params: Params = {}
        state: State = {}
        for name, variable in self.variables().items():
            part = params if variable.trainable else state
            part[name] = jnp.zeros(variable.shape, variable.dtype)
        for name, inside in self.declared_in_order().items():
            made = jax.tree.map(_zeros, weight_spec(*inside))
            params, state = joined((params, state), name, made)
        return tying.gathered(params, self.ties), tying.gathered(state, self.ties)

    def read(self, variable: object) -> Array | None:
        if not isinstance(variable, Variable):
            return None
        if self._place(variable):
            return jnp.zeros(variable.shape, variable.dtype)
        return None

    def write(self, variable: object, value: Array) -> bool:
        return bool(self._place(variable))

    def _place(self, variable: object) -> Path:
        """The path of a variable of the host, or of a layer inside, which is noted."""
        name = self.name_of(variable)
        if name is not None:
            return (name,)
        path = self.place_inside(variable)
        if path and isinstance(variable, Variable):
            self.used[path] = variable
        return path


def _zeros(spec: jax.ShapeDtypeStruct) -> Array:
    return jnp.zeros(spec.shape, spec.dtype)
