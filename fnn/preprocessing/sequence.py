"""The function of sequences, under the name that Keras has for it too."""

from fnn.utils import pad_sequences

__all__ = ["pad_sequences"]
