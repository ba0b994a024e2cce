"""Snapshots as named arrays and JSON: every leaf by its path, the rest as plain data."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, random

from fnn.core.tree import Tree
from fnn.runtime.processes import put
from fnn.saving.report import compare
from fnn.saving.tensors import FileError
from fnn.training.checkpoint import Snapshot
from fnn.training.places import Place
from fnn.training.plain import from_plain, to_plain
from fnn.training.state import TrainState

FORMAT = 1  # of the JSON
STATE, SUMS, COUNTERS = "state", "sums", "callbacks"  # the first parts of names

Leaf: TypeAlias = Any  # an array of JAX or NumPy, a random key, a number
Arrays: TypeAlias = dict[str, Any]
Json: TypeAlias = dict[str, Any]
Specs: TypeAlias = Mapping[str, Any]  # anything with a shape and a dtype


def named(part: str, tree: Tree) -> dict[str, Leaf]:
    """The leaves of a pytree by their paths, in its order; equal names are numbered.

    >>> named("state", {"a": 1, "b": (2, 3)})
    {'state/a': 1, 'state/b/0': 2, 'state/b/1': 3}
    """
    found: dict[str, Leaf] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        steps = jax.tree_util.keystr(path, simple=True, separator="/")
        name = f"{part}/{steps}".removesuffix("/")
        number = 2
        while name in found:
            name = f"{part}/{steps}~{number}"
            number += 1
        found[name] = leaf
    return found


# -- to be stored ----------------------------------------------------------------------------------


def stored(snapshot: Snapshot, weights_only: bool = False) -> tuple[Arrays, Json]:
    """A snapshot as arrays by name, still on their devices, and JSON."""
    state = snapshot.state
    if weights_only and isinstance(state, TrainState):
        state = {"params": state.params, "state": state.state}
    leaves = named(STATE, state)
    if snapshot.batch:
        leaves |= named(SUMS, snapshot.sums)
    leaves |= named(COUNTERS, _without_none(snapshot.counters))
    keys = {
        name: str(random.key_impl(leaf))
        for name, leaf in leaves.items()
        if _is_key(leaf)
    }
    place = None
    if snapshot.place is not None:
        place = to_plain(vars(snapshot.place), "the state of the loader")
    described = {
        "format": FORMAT,
        "epoch": snapshot.epoch,
        "batch": snapshot.batch,
        "step": snapshot.step,
        "stopped": bool(snapshot.stopped),
        "keys": keys,
        "counters": _skeleton(COUNTERS, _without_none(snapshot.counters)),
        "place": place,
        "record": to_plain(dict(snapshot.record), "record"),
        "history": to_plain(snapshot.history, "the History"),
        "logs": to_plain(snapshot.logs, "the logs"),
    }
    return {name: _data(leaf) for name, leaf in leaves.items()}, described


def _is_key(leaf: Leaf) -> bool:
    dtype = getattr(leaf, "dtype", None)
    return dtype is not None and jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key)


def _data(leaf: Leaf) -> Leaf:
    """An array of numbers: that behind a random key, or of a Python number."""
    if _is_key(leaf):
        return random.key_data(leaf)
    if hasattr(leaf, "dtype"):
        return leaf
    return np.asarray(leaf)


def _without_none(tree: Tree) -> Tree:
    if not isinstance(tree, Mapping):
        return tree
    return {
        name: _without_none(part) for name, part in tree.items() if part is not None
    }


def _skeleton(path: str, tree: Tree) -> Json | str:
    """Nested dicts with the name of its array in place of each leaf."""
    if not isinstance(tree, Mapping):
        return path
    return {str(name): _skeleton(f"{path}/{name}", part) for name, part in tree.items()}


# -- as they were ----------------------------------------------------------------------------------


def wanted(
    described: Json, specs: Specs, like: Snapshot, path: object
) -> dict[str, Leaf]:
    """The leaf of `like` for each array that is needed; None for one that has none.

    Raises FileError, listing the differences, for a snapshot of another structure, and for one
    of a newer version.
    """
    with _reading(path):
        version = described["format"]
        if version > FORMAT:
            raise FileError(
                f"expected {path} in format {FORMAT}, received format {version} of a newer fnn; "
                "upgrade fnn to read it"
            )
        return _wanted(described, specs, like, path)


@contextlib.contextmanager
def _reading(path: object) -> Iterator[None]:
    """A context in which JSON of another form is an error of the file."""
    try:
        yield
    except FileError:
        raise
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        TypeError,
        ValueError,
    ) as error:
        raise FileError(
            f"expected a checkpoint of a training in {path}, received JSON of another form: "
            f"{error!r}; remove it to start over"
        ) from error


def _wanted(
    described: Json, specs: Specs, like: Snapshot, path: object
) -> dict[str, Leaf]:
    leaves = named(STATE, like.state)
    if described["batch"] and like.sums is not None:
        leaves |= named(SUMS, like.sums)
    parts = set(map(_part_of, leaves))
    found = {name: spec for name, spec in specs.items() if _part_of(name) in parts}
    data = {name: _data(leaf) for name, leaf in leaves.items()}
    report = compare(data, found)
    if not report.ok:
        raise FileError(
            f"expected a checkpoint of an equal training in {path}, received differences:\n  "
            + "\n  ".join(sorted(report.lines()))
            + "\nmake the model as it was, or start over in another folder"
        )
    for name, leaf in leaves.items():
        impl = described["keys"].get(name)
        if _is_key(leaf) and impl != str(random.key_impl(leaf)):
            raise FileError(
                f"expected a random key of {random.key_impl(leaf)} for {name} in {path}, "
                f"received one of {impl}; make the keys as they were"
            )
    counters = [name for name in specs if _part_of(name) == COUNTERS]
    return {**leaves, **dict.fromkeys(counters)}


def _part_of(name: str) -> str:
    return name.partition("/")[0]


def restored(described: Json, arrays: Arrays, like: Snapshot, path: object) -> Snapshot:
    """The snapshot of these arrays, in the structures and on the devices of `like`."""
    with _reading(path):
        return _restored(described, arrays, like)


def _restored(described: Json, arrays: Arrays, like: Snapshot) -> Snapshot:
    sums = None
    if described["batch"] and like.sums is not None:
        sums = _filled(SUMS, like.sums, arrays)
    return Snapshot(
        _filled(STATE, like.state, arrays),
        _count(described["epoch"]),
        _count(described["batch"]),
        _count(described["step"]),
        sums=sums,
        counters=_counters(described["counters"], arrays),
        stopped=described["stopped"],
        place=_place(described),
        record=from_plain(described["record"]),
        history=from_plain(described["history"]),
        logs=from_plain(described["logs"]),
    )


def _place(described: Json) -> Place | None:
    """The position of this process in its stream; None where there is none."""
    place = described["place"]
    places = described.get("places", [place])
    if len(places) == jax.process_count():
        place = places[jax.process_index()]
    if place is None:
        return None
    return Place(**from_plain(place))


def _count(value: object) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"expected a number from 0 on, received {value!r}")
    return value


def _filled(part: str, like: Tree, arrays: Arrays) -> Tree:
    leaves = named(part, like)
    filled = [_as(leaf, arrays[name]) for name, leaf in leaves.items()]
    return jax.tree.unflatten(jax.tree.structure(like), filled)


def _counters(skeleton: Json | str, arrays: Arrays) -> Tree:
    if isinstance(skeleton, str):
        array = arrays[skeleton]
        return array if array.ndim else array[()]
    return {name: _counters(part, arrays) for name, part in skeleton.items()}


def _as(like: Leaf, value: np.ndarray | Array) -> Leaf:
    """A stored array as the leaf that it was, where `like` is: on devices, or on the host."""
    if _is_key(like):
        impl = random.key_impl(like)
        key = random.wrap_key_data(jnp.asarray(value), impl=impl)
        return put(key, like.sharding) if like.committed else key
    if isinstance(value, jax.Array):
        return value
    if isinstance(like, jax.Array):
        # A copy, since JAX may use the memory of NumPy as it is.
        copied = np.array(value, copy=True)
        if like.committed:
            return put(copied, like.sharding)
        return jax.device_put(copied)
    if isinstance(like, np.ndarray):
        return value
    if isinstance(like, np.generic):
        return value[()]
    return type(like)(value[()])


def at(snapshot: Snapshot) -> str:
    """The name of a snapshot, from its position."""
    return f"epoch-{snapshot.epoch}-step-{snapshot.step}"
