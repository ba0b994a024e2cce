"""Layers that replace others in a network without its last activation."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from fnn.core.calling import call
from fnn.core.combining import Flow, Visit, Wrapper
from fnn.core.context import INFERENCE, Context, activity_penalty
from fnn.core.layer import Layer, Params, State
from fnn.core.tree import Tree
from fnn.core.value import resolve


class Change(NamedTuple):
    """In the call of this number in a flow, `new` replaces `old`."""

    number: int
    old: Layer
    new: Layer


class Rewired(Flow, loadable=False):
    """`inner` with other layers in some of its calls: `changes`, a tuple of `Change`.

    Raises TypeError for a flow that calls other layers than when it was followed.
    """

    inner: Flow
    changes: Any = ()

    def children(self) -> tuple[tuple[str | None, Layer], ...]:
        return tuple(self.inner.children())

    def flow(self, x: Tree, visit: Visit) -> Tree:
        changes: dict[int, Change] = {change.number: change for change in self.changes}
        numbers = itertools.count()

        def other(
            name: str,
            layer: Layer,
            x: Tree,
        ) -> Tree:
            number = next(numbers)
            change = changes.get(number, Change(number, layer, layer))
            if layer != change.old:
                raise TypeError(
                    f"the flow of {type(self.inner).__name__} must visit the same layers for all "
                    f"inputs, got {layer!r} in place of {change.old!r}"
                )
            return visit(name, change.new, x)

        return self.inner.flow(x, other)


class Penalized(Wrapper, loadable=False):
    """`inner`, which returns logits, with a penalty of the outputs computed from them."""

    end: Any
    penalty: Any

    def init(self, key: Array, x: Tree) -> tuple[Params, State]:
        params, state = super().init(key, x)
        return params, {**state, "aux_loss": jnp.zeros(())}

    def apply(
        self,
        params: Params,
        state: State,
        x: Tree,
        ctx: Context = INFERENCE,
    ) -> tuple[Tree, State]:
        logits, after = call(self.inner, params, state, x, ctx)
        regularizer = resolve("regularizer", self.penalty)
        penalty = activity_penalty(regularizer, self.end.of(logits), ctx)
        dtype = state["aux_loss"].dtype
        return logits, {**after, "aux_loss": penalty.astype(dtype)}


class Behind(Wrapper, loadable=False):
    """`inner` behind layers that return logits: `ends` are pairs (path of the input, its `End`)."""

    ends: Any

    def apply(
        self,
        params: Params,
        state: State,
        x: Tree,
        ctx: Context = INFERENCE,
    ) -> tuple[Tree, State]:
        for path, end in self.ends:
            x = _with(x, path, end.of)
        return call(self.inner, params, state, x, ctx)


def _with(
    x: Tree,
    path: tuple[object, ...],
    function: Callable[[Tree], Tree],
) -> Tree:
    """Nested tuples and dicts with the value at `path` replaced by `function` of it."""
    if not path:
        return function(x)
    key, *rest = path
    if isinstance(x, dict):
        return {**x, key: _with(x[key], tuple(rest), function)}
    items = list(x)
    for index, item in enumerate(x):
        if index == key:
            items[index] = _with(item, tuple(rest), function)
    return tuple(items)
