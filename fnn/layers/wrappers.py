"""Wrappers: change how a layer runs: residual, parallel, frozen, recomputed, ensemble, per step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import field

import jax
import jax.numpy as jnp
from jax import Array

from fnn.core.arguments import Rule
from fnn.core.calling import call, init_copies, initialize, unique_names
from fnn.core.combining import Flow, PassingWrapper, Visit, Wrapper
from fnn.core.context import (
    INFERENCE,
    Context,
    Masked,
    attach_mask,
    carry_mask,
    combine_masks,
    is_masked,
    split_mask,
)
from fnn.core.fields import positive
from fnn.core.layer import Layer, Params, State
from fnn.core.tree import SpecTree, Tree, array_spec
from fnn.runtime.placement import beside_copies


class Residual(Wrapper):
    """x + inner(x).   same shape -> same shape

    Raises ValueError if `inner` changes the shape.

    >>> from fnn.layers import Dense
    >>> init, apply = Residual(Dense(3, kernel_initializer="zeros"))
    >>> apply(*init(jax.random.key(0), jnp.ones((1, 3))), jnp.ones((1, 3)))[0].tolist()
    [[1.0, 1.0, 1.0]]
    """

    def apply(
        self,
        params: Params,
        state: State,
        x: Tree,
        ctx: Context = INFERENCE,
    ) -> tuple[Tree, State]:
        y, state = call(self.inner, params, state, x, ctx)
        inputs, _ = split_mask(x)
        outputs, mask = split_mask(y)
        if inputs.shape != outputs.shape:
            raise ValueError(
                f"Residual: expected an inner layer that keeps the shape {tuple(inputs.shape)}, "
                f"received one that returns {tuple(outputs.shape)}; make them equal"
            )
        return attach_mask(inputs + outputs, mask), state


class Parallel(Flow):
    """Applies every layer to the same inputs and passes the tuple of outputs to `merge`.

    `merge` is a layer of several inputs (`Add()`, `Concatenate()`); None returns the tuple.

    >>> from fnn.layers import Concatenate, Dense
    >>> init, apply = Parallel([Dense(2), Dense(3)], merge=Concatenate())
    >>> apply(*init(jax.random.key(0), jnp.ones((1, 4))), jnp.ones((1, 4)))[0].shape
    (1, 5)
    """

    layers: Sequence[Layer] = ()
    merge: Layer | None = None

    def validate(self) -> None:
        unique_names(self._all)

    @property
    def _all(self) -> tuple[Layer, ...]:
        if self.merge is None:
            return tuple(self.layers)
        return (*self.layers, self.merge)

    def children(self) -> tuple[tuple[str | None, Layer], ...]:
        return tuple(zip(unique_names(self._all), self._all, strict=True))

    def flow(self, x: Tree, visit: Visit) -> Tree:
        names = unique_names(self._all)
        pairs = zip(names, self.layers, strict=False)
        outputs = tuple(visit(name, layer, x) for name, layer in pairs)
        if self.merge is None:
            return outputs
        return visit(names[-1], self.merge, outputs)


class Frozen(PassingWrapper):
    """Runs `inner` without training it: no gradient, no optimizer state, no batch statistics.

    Dropout stays on in training, as in Keras. The same as `inner.replace(trainable=False)`.

    >>> from fnn.layers import Dense
    >>> Frozen(Dense(3)).trainable
    False
    """

    trainable: bool = field(default=False, kw_only=True)


class Remat(PassingWrapper):
    """Recomputes `inner` in the backward pass instead of keeping its intermediate values.

    This saves memory and costs time; the outputs are the same (`jax.checkpoint`).

    >>> from fnn.layers import Dense
    >>> sorted(Remat(Dense(3)).init(jax.random.key(0), jnp.ones((1, 2)))[0])  # those of `inner`
    ['bias', 'kernel']
    """

    def apply(
        self,
        params: Params,
        state: State,
        x: Tree,
        ctx: Context = INFERENCE,
    ) -> tuple[Tree, State]:
        def run(
            params: Params,
            state: State,
            x: Tree,
            ctx: Context,
        ) -> tuple[Tree, State]:
            return call(self.inner, params, state, x, ctx)

        # `compile(remat=...)` adds nothing inside.
        ctx = ctx.replace(remat=())
        recomputed = jax.checkpoint(run)
        result: tuple[Tree, State] = recomputed(params, state, x, ctx)
        return result


class Inference(PassingWrapper):
    """Runs `inner` as in inference, also while the network trains; its weights still learn.

    Keras's `layer(x, training=False)`: batch norm uses its moving averages, dropout is off.

    >>> from fnn.layers import Dropout
    >>> ctx = fnn.Context(train=True, key=jax.random.key(1))
    >>> Inference(Dropout(0.5)).apply({}, {}, jnp.ones((1, 4)), ctx)[0].tolist()
    [[1.0, 1.0, 1.0, 1.0]]
    """

    def apply(
        self,
        params: Params,
        state: State,
        x: Tree,
        ctx: Context = INFERENCE,
    ) -> tuple[Tree, State]:
        ctx = ctx.replace(train=False)
        return call(self.inner, params, state, x, ctx)


class Training(PassingWrapper):
    """Runs `inner` as in training, also in inference: Monte Carlo dropout.

    Keras's `layer(x, training=True)`. It needs a key where `inner` draws random numbers; models
    have one for each call, which moves on.

    >>> from fnn.layers import Dropout
    >>> ctx = fnn.Context(key=jax.random.key(1))
    >>> outputs, _ = Training(Dropout(0.5)).apply({}, {}, jnp.ones((1, 64)), ctx)
    >>> sorted(set(outputs[0].tolist()))
    [0.0, 2.0]
    """

    may_draw = True

    def apply(
        self,
        params: Params,
        state: State,
        x: Tree,
        ctx: Context = INFERENCE,
    ) -> tuple[Tree, State]:
        ctx = ctx.replace(train=True)
        return call(self.inner, params, state, x, ctx)


class TimeDistributed(Wrapper):
    """Applies `inner` to every time step.   (batch, time, ...) -> (batch, time, ...)

    Steps are folded into the batch, so batch statistics are over all steps (except padding examples
    and masked steps), and each step has its own dropout mask. A mask with more axes, `(batch, time,
    words)`, is passed to `inner`; a step is valid if it has a valid word.
    Raises ValueError for inputs of fewer than three axes.

    >>> from fnn.layers import Flatten
    >>> init, apply = TimeDistributed(Flatten())
    >>> apply(*init(jax.random.key(0), jnp.ones((2, 5, 4, 3))), jnp.ones((2, 5, 4, 3)))[0].shape
    (2, 5, 12)
    """

    by_step = True
    casts_inputs = False
    input_layout = "(batch, time, features, ...)"

    def inside(self, x: Tree) -> Tree:
        """The first step."""
        values, _ = split_mask(x)
        return jax.tree.map(lambda a: a[:, 0], values)

    def init(self, key: Array, x: SpecTree) -> tuple[Params, State]:
        values, _ = split_mask(x)
        shape = (values.shape[0], *values.shape[2:])  # (batch, ...)
        step = array_spec(shape, values.dtype)
        return initialize(self.inner, key, step)

    def apply(
        self,
        params: Params,
        state: State,
        x: Tree,
        ctx: Context = INFERENCE,
    ) -> tuple[Tree, State]:
        x, ctx = carry_mask(x, ctx)
        values, mask = split_mask(x)
        batch, time = values.shape[:2]

        def fold(a: Array) -> Array:  # (batch, time, ...) -> (batch * time, ...)
            return a.reshape(batch * time, *a.shape[2:])

        def unfold(a: Array) -> Array:  # (batch * time, ...) -> (batch, time, ...)
            return a.reshape(batch, time, *a.shape[1:])

        steps: Array | Masked = fold(values)
        rows = ctx.rows
        if rows is not None:
            rows = jnp.repeat(rows, time)  # (batch * time,)
        if mask is not None:
            if mask.ndim > 2:  # steps with masks of their own: sentences of words
                steps = Masked(steps, fold(mask))
                mask = mask.any(tuple(range(2, mask.ndim)))  # (batch, time)
            rows = combine_masks((rows, fold(mask)))
        ctx = ctx.replace(rows=rows)
        y, state = call(self.inner, params, state, steps, ctx)
        y = jax.tree.map(unfold, y)
        if not isinstance(y, Masked):
            y = jax.tree.map(lambda a: attach_mask(a, mask), y)
        return y, state


class Ensemble(Layer):
    """`members` networks of the same architecture, trained together in one `vmap`.

    Outputs are those of all members, `(batch, members, ...)`. Weights have a leading axis of
    members; each member has its own initial weights and random key. `fit` trains each member as it
    would alone, all on the same batches; loss and metrics are means over the members.
    Raises ValueError unless `members` is a positive integer.

    >>> from fnn.layers import Dense
    >>> init, apply = Ensemble(Dense(2), 5)
    >>> apply(*init(jax.random.key(0), jnp.ones((1, 3))), jnp.ones((1, 3)))[0].shape
    (1, 5, 2)
    """

    masking = "inside"
    stacked = True
    casts_inputs = False

    inner: Layer
    members: int = positive(default=2)

    def children(self) -> tuple[tuple[str | None, Layer], ...]:
        return ((None, self.inner),)

    @property
    def ensemble_size(self) -> int:
        return self.members

    def inside(self, x: SpecTree) -> SpecTree:
        """The inputs of each copy."""
        return x

    def init(self, key: Array, x: SpecTree) -> tuple[Params, State]:
        return init_copies(self.inner, key, self.members, x)

    def apply(
        self,
        params: Params,
        state: State,
        x: Tree,
        ctx: Context = INFERENCE,
    ) -> tuple[Tree, State]:
        def member(
            index: Array,
            params: Params,
            state: State,
        ) -> tuple[Tree, State]:
            return call(self.inner, params, state, x, ctx.repeat(index))

        # Outputs are (batch, members, ...); weights and states are (members, ...).
        run = jax.vmap(member, out_axes=(1, 0))
        index, x = beside_copies(params, jnp.arange(self.members), x)
        return run(index, params, state)


class Spread(Wrapper):
    """Mean and standard deviation of the outputs over the members of an `Ensemble`.

    The outputs are (mean, deviation), each `(batch, ...)`. The variance is divided by the number of
    members, and is 0 where all agree: it shows where there was too little training data, not how
    noisy the targets are.
    Raises TypeError if `inner` is not an Ensemble (Lakshminarayanan et al. 2017, section 2.4).

    >>> from fnn.layers import Dense
    >>> init, apply = Spread(Ensemble(Dense(2), 5))
    >>> params, state = init(jax.random.key(0), jnp.ones((1, 3)))
    >>> (mean, deviation), _ = apply(params, state, jnp.ones((1, 3)))
    >>> mean.shape, deviation.shape
    ((1, 2), (1, 2))
    """

    field_rules = (
        Rule(
            "inner",
            lambda layer: isinstance(layer.inner, Ensemble),
            "to be an Ensemble",
            "use Spread(Ensemble(layer, 5))",
            TypeError,
        ),
    )

    def apply(
        self,
        params: Params,
        state: State,
        x: Tree,
        ctx: Context = INFERENCE,
    ) -> tuple[Tree, State]:
        y, state = call(self.inner, params, state, x, ctx)
        mean = _over_members(lambda a: a.mean(1), y)
        deviation = _over_members(_deviation, y)
        return (mean, deviation), state


def _over_members(reduce: Callable[[Array], Array], outputs: Tree) -> Tree:
    """`reduce` over axis 1 of each output; a step is valid if all members say so."""

    def reduced(output: Tree) -> Tree:
        values, mask = split_mask(output)
        values = reduce(values)
        if mask is not None:
            mask = mask.all(1)
        return attach_mask(values, mask)

    return jax.tree.map(reduced, outputs, is_leaf=is_masked)


def _deviation(y: Array) -> Array:
    """The standard deviation over axis 1, with a gradient of 0 where it is 0."""
    variance = y.var(1)  # (batch, ...)
    varies = variance > 0
    # sqrt of 1 where the variance is 0: the gradient of sqrt(0) is infinite.
    deviation = jnp.sqrt(jnp.where(varies, variance, 1))
    return jnp.where(varies, deviation, 0)
