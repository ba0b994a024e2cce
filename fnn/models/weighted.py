"""Weighted: a layer together with its current weights, the part of Model that does not train."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import random

from fnn import summaries
from fnn.core import tree, weights
from fnn.core.calling import applied_spec, initialize, output_spec, walk, weight_spec
from fnn.core.context import salt
from fnn.core.layer import Layer
from fnn.core.node import Node, input_specs, symbolic_call
from fnn.core.seed import next_key
from fnn.layers.graph import Graph, leaves
from fnn.training import inputs
from fnn.training.state import TrainState
from fnn.training.step import make_predict_step, output_leaves


class Weighted:
    """A pure layer and the one pytree of its weights; `Model` adds training to it."""

    def __init__(self, layer: Layer, name: str, seed: int | None, inputs: Any = None) -> None:
        self.layer, self.name = layer, layer.name or name
        self._key = next_key(seed)
        self._inputs = inputs  # nodes, in the structure of the inputs
        self._train_state: TrainState | None = None
        self._as_layer: Layer | None = None
        if inputs is not None:
            self._build()

    # -- weights ---------------------------------------------------------------------------------

    @property
    def built(self) -> bool:
        """Whether there are weights yet."""
        return self._train_state is not None

    @property
    def train_state(self) -> TrainState:
        """All that training changes, as one pytree. Assigning one goes on from there."""
        if self._train_state is None:
            raise ValueError(
                f"expected the model {self.name!r} to have weights, received one whose input shape "
                "is not known yet; do give input_shape=(...) to its first layer, call "
                "model.build((None, 10)), or fit or predict first"
            )
        return self._train_state

    @train_state.setter
    def train_state(self, state: TrainState) -> None:
        self._train_state = state

    @property
    def params(self) -> Any:
        """The weights that learn, nested by layer. Assign a tree like it to replace them."""
        return self._ordered[0]

    @params.setter
    def params(self, params: Any) -> None:
        checked = tree.checked("params", params, self.train_state.params)
        self.train_state = self.train_state.replace(params=checked)

    @property
    def state(self) -> Any:
        """What moves without learning (running averages), nested by layer."""
        return self._ordered[1]

    @state.setter
    def state(self, state: Any) -> None:
        checked = tree.checked("state", state, self.train_state.state)
        self.train_state = self.train_state.replace(state=checked)

    @property
    def _ordered(self) -> tuple[Any, Any]:
        """Params and state with their dicts in the order of creation."""
        now = self.train_state
        written = weight_spec(self.layer, self._trial())
        return tree.same_order(now.params, written[0]), tree.same_order(now.state, written[1])

    def build(self, input_shape: Any) -> None:
        """Makes the weights for inputs of this shape, the batch included: `(None, 28, 28, 1)`."""
        several = bool(input_shape) and isinstance(input_shape[0], (tuple, list))
        node = lambda shape: Node(None, (), input_specs(shape))
        self._inputs = tuple(map(node, input_shape)) if several else node(input_shape)
        self._build()

    def _build(self) -> None:
        key = random.fold_in(self._key, salt("init"))
        params, state = initialize(self.layer, key, self._trial())
        for path, model in self._adopted():
            params = tree.put(params, path, model.train_state.params)
            state = tree.put(state, path, model.train_state.state)
        self._train_state = TrainState(
            params, state, None, random.fold_in(self._key, salt("train"))
        )

    def _ensure_built(self, x: Any) -> None:
        if not self.built:
            specs = lambda a: input_specs((None, *a.shape[1:]), a.dtype)
            self._inputs = jax.tree.map(lambda a: Node(None, (), specs(a)), x)
            self._build()

    def _trial(self, index: int = 0) -> Any:
        """Shapes and dtypes of the inputs, at one of the trial sizes for what is free."""
        return jax.tree.map(lambda node: node.specs[index], self._inputs)

    def _adopted(self) -> Iterator[tuple[tree.Path, Weighted]]:
        """Where the weights of other models go: (path, model)."""
        done: list[tree.Path] = []
        for path, layer, copies in walk(self.layer):
            source = vars(layer).get("_source")
            if source is None or any(path[: len(outer)] == outer for outer in done):
                continue
            model = source()
            if model is None:
                raise ValueError(
                    f"expected the model whose weights go to {'/'.join(path) or 'this model'}, "
                    "received one that is gone; do keep it in a variable until this one is built"
                )
            if model.built and copies:
                raise ValueError(
                    f"expected a layer inside the copies at {'/'.join(path)}, received the model "
                    f"{model.name!r} with its weights; do give it model.layer"
                )
            if model.built:
                done.append(path)
                yield path, model

    def get_weights(self) -> list[np.ndarray]:
        """All weights as NumPy arrays, layer by layer, what learns before what moves."""
        parts = {"params": self.train_state.params, "state": self.train_state.state}
        return [np.asarray(tree.get(parts[part], path)) for part, path in self._order()]

    def set_weights(self, arrays: list[Any]) -> None:
        """Replaces all weights, in the order of `get_weights`. All or nothing.

        Raises ValueError listing every place where number or shape differ.
        """
        order, old = self._order(), self.get_weights()
        wrong = [
            f"{'/'.join(path)}: expected {a.shape}, received {np.shape(b)}"
            for (_, path), a, b in zip(order, old, arrays, strict=False)
            if a.shape != np.shape(b)
        ]
        if len(old) != len(arrays) or wrong:
            raise ValueError(
                f"expected {len(old)} arrays like those of get_weights, received {len(arrays)}"
                + "".join(f"\n  {line}" for line in wrong)
            )
        parts: dict[str, Any] = {"params": self.train_state.params, "state": self.train_state.state}
        for (part, path), a, b in zip(order, old, arrays, strict=True):
            parts[part] = tree.put(parts[part], path, jnp.array(np.array(b, a.dtype, copy=True)))
        self.train_state = self.train_state.replace(**parts)

    def _order(self) -> list[tuple[str, tree.Path]]:
        params, state = self._ordered
        return weights.in_order(self.layer, params, state)

    def count_params(self) -> int:
        """How many numbers the weights hold, those that move included."""
        return sum(array.size for array in self.get_weights())

    # -- structure -------------------------------------------------------------------------------

    def as_layer(self) -> Layer:
        """The pure network, for use inside another, which takes over the weights of this model."""
        if self._as_layer is None or self._as_layer != self.layer:
            self._as_layer = self.layer.replace()
            object.__setattr__(self._as_layer, "_source", weakref.ref(self))
        return self._as_layer

    def __iter__(self) -> Iterator[Any]:
        """`init, apply = model`: the pair of the pure network."""
        return iter(self.layer)

    def __call__(self, *given: Any, **named: Any) -> Any:
        """A node of a graph for symbolic inputs; for arrays the outputs, on the device."""
        if any(isinstance(leaf, Node) for leaf in jax.tree.leaves(given)):
            if not self.built:
                one = given[0] if len(given) == 1 else given
                self._inputs = tuple(one) if isinstance(one, list) else one
                self._build()
            result = symbolic_call(self.as_layer(), given, named)
            for node in jax.tree.leaves(result):
                node.source = self
            return result
        x = self._match_inputs(inputs.as_inputs(given[0] if len(given) == 1 else given, True))
        self._ensure_built(x)
        return self._forward(x)

    def _forward(self, x: Any) -> Any:
        """The outputs for a batch on the device; layers that are stateful go on from there."""
        now = self.train_state
        outputs, state = make_predict_step(self.layer)(now.params, now.state, x)
        if weights.is_stateful(self.layer):
            self.train_state = now.replace(state=state)
        return outputs

    @property
    def _carry(self) -> Callable[[Any], None] | None:
        """What keeps the state after an inference; None where no layer is stateful."""
        if not weights.is_stateful(self.layer):
            return None
        return lambda weighted: setattr(
            self, "train_state", self.train_state.replace(state=weighted[1])
        )

    @property
    def layers(self) -> list[Layer]:
        """The layers directly inside, in order."""
        return [child for _, child in self.layer.children()] or [self.layer]

    def get_layer(self, name: str | None = None, index: int | None = None) -> Layer:
        """The layer of that name or at that place. Raises ValueError naming those there are."""
        children = dict(self.layer.children())
        if name is not None and name in children:
            return children[name]
        if index is not None and -len(children) <= index < len(children):
            return list(children.values())[index]
        raise ValueError(
            f"expected one of the {len(children)} layers {list(children)}, received "
            f"{name if index is None else index!r}"
        )

    @property
    def trainable(self) -> bool:
        """False: no weight of this model learns. Compile again after a change."""
        return self.layer.trainable

    @trainable.setter
    def trainable(self, trainable: bool) -> None:
        self.layer = self.layer.replace(trainable=bool(trainable))
        if self._train_state is not None:
            self._train_state = self._train_state.replace(optimizer=None)

    @property
    def input_shape(self) -> Any:
        """The shape of the inputs, None where the size is free."""
        return jax.tree.map(lambda node: node.shape, self._inputs)

    @property
    def output_shape(self) -> Any:
        """The shape of the outputs, None where the size is free."""
        return Node(None, (), tuple(output_spec(self.layer, self._trial(i)) for i in (0, 1))).shape

    @property
    def output_names(self) -> list[str]:
        """The names of the outputs: the keys of a dict, or the names of their layers."""
        spec = applied_spec(
            self.layer, self.train_state.params, self.train_state.state, self._trial()
        )
        if isinstance(spec, dict):
            return sorted(spec)
        count = len(output_leaves(spec))
        if isinstance(self.layer, Graph):
            first, steps = len(leaves(self.layer.inputs)), self.layer.steps
            names = [
                steps[p - first][0] if p >= first else f"input_{p}"
                for p in leaves(self.layer.outputs)
            ]
            if len(names) == count:
                return names
        return ["output"] if count == 1 else [f"output_{i}" for i in range(count)]

    @property
    def _several(self) -> bool:
        return isinstance(self._inputs, (tuple, dict))

    def _match_inputs(self, x: Any) -> Any:
        """`x` in the structure of the inputs: a dict by the names of inputs becomes a tuple."""
        if isinstance(self._inputs, tuple) and isinstance(x, dict):
            names = [node.name for node in self._inputs]
            if set(names) - set(x):
                raise ValueError(
                    f"expected inputs by the names {names}, received {sorted(x)}; "
                    "do name each Input(name=...), or give a list"
                )
            return tuple(x[name] for name in names)
        if isinstance(self._inputs, Node) and isinstance(x, dict) and self._inputs.name in x:
            return x[self._inputs.name]
        return x

    summary, __repr__ = summaries.summary, summaries.describe
