"""Bidirectional: a recurrent layer that reads a sequence from both ends."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from fnn.core import arguments
from fnn.core.calling import apply_child, init_child, snake_case, unzip
from fnn.core.context import INFERENCE, Context
from fnn.core.fields import one_of
from fnn.core.layer import Layer, Params, State
from fnn.core.masking import attach_mask, carry_mask, is_masked, split_mask
from fnn.layers.shared.recurrence import OverTime

MERGES = {
    "concat": lambda ahead, back: jnp.concatenate([ahead, back], -1),
    "sum": lambda ahead, back: ahead + back,
    "mul": lambda ahead, back: ahead * back,
    "ave": lambda ahead, back: (ahead + back) / 2,
    None: lambda ahead, back: (ahead, back),
}


class Bidirectional(Layer):
    """`inner` from the start and from the end, merged.   (batch, time, ...) -> (batch, 2 units)

    `merge_mode` is "concat", "sum", "mul", "ave", or None for both outputs as a tuple; with
    `return_sequences` the outputs of one step stand side by side, (batch, time, 2 units), and are 0
    in masked steps, as in Keras. `backward_layer`, by default `inner` the other way round, may be
    another. `return_state` gives (outputs, the states of the forward layer, those of the backward
    layer), and initial states are in this order. Weights: `forward_lstm`, `backward_lstm`.
    Raises TypeError for what is no layer, ValueError unless both are recurrent layers of opposite
    `go_backwards` and else equal `return_sequences`, `return_state` and `stateful`, for initial
    states that do not halve, and for outputs of two widths to add or multiply.
    Schuster and Paliwal, Bidirectional recurrent neural networks, 1997.

    >>> from fnn.layers import LSTM
    >>> init, apply = Bidirectional(LSTM(4, return_sequences=True))
    >>> params, state = init(jax.random.key(0), jnp.ones((2, 5, 3)))
    >>> apply(params, state, jnp.ones((2, 5, 3)))[0].shape
    (2, 5, 8)
    """

    masking = "inside"
    by_step = False
    input_names = ("sequences", "initial_state")

    inner: Layer
    merge_mode: str | None = one_of(tuple(MERGES), default="concat")
    backward_layer: Layer | None = None

    def validate(self) -> None:
        arguments.layer(self, self.inner, "as inner")
        if self.backward_layer is not None:
            arguments.layer(self, self.backward_layer, "as backward_layer")
        for argument in ("inner", "backward_layer"):
            given = getattr(self, argument)
            if not isinstance(given, OverTime | None):
                advice = (
                    "e.g. Bidirectional(LSTM(4)), or RNN(cell) for a cell of your own"
                )
                raise arguments.wrong(self, argument, "to be recurrent", given, advice)
        (_, ahead), (_, back) = self.children()
        for name in ("return_sequences", "return_state", "stateful"):
            if getattr(ahead, name) != getattr(back, name):
                expected = f"to have {name}={getattr(ahead, name)} as inner has"
                raise arguments.wrong(
                    self, "backward_layer", expected, self.backward_layer
                )
        if ahead.go_backwards == back.go_backwards:
            advice = (
                f"use backward_layer.replace(go_backwards={not ahead.go_backwards})"
            )
            expected = "to read the other way than inner"
            raise arguments.wrong(
                self, "backward_layer", expected, self.backward_layer, advice
            )

    def children(self) -> tuple[tuple[str, Any], ...]:
        ahead: Any = self.inner
        back: Any = self.backward_layer or ahead.replace(
            go_backwards=not ahead.go_backwards
        )
        return tuple(
            (
                f"{prefix}_{layer.name or snake_case(type(layer).__name__)}",
                layer.replace(zero_output_for_mask=layer.return_sequences),
            )
            for prefix, layer in (("forward", ahead), ("backward", back))
        )

    def _inputs(self, x: Any) -> tuple[Any, Any]:
        """The inputs of each child: the sequences, and its half of the initial states."""
        sequences, *initial = jax.tree.leaves(x, is_leaf=is_masked)
        half = len(initial) // 2
        if 2 * half != len(initial):
            raise ValueError(
                "Bidirectional: expected initial states for both layers, as many for each, "
                f"received {len(initial)} in all; give those that return_state=True returns"
            )
        pair = (sequences, *initial[:half]), (sequences, *initial[half:])
        return pair if half else (sequences, sequences)

    def init(self, key: Array, x: Any) -> tuple[Params, State]:
        return unzip(
            {
                name: init_child(name, layer, key, given)
                for (name, layer), given in zip(
                    self.children(), self._inputs(x), strict=True
                )
            }
        )

    def apply(
        self, params: Params, state: State, x: Any, ctx: Context = INFERENCE
    ) -> tuple[Any, State]:
        x, ctx = carry_mask(x, ctx)
        outputs, states, after = [], [], {}
        for (name, layer), given in zip(self.children(), self._inputs(x), strict=True):
            y, after[name] = apply_child(name, layer, params, state, given, ctx)
            if layer.return_state:
                y, *last = y
                states += last
            outputs.append(y)
        (ahead, mask), (back, _) = map(split_mask, outputs)
        if layer.return_sequences:
            back = jnp.flip(back, 1)
        if self.merge_mode in ("sum", "mul", "ave") and ahead.shape != back.shape:
            raise ValueError(
                f"Bidirectional: expected outputs of one shape for merge_mode={self.merge_mode!r}, "
                f"received {ahead.shape} and {back.shape}; use merge_mode='concat'"
            )
        y = MERGES[self.merge_mode](ahead, back)
        y = jax.tree.map(lambda a: attach_mask(a, mask), y)
        if states:
            y = (*(y if self.merge_mode is None else (y,)), *states)
        return y, after
