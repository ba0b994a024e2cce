"""Mixing: layers that mix each image of a batch with another one, and their labels."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array, random

from fnn.core.context import leading
from fnn.core.fields import positive, random_seed
from fnn.core.tree import Tree
from fnn.preprocessing.augmentation.geometric import Factor
from fnn.preprocessing.images.base import BaseImagePreprocessingLayer, Transformation
from fnn.random import Seed
from fnn.runtime.arithmetic import float_dtype


class Mixing(BaseImagePreprocessingLayer, loadable=False):
    """The base class of layers that mix each image with a partner from the same batch.

    A transformation has the `permutation_order (batch,)`, the number of each image's partner, and
    `mix_weight`, the fraction of the image itself. Labels are mixed by these weights: they are
    one-hot or probabilities of classes, or numbers.
    """

    moves = True

    def among(self, transformation: Transformation, rows: Array) -> Transformation:
        """With partners that are no padding, in the order in which they were drawn."""
        order = transformation["permutation_order"]
        partners = order[jnp.argsort(~rows[order], stable=True)]
        real_first = jnp.argsort(~rows, stable=True)
        order = jnp.zeros_like(order).at[real_first].set(partners)
        return {**transformation, "permutation_order": order}

    def mixed(self, name: str, values: Array, transformation: Any) -> Array:
        """Each entry of a batch mixed with that of its partner."""
        check_mixable(self, name, values)
        values = values.astype(float_dtype(values))
        weight: Array = transformation["mix_weight"].reshape(-1)
        weight = leading(weight.astype(values.dtype), values.ndim)
        partners = values[transformation["permutation_order"]]
        return weight * values + (1 - weight) * partners

    def transform_labels(
        self, labels: Tree, transformation: Transformation, training: bool = True
    ) -> Tree:
        if not training:
            return labels
        return self.mixed("labels", labels, transformation)


def _permutation(key: Array, count: int) -> Array:
    """The numbers of the images in random order; more images leave the order of the first."""
    return jnp.argsort(random.uniform(key, (count,)))


def check_mixable(layer: object, name: str, values: Any) -> None:
    """Raises ValueError for integers of classes, which have no mean."""
    is_whole = jnp.issubdtype(values.dtype, jnp.integer)
    if is_whole and (values.ndim == 1 or values.shape[-1] == 1):
        raise ValueError(
            f"{type(layer).__name__}: expected {name} of which a mean can be taken, one-hot or "
            f"probabilities, received integers: {values.dtype}{list(values.shape)}; pass "
            "fnn.utils.to_categorical(y, classes) with the loss 'categorical_crossentropy', or "
            "y.astype('float32') if the integers are 0 and 1 with a single output"
        )


class MixUp(Mixing):
    """In training each image mixed with another one of the batch, and so are their labels.

    w * x + (1 - w) * partner, with w of a beta distribution (`alpha`, `alpha`) for each image: at
    a small `alpha` most are near 0 or 1. Segmentation masks are mixed as images; of boxes there
    are then those of both. Labels and masks are one-hot, probabilities or numbers.
    Raises ValueError unless `alpha` is above 0, and in training for labels or masks that are
    integers of classes (Zhang et al. 2018).

    >>> data = {"images": jnp.arange(2.0).reshape(2, 1, 1, 1), "labels": jnp.eye(2)}
    >>> mixed = MixUp(seed=0)(data, training=True)
    >>> bool(np.allclose(mixed["images"].ravel(), mixed["labels"][:, 1]))
    True
    """

    positional = ("alpha", "data_format", "seed")

    alpha: float = positive(default=0.2)
    seed: int | None = random_seed(default=None)

    def get_random_transformation(
        self, data: Tree, training: bool = True, seed: Seed = None
    ) -> Transformation:
        count, _, _ = self.sizes(data)
        of_order, of_weight = random.split(self.key(seed))
        return {
            "mix_weight": random.beta(of_weight, self.alpha, self.alpha, (count,)),
            "permutation_order": _permutation(of_order, count),
        }

    def changed(
        self, values: Array, transformation: Transformation, name: str
    ) -> Array:
        return self.mixed(name, values, transformation)

    def moved_boxes(self, bounding_boxes: Tree, transformation: Transformation) -> Tree:
        order = transformation["permutation_order"]
        new = dict(bounding_boxes)
        for name in ("boxes", "labels"):
            values = jnp.asarray(bounding_boxes[name])
            new[name] = jnp.concatenate([values, values[order]], axis=1)
        return new


class CutMix(Mixing):
    """In training a rectangle of each image replaced by that of another one, with its labels.

    The fraction of the area that stays is drawn from a beta distribution (a, a), with a from 0 to
    `factor`, or from a pair; labels are mixed by it. Segmentation masks are cut as the images.
    Raises ValueError unless `factor` is between 0 and 1, and in training for labels that are
    integers of classes and for bounding boxes (Yun et al. 2019).

    >>> data = {"images": jnp.arange(2.0).reshape(2, 1, 1, 1) * jnp.ones((1, 8, 8, 1))}
    >>> mixed = CutMix(seed=3)({**data, "labels": jnp.eye(2)}, training=True)
    >>> set(mixed["images"].ravel().tolist()) == {0.0, 1.0}
    True
    """

    intervals = {"factor": (0.0, 1.0)}
    positional = ("factor", "seed", "data_format")

    factor: Factor = 1.0
    seed: int | None = random_seed(default=None)

    def get_random_transformation(
        self, data: Tree, training: bool = True, seed: Seed = None
    ) -> Transformation:
        count, height, width = self.sizes(data)
        low, high = self.interval("factor")
        of_alpha, of_weight, *of_place, of_order = random.split(self.key(seed), 5)
        alpha = random.uniform(of_alpha, minval=low, maxval=high) + 1e-6
        side = jnp.sqrt(1 - random.beta(of_weight, alpha, alpha, (count,)))
        left, right = _part(of_place[0], width, side)
        top, bottom = _part(of_place[1], height, side)
        y, x = jnp.indices((height, width), dtype="float32")[:, None]
        masks = (x >= left) & (x < right) & (y >= top) & (y < bottom)
        axis = -1
        if self.data_format == "channels_first":
            axis = 1
        area = (right - left) * (bottom - top)  # (batch, 1, 1)
        return {
            "batch_masks": jnp.expand_dims(masks, axis),
            "mix_weight": (1 - area / (width * height))[..., None],
            "permutation_order": _permutation(of_order, count),
        }

    def changed(
        self, values: Array, transformation: Transformation, name: str
    ) -> Array:
        partners = values[transformation["permutation_order"]]
        return jnp.where(transformation["batch_masks"], partners, values)

    def transform_bounding_boxes(
        self,
        bounding_boxes: Tree,
        transformation: Transformation,
        training: bool = True,
    ) -> Tree:
        raise ValueError(
            "CutMix: expected data without 'bounding_boxes', of which a part may be cut away, "
            "received some; leave them out, or use MixUp"
        )


def _part(key: Array, size: int, ratio: Array) -> tuple[Array, Array]:
    """The ends of a part of an axis, with `ratio (batch,)` of its size.   (batch, 1, 1) each"""
    length = ratio * size
    start = random.uniform(key, ratio.shape) * (size - length)
    end = start + length
    return start[:, None, None], end[:, None, None]
