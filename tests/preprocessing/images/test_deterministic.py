"""Layers of images that draw nothing: the numbers of Keras, run live, for images and targets."""

import copy

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

import fnn
from fnn import layers as L
from fnn.preprocessing.images.base import BaseImagePreprocessingLayer
from tests.helpers.keras_images import at_once, twin
from tests.helpers.oracle import keras_rules

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 9, 14, 3)).astype("uint8")
BOXES = {
    "boxes": np.array([[[1, 2, 7, 8], [1, 0, 13, 9], [0, 0, 0, 0], [4, 1, 8, 7]]] * 3, "float32"),
    "labels": np.array([[0, 1, 2, 5]] * 3),
}
CLAHE = L.ContrastLimitedAdaptiveHistogramEqualization

SIZED = [
    L.Resizing(4, 6),
    L.Resizing(12, 5, "nearest"),
    L.Resizing(20, 30, "bicubic"),
    L.Resizing(4, 6, "lanczos3", antialias=True),
    L.Resizing(12, 5, "lanczos5"),
    *(L.Resizing(*size, crop_to_aspect_ratio=True) for size in ((4, 6), (12, 5), (20, 30))),
    *(L.Resizing(*size, pad_to_aspect_ratio=True, fill_value=7) for size in ((4, 6), (12, 5))),
    *(L.CenterCrop(*size) for size in ((4, 6), (5, 5), (12, 5), (20, 30))),
]
COLORED = [
    L.AutoContrast(),
    L.AutoContrast((0, 1)),
    L.Equalization(),
    L.Equalization(bins=16),
    L.Equalization((0, 1)),
    CLAHE(),
    CLAHE(tile_grid_size=(2, 3), clip_limit=1.5),
    CLAHE((0, 1), tile_grid_size=(2, 3), clip_limit=0),
]
COUNTED = [L.MaxNumBoundingBoxes(3), L.MaxNumBoundingBoxes(6)]


def both(layer, data):
    with keras_rules():
        theirs = twin(layer)
        # That of equalization has operations for each of its bins: as one program it is a large one
        if isinstance(data, dict) or isinstance(layer, L.Equalization):
            theirs = theirs(copy.deepcopy(data))
        else:
            theirs = at_once(theirs, data)
    return layer(data), theirs


def assert_same(layer, data, scale=255):
    ours, theirs = both(layer, data)
    paths = jax.tree_util.tree_leaves_with_path(ours)
    for (path, a), b in zip(paths, jax.tree.leaves(theirs), strict=True):
        assert a.shape == b.shape, path
        assert a.dtype == b.dtype, path
        np.testing.assert_allclose(a, b, atol=1e-5 * scale, rtol=1e-5, err_msg=str(path))


QUICK = [*SIZED[:10:5], SIZED[8], SIZED[10], COLORED[0], COLORED[6], COUNTED[0]]
EACH = [
    layer if layer in QUICK else pytest.param(layer, marks=pytest.mark.slow)
    for layer in (*SIZED, *COLORED, *COUNTED)
]


@pytest.mark.parametrize("layer", EACH, ids=repr)
def test_images(layer):
    images = IMAGES.astype("float32")
    if getattr(layer, "value_range", None) == (0, 1):
        images = images / 255
    assert_same(layer, images, images.max())


@pytest.mark.slow
@pytest.mark.parametrize("layer", [*SIZED, *COLORED[:4], *COUNTED], ids=repr)
def test_integers_and_one_image(layer):
    assert_same(layer, IMAGES[0])


@pytest.mark.slow
def test_tiles_of_integers_are_rounded_down_as_in_keras():
    ours, theirs = both(COLORED[6], IMAGES)
    assert ours.dtype == theirs.dtype == "uint8"
    difference = np.abs(np.asarray(ours, int) - np.asarray(theirs, int))
    # A value next to an integer may fall on either side of it.
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.01


@pytest.mark.slow
@pytest.mark.parametrize("layer", [*SIZED[:1], *SIZED[-4:], COLORED[2], COLORED[6]], ids=repr)
def test_channels_first(layer):
    layer = layer.replace(data_format="channels_first")
    assert_same(layer, np.moveaxis(IMAGES, -1, 1).astype("float32"))


def test_contrast_of_channels_first_is_over_the_pixels():
    """Keras takes the extremes over channels and rows then."""
    first = L.AutoContrast(data_format="channels_first")(np.moveaxis(IMAGES, -1, 1))
    np.testing.assert_array_equal(np.moveaxis(first, 1, -1), L.AutoContrast()(IMAGES))


