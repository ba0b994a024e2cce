"""Diagnosis: the place in a network where values first become NaN or infinite."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from fnn.core import tree, tying, weights
from fnn.core.calling import apply_child, call
from fnn.core.combining import Flow
from fnn.core.context import Context, carry_mask
from fnn.core.layer import Layer, Params, State
from fnn.core.tree import Tree
from fnn.training.plan import Dispatch, Plan
from fnn.training.state import TrainState


def is_finite(values: Tree) -> bool:
    """Whether every floating-point number in a pytree is finite."""
    for leaf in jax.tree.leaves(values):
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            continue
        if not jnp.isfinite(leaf).all():
            return False
    return True


def first_not_finite(
    layer: Layer, params: Params, state: State, x: Tree, ctx: Context
) -> str | None:
    """The path of the first layer with outputs that are not finite; None if all are."""
    if not isinstance(layer, Flow):
        y, _ = call(layer, params, state, x, ctx)
        if is_finite(y):
            return None
        return "/".join(ctx.path) or type(layer).__name__
    found: list[str] = []
    params = tying.filled(params, layer.ties)
    state = tying.filled(state, layer.ties)

    def visit(name: str, child: Layer, x: Tree) -> Tree:
        y, _ = apply_child(name, child, params, state, x, ctx)
        if not found and not is_finite(y):
            inner = first_not_finite(
                child, params[name], state[name], x, ctx.child(name)
            )
            found.append(inner or "/".join((*ctx.path, name)))
        return y

    x, ctx = carry_mask(x, ctx)
    layer.flow(x, visit)
    if not found:
        return None
    return found[0]


def diagnose(
    layer: Layer,
    loss: Callable[..., tuple[Array, Any]],
    now: TrainState,
    batch: tuple[dict[str, Tree], Array],
    key: Array,
) -> str:
    """Describes what becomes NaN or infinite first.

    The inputs, a layer's outputs, the loss, a gradient, or the updates. The loss is that
    of `make_loss`: `loss(params, now, batch, key) -> (loss, more)`.
    """

    def loss_of(params: Params) -> Array:
        value, _ = loss(params, now, batch, key)
        return value

    arrays, valid = batch
    if not is_finite(arrays["x"]):
        return "the inputs"
    ctx = Context(train=True, key=key, rows=valid)
    path = first_not_finite(layer, now.params, now.state, arrays["x"], ctx)
    if path is not None:
        return f"the outputs of layer {path}"
    learning, _ = weights.split(layer, now.params)
    value, grads = jax.value_and_grad(loss_of)(learning)
    if not is_finite(value):
        return "the loss"
    bad = []
    for names, leaf in tree.flatten(grads):
        if not is_finite(leaf):
            bad.append("/".join(names))
    if not bad:
        return "the updates of the optimizer"
    return f"the gradient of {', '.join(bad[:4])}"


def not_finite(plan: Plan, last: Tree, dispatches: list[Dispatch]) -> str:
    """The error message for a loss that is not finite, in one of these dispatches.

    `last` is the state before the step, which has its number.
    """
    where = f"one of the steps up to {dispatches[-1].done}"
    if isinstance(last, TrainState):
        step = int(last.step)
        where = f"step {step}"
        if plan.diagnose is not None:
            bad = dispatches[0]
            for dispatch in dispatches:
                if dispatch.number <= step:
                    bad = dispatch
            index = bad.at + step - bad.number
            batch = jax.tree.map(lambda a: a[index], bad.chunk)
            key = jax.random.fold_in(plan.key, step)
            where += f", first in {plan.diagnose(last, batch, key)}"
    return (
        f"expected a finite loss and finite gradients, received NaN or infinity at {where}; "
        "the model is as it was before that step; lower the learning rate or scale the "
        'inputs (guard="skip" leaves such steps out)'
    )
