"""Schedules for a whole training: one cycle, and warm-up, stable phase and decay."""

from __future__ import annotations

import math

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from fnn.core.arguments import wrong
from fnn.core.fields import not_negative, one_of, positive
from fnn.schedules.decay import Schedule, as_float


class OneCycle(Schedule):
    """Up to the peak and down again in half cosines, once in a training.

    The rate rises from peak / `initial_factor` in the first fraction `warmup` of `total_steps`,
    then falls to peak / (`initial_factor` * `final_factor`), where it stays. The curve is that of
    optax.cosine_onecycle_schedule. Source: Smith and Topin 2018, Super-Convergence, section 2.

    >>> OneCycle(1.0, total_steps=10, warmup=0.3)(3).item()
    1.0
    """

    peak_learning_rate: float
    total_steps: int = positive()
    warmup: float = 0.3
    initial_factor: float = positive(default=25.0)
    final_factor: float = positive(default=1e4)
    name: str = "OneCycle"

    def validate(self) -> None:
        if not 0 < self.warmup < 1:
            expected = "to be a fraction above 0 and below 1"
            raise wrong(self, "warmup", expected, self.warmup)

    def __call__(self, step: ArrayLike) -> Array:
        start = self.peak_learning_rate / self.initial_factor
        top = self.warmup * self.total_steps
        # The fractions of the way up and of the way down that have passed.
        up = jnp.clip(as_float(step) / top, 0, 1)
        passed = as_float(step) - top
        down = jnp.clip(passed / (self.total_steps - top), 0, 1)
        rising = _half_cosine(start, self.peak_learning_rate, up)
        end = start / self.final_factor
        falling = _half_cosine(self.peak_learning_rate, end, down)
        return jnp.where(as_float(step) < top, rising, falling)


def _half_cosine(start: float, end: float, fraction: Array) -> Array:
    """The value after this fraction of the way from `start` to `end`."""
    cosine = 1 - jnp.cos(math.pi * fraction)  # from 0 to 2
    return start + (end - start) * 0.5 * cosine


class WarmupStableDecay(Schedule):
    """A linear rise to the peak, a long constant phase, and a decay at the end.

    `warmup_steps`, then `stable_steps`, then `decay_steps` down to `end_learning_rate`; a training
    can be extended from any point of the constant phase. The decay is "linear", or "sqrt": 1 minus
    the square root of the fraction of its steps that have passed. Sources: Hu et al. 2024, MiniCPM,
    section 4; Hagele et al. 2024, Scaling Laws and Compute-Optimal Training Beyond Fixed Training
    Durations, section 3.

    >>> schedule = WarmupStableDecay(1.0, warmup_steps=10, stable_steps=80, decay_steps=10)
    >>> schedule(5).item(), schedule(50).item(), schedule(95).item(), schedule(200).item()
    (0.5, 1.0, 0.5, 0.0)
    """

    peak_learning_rate: float
    warmup_steps: int = positive()
    stable_steps: int = not_negative()
    decay_steps: int = positive()
    end_learning_rate: float = 0.0
    decay: str = one_of(("linear", "sqrt"), default="linear")
    name: str = "WarmupStableDecay"

    def __call__(self, step: ArrayLike) -> Array:
        step = as_float(step)
        up = jnp.clip(step / float(self.warmup_steps), 0, 1)
        decay_start = float(self.warmup_steps + self.stable_steps)
        down = (step - decay_start) / float(self.decay_steps)
        down = jnp.clip(down, 0, 1)
        if self.decay == "sqrt":
            down = jnp.sqrt(down)
        span = self.peak_learning_rate - self.end_learning_rate
        before = self.peak_learning_rate * up
        after = self.end_learning_rate + span * (1 - down)
        return jnp.where(step < decay_start, before, after)
