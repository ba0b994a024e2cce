"""Keras's optimizers that optax has too: SGD, RMSprop, Adam and others."""

from __future__ import annotations

from dataclasses import field

import jax
import jax.numpy as jnp
import optax
from jax import Array

from fnn.core.arguments import wrong
from fnn.core.fields import fraction, positive
from fnn.core.tree import Tree
from fnn.optimizers.optimizer import LearningRate, State
from fnn.optimizers.rule import Rule


class SGD(Rule):
    """w - learning_rate * g; with momentum, m = momentum * m + g replaces g.

    Keras has the rate inside: m = momentum * m - learning_rate * g. The two differ only
    in the steps after the rate changes, where Keras's m still moves at the old rate
    (after 0.1 -> 0.01 at momentum 0.9: 0.14 instead of 0.06 in three steps).

    >>> optimizer = SGD(0.5)
    >>> updates, state = optimizer.update({"w": jnp.ones(1)}, optimizer.init({"w": jnp.ones(1)}))
    >>> updates["w"].tolist()
    [-0.5]
    """

    learning_rate: LearningRate = 0.01
    momentum: float = fraction(default=0.0)
    nesterov: bool = False

    def direction(self) -> optax.GradientTransformation:
        if not self.momentum:
            return optax.identity()
        return optax.trace(self.momentum, self.nesterov)


class RMSprop(Rule):
    """g / sqrt(v + epsilon), where v is a running mean of g ** 2.

    With `centered`, v is the running variance of g instead. Momentum works as in `SGD`:
    it differs from Keras in the steps after the rate changes.
    Source: Hinton 2012, Neural Networks for Machine Learning, lecture 6e.

    >>> optimizer, w = RMSprop(0.1), jnp.zeros(2)
    >>> updates, state = optimizer.update(jnp.array([3.0, -0.5]), optimizer.init(w), w)
    >>> [round(v, 4) for v in updates.tolist()]  # 0.1 / sqrt(1 - rho): no bias correction
    [-0.3162, 0.3162]
    """

    learning_rate: LearningRate = 0.001
    rho: float = fraction(default=0.9)
    momentum: float = fraction(default=0.0)
    epsilon: float = positive(default=1e-7)
    centered: bool = False

    def direction(self) -> optax.GradientTransformation:
        scale = optax.scale_by_rms
        if self.centered:
            scale = optax.scale_by_stddev
        scaled = scale(decay=self.rho, eps=self.epsilon)
        if not self.momentum:
            return scaled
        return optax.chain(scaled, optax.trace(self.momentum))


class Adam(Rule):
    """m / (sqrt(v) + epsilon), with bias-corrected running means m of g and v of g ** 2.

    Keras adds epsilon before the bias correction of v, optax (and the paper) after it.
    The two differ only for gradients as small as epsilon, where Keras's first steps are
    shorter (0.09 instead of 0.27 in three steps at 0.1 for gradients of 1e-6). `amsgrad`
    keeps the largest v: with bias correction, as in optax; Keras has none there.
    Source: Kingma and Ba 2015, Adam, algorithm 1.

    >>> optimizer, w = Adam(0.1), jnp.zeros(2)
    >>> updates, state = optimizer.update(jnp.array([3.0, -0.5]), optimizer.init(w), w)
    >>> [round(v, 4) for v in updates.tolist()]  # the first step, whatever the gradient
    [-0.1, 0.1]
    """

    learning_rate: LearningRate = 0.001
    beta_1: float = fraction(default=0.9)
    beta_2: float = fraction(default=0.999)
    epsilon: float = positive(default=1e-7)
    amsgrad: bool = False

    def direction(self) -> optax.GradientTransformation:
        scale = optax.scale_by_adam
        if self.amsgrad:
            scale = optax.scale_by_amsgrad
        return scale(b1=self.beta_1, b2=self.beta_2, eps=self.epsilon)


