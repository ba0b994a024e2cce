"""Summaries: networks and weights as tables, and as folding trees in notebooks."""

from fnn.summaries.pages import layer_html, model_html, show
from fnn.summaries.sizes import size
from fnn.summaries.table import describe, summary

__all__ = ["describe", "layer_html", "model_html", "show", "size", "summary"]
