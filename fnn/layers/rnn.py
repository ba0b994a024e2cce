"""Cells over time: RNN runs a cell along a sequence, StackedRNNCells makes several cells one."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import Array

from fnn.core import tree
from fnn.core.arguments import Rule
from fnn.core.calling import (
    apply_child,
    call,
    init_child,
    initialize,
    output_spec,
    unique_names,
    unzip,
)
from fnn.core.context import INFERENCE, Context
from fnn.core.layer import Layer, Params, State
from fnn.core.tree import SpecTree, Tree
from fnn.layers.shared.gates import GatedStep
from fnn.layers.shared.recurrence import (
    OverTime,
    States,
    Step,
    StepFunctions,
    fill_states,
)


def _check_cells(layer: RNN | StackedRNNCells) -> None:
    """Raises ValueError for a cell without sizes of its states or `get_initial_state`."""
    cells = layer.cells if isinstance(layer, StackedRNNCells) else (layer._cell,)
    for cell in cells:
        sizes = jax.tree.leaves(_state_size(cell))
        known = sizes and all(isinstance(size, int) and size > 0 for size in sizes)
        if not known and not hasattr(cell, "get_initial_state"):
            raise ValueError(
                f"{type(layer).__name__}: expected a cell with state_size, the width of its state "
                f"or a tuple of widths, received {cell!r}; define it, or use LSTMCell, GRUCell, ..."
            )


class StackedRNNCells(Layer):
    """Several cells as one cell: each gets the outputs of the one before.

    (x, a tuple of the states of each cell) -> (outputs of the last cell, the new states)

    Children: `lstm_cell`, `lstm_cell_1`, ... Raises ValueError for a layer that is not a cell.

    >>> from fnn.layers import GRUCell, LSTMCell
    >>> StackedRNNCells([GRUCell(4), LSTMCell(3)]).state_size
    (4, (3, 3))
    """

    masking = "inside"
    by_step = False
    input_names = ("inputs", "states")

    field_rules = (
        Rule("cells", lambda layer: layer.cells, "to hold at least one"),
        _check_cells,
    )

    cells: Sequence[Layer]

    def children(self) -> tuple[tuple[str, Layer], ...]:
        return tuple(zip(unique_names(self.cells), self.cells, strict=True))

    @property
    def state_size(self) -> tuple[Tree, ...]:
        return tuple(_state_size(cell) for cell in self.cells)

    def get_initial_state(self, batch_size: int) -> States:
        """The states of each cell before the first step."""
        return tuple(initial_states(cell, batch_size) for cell in self.cells)

    def _split(self, x: Tree) -> tuple[Tree, States]:
        """The inputs of a step, and the states of each cell."""
        x, *given = jax.tree.leaves(x)
        start = self.get_initial_state(x.shape[0])
        return x, fill_states(self, start, given, needed=True)

    def init(self, key: Array, x: SpecTree) -> tuple[Params, State]:
        x, states = self._split(x)
        pairs = {}
        children = self.children()
        for (name, cell), old in zip(children, states, strict=True):
            pairs[name] = init_child(name, cell, key, (x, old))
            x, _ = output_spec(cell, (x, old))
        return unzip(pairs)

    def apply(
        self,
        params: Params,
        state: State,
        x: Tree,
        ctx: Context = INFERENCE,
    ) -> tuple[Tree, State]:
        x, states = self._split(x)
        new_states = []
        new_state: State = {}
        for (name, cell), old in zip(self.children(), states, strict=True):
            # x becomes the outputs of this cell, (batch, ...)
            results, new_state[name] = apply_child(
                name, cell, params, state, (x, old), ctx
            )
            x, new = _outputs_and_states(cell, results, old)
            new_states.append(new)
        return (x, tuple(new_states)), new_state


class RNN(OverTime):
    """A cell run along the steps of a sequence.   (batch, time, ...) -> (batch, ...)

    A cell is a layer with inputs (x, states) and outputs (y, new states). Its attribute
    `state_size` is n for a single state (batch, n), not in a list as in Keras, or a tuple of sizes
    for a tuple of states. A cell whose states are not vectors or do not start at zero defines
    `get_initial_state(batch_size)`, which returns them. A list of cells is stacked, as by
    `StackedRNNCells`. The weights are those of the cell, at the same paths; the other arguments
    are those of `LSTM`. All steps get the same context, so they drop the same features; running
    averages are updated at every step.
    Raises TypeError for a cell that is not a layer, ValueError for a cell without `state_size` or
    with new states of another shape, and for inputs or states of wrong shape.

    >>> class Mean(fnn.layers.Layer):
    ...     state_size = 3
    ...     def apply(self, params, state, x, ctx=fnn.Context()):
    ...         x, h = x
    ...         return ((x + h) / 2, (x + h) / 2), state
    >>> init, apply = RNN(Mean())
    >>> apply(*init(jax.random.key(0), jnp.ones((1, 2, 3))), jnp.ones((1, 2, 3)))[0].tolist()
    [[0.75, 0.75, 0.75]]
    """

    input_layout = "(batch, time, features, ...)"
    field_rules = (_check_cells,)

    cell: Layer | Sequence[Layer]
    return_sequences: bool = False
    return_state: bool = False
    go_backwards: bool = False
    stateful: bool = False
    unroll: bool = False
    zero_output_for_mask: bool = False

    @functools.cached_property
    def _fnn_children(self) -> tuple[tuple[str | None, Layer], ...]:
        """The cell, or several as one; made once for a value."""
        if not isinstance(self.cell, Sequence):
            return ((None, self.cell),)
        with self.without_policy():
            return ((None, StackedRNNCells(self.cell)),)

    def children(self) -> tuple[tuple[str | None, Layer], ...]:
        return self._fnn_children

    @property
    def _cell(self) -> Layer:
        return self._fnn_children[0][1]

    def initial_states(self, x: SpecTree) -> States:
        return initial_states(self._cell, x.shape[0])

    def init_weights(self, key: Array, x: SpecTree) -> tuple[Params, State]:
        states = jax.eval_shape(lambda: self.initial_states(x))
        return initialize(self._cell, key, (x, states))

    def step_functions(
        self,
        params: Params,
        scales: Tree,
        ctx: Context,
    ) -> StepFunctions:
        def step(
            x: Array,
            states: States,
            memory: State,
        ) -> tuple[Array, States, State]:
            results, after = call(self._cell, params, memory, (x, states), ctx)
            after = _combine_losses(jnp.add, memory, after)
            y, new = _outputs_and_states(self._cell, results, states)
            return y, new, after

        return StepFunctions(lambda x: x, step)

    def apply(
        self,
        params: Params,
        state: State,
        x: Tree,
        ctx: Context = INFERENCE,
    ) -> tuple[Tree, State]:
        in_parts = "index" in state  # a sequence that comes a few steps at a time
        if in_parts and ctx.mask is not None and not _outputs_its_state(self._cell):
            raise ValueError(
                f"RNN: expected no mask for a few steps at a time, since {self._cell!r} does "
                "not keep its last output, which a masked step repeats, received a mask; use "
                "Unmask() first to drop it, or use LSTM, GRU or SimpleRNN"
            )
        # Steps add their auxiliary losses to these zeros.
        state = _combine_losses(jnp.subtract, state, state)
        return super().apply(params, state, x, ctx)

    def initial_output(
        self,
        step: Step,
        x: SpecTree,
        states: States,
        memory: State,
    ) -> Array | None:
        if isinstance(self._cell, GatedStep):
            return None
        y = jax.eval_shape(step, x, states, memory)[0]
        # Keras takes the first state of the last cell for the last output.
        last = _last_states(self._cell, states)
        first: Array = jax.tree.leaves(last)[0]
        if first.shape == y.shape:
            return first.astype(y.dtype)
        return jnp.zeros(y.shape, y.dtype)


def _state_size(cell: Layer) -> Tree:
    """The sizes of the states, nested like the states; None if the cell does not say."""
    return getattr(cell, "state_size", None)


def initial_states(cell: Layer, batch: int) -> States:
    """The states that the cell starts from: its own, or zeros."""
    own = getattr(cell, "get_initial_state", None)
    if own is not None:
        return _as_tuples(own(batch_size=batch))
    sizes = _as_tuples(_state_size(cell))
    return jax.tree.map(lambda size: jnp.zeros((batch, size)), sizes)


def _as_tuples(states: States) -> States:
    """Nested lists and tuples as nested tuples."""
    if not isinstance(states, (tuple, list)):
        return states
    return tuple(map(_as_tuples, states))


def _combine_losses(
    combine: Callable[[Array, Array], Array],
    before: State,
    after: State,
) -> State:
    """`after`, with `combine(before, after)` in place of its auxiliary losses."""

    def combined(
        path: tuple[jax.tree_util.DictKey, ...],
        b: Array,
        a: Array,
    ) -> Array:
        if path[-1].key == "aux_loss":
            return combine(b, a)
        return a

    state: State = jax.tree_util.tree_map_with_path(combined, before, after)
    return state


def _last_states(cell: Layer, states: States) -> States:
    """The states of the last of stacked cells."""
    if isinstance(cell, StackedRNNCells):
        return _last_states(cell.cells[-1], states[-1])
    return states


def _outputs_its_state(cell: Layer) -> bool:
    """Whether the outputs of a cell, or of the last of stacked cells, are its first state."""
    if isinstance(cell, StackedRNNCells):
        return _outputs_its_state(cell.cells[-1])
    return isinstance(cell, GatedStep)


def _outputs_and_states(
    cell: Layer,
    results: Tree,
    old: States,
) -> tuple[Array, States]:
    """The results of a cell; raises ValueError unless its new states are like the old ones."""
    if isinstance(results, (tuple, list)) and len(results) == 2:
        y = results[0]
        new = _as_tuples(results[1])
        is_list_of_one = isinstance(new, tuple) and len(new) == 1
        if is_list_of_one and not isinstance(old, tuple):
            new = new[0]  # as in Keras
        if _shapes(new) == _shapes(old):
            return y, new
    raise ValueError(
        f"RNN: expected {cell!r} to return a pair (outputs, new states), with states like its "
        f"inputs, {tree.describe(old)} in {jax.tree.structure(old)}, received "
        f"{tree.describe(results)} in {jax.tree.structure(results)}; return e.g. (h, h) for one "
        "state"
    )


def _shapes(states: States) -> Tree:
    return jax.tree.map(lambda a: tuple(a.shape), states)
