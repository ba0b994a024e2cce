"""Base classes of layers that contain layers: Flow, Composite, Wrapper."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import field
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jax import Array

from fnn.core import arguments, tree, tying
from fnn.core.calling import (
    after_call,
    before_call,
    call,
    init_child,
    initialize,
    output_spec_of_child,
    unzip,
)
from fnn.core.checks import check_apply, in_dtype, located, refuse_names, run_apply
from fnn.core.context import INFERENCE, Context, carry_mask
from fnn.core.layer import Layer, Params, State
from fnn.core.tree import SpecTree, Tree
from fnn.core.tying import Ties

# Runs a child, given its name, the layer and its inputs.
Visit: TypeAlias = Callable[[str, Layer, Tree], Tree]


class Flow(Layer, loadable=False):
    """A combinator that only connects its children: its method `flow` defines init and apply.

    `flow(x, visit)` passes `x` through the children: `visit(name, layer, x)` returns the outputs
    of a child for `x`: arrays (apply), shapes (init), or a row of a summary. A child visited twice
    has one set of weights; each visit has its own dropout, and auxiliary losses add up. Do not
    compute with the outputs of `visit`, since they need not be arrays.

    `ties` are pairs of paths (a place, a place before it) whose weights are the same. The trees of
    weights have those of the first place. Models find them: places of one layer object.
    """

    masking = "inside"
    # The children cast their inputs; one of them may take numbers in full precision.
    casts_inputs = False

    ties: Ties = field(default=(), kw_only=True)

    @property
    def inner_ties(self) -> Ties:  # type: ignore[override]
        """`ties`, under the name that all layers have."""
        return self.ties

    @property
    def only_wires(self) -> bool:
        """True, unless the layer has a dtype or a subclass defines `apply`."""
        return self.dtype is None and type(self).apply is Flow.apply

    @functools.cached_property
    def _fnn_training_alone(self) -> bool:
        layers = [layer for _, layer in self.children()]
        return bool(layers) and all(layer.training_alone for layer in layers)

    @property
    def training_alone(self) -> bool:  # type: ignore[override]
        """Whether all children run as in training when they are called without `training`."""
        return self._fnn_training_alone

    def flow(self, x: Tree, visit: Visit) -> Tree:
        """The outputs for `x`, where `visit` runs each child."""
        raise TypeError(
            f"expected {type(self).__name__} to define flow(x, visit), received a class without "
            "it; return the outputs, calling visit(name, layer, x) for each child"
        )

    def init(self, key: Array, x: Tree) -> tuple[Params, State]:
        pairs: dict[str, tuple[Params, State]] = {}

        def create(
            name: str,
            layer: Layer,
            x: SpecTree,
        ) -> SpecTree:
            if name not in pairs:
                pairs[name] = init_child(name, layer, key, x)
            return output_spec_of_child(name, layer, x)

        self.flow(x, create)
        params, state = unzip(pairs)
        params = tying.gathered(params, self.ties)
        state = tying.gathered(state, self.ties)
        return params, state

    def unchecked_apply(
        self,
        params: Params,
        state: State,
        x: Tree,
        ctx: Context = INFERENCE,
    ) -> tuple[Tree, State]:
        """`apply` without its checks: the children check their own inputs."""
        x, ctx = carry_mask(x, ctx)
        if self.ties:
            return self._tied(params, state, x, ctx)
        new = dict(state)
        visit = functools.partial(visit_child, params, new, {}, ctx)
        return self.flow(x, visit), new

    def apply(
        self,
        params: Params,
        state: State,
        x: Tree,
        ctx: Context = INFERENCE,
        **named: object,
    ) -> tuple[Tree, State]:
        refuse_names(self, named)
        check_apply(self, params, state, x, ctx)
        if self.dtype is not None:
            result: tuple[Tree, State]
            result = run_apply(Flow.unchecked_apply, self, params, state, x, ctx)
            return result
        # `unchecked_apply`, without its frame in the traceback of an error
        x, ctx = carry_mask(x, ctx)
        if self.ties:
            return self._tied(params, state, x, ctx)
        new = dict(state)
        visit = functools.partial(visit_child, params, new, {}, ctx)
        return self.flow(x, visit), new

    def _tied(
        self,
        params: Params,
        state: State,
        x: Tree,
        ctx: Context,
    ) -> tuple[Tree, State]:
        def apply(params: Params, state: State) -> tuple[Tree, State]:
            new = dict(state)
            visit = functools.partial(visit_child, params, new, {}, ctx)
            return self.flow(x, visit), new

        return tying.run(self.ties, apply, params, state)


def visit_child(
    params: Params,
    new: State,
    uses: dict[str, int],
    ctx: Context,
    name: str,
    layer: Layer,
    x: Tree,
) -> Tree:
    """The outputs of the child called `name` for `x`; its new state is put into `new`.

    `uses` counts the visits of each child; every visit after the first has its own random key.
    """
    use = uses.get(name, -1) + 1
    uses[name] = use
    own_params = params.get(name, {})
    before = new.get(name, {})
    inner = ctx.child(name)
    if use:
        inner = inner.repeat(use)
    # `apply_child`, without its two frames in the traceback of an error
    with jax.named_scope(name), located(name, layer, x):
        apply, own_params, x, inner = before_call(layer, own_params, before, x, inner)
        y, after = apply(own_params, before, x, inner)
        y, after = after_call(layer, before, after, y, inner)
    if use:
        after = _added_losses(before, after)
    if after or name in new:
        new[name] = after
    return y


def _added_losses(before: State, after: State) -> State:
    """`after`, with its auxiliary losses added to those of an earlier use in the same call."""
    total = {}
    for name, value in after.items():
        total[name] = value
        if isinstance(value, dict):
            total[name] = _added_losses(before[name], value)
        elif name == "aux_loss":
            total[name] = before[name] + value
    return total


class Composite(Layer, loadable=False):
    """A layer made of layers: it defines `parts` and `wire`, everything else follows.

        parts() -> {name: layer}           the layers inside; called once for a value
        wire(x, first, second) -> outputs  takes each part by name, as a function of arrays

    `wire` may compute with the outputs of the parts. A part called twice has one set of weights;
    each call has its own dropout, and auxiliary losses add up. A mask travels with the values
    (`Masked`), through parts and operators (`+`, `-`, `*`, `/`); functions of JAX take `x.values`.
    Raises TypeError if `parts` or `wire` is missing.

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

    def wire(self, x: Tree, **parts: Callable[[Tree], Tree]) -> Tree:
        """The outputs for `x`."""
        raise TypeError(
            f"{type(self).__name__} has no method wire, which takes x and an argument for each of "
            f"its parts ({', '.join(self.parts())}), and returns the outputs for x"
        )

    @functools.cached_property
    def _fnn_children(self) -> tuple[tuple[str, Layer], ...]:
        with self.without_policy():
            parts = self.parts()
        for name, layer in parts.items():
            arguments.layer(self, layer, f"as part {name!r}")
        if self.dtype is not None:
            parts = {name: in_dtype(layer, self.dtype) for name, layer in parts.items()}
        return tuple(parts.items())

    def children(self) -> tuple[tuple[str | None, Layer], ...]:
        return self._fnn_children

    def _run(self, x: Tree, visit: Visit) -> Tree:
        """`wire`, where `visit` runs each part."""
        parts = {
            name: functools.partial(visit, name, part)
            for name, part in self._fnn_children
        }
        return self.wire(x, **parts)

    def init(self, key: Array, x: Tree) -> tuple[Params, State]:
        inputs: dict[str, tuple[Layer, SpecTree]] = {}

        def record(
            name: str,
            layer: Layer,
            x: Tree,
        ) -> Tree:
            like = tree.spec(x)
            inputs.setdefault(name, (layer, like))
            spec = output_spec_of_child(name, layer, like)
            return jax.tree.map(_zeros, spec)

        # `wire` computes with the outputs of parts, so it runs on traced arrays.
        jax.eval_shape(lambda x: self._run(x, record), tree.spec(x))
        pairs = {}
        for name, (layer, like) in inputs.items():
            pairs[name] = init_child(name, layer, key, like)
        return unzip(pairs)

    def apply(
        self,
        params: Params,
        state: State,
        x: Tree,
        ctx: Context = INFERENCE,
    ) -> tuple[Tree, State]:
        x, ctx = carry_mask(x, ctx)
        new = dict(state)
        visit = functools.partial(visit_child, params, new, {}, ctx)
        return self._run(x, visit), new


