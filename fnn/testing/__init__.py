"""Testing: every property that a layer promises, checked for a layer of yours."""

from fnn.testing.checking import check_layer

__all__ = ["check_layer"]
