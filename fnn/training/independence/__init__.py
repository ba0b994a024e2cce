"""Whether a program treats the examples of a batch independently, found from its traces."""

from fnn.training.independence.analysis import why_mixed

__all__ = ["why_mixed"]
