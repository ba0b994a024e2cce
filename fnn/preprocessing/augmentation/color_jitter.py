"""Color jitter: a layer that changes brightness, contrast, saturation and hue in a row."""

from __future__ import annotations

import functools

from jax import Array, random

from fnn.core.context import salt
from fnn.core.fields import random_seed
from fnn.core.tree import Tree
from fnn.preprocessing.augmentation.colors import (
    RandomBrightness,
    RandomContrast,
    RandomHue,
    RandomSaturation,
    Recoloring,
)
from fnn.preprocessing.augmentation.geometric import Factor
from fnn.preprocessing.images.base import (
    BaseImagePreprocessingLayer,
    Range,
    Transformation,
)
from fnn.random import Seed

# In the order in which they run.
_STEPS: dict[str, type[Recoloring]] = {
    "brightness": RandomBrightness,
    "contrast": RandomContrast,
    "saturation": RandomSaturation,
    "hue": RandomHue,
}


class RandomColorJitter(BaseImagePreprocessingLayer):
    """In training brightness, contrast, saturation and hue of each image changed, in this order.

    Each factor is that of `RandomBrightness`, `RandomContrast`, `RandomSaturation` or `RandomHue`;
    None leaves this change out. Labels, masks and boxes stay.
    Raises ValueError as these layers do.

    >>> images = jnp.full((1, 2, 2, 3), 100.0)
    >>> RandomColorJitter(brightness_factor=(0.1, 0.1))(images)[0, 0, 0].tolist()
    [125.5, 125.5, 125.5]
    """

    intervals = {
        f"{name}_factor": step.intervals["factor"] for name, step in _STEPS.items()
    }
    positional = (
        "value_range",
        "brightness_factor",
        "contrast_factor",
        "saturation_factor",
        "hue_factor",
        "seed",
        "data_format",
    )

    value_range: Range = (0, 255)
    brightness_factor: Factor | None = None
    contrast_factor: Factor | None = None
    saturation_factor: Factor | None = None
    hue_factor: Factor | None = None
    seed: int | None = random_seed(default=None)

    @functools.cached_property
    def _fnn_children(self) -> dict[str, Recoloring]:
        """The layers of the changes that are made, by name; made once for a value."""
        form, dtype = self.data_format, self.dtype
        steps = {}
        for name, make in _STEPS.items():
            factor = getattr(self, f"{name}_factor")
            if factor is None:
                continue
            with self.without_policy():
                steps[name] = make(
                    factor, self.value_range, data_format=form, dtype=dtype
                )
        return steps

    def get_random_transformation(
        self, data: Tree, training: bool = True, seed: Seed = None
    ) -> Transformation:
        key = self.key(seed)
        drawn = {}
        for name, step in self._fnn_children.items():
            own: Array = random.fold_in(key, salt(name))
            drawn[name] = step.get_random_transformation(data, training, own)
        return drawn

    def transform_images(
        self, images: Array, transformation: Transformation, training: bool = True
    ) -> Array:
        images = self.cast(images)
        for name, step in self._fnn_children.items():
            images = step.transform_images(images, transformation[name], training)
        return images
