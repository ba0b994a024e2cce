"""The updates that an optimizer with `get_updates` returns, as a tree like the weights."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from fnn.core import tree


def expand_updates(updates: Any, params: Any) -> Any:
    """Updates as `get_updates` returns them, as a tree like `params`: zeros where none is given.

    A list has one for each of `jax.tree.leaves(params)`, in that order. Raises TypeError for what
    is neither a dict by path nor such a list, ValueError for a path that is no weight, a list of
    another length and an update of another shape.

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
            f"expected updates of weights, received {unknown}, which are none; name them by "
            f"path: {', '.join(list(known)[:8])}"
        )
    return tree.unflatten(
        (path, _expanded(name, given.get(name), weight))
        for name, (path, weight) in known.items()
    )


def _updates_by_path(updates: Any, params: Any) -> dict[str, Any]:
    if isinstance(updates, (list, tuple)):
        count = len(jax.tree.leaves(params))
        if len(updates) != count:
            raise ValueError(
                f"expected a list of an update for each of {count} weights, received "
                f"{len(updates)}; give all, in the order of jax.tree.leaves(params), or a dict "
                "by path"
            )
        updates = jax.tree.unflatten(jax.tree.structure(params), updates)
    found = dict(tree.flatten(updates))
    odd = [
        path for path in found if not path or not all(isinstance(n, str) for n in path)
    ]
    if odd and updates is not None:
        received = f"the key {odd[0][-1]!r}" if odd[0] else f"{type(updates).__name__}"
        raise TypeError(
            f"expected updates as a dict by path or a tree like params, received {received}; "
            'return e.g. {"dense/kernel": update}'
        )
    return {"/".join(path): leaf for path, leaf in found.items() if path}


def _expanded(name: str, update: Any, weight: Any) -> Any:
    if update is None:
        return jax.tree.map(jnp.zeros_like, weight) if hasattr(weight, "shape") else 0.0
    shape = getattr(update, "shape", () if isinstance(update, (int, float)) else None)
    if shape not in ((), jnp.shape(weight)):
        received = type(update).__name__ if shape is None else shape
        raise ValueError(
            f"expected an update of shape {jnp.shape(weight)} for {name}, received {received}; "
            "return what is to be added to the weight"
        )
    return update