class AdamW(Rule):
    """Adam with weight decay: every weight also shrinks by learning_rate * weight_decay.

    Biases decay too, as in Keras and optax; the default of 0.004 is Keras's. `epsilon`
    and `amsgrad` work as in `Adam`: they differ from Keras where gradients are as small
    as epsilon.
    Source: Loshchilov and Hutter 2019, Decoupled Weight Decay Regularization, algorithm 2.

    >>> optimizer, w = AdamW(0.1, weight_decay=0.5), jnp.ones(2)
    >>> updates, state = optimizer.update(jnp.array([3.0, -0.5]), optimizer.init(w), w)
    >>> [round(v, 4) for v in updates.tolist()]  # Adam's 0.1, and 0.1 * 0.5 of the weight
    [-0.15, 0.05]
    """

    learning_rate: LearningRate = 0.001
    weight_decay: float | None = field(default=0.004, kw_only=False)
    beta_1: float = fraction(default=0.9)
    beta_2: float = fraction(default=0.999)
    epsilon: float = positive(default=1e-7)
    amsgrad: bool = False

    def direction(self) -> optax.GradientTransformation:
        scale = optax.scale_by_adam
        if self.amsgrad:
            scale = optax.scale_by_amsgrad
        return scale(b1=self.beta_1, b2=self.beta_2, eps=self.epsilon)


class Adagrad(Rule):
    """g / sqrt(s + epsilon), where s is the sum of g ** 2 so far: rare features learn faster.

    Source: Duchi et al. 2011, Adaptive Subgradient Methods, figure 1.

    >>> optimizer, w, g = Adagrad(0.1, initial_accumulator_value=0.0), jnp.zeros(1), jnp.ones(1)
    >>> first, state = optimizer.update(g, optimizer.init(w), w)
    >>> second, state = optimizer.update(g, state, w)
    >>> round(first.item(), 4), round(second.item(), 4)  # 0.1, then 0.1 / sqrt(2)
    (-0.1, -0.0707)
    """

    learning_rate: LearningRate = 0.001
    initial_accumulator_value: float = 0.1
    epsilon: float = positive(default=1e-7)

    def validate(self) -> None:
        if not self.initial_accumulator_value >= 0:
            value = self.initial_accumulator_value
            raise wrong(self, "initial_accumulator_value", "not to be below 0", value)

    def direction(self) -> optax.GradientTransformation:
        return optax.scale_by_rss(self.initial_accumulator_value, self.epsilon)


class Adadelta(Rule):
    """g times the root mean square of past updates, divided by that of past gradients.

    Both are running means. Source: Zeiler 2012, ADADELTA, algorithm 1 (with a
    `learning_rate` of 1).

    >>> optimizer, w = Adadelta(1.0), jnp.zeros(2)
    >>> updates, state = optimizer.update(jnp.array([3.0, -0.5]), optimizer.init(w), w)
    >>> [round(v, 4) for v in updates.tolist()]  # sqrt(epsilon / 0.05): the start is slow
    [-0.0014, 0.0014]
    """

    learning_rate: LearningRate = 0.001
    rho: float = fraction(default=0.95)
    epsilon: float = positive(default=1e-7)

    def direction(self) -> optax.GradientTransformation:
        return optax.scale_by_adadelta(self.rho, self.epsilon)


class Adamax(Rule):
    """m / u, where m is a running mean of g and u the largest |g| so far, decayed by `beta_2`.

    Source: Kingma and Ba 2015, Adam, algorithm 2.

    >>> optimizer, w = Adamax(0.1), jnp.zeros(2)
    >>> updates, state = optimizer.update(jnp.array([3.0, -0.5]), optimizer.init(w), w)
    >>> [round(v, 4) for v in updates.tolist()]  # the first step, whatever the gradient
    [-0.1, 0.1]
    """

    learning_rate: LearningRate = 0.001
    beta_1: float = fraction(default=0.9)
    beta_2: float = fraction(default=0.999)
    epsilon: float = positive(default=1e-7)

    def direction(self) -> optax.GradientTransformation:
        return optax.scale_by_adamax(self.beta_1, self.beta_2, self.epsilon)


