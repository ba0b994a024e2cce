"""Recurrence: states carried along the time steps of a sequence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax import Array, lax

from fnn.core.arguments import Rule
from fnn.core.context import INFERENCE, Context, attach_mask, first_axes, leading
from fnn.core.layer import Layer, Params, State
from fnn.core.tree import SpecTree, Tree, array_spec, cast
from fnn.runtime import convolutions
from fnn.runtime.arithmetic import float_dtype
from fnn.runtime.devices import for_each_part
from fnn.runtime.placement import settled

States: TypeAlias = Tree  # nested tuples of arrays (batch, ...)
Step: TypeAlias = Callable[[Array, States, State], tuple[Array, States, State]]
Carry: TypeAlias = tuple[Array | None, States, State]


class StepFunctions(NamedTuple):
    """One time step in two parts: the part that needs no state, and the rest."""

    project: Callable[[Array], Array]  # (batch, ...) -> (batch, ...)
    step: Step


class StepInputs(NamedTuple):
    """The inputs of one step, or of all steps with time in front."""

    x: Array  # (batch, ...)
    valid: Array | None  # (batch,), False for examples whose step is masked


def where_examples(valid: Array, new: Tree, old: Tree) -> Tree:
    """The examples of `new` where `valid`, (batch,), is True, and those of `old` elsewhere."""

    def where(n: Array, o: Array) -> Array:
        return jnp.where(leading(valid, n.ndim), n, o)

    return jax.tree.map(where, new, old)


def fill_states(
    layer: Layer,
    start: States,
    given: Sequence[Array],
    needed: bool = False,
) -> States:
    """The given states in the structure of `start`; `start` itself if none are given.

    Raises ValueError for other shapes, and with `needed` also if none are given.
    """
    leaves, structure = jax.tree.flatten(start)
    expected = [tuple(a.shape) for a in leaves]
    received = [tuple(a.shape) for a in given]
    if received != expected and (received or needed):
        if needed:
            wanted = f"states of shapes {expected}"
            advice = "those of the previous step, or zeros"
        else:
            wanted = f"no states or states of shapes {expected}"
            advice = "the states that return_state=True returns"
        raise ValueError(
            f"{type(layer).__name__}: expected {wanted}, received {received}; pass {advice}"
        )
    return jax.tree.unflatten(structure, given or leaves)


class OverTime(Layer, loadable=False):
    """The base class of layers that carry states along the second axis of their inputs.

    A subclass declares the fields of `LSTM` from `return_sequences` on, and defines
    `initial_states`, `init_weights` and `step_functions`. In these methods, `x` is a single time
    step of the inputs, (batch, ...).
    """

    masking = "use"
    input_names = ("sequences", "initial_state")
    input_layout = "(batch, time, features)"
    cache_rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "go_backwards",
            lambda layer: not layer.go_backwards,
            "to be False, since the last step is not known yet",
        ),
    )

    # Fields that the subclasses declare. Annotations here would make them fields of this
    # class, and the first arguments of every constructor.
    if TYPE_CHECKING:

        @property
        def return_sequences(self) -> bool: ...

        @property
        def return_state(self) -> bool: ...

        @property
        def go_backwards(self) -> bool: ...

        @property
        def stateful(self) -> bool: ...

        @property
        def unroll(self) -> bool: ...

        @property
        def zero_output_for_mask(self) -> bool: ...

    def initial_states(self, x: SpecTree) -> States:
        """The states before the first step."""
        raise NotImplementedError

    def init_weights(self, key: Array, x: SpecTree) -> tuple[Params, State]:
        """Fresh params and state."""
        raise NotImplementedError

    def step_functions(
        self, params: Params, scales: Tree, ctx: Context
    ) -> StepFunctions:
        """`project(x) -> projected` and `step(projected, states, memory)`.

        `step` returns (outputs, states, memory). `memory` is the part of the layer's state that
        steps may change, such as running averages. `scales` comes from `dropout_scales`.
        """
        raise NotImplementedError

    @property
    def independent_examples(self) -> bool:
        """Whether several devices may run a part of the batch each.

        The steps must treat examples independently, keep `memory` as it is, and close over no
        other traced array.
        """
        return False

    def dropout_scales(self, x: SpecTree, states: States, ctx: Context) -> Tree:
        """Random factors that are the same at all steps, (batch, ...)."""
        return ()

    def initial_output(
        self,
        step: Step,
        x: SpecTree,
        states: States,
        memory: State,
    ) -> Array | None:
        """The output of a masked step before any valid one; None if outputs are the first state."""
        return None

    def init(self, key: Array, x: SpecTree) -> tuple[Params, State]:
        sequences, *given = jax.tree.leaves(x)
        step = one_step(sequences)
        # Only a stateful layer needs the values of the states here.
        if self.stateful:
            start = self.initial_states(step)
        else:
            start = jax.eval_shape(lambda: self.initial_states(step))
        fill_states(self, start, given)
        params, state = self.init_weights(key, step)
        if self.stateful:
            state = {**state, **_named(cast(start, self.weight_dtype))}
        return params, state

    def apply(
        self, params: Params, state: State, x: Tree, ctx: Context = INFERENCE
    ) -> tuple[Tree, State]:
        sequences, *given = jax.tree.leaves(x)  # (batch, time, ...)
        mask = _step_mask(ctx)  # (batch, time)
        dtype = self.dtype or float_dtype(sequences, *jax.tree.leaves(params))
        sequences = cast(sequences, dtype)
        step = one_step(sequences)  # (batch, ...)
        fresh = self.initial_states(step)
        kept, index, memory = self._split_state(state, fresh)
        self._check_batch(kept, sequences)
        start = self._start(fresh, given, kept, index)
        start = cast(start, dtype)
        ctx = ctx.replace(mask=None)
        scales = self.dropout_scales(step, start, ctx)

        def run(weights: Tree, examples: Tree) -> tuple[Tree, State]:
            params, memory = weights
            start, scales, sequences, mask = examples
            functions = self.step_functions(params, scales, ctx)
            y, last, memory = scan_steps(
                self, functions, start, memory, sequences, mask
            )
            return (y, last), memory

        weights = params, memory
        examples = start, scales, sequences, mask
        if self.independent_examples:
            (y, last), memory = for_each_part(run, weights, examples)
        else:
            (y, last), memory = run(weights, examples)
        if kept:
            kept = _updated(kept, last, ctx)
        if index:
            index = {"index": index["index"] + sequences.shape[1]}
        if self.return_state:
            states = last if isinstance(last, tuple) else (last,)
            y = (y, *states)
        return y, {**memory, **kept, **index}

    def cache(self, params: Params, batch: int, length: int) -> State:
        """The states before the first step, and the number of steps seen so far.

        Nothing for a `stateful` layer, which keeps its states anyway.
        """
        if self.stateful:
            return {}
        step = array_spec((batch, 1), self.weight_dtype)
        start = cast(self.initial_states(step), self.weight_dtype)
        return {**_named(start), "index": jnp.array(0)}

    def _split_state(self, state: State, fresh: States) -> tuple[State, State, State]:
        """(the kept states, the index of a cache, the rest of the state)."""
        kept: State = {}
        index: State = {}
        # "rnn_state" without `stateful` is there in decoding.
        if self.stateful or "rnn_state" in state:
            kept = {name: state[name] for name in _named(fresh)}
        if kept and "index" in state:
            index = {"index": state["index"]}
        own = {*kept, *index}
        memory = {name: leaf for name, leaf in state.items() if name not in own}
        return kept, index, memory

    def _start(
        self,
        fresh: States,
        given: list[Array],
        kept: State,
        index: State,
    ) -> States:
        """The given states, else the kept ones, else fresh ones.

        With a cache, given states hold for the first step only.
        """
        leaves = list(kept.values())
        if given and index:
            fill_states(self, fresh, given)
            is_first = index["index"] == 0
            pairs = zip(given, leaves, strict=True)
            given = [jnp.where(is_first, first, later) for first, later in pairs]
        return fill_states(self, fresh, given or leaves)

    def _check_batch(self, kept: State, sequences: Array) -> None:
        if not kept:
            return
        expected = kept["rnn_state"].shape[0]
        received = sequences.shape[0]
        if received != expected:
            raise ValueError(
                f"{type(self).__name__}: expected a batch of {expected}, since stateful=True "
                f"(as start_decoding) keeps a state for each example, received {received} in "
                f"shape {tuple(sequences.shape)}; use Input(batch_shape=({received}, ...)), and "
                "the same batch size in every call"
            )


def all_steps_at_once() -> bool:
    """Whether to project the inputs of all steps before the loop, rather than step by step.

    Not on CPU: there it took 1.9 times as long for an LSTM, 1.8 for a GRU and 1.2 for a SimpleRNN
    (64 steps, 128 units, batch of 64, 32 features, forward and backward, median CPU time). One
    large product should fill an accelerator better than many small ones; that was not measured.
    A program for another platform than JAX's default may be slower, but its results are right.
    """
    return jax.default_backend() != "cpu"


def scan_steps(
    layer: OverTime,
    functions: StepFunctions,
    start: States,
    memory: State,
    sequences: Array,
    mask: Array | None,
) -> tuple[Tree, States, State]:
    """Runs the steps over the second axis of `sequences`: (outputs, last states, memory)."""
    if layer.go_backwards:
        sequences = jnp.flip(sequences, 1)
        if mask is not None:
            mask = jnp.flip(mask, 1)  # (batch, time), as the sequences
    x = one_step(sequences)
    first = layer.initial_output(functions.step, x, start, memory)  # (batch, ...)

    def prepare(inputs: StepInputs) -> StepInputs:
        x, valid = inputs
        if valid is not None:  # so that not even NaN in a masked step enters a gradient
            x = where_examples(valid, x, jnp.zeros_like(x))
        return StepInputs(functions.project(x), valid)

    def advance(carry: Carry, inputs: StepInputs) -> tuple[Carry, Array | None]:
        return _advance(layer, functions.step, carry, inputs)

    def prepare_and_advance(
        carry: Carry, inputs: StepInputs
    ) -> tuple[Carry, Array | None]:
        return advance(carry, prepare(inputs))

    by_time = _by_time(sequences, mask)  # (time, batch, ...)
    body = prepare_and_advance
    if all_steps_at_once():
        body = advance
        by_time = jax.vmap(prepare)(by_time)
    body = convolutions.in_loop(body)
    carry = settled(body, (first, start, memory), by_time)
    (y, last, memory), outputs = lax.scan(
        body, carry, by_time, unroll=bool(layer.unroll)
    )
    if y is None:
        y = jax.tree.leaves(last)[0]  # (batch, ...)
    if outputs is not None:
        # (time, batch, ...) -> (batch, time, ...)
        y = attach_mask(jnp.swapaxes(outputs, 0, 1), mask)
    return y, last, memory


def _by_time(sequences: Array, mask: Array | None) -> StepInputs:
    """The inputs with time in front, (time, batch, ...), as lax.scan needs them."""
    x = jnp.swapaxes(sequences, 0, 1)  # (time, batch, ...)
    if mask is None:
        return StepInputs(x, None)
    return StepInputs(x, mask.T)  # (time, batch)


def _advance(
    layer: OverTime,
    step: Step,
    carry: Carry,
    inputs: StepInputs,
) -> tuple[Carry, Array | None]:
    """One step of the scan: masked steps repeat the last output and keep the states."""
    last, old, memory = carry
    projected, valid = inputs
    before = last
    if before is None:
        # The output is the first state: carrying it twice would cost time.
        before = jax.tree.leaves(old)[0]
    y, new, memory = step(projected, old, memory)
    y = y.astype(before.dtype)
    new = jax.tree.map(lambda n, o: n.astype(o.dtype), new, old)
    output = y
    if valid is not None:
        y, new = where_examples(valid, (y, new), (before, old))
        output = y
        if layer.zero_output_for_mask:
            output = where_examples(valid, y, jnp.zeros_like(y))
    if last is not None:
        last = y
    carry = last, new, memory
    if not layer.return_sequences:
        return carry, None
    return carry, output


def _step_mask(ctx: Context) -> Array | None:
    """The mask of the sequences, (batch, time)."""
    mask = ctx.mask
    if isinstance(mask, tuple):  # the masks of the initial states have no meaning
        mask = mask[0]
    return first_axes(mask, 2)


def _updated(kept: State, last: States, ctx: Context) -> State:
    """The kept states after a call; padding examples keep theirs."""
    new: State = {}
    for name, leaf in _named(last).items():
        new[name] = leaf.astype(kept[name].dtype)
    if ctx.rows is not None:
        new = where_examples(ctx.rows, new, kept)
    return new


def _named(states: States) -> State:
    """The states as entries of a layer's state: `rnn_state`, `rnn_state_1`, ..."""
    named: State = {}
    for i, leaf in enumerate(jax.tree.leaves(states)):
        name = f"rnn_state_{i}" if i else "rnn_state"
        named[name] = leaf
    return named


def one_step(sequences: SpecTree) -> jax.ShapeDtypeStruct:
    """Shape and dtype of one step of the inputs, (batch, ...)."""
    shape = (sequences.shape[0], *sequences.shape[2:])
    return array_spec(shape, sequences.dtype)
