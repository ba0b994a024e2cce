"""Model and Sequential: a network with its weights, and Keras's compile, fit, evaluate, predict."""

from fnn.models.loading import load
from fnn.models.model import Model
from fnn.models.sequential import Sequential

__all__ = ["Model", "Sequential", "load"]
