"""Model and Sequential: a network with its weights, and Keras's compile, fit, evaluate, predict."""

from fnn import saving
from fnn.models import owned  # noqa: F401 - answers layers' attributes
from fnn.models.loading import load
from fnn.models.model import Model
from fnn.models.sequential import Sequential
from fnn.saving import save_model

__all__ = ["Model", "Sequential", "load", "load_model", "save_model"]

saving.load_model = load_model = load
