"""Shares: the batches that each process reads for itself, put together to batches of all."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Any, Protocol

import jax
import numpy as np

from fnn.core import tree
from fnn.core.tree import SpecTree, Tree
from fnn.runtime.layouts import current
from fnn.runtime.processes import agreed, exchanged, hosts, joined
from fnn.training.data import is_on_several_devices


class Stream(Protocol):
    """What is read here of a `StreamData`."""

    pad: bool
    batch_size: int
    apart: Callable[[SpecTree], bool]

    def batch_spec(self) -> SpecTree: ...


def hosts_of(first: Tree, varies: bool) -> int:
    """How many processes read a share of a batch of a stream, which begins with `first`.

    One for a batch that lies on the devices of all. Raises ValueError for batches of several
    shapes, and for devices that do not divide a batch between processes.
    """
    distribution = current()
    if distribution is None or is_on_several_devices(first):
        return 1
    sharding = distribution.divided(0)
    number = hosts(sharding)
    if number == 1:
        return 1
    parts = sharding.addressable_devices_indices_map((distribution.parts,))
    own = set(map(str, parts.values()))
    if number * len(own) != distribution.parts:
        raise ValueError(
            "expected a mesh whose batch axis is divided between processes, received one in which "
            "processes share examples; put the batch axis first, or pass arrays instead of a stream"
        )
    if varies:
        raise ValueError(
            "expected batches of one shape from the stream of each process, received a source of "
            "several shapes, which would differ between processes; pad to one length"
        )
    return number


def agreed_size(batch: SpecTree, pads: bool, number: int) -> int:
    """The number of examples in the largest first batch of the processes.

    Raises ValueError for batches of different shapes or dtypes, and without padding for sizes
    that differ, or that the devices of a process do not divide.
    """
    size = tree.batch_size(batch)
    own = str(jax.tree.map(_of_example, batch))
    found = exchanged([size, own], "a stream")
    for process, (_, example) in enumerate(found):
        if example != found[0][1]:
            raise ValueError(
                "expected streams with equal examples in all processes, received "
                f"{found[0][1]} in process 0 and {example} in process {process}; give every "
                "process the same arrays, shapes and dtypes"
            )
    sizes: list[int] = [size for size, _ in found]
    distribution = current()
    assert distribution is not None
    devices = distribution.parts // number
    if not pads and (min(sizes) < max(sizes) or size % devices):
        raise ValueError(
            f"expected batches of one size in all processes, divisible by the {devices} devices of "
            f"each, received {sizes} examples; change the batch size"
        )
    return max(sizes)


def room_for_hosts(stream: Stream) -> int:
    """The padded size of a batch of all processes, so that their devices divide it.

    Raises ValueError where padding would change what is computed from the examples.
    """
    distribution = current()
    assert distribution is not None
    room = distribution.room(stream.batch_size)
    if room != stream.batch_size and stream.apart(stream.batch_spec()):
        raise ValueError(
            f"expected batches that {distribution.parts} devices divide evenly, since this network "
            f"or loss computes with all examples of a batch, received {stream.batch_size} examples "
            "of all processes together; change the batch size of the loader"
        )
    return room


def _of_example(spec: jax.ShapeDtypeStruct) -> str:
    return f"{spec.dtype}{list(spec.shape[1:])}"


def agreed_steps(steps: int | None, pads: bool) -> int | None:
    """The number of batches in a pass, which all processes run; None if one does not know its own.

    With padding the most that one has: the others add batches without valid examples.
    """
    found = exchanged(steps, "a pass over a stream")
    counts: list[int] = [count for count in found if count is not None]
    if len(counts) < jax.process_count():
        return None
    return max(counts) if pads else min(counts)


def together(
    stream: Stream,
    chunks: Iterator[Any],
    capacity: int,
    total: int | None,
    done: int,
) -> Generator[tuple[Tree, int]]:
    """(a chunk of batches of all processes, their number), from the chunks of this process.

    Without a `total` the processes agree on the number of batches before each chunk, which takes
    a millisecond.
    """
    arrays: Tree = None
    while total is None or done < total:
        if total is None:
            chunk, counts = _next_of_all(chunks)
            size = max(counts) if stream.pad else min(counts)
        else:
            chunk = next(chunks, None)
            size = min(capacity, total - done)
        if not size:
            return
        count = 0
        if chunk is not None:
            arrays, count = chunk.arrays, chunk.batches
        if count < size:
            arrays = _with_empty_batches(stream, arrays, count, done)
        _check_padding(stream, arrays, size)
        yield jax.tree.map(_of_all, arrays), size
        done += size


def _next_of_all(chunks: Iterator[Any]) -> tuple[Any, list[int]]:
    """The next chunk of this process, if there is one, and the batches in those of all."""
    chunk = None

    def read() -> int:
        nonlocal chunk
        chunk = next(chunks, None)
        return 0 if chunk is None else chunk.batches

    counts: list[int] = agreed("the next batches of a stream", read)
    return chunk, counts


def meet(what: str) -> bool:
    """Whether this process needs the devices of others, which are at `what`, too.

    Raises RuntimeError if one of them is elsewhere.
    """
    distribution = current()
    if distribution is None or hosts(distribution.whole) == 1:
        return False
    exchanged(None, what)
    return True


def _with_empty_batches(
    stream: Stream,
    arrays: Tree,
    count: int,
    done: int,
) -> Tree:
    """A chunk whose batches from `count` on are padding: a process had fewer than others."""
    if not stream.pad or arrays is None:
        raise ValueError(
            f"expected as many batches as the other processes have, received {done + count} and "
            "the end of the data; pass fewer steps, or a stream that restarts"
        )
    found, valid = arrays
    valid = valid.copy()
    valid[count:] = False

    def filled(array: np.ndarray) -> np.ndarray:
        array = array.copy()
        # Copies of examples: no NaN or infinity is computed from them.
        array[count:] = array[max(count - 1, 0)]
        return array

    return jax.tree.map(filled, found), valid


def _check_padding(stream: Stream, arrays: Tree, count: int) -> None:
    """Raises ValueError for padding where it would change what is computed from examples."""
    if (
        not stream.pad
        or arrays[1][:count].all()
        or not stream.apart(stream.batch_spec())
    ):
        return
    raise ValueError(
        "expected full batches, and equally many in each process, since this network or loss "
        "computes with all examples of a batch; drop the remainder in the loader, and pass "
        "steps_per_epoch"
    )


def _of_all(array: np.ndarray) -> jax.Array:
    """A chunk (batches, examples, ...) of all processes, divided over the devices."""
    distribution = current()
    assert distribution is not None
    return joined(distribution.divided(1), array, axis=1)
