"""Sources: what a user may pass as data, told apart: arrays, batches, single examples, names."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np

Data: TypeAlias = Any  # data as a user passes it: arrays, frames, lists, dicts, None
Item: TypeAlias = Any  # one item of a stream: a batch, or a single example

# What most users pass, which is of no other library.
_ARRAYS = (np.ndarray, jax.Array)

X_Y_WEIGHT = ("x", "y", "sample_weight")


class Names(NamedTuple):
    """The names of a model's inputs (None for one without a name) and of its outputs."""

    inputs: list[str | None]
    outputs: list[str]


NO_NAMES = Names([], [])


def is_stream(x: Data) -> bool:
    """Whether `x` yields batches one by one, rather than being arrays."""
    if x is None or isinstance(x, (*_ARRAYS, Mapping, str, list, tuple)):
        return False
    if is_hugging_face(x):
        return True
    if hasattr(x, "shape") or hasattr(x, "to_numpy"):
        return False
    return isinstance(x, Iterable) or callable(x) or hasattr(x, "__getitem__")


# -- data of other libraries ---------------------------------------------------------------------


def _classes(module: str, *names: str) -> tuple[Any, ...]:
    """Classes of a library, which is not imported for it; none if it is not loaded."""
    library = sys.modules.get(module)
    found = [getattr(library, name, None) for name in names]
    return tuple(cls for cls in found if isinstance(cls, type))


def is_hugging_face(x: Data) -> bool:
    """Whether this is a dataset of Hugging Face: rows are dicts by the names of columns."""
    return isinstance(x, _classes("datasets", "Dataset", "IterableDataset"))


def readable(x: Data) -> Data:
    """Data of other libraries in a form that the rest of fnn reads; other data as it is.

    A frame that polars computes on demand is computed, a column of a dataset of Hugging
    Face is read, and such a dataset gives NumPy arrays, unless it has a format of its own.
    Raises TypeError for several datasets by the names of their splits.
    """
    if x is None or isinstance(x, _ARRAYS):
        return x
    if isinstance(x, _classes("datasets", "DatasetDict", "IterableDatasetDict")):
        raise TypeError(
            f"expected one dataset, received several by the names {sorted(x)}; pass one of "
            f"them, e.g. data[{next(iter(x), 'train')!r}]"
        )
    if isinstance(x, Mapping):
        return dict(x)
    if isinstance(x, _classes("datasets.arrow_dataset", "Column")):
        return np.asarray(x[:])
    if isinstance(x, _classes("polars", "LazyFrame")):
        return x.collect()
    if isinstance(x, _classes("datasets", "Dataset")) and x.format["type"] is None:
        return x.with_format("numpy")
    return x


# -- names -----------------------------------------------------------------------------------------


def by_column(
    x: Data,
    y: Data,
    weight: Data,
    names: Names,
) -> list[Data]:
    """[x, y, sample_weight]; a frame with a column for each of several inputs is a dict."""
    columns = getattr(x, "columns", None)
    inputs = set(names.inputs)
    if columns is None or len(inputs) < 2 or not inputs <= set(columns):
        return [x, y, weight]
    found = by_name({column: x[column] for column in columns}, names)
    pairs = zip(found, (None, y, weight), strict=True)
    return [part if given is None else given for part, given in pairs]


def by_name(batch: Mapping[str, Data], names: Names) -> tuple[Data, Data, Data]:
    """(x, y, sample_weight) of a batch that is a dict.

    Its keys are "x", "y" and "sample_weight", or the names of the model's inputs and
    outputs (other keys are left out); else the dict is x.
    """
    keys = set(batch)
    inputs, outputs = names
    if "x" in keys and keys <= set(X_Y_WEIGHT) and not keys <= set(inputs):
        x, y, weight = (batch.get(key) for key in X_Y_WEIGHT)
        return x, y, weight
    if not inputs or not keys.issuperset(inputs):
        return dict(batch), None, None
    x = {name: batch[name] for name in inputs if name is not None}
    others = keys - set(inputs)
    found = {name: batch[name] for name in outputs if name in others}
    weight = None
    if "sample_weight" not in inputs:
        weight = batch.get("sample_weight")
    if not found:
        return x, None, weight
    if len(outputs) == 1:
        return x, found[outputs[0]], weight
    return x, found, weight


def unpack_batch(
    batch: Item,
    names: Names | None = None,
    with_targets: bool = False,
) -> tuple[Data, Data, Data]:
    """An item of a stream as (x, y, sample_weight).

    It may be `(x,)`, `(x, y)`, `(x, y, sample_weight)`, x alone, or, given the names of a
    model, a dict (`by_name`). Raises ValueError for a dict with no name that is known, or
    `with_targets` for one without targets.
    """
    if names is not None and isinstance(batch, Mapping):
        x, y, weight = by_name(batch, names)
        unknown = names.inputs == [None] and isinstance(x, dict)
        others = set(batch) - set(names.inputs)
        if unknown or (with_targets and y is None and names.outputs and others):
            raise _unnamed(batch, names)
        return x, y, weight
    if isinstance(batch, (tuple, list)):
        if not 1 <= len(batch) <= 3:
            raise ValueError(
                "expected batches (x,), (x, y) or (x, y, sample_weight), received "
                f"{len(batch)} items; put several inputs into one tuple: ((x1, x2), y)"
            )
        x, y, sample_weight = [*batch, None, None][:3]
        return x, y, sample_weight
    if batch is None:
        raise TypeError("expected batches (x, y), received None; check the generator")
    return batch, None, None


def _unnamed(batch: Mapping[str, Data], names: Names) -> ValueError:
    return ValueError(
        'expected a batch with the keys "x", "y" and "sample_weight", or with the names of '
        f"the model's inputs {names.inputs} and outputs {names.outputs}, received the keys "
        f"{sorted(batch)}; name the layers by them, e.g. Input(..., name=...) and "
        "Dense(..., name=...)"
    )
