"""Diagnosis: where in a network a number that is not finite appears first."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from fnn.core import tree, weights
from fnn.core.calling import apply_child, call
from fnn.core.combining import Flow
from fnn.core.context import Context
from fnn.core.layer import Layer
from fnn.core.masking import carry_mask


def is_finite(values: Any) -> bool:
    """Whether every floating-point number in a pytree is finite."""
    leaves = [
        a for a in jax.tree.leaves(values) if jnp.issubdtype(a.dtype, jnp.floating)
    ]
    return all(bool(jnp.isfinite(leaf).all()) for leaf in leaves)


def first_not_finite(
    layer: Layer, params: Any, state: Any, x: Any, ctx: Context
) -> str | None:
    """The path of the first layer with outputs that are not finite; None if all are."""
    if not isinstance(layer, Flow):
        y, _ = call(layer, params, state, x, ctx)
        return None if is_finite(y) else "/".join(ctx.path) or type(layer).__name__
    found: list[str] = []

    def visit(name: str, child: Layer, x: Any) -> Any:
        y, _ = apply_child(name, child, params, state, x, ctx)
        if not found and not is_finite(y):
            inner = first_not_finite(
                child, params[name], state[name], x, ctx.child(name)
            )
            found.append(inner or "/".join((*ctx.path, name)))
        return y

    x, ctx = carry_mask(x, ctx)
    layer.flow(x, visit)
    return found[0] if found else None


def diagnose(layer: Layer, loss: Any, now: Any, batch: Any, key: Any) -> str:
    """In words what is not finite first: inputs, a layer's outputs, the loss, a gradient, updates.

    `loss(params, now, batch, key) -> (loss, more)`, as `make_loss` makes it.
    """
    loss_of = lambda params: loss(params, now, batch, key)[0]
    arrays, rows = batch
    if not is_finite(arrays["x"]):
        return "the inputs"
    ctx = Context(train=True, key=key, rows=rows)
    at = first_not_finite(layer, now.params, now.state, arrays["x"], ctx)
    if at is not None:
        return f"the outputs of layer {at}"
    learning, _ = weights.split(layer, now.params)
    value, grads = jax.value_and_grad(loss_of)(learning)
    if not is_finite(value):
        return "the loss"
    bad = ["/".join(path) for path, leaf in tree.flatten(grads) if not is_finite(leaf)]
    if not bad:
        return "the updates of the optimizer"
    return f"the gradient of {', '.join(bad[:4])}"
