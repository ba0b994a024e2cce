"""What is drawn has the distribution of Keras, and each image of a batch has its own draw."""

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

from fnn import layers as L
from tests.helpers.keras_images import at_once
from tests.helpers.oracle import keras_rules

COUNT = 4000
IMAGES = jax.ShapeDtypeStruct((COUNT, 6, 9, 3), "float32")
KEY = jax.random.key(11)

# (layer, what of the transformation is compared)
ROWS = [
    (L.RandomRotation(0.2), ["angle"]),
    (L.RandomRotation((0.1, 0.4)), ["angle"]),
    (L.RandomTranslation(0.3, (-0.1, 0.5)), ["translations"]),
    (L.RandomZoom(0.3), ["height_zoom", "width_zoom"]),
    (L.RandomZoom((-0.5, 0.2), (0.1, 0.3)), ["height_zoom", "width_zoom"]),
    (L.RandomShear(0.4, (0.2, 0.3)), ["shear_factor"]),
    (L.RandomPerspective(0.7, 0.6), ["apply_perspective", "end_points"]),
    (L.RandomPerspective((0.2, 0.4)), ["apply_perspective", "end_points"]),
    (L.RandomFlip(), ["flips"]),
    (L.RandomBrightness(0.3, (0, 100)), ["rgb_delta"]),
    (L.RandomContrast(0.3), ["contrast_factor"]),
    (L.RandomContrast((0.3, 0.6)), ["contrast_factor"]),
    (L.RandomSaturation(0.4), ["factor"]),
    (L.RandomHue((0.1, 0.4)), ["factor"]),
    (L.RandomSharpness(0.8), ["factor"]),
    (L.RandomColorDegeneration((0.2, 0.6)), ["factor"]),
    (L.MixUp(0.3), ["mix_weight"]),
    (L.CutMix((0.7, 0.7)), ["mix_weight"]),
]


def config(layer):
    held = {name: value for name, value in layer.get_config().items() if value is not None}
    return {k: v for k, v in held.items() if k not in ("name", "trainable", "dtype", "input_shape")}


def distance(ours, theirs):
    """The largest difference of the two distribution functions (Kolmogorov and Smirnov)."""
    ours, theirs = np.sort(ours), np.sort(theirs)
    places = np.concatenate([ours, theirs])
    below = [np.searchsorted(part, places, side="right") / len(part) for part in (ours, theirs)]
    return np.abs(below[0] - below[1]).max()


@pytest.mark.slow
@pytest.mark.parametrize(("layer", "names"), ROWS, ids=str)
def test_distributions(layer, names):
    drawn = layer.get_random_transformation(IMAGES, seed=KEY)
    with keras_rules():
        twin = getattr(keras.layers, type(layer).__name__)(**config(layer), seed=5)
        theirs = twin.get_random_transformation(jnp.zeros(IMAGES.shape), training=True)
    for name in names:
        mine, other = (np.asarray(d[name], "float32").reshape(COUNT, -1) for d in (drawn, theirs))
        assert mine.shape == other.shape
        for column in range(mine.shape[1]):
            # Two samples of one distribution are further apart once in a thousand times.
            assert distance(mine[:, column], other[:, column]) < 1.95 * np.sqrt(2 / COUNT)


def test_a_zoom_of_the_height_alone_keeps_the_proportions():
    drawn = L.RandomZoom(0.3).get_random_transformation(IMAGES, seed=KEY)
    np.testing.assert_array_equal(drawn["height_zoom"], drawn["width_zoom"])


def test_places_of_crops():
    """Every place is equally likely, for the rows and for the columns."""
    drawn = L.RandomCrop(4, 5).get_random_transformation(IMAGES, seed=KEY)
    for name, places in (("h_start", 3), ("w_start", 5)):
        counts = np.bincount(drawn[name], minlength=places)
        expected = COUNT / places
        assert len(counts) == places
        # 18.5 is exceeded once in a thousand times at four degrees of freedom.
        assert ((counts - expected) ** 2 / expected).sum() < 18.5


@pytest.mark.slow
def test_rectangles_of_cut_mix_lie_in_the_image_and_have_the_area_of_the_weight():
    layer = L.CutMix((0.9, 0.9))
    images = jax.ShapeDtypeStruct((300, 40, 50, 1), "f4")
    drawn = at_once(lambda key: layer.get_random_transformation(images, seed=key), KEY)
    masks = np.asarray(drawn["batch_masks"])[..., 0]
    share = 1 - np.asarray(drawn["mix_weight"]).ravel()
    # The border of a rectangle cuts pixels: by at most one row and one column at each side.
    assert np.abs(masks.mean((1, 2)) - share).max() < 2 / 40 + 2 / 50
    for mask in masks[masks.any((1, 2))]:
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        assert mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()


@pytest.mark.slow
@pytest.mark.parametrize("layer", [L.MixUp(), L.CutMix()], ids=repr)
def test_partners_are_a_permutation_of_the_images_that_are_no_padding(layer):
    images = jax.ShapeDtypeStruct((60, 6, 9, 3), "float32")
    real = np.arange(60) % 3 > 0

    def run(key, real):
        drawn = layer.get_random_transformation(images, seed=key)
        return [d["permutation_order"] for d in (drawn, layer.among(drawn, real))]

    whole, order = at_once(run, KEY, real)
    assert sorted(whole.tolist()) == list(range(60))
    assert sorted(order[real].tolist()) == np.flatnonzero(real).tolist()
    assert (order[real] != np.flatnonzero(real)).mean() > 0.8


# Of equal images every mixture is the same, and a flip has two outcomes.
DIFFERENT = [row for row, _ in ROWS if not isinstance(row, (L.MixUp, L.CutMix, L.RandomFlip))]


@pytest.mark.slow
@pytest.mark.parametrize("layer", DIFFERENT, ids=repr)
def test_each_image_has_a_draw_of_its_own(layer):
    images = np.random.default_rng(0).uniform(0, 200, (1, 6, 9, 3)).astype("float32")
    if isinstance(layer, L.RandomPerspective):
        layer = layer.replace(factor=(1.0, 1.0))
    if isinstance(layer, L.RandomSaturation):  # gray, for all factors below 0
        layer = layer.replace(factor=(0.1, 0.4))

    def run(images, key):
        return layer.transform_images(images, layer.get_random_transformation(images, seed=key))

    new = at_once(run, np.repeat(images, 4, axis=0), KEY)
    assert len({image.tobytes() for image in new}) == 4
