"""Saving: files of models and of weights."""

from collections.abc import Callable
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

# Set by `fnn.models`, which this package must not import.
load_model: Callable[..., Any]
