"""Arrays as chunks of equal batches on the device, shuffled by seed and epoch only."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding

from fnn.core import tree
from fnn.core.tree import SpecTree, Tree, array_spec
from fnn.runtime.layouts import current
from fnn.runtime.placement import constrain, partition
from fnn.runtime.processes import from_parts, is_global, put
from fnn.runtime.program_cache import small_cache
from fnn.training.lazy import LazyArray

Array: TypeAlias = np.ndarray | jax.Array | LazyArray
Poll = Callable[[], None]
GATHERED_BYTES = 2**24  # bytes gathered ahead of the steps that use them
RESIDENT_BYTES = 2**30  # arrays up to this size stay on the device during fit


def _never(argument: object) -> bool:
    return False


class ArrayData:
    """Arrays with a common number of examples, cut into batches; reshuffled each epoch.

    `remainder="pad"`: the last batch is padded, and batches are `(arrays, valid)`, where
    `valid` is False for padding. `remainder="drop"`: batches are the arrays; examples
    that do not fill a batch are left out (different ones each epoch). Without `keep` the
    arrays are read in place, and must not change until the pass is over. If `apart` (of
    the spec of a batch) or `runs_apart` (of its number of examples) is True, an
    incomplete batch is a separate chunk: at its own size with `apart`, else padded to a
    power of two, so that there are few programs.
    """

    def __init__(
        self,
        arrays: Tree,
        batch_size: int,
        *,
        shuffle: bool | str = False,
        seed: int | list[int] = 0,
        remainder: str = "drop",
        keep: bool = True,
        apart: Callable[[SpecTree], bool] = _never,
    ) -> None:
        if not isinstance(shuffle, (bool, np.bool_)) and shuffle != "batch":
            raise ValueError(
                f'expected shuffle as True, False or "batch", received {shuffle!r}; e.g. '
                "shuffle=True"
            )
        leaves = jax.tree.leaves(arrays)
        self.count = len(leaves[0])
        self.pad = remainder == "pad"
        self.batch_size = batch_size
        self.steps = -(-self.count // batch_size)
        if not self.pad:
            self.batch_size = min(batch_size, self.count)
            self.steps = self.count // self.batch_size
        # The padded size of a batch: larger if several devices must divide it.
        self.room = self.batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.apart = apart
        self.runs_apart: Callable[[int], bool] = _never
        # Of several orders: how many, and whether their last batches are of one size.
        self.copies, self.ends_alike = 1, True
        on_device = all(isinstance(leaf, jax.Array) for leaf in leaves)
        self.resident = on_device or (keep and _may_reside(arrays))
        self.arrays = arrays
        self._lazy: list[
            LazyArray
        ] = []  # checked as they are read, but used on a device
        if self.resident:
            self._lazy = [leaf for leaf in leaves if isinstance(leaf, LazyArray)]
            self.arrays = jax.tree.map(_own_copy, arrays)
        self._order: tuple[int, np.ndarray] | None = None

    def chunk_size(self, capacity: int) -> int:
        """How many batches to gather at once: the size of a dispatch, more if they are small.

        Fewer if they are large, or if there are not that many (rounded up to a power of
        two, so that data of another length rarely needs another compilation).
        """
        of_all = tree.nbytes(self.arrays) * self.copies
        batch_bytes = of_all * self.room // max(self.count, 1)
        fitting = max(GATHERED_BYTES // max(batch_bytes, 1), 1)
        if not self.resident:
            # Each dispatch copies its own chunk: no need to gather more.
            return min(capacity, fitting)
        all_steps = 1 << (self.steps - 1).bit_length()  # rounded up to a power of two
        return min(max(capacity, 8), fitting, all_steps)

    def batch_spec(self) -> SpecTree:
        """Shapes and dtypes of one batch."""
        spec = tree.resized(self.arrays, self.room)
        if not self.pad:
            return spec
        return spec, array_spec((self.room,), np.bool_)

    def order(self, number: int) -> np.ndarray:
        """The indices of the examples in the order of a pass, given its number.

        The order depends on the seed and the number only.
        """
        if not self.shuffle:
            return np.arange(self.count)
        seed = np.atleast_1d(self.seed).tolist()
        generator = np.random.default_rng([*seed, number])
        if self.shuffle == "batch":
            complete = self.count // self.batch_size * self.batch_size
            blocks = np.arange(complete).reshape(-1, self.batch_size)
            shuffled = generator.permutation(blocks).reshape(-1)
            return np.concatenate([shuffled, np.arange(complete, self.count)])
        return generator.permutation(self.count)

    def chunks(
        self,
        epoch: int,
        capacity: int,
        steps: int | None = None,
        poll: Poll | None = None,
        start: int = 0,
    ) -> Generator[tuple[Tree, int]]:
        """(chunk, its number of batches): `capacity` batches stacked along a first axis.

        An epoch of `steps` batches continues where the last one ended; passes over the
        examples follow each other, each in its own order. `start` batches of the epoch are
        left out.
        """
        total = steps or self.steps
        ragged, separate = 0, False
        if self.pad and self.ends_alike:
            ragged = self.count % self.batch_size
        if ragged:
            separate = self.runs_apart(ragged) or self.apart(self.batch_spec())
        done = start
        while done < total:
            batch = epoch * total + done
            count = min(capacity, total - done)
            if separate:
                complete = self.steps - 1 - batch % self.steps  # before the ragged one
                count = min(count, complete)
            if count:
                index, valid = self._indices(batch, count, capacity)
            else:
                index, valid = self._ragged_indices(batch, ragged)
                count = 1
            for array in self._lazy:
                array.check(index)
            if jax.distributed.is_initialized():
                chunk = _shares(self.arrays, valid, index)
            else:
                chunk = take(self.arrays, index), valid
            if not self.pad:
                chunk = chunk[0]
            yield chunk, count
            done += count

    def place(self, done: int | None) -> None:
        """Nothing: the number of an epoch and that of a batch in it tell which batch is next."""

    def move_to(self, place: None, epoch: int, batch: int) -> None:
        """Nothing, as `place`."""

    def _indices(
        self, batch: int, count: int, capacity: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """The indices of the examples in `count` batches from this one on, and which are valid.

        Both have the shape `(capacity, room)`; batches from `count` on are padding.
        """
        index = np.zeros((capacity, self.batch_size), np.int32)
        valid = np.zeros((capacity, self.batch_size), np.bool_)
        done = 0
        while done < count:
            number, within = divmod(batch + done, self.steps)
            several = min(count - done, self.steps - within)
            first = within * self.batch_size
            found = self._pass(number)[first : first + several * self.batch_size]
            for array, values in ((index, found), (valid, True)):
                array[done : done + several].reshape(-1)[: len(found)] = values
            done += several
        missing = self.room - self.batch_size
        if not missing:
            return index, valid
        widths = ((0, 0), (0, missing))
        return np.pad(index, widths), np.pad(valid, widths)

    def _ragged_indices(self, batch: int, ragged: int) -> tuple[np.ndarray, np.ndarray]:
        """`_indices` of one incomplete batch, at its own size or padded to a power of two."""
        size = ragged
        if not self.apart(self.batch_spec()):
            size = 1 << (ragged - 1).bit_length()
        index, valid = self._indices(batch, 1, 1)
        return index[:, :size], valid[:, :size]

    def _pass(self, number: int) -> np.ndarray:
        """`order(number)`, cached for the current pass."""
        if self._order is None or self._order[0] != number:
            self._order = number, self.order(number)
        return self._order[1]


def key_numbers(key: jax.Array) -> list[int]:
    """The numbers of a random key, as the seed of the shuffling."""
    numbers = np.asarray(jax.random.key_data(key))
    return [int(number) for number in numbers.reshape(-1)]


def is_on_several_devices(tree: Tree) -> bool:
    """Whether any array of a pytree is on several devices."""
    return any(map(_on_several, jax.tree.leaves(tree)))


def _on_several(leaf: object) -> bool:
    if not isinstance(leaf, jax.Array) or isinstance(leaf, jax.core.Tracer):
        return False
    return len(leaf.sharding.device_set) > 1


def _may_reside(arrays: Tree) -> bool:
    """Whether arrays are copied to the device as a whole.

    A `LazyArray` is only if it is in memory, and if the device is not the host.
    """
    leaves = jax.tree.leaves(arrays)
    lazy = [leaf for leaf in leaves if isinstance(leaf, LazyArray)]
    if lazy and jax.default_backend() == "cpu":
        return False
    in_memory = all(array.in_memory for array in lazy)
    return in_memory and tree.nbytes(arrays) <= RESIDENT_BYTES


def _own_copy(array: Array) -> jax.Array:
    """A device array that shares no memory with the caller's, who may change it later."""
    if isinstance(array, jax.Array):
        return array
    if isinstance(array, LazyArray):
        array = array.unchecked()
    copy = np.array(array, copy=True, order="C")
    on_device: jax.Array = jax.device_put(copy)
    return on_device


