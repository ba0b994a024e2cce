"""The updates that an optimizer with `get_updates` returns, as a tree like the weights."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from fnn.core import tree
from fnn.core.tree import Tree


def expand_updates(updates: Tree, params: Tree) -> Tree:
    """Updates as `get_updates` returns them, as a tree like `params`; missing ones are zeros.

    A list holds one update for each of `jax.tree.leaves(params)`, in that order. Raises
    TypeError for anything but a dict by path, a tree like `params` or such a list;
    ValueError for a path that is not a weight, a list of another length and an update of
    another shape.

    >>> expand_updates({"dense/bias": 1.0}, {"dense": {"bias": 0.0, "kernel": 0.0}})
    {'dense': {'bias': 1.0, 'kernel': 0.0}}
    >>> expand_updates([1.0, 2.0], {"dense": {"bias": 0.0, "kernel": 0.0}})
    {'dense': {'bias': 1.0, 'kernel': 2.0}}
    """
    if not isinstance(params, dict):
        return updates
    given = _updates_by_path(updates, params)
    known = {"/".join(path): (path, leaf) for path, leaf in tree.flatten(params)}
    unknown = [path for path in given if path not in known and given[path] is not None]
    if unknown:
        raise ValueError(
            f"expected updates of weights, received {unknown}, which are not weights; name "
            f"them by path: {', '.join(list(known)[:8])}"
        )
    return tree.unflatten(
        (path, _expanded(name, given.get(name), weight))
        for name, (path, weight) in known.items()
    )


def _updates_by_path(updates: Tree, params: Tree) -> Mapping[str, Tree]:
    if isinstance(updates, (list, tuple)):
        count = len(jax.tree.leaves(params))
        if len(updates) != count:
            raise ValueError(
                f"expected a list of an update for each of {count} weights, received "
                f"{len(updates)}; give all, in the order of jax.tree.leaves(params), or a "
                "dict by path"
            )
        updates = jax.tree.unflatten(jax.tree.structure(params), updates)
    found = dict(tree.flatten(updates))
    for path in found:
        # The path of a leaf alone is empty: then `updates` is not a dict at all.
        if updates is not None and (
            not path or not all(isinstance(name, str) for name in path)
        ):
            received = type(updates).__name__
            if path:
                received = f"the key {path[-1]!r}"
            raise TypeError(
                "expected updates as a dict by path or a tree like params, received "
                f'{received}; return e.g. {{"dense/kernel": update}}'
            )
    return {"/".join(path): leaf for path, leaf in found.items() if path}


def _expanded(
    name: str,
    update: Tree,
    weight: Tree,
) -> Tree:
    """The update of one weight, of its shape or a number; zeros for None."""
    if update is None:
        if not hasattr(weight, "shape"):
            return 0.0
        return jax.tree.map(jnp.zeros_like, weight)

    shape = getattr(update, "shape", None)
    if isinstance(update, (int, float)):
        shape = ()
    if shape not in ((), jnp.shape(weight)):
        received: object = shape
        if shape is None:
            received = type(update).__name__
        raise ValueError(
            f"expected an update of shape {jnp.shape(weight)} for {name}, received "
            f"{received}; return the change to add to the weight"
        )
    return update
