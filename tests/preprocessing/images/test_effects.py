"""Layers that draw an effect for each image: Keras's map behind the draw, and the draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn import layers as L
from tests.helpers.keras_images import at_once, twin
from tests.helpers.oracle import keras_rules

IMAGES = np.random.default_rng(0).uniform(0, 255, (6, 9, 12, 3)).astype("float32")
KEY = jax.random.key(3)

ROWS = [
    L.RandomInvert(),
    L.RandomInvert(0.5, (0, 200)),
    L.RandomPosterization(6),
    L.RandomPosterization((3, 3), (0, 200)),
    L.RandomErasing(),
    L.RandomErasing((0.5, 1.0), 0.4, (9, 8, 7)),
    L.RandomErasing((0.5, 1.0), fill_value=3.0),
    L.Solarization(0.3, (0.1, 0.6)),
    L.Solarization(0.3, value_range=(0, 400)),
]


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("layer", ROWS, ids=repr)
def test_the_map_behind_the_draw_is_that_of_keras(layer, data_format):
    layer, images = layer.replace(data_format=data_format), IMAGES
    if data_format == "channels_first":
        images = images.transpose(0, 3, 1, 2)
    drawn = layer.get_random_transformation(images, seed=KEY)
    with keras_rules():
        theirs = twin(layer).transform_images(jnp.asarray(images), drawn)
    ours = layer.transform_images(jnp.asarray(images), drawn)
    assert not np.allclose(ours, images)
    np.testing.assert_allclose(ours, theirs, atol=2e-3, rtol=1e-5)


def test_gray_images():
    layer = L.RandomGrayscale()
    drawn = np.asarray([True, False, True, False, False, True])
    with keras_rules():
        theirs = twin(layer).transform_images(IMAGES, drawn[:, None, None, None])
    ours = layer.transform_images(jnp.asarray(IMAGES), jnp.asarray(drawn))
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    assert layer(IMAGES.astype("uint8")).dtype == "uint8"


@pytest.mark.parametrize("size", [3, (5, 3)])
def test_blur(size):
    layer = L.RandomGaussianBlur(kernel_size=size, sigma=(0.4, 0.9))
    theirs = twin(layer)

    def run(images):
        drawn = layer.get_random_transformation(images, seed=KEY)
        expected = []
        for index in range(len(images)):  # Keras draws one deviation for the whole batch
            one = {
                "blur_factor": drawn["blur_factor"][index],
                "should_apply_blur": drawn["should_apply_blur"][index : index + 1],
            }
            with keras_rules():
                expected.append(theirs.transform_images(images[index : index + 1], one))
        return layer.transform_images(images, drawn), expected

    ours, expected = at_once(run, IMAGES)
    np.testing.assert_allclose(ours, np.concatenate(expected), atol=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    "layer",
    [
        L.RandomElasticTransform(),
        L.RandomElasticTransform(fill_mode="constant", fill_value=9.0, interpolation="nearest"),
    ],
    ids=repr,
)
def test_bent_images(layer):
    images = np.random.default_rng(0).uniform(0, 255, (4, 40, 56, 3)).astype("float32")
    drawn = {"apply_transform": jnp.asarray([True, True, False, True]), "seed": 7}
    drawn["distortion_factor"] = jnp.asarray(0.8)
    with keras_rules():
        theirs = twin(layer).transform_images(images, drawn)
    ours = at_once(lambda images: layer.transform_images(images, drawn), images)
    assert not np.allclose(ours[0], images[0])
    if layer.interpolation == "nearest":  # a place in the middle of two pixels goes either way
        assert (np.abs(ours - theirs) > 1e-3).mean() < 1e-3
    else:
        np.testing.assert_allclose(ours, theirs, atol=2e-2)


@pytest.mark.slow
def test_masks_are_bent_as_their_images():
    masks = np.zeros((2, 40, 40, 1), "float32")
    masks[:, 10:30, 10:30] = 255
    layer = L.RandomElasticTransform((1.0, 1.0), interpolation="nearest", seed=1)
    new = layer({"images": masks, "segmentation_masks": masks})
    np.testing.assert_array_equal(new["images"], new["segmentation_masks"])
    assert (np.asarray(new["images"]) != masks).any()
    boxes = {"boxes": np.ones((2, 1, 4)), "labels": np.ones((2, 1))}
    with pytest.raises(ValueError, match="expected data without 'bounding_boxes'"):
        layer.replace(bounding_box_format="xyxy")({"images": masks, "bounding_boxes": boxes})


def drawn_of(layer, images):
    """The draws of our layer and of Keras's, of one number for each image."""
    ours = layer.get_random_transformation(jnp.asarray(images), seed=KEY)
    with keras_rules():
        theirs = twin(layer.replace(seed=3)).get_random_transformation(jnp.asarray(images))
    return ours, theirs


