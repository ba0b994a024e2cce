"""Overlap: how much bounding boxes overlap, and boxes as deltas to anchors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array

from fnn.core.tree import Tree
from fnn.preprocessing.images.boxes import convert_format
from fnn.runtime.settings import settings

# (height, width, channels) of the images
ImageShape = Sequence[Any] | None
ENCODINGS = ("center_xywh", "center_yxhw")


def _converted(boxes: Tree, source: str, target: str, image_shape: ImageShape) -> Array:
    height = width = None
    if image_shape is not None:
        height, width = image_shape[0], image_shape[1]
    new: Array = convert_format(boxes, source, target, height, width)
    return new


def compute_iou(
    boxes1: Tree,
    boxes2: Tree,
    bounding_box_format: str,
    use_masking: bool = False,
    mask_val: float = -1,
    image_shape: ImageShape = None,
) -> Array:
    """The area that two boxes share as a fraction of what they cover, for all pairs.

    (..., n, 4), (..., m, 4) -> (..., n, m), where one of the two may have no batch axis. With
    `use_masking` pairs with a box of negative numbers, which pads, give `mask_val`.
    Raises ValueError for boxes of other shapes, and for relative formats without `image_shape`.

    >>> boxes, others = np.array([[0, 0, 2, 2]]), np.array([[0, 0, 2, 1], [5, 5, 6, 6]])
    >>> iou = jax.jit(lambda a, b: compute_iou(a, b, "xyxy"))
    >>> iou(boxes, others).round(3).tolist()
    [[0.5, 0.0]]
    """
    arrays = []
    for boxes in (boxes1, boxes2):
        array = _converted(boxes, bounding_box_format, "xyxy", image_shape)
        if array.ndim not in (2, 3):
            raise ValueError(
                "compute_iou: expected boxes of shape (boxes, 4) or (batch, boxes, 4), received "
                f"{array.shape}"
            )
        arrays.append(array)
    ndim = max(array.ndim for array in arrays)
    first, second = (_with_axes(array, ndim) for array in arrays)
    first = first[..., :, None, :]  # (..., n, 1, 4)
    second = second[..., None, :, :]  # (..., 1, m, 4)
    shared = _shared_area(first, second)  # (..., n, m)
    width1, height1 = _sides(first)
    width2, height2 = _sides(second)
    covered = width1 * height1 + width2 * height2 - shared
    found = shared / (covered + settings.epsilon)
    if use_masking:
        absent = (first.max(-1) < 0) | (second.max(-1) < 0)
        found = jnp.where(absent, mask_val, found)
    return found


def _with_axes(array: Array, ndim: int) -> Array:
    """An array with axes of length 1 in front, `ndim` axes in all."""
    return array.reshape((1,) * (ndim - array.ndim) + array.shape)


def _sides(boxes: Array) -> tuple[Array, Array]:
    """The width and the height of boxes (xyxy)."""
    return boxes[..., 2] - boxes[..., 0], boxes[..., 3] - boxes[..., 1]


def _shared_area(first: Array, second: Array) -> Array:
    """The area that boxes (xyxy) share; 0 for boxes beside each other."""
    start = jnp.maximum(first[..., :2], second[..., :2])
    end = jnp.minimum(first[..., 2:], second[..., 2:])
    sides = jnp.maximum(end - start, 0)
    return sides[..., 0] * sides[..., 1]


def compute_ciou(
    boxes1: Tree,
    boxes2: Tree,
    bounding_box_format: str,
    image_shape: ImageShape = None,
) -> Array:
    """The complete overlap of pairs of boxes: 1 for equal ones, below 0 for distant ones.

    The overlap less the distance of the centers and the difference of the ratios of the sides
    (Zheng et al. 2020).   (..., 4), (..., 4) -> (...)
    Raises ValueError for relative formats without `image_shape`.

    >>> box = np.array([0, 0, 2, 2])
    >>> jax.jit(lambda a, b: compute_ciou(a, b, "xyxy"))(box, box).round(3).item()
    1.0
    """
    tiny = settings.epsilon
    first = _converted(boxes1, bounding_box_format, "xyxy", image_shape)
    second = _converted(boxes2, bounding_box_format, "xyxy", image_shape)
    shared = _shared_area(first, second)
    width1, height1 = _sides(first)
    width2, height2 = _sides(second)
    height1, height2 = height1 + tiny, height2 + tiny
    covered = width1 * height1 + width2 * height2 - shared + tiny
    overlap = shared / (covered + tiny)
    # The smallest box around both.
    start = jnp.minimum(first[..., :2], second[..., :2])
    end = jnp.maximum(first[..., 2:], second[..., 2:])
    diagonal = ((end - start) ** 2).sum(-1) + tiny
    center1 = (first[..., :2] + first[..., 2:]) / 2
    center2 = (second[..., :2] + second[..., 2:]) / 2
    distance = ((center1 - center2) ** 2).sum(-1)
    turned = jnp.arctan(width2 / height2) - jnp.arctan(width1 / height1)
    ratio = 4 / math.pi**2 * turned**2
    weight = ratio / (ratio - overlap + (1 + tiny))
    return overlap - (distance / diagonal + ratio * weight)


def _variances(name: str, encoding: str, variance: Tree) -> Array:
    """The four variances. Raises ValueError for others, and for an unknown encoding."""
    if encoding not in ENCODINGS:
        raise ValueError(
            f"{name}: expected the encoding to be {' or '.join(ENCODINGS)}, received {encoding!r}"
        )
    if variance is None:
        return jnp.ones(4)
    array = jnp.asarray(variance, "float32")
    if array.shape[-1:] != (4,):
        raise ValueError(
            f"{name}: expected variance to be 4 numbers, received shape {array.shape}"
        )
    return array


def encode_box_to_deltas(
    anchors: Tree,
    boxes: Tree,
    anchor_format: str,
    box_format: str,
    encoding_format: str = "center_yxhw",
    variance: Tree = None,
    image_shape: ImageShape = None,
) -> Array:
    """Boxes as what has to be added to their anchors, divided by `variance`.

    Centers as a fraction of the anchor's sides, and the logarithm of the ratio of the sides.
    (anchors, 4), (..., anchors, 4) -> (..., anchors, 4)
    Raises ValueError unless `variance` is 4 numbers and the encoding one of centers.

    >>> anchors, boxes = jnp.asarray([[0.0, 0, 4, 4]]), jnp.asarray([[1.0, 2, 5, 6]])
    >>> encode_box_to_deltas(anchors, boxes, "xyxy", "xyxy").tolist()
    [[0.5, 0.25, 0.0, 0.0]]
    """
    variances = _variances("encode_box_to_deltas", encoding_format, variance)
    anchor = _converted(anchors, anchor_format, encoding_format, image_shape)
    box = _converted(boxes, box_format, encoding_format, image_shape)
    anchor = _with_axes(anchor, box.ndim)
    sides = jnp.maximum(anchor[..., 2:], settings.epsilon)
    box_sides = jnp.maximum(box[..., 2:], settings.epsilon)
    moved = (box[..., :2] - anchor[..., :2]) / sides
    scaled = jnp.log(box_sides / sides)
    deltas = jnp.concatenate([moved, scaled], axis=-1)
    return deltas / _with_axes(variances, deltas.ndim)


def decode_deltas_to_boxes(
    anchors: Tree,
    boxes_delta: Tree,
    anchor_format: str,
    box_format: str,
    encoded_format: str = "center_yxhw",
    variance: Tree = None,
    image_shape: ImageShape = None,
) -> Tree:
    """The boxes that `encode_box_to_deltas` made these deltas of; dicts of levels give dicts.

    (anchors, 4), (..., anchors, 4) -> (..., anchors, 4)
    Raises ValueError unless `variance` is 4 numbers and the encoding one of centers.

    >>> deltas = jnp.asarray([[0.5, 0.25, 0.0, 0.0]])
    >>> decode_deltas_to_boxes(jnp.asarray([[0.0, 0, 4, 4]]), deltas, "xyxy", "xyxy").tolist()
    [[1.0, 2.0, 5.0, 6.0]]
    """
    variances = _variances("decode_deltas_to_boxes", encoded_format, variance)

    def decoded(anchors: Tree, boxes_delta: Tree) -> Array:
        deltas = jnp.asarray(boxes_delta)
        deltas = deltas * _with_axes(variances, deltas.ndim)
        anchor = _converted(anchors, anchor_format, encoded_format, image_shape)
        anchor = _with_axes(anchor, deltas.ndim)
        centers = deltas[..., :2] * anchor[..., 2:] + anchor[..., :2]
        sides = jnp.exp(deltas[..., 2:]) * anchor[..., 2:]
        boxes = jnp.concatenate([centers, sides], axis=-1)
        return _converted(boxes, encoded_format, box_format, image_shape)

    if isinstance(anchors, dict) and isinstance(boxes_delta, dict):
        return {level: decoded(a, boxes_delta[level]) for level, a in anchors.items()}
    return decoded(anchors, boxes_delta)
