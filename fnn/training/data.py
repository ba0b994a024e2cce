"""Arrays as chunks of equal batches on the device, shuffled by seed and epoch alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from fnn.core import tree
from fnn.runtime.program_cache import small_cache

Poll = Callable[[], None]
GATHERED_BYTES = 2**24  # so much is gathered ahead of the steps that use it
RESIDENT_BYTES = 2**30  # arrays up to this size stay on the device for the whole of fit


class ArrayData:
    """Arrays with a common number of rows, cut into batches; shuffled anew each epoch.

    `remainder="pad"`: the last batch is filled up and batches are `(arrays, rows)`, `rows` False
    where a row is filling. `remainder="drop"`: batches are the arrays; rows that do not fill a
    batch are left out (other ones each epoch). Without `keep` the arrays are read where they are,
    and must not change until the pass is over. Where `apart` (of the spec of a batch) is True, or
    `runs_apart` (of its number of examples), a batch that is not full comes as a chunk of its own:
    at its own size, or padded to a power of two, so that there are few programs.
    """

    def __init__(
        self,
        arrays: Any,
        batch_size: int,
        *,
        shuffle: Any = False,
        seed: Any = 0,
        remainder: str = "drop",
        keep: bool = True,
        apart: Callable[[Any], bool] = lambda spec: False,
    ) -> None:
        if not isinstance(shuffle, (bool, np.bool_)) and shuffle != "batch":
            raise ValueError(
                f'expected shuffle as True, False or "batch", received {shuffle!r}; e.g. '
                "shuffle=True"
            )
        leaves = jax.tree.leaves(arrays)
        self.count = len(leaves[0])
        self.pad = remainder == "pad"
        self.batch_size = batch_size if self.pad else min(batch_size, self.count)
        self.steps = (
            -(-self.count // self.batch_size)
            if self.pad
            else self.count // self.batch_size
        )
        self.room = (
            self.batch_size
        )  # more where batches are padded to a size that devices divide
        self.shuffle, self.seed, self.apart = shuffle, seed, apart
        self.runs_apart: Callable[[int], bool] = lambda valid: False
        on_device = all(isinstance(leaf, jax.Array) for leaf in leaves)
        self.resident = on_device or (keep and tree.nbytes(arrays) <= RESIDENT_BYTES)
        self.arrays = jax.tree.map(_own_copy, arrays) if self.resident else arrays
        self._order: tuple[int, np.ndarray] | None = None

    def chunk_size(self, capacity: int) -> int:
        """How many batches to gather at once: what a dispatch takes, more if they are small.

        Fewer if they are large, or if there are not so many (up to a power of two, so that data of
        another length seldom needs another compilation).
        """
        batch = tree.nbytes(self.arrays) * self.batch_size // max(self.count, 1)
        fitting = max(GATHERED_BYTES // max(batch, 1), 1)
        if not self.resident:  # each dispatch copies its own chunk
            return min(capacity, fitting)
        return min(max(capacity, 8), fitting, 1 << (self.steps - 1).bit_length())

    def batch_spec(self) -> Any:
        """Shapes and dtypes of one batch."""
        spec = jax.tree.map(
            lambda a: jax.ShapeDtypeStruct((self.room, *a.shape[1:]), a.dtype),
            self.arrays,
        )
        return (
            (spec, jax.ShapeDtypeStruct((self.room,), np.bool_)) if self.pad else spec
        )

    def order(self, number: int) -> np.ndarray:
        """The rows in the order of this pass over them. It depends on seed and number alone."""
        if not self.shuffle:
            return np.arange(self.count)
        generator = np.random.default_rng([*np.atleast_1d(self.seed).tolist(), number])
        if self.shuffle == "batch":
            whole = self.count // self.batch_size * self.batch_size
            blocks = generator.permutation(
                np.arange(whole).reshape(-1, self.batch_size)
            )
            return np.concatenate([blocks.reshape(-1), np.arange(whole, self.count)])
        return generator.permutation(self.count)

    def chunks(
        self,
        epoch: int,
        capacity: int,
        steps: int | None = None,
        poll: Poll | None = None,
    ) -> Iterator[tuple[Any, int]]:
        """(chunk, number of real batches in it): `capacity` batches stacked along a first axis.

        An epoch of `steps` batches goes on where the last one ended; passes over the rows follow
        each other, each in its own order.
        """
        total = steps or self.steps
        ragged = self.count % self.batch_size if self.pad else 0
        apart = bool(ragged) and (
            self.runs_apart(ragged) or self.apart(self.batch_spec())
        )
        done = 0
        while done < total:
            batch = epoch * total + done
            full = self.steps - 1 - batch % self.steps  # batches before the ragged one
            count = min(capacity, total - done, full if apart else total)
            if count:
                index, rows = self._numbers(batch, count, capacity)
            else:
                places = (
                    ragged
                    if self.apart(self.batch_spec())
                    else 1 << (ragged - 1).bit_length()
                )
                index, rows = (a[:, :places] for a in self._numbers(batch, 1, 1))
            chunk = take(self.arrays, index)
            yield ((chunk, rows) if self.pad else chunk), count or 1
            done += count or 1

    def _numbers(
        self, batch: int, count: int, capacity: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """The numbers of the examples in `count` batches from this one on, and which are valid.

        Both have the shape `(capacity, room)`; batches from `count` on are padding.
        """
        index = np.zeros((capacity, self.batch_size), np.int32)
        valid = np.zeros((capacity, self.batch_size), np.bool_)
        done = 0
        while done < count:
            number, within = divmod(batch + done, self.steps)
            several = min(count - done, self.steps - within)
            place = slice(
                within * self.batch_size, (within + several) * self.batch_size
            )
            found = self._pass(number)[place]
            for array, values in ((index, found), (valid, True)):
                array[done : done + several].reshape(-1)[: len(found)] = values
            done += several
        more = (0, 0), (0, self.room - self.batch_size)
        return (
            (np.pad(index, more), np.pad(valid, more)) if more[1][1] else (index, valid)
        )

    def _pass(self, number: int) -> np.ndarray:
        """`order(number)`, kept while it is the pass under way."""
        if self._order is None or self._order[0] != number:
            self._order = number, self.order(number)
        return self._order[1]


def key_numbers(key: Any) -> list[int]:
    """The numbers of a random key, for the seed of the shuffling."""
    return [int(n) for n in np.asarray(jax.random.key_data(key)).reshape(-1)]


def lies_on_several(tree: Any) -> bool:
    """Whether any array of a pytree lies on several devices."""
    return any(map(_on_several, jax.tree.leaves(tree)))


def _on_several(leaf: Any) -> bool:
    known = isinstance(leaf, jax.Array) and not isinstance(leaf, jax.core.Tracer)
    return known and len(leaf.sharding.device_set) > 1


def _own_copy(array: Any) -> Any:
    """A device array that shares no memory with the caller's: what he changes later is not seen."""
    if isinstance(array, jax.Array):
        return array
    return jax.device_put(np.array(array, copy=True, order="C"))


