"""RNN: a cell run along the steps of a sequence; StackedRNNCells: several cells as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from fnn.core import arguments, tree
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
from fnn.layers.shared.gates import GatedStep
from fnn.layers.shared.recurrence import OverTime, States, Step, Steps, fill_states


class StackedRNNCells(Layer):
    """Cells one above the other as one cell: each gets the outputs of the one below.

    (x, a tuple of the states of each cell) -> (outputs of the last cell, the new states)

    Weights: `lstm_cell`, `lstm_cell_1`, ... Raises ValueError for what is no cell.

    >>> from fnn.layers import GRUCell, LSTMCell
    >>> StackedRNNCells([GRUCell(4), LSTMCell(3)]).state_size
    (4, (3, 3))
    """

    masking = "inside"
    by_step = False
    input_names = ("inputs", "states")

    cells: Sequence[Layer]

    def validate(self) -> None:
        arguments.layers(self, "cells")
        if not self.cells:
            raise arguments.wrong(self, "cells", "to hold one at least", self.cells)
        for cell in self.cells:
            _check_cell(self, cell)

    def children(self) -> tuple[tuple[str, Layer], ...]:
        return tuple(zip(unique_names(self.cells), self.cells, strict=True))

    @property
    def state_size(self) -> tuple[Any, ...]:
        return tuple(cell.state_size for cell in self.cells)  # type: ignore[attr-defined]

    def get_initial_state(self, batch_size: int) -> States:
        """The states of each cell before the first step."""
        return tuple(_initial_states(cell, batch_size) for cell in self.cells)

    def _inputs(self, x: Any) -> tuple[Any, States]:
        x, *states = jax.tree.leaves(x)
        return x, fill_states(
            self, self.get_initial_state(x.shape[0]), states, needed=True
        )

    def init(self, key: Array, x: Any) -> tuple[Params, State]:
        (x, states), pairs = self._inputs(x), {}
        for (name, cell), at in zip(self.children(), states, strict=True):
            pairs[name] = init_child(name, cell, key, (x, at))
            x, _ = output_spec(cell, (x, at))
        return unzip(pairs)

    def apply(
        self, params: Params, state: State, x: Any, ctx: Context = INFERENCE
    ) -> tuple[Any, State]:
        (x, states), new, after = self._inputs(x), [], {}
        for (name, cell), at in zip(self.children(), states, strict=True):
            (x, moved), after[name] = apply_child(
                name, cell, params, state, (x, at), ctx
            )
            new.append(moved)
        return (x, tuple(new)), after


class RNN(OverTime):
    """A cell run along the steps of a sequence.   (batch, time, ...) -> (batch, ...)

    A cell is a layer of yours: inputs (x, states) -> outputs (y, new states), with `state_size`
    n for one state (batch, n), not in a list of one as in Keras, or a tuple of sizes for a tuple
    of states; where they are not vectors or do not start at zero, `get_initial_state(batch_size)`
    returns them. Several cells are stacked, as by `StackedRNNCells`. The weights are those of the
    cell, at its paths; the other arguments are those of `LSTM`. All steps get one context, so
    dropout drops the same in each; running averages move from step to step.
    Raises TypeError for a cell that is no layer, ValueError for one without `state_size` or with
    new states of another shape, and for inputs or states of wrong shape.

    >>> class Mean(fnn.layers.Layer):
    ...     state_size = 3
    ...     def apply(self, params, state, x, ctx=fnn.Context()):
    ...         x, h = x
    ...         return ((x + h) / 2, (x + h) / 2), state
    >>> init, apply = RNN(Mean())
    >>> apply(*init(jax.random.key(0), jnp.ones((1, 2, 3))), jnp.ones((1, 2, 3)))[0].tolist()
    [[0.75, 0.75, 0.75]]
    """

    cell: Layer | Sequence[Layer]
    return_sequences: bool = False
    return_state: bool = False
    go_backwards: bool = False
    stateful: bool = False
    unroll: bool = False
    zero_output_for_mask: bool = False

    def validate(self) -> None:
        if not isinstance(self.cell, tuple):
            arguments.layer(self, self.cell, "as cell")
        _check_cell(self, self._cell)

    @property
    def _cell(self) -> Layer:
        cell: Any = self.cell
        return StackedRNNCells(cell) if isinstance(cell, tuple) else cell

    def children(self) -> tuple[tuple[str | None, Layer], ...]:
        return ((None, self._cell),)

    def check(self, sequences: Any) -> None:
        arguments.minimum_rank(self, sequences, 3, "(batch, time, features, ...)")

    def start(self, x: Any) -> States:
        return _initial_states(self._cell, x.shape[0])

    def make(self, key: Array, x: Any) -> tuple[Params, State]:
        return initialize(self._cell, key, (x, jax.eval_shape(lambda: self.start(x))))

    def stepper(self, params: Params, drawn: Any, ctx: Context) -> Steps:
        def step(
            x: Array, states: States, memory: State
        ) -> tuple[Array, States, State]:
            results, after = call(self._cell, params, memory, (x, states), ctx)
            after = _each_loss(jnp.add, memory, after)
            return *_outputs_and_states(self._cell, results, states), after

        return lambda x: x, step

    def apply(
        self, params: Params, state: State, x: Any, ctx: Context = INFERENCE
    ) -> tuple[Any, State]:
        if (
            "index" in state
            and ctx.mask is not None
            and not _shows_its_state(self._cell)
        ):
            raise ValueError(
                "RNN: expected steps without a mask where they come a few at a time, since a "
                f"masked step repeats an output that {self._cell!r} does not keep in its states, "
                "received a mask; use Unmask() first to drop it, or use LSTM, GRU or SimpleRNN"
            )
        return super().apply(params, _each_loss(jnp.subtract, state, state), x, ctx)

    def before(self, step: Step, x: Any, start: States, memory: State) -> Array | None:
        if isinstance(self._cell, GatedStep):
            return None
        y, last = (
            jax.eval_shape(step, x, start, memory)[0],
            _last_states(self._cell, start),
        )
        shown = jax.tree.leaves(last)[
            0
        ]  # Keras takes the first state for the last output
        return (
            shown.astype(y.dtype)
            if shown.shape == y.shape
            else jnp.zeros(y.shape, y.dtype)
        )


def _check_cell(owner: Any, cell: Any) -> None:
    sizes = jax.tree.leaves(getattr(cell, "state_size", None))
    known = sizes and all(isinstance(size, int) and size > 0 for size in sizes)
    if not known and not hasattr(cell, "get_initial_state"):
        raise ValueError(
            f"{type(owner).__name__}: expected a cell with state_size, the width of its state or a "
            f"tuple of such, received {cell!r}; define it, or use LSTMCell, GRUCell, ..."
        )


def _initial_states(cell: Any, batch: int) -> States:
    """What the cell says, or zeros."""
    if hasattr(cell, "get_initial_state"):
        return _as_tuples(cell.get_initial_state(batch_size=batch))
    return jax.tree.map(
        lambda size: jnp.zeros((batch, size)), _as_tuples(cell.state_size)
    )


def _as_tuples(states: States) -> States:
    return (
        tuple(map(_as_tuples, states)) if isinstance(states, (tuple, list)) else states
    )


def _each_loss(combine: Any, before: State, after: State) -> State:
    """`after`, with its auxiliary losses combined with those of `before`: steps add up."""
    return jax.tree_util.tree_map_with_path(
        lambda path, b, a: combine(b, a) if path[-1].key == "aux_loss" else a,
        before,
        after,
    )


def _last_states(cell: Any, states: States) -> States:
    """The states of the last one of cells that are stacked."""
    stacked = isinstance(cell, StackedRNNCells)
    return _last_states(cell.cells[-1], states[-1]) if stacked else states


def _shows_its_state(cell: Any) -> bool:
    """Whether a cell, of stacked ones the last, puts out its first state."""
    last = cell.cells[-1] if isinstance(cell, StackedRNNCells) else cell
    return _shows_its_state(last) if last is not cell else isinstance(cell, GatedStep)


def _outputs_and_states(cell: Any, results: Any, old: States) -> tuple[Array, States]:
    """What a cell returned, if the states are such as it was given."""
    shapes = lambda states: jax.tree.map(lambda a: tuple(a.shape), states)
    if isinstance(results, (tuple, list)) and len(results) == 2:
        y, new = results[0], _as_tuples(results[1])
        if shapes(new) == shapes(old):
            return y, new
    raise ValueError(
        f"RNN: expected of {cell!r} a pair (outputs, new states), the states as they came in, "
        f"{tree.describe(old)} in {jax.tree.structure(old)}, received {tree.describe(results)} in "
        f"{jax.tree.structure(results)}; return e.g. (h, h) for one state"
    )
