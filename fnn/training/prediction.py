"""Prediction: the outputs of a network for many examples, batch by batch, as NumPy arrays."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Generator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from fnn.core import tree, weights
from fnn.core.layer import Layer
from fnn.runtime.program_cache import programs
from fnn.training import engine
from fnn.training.data import GATHERED_BYTES, take
from fnn.training.hooks import CallbackList
from fnn.training.interrupt import interruptible
from fnn.training.progress import Progress
from fnn.training.step import predict_function

Run = Callable[[Any, int], Any]  # (examples, how many of them are valid) -> outputs
Piece = tuple[Any, int]
MOST_IN_FLIGHT = 32
LARGE_PIECE = 2**18  # bytes of inputs and outputs: some milliseconds of work
PREDICT_HOOKS = "on_predict_batch_begin", "on_predict_batch_end"


class Predictor:
    """The compiled forward function for batches of one kind: one a dispatch, or several small ones.

    `step(params, state, batch) -> (outputs, state)`.
    """

    def __init__(self, layer: Layer) -> None:
        self.step = jax.jit(predict_function(layer))
        self.loop = jax.jit(
            functools.partial(_loop, self.step, weights.is_stateful(layer)),
            static_argnums=4,
        )
        self._known: tuple[int, float] | None = None

    def capacity(self, params: Any, state: Any, batch: Any) -> int:
        """How many batches go into one dispatch (`engine.steps_a_dispatch`)."""
        return self._found_out(params, state, batch)[0]

    def work(self, params: Any, state: Any, batch: Any) -> float:
        """About how many floating-point operations a batch takes."""
        return self._found_out(params, state, batch)[1]

    def _found_out(self, params: Any, state: Any, batch: Any) -> tuple[int, float]:
        if self._known is None:
            traced = self.step.trace(params, state, batch)
            work = engine.operations(traced.jaxpr.jaxpr)
            self._known = self._fitting(traced, batch), work
        return self._known

    def _fitting(self, traced: Any, batch: Any) -> int:
        size, outputs = tree.batch_size(batch), traced.out_info[0]
        if any(spec.shape[:1] != (size,) for spec in jax.tree.leaves(outputs)):
            return 1  # not one output for each example
        bytes_a_batch = max(tree.nbytes((batch, outputs)), 1)
        fitting = max(GATHERED_BYTES // bytes_a_batch, 1)
        return min(engine.steps_a_dispatch(traced.jaxpr.jaxpr), fitting)


def _loop(
    step: Any, stateful: bool, params: Any, state: Any, x: Any, count: Array, size: int
) -> tuple[Any, Any]:
    """(outputs, state) of the first `count` batches of `size` in x, one after the other.

    Only layers that are stateful find in a batch what the batch before left.
    """
    batch_at = lambda at: jax.tree.map(
        lambda a: lax.dynamic_slice_in_dim(a, at, size), x
    )
    total = tree.batch_size(x)
    spec = jax.eval_shape(step, params, state, batch_at(0))[0]
    outputs = jax.tree.map(lambda s: jnp.zeros((total, *s.shape[1:]), s.dtype), spec)

    def body(index: Array, carry: Any) -> Any:
        outputs, now = carry
        found, after = step(params, now if stateful else state, batch_at(index * size))
        put = lambda whole, part: lax.dynamic_update_slice_in_dim(
            whole, part, index * size, 0
        )
        return jax.tree.map(put, outputs, found), after if stateful else now

    return lax.fori_loop(0, count, body, (outputs, state))


@programs.cached
def predictor(layer: Layer, kind: Any) -> Predictor:
    """The compiled forward function of a network for batches of this `tree.kind`.

    Equal networks share one. Of those for many shapes, numbers of examples too, the ones unused
    longest are freed (`fnn.utils.set_program_cache_size`).
    """
    return Predictor(layer)


def pieces(
    x: Any, count: int, size: int, capacity: int, end: int, room: int = 0
) -> Generator[Piece]:
    """The first `count` examples of arrays, cut for dispatches: (examples, number of valid ones).

    A piece holds `capacity` batches of `size`, or one batch if no more are left. What does not fill
    its last batch is padded to `end` examples; if that is less than `size`, it is a piece of its
    own. Pieces of one batch are padded to `room` examples, if that is more.
    """
    even = count if end >= size else count - count % size
    stride = size * capacity
    for first in range(0, even, stride):
        valid = min(stride, even - first)
        yield _cut(x, first, valid, max(size, room) if valid <= size else stride), valid
    if even < count:
        yield _cut(x, even, count - even, end), count - even


def _cut(x: Any, first: int, valid: int, room: int) -> Any:
    """`valid` examples from the one numbered `first` on, padded to `room` by copies of the last."""

    def part(array: Any) -> Any:
        if isinstance(array, jax.Array):
            if first == 0 and valid == room == array.shape[0]:
                return array
            return take(
                array, np.minimum(np.arange(first, first + room), first + valid - 1)
            )
        piece = array[first : first + valid]
        if valid == room:
            return piece
        widths = [(0, room - valid)] + [(0, 0)] * (piece.ndim - 1)
        return np.pad(piece, widths, mode="edge")

    return part(x) if hasattr(x, "shape") else jax.tree.map(part, x)


def predict(
    run: Run,
    pieces: Generator[Piece],
    size: int,
    callbacks: CallbackList,
    verbose: Any = 0,
    total: int | None = None,
) -> Any:
    """The outputs of `run` over pieces of batches of `size`, joined, as NumPy arrays.

    A callback that sets `model.stop_predicting` ends it after the batch.
    """
    progress = Progress(verbose, total)
    flight = _Flight(run, size, callbacks, progress)
    with interruptible() as interrupt:
        try:
            callbacks.begin("predict")
            progress.begin()
            for piece, valid in pieces:
                flight.dispatch(piece, valid)
                interrupt.poll()
                if callbacks.model.stop_predicting:
                    break
            flight.fetch(ahead=0)
        except BaseException as error:
            progress.stop()
            callbacks.end("predict", {}, error)
            raise
        finally:
            pieces.close()
        progress.end(flight.done, {})
        callbacks.end("predict", {})
    # Which may be written to, as arrays of JAX may not.
    return jax.tree.map(lambda *arrays: np.concatenate(arrays), *flight.parts)


class _Flight:
    """Pieces on the device, and the outputs fetched so far.

    Several pieces are on the device at a time: waiting for each costs more than a small one does.
    """

    def __init__(
        self, run: Run, size: int, callbacks: CallbackList, progress: Progress
    ) -> None:
        self.run, self.size, self.callbacks, self.progress = (
            run,
            size,
            callbacks,
            progress,
        )
        self.watched = callbacks.watches(*PREDICT_HOOKS)
        self.flight: deque[tuple[Any, int, bool]] = deque()
        self.parts: list[Any] = []
        self.done = 0  # batches

    def dispatch(self, piece: Any, valid: int) -> None:
        """Runs a piece, and fetches older ones where too many are on the device."""
        if self.watched:
            self.callbacks.call("on_predict_batch_begin", self.done, {})
        outputs = self.run(piece, valid)
        self.flight.append((outputs, valid, valid < tree.batch_size(piece)))
        self.fetch(ahead=0 if self.watched else self._room(piece, outputs))

    def _room(self, piece: Any, outputs: Any) -> int:
        """How many pieces may be on the device.

        Large ones one at a time on CPU: two programs at once fight for cores and for memory.
        """
        bytes_a_piece = max(tree.nbytes((piece, outputs)), 1)
        if bytes_a_piece >= LARGE_PIECE and jax.default_backend() == "cpu":
            return 0
        return min(max(GATHERED_BYTES // bytes_a_piece, 1), MOST_IN_FLIGHT)

    def fetch(self, ahead: int) -> None:
        """Fetches outputs until those of `ahead` pieces are left on the device."""
        while len(self.flight) > ahead:
            outputs, valid, padded = self.flight.popleft()
            self.parts.append(_on_host(outputs, valid if padded else None))
            self.done += -(-valid // self.size)
            if self.watched:
                logs = {"outputs": self.parts[-1]}
                self.callbacks.call("on_predict_batch_end", self.done - 1, logs)
            if self.progress.reached(self.done):
                self.progress.update(self.done, {})


def predict_at_once(run: Run, piece: Piece) -> Any:
    """The outputs of `run` for one piece, as `predict` returns them."""
    outputs = _on_host(
        run(*piece), piece[1] if piece[1] < tree.batch_size(piece[0]) else None
    )
    return (
        outputs.copy()
        if isinstance(outputs, np.ndarray)
        else jax.tree.map(np.copy, outputs)
    )


def _on_host(outputs: Any, valid: int | None) -> Any:
    """Outputs as NumPy arrays; of a padded batch those of the valid examples."""
    if isinstance(outputs, jax.Array):
        return _fetched(outputs, valid)
    return jax.tree.map(lambda a: _fetched(a, valid), outputs)


def _fetched(output: Any, valid: int | None) -> np.ndarray:
    if not output.ndim:
        raise ValueError(
            "predict joins the outputs of batches, and the network returns a single number for a "
            "batch; call the model on the array, model(x), or return one output for each example"
        )
    return np.asarray(output)[:valid]
