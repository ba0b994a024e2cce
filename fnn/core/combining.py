"""Flow, Composite and Wrapper: what layers that are made of layers are made of."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from fnn.core import arguments, tree
from fnn.core.calling import (
    after_call,
    before_call,
    call,
    init_child,
    initialize,
    output_spec_of_child,
    unzip,
)
from fnn.core.context import INFERENCE, Context
from fnn.core.door import check_apply, in_dtype, located, refuse_names, run_apply
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
            f"expected {type(self).__name__} to define flow(x, visit), received a class without "
            "it; return what visit(name, layer, x) makes of x"
        )

    def init(self, key: Array, x: Any) -> tuple[Params, State]:
        pairs: dict[str, tuple[Params, State]] = {}

        def create(name: str, layer: Layer, x: Any) -> Any:
            if name not in pairs:
                pairs[name] = init_child(name, layer, key, x)
            return output_spec_of_child(name, layer, x)

        self.flow(x, create)
        return unzip(pairs)

    def unchecked_apply(
        self, params: Params, state: State, x: Any, ctx: Context = INFERENCE
    ) -> tuple[Any, State]:
        """What `apply` does after its checks: the children look at their inputs themselves."""
        x, ctx = carry_mask(x, ctx)
        new = dict(state)
        return self.flow(x, functools.partial(_visit, params, new, {}, ctx)), new

    def apply(
        self,
        params: Params,
        state: State,
        x: Any,
        ctx: Context = INFERENCE,
        **named: Any,
    ) -> tuple[Any, State]:
        refuse_names(self, named)
        check_apply(self, params, state, x, ctx)
        if self.dtype is not None:
            return run_apply(Flow.unchecked_apply, self, params, state, x, ctx)
        x, ctx = carry_mask(x, ctx)  # as `unchecked_apply`, without a frame of its own
        new = dict(state)
        return self.flow(x, functools.partial(_visit, params, new, {}, ctx)), new


def _visit(
    params: Params,
    new: State,
    uses: dict[str, int],
    ctx: Context,
    name: str,
    layer: Layer,
    x: Any,
) -> Any:
    """What the child called `name` makes of `x`; its state is put into `new`.

    `uses` counts the visits of each child: a further one has a key of its own.
    """
    use = uses[name] = uses.get(name, -1) + 1
    part, before, inner = params.get(name, {}), new.get(name, {}), ctx.child(name)
    inner = inner.repeat(use) if use else inner
    with (
        jax.named_scope(name),
        located(name, layer, x),
    ):  # `apply_child`, without its two frames
        apply, part, x, inner = before_call(layer, part, before, x, inner)
        y, after = apply(part, before, x, inner)
        y, after = after_call(layer, before, after, y, inner)
    if use:
        after = _added_losses(before, after)
    if after or name in new:
        new[name] = after
    return y


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


class Composite(Layer, loadable=False):
    """A layer made of layers: it writes `parts` and `wire`, and everything else follows.

        parts() -> {name: layer}           what it is made of; called once for a value
        wire(x, first, second) -> outputs  each part by its name, as a function of arrays

    `wire` may compute with what the parts return. A part called twice has one set of weights; its
    dropout differs and its auxiliary losses add up. A mask travels with the values (`Masked`),
    through parts and operators (`+`, `-`, `*`, `/`); functions of JAX take `x.values`.
    Raises TypeError where `parts` or `wire` is missing.

    >>> from fnn.layers import Composite, Dense
    >>> class ResidualBlock(Composite):
    ...     units: int
    ...     def parts(self):
    ...         return {"hidden": Dense(2 * self.units, "relu"), "output": Dense(self.units)}
    ...     def wire(self, x, hidden, output):
    ...         return x + output(hidden(x))
    >>> init, apply = ResidualBlock(3)
    >>> params, state = init(jax.random.key(0), jnp.ones((1, 3)))
    >>> params["hidden"]["kernel"].shape, apply(params, state, jnp.ones((1, 3)))[0].shape
    ((3, 6), (1, 3))
    """

    masking = "inside"

    def parts(self) -> dict[str, Layer]:
        """The layers inside, by name."""
        raise TypeError(
            f"{type(self).__name__} has no method parts, which returns a dict of layers by name"
        )

    def wire(self, x: Any, **parts: Callable[[Any], Any]) -> Any:
        """The outputs for `x`."""
        raise TypeError(
            f"{type(self).__name__} has no method wire, which takes x and an argument for each of "
            f"its parts ({', '.join(self.parts())}), and returns the outputs for x"
        )

    @functools.cached_property
    def _fnn_children(self) -> tuple[tuple[str, Layer], ...]:
        found = self.parts()
        for name, layer in found.items():
            arguments.layer(self, layer, f"as part {name!r}")
        if self.dtype is not None:
            found = {name: in_dtype(layer, self.dtype) for name, layer in found.items()}
        return tuple(found.items())

    def children(self) -> tuple[tuple[str | None, Layer], ...]:
        return self._fnn_children

    def _wired(self, x: Any, visit: Visit) -> Any:
        parts = {
            name: functools.partial(visit, name, part)
            for name, part in self._fnn_children
        }
        return self.wire(x, **parts)

    def init(self, key: Array, x: Any) -> tuple[Params, State]:
        inputs: dict[str, tuple[Layer, Any]] = {}

        def note(name: str, layer: Layer, x: Any) -> Any:
            like = tree.spec(x)
            inputs.setdefault(name, (layer, like))
            made = output_spec_of_child(name, layer, like)
            return jax.tree.map(lambda spec: jnp.zeros(spec.shape, spec.dtype), made)

        jax.eval_shape(lambda x: self._wired(x, note), tree.spec(x))
        return unzip(
            {n: init_child(n, layer, key, like) for n, (layer, like) in inputs.items()}
        )

    def apply(
        self, params: Params, state: State, x: Any, ctx: Context = INFERENCE
    ) -> tuple[Any, State]:
        x, ctx = carry_mask(x, ctx)
        new = dict(state)
        return self._wired(x, functools.partial(_visit, params, new, {}, ctx)), new


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
