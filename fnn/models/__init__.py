"""Model and Sequential: a network with its weights, and Keras's compile, fit, evaluate, predict."""

from fnn import saving
from fnn.models import (  # noqa: F401 - adapt classes, answer attributes, read files
    adapting,
    keras_loading,
    owned,
)
from fnn.models.configs import clone_model, model_from_json
from fnn.models.function import Function
from fnn.models.loading import load
from fnn.models.many import cross_validate, fit_many
from fnn.models.members import Members
from fnn.models.model import Model
from fnn.models.sequential import Sequential
from fnn.saving import save_model

__all__ = [
    "Function",
    "Members",
    "Model",
    "Sequential",
    "clone_model",
    "cross_validate",
    "fit_many",
    "load",
    "load_model",
    "model_from_json",
    "save_model",
]

saving.load_model = load_model = load
