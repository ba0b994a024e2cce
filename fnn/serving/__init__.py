"""Serving: predictions of a model over HTTP, with concurrent requests computed together."""

from fnn.serving.application import Application, Limits
from fnn.serving.command import main, serve

__all__ = ["Application", "Limits", "main", "serve"]
