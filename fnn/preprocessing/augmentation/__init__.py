"""Augmentation: layers that change images at random in training, with their targets."""

from fnn.preprocessing.augmentation.affine import (
    RandomRotation,
    RandomShear,
    RandomTranslation,
    RandomZoom,
)
from fnn.preprocessing.augmentation.color_jitter import RandomColorJitter
from fnn.preprocessing.augmentation.colors import (
    RandomBrightness,
    RandomColorDegeneration,
    RandomContrast,
    RandomHue,
    RandomSaturation,
    RandomSharpness,
)
from fnn.preprocessing.augmentation.cropping import RandomCrop
from fnn.preprocessing.augmentation.flipping import RandomFlip
from fnn.preprocessing.augmentation.mixing import CutMix, MixUp
from fnn.preprocessing.augmentation.perspective import RandomPerspective
from fnn.preprocessing.augmentation.policies import AugMix, RandAugment

__all__ = [
    "AugMix",
    "CutMix",
    "MixUp",
    "RandAugment",
    "RandomBrightness",
    "RandomColorDegeneration",
    "RandomColorJitter",
    "RandomContrast",
    "RandomCrop",
    "RandomFlip",
    "RandomHue",
    "RandomPerspective",
    "RandomRotation",
    "RandomSaturation",
    "RandomSharpness",
    "RandomShear",
    "RandomTranslation",
    "RandomZoom",
]
