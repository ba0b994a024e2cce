"""Checks of the arguments that all optimizers of Keras have."""

from __future__ import annotations

import math

from fnn.core.arguments import wrong


def check_learning_rate(optimizer: object, rate: object) -> None:
    """Raises ValueError unless this is a schedule or a finite number, 0 or above."""
    if callable(rate):
        return
    if not isinstance(rate, (int, float)) or isinstance(rate, bool):
        raise wrong(optimizer, "learning_rate", "to be a number or a schedule", rate)
    if not (math.isfinite(rate) and rate >= 0):
        expected = "to be finite and not below 0"
        raise wrong(optimizer, "learning_rate", expected, rate, "e.g. 0.001")


def check_clipping(optimizer: object, names: tuple[str, ...]) -> None:
    """Raises ValueError if more than one of these attributes is set."""
    given = [name for name in names if getattr(optimizer, name) is not None]
    if len(given) > 1:
        raise ValueError(
            f"{type(optimizer).__name__}: expected one kind of clipping, received "
            f"{' and '.join(given)}; pass only one of them"
        )


def check_accumulation(optimizer: object, steps: object) -> None:
    """Raises ValueError unless this is None or an integer above 1."""
    if steps is not None and (not isinstance(steps, int) or steps < 2):
        expected = "to be an integer above 1"
        raise wrong(optimizer, "gradient_accumulation_steps", expected, steps)


def check_overwriting(
    optimizer: object,
    every: object,
    use_ema: bool,
) -> None:
    """Raises ValueError unless this is None, or an integer above 0 and there is an average."""
    if every is None:
        return
    if not isinstance(every, int) or every < 1 or not use_ema:
        expected = "to be an integer above 0, with use_ema"
        raise wrong(optimizer, "ema_overwrite_frequency", expected, every)


def check_loss_scale_factor(optimizer: object, factor: object) -> None:
    """Raises ValueError unless this is None: optimizers do not scale gradients."""
    if factor is not None:
        expected = "to be None, since optimizers do not scale gradients"
        advice = (
            "wrap the optimizer in LossScaleOptimizer, or train in bfloat16, which needs "
            "no scaling"
        )
        raise wrong(optimizer, "loss_scale_factor", expected, factor, advice)
