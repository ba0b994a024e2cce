"""Repeat: many equal layers in sequence, compiled once."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from fnn.core import arguments, tree
from fnn.core.calling import call, init_copies, output_spec
from fnn.core.context import INFERENCE, Context
from fnn.core.fields import positive
from fnn.core.layer import Layer, Params, State
from fnn.core.masking import carry_mask
from fnn.runtime.placement import settled, whole_copies


class Repeat(Layer):
    """`times` copies of `inner`, one after the other, in one `lax.scan`.   same shape -> same shape

    Every copy has its own weights, stacked along a leading axis (copy i of a weight is
    `params[...][i]`), and its own randomness. The compile time does not grow with `times`. On CPU
    a convolution inside a scan is slow: repeat dense and attention blocks, not images.
    Raises ValueError if `inner` changes the shape or dtype of its inputs.

    >>> from fnn.layers import Dense
    >>> params, state = Repeat(Dense(4, "tanh"), 6).init(jax.random.key(0), jnp.ones((1, 4)))
    >>> params["kernel"].shape
    (6, 4, 4)
    """

    masking = "inside"
    stacked = True

    inner: Layer
    times: int = positive(default=1)

    def validate(self) -> None:
        arguments.layer(self, self.inner, "as inner")

    def children(self) -> tuple[tuple[str | None, Layer], ...]:
        return ((None, self.inner),)

    def inside(self, x: Any) -> Any:
        """What each copy is given, or the first one."""
        return x

    def init(self, key: Array, x: Any) -> tuple[Params, State]:
        after = output_spec(self.inner, x)
        # Weights of float32 may widen inputs of bfloat16 here; `apply` looks at the dtypes.
        shapes = [jax.tree.map(lambda a: a.shape, values) for values in (x, after)]
        if shapes[0] != shapes[1]:
            raise _not_kept(x, after)
        return init_copies(self.inner, key, self.times, x)

    def apply(
        self, params: Params, state: State, x: Any, ctx: Context = INFERENCE
    ) -> tuple[Any, State]:
        x, ctx = carry_mask(x, ctx)

        def step(x: Any, copy: Any) -> tuple[Any, State]:
            index, params, state = copy
            y, state = call(self.inner, params, state, x, ctx.repeat(index))
            if tree.spec(y) != tree.spec(x):
                raise _not_kept(x, y)
            return y, state

        copies = jnp.arange(self.times), whole_copies(params), whole_copies(state)
        return lax.scan(step, settled(step, x, copies), copies)


def _not_kept(x: Any, y: Any) -> ValueError:
    return ValueError(
        f"Repeat: expected an inner layer that keeps the shape {tree.describe(x)}, "
        f"received {tree.describe(y)} from it; put the change of shape or dtype outside"
    )
