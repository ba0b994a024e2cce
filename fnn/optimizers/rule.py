"""Rule: the base of Keras's optimizers: learning rate, clipping, weight decay, averages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from typing import TypeAlias

import jax
import jax.numpy as jnp
import optax
from jax import Array

from fnn.core.fields import fraction, not_negative, positive
from fnn.core.tree import Tree, path_name
from fnn.core.weights import as_patterns, check_matches, check_patterns
from fnn.optimizers.checks import (
    check_accumulation,
    check_clipping,
    check_learning_rate,
    check_loss_scale_factor,
    check_overwriting,
)
from fnn.optimizers.clipping import clip_by_global_norm, clip_by_norm, clip_by_value
from fnn.optimizers.optimizer import LearningRate, Optimizer, State, Weight
from fnn.runtime.patterns import matches_any
from fnn.runtime.settings import settings

Descent: TypeAlias = Callable[[Tree, State, Tree, Array], tuple[Tree, State]]


class Rule(Optimizer, loadable=False):
    """An optimizer of Keras: an optax rule with clipping, weight decay and accumulation.

    `learning_rate` is a number or a schedule (any function of the step). The state
    holds the rate of the next step: `with_learning_rate(state, value)` replaces it,
    even if it comes from a schedule, without recompiling. A subclass defines either
    `direction`, which needs no learning rate, or `rule`, which receives the rate and
    must not read `self.learning_rate`.

    The order of operations is that of Keras: gradients are averaged over
    `gradient_accumulation_steps` calls (the calls in between return updates of zero);
    they are clipped (`clipnorm`: each weight separately, `global_clipnorm`: all
    together, `clipvalue`: each element; at most one of them); the weights decay by
    `learning_rate * weight_decay`; the rule is applied. Momentum does not include the
    learning rate (as in optax; in Keras it does, which differs only while the rate
    changes).

    Accumulated gradients are averaged with the `weight` of each call. Training passes
    the number of entries in the loss of the batch, so that several batches equal one
    large batch, even if some are short or masked. With `weight=None`, which training
    passes for losses that are sums, gradients are added. (With several losses, training
    passes the number of examples. This is not exact where masks leave different
    fractions of the outputs; nor is a regularizer beside a sum, which counts with every
    batch.) Gradients still waiting at the end of an epoch are applied then (`flush`).
    Schedules count calls, as in Keras.

    All weights decay except those whose path matches a pattern in
    `exclude_from_weight_decay`. The pattern "biases_and_norms" matches biases, the
    scales and offsets of normalization layers and the slopes of PReLU, but not
    embeddings. `init` raises ValueError for a pattern that matches no weight.

    With `use_ema` the state holds a running average of the weights,
    `state["average"]`, moved by every update (in Keras also by every accumulated
    gradient). It replaces the weights every `ema_overwrite_frequency` updates, and at
    the end of `fit`.

    >>> class Sign(Rule):
    ...     def direction(self):
    ...         return optax.scale_by_sign()
    >>> optimizer, w = Sign(0.5, weight_decay=0.1), jnp.full(1, 2.0)
    >>> updates, state = optimizer.update(jnp.array([3.0]), optimizer.init(w), w)
    >>> round(updates.item(), 4)  # -0.5 * 1 - 0.5 * 0.1 * 2
    -0.6
    """

    learning_rate: LearningRate = 0.001
    weight_decay: float | None = not_negative(default=None, kw_only=True)
    exclude_from_weight_decay: tuple[str, ...] = field(
        default=(), kw_only=True, metadata={"convert": as_patterns}
    )
    clipnorm: float | None = positive(default=None, kw_only=True)
    clipvalue: float | None = positive(default=None, kw_only=True)
    global_clipnorm: float | None = positive(default=None, kw_only=True)
    use_ema: bool = field(default=False, kw_only=True)
    ema_momentum: float = fraction(default=0.99, kw_only=True)
    ema_overwrite_frequency: int | None = field(default=None, kw_only=True)
    loss_scale_factor: float | None = field(default=None, kw_only=True)
    gradient_accumulation_steps: int | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_learning_rate(self, self.learning_rate)
        check_clipping(self, ("clipnorm", "clipvalue", "global_clipnorm"))
        check_accumulation(self, self.gradient_accumulation_steps)
        check_overwriting(self, self.ema_overwrite_frequency, self.use_ema)
        check_loss_scale_factor(self, self.loss_scale_factor)
        check_patterns(
            self, "exclude_from_weight_decay", self.exclude_from_weight_decay
        )

    def direction(self) -> optax.GradientTransformation:
        """The optax transformation whose updates, times -learning_rate, are added."""
        raise TypeError(
            f"expected {type(self).__name__} to define direction(), received a class "
            "without it; return an optax transformation such as optax.scale_by_adam()"
        )

    def rule(self) -> optax.GradientTransformationExtraArgs:
        """The rule alone as an optax transformation: no clipping, decay or averages.

        Its updates are to be added as they are. The learning rate of a step is passed
        as `update(grads, state, params, learning_rate=rate)`; the default is that of
        the optimizer, which must then be a number.

        >>> from fnn.optimizers import Adam
        >>> init, update = Adam(0.1).rule()
        >>> w, g = jnp.ones(1), jnp.full(1, 3.0)
        >>> round(update(g, init(w), w)[0].item(), 4)
        -0.1
        """
        direction = self.direction()

        def descend(
            grads: Tree, state: State, params: Tree, rate: Array
        ) -> tuple[Tree, State]:
            def scale(u: Array) -> Array:
                return (-rate).astype(u.dtype) * u

            updates, state = direction.update(grads, state, params)
            return jax.tree.map(scale, updates), state

        return self.at_rate(direction.init, descend)

    def at_rate(
        self, init: Callable[[Tree], State], descend: Descent
    ) -> optax.GradientTransformationExtraArgs:
        """A transformation from `descend(grads, state, params, rate)`.

        `descend` returns the updates and the new state.
        """

        def update(
            grads: Tree,
            state: State,
            params: Tree = None,
            *,
            learning_rate: Array | float | None = None,
            **extra: object,
        ) -> tuple[Tree, State]:
            rate = learning_rate
            if rate is None:
                rate = self._constant_rate()
            return descend(grads, state, params, jnp.asarray(rate, settings.floatx))

        return optax.GradientTransformationExtraArgs(init, update)

    def _constant_rate(self) -> float:
        rate: float | Callable[..., Array] | None = self.learning_rate
        if callable(rate) or rate is None:
            raise ValueError(
                f"{type(self).__name__}: the learning rate of its rule is not a number, so "
                "pass that of the step: rule.update(grads, state, params, learning_rate=0.1)"
            )
        return rate

    def decays(self, params: Tree) -> Tree:
        """The decay of each weight, a tree like `params`; None if no weight decays."""
        if not self.weight_decay:
            return None
        return jax.tree.map(lambda p: self.weight_decay, params)

    @property
    def accumulates(self) -> bool:
        return self.gradient_accumulation_steps is not None

    @property
    def averages(self) -> bool:
        return self.use_ema

    def init(self, params: Tree) -> State:
        leaves = jax.tree_util.tree_leaves_with_path(params)
        paths = [path_name(path) for path, _ in leaves]
        patterns = self.exclude_from_weight_decay
        check_matches(self, "exclude_from_weight_decay", patterns, paths)

        state = dict(super().init(params))
        state["rule"] = self.rule().init(params)
        if self.accumulates:
            state["accumulated"] = _empty_accumulator(params)
        if self.use_ema:
            # Copies: the weights themselves may be donated.
            state["average"] = jax.tree.map(jnp.array, params)
            state["updates"] = jnp.zeros((), jnp.int32)
        return state

    def update(
        self,
        grads: Tree,
        state: State,
        params: Tree = None,
        weight: Weight = 1.0,
        **extra: object,
    ) -> tuple[Tree, State]:
        if params is None and (self.weight_decay or self.use_ema):
            raise missing_params(self, "weight decay and averages need")
        if self.accumulates:
            updates, new = self._accumulate(grads, state, params, weight)
        else:
            updates, new = self._step(grads, state, params)
        # The count stays at the largest int32 instead of overflowing.
        step = optax.safe_increment(state["step"])
        new = {**new, "step": step, "learning_rate": self.rate_at(state, step)}
        return updates, new

    def _accumulate(
        self, grads: Tree, state: State, params: Tree, weight: Weight
    ) -> tuple[Tree, State]:
        """Adds gradients to the accumulator; applies them when there are enough."""
        old = state["accumulated"]
        factor: Array | float = 1.0
        if weight is not None:
            factor = weight

        def add(total: Array, g: Array) -> Array:
            return total + factor * g.astype(total.dtype)

        sums = jax.tree.map(add, old["sum"], grads)
        # Sums are divided by 1 when they are released.
        total_weight = jnp.ones(())
        if weight is not None:
            total_weight = old["weight"] + weight
        count = old["count"] + 1
        new = {"sum": sums, "weight": total_weight, "count": count}
        state = {**state, "accumulated": new}

        def wait() -> tuple[Tree, State]:
            return jax.tree.map(jnp.zeros_like, grads), state

        result: tuple[Tree, State] = jax.lax.cond(
            count >= self.gradient_accumulation_steps,
            lambda: self._release(grads, state, params),
            wait,
        )
        return result

    def _release(
        self,
        like: Tree,
        state: State,
        params: Tree,
    ) -> tuple[Tree, State]:
        """The update by the accumulated gradients, and the state with none left."""
        held = state["accumulated"]
        # All entries may be masked: then the sum is 0, and stays 0.
        weight = jnp.where(held["weight"] == 0, 1, held["weight"])

        def mean(total: Array, g: Array) -> Array:
            return (total / weight).astype(g.dtype)

        grads = jax.tree.map(mean, held["sum"], like)
        updates, state = self._step(grads, state, params)
        return updates, {**state, "accumulated": _empty_accumulator(like)}

    def flush(self, state: State, params: Tree) -> tuple[Tree, State]:
        zeros = jax.tree.map(jnp.zeros_like, params)
        if not self.accumulates:
            return zeros, state
        # The gradients belong to the step before, and so does their learning rate.
        rate = self.rate_at(state, state["step"] - 1)
        last = {**state, "learning_rate": rate}

        def release() -> tuple[Tree, State]:
            updates, new = self._release(params, last, params)
            return updates, {**new, "learning_rate": state["learning_rate"]}

        def keep() -> tuple[Tree, State]:
            return zeros, state

        waiting: Array = state["accumulated"]["count"] > 0
        result: tuple[Tree, State] = jax.lax.cond(waiting, release, keep)
        return result

    def without_rate(self) -> Rule:
        if callable(self.learning_rate):
            return self
        return self._changed(learning_rate=None)

    def average(self, state: State, params: Tree) -> Tree:
        if not self.use_ema:
            return params
        return state["average"]

    def _step(
        self,
        grads: Tree,
        state: State,
        params: Tree,
    ) -> tuple[Tree, State]:
        """One update: clipping, weight decay, the rule, the average of the weights."""
        rate: Array = state["learning_rate"]
        rule = self.rule()
        clipped = self._clip(grads)
        decays = self._decays(params)
        if decays is None:
            updates, inner = rule.update(
                clipped, state["rule"], params, learning_rate=rate
            )
        else:

            def shrinkage(p: Array, decay: float) -> Array:
                return (-rate * decay).astype(p.dtype) * p

            # The rule sees the weights after their decay, as in Keras.
            lost = jax.tree.map(shrinkage, params, decays)
            shrunk = jax.tree.map(jnp.add, params, lost)
            updates, inner = rule.update(
                clipped, state["rule"], shrunk, learning_rate=rate
            )
            updates = jax.tree.map(jnp.add, updates, lost)

        updates = jax.tree.map(lambda u, g: u.astype(g.dtype), updates, grads)
        state = {**state, "rule": inner}
        if self.use_ema:
            return self._averaged(updates, state, params)
        return updates, state

    def _clip(self, grads: Tree) -> Tree:
        if self.clipvalue is not None:
            return clip_by_value(grads, self.clipvalue)
        if self.clipnorm is not None:
            return clip_by_norm(grads, self.clipnorm)
        if self.global_clipnorm is not None:
            return clip_by_global_norm(grads, self.global_clipnorm)
        return grads

    def _decays(self, params: Tree) -> Tree:
        """`decays`, with 0 for the excluded weights."""
        decays = self.decays(params)
        patterns = self.exclude_from_weight_decay
        if decays is None or not patterns:
            return decays

        def unless_excluded(path: tuple[object, ...], decay: float) -> float:
            if matches_any(patterns, path_name(path)):
                return 0.0
            return decay

        return jax.tree_util.tree_map_with_path(unless_excluded, decays)

    def _averaged(
        self, updates: Tree, state: State, params: Tree
    ) -> tuple[Tree, State]:
        """Moves the average of the weights; overwrites the weights with it when due."""
        count = state["updates"] + 1
        # The first update copies the weights, as in Keras.
        keep = jnp.where(count == 1, 0, self.ema_momentum)
        moved = jax.tree.map(jnp.add, params, updates)

        def mean(a: Array, p: Array) -> Array:
            return (keep * a + (1 - keep) * p).astype(p.dtype)

        average = jax.tree.map(mean, state["average"], moved)
        if self.ema_overwrite_frequency:
            due = count % self.ema_overwrite_frequency == 0

            def overwrite(u: Array, a: Array, p: Array) -> Array:
                return jnp.where(due, a - p, u)

            updates = jax.tree.map(overwrite, updates, average, params)
        return updates, {**state, "average": average, "updates": count}


def missing_params(rule: Rule, reader: str) -> ValueError:
    """The error for an update that needs the weights and was called without them."""
    return ValueError(
        f"{type(rule).__name__}: expected params, which {reader}, received None; call "
        "optimizer.update(grads, state, params)"
    )


def _empty_accumulator(like: Tree) -> State:
    """An accumulator without gradients; it sums in float32 at least."""

    def zeros(p: Array) -> Array:
        return jnp.zeros(p.shape, jnp.promote_types(p.dtype, "float32"))

    weight = jnp.zeros((), jnp.float32)
    return {
        "sum": jax.tree.map(zeros, like),
        "weight": weight,
        "count": jnp.zeros((), jnp.int32),
    }
