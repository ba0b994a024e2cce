"""Lists: the weights of a network as flat lists, which Keras's functions on JAX take and return."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import jax.numpy as jnp
from jax import Array, random

from fnn.core import tree, tying
from fnn.core import weights as core_weights
from fnn.core.calling import call
from fnn.core.context import Context
from fnn.core.layer import Layer
from fnn.core.tree import Path, Tree
from fnn.models.sharing import Weights
from fnn.models.variables import Key, keys_of
from fnn.symbolic.node import bound_call
from fnn.variables import value_of

Values: TypeAlias = Sequence[Tree]


def array_of(value: Tree) -> Array:
    """A value, or that of a variable, as an array of JAX."""
    return jnp.asarray(value_of(value))


class Result(NamedTuple):
    """The outputs of a call, which may have masks, the non-trainable values after it, losses."""

    outputs: Tree
    non_trainable: list[Array]
    losses: list[Array]


class Lists:
    """The weights at a path of a network as two lists, in Keras's order.

    The trainable ones; all others, and the state of the random numbers last, if the network draws
    any in training: each call in training returns another one.
    """

    def __init__(self, weights: Weights, place: Path = ()) -> None:
        self.weights = weights
        self.place = place
        self.learned = keys_of(weights, place, learned=True)
        self.others = keys_of(weights, place, learned=False)
        self.draws = weights.network.draws_in_training

    def seed(self, key: Array) -> list[Array]:
        """The entry for random numbers from a key; none if the network draws none."""
        if not self.draws:
            return []
        return [random.key_data(key)]

    def of(self, now: Tree, key: Array) -> tuple[list[Array], list[Array]]:
        """Both lists, of a state."""
        trainable = [_at(now, name) for name in self.learned]
        others = [_at(now, name) for name in self.others]
        return trainable, others + self.seed(key)

    def put(self, now: Tree, trainable: Values, non_trainable: Values) -> Tree:
        """A state with these values."""
        self.check(trainable, non_trainable)
        trees = {"params": now.params, "state": now.state}
        names = (*self.learned, *self.others)
        values = (*trainable, *non_trainable[: len(self.others)])
        for (part, path), value in zip(names, values, strict=True):
            trees[part] = tree.put(trees[part], path, array_of(value))
        return now.replace(**trees)

    def check(self, trainable: Values, non_trainable: Values) -> None:
        """Raises ValueError for lists of other lengths."""
        given = (len(trainable), len(non_trainable))
        expected = (len(self.learned), len(self.others) + self.draws)
        if given != expected:
            raise ValueError(
                f"expected the values of {expected[0]} trainable_variables and {expected[1]} "
                f"non_trainable_variables of {self.weights.network.name!r}, received {given[0]} "
                f"and {given[1]}; pass [v.value for v in model.trainable_variables] and so on"
            )

    def call(
        self,
        layer: Layer,
        trainable: Values,
        non_trainable: Values,
        given: tuple[Tree, ...],
        named: dict[str, Tree],
    ) -> Result:
        """Runs the layer with these values."""
        named = dict(named)
        training = bool(named.pop("training", None))
        run, x = bound_call(layer, given, named)
        before = self.weights.now
        now = self.put(before, trainable, non_trainable)
        key, own = before.key, before.key
        if self.draws:
            impl = random.key_impl(before.key)
            key = random.wrap_key_data(array_of(non_trainable[-1]), impl=impl)
            if training:
                key, own = random.split(key)
        ties = self.weights.network.ties
        params = tying.take(now.params, self.place, ties)
        state = tying.take(now.state, self.place, ties)
        ctx = Context(train=training, key=own)
        y, after = call(run, params, state, x, ctx)
        whole = tying.give(now.state, self.place, after, ties)
        now = now.replace(state=whole)
        penalties = [value for _, value in core_weights.penalties(run, params)]
        losses = [*core_weights.auxiliaries(after), *penalties]
        others = [_at(now, name) for name in self.others]
        return Result(y, others + self.seed(key), losses)


def _at(now: Tree, name: Key) -> Array:
    part, path = name
    found: Array = tree.get(getattr(now, part), path)
    return found
