"""Laying out: arrays on the devices that a distribution gives them, by their paths and shapes."""

from __future__ import annotations

from typing import Any

import jax
from jax.sharding import NamedSharding, Sharding

from fnn.core.tree import SpecTree, Tree, path_name
from fnn.runtime.layouts import Distribution, Weight
from fnn.runtime.placement import partition
from fnn.runtime.processes import put


def shardings(
    distribution: Distribution, arrays: SpecTree, root: str | None = None
) -> Tree:
    """The sharding of each array of a pytree.

    `root` is the name of the network whose weights they are. Without one the pytree may hold
    other things too, such as the state of an optax optimizer: then rules see each array under the
    ends of its path as well, and leave out what they cannot divide.
    """

    def sharding(path: Any, leaf: Any) -> NamedSharding:
        name = path_name(path)
        names = [name, f"{root}/{name}"]
        if root is None:
            names = _ends(name)
        shape = jax.numpy.shape(leaf)
        weight = Weight(tuple(names), shape, root is not None)
        return distribution.sharding(weight)

    return jax.tree_util.tree_map_with_path(sharding, arrays)


def _ends(path: str) -> list[str]:
    """The ends of a path, the longest first: `a/b/c`, `b/c`, `c`."""
    parts = path.split("/")
    return ["/".join(parts[first:]) for first in range(len(parts))]


def place(distribution: Distribution, arrays: Tree) -> Tree:
    """A pytree on the devices of a distribution; arrays that the user put on devices stay there."""

    def put_free(array: Any, sharding: NamedSharding) -> Any:
        if is_committed(array):
            return array
        return put(array, sharding)

    return jax.tree.map(put_free, arrays, shardings(distribution, arrays))


def is_committed(array: object) -> bool:
    """Whether the devices of an array were chosen: by the user, or by a distribution."""
    if not isinstance(array, jax.Array) or isinstance(array, jax.core.Tracer):
        return False
    return array.committed


def beside_params(optimizer: Tree, params: Tree) -> Tree:
    """The state of an optimizer with each array on the devices of the weight that it belongs to.

    That is the weight whose path ends the array's path, and whose shape it has. Other arrays are
    replicated on these devices. Nothing moves unless the devices of weights were chosen.
    """
    weights = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if is_committed(leaf):
            weights[path_name(path)] = leaf
    if not weights:
        return optimizer
    everywhere = _replicated(next(iter(weights.values())).sharding)

    def put(path: Any, leaf: Any) -> Any:
        for end in _ends(path_name(path)):
            weight = weights.get(end)
            if weight is not None and weight.shape == jax.numpy.shape(leaf):
                return _put(leaf, weight.sharding)
        return _put(leaf, everywhere)

    return jax.tree_util.tree_map_with_path(put, optimizer)


def _replicated(sharding: Sharding) -> Sharding:
    """The sharding of replicated arrays on the devices of another one."""
    if isinstance(sharding, NamedSharding):
        return NamedSharding(sharding.mesh, partition())
    return sharding


def _put(leaf: Any, sharding: Sharding) -> Any:
    if is_committed(leaf) and leaf.sharding == sharding:
        return leaf
    return put(leaf, sharding)
