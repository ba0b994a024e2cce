"""Schedules: the learning rate as a function of the step, with Keras's names."""

from __future__ import annotations

from fnn.core.config import serializers
from fnn.schedules.decay import (
    CosineDecay,
    CosineDecayRestarts,
    ExponentialDecay,
    InverseTimeDecay,
    LearningRateSchedule,
    PiecewiseConstantDecay,
    PolynomialDecay,
    Schedule,
)
from fnn.schedules.whole import OneCycle, WarmupStableDecay

__all__ = [
    "CosineDecay",
    "CosineDecayRestarts",
    "ExponentialDecay",
    "InverseTimeDecay",
    "LearningRateSchedule",
    "OneCycle",
    "PiecewiseConstantDecay",
    "PolynomialDecay",
    "Schedule",
    "WarmupStableDecay",
    "deserialize",
    "serialize",
]

serialize, deserialize = serializers("schedule", __name__, "CosineDecay(0.1, 100)")
