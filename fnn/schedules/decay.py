"""Schedules of Keras: exponential, polynomial, stepwise and cosine decay."""

from __future__ import annotations

import math
from typing import ClassVar

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from fnn.core.arguments import wrong
from fnn.core.config import Configurable
from fnn.core.fields import positive
from fnn.runtime.arithmetic import iinfo


class Schedule(Configurable, loadable=False):
    """A learning rate that depends on the step.   step -> float32

    Subclass it, list the fields, write `__call__(step)`; the step is an int32 array that counts
    updates from 0. The schedules here convert it to float32, which is exact up to 2 ** 24 = 16.8
    million steps and has a relative error of at most one in 16.8 million after that.

    >>> class Halving(Schedule):
    ...     start: float
    ...     def __call__(self, step):
    ...         return self.start * 0.5 ** jnp.asarray(step, "float32")
    >>> Halving(1.0)(2).item()
    0.25
    """

    kind: ClassVar[str] = "schedule"

    def __call__(self, step: ArrayLike) -> Array:
        raise TypeError(
            f"{type(self).__name__} does not define __call__(step); define it, and return the "
            "learning rate of that step"
        )


LearningRateSchedule = Schedule


def as_float(step: ArrayLike) -> Array:
    """The step as float32."""
    return jnp.asarray(step).astype("float32")


class ExponentialDecay(Schedule):
    """initial * decay_rate ** (step / decay_steps).

    With `staircase` the exponent is an integer.

    >>> ExponentialDecay(1.0, decay_steps=10, decay_rate=0.5)(20).item()
    0.25
    """

    initial_learning_rate: float
    decay_steps: float = positive()
    decay_rate: float
    staircase: bool = False
    name: str = "ExponentialDecay"

    def __call__(self, step: ArrayLike) -> Array:
        passed = as_float(step) / float(self.decay_steps)
        if self.staircase:
            passed = jnp.floor(passed)
        decay_rate = jnp.float32(self.decay_rate)
        return self.initial_learning_rate * jnp.power(decay_rate, passed)


class InverseTimeDecay(Schedule):
    """initial / (1 + decay_rate * step / decay_steps).

    With `staircase` the quotient is an integer.

    >>> InverseTimeDecay(1.0, decay_steps=10, decay_rate=1.0)(10).item()
    0.5
    """

    initial_learning_rate: float
    decay_steps: float = positive()
    decay_rate: float
    staircase: bool = False
    name: str = "InverseTimeDecay"

    def __call__(self, step: ArrayLike) -> Array:
        passed = as_float(step) / float(self.decay_steps)
        if self.staircase:
            passed = jnp.floor(passed)
        divisor = 1 + self.decay_rate * passed
        return self.initial_learning_rate / divisor


class PiecewiseConstantDecay(Schedule):
    """values[0] up to and including step boundaries[0], then values[1], and so on.

    Integer steps and boundaries are compared as integers, so boundaries are exact at any step.

    >>> schedule = PiecewiseConstantDecay([10], [1.0, 0.5])
    >>> schedule(10).item(), schedule(11).item()
    (1.0, 0.5)
    """

    boundaries: tuple[float, ...]
    values: tuple[float, ...]
    name: str = "PiecewiseConstant"

    def validate(self) -> None:
        if len(self.values) != len(self.boundaries) + 1:
            raise ValueError(
                "PiecewiseConstantDecay: expected one value more than there are boundaries, "
                f"received {len(self.values)} values and {len(self.boundaries)} boundaries; give "
                "the value before the first boundary too"
            )
        if list(self.boundaries) != sorted(self.boundaries):
            raise wrong(self, "boundaries", "to be in ascending order", self.boundaries)

    def __call__(self, step: ArrayLike) -> Array:
        step = jnp.asarray(step)
        is_integer = jnp.issubdtype(step.dtype, jnp.integer)
        rate: Array = jnp.float32(self.values[0])
        pairs = zip(self.boundaries, self.values[1:], strict=True)
        for boundary, value in pairs:
            limit = float(boundary)
            if is_integer:  # the boundary must fit into the dtype of the step
                limit = min(boundary, iinfo(step.dtype).max)
            rate = jnp.where(step > limit, jnp.float32(value), rate)
        return rate


