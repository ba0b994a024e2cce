"""The layers that take the place of others in a network whose last activation is cut off."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from fnn.core.calling import activity_penalty, call
from fnn.core.combining import Flow, Visit, Wrapper
from fnn.core.context import INFERENCE, Context
from fnn.core.layer import Layer, Params, State


class Change(NamedTuple):
    """At the call of this number in a flow, `new` is to be called instead of `old`."""

    number: int
    old: Layer
    new: Layer


class Rewired(Flow, loadable=False):
    """`inner` with other layers at some of its calls: `changes`, a tuple of `Change`.

    Raises TypeError for a flow that calls other layers than when it was followed.
    """

    inner: Any
    changes: Any = ()

    def children(self) -> tuple[tuple[str | None, Layer], ...]:
        return tuple(self.inner.children())

    def flow(self, x: Any, visit: Visit) -> Any:
        changes: dict[int, Change] = {change.number: change for change in self.changes}
        numbers = itertools.count()

        def other(name: str, layer: Layer, x: Any) -> Any:
            _, old, new = changes.get(next(numbers), (0, layer, layer))
            if layer != old:
                raise TypeError(
                    f"the flow of {type(self.inner).__name__} must visit the same layers for all "
                    f"inputs, got {layer!r} in place of {old!r}"
                )
            return visit(name, new, x)

        return self.inner.flow(x, other)


class Penalized(Wrapper, loadable=False):
    """`inner`, which returns logits, with a penalty of the output that is made of them."""

    end: Any
    penalty: Any

    def init(self, key: Array, x: Any) -> tuple[Params, State]:
        params, state = super().init(key, x)
        return params, {**state, "aux_loss": jnp.zeros(())}

    def apply(
        self, params: Params, state: State, x: Any, ctx: Context = INFERENCE
    ) -> tuple[Any, State]:
        logits, after = call(self.inner, params, state, x, ctx)
        penalty = activity_penalty(self.penalty, self.end.of(logits), ctx)
        return logits, {**after, "aux_loss": penalty.astype(state["aux_loss"].dtype)}


class Behind(Wrapper, loadable=False):
    """`inner` of inputs of which some are logits: pairs (path of the input, its `End`)."""

    ends: Any

    def apply(
        self, params: Params, state: State, x: Any, ctx: Context = INFERENCE
    ) -> tuple[Any, State]:
        for path, end in self.ends:
            x = _with(x, path, end.of)
        return call(self.inner, params, state, x, ctx)


def _with(x: Any, path: tuple[Any, ...], function: Callable[[Any], Any]) -> Any:
    """Nested tuples and dicts, with `function` of what is at `path` in its place."""
    if not path:
        return function(x)
    if isinstance(x, dict):
        return {**x, path[0]: _with(x[path[0]], path[1:], function)}
    return tuple(
        _with(item, path[1:], function) if index == path[0] else item
        for index, item in enumerate(x)
    )