MANY = np.zeros((4000, 4, 6, 1), "float32")
DISTRIBUTIONS = [
    (L.RandomInvert(0.8), "apply_inversion"),
    (L.RandomInvert((0.5, 0.9)), "apply_inversion"),
    (L.RandomPosterization(7), "shift_factor"),
    (L.RandomPosterization((3, 6)), "shift_factor"),
    (L.RandomErasing(0.6), "apply_erasing"),
    (L.RandomErasing(scale=(0.2, 0.7)), "batch_masks"),
    (L.RandomGaussianBlur(0.6), "should_apply_blur"),
    (L.RandomElasticTransform((0.2, 0.6)), "apply_transform"),
    (L.Solarization(0.4, (0.2, 0.7)), "additions"),
    (L.Solarization(0.4, (0.2, 0.7)), "thresholds"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("layer", "name"), DISTRIBUTIONS, ids=repr)
def test_draws_have_the_distribution_of_keras(layer, name):
    ours, theirs = drawn_of(layer, MANY)
    a, b = (np.asarray(drawn[name], "float64") for drawn in (ours, theirs))
    a, b = a.reshape(len(MANY), -1).mean(-1), b.reshape(len(MANY), -1).mean(-1)
    spread = np.std(b) / np.sqrt(len(MANY))
    assert abs(a.mean() - b.mean()) < 5 * spread + 1e-9
    assert abs(a.std() - b.std()) < 0.1 * b.std() + 1e-9


@pytest.mark.slow
def test_noise_is_drawn_for_each_pixel():
    layer = L.RandomErasing((1.0, 1.0), value_range=(-100, 50))
    filling = np.asarray(layer.get_random_transformation(MANY, seed=KEY)["fill_value"])
    assert filling.shape == MANY.shape
    # Normal with a deviation of 50, cut at 50: half of it is above 0, 16 % are cut.
    assert abs((filling > 0).mean() - 0.5) < 0.02
    assert abs((filling == 50).mean() - 0.1587) < 0.02


RANDOM = [
    *(L.RandomInvert(), L.RandomPosterization(7), L.RandomErasing(), L.RandomGrayscale()),
    *(L.RandomGaussianBlur(), L.RandomElasticTransform(), L.Solarization(0.5, 0.5)),
]


@pytest.mark.slow
@pytest.mark.parametrize("layer", RANDOM, ids=repr)
def test_each_image_has_its_own_draw_and_inference_has_none(layer):
    images = np.repeat(IMAGES[:1], 6, axis=0)
    ctx = fnn.Context(train=True, key=KEY)
    new = np.asarray(layer.apply({}, {}, jnp.asarray(images), ctx)[0])
    assert len({image.tobytes() for image in new}) > 1
    np.testing.assert_array_equal(layer.apply({}, {}, jnp.asarray(images))[0], images)
    with pytest.raises(ValueError, match="expected a key"):
        layer.apply({}, {}, jnp.asarray(images), fnn.Context(train=True))


@pytest.mark.slow
@pytest.mark.parametrize("layer", RANDOM, ids=repr)
def test_a_seed_makes_equal_layers_draw_equal_numbers(layer):
    layer = layer.replace(seed=5)
    first, second = layer(IMAGES), layer(IMAGES)
    again = layer.replace()
    np.testing.assert_array_equal(again(IMAGES), first)
    np.testing.assert_array_equal(again(IMAGES), second)
    assert (np.asarray(first) != np.asarray(second)).any()


BAD = [
    (lambda: L.RandomGrayscale(1.5), "factor to be a number between 0 and 1"),
    (lambda: L.RandomInvert(-0.5), "factor to be a number from 0 to 1, or two such numbers"),
    (lambda: L.RandomPosterization(9), "factor to be a number from 1 to 8"),
    (lambda: L.RandomErasing(scale=(2, 3)), "scale to be a number from 0 to 1"),
    (lambda: L.RandomErasing(fill_value=(1, 2)), "fill_value"),
    (lambda: L.RandomGaussianBlur(kernel_size=4), "kernel_size to be odd"),
    (lambda: L.RandomGaussianBlur(kernel_size=(3, 3, 3)), "kernel_size to be an integer"),
    (lambda: L.RandomElasticTransform(interpolation="bicubic"), "interpolation to be one of"),
    (lambda: L.RandomElasticTransform(fill_mode="edge"), "fill_mode to be one of"),
    (lambda: L.Solarization(1.5), "addition_factor to be a number from 0 to 1"),
    (lambda: L.RandomInvert(value_range=3), "value_range"),
]


@pytest.mark.parametrize(("make", "message"), BAD)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


POLICIES = [
    L.RandAugment(),
    L.RandAugment((0, 200), 3, (0.2, 0.4)),
    L.AugMix(),
    L.AugMix(num_chains=2, chain_depth=2, factor=0.6, all_ops=False),
]


@pytest.mark.slow
@pytest.mark.parametrize("layer", POLICIES[:2], ids=repr)
def test_rand_augment_equals_keras_for_every_choice(layer):
    layer = layer.replace(bounding_box_format="xyxy", num_ops=1)
    drawn = layer.get_random_transformation(IMAGES, seed=KEY)
    ours, theirs = jax.jit(layer.transform_images), twin(layer)
    for name in layer.names:  # each once: Keras computes all of them, whichever is chosen
        inner = getattr(theirs, name)
        with keras_rules():
            made = inner.transform_images(jnp.asarray(IMAGES), drawn["transforms"][name])
        inner.transform_images = lambda images, transformation, made=made: made
    for index in range(len(layer.names)):
        drawn["layer_idxes"] = jnp.asarray([index])
        with keras_rules():
            expected = theirs.transform_images(jnp.asarray(IMAGES), drawn)
        received = np.asarray(ours(jnp.asarray(IMAGES), drawn))
        near = np.isclose(received, expected, atol=1e-2)
        # A value at the middle of two steps is rounded either way.
        assert near.mean() > 0.999, layer.names[index]


def step(layer, drawn, chain, depth):
    """One augmentation of a chain, as Keras takes it; None if the step does nothing."""
    index = drawn["layer_idxes"][chain, depth]
    if index == len(layer.names):
        return None
    name = layer.names[index]
    one = jax.tree.map(lambda leaf: leaf[chain, depth], drawn["transforms"][name])
    return {"layer_name": name, "transformation": one}


@pytest.mark.slow
@pytest.mark.parametrize("layer", POLICIES[2:], ids=repr)
def test_aug_mix_equals_keras(layer):
    drawn = layer.get_random_transformation(IMAGES, seed=KEY)
    received = layer.transform_images(jnp.asarray(IMAGES), drawn)
    theirs = twin(layer)
    arrays = jax.tree.map(np.asarray, drawn)
    chains = [
        [step(layer, arrays, chain, depth) for depth in range(layer.chain_depth)]
        for chain in range(layer.num_chains)
    ]
    chains = [[made for made in chain if made is not None] for chain in chains]
    for image in range(len(IMAGES)):  # Keras draws the weights for the whole batch
        given = {
            "chain_mixing_weights": drawn["chain_mixing_weights"][:, image],
            "weight_sample": drawn["weight_sample"][image],
            "chain_transforms": chains,
        }
        with keras_rules():
            expected = theirs.transform_images(jnp.asarray(IMAGES), given)
        near = np.isclose(received[image], expected[image], atol=1e-2)
        assert near.mean() > 0.999


@pytest.mark.slow
def test_boxes_and_masks_follow_rand_augment():
    layer = L.RandAugment(bounding_box_format="xyxy", seed=2)
    boxes = np.asarray([[[2, 1, 5, 4], [0, 0, 11, 8]]] * 6, "float32")
    masks = (IMAGES[..., :1] > 128).astype("int32")
    targets = {"boxes": boxes, "labels": np.ones((6, 2), "int32")}
    data = {"images": IMAGES, "bounding_boxes": targets, "segmentation_masks": masks}

    @jax.jit
    def run(data, index):
        drawn = layer.get_random_transformation(data, seed=KEY)
        drawn["layer_idxes"] = jnp.broadcast_to(index, 2)
        expected = {}
        for name in layer.names:
            inner, one = layer._fnn_layers[name], data["segmentation_masks"]
            for _ in range(2):
                one = inner.transform_segmentation_masks(one, drawn["transforms"][name])
            expected[name] = one
        found = layer.transform_segmentation_masks(data["segmentation_masks"], drawn)
        return found, expected, layer.transform_bounding_boxes(data["bounding_boxes"], drawn)

    for index, name in enumerate(layer.names):
        found, expected, moved = run(data, index)
        np.testing.assert_array_equal(found, expected[name])
        assert moved["boxes"].shape == boxes.shape
        assert (np.asarray(moved["boxes"]) == boxes).all() == (index > 2)


@pytest.mark.slow
def test_policies_draw_again_each_time():
    layer = L.RandAugment(seed=1)
    different = {np.asarray(layer(IMAGES)).tobytes() for _ in range(3)}
    assert len(different) > 1
    np.testing.assert_array_equal(layer(IMAGES, training=False), IMAGES)


def test_policies_compare_and_are_written_back():
    for layer in POLICIES:
        assert type(layer).from_config(layer.get_config()) == layer
