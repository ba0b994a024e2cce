"""Bounding boxes: every function and format against Keras, run live."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from fnn.preprocessing.images.boxes import FORMATS
from fnn.utils import bounding_boxes as ours
from tests.helpers.oracle import keras_rules

PAIRS = list(itertools.product(FORMATS, FORMATS))
HEIGHT, WIDTH = 40, 60
BOXES = np.array(
    [
        [[3, 2, 17, 30], [0, 0, 60, 40], [-8, 5, 12, 50]],
        [[1, 1, 2, 3], [70, 3, 80, 9], [0, 0, 0, 0]],
    ],
    "float32",
)
LABELS = np.array([[3, 4, 5], [6, 7, 8]])


def keras_boxes():
    import keras

    return keras.utils.bounding_boxes


def assert_same(name, *args, **named):
    with keras_rules():
        expected = getattr(keras_boxes(), name)(*args, **named)
    received = getattr(ours, name)(*args, **named)
    np.testing.assert_allclose(received, expected, rtol=1e-5, atol=1e-5)
    assert np.shape(received) == np.shape(expected)


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_every_format_is_converted_to_every_other_as_in_keras(source, target):
    boxes = np.asarray(ours.convert_format(BOXES, "xyxy", source, HEIGHT, WIDTH))
    assert_same("convert_format", boxes, source, target, height=HEIGHT, width=WIDTH)


def test_all_names_of_keras_are_here():
    with keras_rules():
        names = {name for name in dir(keras_boxes()) if name[0] != "_"}
    assert names == set(ours.__all__)


def test_a_dict_stays_as_it_was():
    given = {"boxes": BOXES, "labels": LABELS}
    new = ours.convert_format(given, "xyxy", "xywh")
    assert given["boxes"] is BOXES
    assert new["labels"] is LABELS
    np.testing.assert_array_equal(new["boxes"][0, 0], [3, 2, 14, 28])


@pytest.mark.parametrize("format", ["xyxy", "rel_xyxy"])
def test_boxes_outside_lose_their_label(format):
    boxes = np.asarray(ours.convert_format(BOXES, "xyxy", format, HEIGHT, WIDTH))
    named = {"height": HEIGHT, "width": WIDTH, "bounding_box_format": format}
    with keras_rules():
        given = {"boxes": jnp.asarray(boxes), "labels": jnp.asarray(LABELS)}
        expected = keras_boxes().clip_to_image_size(given, **named)
    received = ours.clip_to_image_size({"boxes": boxes, "labels": LABELS}, **named)
    np.testing.assert_allclose(received["boxes"], expected["boxes"], rtol=1e-6)
    np.testing.assert_array_equal(received["labels"], expected["labels"])
    assert received["labels"].tolist() == [[3, 4, 5], [6, -1, -1]]


def test_cropping_and_padding():
    assert_same("crop", BOXES, 4, 2, 20, 30)
    assert_same("pad", BOXES, 4, 2)


@pytest.mark.slow
def test_affine_transform():
    rng = np.random.default_rng(0)
    names = ("angle", "translate_x", "translate_y", "scale", "shear_x", "shear_y")
    drawn = {name: jnp.asarray(rng.uniform(0.1, 1, 2), "float32") for name in names}
    drawn["angle"] = jnp.asarray([30.0, -80])
    drawn["shear_x"] = jnp.asarray([10.0, -20])
    assert_same("affine_transform", BOXES, **drawn, height=HEIGHT, width=WIDTH)
    center = {"center_x": 0.2, "center_y": 0.8}
    assert_same("affine_transform", BOXES, **drawn, height=HEIGHT, width=WIDTH, **center)


@pytest.mark.slow
@pytest.mark.parametrize("first", [BOXES, BOXES[0]])
@pytest.mark.parametrize("second", [BOXES[:, :2] + 3, BOXES[0] + 2])
def test_overlap_of_all_pairs(first, second):
    assert_same("compute_iou", first, second, "xyxy")
    assert_same("compute_iou", first / 60, second / 60, "rel_xywh", image_shape=(40, 60, 3))


@pytest.mark.slow
def test_masked_pairs():
    boxes = np.concatenate([BOXES, np.full((2, 1, 4), -1, "float32")], axis=1)
    assert_same("compute_iou", boxes, boxes + 0, "xyxy", use_masking=True, mask_val=-7)


def test_complete_overlap():
    assert_same("compute_ciou", BOXES[:, :2], BOXES[:, :2] + [[[1, 2, 9, 5]]], "xyxy")
    assert_same("compute_ciou", BOXES[:, :2], BOXES[:, 1::-1], "center_xywh")


@pytest.mark.parametrize("encoding", ["center_xywh", "center_yxhw"])
@pytest.mark.parametrize("variance", [None, [0.1, 0.1, 0.2, 0.3]])
def test_deltas_to_anchors_and_back(encoding, variance):
    anchors = BOXES[0] + np.array([1, 2, 9, 12], "float32")
    formats = {"anchor_format": "xyxy", "box_format": "rel_yxyx"}
    named = {**formats, "variance": variance, "image_shape": (HEIGHT, WIDTH, 3)}
    boxes = np.asarray(ours.convert_format(BOXES, "xyxy", "rel_yxyx", HEIGHT, WIDTH))
    assert_same("encode_box_to_deltas", anchors, boxes, encoding_format=encoding, **named)
    deltas = ours.encode_box_to_deltas(anchors, boxes, encoding_format=encoding, **named)
    named["encoded_format"] = encoding
    assert_same("decode_deltas_to_boxes", anchors, np.asarray(deltas), **named)
    back = ours.decode_deltas_to_boxes(anchors, deltas, **named)
    np.testing.assert_allclose(back[0], boxes[0], atol=1e-5)
    levels = ours.decode_deltas_to_boxes({"a": anchors}, {"a": deltas}, **named)
    np.testing.assert_array_equal(levels["a"], back)


ANCHOR = np.ones((1, 4), "float32")
BAD = [
    (lambda: ours.convert_format(BOXES, "xyxy", "corners"), "expected formats among xyxy"),
    (lambda: ours.convert_format(BOXES, "xyxy", "rel_xywh"), "expected height and width"),
    (lambda: ours.convert_format(BOXES[..., :3], "xyxy", "xywh"), r"\(\.\.\., 4\), received"),
    (lambda: ours.crop(BOXES, 0, 0, 1, 1, "xywh"), "use convert_format first"),
    (lambda: ours.clip_to_image_size({"boxes": BOXES}), "height=None and width=None"),
    (lambda: ours.compute_iou(BOXES[0, 0], BOXES, "xyxy"), r"received \(4,\)"),
    (lambda: ours.compute_ciou(BOXES, BOXES, "rel_xyxy"), "expected height and width"),
    (
        lambda: ours.encode_box_to_deltas(ANCHOR, ANCHOR, "xyxy", "xyxy", "xywh"),
        "the encoding to be center_xywh or center_yxhw",
    ),
    (
        lambda: ours.encode_box_to_deltas(ANCHOR, ANCHOR, "xyxy", "xyxy", variance=[1, 2]),
        r"variance to be 4 numbers, received shape \(2,\)",
    ),
]


@pytest.mark.parametrize(("call", "message"), BAD)
def test_wrong_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()
