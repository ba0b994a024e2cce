"""Labels, boxes and masks move along with the images."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn import layers as L
from fnn.preprocessing.images.boxes import FORMATS, convert_format
from tests.helpers.keras_images import at_once

KEY = jax.random.key(5)
HEIGHT, WIDTH = 40, 56
# (left, top, right, bottom)
BOX = np.asarray([20.0, 12.0, 34.0, 24.0], "float32")

GEOMETRIC = [
    L.RandomFlip("horizontal"),
    L.RandomFlip(),
    L.RandomRotation(0.2, "constant"),
    L.RandomTranslation(0.2, 0.3, "constant"),
    L.RandomZoom(0.3, (-0.4, 0.2), "constant"),
    L.RandomShear(0.4, fill_mode="constant"),
    L.RandomShear(0.0, 0.3, fill_mode="constant"),
    L.RandomShear(0.3, 0.2, fill_mode="constant"),
    L.RandomPerspective(1.0, 0.5),
    L.RandomCrop(30, 40),
    L.RandomCrop(60, 40),
]


def painted(count=6):
    """Images whose pixels in the box are 1, and the box as that of one object."""
    images = np.zeros((count, HEIGHT, WIDTH, 1), "float32")
    left, top, right, bottom = BOX.astype(int)
    images[:, top:bottom, left:right] = 1
    return images


@functools.cache
def boxes_in(form):
    return np.asarray(convert_format(BOX[None], "xyxy", form, HEIGHT, WIDTH))


def data(form="xyxy", count=6):
    given = jnp.asarray(np.stack([boxes_in(form)] * count))
    targets = {"boxes": given, "labels": jnp.asarray(np.full((count, 1), 7, "int32"))}
    images, masks = jnp.asarray(painted(count)), jnp.asarray(painted(count).astype("int32"))
    return {"images": images, "bounding_boxes": targets, "segmentation_masks": masks}


def run(layer, inputs, key=KEY):
    return layer.apply({}, {}, inputs, fnn.Context(train=True, key=key))[0]


@pytest.mark.slow
@pytest.mark.parametrize("layer", GEOMETRIC, ids=repr)
def test_boxes_and_masks_stay_around_what_they_are_around(layer):
    new = run(layer.replace(bounding_box_format="xyxy"), data())
    masks = np.asarray(new["segmentation_masks"])[..., 0]
    assert masks.dtype == np.int32
    close_pictures = np.abs(np.asarray(new["images"])[..., 0] - masks) < 0.75
    assert close_pictures.mean() > 0.99
    moved = 0
    for mask, box, label in zip(
        masks, new["bounding_boxes"]["boxes"], new["bounding_boxes"]["labels"], strict=True
    ):
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if not len(rows):
            continue
        seen = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        # Pixels are squares around their places, for boxes beside them: half a pixel and rounding.
        np.testing.assert_allclose(np.asarray(box[0]), seen, atol=2.1)
        assert int(label[0]) == 7
        moved += not np.array_equal(seen, BOX)
    assert moved


@functools.cache
def moved_boxes(layer, form):
    """The new boxes of a layer of this format."""
    return run(layer.replace(bounding_box_format=form), data(form))["bounding_boxes"]


@pytest.mark.slow
@pytest.mark.parametrize("layer", GEOMETRIC, ids=repr)
@pytest.mark.parametrize("form", FORMATS)
def test_boxes_of_every_format(layer, form):
    expected, found = moved_boxes(layer, "xyxy"), moved_boxes(layer, form)
    height, width = HEIGHT, WIDTH
    if isinstance(layer, L.RandomCrop):
        height, width = layer.height, layer.width
    boxes = convert_format(found["boxes"], form, "xyxy", height, width)
    np.testing.assert_allclose(boxes, expected["boxes"], atol=1e-3)
    np.testing.assert_array_equal(found["labels"], expected["labels"])


@pytest.mark.slow
def test_the_label_of_a_box_outside_becomes_minus_one():
    layer = L.RandomTranslation(0.0, (0.9, 0.9), bounding_box_format="xyxy")
    new = run(layer, data())["bounding_boxes"]
    assert new["labels"].tolist() == [[-1]] * 6


ONE_A_CLASS = list({type(layer): layer for layer in GEOMETRIC}.values())


@pytest.mark.slow
@pytest.mark.parametrize("layer", ONE_A_CLASS, ids=repr)
def test_one_image_is_a_batch_of_one(layer):
    layer = layer.replace(bounding_box_format="xyxy")
    batch = {**data(count=1), "labels": jnp.ones((1, 3))}
    one = jax.tree.map(lambda leaf: leaf[0], batch)
    expected, single = at_once(lambda *given: [run(layer, x) for x in given], batch, one)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[0], b, atol=1e-4), expected, single)


@pytest.mark.slow
def test_boxes_of_mixed_images_are_those_of_both():
    layer = L.MixUp(bounding_box_format="xyxy")
    inputs = data()
    boxes = inputs["bounding_boxes"]["boxes"] + jnp.arange(6.0)[:, None, None]
    labels = jnp.arange(6)[:, None]
    drawn = layer.get_random_transformation(inputs, seed=KEY)
    new = layer.transform_bounding_boxes({"boxes": boxes, "labels": labels}, drawn)
    order = np.asarray(drawn["permutation_order"])
    np.testing.assert_array_equal(new["labels"][:, 0], np.arange(6))
    np.testing.assert_array_equal(new["labels"][:, 1], order)
    np.testing.assert_array_equal(new["boxes"][:, 1], boxes[order][:, 0])


def test_mixed_masks():
    layer = L.MixUp()
    masks = jnp.asarray(np.eye(6, dtype="float32").reshape(6, 1, 1, 6))
    drawn = layer.get_random_transformation(painted(), seed=KEY)
    new = layer.transform_segmentation_masks(masks, drawn)
    weight, order = drawn["mix_weight"], np.asarray(drawn["permutation_order"])
    for index in range(6):
        expected = weight[index] * np.eye(6)[index] + (1 - weight[index]) * np.eye(6)[order[index]]
        np.testing.assert_allclose(new[index, 0, 0], expected, atol=1e-6)


COLORS = [
    L.RandomBrightness(0.5),
    L.RandomContrast(0.5),
    L.RandomSharpness(0.5),
    L.RandomColorJitter(contrast_factor=0.5),
]


@pytest.mark.parametrize("layer", COLORS, ids=repr)
def test_colors_leave_targets(layer):
    layer = layer.replace(bounding_box_format="xyxy")
    inputs = {**data(), "labels": jnp.arange(6)}
    new = run(layer, inputs)
    assert new.keys() == inputs.keys()
    del inputs["images"], new["images"]
    jax.tree.map(np.testing.assert_array_equal, new, inputs)


@pytest.mark.slow
@pytest.mark.parametrize("layer", [L.MixUp(), L.CutMix()], ids=repr)
@pytest.mark.parametrize("shape", [(6,), (6, 1)])
def test_integers_of_classes_cannot_be_mixed(layer, shape):
    inputs = {"images": painted(), "labels": jnp.zeros(shape, int)}
    with pytest.raises(ValueError, match=r"expected labels of which a mean.*to_categorical"):
        run(layer, inputs)
    plain = layer.apply({}, {}, inputs, fnn.Context())[0]
    np.testing.assert_array_equal(plain["labels"], inputs["labels"])


def test_one_hot_labels_of_integers_are_mixed():
    inputs = {"images": painted(), "labels": jnp.eye(6, dtype=int)}
    np.testing.assert_allclose(run(L.MixUp(), inputs)["labels"].sum(1), 1, rtol=1e-6)


def test_cut_mix_refuses_boxes():
    with pytest.raises(ValueError, match=r"CutMix: expected data without 'bounding_boxes'"):
        run(L.CutMix(bounding_box_format="xyxy"), data())


def test_boxes_need_their_format():
    with pytest.raises(ValueError, match="bounding_box_format='xyxy'"):
        run(L.RandomFlip(), data())
