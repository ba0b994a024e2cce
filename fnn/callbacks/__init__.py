"""Callbacks: code that runs between the steps of a training, with Keras's hooks.

In the examples `model` is one `Dense(1)`, compiled with SGD and "mse", and `x` and `y`
hold eight examples. Each epoch halves the error: the losses are 1, 0.25, 0.0625 and so on.
"""

from __future__ import annotations

from fnn.callbacks.backups import BackupAndRestore, OrbaxCheckpoint
from fnn.callbacks.basic import (
    History,
    LambdaCallback,
    ProgbarLogger,
    SwapEMAWeights,
    TerminateOnNaN,
)
from fnn.callbacks.files import ModelCheckpoint
from fnn.callbacks.inspection import GradientStatistics, Profile
from fnn.callbacks.monitoring import EarlyStopping, ReduceLROnPlateau
from fnn.callbacks.rates import LearningRateFinder, LearningRateScheduler
from fnn.callbacks.remote import RemoteMonitor
from fnn.callbacks.writing import CSVLogger, JSONLogger, TensorBoard
from fnn.training.hooks import Callback, CallbackList

__all__ = [
    "BackupAndRestore",
    "CSVLogger",
    "Callback",
    "CallbackList",
    "EarlyStopping",
    "GradientStatistics",
    "History",
    "JSONLogger",
    "LambdaCallback",
    "LearningRateFinder",
    "LearningRateScheduler",
    "ModelCheckpoint",
    "OrbaxCheckpoint",
    "Profile",
    "ProgbarLogger",
    "ReduceLROnPlateau",
    "RemoteMonitor",
    "SwapEMAWeights",
    "TensorBoard",
    "TerminateOnNaN",
]
