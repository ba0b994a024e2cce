"""Weights in Keras's layout: found in a file for the weights of a network, and written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from fnn.saving.keras.hdf5 import Dataset, Group
from fnn.saving.keras.layout import Holder, Key

# What a file has beside the weights of layers.
_BESIDE = ("optimizer", "metrics", "compile_metrics", "loss_tracker", "vars")
# Of the states of random generators, which fnn does not keep by layer.
_GENERATOR = "generator"
# The attribute of layers in files of Keras 2.13.
_LISTED_BEFORE = "_layer_checkpoint_dependencies"


class Entry:
    """An array in a file for a weight of a dtype, read by `read`."""

    def __init__(self, dataset: Dataset, dtype: Any = None) -> None:
        self.dataset = dataset
        self.shape = dataset.shape
        self.dtype = dtype or dataset.dtype

    def read(self) -> np.ndarray:
        """The values in the dtype of the weight."""
        values = self.dataset.read()
        if self.dataset.attributes.get("dtype") == "bfloat16":
            values = values.view(jnp.bfloat16)
        if values.dtype.type is np.void:
            raise ValueError(f"it has an array of bytes, {values.dtype}, as a weight")
        return values.astype(self.dtype, copy=False)


def name_of(key: Key) -> str:
    """The name of a weight: "params/dense/kernel"."""
    part, path = key
    return "/".join((part, *path))


def find(
    root: Group, holders: Sequence[Holder], wanted: Mapping[str, Any]
) -> dict[str, Entry]:
    """The arrays of a file for the weights of a network, by their names there.

    `wanted` are the weights by name, with their dtypes. Arrays for which the network has no
    weight are among the others, under their path in the file.
    """
    found: dict[str, Entry] = {}
    used: set[int] = set()
    for holder, group in with_groups(root, holders):
        variables = group.group("vars").items
        for number, key in enumerate(holder.weights):
            dataset = variables.get(str(number))
            if isinstance(dataset, Dataset):
                name = name_of(key)
                used.add(id(dataset))
                found[name] = Entry(dataset, wanted[name].dtype)
    for path, dataset in root.datasets():
        if id(dataset) not in used and not _is_beside(path):
            found[path] = Entry(dataset)
    return found


def _is_beside(path: str) -> bool:
    names = path.split("/")
    if names[0] in _BESIDE:
        return True
    # What a class or a vocabulary stores has a name instead of a number.
    if not names[-1].isdigit():
        return True
    return any(name.endswith(_GENERATOR) for name in names)


def with_groups(
    root: Group, holders: Sequence[Holder]
) -> Iterator[tuple[Holder, Group]]:
    """Each holder and its group; an empty one if there is none."""
    found: list[Group] = []
    for holder in holders:
        group = root
        if holder.above is not None:
            group = _inside(found[holder.above], holder)
        found.append(group)
        yield holder, group


def _inside(above: Group, holder: Holder) -> Group:
    """The group of a holder: by its place, else by its name."""
    for attribute in holder.attributes:
        for place in (attribute, attribute.replace("layers/", f"{_LISTED_BEFORE}/")):
            found = above.find(place)
            if isinstance(found, Group):
                return found
    around = above.group(holder.attributes[0].rpartition("/")[0])
    named = [
        item
        for item in around.items.values()
        if isinstance(item, Group) and _name(item) == holder.name
    ]
    if len(named) == 1:
        return named[0]
    return Group({})


def _name(group: Group) -> object:
    return group.group("vars").attributes.get("name")


def write(
    file: Any, holders: Sequence[Holder], arrays: Mapping[str, np.ndarray]
) -> None:
    """Writes the weights into an open file of h5py, or a group of it."""
    for holder in holders:
        place = f"{holder.place}/vars" if holder.place else "vars"
        group = file.require_group(place)
        group.attrs["name"] = holder.name
        for number, key in enumerate(holder.weights):
            put(group, str(number), arrays[name_of(key)])


def put(group: Any, name: str, array: np.ndarray) -> None:
    """Writes an array as Keras writes it."""
    array = np.asarray(array)
    is_brain = array.dtype == jnp.bfloat16
    if array.dtype.kind == "V" and not is_brain:
        raise ValueError(
            f"HDF5 files have no {array.dtype}, which {name} is; save the model as .fnn"
        )
    dataset = group.create_dataset(name, data=array)
    if is_brain:
        dataset.attrs["dtype"] = "bfloat16"
