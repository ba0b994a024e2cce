"""The map behind each draw is Keras's: the same transformation gives the same pictures."""

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

from fnn import layers as L
from tests.helpers.oracle import keras_rules

RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(0, 255, (6, 9, 12, 3)).astype("float32")
KEY = jax.random.key(3)

ROWS = [
    L.RandomFlip("horizontal"),
    L.RandomFlip("vertical"),
    L.RandomFlip(),
    *(L.RandomRotation(0.3, mode) for mode in ("reflect", "wrap", "constant", "nearest")),
    L.RandomRotation((0.1, 0.2), interpolation="nearest", fill_mode="constant", fill_value=9.0),
    L.RandomTranslation(0.3, (0.1, 0.9)),
    L.RandomTranslation((-1.0, 1.0), 0.2, fill_mode="constant", fill_value=7.0),
    L.RandomZoom(0.4),
    L.RandomZoom((-0.5, 0.9), (0.2, 0.3), fill_mode="wrap"),
    L.RandomShear(0.4, 0.7),
    L.RandomShear((0.2, 0.9), fill_mode="nearest"),
    L.RandomPerspective(),
    L.RandomPerspective((0.9, 1.0), scale=0.4, fill_value=3.0),
    L.RandomBrightness(0.4),
    L.RandomContrast(0.5),
    L.RandomContrast((0.3, 0.9), value_range=(0, 200)),
    L.RandomSaturation(0.8),
    L.RandomHue(0.7),
    L.RandomSharpness(0.9),
    L.RandomColorDegeneration(0.8),
    L.CutMix(),
    L.CutMix((0.2, 0.9)),
    L.MixUp(),
    L.MixUp(alpha=2.0),
]


def twin(layer):
    """The same layer of Keras."""
    config = {name: value for name, value in layer.get_config().items() if value is not None}
    for name in ("input_shape", "trainable", "name", "dtype"):
        config.pop(name, None)
    return getattr(keras.layers, type(layer).__name__)(**config)


def close(ours, theirs, scale=255):
    np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), atol=1e-5 * scale, rtol=1e-5)


ONE_A_CLASS = {type(layer): layer for layer in ROWS}.values()
FORMATTED = [(layer, "channels_last") for layer in ONE_A_CLASS]
FORMATTED += [
    pytest.param(layer, data_format, marks=pytest.mark.slow)
    for layer in ROWS
    for data_format in ("channels_last", "channels_first")
    if (layer, data_format) not in FORMATTED
    and (data_format == "channels_last" or layer in ONE_A_CLASS)
]


@pytest.mark.parametrize(("layer", "data_format"), FORMATTED, ids=str)
def test_images(layer, data_format):
    layer = layer.replace(data_format=data_format)
    images = IMAGES
    if data_format == "channels_first":
        images = images.transpose(0, 3, 1, 2)
    drawn = layer.get_random_transformation(images, seed=KEY)
    with keras_rules():
        theirs = twin(layer).transform_images(jnp.asarray(images), drawn)
    ours = layer.transform_images(jnp.asarray(images), drawn)
    assert not np.allclose(ours, images)
    close(ours, theirs)


BOXES = np.asarray([[2, 1, 5, 4], [0, 0, 11, 8], [7, 3, 10, 9]], "float32")
BOX_LABELS = np.asarray([[0, 1, 2]] * 6, "int32")
# Keras moves boxes right for these formats only: it turns and tilts the numbers of other formats
# as if they were corners, and shears rectangular images by other factors than their boxes.
MOVED_RIGHT = [
    *((row, form) for row in ROWS[:3] for form in ("xyxy", "rel_xyxy", "center_xywh")),
    *((row, "xyxy") for row in ROWS[3:8]),
    *((row, form) for row in ROWS[8:12] for form in ("xyxy", "yxyx", "rel_xywh")),
    *((row, "xyxy") for row in ROWS[14:16]),
]


def in_format(boxes, form, shape=IMAGES.shape):
    return keras.utils.bounding_boxes.convert_format(
        boxes, source="xyxy", target=form, height=shape[1], width=shape[2]
    )


@pytest.mark.slow
@pytest.mark.parametrize(("layer", "form"), MOVED_RIGHT, ids=str)
def test_boxes(layer, form):
    layer = layer.replace(bounding_box_format=form)
    drawn = layer.get_random_transformation(IMAGES, seed=KEY)
    with keras_rules():
        boxes = jnp.asarray(in_format(np.stack([BOXES] * 6), form))
        given = {"boxes": boxes, "labels": jnp.asarray(BOX_LABELS)}
        theirs = twin(layer).transform_bounding_boxes(dict(given), drawn)
    ours = layer.transform_bounding_boxes(given, drawn)
    close(ours["boxes"], theirs["boxes"], scale=12)
    np.testing.assert_array_equal(ours["labels"], theirs["labels"])


