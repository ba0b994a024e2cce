"""Examples: single examples of a dataset or stream, told from batches and collected into them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import jax
import numpy as np

from fnn.core.tree import Tree
from fnn.training import inputs
from fnn.training.sources import Data, Item

Shape: TypeAlias = tuple[int | None, ...]
Triple: TypeAlias = tuple[Data, Data, Data]  # x, y, sample_weight
IsExample: TypeAlias = Callable[[Item], bool]


# -- batches and examples, told apart --------------------------------------------------------------


def is_example(parts: Triple) -> bool:
    """Whether these are of a single example, by their shapes alone.

    The arrays of a batch have one length; an example has numbers without axes, or arrays
    of different lengths.

    >>> is_example((np.ones(3), 1.0, None)), is_example((np.ones((3, 2)), np.ones(3), None))
    (True, False)
    """
    shapes = [_shape(leaf) for part in parts for leaf in _leaves(part)]
    lengths = {shape[:1] for shape in shapes if shape is not None}
    return () in lengths or len(lengths) > 1


def is_example_of(parts: Triple, nodes: Tree, unless_batch: bool) -> bool:
    """Whether these are of a single example for these input nodes, rather than a batch.

    As everywhere, a last axis of size 1 may be missing or too many. What may be both, such
    as `(1,)` for inputs `(None, 1)`, is an example, except with `unless_batch`.
    """
    try:
        leaves = _leaves(inputs.by_node(parts[0], nodes))
    except ValueError:
        return False
    shapes = [shape for leaf in leaves if (shape := _shape(leaf)) is not None]
    wanted = [node.shape[1:] for node in jax.tree.leaves(nodes)]
    if len(shapes) != len(wanted):
        return False
    pairs = list(zip(shapes, wanted, strict=True))
    is_batch = all(shape and _nearly(shape[1:], want) for shape, want in pairs)
    if all(_equal(shape, want) for shape, want in pairs):
        return not (is_batch and unless_batch) or is_example(parts)
    return not is_batch and all(_nearly(shape, want) for shape, want in pairs)


def _equal(shape: Shape, wanted: Shape) -> bool:
    if len(shape) != len(wanted):
        return False
    pairs = zip(shape, wanted, strict=True)
    return all(want in (None, size) for size, want in pairs)


def _nearly(shape: Shape, wanted: Shape) -> bool:
    """Whether shapes are equal but for a last axis of size 1."""
    if wanted[-1:] == (1,) and _equal(shape, wanted[:-1]):
        return True
    if shape[-1:] == (1,) and _equal(shape[:-1], wanted):
        return True
    return _equal(shape, wanted)


def _leaves(item: Data) -> list[Any]:
    """The arrays in a structure, in JAX's order; a list of numbers is an array."""
    if isinstance(item, Mapping):
        return [leaf for key in sorted(item) for leaf in _leaves(item[key])]
    if isinstance(item, (tuple, list)) and not _is_of_numbers(item):
        return [leaf for part in item for leaf in _leaves(part)]
    if item is None:
        return []
    return [item]


def _is_of_numbers(items: Sequence[Any]) -> bool:
    """Whether a list or tuple is an array: of numbers, or of lists of them of one length."""
    first: Any = items
    while isinstance(first, (tuple, list)) and first:
        first = first[0]
    if hasattr(first, "shape") or isinstance(first, Mapping):
        return False
    return _shape(items) is not None


def _shape(leaf: Any) -> tuple[int, ...] | None:
    """The shape of an array or a list; None for a ragged list."""
    if hasattr(leaf, "shape"):
        return tuple(leaf.shape)
    try:
        shape: tuple[int, ...] = np.shape(leaf)
        return shape
    except ValueError:
        return None


# -- examples, collected ---------------------------------------------------------------------------


