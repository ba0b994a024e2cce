"""Recording: a call of a layer that puts its outputs into its state, for `fnn.explain`."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import jax

# The names in the state of a layer; no layer has such a name.
OUTPUT, OFFSET = "/output", "/offset"


def recording(
    strip_masks: Callable[[Any], Any],
    is_masked: Callable[[object], bool],
    apply: Callable[..., tuple[Any, Any]],
    layer: Any,
    params: Any,
    state: Any,
    x: Any,
    ctx: Any,
) -> tuple[Any, Any]:
    """Runs a layer, and puts its outputs into its state, as OUTPUT.

    What is there as OFFSET is added to the outputs before: the gradient with respect to an offset
    of zeros is that with respect to the outputs.
    """
    own = {n: v for n, v in state.items() if n not in (OFFSET, OUTPUT)}
    # A leaf layer that runs others knows what is in their states.
    inner = ctx.replace(record=layer.masking == "inside")
    y, new = apply(layer, params, own, x, inner)
    if OFFSET in state:
        y = jax.tree.map(operator.add, y, state[OFFSET], is_leaf=is_masked)
        # Kept for another use of the layer in the same call.
        new = {**new, OFFSET: state[OFFSET]}
    return y, {**new, OUTPUT: strip_masks(y)}
