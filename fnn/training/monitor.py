"""Monitor: whether more of a logged value is better, and whether a value is better."""

from __future__ import annotations

import numpy as np

from fnn.core.registry import lookup
from fnn.training.hooks import AnyModel


def improves(
    value: float,
    best: float | None,
    direction: str,
    min_delta: float = 0,
) -> bool:
    """Whether `value` is better than `best` by more than `min_delta`.

    `direction` is "max" or "min". NaN is never better than anything, and any number is
    better than NaN.
    """
    if best is None or np.isnan(best):
        return not np.isnan(value)
    if direction == "max":
        return value - min_delta > best
    return value + min_delta < best


def direction_of(
    owner: str,
    monitor: str,
    mode: str,
    model: AnyModel,
) -> str:
    """ "max" if higher values of a log are better, else "min"; `mode` says so, unless "auto"."""
    if mode != "auto":
        return mode
    name = monitor.removeprefix("val_")
    if name.endswith("loss"):
        return "min"
    if hasattr(model, "metric_directions"):
        known: str | None = model.metric_directions().get(name)
        if known:
            return known
    try:
        metric = lookup("metric", name)
    except ValueError:
        metric = None
    found: str | None = getattr(metric, "direction", None)
    if found not in ("min", "max"):
        raise ValueError(
            f"{owner}: expected a metric that says whether more is better, "
            f"received monitor={monitor!r}; "
            'pass mode="min" or mode="max"'
        )
    return found
