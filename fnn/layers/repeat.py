"""Repeat: several copies of a layer in sequence, compiled once."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array, lax

from fnn.core import tree
from fnn.core.calling import call, init_copies, output_spec
from fnn.core.context import INFERENCE, Context, carry_mask
from fnn.core.fields import positive
from fnn.core.layer import Layer, Params, State
from fnn.core.tree import SpecTree, Tree
from fnn.runtime import convolutions
from fnn.runtime.placement import settled, whole_copies


class Repeat(Layer):
    """`times` copies of `inner`, one after the other, in one `lax.scan`.   same shape -> same shape

    Each copy has its own weights, stacked along a leading axis (copy i of a weight is
    `params[...][i]`), and its own random key. The compile time does not grow with `times`.
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

    def children(self) -> tuple[tuple[str | None, Layer], ...]:
        return ((None, self.inner),)

    def inside(self, x: SpecTree) -> SpecTree:
        """The inputs of the first copy."""
        return x

    def init(self, key: Array, x: SpecTree) -> tuple[Params, State]:
        y = output_spec(self.inner, x)
        # Shapes alone: float32 weights may widen bfloat16 inputs here. `apply` checks dtypes.
        if _shapes(x) != _shapes(y):
            raise _shape_changed(x, y)
        return init_copies(self.inner, key, self.times, x)

    def apply(
        self,
        params: Params,
        state: State,
        x: Tree,
        ctx: Context = INFERENCE,
    ) -> tuple[Tree, State]:
        x, ctx = carry_mask(x, ctx)

        def step(x: Tree, copy: tuple[Array, Params, State]) -> tuple[Tree, State]:
            index, params, state = copy
            y, state = call(self.inner, params, state, x, ctx.repeat(index))
            if tree.spec(y) != tree.spec(x):
                raise _shape_changed(x, y)
            return y, state

        # The leaves are (times, ...).
        copies = jnp.arange(self.times), whole_copies(params), whole_copies(state)
        step = convolutions.in_loop(step)
        return lax.scan(step, settled(step, x, copies), copies)


def _shapes(x: SpecTree) -> Tree:
    return jax.tree.map(lambda a: a.shape, x)


def _shape_changed(x: SpecTree, y: SpecTree) -> ValueError:
    return ValueError(
        f"Repeat: expected an inner layer that keeps the shape {tree.describe(x)}, "
        f"received {tree.describe(y)} from it; put the change of shape or dtype outside"
    )