class Lion(Rule):
    """The sign of a running mean of g: every weight moves by the learning rate.

    Use a third to a tenth of Adam's learning rate.
    Source: Chen et al. 2023, Symbolic Discovery of Optimization Algorithms, algorithm 2.

    >>> optimizer, w = Lion(0.1), jnp.zeros(2)
    >>> updates, state = optimizer.update(jnp.array([3.0, -0.001]), optimizer.init(w), w)
    >>> [round(v, 4) for v in updates.tolist()]  # a gradient near 0 counts like any other
    [-0.1, 0.1]
    """

    learning_rate: LearningRate = 0.001
    beta_1: float = fraction(default=0.9)
    beta_2: float = fraction(default=0.99)

    def direction(self) -> optax.GradientTransformation:
        return optax.scale_by_lion(self.beta_1, self.beta_2)


class Lamb(Rule):
    """Adam's step, scaled to the norm of the weight: for very large batches.

    Source: You et al. 2020, Large Batch Optimization, algorithm 2.

    >>> optimizer, w = Lamb(0.1), jnp.array([3.0, 4.0])
    >>> updates, state = optimizer.update(jnp.array([2.0, -0.5]), optimizer.init(w), w)
    >>> [round(v, 4) for v in updates.tolist()]  # a norm of 0.5, a tenth of the weight's
    [-0.3536, 0.3536]
    """

    learning_rate: LearningRate = 0.001
    beta_1: float = fraction(default=0.9)
    beta_2: float = fraction(default=0.999)
    epsilon: float = positive(default=1e-7)

    def direction(self) -> optax.GradientTransformation:
        adam = optax.scale_by_adam(self.beta_1, self.beta_2, self.epsilon)
        return optax.chain(adam, optax.scale_by_trust_ratio())


class Adafactor(Rule):
    """g / sqrt(v), where only the means of v over rows and columns are stored.

    This saves memory. The step has the root mean square of the weight (at least
    `epsilon_2`), times the smaller of learning_rate and 1 / sqrt(step), with or without
    `relative_step` (as in Keras). For weights of three axes or more the two largest axes
    are factored (Keras: the last two).
    Source: Shazeer and Stern 2018, Adafactor, algorithms 4 and 5.

    >>> optimizer, w = Adafactor(0.1), jnp.full(2, 10.0)
    >>> grads, state = jnp.array([3.0, -0.5]), optimizer.init(w)
    >>> updates, state = jax.jit(optimizer.update)(grads, state, w)
    >>> [round(v, 4) for v in updates.tolist()]  # 0.1 of the weight, not 0.1
    [-1.0, 1.0]
    """

    learning_rate: LearningRate = 0.001
    beta_2_decay: float = -0.8
    epsilon_1: float = positive(default=1e-30)
    epsilon_2: float = positive(default=1e-3)
    clip_threshold: float = positive(default=1.0)
    relative_step: bool = True

    def validate(self) -> None:
        if not self.beta_2_decay < 0:
            raise wrong(self, "beta_2_decay", "to be below 0", self.beta_2_decay)

    def direction(self) -> optax.GradientTransformation:
        return optax.chain(
            optax.scale_by_factored_rms(
                decay_rate=-self.beta_2_decay,
                min_dim_size_to_factor=1,
                epsilon=self.epsilon_1,
            ),
            optax.clip_by_block_rms(self.clip_threshold),
            optax.scale_by_param_block_rms(self.epsilon_2),
        )

    def rule(self) -> optax.GradientTransformationExtraArgs:
        unlimited = super().rule()

        def descend(
            grads: Tree,
            state: State,
            params: Tree,
            rate: Array,
        ) -> tuple[Tree, State]:
            step = state[0].count.astype("float32") + 1
            limited = jnp.minimum(rate, jax.lax.rsqrt(step))
            result: tuple[Tree, State]
            result = unlimited.update(grads, state, params, learning_rate=limited)
            return result

        return self.at_rate(unlimited.init, descend)
