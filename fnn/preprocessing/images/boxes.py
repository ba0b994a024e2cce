"""Boxes: bounding boxes in Keras's formats: conversion, cutting, overlap, deltas to anchors."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array

from fnn.core import arguments
from fnn.core.tree import Tree

Numbers = tuple[Array, Array, Array, Array]
Size = Any  # a number, an array or None

# The four numbers of a box of each absolute format, as left, top, right and bottom.
_TO_CORNERS: dict[str, Callable[..., Numbers]] = {
    "xyxy": lambda x1, y1, x2, y2: (x1, y1, x2, y2),
    "yxyx": lambda y1, x1, y2, x2: (x1, y1, x2, y2),
    "xywh": lambda x, y, w, h: (x, y, x + w, y + h),
    "center_xywh": lambda x, y, w, h: (x - w / 2, y - h / 2, x + w / 2, y + h / 2),
    "center_yxhw": lambda y, x, h, w: (x - w / 2, y - h / 2, x + w / 2, y + h / 2),
}
_OF_CORNERS: dict[str, Callable[..., Numbers]] = {
    "xyxy": lambda x1, y1, x2, y2: (x1, y1, x2, y2),
    "yxyx": lambda x1, y1, x2, y2: (y1, x1, y2, x2),
    "xywh": lambda x1, y1, x2, y2: (x1, y1, x2 - x1, y2 - y1),
    "center_xywh": lambda x1, y1, x2, y2: (
        *_center(x1, y1, x2, y2),
        x2 - x1,
        y2 - y1,
    ),
    "center_yxhw": lambda x1, y1, x2, y2: (
        *_center(x1, y1, x2, y2)[::-1],
        y2 - y1,
        x2 - x1,
    ),
}
_RELATIVE = ("rel_xyxy", "rel_yxyx", "rel_xywh", "rel_center_xywh")
FORMATS = (*_TO_CORNERS, *_RELATIVE)


def _center(x1: Array, y1: Array, x2: Array, y2: Array) -> tuple[Array, Array]:
    return x1 + (x2 - x1) / 2, y1 + (y2 - y1) / 2


def numbers(boxes: Array) -> Numbers:
    """The four numbers of boxes.   (..., 4) -> (...) each"""
    return boxes[..., 0], boxes[..., 1], boxes[..., 2], boxes[..., 3]


def stacked(numbers: Sequence[Array]) -> Array:
    """Boxes of four numbers.   (...) each -> (..., 4)"""
    return jnp.stack(numbers, axis=-1)


def check(layer: object, bounding_boxes: Any) -> None:
    """Raises ValueError unless these are boxes of four numbers, each with a label."""
    is_dict = isinstance(bounding_boxes, dict)
    if not is_dict or not {"boxes", "labels"} <= set(bounding_boxes):
        raise arguments.wrong_inputs(
            layer,
            "with 'bounding_boxes' a dict of 'boxes' and 'labels'",
            bounding_boxes,
            "e.g. {'boxes': (batch, boxes, 4), 'labels': (batch, boxes)}",
        )
    shape = getattr(bounding_boxes["boxes"], "shape", ())
    if not shape or shape[-1] != 4:
        raise arguments.wrong_inputs(
            layer,
            "with boxes of shape (batch, boxes, 4)",
            bounding_boxes["boxes"],
            "pad images of fewer boxes by boxes of zeros with label -1",
        )


def as_floats(bounding_boxes: dict[str, Tree]) -> dict[str, Tree]:
    """The dict with its boxes in float32."""
    boxes = jnp.asarray(bounding_boxes["boxes"], "float32")
    return {**bounding_boxes, "boxes": boxes}


def _refuse_others(name: str, format: str, *allowed: str) -> None:
    if format not in allowed:
        raise ValueError(
            f"{name}: expected bounding_box_format to be {' or '.join(allowed)}, received "
            f"{format!r}; use convert_format first"
        )


def convert_format(
    boxes: Tree,
    source: str,
    target: str,
    height: Size = None,
    width: Size = None,
    dtype: str = "float32",
) -> Tree:
    """Boxes in another format.   (..., 4) -> (..., 4), or a dict with `"boxes"`

    Formats: `xyxy` (left, top, right, bottom), `yxyx`, `xywh` (left, top, width, height),
    `center_xywh`, `center_yxhw`; and `rel_xyxy`, `rel_yxyx`, `rel_xywh`, `rel_center_xywh`, as
    fractions of the width and height of the image, which these need.
    Raises ValueError for other formats, and for a missing height and width.

    >>> convert_format([[10, 20, 30, 60]], "xyxy", "center_xywh").tolist()
    [[20.0, 40.0, 20.0, 40.0]]
    """
    if isinstance(boxes, dict):
        new = convert_format(boxes["boxes"], source, target, height, width, dtype)
        return {**boxes, "boxes": new}
    source, target = source.lower(), target.lower()
    for format in (source, target):
        if format not in FORMATS:
            raise ValueError(
                f"convert_format: expected formats among {', '.join(FORMATS)}, received {format!r}"
            )
    is_relative = source in _RELATIVE, target in _RELATIVE
    if any(is_relative) and (height is None or width is None):
        raise ValueError(
            f"convert_format: expected height and width to convert {source} to {target}, received "
            f"height={height} and width={width}; pass those of the image"
        )
    array = jnp.asarray(boxes, dtype)
    if array.shape[-1:] != (4,):
        raise ValueError(
            f"convert_format: expected boxes of shape (..., 4), received {array.shape}"
        )
    if source == target:
        return array
    corners = _TO_CORNERS[source.removeprefix("rel_")](*numbers(array))
    x1, y1, x2, y2 = corners
    if is_relative == (True, False):
        corners = (x1 * width, y1 * height, x2 * width, y2 * height)
    if is_relative == (False, True):
        corners = (x1 / width, y1 / height, x2 / width, y2 / height)
    return stacked(_OF_CORNERS[target.removeprefix("rel_")](*corners))


def clip_to_image_size(
    bounding_boxes: dict[str, Tree],
    height: Size = None,
    width: Size = None,
    bounding_box_format: str = "xyxy",
) -> dict[str, Tree]:
    """Boxes cut at the borders of the image; the label of a box outside of it becomes -1.

    Raises ValueError for formats other than xyxy and rel_xyxy, and for xyxy without a size.

    >>> boxes = {"boxes": np.array([[-10, 5, 20, 50], [90, 0, 95, 5]]), "labels": np.array([3, 4])}
    >>> clipped = clip_to_image_size(boxes, height=40, width=80)
    >>> clipped["boxes"].tolist(), clipped["labels"].tolist()
    ([[0, 5, 20, 40], [80, 0, 80, 5]], [3, -1])
    """
    _refuse_others("clip_to_image_size", bounding_box_format, "xyxy", "rel_xyxy")
    if bounding_box_format == "rel_xyxy":
        height = width = 1
    elif height is None or width is None:
        raise ValueError(
            "clip_to_image_size: expected height and width of the image, received "
            f"height={height} and width={width}"
        )
    boxes = crop(bounding_boxes["boxes"], 0, 0, height, width)
    clipped = {**bounding_boxes, "boxes": boxes}
    if bounding_boxes.get("labels") is not None:
        labels = jnp.asarray(bounding_boxes["labels"])
        clipped["labels"] = jnp.where(_area(boxes) > 0, labels, -1)
    return clipped


def _area(boxes: Array) -> Array:
    x1, y1, x2, y2 = numbers(boxes)
    return (x2 - x1) * (y2 - y1)


def crop(
    boxes: Tree,
    top: Size,
    left: Size,
    height: Size,
    width: Size,
    bounding_box_format: str = "xyxy",
) -> Array:
    """Boxes (xyxy) in the part of an image that begins at `top` and `left`, cut at its borders.

    >>> crop([[10, 20, 50, 60]], top=10, left=20, height=40, width=20).tolist()
    [[0, 10, 20, 40]]
    """
    _refuse_others("crop", bounding_box_format, "xyxy")
    x1, y1, x2, y2 = numbers(pad(boxes, -top, -left))
    x1, x2 = (jnp.clip(x, 0, width) for x in (x1, x2))
    y1, y2 = (jnp.clip(y, 0, height) for y in (y1, y2))
    return stacked([x1, y1, x2, y2])


def pad(
    boxes: Tree,
    top: Size,
    left: Size,
    height: Size = None,
    width: Size = None,
    bounding_box_format: str = "xyxy",
) -> Array:
    """Boxes (xyxy) in an image with a border of `top` and `left` pixels in front of it.

    >>> pad([[10, 20, 50, 60]], top=1, left=2).tolist()
    [[12, 21, 52, 61]]
    """
    _refuse_others("pad", bounding_box_format, "xyxy")
    x1, y1, x2, y2 = numbers(jnp.asarray(boxes))
    return stacked([x1 + left, y1 + top, x2 + left, y2 + top])


def scaled(boxes: Array, x: Size, y: Size) -> Array:
    """Boxes (xyxy) in an image that is x times as wide and y times as high."""
    x1, y1, x2, y2 = numbers(boxes)
    return stacked([x1 * x, y1 * y, x2 * x, y2 * y])


def affine_transform(
    boxes: Tree,
    angle: Array,
    translate_x: Array,
    translate_y: Array,
    scale: Array,
    shear_x: Array,
    shear_y: Array,
    height: Size,
    width: Size,
    center_x: Size = None,
    center_y: Size = None,
    bounding_box_format: str = "xyxy",
) -> Array:
    """The boxes (xyxy) around boxes that are turned, moved, scaled and sheared with their image.

    `angle` and the shears are degrees, the translations fractions of the size, one number for each
    image; the center is a fraction of the size too, by default the middle.
    (batch, boxes, 4) -> (batch, boxes, 4)
    Raises ValueError for another format.

    >>> box, none = jnp.asarray([[[0.0, 0, 4, 2]]]), jnp.zeros(1)
    >>> move = jnp.asarray([0.5])
    >>> moved = jax.jit(affine_transform)(box, none, move, none, none + 1, none, none, 11, 11)
    >>> moved[0, 0].tolist()
    [5.0, 0.0, 9.0, 2.0]
    """
    _refuse_others("affine_transform", bounding_box_format, "xyxy")
    given = jnp.broadcast_arrays(
        angle, shear_x, shear_y, scale, translate_x, translate_y
    )
    right, bottom = width - 1, height - 1
    center = right * _middle(center_x), bottom * _middle(center_y)
    rows = _inverse_affine(jnp.stack(given), center, (right, bottom))
    x1, y1, x2, y2 = numbers(jnp.asarray(boxes).astype(rows.dtype))
    x = jnp.stack([x1, x2, x2, x1], axis=-1)  # (batch, boxes, corners)
    y = jnp.stack([y1, y1, y2, y2], axis=-1)
    a0, a1, a2, b0, b1, b2 = rows[:, :, None, None]  # each (batch, 1, 1)
    new_x = a0 * x + a1 * y + a2
    new_y = b0 * x + b1 * y + b2
    low = new_x.min(-1), new_y.min(-1)
    high = new_x.max(-1), new_y.max(-1)
    return stacked([*low, *high])


def _middle(center: Size) -> Size:
    if center is None:
        return 0.5
    return center


def _inverse_affine(
    given: Array, center: tuple[Size, Size], size: tuple[Size, Size]
) -> Array:
    """(6, batch): where a point (x, y) goes is (a0 x + a1 y + a2, b0 x + b1 y + b2).

    `given` are angle, shears, scale and translations, each (batch,).
    """
    angle, shear_x, shear_y = -given[:3] * (math.pi / 180)
    scale, move_x, move_y = given[3:]
    a = jnp.cos(angle - shear_y) / jnp.cos(shear_y)
    b = a * jnp.tan(shear_x) + jnp.sin(angle)
    c = -jnp.sin(angle - shear_y) / jnp.cos(shear_y)
    d = jnp.cos(angle) - c * jnp.tan(shear_x)
    a0, a1 = d * scale, -b * scale
    b0, b1 = -c * scale, a * scale
    from_x = center[0] - move_x * size[0]
    from_y = center[1] - move_y * size[1]
    a2 = center[0] - a0 * from_x - a1 * from_y
    b2 = center[1] - b0 * from_x - b1 * from_y
    return jnp.stack([a0, a1, a2, b0, b1, b2])
