"""Visualization: training curves, images with predictions or maps, confusions, weights."""

from fnn.visualization.counts import plot_confusion_matrix, plot_weights
from fnn.visualization.curves import plot_history
from fnn.visualization.images import plot_heatmaps, plot_predictions

__all__ = [
    "plot_confusion_matrix",
    "plot_heatmaps",
    "plot_history",
    "plot_predictions",
    "plot_weights",
]
