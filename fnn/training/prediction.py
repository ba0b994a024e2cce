"""Prediction: the outputs of a network for many examples, batch by batch, as NumPy arrays."""

from __future__ import annotations

import functools
import time
from collections import deque
from collections.abc import Callable, Generator
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from fnn.core import tree, weights
from fnn.core.layer import Layer
from fnn.core.tree import SpecTree, Tree
from fnn.runtime.compilations import name_of, note
from fnn.runtime.processes import any_of, local
from fnn.runtime.program_cache import programs
from fnn.training import engine
from fnn.training.cost import largest_array
from fnn.training.data import GATHERED_BYTES, take
from fnn.training.hooks import CallbackList
from fnn.training.interrupt import interruptible
from fnn.training.predict_step import predict_function
from fnn.training.progress import Progress

# (examples, how many of them are valid) -> outputs
Run: TypeAlias = Callable[[Tree, int], Tree]
Piece: TypeAlias = tuple[Tree, int]
MOST_IN_FLIGHT = 32
LARGE_PIECE = 2**18  # bytes of inputs and outputs: some milliseconds of work
PREDICT_HOOKS = "on_predict_batch_begin", "on_predict_batch_end"


class Measured(NamedTuple):
    """What the program for a batch is like, as far as its equations show."""

    capacity: int
    work: float
    largest: int


class Predictor:
    """The compiled forward function for batches of one kind, or for several small ones at once.

    `step(params, state, batch) -> (outputs, state)`.
    """

    def __init__(self, layer: Layer) -> None:
        self.step = jax.jit(_noted(predict_function(layer), layer))
        loop = functools.partial(_loop, self.step, weights.is_stateful(layer))
        self.loop = jax.jit(_noted(loop, layer), static_argnums=4)
        self._measured: Measured | None = None

    def capacity(
        self,
        params: Tree,
        state: Tree,
        batch: SpecTree,
    ) -> int:
        """How many batches go into one dispatch (`engine.steps_per_dispatch`)."""
        return self._measure(params, state, batch).capacity

    def work(
        self,
        params: Tree,
        state: Tree,
        batch: SpecTree,
    ) -> float:
        """About how many floating-point operations a batch takes."""
        return self._measure(params, state, batch).work

    def largest(
        self,
        params: Tree,
        state: Tree,
        batch: SpecTree,
    ) -> int:
        """The bytes of the largest array that is computed for a batch."""
        return self._measure(params, state, batch).largest

    def _measure(
        self,
        params: Tree,
        state: Tree,
        batch: SpecTree,
    ) -> Measured:
        if self._measured is None:
            traced = self.step.trace(params, state, batch)
            capacity = engine.steps_per_dispatch(traced.jaxpr.jaxpr)
            outputs = traced.out_info[0]
            capacity = min(capacity, _most_together(batch, outputs))
            program = traced.jaxpr.jaxpr
            self._measured = Measured(
                capacity, engine.operations(program), largest_array(program)
            )
        return self._measured


def _noted(function: Callable[..., Tree], layer: Layer) -> Callable[..., Tree]:
    """The function, whose compilations the log of a model shows."""

    def noted(params: Tree, state: Tree, x: Tree, *others: Any) -> Tree:
        began = time.perf_counter()
        result = function(params, state, x, *others)
        # Afterwards, since a loop traces the program for one batch inside.
        took = time.perf_counter() - began
        arguments = {"x": x, "params": params}
        note("prediction", arguments, {"network": layer}, took)
        return result

    noted.__name__ = name_of("prediction")
    return noted