class PolynomialDecay(Schedule):
    """(initial - end) * (1 - step / decay_steps) ** power + end, and `end` after `decay_steps`.

    With `cycle`, `decay_steps` is replaced by its next multiple whenever it is reached.

    >>> PolynomialDecay(1.0, decay_steps=10, end_learning_rate=0.0)(5).item()
    0.5
    """

    initial_learning_rate: float
    decay_steps: float = positive()
    end_learning_rate: float = 0.0001
    power: float = 1.0
    cycle: bool = False
    name: str = "PolynomialDecay"

    def __call__(self, step: ArrayLike) -> Array:
        step = as_float(step)
        if self.cycle:
            length = float(self.decay_steps)
            cycles = jnp.ceil(step / length)  # begun so far
            steps = length * jnp.maximum(cycles, 1)
        else:
            steps = jnp.float32(self.decay_steps)
            step = jnp.minimum(step, steps)
        span = self.initial_learning_rate - self.end_learning_rate
        decay = jnp.power(1 - step / steps, self.power)
        return span * decay + self.end_learning_rate


class CosineDecay(Schedule):
    """Half a cosine from the peak down to `alpha` times the peak in `decay_steps`, then constant.

    With `warmup_target` the rate first rises linearly from `initial_learning_rate` to that target,
    in `warmup_steps` before the `decay_steps`, and decays from there. Without a target there is no
    warm-up, even with `warmup_steps` (as in Keras).
    Source: Loshchilov and Hutter 2017, SGDR, section 3.

    >>> CosineDecay(0.0, decay_steps=10, warmup_target=1.0, warmup_steps=5)(5).item()
    1.0
    """

    initial_learning_rate: float
    decay_steps: float = positive()
    alpha: float = 0.0
    name: str = "CosineDecay"
    warmup_target: float | None = None
    warmup_steps: float = 0

    def __call__(self, step: ArrayLike) -> Array:
        step = as_float(step)
        peak = self.initial_learning_rate
        warmup = 0.0
        if self.warmup_target is not None:
            peak = self.warmup_target
            warmup = float(self.warmup_steps)
        passed = (step - warmup) / float(self.decay_steps)
        passed = jnp.clip(passed, 0, 1)
        cosine = 0.5 * (1 + jnp.cos(math.pi * passed))  # from 1 to 0
        decayed = peak * ((1 - self.alpha) * cosine + self.alpha)
        if not warmup:
            return decayed
        span = peak - self.initial_learning_rate
        rising = span * (step / warmup) + self.initial_learning_rate
        return jnp.where(step < warmup, rising, decayed)


class CosineDecayRestarts(Schedule):
    """Cosine decays one after another: each `t_mul` times as long and `m_mul` times as high.

    With `t_mul` below 1 cycles become shorter and end after first_decay_steps / (1 - t_mul) steps;
    from there on the rate is `alpha` times the first (in Keras NaN).
    Source: Loshchilov and Hutter 2017, SGDR, section 3.

    >>> CosineDecayRestarts(1.0, first_decay_steps=10, t_mul=1.0)(10).item()
    1.0
    """

    initial_learning_rate: float
    first_decay_steps: float = positive()
    t_mul: float = positive(default=2.0)
    m_mul: float = 1.0
    alpha: float = 0.0
    name: str = "SGDRDecay"

    def __call__(self, step: ArrayLike) -> Array:
        passed = as_float(step) / float(self.first_decay_steps)
        ended = jnp.zeros((), bool)
        if self.t_mul == 1:
            restarts = jnp.floor(passed)
            passed = passed - restarts
        else:
            # The first i cycles are together (t_mul ** i - 1) / (t_mul - 1) times as long as the
            # first one.
            ratio = jnp.float32(self.t_mul)
            growth = 1 + passed * (ratio - 1)  # t_mul ** i at the start of cycle i
            ended = growth <= 0
            growth = jnp.where(ended, 1, growth)
            restarts = jnp.floor(jnp.log(growth) / jnp.log(ratio))
            before = (jnp.power(ratio, restarts) - 1) / (ratio - 1)
            passed = (passed - before) / jnp.power(ratio, restarts)
        # `passed` is now the fraction of the current cycle.
        height = jnp.power(jnp.float32(self.m_mul), restarts)
        cosine = 0.5 * height * (1 + jnp.cos(math.pi * passed))
        cosine = jnp.where(ended, 0, cosine)
        return self.initial_learning_rate * ((1 - self.alpha) * cosine + self.alpha)