@pytest.mark.slow
@pytest.mark.parametrize("factors", [(0.6, 0.0), (0.0, 0.6)])
def test_boxes_of_sheared_squares(factors):
    layer = L.RandomShear(*factors, bounding_box_format="xyxy")
    drawn = layer.get_random_transformation(IMAGES[:, :, :9], seed=KEY)
    given = {
        "boxes": jnp.asarray(np.stack([BOXES[:2]] * 6)),
        "labels": jnp.asarray(BOX_LABELS[:, :2]),
    }
    with keras_rules():
        theirs = twin(layer).transform_bounding_boxes(dict(given), drawn)
    ours = layer.transform_bounding_boxes(given, drawn)
    close(ours["boxes"], theirs["boxes"], scale=12)
    np.testing.assert_array_equal(ours["labels"], theirs["labels"])


@pytest.mark.slow
@pytest.mark.parametrize("layer", [*ROWS[:16], L.CutMix()], ids=repr)
def test_masks(layer):
    masks = RNG.integers(0, 9, (6, 9, 12, 1))
    drawn = layer.get_random_transformation(IMAGES, seed=KEY)
    with keras_rules():
        floats = jnp.asarray(masks, "float32")
        theirs = twin(layer).transform_segmentation_masks(floats, drawn)
    ours = layer.transform_segmentation_masks(jnp.asarray(masks), drawn)
    assert ours.dtype == jnp.int32
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("layer", [L.MixUp(0.7), L.CutMix()], ids=repr)
def test_labels(layer):
    labels = jnp.asarray(np.eye(6, dtype="float32"))
    drawn = layer.get_random_transformation(IMAGES, seed=KEY)
    with keras_rules():
        theirs = twin(layer).transform_labels(labels, drawn)
    close(layer.transform_labels(labels, drawn), theirs, scale=1)


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_crops(data_format):
    """Keras has one place for all images of a batch: here each image is given its own."""
    layer = L.RandomCrop(4, 5, data_format=data_format)
    images = IMAGES
    if data_format == "channels_first":
        images = images.transpose(0, 3, 1, 2)
    drawn = layer.get_random_transformation(images, seed=KEY)
    ours = layer.transform_images(jnp.asarray(images), drawn)
    places = {*zip(drawn["h_start"].tolist(), drawn["w_start"].tolist(), strict=True)}
    assert len(places) > 1
    for index, (top, left) in enumerate(zip(drawn["h_start"], drawn["w_start"], strict=True)):
        with keras_rules():
            theirs = twin(layer).transform_images(jnp.asarray(images[index]), (int(top), int(left)))
        np.testing.assert_array_equal(ours[index], theirs)


@pytest.mark.parametrize("size", [(9, 6), (18, 24)])
def test_crops_of_images_that_are_not_larger(size):
    """The largest part in the middle, resized: as Keras where it keeps all that fits."""
    layer = L.RandomCrop(*size)
    with keras_rules():
        theirs = twin(layer)(IMAGES, training=True)
    close(layer(IMAGES, training=True), theirs)
    assert not layer.get_random_transformation(IMAGES).keys() & {"h_start", "w_start"}


def test_crops_in_inference():
    """Those of `Resizing` with its proportions kept, as Keras's documentation says."""
    with keras_rules():
        resizing = keras.layers.Resizing(4, 8, crop_to_aspect_ratio=True)
        theirs = resizing(IMAGES)
    close(L.RandomCrop(4, 8)(IMAGES, training=False), theirs)
    cut = L.RandomCrop(9, 12)(IMAGES, training=False)
    np.testing.assert_array_equal(cut, IMAGES)


@pytest.mark.slow
def test_jitter_is_its_parts_in_a_row():
    layer = L.RandomColorJitter((0, 200), 0.3, 0.4, 0.5, 0.6)
    drawn = layer.get_random_transformation(IMAGES, seed=KEY)
    images = jnp.asarray(IMAGES)
    parts = [
        keras.layers.RandomBrightness(0.3, (0, 200)),
        keras.layers.RandomContrast(0.4, (0, 200)),
        keras.layers.RandomSaturation(0.5, (0, 200)),
        keras.layers.RandomHue(0.6, (0, 200)),
    ]
    for name, part in zip(("brightness", "contrast", "saturation", "hue"), parts, strict=True):
        with keras_rules():
            images = part.transform_images(images, drawn[name])
    close(layer.transform_images(jnp.asarray(IMAGES), drawn), images)
