"""The last softmax or sigmoid of a network, removed so that losses are computed from logits.

A network is a value, so this package reads it from its outputs back and returns another without
its last activation; layers know nothing of it. The function `apply` of a layer class identifies
what the layer does: a subclass with its own `apply` is left as it is.
"""

from fnn.last_activation.leaf import End
from fnn.last_activation.network import outputs_by_path, without_last_activation

__all__ = ["End", "outputs_by_path", "without_last_activation"]
