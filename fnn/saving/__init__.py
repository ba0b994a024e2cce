"""Saving: files of models and of weights, and objects in Keras's form."""

from collections.abc import Callable
from typing import Any

from fnn.core.config import deserialize_keras_object, serialize_keras_object
from fnn.core.registry import (
    CustomObjectScope,
    custom_object_scope,
    get_custom_objects,
    get_registered_name,
    get_registered_object,
    register_keras_serializable,
)
from fnn.saving import checkpoints  # noqa: F401 - opens the folders of `Checkpoint`
from fnn.saving.archive import save_model
from fnn.saving.keras import files as _keras_files  # noqa: F401 - registers its formats
from fnn.saving.pytorch.loading import load_pytorch
from fnn.saving.tensors import FileError
from fnn.saving.weights import load_weights, save_weights

__all__ = [
    "CustomObjectScope",
    "FileError",
    "custom_object_scope",
    "deserialize_keras_object",
    "get_custom_objects",
    "get_registered_name",
    "get_registered_object",
    "load_model",
    "load_pytorch",
    "load_weights",
    "register_keras_serializable",
    "save_model",
    "save_weights",
    "serialize_keras_object",
]

# Set by `fnn.models`, which this package must not import.
load_model: Callable[..., Any]
