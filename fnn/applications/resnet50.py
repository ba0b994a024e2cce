"""ResNet50: the names of this network in a module of its own, as in Keras."""

from fnn.applications.resnet import ResNet50, decode_predictions, preprocess_input

__all__ = ["ResNet50", "decode_predictions", "preprocess_input"]
