"""VGG19: the deeper one of the two VGG networks."""

from fnn.applications.imagenet_utils import decode_predictions
from fnn.applications.vgg16 import preprocess_input, vgg

__all__ = ["VGG19", "decode_predictions", "preprocess_input"]

VGG19 = vgg("VGG19", (2, 2, 4, 4, 4), __name__)
