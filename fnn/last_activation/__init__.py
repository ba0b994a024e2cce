"""The last softmax or sigmoid of a network, cut off it: losses are computed from logits.

A network is a value, so it is read here, from its outputs back, and written again without its last
activation; layers know nothing of it. What a layer does is recognized by the function that computes
it, its `apply`: a subclass with an `apply` of its own is left as it is.
"""

from fnn.last_activation.leaf import End
from fnn.last_activation.network import outputs_by_path, without_last_activation

__all__ = ["End", "outputs_by_path", "without_last_activation"]
