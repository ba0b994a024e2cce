"""Recurrence: states carried along the steps of a sequence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from fnn.core import arguments
from fnn.core.arithmetic import float_dtype
from fnn.core.context import INFERENCE, Context
from fnn.core.layer import Layer, Params, State
from fnn.core.masking import attach_mask, first_axes, leading
from fnn.core.tree import cast
from fnn.runtime.devices import for_each_part
from fnn.runtime.placement import settled

States = Any  # nested tuples of arrays, the batch in front
Step = Callable[[Array, States, State], tuple[Array, States, State]]
Steps = tuple[
    Callable[[Array], Array], Step
]  # what needs no state, and the rest of a step


def where_rows(real: Array, new: Any, old: Any) -> Any:
    """The rows of `new` where `real`, `(batch,)`, is True, and those of `old` elsewhere."""
    return jax.tree.map(lambda n, o: jnp.where(leading(real, n.ndim), n, o), new, old)


def fill_states(
    layer: Layer, start: States, given: list[Any], needed: bool = False
) -> States:
    """`start` with the states that were given in its place; unless `needed` there may be none."""
    leaves, structure = jax.tree.flatten(start)
    expected, received = (
        [tuple(a.shape) for a in states] for states in (leaves, given)
    )
    if received != expected and (received or needed):
        advice = (
            "those of the step before, or zeros"
            if needed
            else "what return_state=True returns"
        )
        raise ValueError(
            f"{type(layer).__name__}: expected {'' if needed else 'no states or '}states of shapes "
            f"{expected}, received {received}; give {advice}"
        )
    return jax.tree.unflatten(structure, given or leaves)


class OverTime(Layer, loadable=False):
    """A layer that carries states along the second axis of its inputs.

    A subclass has the fields of `LSTM` from `return_sequences` on, and writes

        check(sequences)                the checks of inputs in `init`
        start(x)                        the states before the first step
        make(key, x)                    (params, state)
        drawn(x, start, ctx)            random numbers that hold for all steps, by example
        stepper(params, drawn, ctx)     project(x) -> of_x, what of a step needs no state, and
                                        step(of_x, states, memory) -> (y, states, memory)

    where `x` is one step of the inputs and `memory` is what of the state the steps change. Where
    `separates` is True the steps treat examples independently, leave `memory` as it is, and use
    nothing else that is traced: several devices may then run a part of the batch each.
    """

    masking = "use"
    input_names = ("sequences", "initial_state")

    def check(self, sequences: Any) -> None:
        """Raises ValueError for inputs that do not fit."""
        arguments.rank(self, sequences, 3, layout="(batch, time, features)")

    def check_width(self, params: Params, x: Any) -> None:
        """Raises ValueError for inputs of another width than those of `init`."""

    @property
    def separates(self) -> bool:
        """Whether the steps are known to treat examples independently."""
        return False

    def drawn(self, x: Any, start: States, ctx: Context) -> Any:
        """Random numbers that hold for all steps, with the batch in front."""
        return ()

    def before(self, step: Step, x: Any, start: States, memory: State) -> Array | None:
        """What a masked step returns before any valid one; None if outputs are the first state."""
        return None

    def init(self: Any, key: Array, x: Any) -> tuple[Params, State]:
        sequences, *initial = jax.tree.leaves(x)
        self.check(sequences)
        x = _one_step(sequences)
        zeros = lambda: self.start(x)
        start = zeros() if self.stateful else jax.eval_shape(zeros)
        fill_states(self, start, initial)
        params, state = self.make(key, x)
        kept = _named(cast(start, self.weight_dtype)) if self.stateful else {}
        return params, {**state, **kept}

    def apply(
        self: Any, params: Params, state: State, x: Any, ctx: Context = INFERENCE
    ) -> tuple[Any, State]:
        sequences, *initial = jax.tree.leaves(x)
        mask = first_axes(ctx.mask[0] if isinstance(ctx.mask, tuple) else ctx.mask, 2)
        self.check_width(params, sequences)
        dtype = self.dtype or float_dtype(sequences, *jax.tree.leaves(params))
        sequences = cast(sequences, dtype)
        first = _one_step(sequences)
        start = self.start(first)
        keeps = self.stateful or "rnn_state" in state  # the latter in decoding
        kept = {name: state[name] for name in _named(start)} if keeps else {}
        index = {name: state[name] for name in ("index",) if kept and name in state}
        memory = {
            name: leaf for name, leaf in state.items() if name not in {**kept, **index}
        }
        self._check_batch(kept, sequences)
        start = cast(
            self._start(start, initial, list(kept.values()), index.get("index")), dtype
        )
        ctx = ctx.replace(mask=None)
        examples = start, self.drawn(first, start, ctx), sequences, mask

        def run(whole: Any, examples: Any) -> Any:
            (params, memory), (start, drawn, sequences, mask) = whole, examples
            steps = self.stepper(params, drawn, ctx)
            y, last, memory = along_time(self, steps, start, memory, sequences, mask)
            return (y, last), memory

        together = for_each_part if self.separates else lambda run, *given: run(*given)
        (y, last), memory = together(run, (params, memory), examples)
        if kept:
            new = {
                name: leaf.astype(kept[name].dtype)
                for name, leaf in _named(last).items()
            }
            kept = new if ctx.rows is None else where_rows(ctx.rows, new, kept)
            index = {name: at + sequences.shape[1] for name, at in index.items()}
        if self.return_state:
            y = (y, *last) if isinstance(last, tuple) else (y, last)
        return y, {**memory, **kept, **index}

    def cache(self: Any, params: Params, batch: int, length: int) -> State:
        """The states before the first step, and how many steps have been seen.

        A `stateful` layer keeps its states anyway. Raises ValueError for `go_backwards`.
        """
        if self.go_backwards:
            expected = (
                "to be False, since the last step, with which it begins, comes last"
            )
            raise arguments.wrong(self, "go_backwards", expected, True)
        if self.stateful:
            return {}
        start = self.start(jax.ShapeDtypeStruct((batch, 1), self.weight_dtype))
        return {**_named(cast(start, self.weight_dtype)), "index": jnp.array(0)}

    def _start(
        self, fresh: States, initial: list[Any], kept: list[Any], index: Any
    ) -> States:
        """What is given, what is kept, or what is fresh; given ones are for the first step only."""
        if initial and index is not None:
            fill_states(self, fresh, initial)
            initial = [
                jnp.where(index == 0, a, b) for a, b in zip(initial, kept, strict=True)
            ]
        return fill_states(self, fresh, initial or kept)

    def _check_batch(self, kept: State, sequences: Array) -> None:
        if kept and kept["rnn_state"].shape[0] != sequences.shape[0]:
            batch = kept["rnn_state"].shape[0]
            raise ValueError(
                f"{type(self).__name__}: expected a batch of {batch}, since stateful=True keeps a "
                f"state for each row (and so does start_decoding), received {sequences.shape[0]} "
                f"in shape {tuple(sequences.shape)}; use "
                f"Input(batch_shape=({sequences.shape[0]}, ...)), and the same batch size in "
                "every call"
            )


def all_steps_at_once() -> bool:
    """Whether what needs no state is done before the loop, or else within it, step by step.

    On CPU within it: before it, an LSTM took 1.9 times as long, a GRU 1.8 and a SimpleRNN 1.2 (64
    steps, 128 units, batch of 64, 32 features, forward and backward, median CPU time). One large
    product fills an accelerator better than many small ones: that is by reasoning, not measured.
    A program for another platform than JAX's default one may be slower, and is as right.
    """
    return jax.default_backend() != "cpu"


Inputs = tuple[
    Array, Array | None
]  # of one step, or of all: what it has, and which rows are real


def along_time(
    layer: Any,
    steps: Steps,
    start: States,
    memory: State,
    sequences: Array,
    mask: Array | None,
) -> tuple[Any, States, State]:
    """`steps` over the second axis of `sequences`: (outputs, last states, memory after)."""
    project, step = steps
    if layer.go_backwards:
        sequences = jnp.flip(sequences, 1)
        mask = None if mask is None else jnp.flip(mask, 1)

    def ready(at: Inputs) -> Inputs:
        x, real = at
        if real is not None:  # so that not even NaN in a masked step reaches a gradient
            x = where_rows(real, x, jnp.zeros_like(x))
        return project(x), real

    first = layer.before(step, _one_step(sequences), start, memory)

    def advance(carry: Any, at: Inputs) -> tuple[Any, Array | None]:
        (last, old, memory), (of_x, real) = carry, at
        before = jax.tree.leaves(old)[0] if last is None else last
        y, new, memory = step(of_x, old, memory)
        y = y.astype(before.dtype)
        new = jax.tree.map(lambda n, o: n.astype(o.dtype), new, old)
        shown = y
        if real is not None:
            y, new = where_rows(real, (y, new), (before, old))
            shown = (
                where_rows(real, y, jnp.zeros_like(y))
                if layer.zero_output_for_mask
                else y
            )
        carry = (
            (None if last is None else y),
            new,
            memory,
        )  # a copy of a state would cost time
        return carry, shown if layer.return_sequences else None

    by_time = jnp.swapaxes(sequences, 0, 1), None if mask is None else mask.T
    body: Any = lambda carry, at: advance(carry, ready(at))
    if all_steps_at_once():
        body, by_time = advance, jax.vmap(ready)(by_time)
    carry = settled(body, (first, start, memory), by_time)
    (y, last, memory), outputs = lax.scan(
        body, carry, by_time, unroll=bool(layer.unroll)
    )
    if y is None:
        y = jax.tree.leaves(last)[0]
    if outputs is not None:
        y = attach_mask(jnp.swapaxes(outputs, 0, 1), mask)
    return y, last, memory


def _named(states: States) -> State:
    """The states as leaves of a layer's state, where they live if it keeps them."""
    leaves = jax.tree.leaves(states)
    return {
        f"rnn_state_{i}" if i else "rnn_state": leaf for i, leaf in enumerate(leaves)
    }


def _one_step(sequences: Any) -> Any:
    """The shape of one step of the inputs."""
    shape = sequences.shape[0], *sequences.shape[2:]
    return jax.ShapeDtypeStruct(shape, sequences.dtype)
