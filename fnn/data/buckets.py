"""Buckets: sequences of different lengths as batches padded to a few lengths, with masks."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from fnn.core.tree import Tree
from fnn.data.batches import cut, seed_of

Sequences: TypeAlias = Any  # lists, tuples or arrays of different lengths


def bucket(
    x: Sequences,
    y: Sequences = None,
    sample_weight: ArrayLike | None = None,
    *,
    lengths: int | Sequence[int] = 4,
    batch_size: int = 32,
    value: float = 0,
    padding: str = "post",
    with_mask: bool = False,
    shuffle: bool = True,
    seed: int | None = None,
) -> Buckets:
    """Batches of sequences of similar length, padded to one of a few lengths.

    Yields (x, y, weight): x (batch, length, ...), where a step traces the network once for each
    length. Targets are one for each example (batch, ...), with weights (batch,), or one for each
    step (batch, length, ...), with weights (batch, length): `sample_weight` where the step is
    valid, 0 for padding. Without targets y is None, with weights as for steps. `with_mask` gives
    (x, mask) in the place of x, with the mask (batch, length) True where a step is valid.

    `lengths` are those of the buckets, or how many there are: then they hold about equally many
    sequences. Sequences are padded by `value` at the end, or at the start for `padding="pre"`.
    What does not fill a batch joins the next longer sequences, so that only one batch of a pass is
    smaller; the outputs of `predict` are in the order of the batches, not of `x`. `shuffle` mixes
    each pass, by `seed`. Use `Input((None,))` in the network, and a mask
    (`Embedding(mask_zero=True)`, `Masking`) where padding would count. Raises ValueError for
    sequences longer than the longest bucket, and for steps of different shapes.

    >>> reviews, stars = [[5], [2, 3], [7, 8, 9, 4], [6]], [1, 0, 1, 1]
    >>> batches = bucket(reviews, stars, lengths=[2, 4], batch_size=2, shuffle=False)
    >>> for x, y, weight in batches:
    ...     print(x.tolist(), y.tolist(), weight.tolist())
    [[5, 0], [2, 3]] [1, 0] [1.0, 1.0]
    [[6, 0, 0, 0], [7, 8, 9, 4]] [1, 1] [1.0, 1.0]
    """
    if padding not in ("pre", "post"):
        raise ValueError(
            f'bucket: expected padding to be "pre" or "post", received {padding!r}'
        )
    if int(batch_size) != batch_size or batch_size < 1:
        raise ValueError(
            f"bucket: expected batch_size as a positive integer, received {batch_size!r}"
        )
    sequences = _as_sequences("x", x)
    own = np.array([len(sequence) for sequence in sequences])
    weights = np.ones(len(own), np.float32)
    if sample_weight is not None:
        weights = np.asarray(sample_weight, np.float32)
    if weights.shape != own.shape:
        raise ValueError(
            f"bucket: expected one sample_weight for each of {len(own)} sequences, received shape "
            f"{weights.shape}"
        )
    return Buckets(
        sequences,
        _as_targets(y, own),
        weights,
        _bucket_lengths(own, lengths),
        batch_size,
        value,
        padding,
        with_mask,
        seed_of(shuffle, seed),
    )


@dataclasses.dataclass(eq=False)
class Buckets:
    """Batches of sequences, each padded to one of a few lengths; made by `fnn.data.bucket`."""

    sequences: list[np.ndarray]
    # For each step a list of sequences, for each example an array; or None.
    targets: Any
    weights: np.ndarray
    lengths: np.ndarray  # of the buckets, rising
    batch_size: int
    value: float
    padding: str
    with_mask: bool
    seed: int | None
    passes: int = 0

    # `fit` takes batches of several shapes from a stream that says so.
    has_several_shapes: ClassVar[bool] = True

    def __len__(self) -> int:
        return -(-len(self.sequences) // self.batch_size)

    def __iter__(self) -> Iterator[Tree]:
        own = np.array([len(sequence) for sequence in self.sequences])
        places = np.searchsorted(self.lengths, own)  # the bucket of each sequence
        order = np.arange(len(own))
        generator = None
        if self.seed is not None:
            generator = np.random.default_rng([self.seed, self.passes])
            order = generator.permutation(order)
        self.passes += 1
        batches: list[tuple[int, np.ndarray]] = []
        left = order[:0]
        for place, length in enumerate(self.lengths):
            waiting = np.concatenate([left, order[places[order] == place]])
            full = len(waiting) // self.batch_size * self.batch_size
            parts = cut(waiting[:full], self.batch_size)
            batches += [(length, part) for part in parts]
            left = waiting[full:]
        if generator is not None:
            batches = [batches[i] for i in generator.permutation(len(batches))]
        if len(left):
            # The smaller batch is the last: the first one of a stream must be the largest.
            batches.append((self.lengths[-1], left))
        return (self._batch(length, indices) for length, indices in batches)

    def _batch(self, length: int, indices: np.ndarray) -> Tree:
        sequences = [self.sequences[i] for i in indices]
        x, mask = self._padded(sequences, length, self.value)
        given = (x, mask) if self.with_mask else x
        weights = self.weights[indices]
        if isinstance(self.targets, np.ndarray):
            return given, self.targets[indices], weights
        weights = weights[:, None] * mask  # (batch, length)
        if self.targets is None:
            return given, None, weights
        targets = [self.targets[i] for i in indices]
        y, _ = self._padded(targets, length, value=0)
        return given, y, weights

    def _padded(
        self, sequences: list[np.ndarray], length: int, value: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """(sequences padded to a length, their mask)."""
        first = sequences[0]
        filling: Any = value
        if first.dtype.kind in "US" and not value:
            filling = ""
        shape = (len(sequences), length, *first.shape[1:])
        padded = np.full(shape, filling, first.dtype)
        mask = np.zeros((len(sequences), length), bool)
        for number, sequence in enumerate(sequences):
            place = slice(0, len(sequence))
            if self.padding == "pre":
                place = slice(length - len(sequence), length)
            padded[number, place] = sequence
            mask[number, place] = True
        return padded, mask


def _as_sequences(name: str, values: Sequences) -> list[np.ndarray]:
    """Arrays of one dtype and one shape of steps. Raises ValueError for others."""
    arrays = []
    for number, sequence in enumerate(values):
        try:
            array = np.asarray(sequence)
        except ValueError as error:
            raise ValueError(
                f"bucket: expected {name}[{number}] with steps of one shape, received steps of "
                "several"
            ) from error
        if not array.ndim:
            raise ValueError(
                f"bucket: expected {name} as a list of sequences, received {sequence!r} as number "
                f"{number}"
            )
        arrays.append(array)
    if not arrays:
        raise ValueError(
            f"bucket: expected {name} as a list of sequences, received none"
        )
    filled = [array for array in arrays if len(array)] or arrays
    shapes = {array.shape[1:] for array in filled}
    if len(shapes) > 1:
        raise ValueError(
            f"bucket: expected steps of one shape in {name}, received {sorted(shapes)}; pass every "
            "sequence as (length, ...) with the same shape after its length"
        )
    shape = shapes.pop()
    dtype = np.result_type(*filled)
    return [array.astype(dtype).reshape(len(array), *shape) for array in arrays]


def _as_targets(y: Sequences, lengths: np.ndarray) -> Any:
    """Targets for each step as a list of sequences, those for each example as an array."""
    if y is None:
        return None
    if len(y) != len(lengths):
        raise ValueError(
            f"bucket: expected targets for {len(lengths)} sequences, received {len(y)}"
        )
    own = [len(part) if np.ndim(part) else -1 for part in y]
    if own == lengths.tolist():
        return _as_sequences("y", y)
    try:
        return np.asarray(y)
    except ValueError:
        number = int(np.argmax(np.array(own) != lengths))
        raise ValueError(
            f"bucket: expected a target for each step or for each sequence, received {own[number]} "
            f"for the {lengths[number]} steps of x[{number}]"
        ) from None


def _bucket_lengths(own: np.ndarray, lengths: int | Sequence[int]) -> np.ndarray:
    """The lengths of the buckets in rising order."""
    if isinstance(lengths, int):
        if lengths < 1:
            raise ValueError(
                f"bucket: expected a positive number of lengths, received {lengths}"
            )
        parts = np.arange(1, lengths + 1) / lengths
        found = np.quantile(own, parts, method="higher")
        return np.unique(np.maximum(found, 1)).astype(int)
    chosen = np.unique(np.asarray(lengths, int))
    if not len(chosen) or chosen[0] < 1:
        raise ValueError(
            f"bucket: expected lengths as positive integers, received {lengths!r}"
        )
    if own.max() > chosen[-1]:
        raise ValueError(
            f"bucket: expected sequences of at most {chosen[-1]} steps, the longest bucket, "
            f"received {own.max()} in x[{int(own.argmax())}]; add a length, or cut the sequences"
        )
    return chosen