def _zeros(spec: jax.ShapeDtypeStruct) -> Array:
    return jnp.zeros(spec.shape, spec.dtype)


class Wrapper(Layer, loadable=False):
    """A combinator that changes how `inner` runs; the weights of `inner` keep their paths."""

    masking = "inside"

    inner: Layer

    @property
    def holds_objects(self) -> bool:  # type: ignore[override]
        """Whether the weights are those of `inner`, which may stand elsewhere too."""
        return not self.stacked

    def children(self) -> tuple[tuple[str | None, Layer], ...]:
        return ((None, self.inner),)

    def inside(self, x: Tree) -> Tree:
        """Inputs of `inner` for the inputs `x`, as `fnn.testing` needs to test `inner` alone."""
        return x

    def init(self, key: Array, x: Tree) -> tuple[Params, State]:
        return initialize(self.inner, key, x)

    def apply(
        self,
        params: Params,
        state: State,
        x: Tree,
        ctx: Context = INFERENCE,
    ) -> tuple[Tree, State]:
        return call(self.inner, params, state, x, ctx)


class PassingWrapper(Wrapper, loadable=False):
    """A wrapper that returns the outputs of `inner`."""

    casts_inputs = False

    @property
    def ensemble_size(self) -> int:
        return self.inner.ensemble_size
