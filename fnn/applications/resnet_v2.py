"""ResNetV2: residual networks with activations before convolutions (He et al. 2016b)."""

from fnn.applications.imagenet_utils import decode_predictions, preprocessing
from fnn.applications.resnet import residual

__all__ = [
    "ResNet50V2",
    "ResNet101V2",
    "ResNet152V2",
    "decode_predictions",
    "preprocess_input",
]

preprocess_input = preprocessing("tf")

ResNet50V2 = residual(50, __name__, "V2")
ResNet101V2 = residual(101, __name__, "V2")
ResNet152V2 = residual(152, __name__, "V2")
