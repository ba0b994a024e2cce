"""Plots: a picture of a model's graph, as SVG, PNG or DOT, without Graphviz."""

from fnn.models import Model
from fnn.utils.plots.dot import Dot
from fnn.utils.plots.plot_model import Picture, model_to_dot, plot_model

__all__ = ["Dot", "Picture", "model_to_dot", "plot_model"]

Model.as_picture = staticmethod(plot_model)
