"""Keras's optimizers that optax lacks or defines differently: Nadam, Ftrl, Muon, schedule-free."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import field

import jax
import jax.numpy as jnp
import optax
from jax import Array

from fnn.core.arguments import wrong
from fnn.core.fields import fraction, not_negative, positive
from fnn.core.tree import Tree, path_name
from fnn.core.weights import check_matches
from fnn.optimizers.optimizer import LearningRate, State
from fnn.optimizers.rule import Rule, missing_params
from fnn.runtime.patterns import BIASES_AND_NORMS, matches


def _full(params: Tree, value: float = 0.0) -> Tree:
    """A tree like the weights filled with a value, in float32 at least: sums need it."""

    def fill(p: Array) -> Array:
        dtype = jnp.promote_types(p.dtype, "float32")
        return jnp.full(p.shape, value, dtype)

    return jax.tree.map(fill, params)


def _mean(
    decay: float,
    old: Tree,
    new: Tree,
) -> Tree:
    """The running means of the leaves after one more tree."""

    def move(mean: Array, value: Array) -> Array:
        return mean + (value - mean) * (1 - decay)

    return jax.tree.map(move, old, new)


class Nadam(Rule):
    """Adam with Nesterov momentum, which rises from about half of `beta_1` to `beta_1`.

    The momentum schedule `beta_1 (1 - 0.96 ** t / 2)` is that of Keras and of the paper;
    optax's nadam has none.
    Source: Dozat 2016, Incorporating Nesterov Momentum into Adam, algorithm 2.

    >>> optimizer, w = Nadam(0.1), jnp.zeros(2)
    >>> updates, state = optimizer.update(jnp.array([3.0, -0.5]), optimizer.init(w), w)
    >>> [round(v, 4) for v in updates.tolist()]  # Adam's 0.1, and the look ahead
    [-0.1063, 0.1063]
    """

    learning_rate: LearningRate = 0.001
    beta_1: float = fraction(default=0.9)
    beta_2: float = fraction(default=0.999)
    epsilon: float = positive(default=1e-7)

    def direction(self) -> optax.GradientTransformation:
        def init(params: Tree) -> State:
            return {
                "step": jnp.zeros((), jnp.int32),
                "m": _full(params),
                "v": _full(params),
                "product": jnp.ones(()),  # of the momentum of all steps so far
            }

        return optax.GradientTransformation(init, self._scale)

    def _scale(
        self,
        grads: Tree,
        state: State,
        params: Tree = None,
    ) -> tuple[Tree, State]:
        step = optax.safe_increment(state["step"]).astype("float32")
        now = self.beta_1 * (1 - 0.5 * 0.96**step)
        ahead = self.beta_1 * (1 - 0.5 * 0.96 ** (step + 1))
        product = state["product"] * now
        m = _mean(self.beta_1, state["m"], grads)
        squares = jax.tree.map(jnp.square, grads)
        v = _mean(self.beta_2, state["v"], squares)

        def direction(
            g: Array,
            m: Array,
            v: Array,
        ) -> Array:
            momentum = ahead * m / (1 - product * ahead)
            look: Array = momentum + (1 - now) * g / (1 - product)
            deviation = jnp.sqrt(v / (1 - self.beta_2**step))
            return look / (deviation + self.epsilon)

        updates = jax.tree.map(direction, grads, m, v)
        return updates, {
            "step": optax.safe_increment(state["step"]),
            "m": m,
            "v": v,
            "product": product,
        }


class Ftrl(Rule):
    """Follow the regularized leader: Adagrad's steps, with weights set to 0 by an l1 penalty.

    For wide sparse linear models. The rule assumes that weights start at 0: a weight that
    has had no gradient becomes 0 in the first update. The shrinkage is an l2 penalty on
    the gradient only. Source: McMahan et al. 2013, Ad Click Prediction, algorithm 1.

    >>> optimizer, w = Ftrl(0.5, l1_regularization_strength=1.0), jnp.zeros(2)
    >>> updates, state = optimizer.update(jnp.array([3.0, -0.5]), optimizer.init(w), w)
    >>> [round(abs(v), 4) for v in updates.tolist()]  # 0.5 (3 - 1) / sqrt(9.1); 0.5 is below l1
    [0.3315, 0.0]
    """

    learning_rate: LearningRate = 0.001
    learning_rate_power: float = -0.5
    initial_accumulator_value: float = not_negative(default=0.1)
    l1_regularization_strength: float = not_negative(default=0.0)
    l2_regularization_strength: float = not_negative(default=0.0)
    l2_shrinkage_regularization_strength: float = not_negative(default=0.0)
    beta: float = not_negative(default=0.0)

    def validate(self) -> None:
        if not self.learning_rate_power <= 0:
            power = self.learning_rate_power
            raise wrong(self, "learning_rate_power", "not to be above 0", power)

    def rule(self) -> optax.GradientTransformationExtraArgs:
        start = self.initial_accumulator_value

        def init(params: Tree) -> State:
            return {"sums": _full(params, start), "linear": _full(params)}

        return self.at_rate(init, self._descend)

    def _descend(
        self,
        grads: Tree,
        state: State,
        params: Tree,
        rate: Array,
    ) -> tuple[Tree, State]:
        if params is None:
            raise missing_params(self, "the rule needs")
        power = -self.learning_rate_power
        l1 = self.l1_regularization_strength
        l2 = self.l2_regularization_strength + self.beta / (2 * rate)
        shrinkage = self.l2_shrinkage_regularization_strength

        def step(
            g: Array,
            p: Array,
            total: Array,
            linear: Array,
        ) -> tuple[Array, Array, Array]:
            new_total = total + jnp.square(g)
            sigma = (new_total**power - total**power) / rate
            linear = linear + g + 2 * shrinkage * p - sigma * p
            # 0 where |linear| <= l1: the weight becomes exactly 0.
            pulled = jnp.clip(linear, -l1, l1) - linear
            update = pulled / (new_total**power / rate + 2 * l2) - p
            return update, new_total, linear

        updates, sums, linear = _map_leaves(
            step, grads, params, state["sums"], state["linear"]
        )
        return updates, {"sums": sums, "linear": linear}


def _map_leaves(
    function: Callable[..., tuple[Array, ...]],
    first: Tree,
    *rest: Tree,
) -> tuple[Tree, ...]:
    """`jax.tree.map` of a function with several results: one tree for each result."""
    leaves, treedef = jax.tree.flatten(first)
    columns = [leaves, *map(jax.tree.leaves, rest)]
    results = [function(*row) for row in zip(*columns, strict=True)]
    columns_of_results = zip(*results, strict=True)
    return tuple(jax.tree.unflatten(treedef, column) for column in columns_of_results)


class ScheduleFreeAdamW(Rule):
    """Adam with weights averaged over all steps: it needs no learning rate schedule.

    The trained weights are y = beta_1 x + (1 - beta_1) z, where z takes Adam's steps and
    x is the mean of z. `weight_decay` applies to y.
    Source: Defazio et al. 2024, The Road Less Scheduled, algorithm 1.

    >>> optimizer, w, g = ScheduleFreeAdamW(0.1), jnp.zeros(1), jnp.ones(1)
    >>> first, state = optimizer.update(g, optimizer.init(w), w)
    >>> second, state = optimizer.update(g, state, w + first)  # z moves by 0.1, its mean by 0.05
    >>> round(first.item(), 3), round(second.item(), 3)
    (-0.1, -0.055)
    """

    learning_rate: LearningRate = 0.0025
    beta_1: float = fraction(default=0.9)
    beta_2: float = fraction(default=0.999)
    epsilon: float = positive(default=1e-8)
    warmup_steps: int = 0

    def validate(self) -> None:
        if not self.beta_1 > 0:
            raise wrong(self, "beta_1", "to be above 0", self.beta_1)
        if not isinstance(self.warmup_steps, int) or self.warmup_steps < 0:
            raise wrong(self, "warmup_steps", "to be an integer", self.warmup_steps)

    def rule(self) -> optax.GradientTransformationExtraArgs:
        def init(params: Tree) -> State:
            # The sum makes a copy: the weights themselves may be donated.
            z = jax.tree.map(jnp.add, _full(params), params)
            return {
                "step": jnp.zeros((), jnp.int32),
                "z": z,
                "v": _full(params),
            }

        return self.at_rate(init, self._descend)

    def _descend(
        self,
        grads: Tree,
        state: State,
        params: Tree,
        rate: Array,
    ) -> tuple[Tree, State]:
        if params is None:
            raise missing_params(self, "the rule needs")
        step = optax.safe_increment(state["step"]).astype("float32")
        if self.warmup_steps:
            rate = rate * jnp.minimum(step / self.warmup_steps, 1)
        squares = jax.tree.map(jnp.square, grads)
        v = _mean(self.beta_2, state["v"], squares)
        beta = self.beta_1

        def move(
            g: Array,
            y: Array,
            z: Array,
            v: Array,
        ) -> tuple[Array, Array]:
            x = (y - (1 - beta) * z) / beta
            z = z - rate * g / (jnp.sqrt(v / (1 - self.beta_2**step)) + self.epsilon)
            x = (1 - 1 / step) * x + z / step
            return (1 - beta) * z + beta * x - y, z

        updates, z = _map_leaves(move, grads, params, state["z"], v)
        return updates, {
            "step": optax.safe_increment(state["step"]),
            "z": z,
            "v": v,
        }


def _is_glob(pattern: str) -> bool:
    """Whether this is a pattern of whole paths, which no regular expression looks like."""
    stars = "**" in pattern or "/*" in pattern or pattern.startswith("*")
    return stars or pattern == BIASES_AND_NORMS


class Muon(Rule):
    """Orthogonalized momentum for matrices; Adam for all other weights.

    The update of a matrix with momentum U S V^T is approximately U V^T, computed by
    `ns_steps` of a Newton-Schulz iteration, times sqrt(longer side) * `rms_rate`. Adam's
    step, at `adam_lr_ratio` times the learning rate, applies to weights that do not have
    2 axes, to those with "embedding" in their path (`exclude_embeddings`), and to those
    that `exclude_layers` names: by patterns such as `decoder/**`, which `ByPath` takes too
    (`init` raises ValueError for one that matches no weight), or by regular expressions, found
    anywhere in a path, as in Keras. As in `Adam`, it differs from Keras where gradients are as
    small as epsilon.
    Source: Jordan et al. 2024, Muon; Liu et al. 2025, Muon is Scalable, section 2.

    >>> optimizer = Muon(1.0, weight_decay=None, adam_weight_decay=None, rms_rate=None)
    >>> w = jnp.eye(2)
    >>> updates, state = optimizer.update(jnp.diag(jnp.array([3.0, 0.1])), optimizer.init(w), w)
    >>> [round(v, 1) for v in jnp.diag(updates).tolist()]  # near 1, not 3 and 0.1
    [-0.7, -1.1]
    """

    learning_rate: LearningRate = 0.001
    adam_beta_1: float = fraction(default=0.9)
    adam_beta_2: float = fraction(default=0.999)
    adam_weight_decay: float | None = not_negative(default=0.004)
    epsilon: float = positive(default=1e-7)
    weight_decay: float | None = field(default=0.004, kw_only=True)
    exclude_layers: tuple[str, ...] | None = field(default=None, kw_only=True)
    exclude_embeddings: bool = field(default=True, kw_only=True)
    muon_a: float = field(default=3.4445, kw_only=True)
    muon_b: float = field(default=-4.775, kw_only=True)
    muon_c: float = field(default=2.0315, kw_only=True)
    adam_lr_ratio: float = field(default=1, kw_only=True)
    momentum: float = fraction(default=0.95, kw_only=True)
    ns_steps: int = positive(default=5, kw_only=True)
    nesterov: bool = field(default=True, kw_only=True)
    rms_rate: float | None = field(default=0.2, kw_only=True)

    def labels(self, params: Tree) -> Tree:
        """The rule of each weight, "muon" or "adam"."""

        def label(path: tuple[object, ...], weight: Array) -> str:
            name = "/".join(str(getattr(part, "key", part)) for part in path)
            if len(weight.shape) != 2:
                return "adam"
            if self.exclude_embeddings and "embedding" in name.lower():
                return "adam"
            for pattern in self.exclude_layers or ():
                if matches(pattern, name):
                    return "adam"
                if not _is_glob(pattern) and re.search(pattern, name):
                    return "adam"
            return "muon"

        return jax.tree_util.tree_map_with_path(label, params)

    def init(self, params: Tree) -> State:
        leaves = jax.tree_util.tree_leaves_with_path(params)
        globs = tuple(filter(_is_glob, self.exclude_layers or ()))
        paths = [path_name(path) for path, _ in leaves]
        check_matches(self, "exclude_layers", globs, paths)
        return super().init(params)

    def decays(self, params: Tree) -> Tree:
        if not self.weight_decay and not self.adam_weight_decay:
            return None
        decay_of_label = {
            "muon": self.weight_decay or 0.0,
            "adam": self.adam_weight_decay or 0.0,
        }
        return jax.tree.map(decay_of_label.__getitem__, self.labels(params))

    def direction(self) -> optax.GradientTransformation:
        adam = optax.chain(
            optax.scale_by_adam(self.adam_beta_1, self.adam_beta_2, self.epsilon),
            optax.scale(self.adam_lr_ratio),
        )
        muon = optax.chain(
            optax.trace(self.momentum, self.nesterov),
            optax.stateless(self._orthogonalize_all),
        )
        return optax.multi_transform({"adam": adam, "muon": muon}, self.labels)

    def _orthogonalize_all(self, updates: Tree, params: Tree) -> Tree:
        return jax.tree.map(self._orthogonalize, updates)

    def _orthogonalize(self, x: Array) -> Array:
        """The nearest matrix with orthonormal rows or columns, approximately, scaled."""
        wide = x.shape[-2] <= x.shape[-1]
        # Singular values must be at most 1 for the iteration to converge.
        norm = jnp.sqrt(jnp.square(x).sum((-2, -1), keepdims=True))
        y = x / (norm + 1e-7)
        if not wide:
            y = jnp.swapaxes(y, -2, -1)  # (shorter, longer): the smaller Gram matrix
        for _ in range(self.ns_steps):
            gram = y @ jnp.swapaxes(y, -2, -1)  # (shorter, shorter)
            y = self.muon_a * y + (self.muon_b * gram + self.muon_c * gram @ gram) @ y
        if not wide:
            y = jnp.swapaxes(y, -2, -1)  # the shape of x again
        if self.rms_rate is None:
            return y
        factor: float = max(x.shape) ** 0.5 * self.rms_rate
        return y * factor
