"""Bidirectional: a recurrent layer run over a sequence in both directions."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from fnn.core.arguments import Rule
from fnn.core.calling import apply_child, init_child, unzip
from fnn.core.context import (
    INFERENCE,
    Context,
    attach_mask,
    carry_mask,
    is_masked,
    split_mask,
)
from fnn.core.fields import one_of
from fnn.core.layer import Layer, Params, State
from fnn.core.registry import snake_case
from fnn.core.tree import SpecTree, Tree
from fnn.layers.shared.recurrence import OverTime

# (outputs of the forward layer, outputs of the backward layer) -> outputs
MERGES: dict[str | None, Callable[[Array, Array], Tree]] = {
    "concat": lambda forward, backward: jnp.concatenate([forward, backward], -1),
    "sum": lambda forward, backward: forward + backward,
    "mul": lambda forward, backward: forward * backward,
    "ave": lambda forward, backward: (forward + backward) / 2,
    None: lambda forward, backward: (forward, backward),
}


_RECURRENT = (
    "to be a recurrent layer",
    "e.g. Bidirectional(LSTM(4)), or RNN(cell) for your own cell",
)


def _backward(layer: Bidirectional) -> Layer:
    return layer._given_backward or layer.inner


def _like_inner(name: str) -> Rule:
    def holds(layer: Bidirectional) -> bool:
        own = getattr(_backward(layer), name)
        return bool(own == getattr(layer.inner, name))

    expected = f"to have {name}={{self.inner.{name}}} like inner"
    return Rule("backward_layer", holds, expected)


class Bidirectional(Layer):
    """`inner` run forward and backward, outputs merged.   (batch, time, ...) -> (batch, 2 units)

    `merge_mode` is "concat", "sum", "mul", "ave", or None for a tuple of both outputs. With
    `return_sequences` the outputs of both directions at the same step are merged, (batch, time,
    2 units); masked steps are 0, as in Keras. `backward_layer` is by default `inner` with the
    opposite `go_backwards`. `return_state` returns (outputs, the states of the forward layer, those
    of the backward layer); initial states come in the same order. Children: `forward_lstm`,
    `backward_lstm`, by class; `forward_layer` and `backward_layer` are these layers.
    Raises TypeError for an argument that is not a layer. Raises ValueError unless both layers are
    recurrent, have opposite `go_backwards` and equal `return_sequences`, `return_state` and
    `stateful`; for an odd number of initial states; and for outputs of different widths unless they
    are concatenated.
    Schuster and Paliwal, Bidirectional recurrent neural networks, 1997.

    >>> from fnn.layers import LSTM
    >>> init, apply = Bidirectional(LSTM(4, return_sequences=True))
    >>> params, state = init(jax.random.key(0), jnp.ones((2, 5, 3)))
    >>> jax.jit(apply)(params, state, jnp.ones((2, 5, 3)))[0].shape
    (2, 5, 8)
    """

    masking = "inside"
    by_step = False
    input_names = ("sequences", "initial_state")
    field_rules = (
        Rule("inner", lambda layer: isinstance(layer.inner, OverTime), *_RECURRENT),
        Rule(
            "backward_layer",
            lambda layer: isinstance(layer._given_backward, OverTime | None),
            *_RECURRENT,
        ),
        _like_inner("return_sequences"),
        _like_inner("return_state"),
        _like_inner("stateful"),
        Rule(
            "backward_layer",
            lambda layer: (
                not layer._given_backward
                or layer._given_backward.go_backwards != layer.inner.go_backwards
            ),
            "to read in the opposite direction of inner",
            "use backward_layer.replace(go_backwards={self._opposite})",
        ),
    )
    input_rules = (
        Rule(
            "inputs",
            lambda _, x: len(jax.tree.leaves(x)) % 2 == 1,
            "with equally many initial states for both layers",
            "pass the states that return_state=True returns",
        ),
    )

    inner: Layer
    merge_mode: str | None = one_of(tuple(MERGES), default="concat")
    backward_layer: Layer | None = None

    @property
    def _given_backward(self) -> Any:
        return vars(self)["backward_layer"]

    @property
    def _opposite(self) -> bool:
        assert isinstance(self.inner, OverTime)  # `field_rules` say so
        return not self.inner.go_backwards

    def _layers(self) -> tuple[OverTime, OverTime]:
        """The layers that read forward and backward; masked steps of sequences are 0."""
        forward = self.inner
        backward = self._given_backward
        assert isinstance(forward, OverTime)  # `field_rules` say so
        if backward is None:
            backward = forward.replace(go_backwards=self._opposite)
        assert isinstance(backward, OverTime)
        return (
            forward.replace(zero_output_for_mask=forward.return_sequences),
            backward.replace(zero_output_for_mask=backward.return_sequences),
        )

    @functools.cached_property
    def _fnn_children(self) -> tuple[tuple[str, OverTime], ...]:
        """The children by name; made once for a value."""
        forward, backward = self._layers()
        return (
            (f"forward_{_base_name(forward)}", forward),
            (f"backward_{_base_name(backward)}", backward),
        )

    def children(self) -> tuple[tuple[str, OverTime], ...]:
        return self._fnn_children

    def _split(self, x: Tree) -> tuple[Tree, Tree]:
        """The inputs of each child: the sequences, and its half of the initial states."""
        sequences, *initial = jax.tree.leaves(x, is_leaf=is_masked)
        half = len(initial) // 2
        if not initial:
            return sequences, sequences
        forward = (sequences, *initial[:half])
        backward = (sequences, *initial[half:])
        return forward, backward

    def init(self, key: Array, x: SpecTree) -> tuple[Params, State]:
        pairs = {}
        inputs = self._split(x)
        for (name, layer), given in zip(self.children(), inputs, strict=True):
            pairs[name] = init_child(name, layer, key, given)
        return unzip(pairs)

    def apply(
        self,
        params: Params,
        state: State,
        x: Tree,
        ctx: Context = INFERENCE,
    ) -> tuple[Tree, State]:
        x, ctx = carry_mask(x, ctx)
        outputs = []
        states: list[Array] = []
        new_state: State = {}
        inputs = self._split(x)
        for (name, layer), given in zip(self.children(), inputs, strict=True):
            y, new_state[name] = apply_child(name, layer, params, state, given, ctx)
            if layer.return_state:
                y, *last = y
                states += last
            outputs.append(y)
        (forward, mask), (backward, _) = map(split_mask, outputs)
        if layer.return_sequences:
            # The backward layer returns the last step first.
            backward = jnp.flip(backward, 1)
        self._check_widths(forward, backward)
        # (batch, 2 units) or (batch, time, 2 units) for "concat"
        y = MERGES[self.merge_mode](forward, backward)
        y = jax.tree.map(lambda a: attach_mask(a, mask), y)
        if not states:
            return y, new_state
        if self.merge_mode is None:
            return (*y, *states), new_state
        return (y, *states), new_state

    def _check_widths(self, forward: Array, backward: Array) -> None:
        elementwise = self.merge_mode in ("sum", "mul", "ave")
        if elementwise and forward.shape != backward.shape:
            raise ValueError(
                f"Bidirectional: expected outputs of one shape for merge_mode={self.merge_mode!r}, "
                f"received {forward.shape} and {backward.shape}; use merge_mode='concat'"
            )


class _Direction:
    """`forward_layer` and `backward_layer`: the layer whose weights the direction has."""

    def __init__(self, index: int) -> None:
        self._index = index

    def __get__(self, layer: Bidirectional | None, owner: type) -> Layer | None:
        if layer is None:
            return None
        return layer.children()[self._index][1]

    def __set__(self, layer: Bidirectional, value: object) -> None:
        vars(layer)["backward_layer"] = value


# Only now, since a dataclass reads the default of a field from the class.
Bidirectional.forward_layer = _Direction(0)  # type: ignore[attr-defined]
Bidirectional.backward_layer = _Direction(1)  # type: ignore[assignment]


def _base_name(layer: Layer) -> str:
    return layer.own_name or snake_case(type(layer).__name__)