def _most_together(batch: SpecTree, outputs: SpecTree) -> int:
    """How many batches may go into one dispatch by their shapes and sizes."""
    size = tree.batch_size(batch)
    for spec in jax.tree.leaves(outputs):
        if spec.shape[:1] != (size,):
            # Not one output for each example.
            return 1
    bytes_per_batch = max(tree.nbytes((batch, outputs)), 1)
    # Less than a large piece: on CPU the pieces then run beside each other.
    return max((LARGE_PIECE - 1) // bytes_per_batch, 1)


def _loop(
    step: Callable[..., Tree],
    stateful: bool,
    params: Tree,
    state: Tree,
    x: Tree,
    count: Array,
    size: int,
) -> tuple[Tree, Tree]:
    """(outputs, state) of the first `count` batches of `size` in x, one after the other.

    Only stateful layers see in a batch what the batch before has left.
    """

    def batch_at(start: Array | int) -> Tree:
        return jax.tree.map(lambda a: lax.dynamic_slice_in_dim(a, start, size), x)

    def empty(spec: jax.ShapeDtypeStruct) -> Array:
        return jnp.zeros((tree.batch_size(x), *spec.shape[1:]), spec.dtype)

    def body(index: Array, carry: Tree) -> Tree:
        outputs, now = carry
        start = index * size
        before = now if stateful else state
        found, after = step(params, before, batch_at(start))

        def put(whole: Array, part: Array) -> Array:
            return lax.dynamic_update_slice_in_dim(whole, part, start, 0)

        outputs = jax.tree.map(put, outputs, found)
        if stateful:
            return outputs, after
        return outputs, now

    spec = jax.eval_shape(step, params, state, batch_at(0))[0]
    outputs = jax.tree.map(empty, spec)
    result: tuple[Tree, Tree] = lax.fori_loop(0, count, body, (outputs, state))
    return result


@programs.cached
def predictor(layer: Layer, kind: object) -> Predictor:
    """The compiled forward function of a network for batches of this `tree.kind`.

    Equal networks share one. If there are many, for many shapes and numbers of examples, those
    unused longest are freed (`fnn.utils.set_program_cache_size`).
    """
    return Predictor(layer)


def pieces(
    x: Tree,
    count: int,
    size: int,
    capacity: int,
    end: int,
    room: int = 0,
) -> Generator[Piece]:
    """The first `count` examples of arrays, cut for dispatches: (examples, number of valid ones).

    A piece holds `capacity` batches of `size`, or one batch if no more are left. A remainder that
    does not fill a batch is padded to `end` examples; if that is less than `size`, it becomes a
    piece of its own. Pieces of one batch are padded to `room` examples, if that is more.
    """
    even = count
    if end < size:
        even = count - count % size
    stride = size * capacity
    for first in range(0, even, stride):
        valid = min(stride, even - first)
        padded = stride
        if valid <= size:
            padded = max(size, room)
        yield _cut(x, first, valid, padded), valid
    if even < count:
        yield _cut(x, even, count - even, end), count - even


def _cut(
    x: Tree,
    first: int,
    valid: int,
    size: int,
) -> Tree:
    """`valid` examples from index `first` on, padded to `size` by copies of the last."""

    def part(array: Tree) -> Tree:
        if isinstance(array, jax.Array):
            if first == 0 and valid == size == array.shape[0]:
                return array
            last = first + valid - 1
            index = np.minimum(np.arange(first, first + size), last)
            return take(array, index)
        piece = array[first : first + valid]
        if valid == size:
            return piece
        # `np.pad` takes ten times as long.
        whole = np.empty((size, *piece.shape[1:]), piece.dtype)
        whole[:valid], whole[valid:] = piece, piece[-1]
        return whole

    if hasattr(x, "shape"):
        return part(x)
    return jax.tree.map(part, x)


def predict(
    run: Run,
    pieces: Generator[Piece],
    size: int,
    callbacks: CallbackList,
    verbose: str | int = 0,
    total: int | None = None,
    meets: bool = False,
) -> Tree:
    """The outputs of `run` over pieces, joined, as NumPy arrays; progress is in batches of `size`.

    A callback that sets `model.stop_predicting` ends it after the batch. With `meets`, other
    processes predict the same: where a callback watches batches in one, all go batch by batch.
    """
    progress = Progress(verbose, total)
    flight = _Flight(run, size, callbacks, progress)
    if meets:
        flight.each = any_of(flight.each, "the first batch of predict")
    with interruptible() as interrupt:
        try:
            callbacks.begin("predict")
            progress.begin()
            for piece, valid in pieces:
                flight.dispatch(piece, valid)
                interrupt.poll()
                stopped = bool(callbacks.model.stop_predicting)
                if meets and flight.each:
                    stopped = any_of(stopped, "the end of a batch of predict")
                if stopped:
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
    # New arrays, which unlike those of JAX may be written to.
    return jax.tree.map(lambda *arrays: np.concatenate(arrays), *flight.parts)


class _Dispatched(NamedTuple):
    outputs: Tree
    valid: int
    padded: bool


class _Flight:
    """Pieces on the device, and the outputs fetched so far.

    Several pieces are on the device at a time: waiting for each costs more than a small one does.
    """

    def __init__(
        self,
        run: Run,
        size: int,
        callbacks: CallbackList,
        progress: Progress,
    ) -> None:
        self.run = run
        self.size = size
        self.callbacks = callbacks
        self.progress = progress
        self.watched = callbacks.watches(*PREDICT_HOOKS)
        # Whether each piece is fetched before the next one is dispatched.
        self.each = self.watched
        self.flight: deque[_Dispatched] = deque()
        self.parts: list[Tree] = []
        self.examples = 0  # fetched
        self.done = 0  # batches of them

    def dispatch(self, piece: Tree, valid: int) -> None:
        """Runs a piece, and fetches older ones where too many are on the device."""
        if self.watched:
            self.callbacks.call("on_predict_batch_begin", self.done, {})
        outputs = self.run(piece, valid)
        padded = valid < tree.batch_size(piece)
        self.flight.append(_Dispatched(outputs, valid, padded))
        ahead = 0
        if not self.each:
            ahead = self._most_ahead(piece, outputs)
        self.fetch(ahead)

    def _most_ahead(self, piece: Tree, outputs: Tree) -> int:
        """How many pieces may be on the device.

        On CPU two large ones run at a time: one uses the cores that the other leaves idle, and
        more would compete for memory.
        """
        bytes_per_piece = max(tree.nbytes((piece, outputs)), 1)
        if bytes_per_piece >= LARGE_PIECE and jax.default_backend() == "cpu":
            return 1
        return min(max(GATHERED_BYTES // bytes_per_piece, 1), MOST_IN_FLIGHT)

    def fetch(self, ahead: int) -> None:
        """Fetches outputs until those of `ahead` pieces are left on the device."""
        while len(self.flight) > ahead:
            oldest = self.flight.popleft()
            self.parts.append(_on_host(oldest.outputs, oldest.valid, oldest.padded))
            self.examples += oldest.valid
            self.done = -(-self.examples // self.size)
            if self.watched:
                logs = {"outputs": self.parts[-1]}
                self.callbacks.call("on_predict_batch_end", self.done - 1, logs)
            if self.progress.reached(self.done):
                self.progress.update(self.done, {})


def fetched(outputs: Tree, valid: int, padded: bool) -> Tree:
    """The outputs for one piece in arrays of their own, as `predict` returns them."""
    outputs = _on_host(outputs, valid, padded)
    if isinstance(outputs, np.ndarray):
        return outputs.copy()
    return jax.tree.map(np.copy, outputs)


def _on_host(
    outputs: Tree,
    valid: int,
    padded: bool,
) -> Tree:
    """Outputs as NumPy arrays; of a padded batch those of the valid examples."""
    if isinstance(outputs, jax.Array):
        return _fetched(outputs, valid, padded)
    return jax.tree.map(lambda a: _fetched(a, valid, padded), outputs)


def _fetched(
    output: Array,
    valid: int,
    padded: bool,
) -> np.ndarray:
    if not output.ndim:
        raise ValueError(
            "predict joins the outputs of batches, and the network returns a single number for a "
            "batch; call the model on the array, model(x), or return one output for each example"
        )
    if jax.distributed.is_initialized():
        # Of all processes, in each.
        output = local(output)
    array = in_full(np.asarray(output))
    if padded:
        return array[:valid]
    return array


_HALVES = (np.dtype("float16"), np.dtype(jnp.bfloat16))


def in_full(array: np.ndarray) -> np.ndarray:
    """An array in half precision as float32, which NumPy and those after it compute with."""
    if array.dtype in _HALVES:
        return array.astype(np.float32)
    return array