def take(arrays: Tree, index: np.ndarray) -> Tree:
    """The examples with these indices, from arrays on devices or on the host.

    On CPU NumPy reads the memory of the device, and nothing is compiled. Arrays divided
    over several devices stay divided; a batch that the devices do not divide evenly is
    replicated.
    """
    treedef: Any
    leaves, treedef = jax.tree.flatten(arrays)
    on_device = [isinstance(leaf, jax.Array) and _stays(leaf) for leaf in leaves]
    from_host = []
    from_device = []
    for leaf, on in zip(leaves, on_device, strict=True):
        if on:
            from_device.append(leaf)
        else:
            from_host.append(leaf)

    from_host = _take_on_host(from_host, index)
    if from_device:
        specs = tuple(
            array_spec(a.shape, a.dtype, sharding=_mesh_sharding(a))
            for a in from_device
        )
        from_device = _taking(specs, index.shape)(from_device, index)
    parts = iter(from_host), iter(from_device)
    return treedef.unflatten([next(parts[on]) for on in on_device])


def _shares(
    arrays: Tree,
    valid: np.ndarray,
    index: np.ndarray,
) -> tuple[Tree, Tree]:
    """(the examples with these indices, `valid`) on the devices of several processes.

    Each process reads the examples of its own devices; all of them if the devices do not divide
    a batch evenly.
    """
    distribution = current()
    if distribution is None:
        return take(arrays, index), valid
    sharding = distribution.divided(1)
    if index.shape[1] % distribution.parts:
        sharding = distribution.whole

    def share(array: Array) -> jax.Array:
        if is_global(array):
            found: jax.Array = take(array, index)
            return found
        shape = (*index.shape, *array.shape[1:])
        return from_parts(shape, sharding, lambda where: take(array, index[where[:2]]))

    return jax.tree.map(share, arrays), put(valid, sharding)


