"""Optimizers with Keras's names, built on optax, and `get`, which finds one by name."""

from __future__ import annotations

from fnn.core.config import serializers
from fnn.core.registry import lookup, names_of, register
from fnn.optimizers import schedules, subclassed  # noqa: F401 - sets a hook
from fnn.optimizers.maps import MultiOptimizer, OptimizerMap
from fnn.optimizers.optimizer import (
    Optimizer,
    get,
    loss_scale,
    run_update,
)
from fnn.optimizers.own import Ftrl, Muon, Nadam, ScheduleFreeAdamW
from fnn.optimizers.rates import current_learning_rate, with_learning_rate
from fnn.optimizers.rule import Rule
from fnn.optimizers.rules import (
    SGD,
    Adadelta,
    Adafactor,
    Adagrad,
    Adam,
    Adamax,
    AdamW,
    Lamb,
    Lion,
    RMSprop,
)
from fnn.optimizers.several import ByPath, LossScaleOptimizer
from fnn.optimizers.updates import expand_updates

__all__ = [
    "SGD",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "ByPath",
    "Ftrl",
    "Lamb",
    "Lion",
    "LossScaleOptimizer",
    "MultiOptimizer",
    "Muon",
    "Nadam",
    "Optimizer",
    "OptimizerMap",
    "RMSprop",
    "Rule",
    "ScheduleFreeAdamW",
    "current_learning_rate",
    "deserialize",
    "expand_updates",
    "get",
    "loss_scale",
    "run_update",
    "schedules",
    "serialize",
    "with_learning_rate",
]

for _name in names_of("optimizer"):
    if _name not in ("Optimizer", "Rule"):
        register(lookup("optimizer", _name), _name.lower())

serialize, deserialize = serializers("optimizer", __name__, "SGD(0.5)")
