"""Streams of batches: Keras's `PyDataset`, which makes its batches by their number."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from fnn.data.ahead import Numbers, made_ahead, made_by_processes
from fnn.data.batches import Batch


class PyDataset:
    """The base class of a dataset that makes its batches by their number.

    Define `__getitem__(index)`, which returns batch `index` as (x, y), and `__len__`, the number
    of batches (or the property `num_batches`, None without end). `on_epoch_begin` and
    `on_epoch_end` are called around each pass. With `workers` of 2 or more, that many threads
    make batches ahead, at most `max_queue_size` of them; their order stays. With
    `use_multiprocessing`, the workers are processes of Grain (`pip install grain`), started anew
    for each pass: the class must be importable in them, so a script needs
    `if __name__ == "__main__":` around its calls. `fit` reads the batches in a new order each
    epoch unless `shuffle=False`. `Sequence` is the same class.

    >>> class Squares(PyDataset):
    ...     def __len__(self):
    ...         return 3
    ...     def __getitem__(self, index):
    ...         x = np.full((2, 1), index, "float32")
    ...         return x, x**2
    >>> [y[0, 0].item() for _, y in Squares(workers=2)]
    [0.0, 1.0, 4.0]
    """

    # Also for a class whose `__init__` does not call this one.
    workers: int = 1
    use_multiprocessing: bool = False
    max_queue_size: int = 10

    def __init__(
        self,
        workers: int = 1,
        use_multiprocessing: bool = False,
        max_queue_size: int = 10,
    ) -> None:
        self.workers = workers
        self.use_multiprocessing = use_multiprocessing
        self.max_queue_size = max_queue_size

    def __getitem__(self, index: int) -> Batch:
        raise TypeError(
            f"{type(self).__name__} has no method __getitem__, which takes the number of a batch "
            "and returns (x, y)"
        )

    @property
    def num_batches(self) -> int | None:
        """The number of batches; None for a dataset without end."""
        if hasattr(self, "__len__"):
            return len(self)
        raise TypeError(
            f"{type(self).__name__} has neither __len__ nor the property num_batches; define one, "
            "the number of batches"
        )

    def __iter__(self) -> Iterator[Batch]:
        count = self.num_batches
        if count is None:
            count = sys.maxsize
        return self.in_order(range(count))

    def in_order(self, indices: Numbers) -> Iterator[Batch]:
        """The batches of these numbers, made ahead by the workers."""
        if self.use_multiprocessing and self.workers > 0:
            return made_by_processes(
                self.__getitem__, indices, self.workers, self.max_queue_size
            )
        return made_ahead(self.__getitem__, indices, self.workers, self.max_queue_size)

    def on_epoch_begin(self) -> None:
        """Called before each pass."""

    def on_epoch_end(self) -> None:
        """Called after each pass."""


Sequence = PyDataset