def _stays(array: jax.Array) -> bool:
    """Whether examples are taken on the devices of an array, rather than by NumPy."""
    return array.committed or jax.default_backend() != "cpu"


def _mesh_sharding(array: jax.Array) -> NamedSharding | None:
    """The sharding of an array over a mesh; None on one device."""
    sharding = array.sharding
    if not isinstance(sharding, NamedSharding):
        return None
    return sharding


# A small cache of its own, so that these do not displace the programs of steps.
@small_cache(16)
def _taking(
    specs: tuple[jax.ShapeDtypeStruct, ...], shape: tuple[int, ...]
) -> Callable[[list[jax.Array], np.ndarray], list[jax.Array]]:
    """The compiled function that takes examples with an index of this shape."""
    shardings = [_result_sharding(spec.sharding, shape) for spec in specs]

    def take_one(
        array: jax.Array, index: jax.Array, sharding: NamedSharding | None
    ) -> jax.Array:
        if sharding is not None and AxisType.Explicit in sharding.mesh.axis_types:
            return array.at[index].get(mode="clip", out_sharding=sharding)
        found = jnp.take(array, index, axis=0, mode="clip")
        if sharding is None:
            return found
        return constrain(found, sharding)

    def take_all(arrays: list[jax.Array], index: jax.Array) -> list[jax.Array]:
        pairs = zip(arrays, shardings, strict=True)
        return [take_one(array, index, sharding) for array, sharding in pairs]

    return jax.jit(take_all)


def _result_sharding(sharding: Any, shape: tuple[int, ...]) -> NamedSharding | None:
    """The sharding of the examples taken with an index of this shape.

    They are divided along the last axis of the index as the examples of the array are.
    """
    if sharding is None:
        return None
    examples, *others = sharding.spec or (None,)
    names: tuple[str, ...] = ()
    if isinstance(examples, tuple):
        names = examples
    elif examples is not None:
        names = (examples,)
    sizes = [sharding.mesh.shape[name] for name in names]
    if shape[-1] % math.prod(sizes):
        examples = None
    leading = (None,) * (len(shape) - 1)
    return NamedSharding(sharding.mesh, partition(*leading, examples, *others))


def _take_on_host(arrays: list[Array], index: np.ndarray) -> list[np.ndarray]:
    flat = index.reshape(-1)
    found = []
    # Consecutive examples: a view, no copy.
    place: np.ndarray | slice = flat
    if (np.diff(flat) == 1).all():
        place = slice(flat[0], flat[-1] + 1)
    for array in arrays:
        source = array if isinstance(array, LazyArray) else np.asarray(array)
        shape = (*index.shape, *array.shape[1:])
        found.append(source[place].reshape(shape))
    return found
