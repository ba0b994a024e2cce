"""Inference: a network run forward with its weights, over one batch or over many examples."""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator
from typing import Any, TypeAlias

import jax
import numpy as np

from fnn.core import tree
from fnn.core.calling import applied_spec
from fnn.core.context import strip_masks
from fnn.core.tree import SpecTree, Tree
from fnn.models.feed import Feed, checked_batch_size, pads, room_for
from fnn.models.weights import Weights
from fnn.runtime.compilations import active
from fnn.runtime.layouts import current
from fnn.runtime.memory import LARGE
from fnn.runtime.process import check_process
from fnn.runtime.processes import is_global, local
from fnn.training.data import is_on_several_devices
from fnn.training.engine import runs_apart
from fnn.training.hooks import CallbackList
from fnn.training.interrupt import interruptible
from fnn.training.prediction import (
    PREDICT_HOOKS,
    Piece,
    Run,
    fetched,
    in_full,
    pieces,
    predict,
)
from fnn.training.shares import meet

Verbose: TypeAlias = str | int
SMALLEST_PART = 32  # examples of a batch that is divided
POWERS_OF_TWO = {1, 2, 4, 8, 16, 32}  # numbers of examples that `predict` runs unpadded


def forward(weights: Weights, x: Tree) -> Tree:
    """The outputs for a batch, on the device; stateful layers keep their state after it.

    They do not under a transformation of JAX, whose traced arrays hold no numbers yet. Of several
    processes each computes for itself, unless the batch lies on devices of others.
    """
    network = weights.network
    active.set(weights.compilations)
    program = network.compiled.predictor(x)
    params, state, x = _placed_alone(weights, x)
    outputs, state = program.step(params, state, x, *weights.inference_key())
    if network.is_stateful:
        traced = any(
            isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(state)
        )
        if not traced:
            weights.keep_state(state)
    return outputs


def _placed_alone(weights: Weights, x: Tree) -> tuple[Tree, Tree, Tree]:
    """`weights.placed(x)`, in arrays of this process if that is one of several."""
    if not jax.distributed.is_initialized() or any(map(is_global, jax.tree.leaves(x))):
        return weights.placed(x)
    now = weights.now
    return *local((now.params, now.state)), x


def owned(x: Tree) -> Tree:
    """`x` in memory of its own: JAX may read the caller's arrays after a call has returned."""
    if isinstance(x, np.ndarray):
        return np.array(x, copy=True)
    if hasattr(x, "shape"):
        return x
    return jax.tree.map(owned, x)


def as_before(feed: Feed, x: Any, copies: bool = False) -> Tree | None:
    """The outputs, on the device, for an array like that of the last prediction; None for others.

    The device computes while the values are checked, so this is only for networks whose inference
    changes nothing in the model. JAX traces nothing, so Ctrl-C may strike at any line. `copies`:
    the caller may change the array before the device has read it.
    """
    weights = feed.weights
    network = weights.network.compiled
    program = network.last_predictor(x)
    if program is None or network.is_stateful or network.draws_in_inference:
        return None
    if current() is not None or jax.distributed.is_initialized():
        return None  # arrays may have to lie on several devices, or on those of others
    check_process()
    active.set(weights.compilations)
    now = weights.now
    batch = x.copy() if copies else x
    outputs, _ = program.step(now.params, now.state, batch)
    feed.check_values(x)
    return outputs


def is_one_batch(x: object, batch_size: int | None) -> bool:
    """Whether `predict` runs an array as one batch of its own size."""
    if type(x) is not np.ndarray or not x.ndim or len(x) not in POWERS_OF_TWO:
        return False
    return batch_size is None or (type(batch_size) is int and batch_size >= len(x))