class Examples:
    """Batches of a dataset that gives single examples by their numbers.

    A batch is read at once where the dataset can (`__getitems__`, as of PyTorch and of
    Hugging Face), else example by example.

    >>> squares = Examples([(float(i), float(i * i)) for i in range(5)], 2)
    >>> [y.tolist() for x, y in squares]
    [[0.0, 1.0], [4.0, 9.0], [16.0]]
    """

    def __init__(self, dataset: Any, batch_size: int) -> None:
        self.dataset = dataset
        self.batch_size = batch_size
        if not len(dataset):
            raise ValueError("expected examples, received an empty dataset")

    def __len__(self) -> int:
        return -(-len(self.dataset) // self.batch_size)

    def __iter__(self) -> Iterator[Item]:
        return self.in_batches(np.arange(len(self.dataset)))

    def in_batches(self, order: np.ndarray, skip: int = 0) -> Iterator[Item]:
        """The batches of the examples in this order, but for the first `skip` batches."""
        for start in range(skip * self.batch_size, len(order), self.batch_size):
            yield self._read(order[start : start + self.batch_size].tolist())

    def _read(self, indices: list[int]) -> Item:
        if not hasattr(self.dataset, "__getitems__"):
            items = [self.dataset[index] for index in indices]
        else:
            items = self.dataset.__getitems__(indices)
        return collated(items, indices)


class Collector:
    """Collects the items of a stream into batches, if they are single examples.

    Called with the items of each pass; the first one decides.
    """

    def __init__(self, is_example: IsExample, batch_size: int) -> None:
        self.is_example = is_example
        self.batch_size = batch_size
        self.collects: bool | None = None  # None before the first item

    def __call__(self, items: Iterator[Item]) -> Iterator[Item]:
        first = list(itertools.islice(items, 1))
        if self.collects is None and first:
            self.collects = self.is_example(first[0])
        items = itertools.chain(first, items)
        if not self.collects:
            return items
        return self._collected(items)

    def _collected(self, items: Iterator[Item]) -> Iterator[Item]:
        done = 0
        while batch := list(itertools.islice(items, self.batch_size)):
            yield collated(batch, range(done, done + len(batch)))
            done += len(batch)

    def batches(self, items: int | None) -> int | None:
        """The number of batches from this number of items."""
        if items is None or not self.collects:
            return items
        return -(-items // self.batch_size)


def collated(items: Sequence[Item], numbers: Iterable[int]) -> Item:
    """Single examples as a batch: in their structure, with arrays stacked.

    `numbers` are those of the examples, for messages. Raises ValueError for examples that
    differ in structure or shape.

    >>> collated([({"a": 1}, 2.0), ({"a": 3}, 4.0)], range(2))
    ({'a': array([1, 3])}, array([2., 4.]))
    """
    if isinstance(items[0], (tuple, list)):
        # (x, y) or (x, y, sample_weight), even of plain numbers.
        return _together(items, list(numbers), "")
    return _stacked(items, list(numbers), "")


def _together(
    items: Sequence[Any],
    numbers: list[int],
    path: str,
) -> tuple[Any, ...]:
    """Tuples of one length, each place stacked."""
    for item, number in zip(items, numbers, strict=True):
        if not isinstance(item, (tuple, list)) or len(item) != len(items[0]):
            raise _unlike(path, number, _described(item), _described(items[0]))
    stacked = []
    for place, part in enumerate(zip(*items, strict=True)):
        stacked.append(_stacked(part, numbers, f"{path}[{place}]"))
    return tuple(stacked)


def _stacked(
    items: Sequence[Any],
    numbers: list[int],
    path: str,
) -> Any:
    first = items[0]
    if isinstance(first, Mapping):
        for item, number in zip(items, numbers, strict=True):
            if not isinstance(item, Mapping) or set(item) != set(first):
                raise _unlike(path, number, _described(item), _described(first))
        stacked = {}
        for key in first:
            parts = [item[key] for item in items]
            stacked[key] = _stacked(parts, numbers, f"{path}[{key!r}]")
        return stacked
    if isinstance(first, (tuple, list)) and not _is_of_numbers(first):
        return _together(items, numbers, path)
    if first is None:
        return None
    arrays = [_as_array(item) for item in items]
    for array, number in zip(arrays, numbers, strict=True):
        if array.shape != arrays[0].shape:
            raise _unlike(path, number, f"shape {array.shape}", f"{arrays[0].shape}")
    return np.stack(arrays)


def _as_array(item: Any) -> np.ndarray:
    if hasattr(item, "detach"):  # torch
        item = item.detach().cpu().numpy()
    return np.asarray(item)


def _described(item: Any) -> str:
    if isinstance(item, Mapping):
        return f"the keys {sorted(item)}"
    if isinstance(item, (tuple, list)):
        return f"{len(item)} items"
    return type(item).__name__


def _unlike(
    path: str,
    number: int,
    received: str,
    expected: str,
) -> ValueError:
    place = ""
    if path:
        place = f" at {path}"
    return ValueError(
        f"expected examples of one structure and shape, received {received}{place} in "
        f"example {number} and {expected} in another one; pad or crop them to one shape, "
        "or give batches"
    )


def as_batches(source: Any, is_example: IsExample, batch_size: int) -> Any:
    """`source`, or its `Examples` if it gives single examples by their numbers."""
    indexed = hasattr(source, "__getitem__") and hasattr(source, "__len__")
    if not indexed or hasattr(source, "in_order") or not len(source):
        return source
    try:
        first = source[0]
    except Exception:
        # Its items may have other names than numbers.
        if isinstance(source, Iterable):
            return source
        raise
    if is_example(first):
        return Examples(source, batch_size)
    return source
