"""PyTorch's weights: by rules of names, from safetensors files and state dicts."""

from fnn.saving.pytorch.conversions import CONVERSIONS, Conversion, Target
from fnn.saving.pytorch.families import FAMILIES
from fnn.saving.pytorch.loading import load_pytorch
from fnn.saving.pytorch.rules import Rule

__all__ = [
    "CONVERSIONS",
    "FAMILIES",
    "Conversion",
    "Rule",
    "Target",
    "load_pytorch",
]