class Prediction:
    """One call of `predict` over arrays: the size of batches, their padding, the pieces.

    A piece is what one dispatch takes: several small batches, or one. On CPU, `shown` examples
    are a batch to the user, but may run in smaller ones, of `size`: arrays so large that glibc
    takes them anew from the system each time cost more than the calls. `watched` batches stay.
    """

    def __init__(
        self,
        feed: Feed,
        x: Tree,
        batch_size: int | None,
        steps: int | None,
        watched: bool = False,
    ) -> None:
        self.weights = feed.weights
        self.network = feed.weights.network.compiled
        self.x = x
        self.count = tree.batch_size(x)
        self.meets = False  # other processes, which need the same devices
        if jax.distributed.is_initialized():
            self.meets = meet(f"predict of {self.count} examples")
        if batch_size is None and steps:
            batch_size = -(-self.count // steps)
        self.size = checked_batch_size(batch_size)
        stateful = self.network.is_stateful
        if stateful:
            self.size = self._stateful_size(batch_size)
        if steps is not None:
            self.count = min(self.count, steps * self.size)
        if self.count < self.size and not stateful:
            # A power of two: few compilations for any number of examples.
            self.size = 1 << (self.count - 1).bit_length()
        self.shown = self.size
        if not watched and not stateful:
            self.size = self._size_in_memory()
        batch = tree.resized(x, self.size)
        self.remainder = self.count % self.size
        self.padded = stateful or not self.remainder or pads(self.weights, batch)
        self.end = self.size  # the size to which the last batch is padded
        if not self.padded:
            self.size = min(self.size, self.count)
            self.end = self.count % self.size or self.size
        self.room = self.size
        room = room_for(self.network, self.size)
        if room != self.size and pads(self.weights, tree.resized(x, self.size)):
            self.room = room

    @property
    def batches(self) -> int:
        """The number of batches, as the user counts them."""
        return -(-self.count // self.shown)

    @property
    def fits_at_once(self) -> bool:
        """Whether one dispatch takes all examples, and nobody else takes part."""
        return self.count <= self.size and not self.meets

    def at_once(self) -> Tree:
        """The outputs for examples that fit into one batch."""
        (piece,) = self._pieces(1, self.end)
        x, valid = piece
        outputs = _runner(self.weights, x, self.size)(x, valid)
        return fetched(outputs, valid, valid < tree.batch_size(x))

    def run(self, callbacks: CallbackList, verbose: Verbose) -> Tree:
        """The outputs for all examples, joined."""
        batch = tree.resized(self.x, self.room)
        end = self.end
        if self._last_runs_apart(batch):
            end = 1 << (self.remainder - 1).bit_length()
        capacity = self._capacity(batch, callbacks)
        cut = self._pieces(capacity, end)
        run = _runner(self.weights, batch, self.size)
        return predict(
            run, cut, self.shown, callbacks, verbose, self.batches, self.meets
        )

    def _pieces(self, capacity: int, end: int) -> Generator[Piece]:
        """The examples in parts of up to `capacity` batches; the last batch padded to `end`."""
        return pieces(self.x, self.count, self.size, capacity, end, self.room)

    def _size_in_memory(self) -> int:
        """The size of batches that have no array of `LARGE` bytes, on CPU."""
        if jax.default_backend() != "cpu" or self.size in POWERS_OF_TWO:
            return self.size
        if self._is_divided() or self.network.draws_in_inference:
            return self.size
        now = self.weights.now
        batch = tree.resized(self.x, self.size)
        predictor = self.network.predictor(batch)
        largest = predictor.largest(now.params, now.state, batch)
        parts = 1 << (largest // LARGE).bit_length()
        if parts == 1 or not pads(self.weights, batch):
            return self.size
        return max(self.size // parts, SMALLEST_PART)

    def _capacity(self, batch: SpecTree, callbacks: CallbackList) -> int:
        """How many batches go into one dispatch."""
        divided = self._is_divided()
        watched = callbacks.watches("on_predict_begin", *PREDICT_HOOKS)
        draws = self.network.draws_in_inference
        if self.count <= self.size or divided or watched or draws:
            return 1
        now = self.weights.now
        predictor = self.network.predictor(batch)
        return predictor.capacity(now.params, now.state, batch)

    def _is_divided(self) -> bool:
        """Whether batches are divided over several devices, which happens one by one."""
        if current() is not None:
            return True
        return is_on_several_devices((self.x, self.weights.now.params))

    def _last_runs_apart(self, batch: SpecTree) -> bool:
        """Whether a last batch of few examples gets a program of its own."""
        if not self.remainder or not self.padded or self.network.is_stateful:
            return False
        if self.network.draws_in_inference:
            return False
        if self.room != self.size:
            return False
        now = self.weights.now
        predictor = self.network.predictor(batch)
        work = predictor.work(now.params, now.state, batch)
        return runs_apart(work, self.remainder, self.size)

    def _stateful_size(self, given: int | None) -> int:
        """The batch size of a network that keeps a state for each example of a batch."""
        size = tree.batch_size(self.network.trial())
        if given not in (None, size):
            raise ValueError(
                f"the model {self.network.name!r} is stateful and keeps states for batches of "
                f"{size}; pass batch_size={size} or leave it out"
            )
        return size


def predict_stream(
    feed: Feed,
    x: Tree,
    batch_size: int | None,
    steps: int | None,
    listen: Callable[[int | None], CallbackList],
    verbose: Verbose,
) -> Tree:
    """The outputs for all batches of a stream, joined; `listen(steps)` makes the callbacks."""
    stream = feed.stream_of_inputs(x, batch_size, steps)
    batch, _ = stream.batch_spec()
    with interruptible() as interrupt:
        # The interrupt of the whole call of `predict`.
        chunks = stream.chunks(0, 1, steps, interrupt.poll)

    def batches() -> Generator[Piece]:
        for (arrays, valid), _ in chunks:
            batch = jax.tree.map(lambda a: a[0], arrays)
            yield batch, int(valid.sum())

    # Each of several processes has examples of its own, as many as there are.
    run = _runner(feed.weights, batch, stream.batch_size, alone=True)
    callbacks = listen(stream.steps)
    return predict(run, batches(), stream.batch_size, callbacks, verbose, stream.steps)


def _runner(weights: Weights, batch: Tree, size: int, alone: bool = False) -> Run:
    """The function that dispatches a piece, with the weights of that moment.

    Pieces hold whole batches like `batch`, or are one batch of fewer examples.
    """
    network = weights.network.compiled
    active.set(weights.compilations)
    whole = network.predictor(batch)

    placed = weights.placed
    if alone:
        placed = functools.partial(_placed_alone, weights)

    def run(x: Tree, valid: int) -> Tree:
        params, state, x = placed(x)
        program = whole
        if tree.batch_size(x) < size:
            program = network.predictor(x)
        if valid > size:
            count = np.int32(-(-valid // size))
            outputs, state = program.loop(params, state, x, count, size)
        else:
            outputs, state = program.step(params, state, x, *weights.inference_key())
        if network.is_stateful:
            weights.keep_state(state)
        return outputs

    return run


def empty_outputs(weights: Weights, x: Tree) -> Tree:
    """The outputs for no examples."""
    now = weights.now
    layer = weights.network.compiled.layer
    spec = applied_spec(layer, now.params, now.state, x)
    zeros = tree.trial(strip_masks(spec))
    return jax.tree.map(in_full, zeros)
