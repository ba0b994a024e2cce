"""Testing: `check_layer` checks everything that a layer must guarantee."""

from fnn.testing.checking import check_layer

__all__ = ["check_layer"]
