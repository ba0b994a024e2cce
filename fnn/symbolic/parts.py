"""Parts: layers that select one of several outputs, and add or take a mask."""

from __future__ import annotations

from jax import Array

from fnn.core.context import INFERENCE, Context, Masked, check_mask
from fnn.core.layer import Layer, Params, State
from fnn.core.tree import SpecTree, Tree


class Item(Layer):
    """Selects one of several values.   (a, b, ...) or {key: a, ...} -> the one at `index`"""

    masking = "inside"
    is_operation = True
    follows_policy = False

    index: int | str

    def apply(
        self,
        params: Params,
        state: State,
        x: Tree,
        ctx: Context = INFERENCE,
    ) -> tuple[Tree, State]:
        return x[self.index], state


class WithMask(Layer):
    """Adds a mask, True where a step is valid.   (values, mask) -> Masked(values, mask)

    `layer(x, mask=mask)` applies it to `x` before the layer; it replaces a mask that `x` has.
    Raises ValueError unless the mask has the first axes of the values, at least two.
    """

    masking = "use"
    is_operation = True
    follows_policy = False

    def init(self, key: Array, x: SpecTree) -> tuple[Params, State]:
        values, mask = x
        check_mask(self, values.shape, mask.shape)
        return {}, {}

    def apply(
        self,
        params: Params,
        state: State,
        x: tuple[Array, Array],
        ctx: Context = INFERENCE,
    ) -> tuple[Masked, State]:
        values, mask = x
        return Masked(values, mask.astype(bool)), state


class TakeMask(Layer):
    """The mask of its inputs as values.   Masked(values, mask) -> mask"""

    masking = "use"
    is_operation = True
    follows_policy = False

    def apply(
        self,
        params: Params,
        state: State,
        x: Array,
        ctx: Context = INFERENCE,
    ) -> tuple[Array | None, State]:
        return ctx.mask, state


# Keras has no layers for what these do, so they do not count in its order of layers.
UNCOUNTED = (Item, WithMask, TakeMask)
