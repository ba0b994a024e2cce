"""Command line: `python -m fnn info`, `summary` and `predict`."""

from fnn.command_line.information import info
from fnn.command_line.prediction import predict
from fnn.command_line.summarizing import summary

__all__ = ["info", "predict", "summary"]
