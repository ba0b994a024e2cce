"""Legacy HDF5 files: weights in lists by layer, as Keras 2 and Keras 3 write `.h5`."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from fnn.core import weights
from fnn.core.layer import Layer
from fnn.core.tree import Path
from fnn.layers.sequential import Sequential
from fnn.saving.keras.hdf5 import Dataset, Group
from fnn.saving.keras.layout import Key, Weights, listed
from fnn.saving.keras.weights import Entry, name_of, put
from fnn.symbolic.graph import Graph

Stored: TypeAlias = list[tuple[str, Dataset]]  # the weights of a layer by their names
# An attribute of an object may have so many bytes.
_LONGEST_ATTRIBUTE = 64_512
_TOP = "top_level_model_weights"


class Listed(NamedTuple):
    """A layer of a model, and its weights in the order of these files."""

    name: str
    weights: tuple[Key, ...]


def is_legacy(root: Group) -> bool:
    """Whether a file has lists of weights by layer."""
    return "model_weights" in root.items or "layer_names" in _names_of_lists(root)


def _names_of_lists(group: Group) -> set[str]:
    return {name.rstrip("0123456789") for name in group.attributes}


def layers_of(layer: Layer, specs: Weights) -> list[Listed]:
    """The layers of a model with all weights inside: those that learn come first."""
    body: Layer = getattr(layer, "_body", None) or layer
    if isinstance(body, (Graph, Sequential)):
        inside = listed(body)
    else:
        inside = [(name or "", child) for name, child in body.children()]
    frozen = weights.frozen_paths(layer)

    def is_fixed(key: Key) -> bool:
        part, path = key
        return part == "state" or _is_in(path, frozen)

    found = []
    for name, child in inside:
        keys = weights.in_order(layer, *specs, (name,))
        keys = sorted(keys, key=is_fixed)
        found.append(Listed(child.own_name or name, tuple(keys)))
    return found


def _is_in(path: Path, places: Iterable[Path]) -> bool:
    return any(path[: len(place)] == place for place in places)


def own_weights(layer: Layer, specs: Weights, layers: Sequence[Listed]) -> Listed:
    """The weights of the model that are in none of its layers."""
    inside = {key for one in layers for key in one.weights}
    keys = weights.in_order(layer, *specs)
    return Listed(_TOP, tuple(key for key in keys if key not in inside))


def find(
    root: Group,
    layers: Sequence[Listed],
    own: Listed,
    wanted: Mapping[str, Any],
    by_name: bool = False,
) -> dict[str, Entry]:
    """The arrays of a file for the weights of a model, by their names there.

    The layers with weights follow each other in the file as in the model; `by_name` finds them by
    their names instead. Arrays without a weight in the model are among the others, by their path.
    Raises ValueError for another number of layers, or of weights in a layer.
    """
    if "model_weights" in root.items:
        root = root.group("model_weights")
    stored = dict(_stored(root))
    stored = {name: arrays for name, arrays in stored.items() if arrays}
    if by_name:
        pairs = [(one, stored[one.name]) for one in layers if one.name in stored]
    else:
        pairs = _in_order(layers, stored)
    if own.weights and _TOP in root.items:
        pairs.append((own, list(_arrays(root.group(_TOP)))))
    found: dict[str, Entry] = {}
    for one, arrays in pairs:
        if len(arrays) != len(one.weights):
            names = ", ".join(name for name, _ in arrays)
            raise ValueError(
                f"the layer {one.name} has {len(one.weights)} weights, and the file has "
                f"{len(arrays)} for it: {names}"
            )
        for key, (_, dataset) in zip(one.weights, arrays, strict=True):
            name = name_of(key)
            found[name] = Entry(dataset, wanted[name].dtype)
    return found


def _in_order(
    layers: Sequence[Listed], stored: dict[str, Stored]
) -> list[tuple[Listed, Stored]]:
    having = [one for one in layers if one.weights]
    if len(having) != len(stored):
        raise ValueError(
            f"the model has {len(having)} layers with weights, {_shown(o.name for o in having)}, "
            f"and the file {len(stored)}, {_shown(stored)}; pass by_name=True to load those that "
            "have the same names"
        )
    return list(zip(having, stored.values(), strict=True))


def _shown(names: Iterable[str]) -> str:
    listed = list(names)
    more = ", ..." if len(listed) > 9 else ""
    return ", ".join(listed[:9]) + more


def _stored(root: Group) -> Iterator[tuple[str, Stored]]:
    """The layers of a file, in order, with the names and arrays of their weights."""
    for name in strings(root, "layer_names"):
        yield name, list(_arrays(root.group(name)))


def _arrays(group: Group) -> Iterator[tuple[str, Dataset]]:
    for name in strings(group, "weight_names"):
        dataset = group.find(name)
        if not isinstance(dataset, Dataset):
            raise ValueError(f"it has no array {name}")
        yield name, dataset


def optimizer_arrays(root: Group) -> list[Dataset] | None:
    """The arrays of the optimizer in a file, None if there are none."""
    if "optimizer_weights" not in root.items:
        return None
    return [dataset for _, dataset in _arrays(root.group("optimizer_weights"))]


def strings(group: Group, name: str) -> list[str]:
    """A list of strings of a group, which may lie in several attributes."""
    if name in group.attributes:
        parts = [group.attributes[name]]
    else:
        parts = []
        while f"{name}{len(parts)}" in group.attributes:
            parts.append(group.attributes[f"{name}{len(parts)}"])
    lists = [part for part in parts if isinstance(part, list)]
    found = list(itertools.chain.from_iterable(lists))
    if not all(isinstance(item, str) for item in found):
        raise ValueError(f"it has {name} that are no strings")
    return found


# -- writing ---------------------------------------------------------------------------------------


def write(
    file: Any,
    layers: Sequence[Listed],
    own: Listed,
    arrays: Mapping[str, np.ndarray],
) -> None:
    """Writes the weights into a group of an open file of h5py."""
    _put_strings(file, "layer_names", [one.name for one in layers])
    # Keras converts the kernels of other backends.
    file.attrs["backend"] = b"jax"
    for one in sorted([*layers, own], key=lambda one: one.name):
        named = {"/".join(key[1]): arrays[name_of(key)] for key in one.weights}
        write_list(file.create_group(one.name), named)


def write_list(group: Any, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays in an order, by their names."""
    _put_strings(group, "weight_names", list(arrays))
    for name, array in arrays.items():
        put(group, name, array)


def _put_strings(group: Any, name: str, given: Sequence[str]) -> None:
    items = np.array([item.encode() for item in given])
    if items.nbytes <= _LONGEST_ATTRIBUTE:
        group.attrs[name] = items
        return
    each = max(1, _LONGEST_ATTRIBUTE // items.itemsize)
    for number, start in enumerate(range(0, len(items), each)):
        group.attrs[f"{name}{number}"] = items[start : start + each]
