"""Flow and Wrapper: what combinators are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jax import Array

from fnn.core import arguments
from fnn.core.calling import (
    apply_child,
    call,
    init_child,
    initialize,
    output_spec_of_child,
    unzip,
)
from fnn.core.context import INFERENCE, Context
from fnn.core.layer import Layer, Params, State
from fnn.core.masking import carry_mask

Visit = Callable[[str, Layer, Any], Any]


class Flow(Layer, loadable=False):
    """A combinator that only wires its children: it writes `flow`, and init and apply follow.

    `flow(x, visit)` leads `x` through the children: `visit(name, layer, x)` returns what that child
    makes of `x`, be it arrays (apply), shapes (init) or a row of a summary. A child visited twice
    has one set of weights; its dropout differs and its auxiliary losses add up. Do not compute
    with what `visit` returns: it need not be an array.
    """

    masking = "inside"

    @property
    def only_wires(self) -> bool:
        """True, unless a dtype or an `apply` of its own changes what passes."""
        return self.dtype is None and type(self).apply is Flow.apply

    def flow(self, x: Any, visit: Visit) -> Any:
        """What the children make of `x`, each led through by `visit`."""
        raise TypeError(
            f"expected {type(self).__name__} to define flow(x, visit), received a class without it;"
            " do return what visit(name, layer, x) makes of x"
        )

    def init(self, key: Array, x: Any) -> tuple[Params, State]:
        pairs: dict[str, tuple[Params, State]] = {}

        def create(name: str, layer: Layer, x: Any) -> Any:
            if name not in pairs:
                pairs[name] = init_child(name, layer, key, x)
            return output_spec_of_child(name, layer, x)

        self.flow(x, create)
        return unzip(pairs)

    def apply(
        self, params: Params, state: State, x: Any, ctx: Context = INFERENCE
    ) -> tuple[Any, State]:
        x, ctx = carry_mask(x, ctx)
        new = dict(state)

        uses: dict[str, int] = {}

        def run(name: str, layer: Layer, x: Any) -> Any:
            use = uses[name] = uses.get(name, -1) + 1
            y, after = apply_child(name, layer, params, new, x, ctx.repeat(use) if use else ctx)
            if use:
                after = _added_losses(new.get(name, {}), after)
            if after or name in new:
                new[name] = after
            return y

        return self.flow(x, run), new


def _added_losses(before: State, after: State) -> State:
    """`after`, with its auxiliary losses added to those of an earlier use in the same call."""
    return {
        name: _added_losses(before[name], value)
        if isinstance(value, dict)
        else before[name] + value
        if name == "aux_loss"
        else value
        for name, value in after.items()
    }


class Wrapper(Layer, loadable=False):
    """A combinator that changes how `inner` runs; the weights of `inner` keep their paths."""

    masking = "inside"

    inner: Layer

    def validate(self) -> None:
        arguments.layer(self, self.inner, "as inner")

    def children(self) -> tuple[tuple[str | None, Layer], ...]:
        return ((None, self.inner),)

    def inside(self, x: Any) -> Any:
        """What `inner` is given, or something like it: `fnn.testing` looks at `inner` with it."""
        return x

    def init(self, key: Array, x: Any) -> tuple[Params, State]:
        return initialize(self.inner, key, x)

    def apply(
        self, params: Params, state: State, x: Any, ctx: Context = INFERENCE
    ) -> tuple[Any, State]:
        return call(self.inner, params, state, x, ctx)


class PassingWrapper(Wrapper, loadable=False):
    """A wrapper whose outputs are those of `inner`."""

    @property
    def ensemble_size(self) -> int:
        return self.inner.ensemble_size
