"""Policies: layers that draw which augmentations they make, RandAugment and AugMix."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import Array, lax, random

from fnn.core.context import leading
from fnn.core.fields import one_of, positive, random_seed
from fnn.core.tree import Tree
from fnn.preprocessing.augmentation.affine import (
    RandomRotation,
    RandomShear,
    RandomTranslation,
)
from fnn.preprocessing.augmentation.colors import (
    RandomBrightness,
    RandomColorDegeneration,
    RandomContrast,
    RandomSharpness,
)
from fnn.preprocessing.images.base import BaseImagePreprocessingLayer, Range
from fnn.preprocessing.images.contrast import (
    BYTES,
    AutoContrast,
    Equalization,
    Solarization,
)
from fnn.preprocessing.images.effects import RandomPosterization
from fnn.random import Seed

Drawn = dict[str, Any]
Layers = dict[str, BaseImagePreprocessingLayer]
INTERPOLATIONS = ("nearest", "bilinear")


class _Policy(BaseImagePreprocessingLayer, loadable=False):
    """The base class of layers that choose among others, all of one strength `factor`."""

    intervals = {"factor": (0, 1)}
    # The names of the layers, in Keras's order.
    names: ClassVar[tuple[str, ...]] = (
        "random_shear",
        "random_translation",
        "random_rotation",
        "random_brightness",
        "random_color_degeneration",
        "random_contrast",
        "random_sharpness",
        "random_posterization",
        "solarization",
        "auto_contrast",
        "equalization",
    )

    value_range: Range = BYTES
    factor: float | Range = 0.5
    interpolation: str = one_of(INTERPOLATIONS, default="bilinear")
    seed: int | None = random_seed(default=None)

    @functools.cached_property
    def _fnn_layers(self) -> Layers:
        """The layers to choose from, by name."""
        factor = self.interval("factor")
        shared: Any = {
            "data_format": self.data_format,
            "bounding_box_format": self.bounding_box_format,
        }
        warped = {"interpolation": self.interpolation, **shared}
        color = {"value_range": self.value_range, **shared}
        bits = max(1, int(8 * factor[1]))
        made: Layers = {
            "random_shear": RandomShear(factor, factor, **warped),
            "random_translation": RandomTranslation(factor, factor, **warped),
            "random_rotation": RandomRotation(factor, **warped),
            "random_brightness": RandomBrightness(factor, **color),
            "random_color_degeneration": RandomColorDegeneration(factor, **color),
            "random_contrast": RandomContrast(factor, **color),
            "random_sharpness": RandomSharpness(factor, **color),
            "random_posterization": RandomPosterization(bits, **color),
            "solarization": Solarization(factor, factor, **color),
            "auto_contrast": AutoContrast(**color),
            "equalization": Equalization(**color),
        }
        return {name: made[name] for name in self.names}

    def _draw_all(self, data: Tree, key: Array) -> Drawn:
        """A transformation of each of the layers."""
        keys = random.split(key, len(self.names))
        layers = self._fnn_layers.items()
        return {
            name: layer.get_random_transformation(data, seed=own)
            for (name, layer), own in zip(layers, keys, strict=True)
        }

    def _all_among(self, rows: Array, transforms: Drawn) -> Drawn:
        """The transformation of each layer, for a batch with these real images."""
        layers = self._fnn_layers.items()
        return {name: layer.among(transforms[name], rows) for name, layer in layers}

    def _switched(
        self, method: str, index: Array, value: Tree, transforms: Drawn
    ) -> Tree:
        """What one of the layers makes of a value; the value itself after the last of them."""

        def made_by(name: str) -> Callable[[Tree, Drawn], Tree]:
            transform = getattr(self._fnn_layers[name], method)

            def branch(value: Tree, transforms: Drawn) -> Tree:
                new = transform(value, transforms[name])
                return jax.tree.map(lambda a, b: a.astype(b.dtype), new, value)

            return branch

        branches = [made_by(name) for name in self.names]
        branches.append(lambda value, transforms: value)
        return lax.switch(index, branches, value, transforms)


class RandAugment(_Policy):
    """In training `num_ops` augmentations one after the other.   same shape -> same shape

    They are drawn from eleven: shear, translation, rotation, brightness, color degeneration,
    contrast, sharpness, posterization, solarization, automatic contrast and equalization. As in
    Keras a batch has one choice, and each image its own strength from the interval `factor`.
    Boxes and masks move along. Integers become float32 (Cubuk et al. 2020).
    Raises ValueError for wrong arguments, and in training without a key.

    >>> images = jax.random.uniform(jax.random.key(0), (2, 8, 8, 3)) * 255
    >>> RandAugment(seed=1)(images).shape
    (2, 8, 8, 3)
    """

    positional = (
        "value_range",
        "num_ops",
        "factor",
        "interpolation",
        "seed",
        "data_format",
    )

    num_ops: int = positive(default=2)

    def get_random_transformation(
        self, data: Tree, training: bool = True, seed: Seed = None
    ) -> Drawn:
        first, second = random.split(self.key(seed))
        chosen = random.randint(first, (self.num_ops,), 0, len(self.names))
        return {"transforms": self._draw_all(data, second), "layer_idxes": chosen}

    def among(self, transformation: Drawn, rows: Array) -> Drawn:
        transforms = self._all_among(rows, transformation["transforms"])
        return {**transformation, "transforms": transforms}

    def _augmented(self, method: str, value: Tree, drawn: Drawn) -> Tree:
        def step(place: Array, value: Tree) -> Tree:
            index = jnp.asarray(drawn["layer_idxes"])[place]
            return self._switched(method, index, value, drawn["transforms"])

        return lax.fori_loop(0, self.num_ops, step, value)

    def transform_images(
        self, images: Array, transformation: Drawn, training: bool = True
    ) -> Array:
        images = self.cast(images)
        new: Array = self._augmented("transform_images", images, transformation)
        return new

    def transform_bounding_boxes(
        self, bounding_boxes: Tree, transformation: Drawn, training: bool = True
    ) -> Tree:
        boxes = jax.tree.map(jnp.asarray, bounding_boxes)
        return self._augmented("transform_bounding_boxes", boxes, transformation)

    def transform_segmentation_masks(
        self, segmentation_masks: Array, transformation: Drawn, training: bool = True
    ) -> Array:
        method = "transform_segmentation_masks"
        new: Array = self._augmented(method, segmentation_masks, transformation)
        return new


class AugMix(_Policy):
    """In training the mean of an image and of `num_chains` chains of augmentations of it.

    A chain is up to `chain_depth` augmentations of those of `RandAugment`; with `all_ops=False`
    without brightness, color degeneration, contrast and sharpness. As in Keras a batch has one
    choice of augmentations; each image has its own strengths, and its own weights, drawn by
    `alpha` from a Dirichlet and a beta distribution. As in Keras bounding boxes stay, and masks
    are means too. Integers become float32 (Hendrycks et al. 2020).   same shape -> same shape
    Raises ValueError for wrong arguments, and in training without a key.

    >>> images = jax.random.uniform(jax.random.key(0), (2, 8, 8, 3)) * 255
    >>> AugMix(seed=1)(images).shape
    (2, 8, 8, 3)
    """

    positional = (
        "value_range",
        "num_chains",
        "chain_depth",
        "factor",
        "alpha",
        "all_ops",
        "interpolation",
        "seed",
        "data_format",
    )

    num_chains: int = positive(default=3)
    chain_depth: int = positive(default=3)
    factor: float | Range = 0.3
    alpha: float = positive(default=1.0)
    all_ops: bool = True

    @property
    def names(self) -> tuple[str, ...]:  # type: ignore[override]
        if self.all_ops:
            return _Policy.names
        return (*_Policy.names[:3], *_Policy.names[7:])

    def get_random_transformation(
        self, data: Tree, training: bool = True, seed: Seed = None
    ) -> Drawn:
        count, _, _ = self.sizes(data)
        first, second, third, fourth = random.split(self.key(seed), 4)
        alphas = jnp.full((self.num_chains,), self.alpha)
        weights = random.dirichlet(first, alphas, (count,))
        steps = self.num_chains, self.chain_depth
        # One more than there are layers: a step may do nothing.
        chosen = random.randint(third, steps, 0, len(self.names) + 1)
        draw = functools.partial(self._draw_all, data)
        draw_each = jax.vmap(jax.vmap(draw))  # by chain and step
        return {
            "chain_mixing_weights": weights.T,  # (chains, batch)
            "weight_sample": random.beta(second, self.alpha, self.alpha, (count,)),
            "layer_idxes": chosen,
            "transforms": draw_each(random.split(fourth, steps)),
        }

    def among(self, transformation: Drawn, rows: Array) -> Drawn:
        among = functools.partial(self._all_among, rows)
        transforms = jax.vmap(jax.vmap(among))(transformation["transforms"])
        return {**transformation, "transforms": transforms}

    def _mixed(self, method: str, value: Array, drawn: Drawn) -> Array:
        def step(value: Array, drawn: tuple[Array, Drawn]) -> tuple[Array, None]:
            index, transforms = drawn
            return self._switched(method, index, value, transforms), None

        def chain(
            total: Array, drawn: tuple[Array, Drawn, Array]
        ) -> tuple[Array, None]:
            indices, transforms, weights = drawn
            new, _ = lax.scan(step, value, (indices, transforms))
            return total + new * leading(weights, new.ndim), None

        chains = (
            drawn["layer_idxes"],
            drawn["transforms"],
            drawn["chain_mixing_weights"].astype(value.dtype),
        )
        total, _ = lax.scan(chain, jnp.zeros_like(value), chains)
        weight: Array = drawn["weight_sample"].astype(value.dtype)
        own = leading(weight, value.ndim)
        return own * value + (1 - own) * total

    def transform_images(
        self, images: Array, transformation: Drawn, training: bool = True
    ) -> Array:
        images = self.cast(images)
        mixed = self._mixed("transform_images", images, transformation)
        return jnp.clip(mixed, *self.value_range)

    def transform_segmentation_masks(
        self, segmentation_masks: Array, transformation: Drawn, training: bool = True
    ) -> Array:
        masks = self.cast(segmentation_masks)
        return self._mixed("transform_segmentation_masks", masks, transformation)