MOVED = [
    *((layer, "xyxy") for layer in (*SIZED[5:], COLORED[0], COLORED[2], COUNTED[0])),
    *((SIZED[0], source) for source in ("xyxy", "center_xywh", "rel_yxyx")),
    *((SIZED[-1], source) for source in ("yxyx", "rel_xyxy")),
    (COUNTED[1], "rel_xywh"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("layer", "source"), MOVED, ids=repr)
def test_targets_move_along(layer, source):
    boxes = fnn.utils.bounding_boxes.convert_format(BOXES, "xyxy", source, 9, 14)
    data = {
        "images": IMAGES,
        "bounding_boxes": {name: np.asarray(value) for name, value in boxes.items()},
        "labels": np.arange(3),
        "segmentation_masks": (IMAGES[..., :1] > 100).astype("int32"),
    }
    assert_same(layer.replace(bounding_box_format=source), data)


def test_the_data_given_stay_as_they_are():
    data = {"images": IMAGES, "name": np.arange(3)}
    new = L.Resizing(2, 2)(data)
    assert data["images"] is IMAGES
    np.testing.assert_array_equal(new["name"], data["name"])


@pytest.mark.slow
def test_in_inference():
    """As in Keras: equalization acts in training only, the others always."""
    np.testing.assert_array_equal(L.Equalization()(IMAGES, training=False), IMAGES)
    for layer in (SIZED[0], COLORED[0], COLORED[5]):
        np.testing.assert_array_equal(layer(IMAGES, training=False), layer(IMAGES))


@pytest.mark.slow
def test_examples_that_pad_a_batch_are_not_counted():
    images = jnp.asarray(IMAGES, "float32")
    ctx = fnn.Context(train=True, rows=jnp.asarray([True, True, False]))
    padded = L.Equalization().apply({}, {}, images, ctx)[0]
    np.testing.assert_array_equal(padded[:2], L.Equalization()(images[:2]))


def test_a_pipeline_runs_its_layers_and_is_saved(tmp_path):
    pipeline = L.Pipeline([L.Resizing(8, 8), L.CenterCrop(4, 6), L.AutoContrast()])
    with keras_rules():
        theirs = keras.layers.Pipeline([twin(layer) for layer in pipeline.layers])(IMAGES)
    np.testing.assert_allclose(pipeline(IMAGES), theirs, atol=1e-3)
    model = fnn.Sequential([fnn.Input((9, 14, 3)), pipeline, L.Flatten(), L.Dense(2)])
    model.save(tmp_path / "model.fnn")
    again = fnn.load(tmp_path / "model.fnn")
    x = IMAGES.astype("float32")
    np.testing.assert_array_equal(again.predict(x, verbose=0), model.predict(x, verbose=0))


def test_a_class_without_its_method():
    class Empty(BaseImagePreprocessingLayer):
        pass

    with pytest.raises(TypeError, match="expected Empty to define transform_images"):
        Empty().transform_images(IMAGES, None)


BAD = [
    (lambda: L.Resizing(0, 3), "expected height to be an integer above 0"),
    (lambda: L.Resizing(2, 2, "area"), "interpolation to be one of 'bilinear'"),
    (
        lambda: L.Resizing(2, 2, crop_to_aspect_ratio=True, pad_to_aspect_ratio=True),
        "pad_to_aspect_ratio to be False with crop_to_aspect_ratio=True",
    ),
    (lambda: L.AutoContrast((1,)), "value_range"),
    (lambda: L.Equalization(value_range=(0, "1")), "value_range"),
    (lambda: L.AutoContrast()(np.ones((3, 4))), r"of 4 axes \(batch, height, width, channels\)"),
    (lambda: L.AutoContrast()({"image": IMAGES}), "a dict with 'images'"),
    (
        lambda: L.CenterCrop(2, 2)({"images": IMAGES, "bounding_boxes": BOXES}),
        "expected bounding_box_format to be given for inputs with 'bounding_boxes'",
    ),
    (
        lambda: L.CenterCrop(2, 2, bounding_box_format="xyxy")(
            {"images": IMAGES, "bounding_boxes": {"boxes": BOXES["boxes"]}}
        ),
        "'bounding_boxes' a dict of 'boxes' and 'labels'",
    ),
    (
        lambda: L.CenterCrop(2, 2, bounding_box_format="xyxy")(
            {"images": IMAGES, "bounding_boxes": {**BOXES, "boxes": np.ones((3, 2))}}
        ),
        r"boxes of shape \(batch, boxes, 4\)",
    ),
]


@pytest.mark.parametrize(("call", "message"), BAD)
def test_wrong_arguments_and_data(call, message):
    with pytest.raises(ValueError, match=message):
        call()
