"""Wrappers: one layer run in another way: residual, parallel, frozen, rematerialized, over time."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import field
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from fnn.core import arguments
from fnn.core.calling import call, init_copies, initialize, unique_names
from fnn.core.combining import Flow, PassingWrapper, Visit, Wrapper
from fnn.core.context import INFERENCE, Context
from fnn.core.fields import positive
from fnn.core.layer import Layer, Params, State
from fnn.core.masking import Masked, attach_mask, carry_mask, is_masked, split_mask
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
        self, params: Params, state: State, x: Any, ctx: Context = INFERENCE
    ) -> tuple[Any, State]:
        y, state = call(self.inner, params, state, x, ctx)
        (before, _), (after, mask) = split_mask(x), split_mask(y)
        if before.shape != after.shape:
            raise ValueError(
                f"Residual: expected an inner layer that keeps the shape {tuple(before.shape)}, "
                f"received one that returns {tuple(after.shape)}; make them equal"
            )
        return attach_mask(before + after, mask), state


class Parallel(Flow):
    """Gives every layer the same inputs and hands the outputs to `merge` as a tuple.

    `merge` is a layer of several inputs (`Add()`, `Concatenate()`); None returns the tuple.

    >>> from fnn.layers import Concatenate, Dense
    >>> init, apply = Parallel([Dense(2), Dense(3)], merge=Concatenate())
    >>> apply(*init(jax.random.key(0), jnp.ones((1, 4))), jnp.ones((1, 4)))[0].shape
    (1, 5)
    """

    layers: Sequence[Layer] = ()
    merge: Layer | None = None

    def validate(self) -> None:
        arguments.layers(self)
        if self.merge is not None:
            arguments.layer(self, self.merge, "as merge")
        unique_names(self._all)

    @property
    def _all(self) -> tuple[Layer, ...]:
        return (*self.layers, *(() if self.merge is None else (self.merge,)))

    def children(self) -> tuple[tuple[str | None, Layer], ...]:
        return tuple(zip(unique_names(self._all), self._all, strict=True))

    def flow(self, x: Any, visit: Visit) -> Any:
        names = unique_names(self._all)
        outputs = tuple(
            visit(name, layer, x)
            for name, layer in zip(names, self.layers, strict=False)
        )
        return outputs if self.merge is None else visit(names[-1], self.merge, outputs)


class Frozen(PassingWrapper):
    """Runs `inner` without training it: no gradient, no optimizer slots, no batch statistics.

    Dropout stays on in training, as in Keras. The same as `inner.replace(trainable=False)`.

    >>> from fnn.layers import Dense
    >>> Frozen(Dense(3)).trainable
    False
    """

    trainable: bool = field(default=False, kw_only=True)


class Remat(PassingWrapper):
    """Computes `inner` again in the backward pass instead of keeping what it computed.

    Saves memory for time; numbers stay the same (`jax.checkpoint`).

    >>> from fnn.layers import Dense
    >>> sorted(Remat(Dense(3)).init(jax.random.key(0), jnp.ones((1, 2)))[0])  # those of `inner`
    ['bias', 'kernel']
    """

    def apply(
        self, params: Params, state: State, x: Any, ctx: Context = INFERENCE
    ) -> tuple[Any, State]:
        def run(
            params: Params, state: State, x: Any, ctx: Context
        ) -> tuple[Any, State]:
            return call(self.inner, params, state, x, ctx)

        return jax.checkpoint(run)(params, state, x, ctx)


class Inference(PassingWrapper):
    """Runs `inner` as in inference, also while the network trains; its weights still learn.

    What Keras writes as `layer(x, training=False)`: batch norm by its moving averages, no dropout.

    >>> from fnn.layers import Dropout
    >>> ctx = fnn.Context(train=True, key=jax.random.key(1))
    >>> Inference(Dropout(0.5)).apply({}, {}, jnp.ones((1, 4)), ctx)[0].tolist()
    [[1.0, 1.0, 1.0, 1.0]]
    """

    def apply(
        self, params: Params, state: State, x: Any, ctx: Context = INFERENCE
    ) -> tuple[Any, State]:
        return call(self.inner, params, state, x, ctx.replace(train=False))


class TimeDistributed(Wrapper):
    """`inner` on every time step alike.   (batch, time, ...) -> (batch, time, ...)

    Steps are folded into the batch, so batch statistics are over all of them (padded rows and
    masked steps are left out), and each step has its own dropout mask. A mask of further axes,
    `(batch, time, words)`, goes to `inner`; a step with a real word is real.
    Raises ValueError for inputs of fewer than three axes.

    >>> from fnn.layers import Flatten
    >>> init, apply = TimeDistributed(Flatten())
    >>> apply(*init(jax.random.key(0), jnp.ones((2, 5, 4, 3))), jnp.ones((2, 5, 4, 3)))[0].shape
    (2, 5, 12)
    """

    by_step = True

    def inside(self, x: Any) -> Any:
        """The first step."""
        return jax.tree.map(lambda a: a[:, 0], x.values if isinstance(x, Masked) else x)

    def init(self, key: Array, x: Any) -> tuple[Params, State]:
        values = self._values(x)
        step = jax.ShapeDtypeStruct((values.shape[0], *values.shape[2:]), values.dtype)
        return initialize(self.inner, key, step)

    def apply(
        self, params: Params, state: State, x: Any, ctx: Context = INFERENCE
    ) -> tuple[Any, State]:
        x, ctx = carry_mask(x, ctx)
        (values, mask), (batch, time) = split_mask(x), self._values(x).shape[:2]
        fold = lambda a: a.reshape(batch * time, *a.shape[2:])
        unfold = lambda a: a.reshape(batch, time, *a.shape[1:])
        steps, rows = (
            fold(values),
            ctx.rows if ctx.rows is None else jnp.repeat(ctx.rows, time),
        )
        if mask is not None:
            if mask.ndim > 2:  # steps with masks of their own: sentences of words
                steps, mask = (
                    Masked(steps, fold(mask)),
                    mask.any(tuple(range(2, mask.ndim))),
                )
            rows = fold(mask) if rows is None else rows & fold(mask)
        y, state = call(self.inner, params, state, steps, ctx.replace(rows=rows))
        y = jax.tree.map(unfold, y)
        return y if isinstance(y, Masked) else jax.tree.map(
            lambda a: attach_mask(a, mask), y
        ), state

    def _values(self, x: Any) -> Any:
        values = x.values if isinstance(x, Masked) else x
        arguments.minimum_rank(self, values, 3, "(batch, time, features, ...)")
        return values


class Ensemble(Layer):
    """`members` networks of one architecture, trained side by side in one `vmap`.

    x -> the outputs of the members side by side, `(batch, members, ...)`. Weights have a leading
    axis of members; each has its own initial weights and its own randomness. `fit` trains each as
    it would alone, all on the same batches; loss and metrics are the means of theirs.
    Raises ValueError unless `members` is an integer above 0.

    >>> from fnn.layers import Dense
    >>> init, apply = Ensemble(Dense(2), 5)
    >>> apply(*init(jax.random.key(0), jnp.ones((1, 3))), jnp.ones((1, 3)))[0].shape
    (1, 5, 2)
    """

    masking = "inside"
    stacked = True

    inner: Layer
    members: int = positive(default=2)

    def validate(self) -> None:
        arguments.layer(self, self.inner, "as inner")

    def children(self) -> tuple[tuple[str | None, Layer], ...]:
        return ((None, self.inner),)

    @property
    def ensemble_size(self) -> int:
        return self.members

    def inside(self, x: Any) -> Any:
        """What each copy is given, or the first one."""
        return x

    def init(self, key: Array, x: Any) -> tuple[Params, State]:
        return init_copies(self.inner, key, self.members, x)

    def apply(
        self, params: Params, state: State, x: Any, ctx: Context = INFERENCE
    ) -> tuple[Any, State]:
        def member(index: Array, params: Params, state: State) -> tuple[Any, State]:
            return call(self.inner, params, state, x, ctx.repeat(index))

        run = jax.vmap(member, out_axes=(1, 0))
        index, x = beside_copies(params, jnp.arange(self.members), x)
        return run(index, params, state)


class Spread(Wrapper):
    """What the members of an ensemble say on average, and how far apart they are.

    x -> (mean, standard deviation), each `(batch, ...)`, of the outputs of an `Ensemble`. The
    deviation is that of the members themselves (divided by their number), 0 where all agree: it
    shows where the networks have seen too little, not how noisy the targets are.
    Raises TypeError if `inner` is no Ensemble (Lakshminarayanan et al. 2017, section 2.4).

    >>> from fnn.layers import Dense
    >>> init, apply = Spread(Ensemble(Dense(2), 5))
    >>> params, state = init(jax.random.key(0), jnp.ones((1, 3)))
    >>> (mean, deviation), _ = apply(params, state, jnp.ones((1, 3)))
    >>> mean.shape, deviation.shape
    ((1, 2), (1, 2))
    """

    def validate(self) -> None:
        if not isinstance(self.inner, Ensemble):
            raise TypeError(
                f"Spread: expected an Ensemble as inner, received {self.inner!r}; "
                "use Spread(Ensemble(layer, 5))"
            )

    def apply(
        self, params: Params, state: State, x: Any, ctx: Context = INFERENCE
    ) -> tuple[Any, State]:
        def over_members(function: Any, output: Any) -> Any:
            values, mask = split_mask(output)
            return attach_mask(function(values), None if mask is None else mask.all(1))

        y, state = call(self.inner, params, state, x, ctx)
        mean, deviation = (
            jax.tree.map(
                functools.partial(over_members, function), y, is_leaf=is_masked
            )
            for function in (lambda a: a.mean(1), _deviation)
        )
        return (mean, deviation), state


def _deviation(y: Array) -> Array:
    """The standard deviation over axis 1, with a gradient of 0 where it is 0."""
    variance = y.var(1)
    spread = variance > 0
    return jnp.where(spread, jnp.sqrt(jnp.where(spread, variance, 1)), 0)
