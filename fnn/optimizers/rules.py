"""Keras's optimizers as values over optax: SGD, RMSprop, Adam and their relatives."""

from __future__ import annotations

from typing import Any

import optax

from fnn.core import arguments
from fnn.core.arguments import wrong
from fnn.optimizers.optimizer import Rule


def _above_zero(rule: Rule, argument: str) -> None:
    value = getattr(rule, argument)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
        raise wrong(rule, argument, "to be a number above 0", value)


def _betas(rule: Any) -> None:
    arguments.fraction(rule, "beta_1")
    arguments.fraction(rule, "beta_2")
    _above_zero(rule, "epsilon")


class SGD(Rule):
    """w - learning_rate * g, with momentum m = momentum * m + g in place of g if it is not 0.

    >>> optimizer = SGD(0.5)
    >>> updates, state = optimizer.update({"w": jnp.ones(1)}, optimizer.init({"w": jnp.ones(1)}))
    >>> updates["w"].tolist()
    [-0.5]
    """

    learning_rate: Any = 0.01
    momentum: float = 0.0
    nesterov: bool = False

    def validate(self) -> None:
        arguments.fraction(self, "momentum")

    def rule(self) -> Any:
        if not self.momentum:
            return optax.identity()
        return optax.trace(self.momentum, self.nesterov)


class RMSprop(Rule):
    """g / sqrt(v + epsilon), v being a running mean of g ** 2 (minus that of g, if `centered`).

    Source: Hinton 2012, Neural Networks for Machine Learning, lecture 6e.
    """

    learning_rate: Any = 0.001
    rho: float = 0.9
    momentum: float = 0.0
    epsilon: float = 1e-7
    centered: bool = False

    def validate(self) -> None:
        arguments.fraction(self, "rho")
        arguments.fraction(self, "momentum")
        _above_zero(self, "epsilon")

    def rule(self) -> Any:
        scale = optax.scale_by_stddev if self.centered else optax.scale_by_rms
        scaled = scale(decay=self.rho, eps=self.epsilon)
        return optax.chain(scaled, optax.trace(self.momentum)) if self.momentum else scaled


class Adam(Rule):
    """m / (sqrt(v) + epsilon), of running means m of g and v of g ** 2, both freed of their bias.

    Keras adds epsilon before the bias is taken off v, optax (and the paper) after: the same but for
    gradients as small as epsilon. `amsgrad` keeps the largest v, here without bias as in optax.
    Source: Kingma and Ba 2015, Adam, algorithm 1.
    """

    learning_rate: Any = 0.001
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-7
    amsgrad: bool = False

    def validate(self) -> None:
        _betas(self)

    def rule(self) -> Any:
        scale = optax.scale_by_amsgrad if self.amsgrad else optax.scale_by_adam
        return scale(b1=self.beta_1, b2=self.beta_2, eps=self.epsilon)


class AdamW(Rule):
    """Adam with weight decay: every weight also shrinks by learning_rate * weight_decay.

    Biases decay too, as in Keras and optax; the default of 0.004 is Keras's.
    Source: Loshchilov and Hutter 2019, Decoupled Weight Decay Regularization, algorithm 2.
    """

    learning_rate: Any = 0.001
    weight_decay: float | None = 0.004
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-7
    amsgrad: bool = False

    def validate(self) -> None:
        _betas(self)

    def rule(self) -> Any:
        scale = optax.scale_by_amsgrad if self.amsgrad else optax.scale_by_adam
        return scale(b1=self.beta_1, b2=self.beta_2, eps=self.epsilon)
