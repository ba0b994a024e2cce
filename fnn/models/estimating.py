"""Estimating: what a training step costs, from the program that XLA makes of it."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from fnn.core import tree
from fnn.core.context import split_mask
from fnn.core.tree import SpecTree, Tree, array_spec
from fnn.models.feed import Arrays, Feed, checked_batch_size, room_for
from fnn.models.own_data import StepFeed
from fnn.runtime.compilations import active
from fnn.runtime.layouts import current
from fnn.training import engine
from fnn.training.objective import Objective
from fnn.training.state import without_counters

_MOST = 2**20  # examples of a batch
_ATTEMPTS = 8  # compilations in the search for the largest batch


class Estimate(NamedTuple):
    """What a training step with batches of `batch_size` examples costs each device."""

    batch_size: int
    flops: float
    peak_bytes: int
    compile_seconds: float
    largest_batch: int | None = None
    devices: int = 1

    def __str__(self) -> str:
        shown = (
            f"batch of {self.batch_size}: {self.flops / 1e9:.3g} GFLOP a step, "
            f"{self.peak_bytes / 2**20:.1f} MiB, compiled in {self.compile_seconds:.1f} s"
        )
        if self.devices > 1:
            shown += f" for each of {self.devices} devices"
        if self.largest_batch is not None:
            shown += f"; largest batch {self.largest_batch}"
        return shown


class _Cost(NamedTuple):
    flops: float
    peak: int
    seconds: float


def estimate(
    feed: Feed, batch_size: int, memory: float | None, x: Tree, y: Tree
) -> Estimate:
    """What a training step costs; see `Model.estimate`."""
    size = checked_batch_size(batch_size)
    log = feed.weights.compilations
    x = _inputs(feed, x)
    active.set(log)
    known = len(log.entries)
    cost = _cost(feed, size, x, y)
    seconds = cost.seconds
    before = [
        entry.seconds for entry in log.entries[:known] if entry.program == "training"
    ]
    if len(log.entries) == known and before:
        seconds = before[-1]  # it was compiled already
    if memory is None:
        memory = _memory_of_device()
    largest = None
    if memory is not None:
        # The programs for other sizes are only looked at.
        active.set(None)

        def peak(size: int) -> int:
            return _cost(feed, size, x, y).peak

        largest = _largest(peak, memory, size, cost.peak)
    return Estimate(size, cost.flops, cost.peak, seconds, largest, _device_count())


def _device_count() -> int:
    """The number of devices of the distribution in force."""
    distribution = current()
    return 1 if distribution is None else int(distribution.mesh.size)


def _inputs(feed: Feed, x: Tree) -> SpecTree:
    """The shapes of some inputs. Raises ValueError if they are not known."""
    if x is not None:
        trial = feed.checked_inputs(tree.trial(x))
        return tree.spec(trial)
    network = feed.weights.network.compiled
    feed.weights.now  # noqa: B018 - raises while there are no weights
    first, second = network.trial(0), network.trial(1)
    if tree.resized(first, 1) != tree.resized(second, 1):
        raise ValueError(
            f"estimate: the inputs of {network.name!r} have free sizes besides the number of "
            "examples; pass x, an array of the shape that the batches will have"
        )
    return first


def _cost(feed: Feed, size: int, x: SpecTree, y: Tree) -> _Cost:
    """The cost of a step with batches of this size: it is compiled, and not run."""
    program, weights = feed.program, feed.weights
    size = room_for(weights.network, size)
    arrays, objective = _goals(feed, tree.resized(x, size), y)
    program.ensure_optimizer_state()
    began = time.perf_counter()
    batch = tree.spec(arrays), array_spec((size,), bool)
    state = without_counters(program.holder.now)
    step = program.train_step(objective)
    program_of_step = engine.program(step, state, batch, weights.now.key)
    compiled = program_of_step.compiled(program.guard, state)
    seconds = time.perf_counter() - began
    memory = compiled.memory_analysis()
    peak = memory.argument_size_in_bytes + memory.output_size_in_bytes
    peak += memory.temp_size_in_bytes - memory.alias_size_in_bytes
    flops = float(compiled.cost_analysis()["flops"])
    if program_of_step.has_loops:
        # The analysis of XLA counts them once.
        flops = max(flops, program_of_step.work / _device_count())
    return _Cost(flops, int(peak), seconds)


def _goals(feed: Feed, x: SpecTree, y: Tree) -> tuple[Arrays, Objective]:
    """(arrays of these shapes, the objective for them)."""
    size = tree.batch_size(x)
    program = feed.program
    kept = program.objective
    try:
        if y is not None or not program.needs_targets:
            inputs = tree.trial(x)
            targets = tree.trial(tree.resized(y, size))
            own = isinstance(feed, StepFeed) and program.takes_any("train_step")
            if not own and feed.weights.network.compiled is not feed.weights.network:
                raise ValueError(
                    "estimate: leave y out for a network with layers on the host"
                )
            return feed.goals(inputs, targets, None)
        return _guessed(feed, x)
    finally:
        program.objective = kept


def _guessed(feed: Feed, x: SpecTree) -> tuple[Arrays, Objective]:
    """Targets that the losses take for these outputs. Raises ValueError if there are none."""
    outputs = feed.weights.network.compiled.output_specs(x)
    specs = [split_mask(output)[0] for output in outputs]
    error: ValueError | None = None
    for targets in itertools.product(*map(_candidates, specs)):
        arrays = {"x": x, "y": targets, "weight": ()}
        try:
            return arrays, feed.program.resolve(arrays)
        except ValueError as found:
            error = error or found
    assert error is not None
    error.add_note("estimate: pass y, an array of the shape that the targets will have")
    raise error


def _candidates(output: SpecTree) -> Iterator[np.ndarray]:
    """Targets for an output: of its shape, labels, one label in an axis of its own."""
    one_hot = np.zeros(output.shape, output.dtype)
    one_hot[..., :1] = 1
    yield one_hot
    shape = output.shape[:-1]
    yield np.zeros(shape, np.int32)
    yield np.zeros((*shape, 1), np.int32)


def _memory_of_device() -> float | None:
    """The bytes that the first device of this process may hold, None if it does not say."""
    device = jax.local_devices()[0]
    stats: dict[str, Any] = device.memory_stats() or {}
    return stats.get("bytes_limit")


def _largest(
    peak: Callable[[int], int],
    memory: float,
    size: int,
    known: int,
) -> int:
    """The largest batch size whose peak is within `memory`, as exact as a few compilations allow.

    Memory grows almost linearly with the batch, so each attempt goes where the line through the
    nearest sizes on both sides reaches `memory`.
    """
    fits, known_of = 0, {size: known}
    too_large = _MOST + 1
    attempt = size if known <= memory else 1
    for _ in range(_ATTEMPTS):
        if attempt not in known_of:
            known_of[attempt] = peak(attempt)
        if known_of[attempt] <= memory:
            fits = max(fits, attempt)
        else:
            too_large = min(too_large, attempt)
        if too_large - fits <= 1:
            break
        attempt = _next(known_of, memory, fits, too_large)
        if attempt == fits:
            break
    return fits


def _next(
    known: dict[int, int],
    memory: float,
    fits: int,
    too_large: int,
) -> int:
    """The size to try next, between one that fits and one that does not."""
    if len(known) < 2:
        return min(2 * max(known), too_large - 1)
    nearest = sorted(known, key=lambda size: abs(known[size] - memory))
    first, second = sorted(nearest[:2])
    slope = (known[second] - known[first]) / (second - first)
    aim = 2 * second
    if slope > 0:
        aim = int(first + (memory - known[first]) / slope)
    # Within half a percent it is good enough.
    if fits and abs(aim - fits) <= fits // 200:
        return fits
    return min(max(aim, fits + 1), too_large - 1)