def take(arrays: Any, index: np.ndarray) -> Any:
    """The examples with these numbers, of arrays on devices or on the host.

    On CPU NumPy reads the memory of a device, and nothing is compiled. What lies on several devices
    stays divided as it was; a batch that its devices do not divide is whole on each of them.
    """
    treedef: Any
    leaves, treedef = jax.tree.flatten(arrays)
    on_device = [isinstance(leaf, jax.Array) and _stays(leaf) for leaf in leaves]
    found = _take_on_host(
        [leaf for d, leaf in zip(on_device, leaves, strict=True) if not d], index
    )
    chosen = [leaf for d, leaf in zip(on_device, leaves, strict=True) if d]
    if chosen:
        specs = (
            jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=_divided(a)) for a in chosen
        )
        chosen = _taking(tuple(specs), index.shape)(chosen, index)
    parts = iter(found), iter(chosen)
    return treedef.unflatten([next(parts[d]) for d in on_device])


def _stays(array: jax.Array) -> bool:
    """Whether examples are taken on the devices where an array lies, and not by NumPy."""
    return array.committed or jax.default_backend() != "cpu"


def _divided(array: Any) -> Any:
    """The sharding of an array over a mesh; None on one device or the host."""
    sharding = getattr(array, "sharding", None)
    return sharding if isinstance(sharding, NamedSharding) else None


@small_cache(16)  # apart from the programs of steps, which are worth more
def _taking(specs: tuple[Any, ...], shape: tuple[int, ...]) -> Any:
    wanted = [_of_index(spec.sharding, shape) for spec in specs]

    def from_one(array: Any, index: Any, sharding: Any) -> Any:
        if sharding is not None and AxisType.Explicit in sharding.mesh.axis_types:
            return array.at[index].get(mode="clip", out_sharding=sharding)
        found = jnp.take(array, index, axis=0, mode="clip")
        return (
            found if sharding is None else lax.with_sharding_constraint(found, sharding)
        )

    def from_all(arrays: Any, index: Any) -> Any:
        pairs = zip(arrays, wanted, strict=True)
        return [from_one(array, index, sharding) for array, sharding in pairs]

    return jax.jit(from_all)


def _of_index(sharding: Any, shape: tuple[int, ...]) -> Any:
    """The sharding of what an index of this shape takes from an array: along its last axis."""
    if sharding is None:
        return None
    first, *others = sharding.spec or (None,)
    names = () if first is None else first if isinstance(first, tuple) else (first,)
    if shape[-1] % math.prod(sharding.mesh.shape[name] for name in names):
        first = None
    spec = PartitionSpec(*(None,) * (len(shape) - 1), first, *others)
    return NamedSharding(sharding.mesh, spec)


def _take_on_host(arrays: Any, index: np.ndarray) -> Any:
    flat = index.reshape(-1)
    if (np.diff(flat) == 1).all():  # neighbours: no copy
        place = slice(flat[0], flat[-1] + 1)
        take = lambda a: np.asarray(a)[place].reshape(*index.shape, *a.shape[1:])
    else:
        take = lambda a: np.asarray(a)[index]
    return jax.tree.map(take, arrays)
