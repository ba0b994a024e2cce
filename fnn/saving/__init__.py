"""Files of models and weights."""

from typing import Any

from fnn.core.registry import register_keras_serializable
from fnn.saving.archive import load_weights, save_model, save_weights

__all__ = [
    "load_model",
    "load_weights",
    "register_keras_serializable",
    "save_model",
    "save_weights",
]

load_model: Any  # set by fnn.models: what makes a model stands a floor above its files
