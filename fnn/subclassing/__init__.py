"""Classes in Keras's way: layers with `build` and `call`, as pure pairs."""

from fnn.subclassing.adapting import adapt
from fnn.subclassing.frame import Frame, running_frame
from fnn.subclassing.layer import KerasLayer
from fnn.subclassing.methods import Methods

__all__ = ["Frame", "KerasLayer", "Methods", "adapt", "running_frame"]
