"""Images: layers that resize, crop and recolor them, and bounding boxes."""

from fnn.preprocessing.images.contrast import (
    AutoContrast,
    ContrastLimitedAdaptiveHistogramEqualization,
    Equalization,
    Solarization,
)
from fnn.preprocessing.images.effects import (
    RandomElasticTransform,
    RandomErasing,
    RandomGaussianBlur,
    RandomGrayscale,
    RandomInvert,
    RandomPosterization,
)
from fnn.preprocessing.images.resizing import CenterCrop, MaxNumBoundingBoxes, Resizing

__all__ = [
    "AutoContrast",
    "CenterCrop",
    "ContrastLimitedAdaptiveHistogramEqualization",
    "Equalization",
    "MaxNumBoundingBoxes",
    "RandomElasticTransform",
    "RandomErasing",
    "RandomGaussianBlur",
    "RandomGrayscale",
    "RandomInvert",
    "RandomPosterization",
    "Resizing",
    "Solarization",
]
