"""Schedules of a whole training, from its warm-up to its end: one cycle, warm-up-stable-decay."""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp
from jax import Array

from fnn.core.arguments import wrong
from fnn.core.fields import not_negative, one_of, positive
from fnn.schedules.decay import Schedule, as_float


class OneCycle(Schedule):
    """Up to the peak and down again, once in a training: by half cosines, to next to nothing.

    From peak / `initial_factor` up in the first share `warmup` of `total_steps`, then down to
    peak / (`initial_factor` * `final_factor`), where it stays. optax.cosine_onecycle_schedule has
    the same curve. Source: Smith and Topin 2018, Super-Convergence, section 2.

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
            raise wrong(
                self, "warmup", "to be a share above 0 and below 1", self.warmup
            )

    def __call__(self, step: Any) -> Array:
        start = self.peak_learning_rate / self.initial_factor
        top = self.warmup * self.total_steps
        up = jnp.clip(as_float(step) / top, 0, 1)
        down = jnp.clip((as_float(step) - top) / (self.total_steps - top), 0, 1)
        between = lambda a, b, share: a + (b - a) * 0.5 * (1 - jnp.cos(math.pi * share))
        climbing = between(start, self.peak_learning_rate, up)
        falling = between(self.peak_learning_rate, start / self.final_factor, down)
        return jnp.where(as_float(step) < top, climbing, falling)


class WarmupStableDecay(Schedule):
    """Straight up to the peak, constant for most of the training, straight down at the end.

    `warmup_steps`, then `stable_steps`, then `decay_steps` down to `end_learning_rate`: a training
    can be prolonged from any point of the constant part. `decay` "sqrt" falls by 1 - sqrt(share)
    in place of a line. Source: Hu et al. 2024, MiniCPM, section 4; Hagele et al. 2024, Scaling Laws
    and Compute-Optimal Training Beyond Fixed Training Durations, section 3.

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

    def __call__(self, step: Any) -> Array:
        step = as_float(step)
        up = jnp.clip(step / float(self.warmup_steps), 0, 1)
        begun = float(self.warmup_steps + self.stable_steps)
        down = jnp.clip((step - begun) / float(self.decay_steps), 0, 1)
        kept = 1 - (jnp.sqrt(down) if self.decay == "sqrt" else down)
        span = self.peak_learning_rate - self.end_learning_rate
        return jnp.where(
            step < begun,
            self.peak_learning_rate * up,
            self.end_learning_rate + span * kept,
        )
