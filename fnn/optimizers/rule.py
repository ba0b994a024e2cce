"""Rule: what every optimizer of Keras does around its rule: rate, clipping, decay, averages."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import field
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from fnn.core.arguments import wrong
from fnn.core.fields import fraction, not_negative, positive
from fnn.core.tree import check_matches, check_patterns, matches_any, path_name
from fnn.optimizers.optimizer import Optimizer, State


def _as_patterns(patterns: Any) -> Any:
    """Several patterns, where one was given."""
    return (patterns,) if isinstance(patterns, str) else patterns


class Rule(Optimizer, loadable=False):
    """An optimizer of Keras: a rule of optax, with clipping, weight decay and accumulation around.

    `learning_rate` is a number or a schedule (any function of the step). The state holds that of
    the next step: `with_learning_rate(state, value)` sets a number, also in place of the schedule,
    and nothing is compiled anew. A rule of your own writes `direction`, which needs no rate, or
    `rule`, which is given it and must not read its own.

    In this order, as in Keras: gradients are averaged over `gradient_accumulation_steps` calls (the
    updates between are zeros), clipped (`clipnorm` each weight by itself, `global_clipnorm` all
    together, `clipvalue` each number; one of them), the weights decay by `learning_rate *
    weight_decay`; then comes the rule. Momentum does not contain the learning rate (as in optax; in
    Keras it does, which differs only while the rate changes).

    Each of the gradients averaged counts by `weight`: training gives the number of entries in the
    loss of its batch, so that several batches are one large one, whatever is short or masked. With
    `weight=None`, which training gives for losses that are sums, they are added. (Of several losses
    it gives the number of rows, and where masks leave their outputs different shares of steps, that
    is not exact; nor is a regularizer beside a sum, which counts with every batch.) What waits at
    the end of an epoch is taken then (`flush`).
    Schedules count calls, as in Keras.

    All weights decay, but those whose path fits a pattern in `exclude_from_weight_decay`; in it
    "biases_and_norms" stands for biases, scales and shifts of norms and the slopes of PReLU, not
    for embeddings. `init` raises ValueError for a pattern that fits no weight.

    With `use_ema` the state holds a running average of the weights, `state["average"]`, moved by
    every update (in Keras by every gradient that is accumulated, too). It takes the place of the
    weights every `ema_overwrite_frequency` updates, and at the end of `fit`.

    >>> class Sign(Rule):
    ...     def direction(self):
    ...         return optax.scale_by_sign()
    >>> optimizer, w = Sign(0.5, weight_decay=0.1), jnp.full(1, 2.0)
    >>> updates, state = optimizer.update(jnp.array([3.0]), optimizer.init(w), w)
    >>> round(updates.item(), 4)  # -0.5 * 1 - 0.5 * 0.1 * 2
    -0.6
    """

    learning_rate: Any = 0.001
    weight_decay: float | None = not_negative(default=None, kw_only=True)
    exclude_from_weight_decay: tuple[str, ...] = field(
        default=(), kw_only=True, metadata={"convert": _as_patterns}
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
        _check_shared(self)

    def direction(self) -> optax.GradientTransformation:
        """The optax transformation whose updates, times -learning_rate, are added."""
        raise TypeError(
            f"expected {type(self).__name__} to define direction(), received a class without it; "
            "return an optax transformation such as optax.scale_by_adam()"
        )

    def rule(self) -> optax.GradientTransformationExtraArgs:
        """The rule alone as an optax transformation: no clipping, weight decay or averages.

        Its updates are added as they are. `update(grads, state, params, learning_rate=rate)` takes
        the rate of this step; without it that of the optimizer, which must then be a number.

        >>> from fnn.optimizers import Adam
        >>> init, update = Adam(0.1).rule()
        >>> w, g = jnp.ones(1), jnp.full(1, 3.0)
        >>> round(update(g, init(w), w)[0].item(), 4)
        -0.1
        """
        direction = self.direction()

        def descend(
            grads: Any, state: Any, params: Any, rate: Array
        ) -> tuple[Any, Any]:
            updates, state = direction.update(grads, state, params)
            return jax.tree.map(lambda u: (-rate).astype(u.dtype) * u, updates), state

        return self.at_rate(direction.init, descend)

    def at_rate(
        self, init: Callable[[Any], Any], descend: Callable[..., tuple[Any, Any]]
    ) -> optax.GradientTransformationExtraArgs:
        """The transformation of `descend(grads, state, params, rate) -> (updates, state)`."""

        def update(
            grads: Any,
            state: Any,
            params: Any = None,
            *,
            learning_rate: Any = None,
            **extra: Any,
        ) -> tuple[Any, Any]:
            rate = self._own_rate() if learning_rate is None else learning_rate
            return descend(grads, state, params, jnp.asarray(rate, jnp.float32))

        return optax.GradientTransformationExtraArgs(init, update)

    def _own_rate(self) -> Any:
        if callable(self.learning_rate) or self.learning_rate is None:
            raise ValueError(
                f"{type(self).__name__}: the learning rate of its rule is not a number, so pass "
                "that of the step: rule.update(grads, state, params, learning_rate=0.1)"
            )
        return self.learning_rate

    def decays(self, params: Any) -> Any:
        """How much each weight decays: a tree like `params`; None if none does."""
        if not self.weight_decay:
            return None
        return jax.tree.map(lambda p: self.weight_decay, params)

    @property
    def accumulates(self) -> bool:
        return self.gradient_accumulation_steps is not None

    @property
    def averages(self) -> bool:
        return self.use_ema

    def init(self, params: Any) -> State:
        paths = [
            path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)
        ]
        check_matches(
            self, "exclude_from_weight_decay", self.exclude_from_weight_decay, paths
        )
        state = {**super().init(params), "rule": self.rule().init(params)}
        if self.accumulates:
            state["accumulated"] = _nothing(params)
        if self.use_ema:
            state["average"] = jax.tree.map(jnp.array, params)
            state["updates"] = jnp.zeros((), jnp.int32)
        return state

    def update(
        self,
        grads: Any,
        state: State,
        params: Any = None,
        weight: Any = 1.0,
        **extra: Any,
    ) -> tuple[Any, State]:
        if params is None and (self.weight_decay or self.use_ema):
            raise missing_params(self, "weight decay and averages need")
        run = self._accumulate if self.accumulates else self._step
        updates, new = run(grads, state, params, weight)
        step = optax.safe_increment(state["step"])  # stays at the last step of 32 bits
        return updates, {
            **new,
            "step": step,
            "learning_rate": self.rate_at(state, step),
        }

    def _accumulate(
        self, grads: Any, state: State, params: Any, weight: Any
    ) -> tuple[Any, State]:
        old = state["accumulated"]
        sums = weight is None
        share = 1.0 if sums else weight
        held = {
            "sum": jax.tree.map(
                lambda s, g: s + share * g.astype(s.dtype), old["sum"], grads
            ),
            "weight": jnp.ones(()) if sums else old["weight"] + weight,
            "count": old["count"] + 1,
        }
        state = {**state, "accumulated": held}
        return jax.lax.cond(
            held["count"] >= self.gradient_accumulation_steps,
            lambda: self._release(grads, state, params),
            lambda: (jax.tree.map(jnp.zeros_like, grads), state),
        )

    def _release(self, like: Any, state: State, params: Any) -> tuple[Any, State]:
        """The update by what has been accumulated."""
        held = state["accumulated"]
        weight = jnp.where(held["weight"] == 0, 1, held["weight"])
        mean = jax.tree.map(
            lambda s, g: (s / weight).astype(g.dtype), held["sum"], like
        )
        updates, state = self._step(mean, state, params)
        return updates, {**state, "accumulated": _nothing(like)}

    def flush(self, state: State, params: Any) -> tuple[Any, State]:
        none = jax.tree.map(jnp.zeros_like, params)
        if not self.accumulates:
            return none, state
        last = {**state, "learning_rate": self.rate_at(state, state["step"] - 1)}

        def release() -> tuple[Any, State]:
            updates, new = self._release(params, last, params)
            return updates, {**new, "learning_rate": state["learning_rate"]}

        return jax.lax.cond(
            state["accumulated"]["count"] > 0, release, lambda: (none, state)
        )

    def without_rate(self) -> Any:
        return (
            self if callable(self.learning_rate) else self._changed(learning_rate=None)
        )

    def average(self, state: State, params: Any) -> Any:
        return state["average"] if self.use_ema else params

    def _step(
        self, grads: Any, state: State, params: Any, weight: Any = None
    ) -> tuple[Any, State]:
        rate, rule = state["learning_rate"], self.rule()
        clipped, decays = _clip(self, grads), self._decays(params)
        if decays is None:
            updates, inner = rule.update(
                clipped, state["rule"], params, learning_rate=rate
            )
        else:
            shrink = lambda p, decay: (-rate * decay).astype(p.dtype) * p
            lost = jax.tree.map(shrink, params, decays)
            shrunk = jax.tree.map(jnp.add, params, lost)
            updates, inner = rule.update(
                clipped, state["rule"], shrunk, learning_rate=rate
            )
            updates = jax.tree.map(jnp.add, updates, lost)
        updates = jax.tree.map(lambda u, g: u.astype(g.dtype), updates, grads)
        state = {**state, "rule": inner}
        return (
            self._averaged(updates, state, params) if self.use_ema else (updates, state)
        )

    def _decays(self, params: Any) -> Any:
        """`decays` without the weights that are excluded."""
        decays, patterns = self.decays(params), self.exclude_from_weight_decay
        if decays is None or not patterns:
            return decays
        return jax.tree_util.tree_map_with_path(
            lambda path, decay: (
                0.0 if matches_any(patterns, path_name(path)) else decay
            ),
            decays,
        )

    def _averaged(self, updates: Any, state: State, params: Any) -> tuple[Any, State]:
        count = state["updates"] + 1
        keep = jnp.where(count == 1, 0, self.ema_momentum)  # the first update copies
        moved = jax.tree.map(jnp.add, params, updates)
        average = jax.tree.map(
            lambda a, p: (keep * a + (1 - keep) * p).astype(p.dtype),
            state["average"],
            moved,
        )
        if self.ema_overwrite_frequency:
            now = count % self.ema_overwrite_frequency == 0
            updates = jax.tree.map(
                lambda u, a, p: jnp.where(now, a - p, u), updates, average, params
            )
        return updates, {**state, "average": average, "updates": count}


def missing_params(rule: Rule, reader: str) -> ValueError:
    """The error where an update needs the weights and was not given them."""
    return ValueError(
        f"{type(rule).__name__}: expected params, which {reader}, received None; use "
        "optimizer.update(grads, state, params)"
    )


def _nothing(like: Any) -> Any:
    """An accumulator without gradients: sums in float32 at least."""
    wide = lambda p: jnp.zeros(p.shape, jnp.promote_types(p.dtype, "float32"))
    zero = jnp.zeros((), jnp.float32)
    return {
        "sum": jax.tree.map(wide, like),
        "weight": zero,
        "count": jnp.zeros((), jnp.int32),
    }


def _check_shared(rule: Rule) -> None:
    rate, name = rule.learning_rate, type(rule).__name__
    if not callable(rate) and not _plain(rate):
        raise wrong(rule, "learning_rate", "to be a number or a schedule", rate)
    if not callable(rate) and not (math.isfinite(rate) and rate >= 0):
        raise wrong(
            rule, "learning_rate", "to be finite and not below 0", rate, "e.g. 0.001"
        )
    clips = ("clipnorm", "clipvalue", "global_clipnorm")
    given = [c for c in clips if getattr(rule, c) is not None]
    if len(given) > 1:
        raise ValueError(
            f"{name}: expected one kind of clipping, received {' and '.join(given)}; drop one"
        )
    steps = rule.gradient_accumulation_steps
    if steps is not None and (not isinstance(steps, int) or steps < 2):
        raise wrong(
            rule, "gradient_accumulation_steps", "to be an integer above 1", steps
        )
    often = rule.ema_overwrite_frequency
    if often is not None and (
        not isinstance(often, int) or often < 1 or not rule.use_ema
    ):
        raise wrong(
            rule,
            "ema_overwrite_frequency",
            "to be an integer above 0, with use_ema",
            often,
        )
    if rule.loss_scale_factor is not None:
        raise wrong(
            rule,
            "loss_scale_factor",
            "to be None, since gradients are not scaled here",
            rule.loss_scale_factor,
            "wrap it in LossScaleOptimizer, or train in bfloat16, which needs no scaling",
        )
    check_patterns(rule, "exclude_from_weight_decay", rule.exclude_from_weight_decay)


def _plain(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _clip(rule: Rule, grads: Any) -> Any:
    if rule.clipvalue is not None:
        limit = rule.clipvalue
        return jax.tree.map(lambda g: jnp.clip(g, -limit, limit), grads)
    if rule.clipnorm is not None:
        return jax.tree.map(lambda g: _clip_norm(g, rule.clipnorm), grads)
    if rule.global_clipnorm is not None:
        return optax.clip_by_global_norm(rule.global_clipnorm).update(
            grads, optax.EmptyState()
        )[0]
    return grads


def _clip_norm(g: Array, limit: Any) -> Array:
    norm = jnp.sqrt(jnp.square(g.astype(jnp.promote_types(g.dtype, "float32"))).sum())
    return g * (limit / jnp.maximum(norm, limit)).astype(g.dtype)
