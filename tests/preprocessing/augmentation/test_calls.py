"""Calls of the layers: training only, seeds, dtypes, transformations of JAX, wrong arguments."""

import collections
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn import layers as L
from fnn.preprocessing import augmentation

IMAGES = np.random.default_rng(0).uniform(0, 255, (6, 9, 12, 3)).astype("float32")
CTX = fnn.Context(train=True, key=jax.random.key(1))
LAYERS = [
    L.RandomFlip(seed=1),
    L.RandomRotation(0.2, seed=1),
    L.RandomTranslation(0.2, 0.2, seed=1),
    L.RandomZoom(0.2, seed=1),
    L.RandomCrop(5, 4, seed=1),
    L.RandomShear(0.2, 0.2, seed=1),
    L.RandomPerspective((1.0, 1.0), 0.5, seed=1),
    L.RandomBrightness(0.2, seed=1),
    L.RandomContrast(0.2, seed=1),
    L.RandomSaturation(0.2, seed=1),
    L.RandomHue(0.2, seed=1),
    L.RandomSharpness(0.2, seed=1),
    L.RandomColorJitter((0, 255), 0.2, 0.2, 0.2, 0.2, seed=1),
    L.RandomColorDegeneration(0.2, seed=1),
    L.CutMix((0.5, 1.0), seed=1),
    L.MixUp(0.5, seed=1),
]


def test_every_layer_is_here():
    policies = {"AugMix", "RandAugment"}  # rows of these layers
    assert {type(layer).__name__ for layer in LAYERS} == set(augmentation.__all__) - policies


def test_arguments_are_those_of_keras():
    import keras

    for layer in LAYERS:
        name = type(layer).__name__
        ours, theirs = (
            [(p.name, p.default) for p in inspect.signature(cls).parameters.values()]
            for cls in (type(layer), getattr(keras.layers, name))
        )
        theirs = [pair for pair in theirs if pair[0] not in ("kwargs", "name")]
        assert ours[: len(theirs)] == theirs, name


@pytest.mark.slow
@pytest.mark.parametrize("layer", LAYERS, ids=repr)
def test_a_layer_alone_acts_and_its_seed_repeats_it(layer):
    first, second = layer.replace(), layer.replace()
    drawn = [first(IMAGES) for _ in range(3)]
    assert len({np.asarray(one).tobytes() for one in drawn}) > 1
    for one in drawn:
        np.testing.assert_array_equal(one, second(IMAGES, training=True))


@pytest.mark.parametrize("layer", LAYERS, ids=repr)
def test_in_inference_images_stay(layer):
    if isinstance(layer, L.RandomCrop):
        layer = layer.replace(height=9, width=12)
    np.testing.assert_array_equal(layer(IMAGES, training=False), IMAGES)
    np.testing.assert_array_equal(layer.apply({}, {}, IMAGES)[0], IMAGES)


def steps(program):
    """How often a program has each kind of operation."""
    return collections.Counter(one.primitive.name for one in program.eqns)


@pytest.mark.parametrize("layer", LAYERS, ids=repr)
def test_integers_become_floats(layer):
    """All that is done with integers is to make them floats; then come the steps for floats."""
    whole = IMAGES.astype("uint8")
    run = lambda images: layer.apply({}, {}, images, CTX)[0]
    program, of_floats = (jax.make_jaxpr(run)(x).jaxpr for x in (whole, IMAGES))
    takers = [one for one in program.eqns if program.invars[0] in one.invars]
    assert {one.primitive.name for one in takers} == {"convert_element_type"}
    assert {one.params["new_dtype"] for one in takers} == {np.dtype("float32")}
    assert steps(program) - steps(of_floats) == {"convert_element_type": len(takers)}
    assert not steps(of_floats) - steps(program)
    assert [out.aval.dtype for out in program.outvars] == ["float32"]
    plain = jax.eval_shape(lambda images: layer.apply({}, {}, images)[0], whole)
    assert plain.dtype == jnp.float32


@pytest.mark.slow
@pytest.mark.parametrize("layer", LAYERS[::5], ids=repr)
def test_integers_give_what_their_floats_give(layer):
    whole = IMAGES.astype("uint8")
    new, expected = (layer.apply({}, {}, x, CTX)[0] for x in (whole, whole.astype("float32")))
    np.testing.assert_array_equal(new, expected)


@pytest.mark.slow
@pytest.mark.parametrize("layer", LAYERS, ids=repr)
def test_vmap(layer):
    def one(image, key):
        return layer.apply({}, {}, image, fnn.Context(train=True, key=key))[0]

    @jax.jit
    def run(images, keys):
        alone = jax.lax.map(lambda given: one(*given), (images, keys))
        return jax.vmap(one)(images, keys), alone

    each, alone = run(IMAGES[:4], jax.random.split(jax.random.key(0), 4))
    # near 0 or 1 a hue may turn to the other end
    np.testing.assert_allclose(each, alone, atol=2e-2)


CHOOSING = [L.RandAugment((0, 255), num_ops=1), L.AugMix((0, 255), num_chains=1, chain_depth=1)]


@pytest.mark.slow
@pytest.mark.parametrize("layer", CHOOSING)
def test_images_that_fill_a_batch_do_not_count_where_equalization_was_chosen(layer):
    """It has one histogram a batch, as in Keras."""
    filled = np.concatenate([IMAGES, np.full_like(IMAGES[:2], 7)])
    rows = np.arange(len(filled)) < len(IMAGES)

    @jax.jit
    def run(images, real):
        drawn = layer.get_random_transformation(images, seed=jax.random.key(3))
        chosen = jnp.full_like(drawn["layer_idxes"], layer.names.index("equalization"))
        drawn = {**drawn, "layer_idxes": chosen}
        if real is not None:
            drawn = layer.among(drawn, real)
        return layer.transform_images(images, drawn)[: len(IMAGES)]

    received = [run(IMAGES, None), run(filled, rows), run(filled, rows | True)]
    np.testing.assert_allclose(received[1], received[0], atol=1e-4)
    assert np.abs(received[2] - received[0]).max() > 1  # what fills it would be seen


def test_a_row_of_augmentation_acts_when_it_is_called():
    model = fnn.Sequential([L.RandomBrightness((0.1, 0.1)), L.RandomBrightness((0.1, 0.1))])
    np.testing.assert_allclose(model(IMAGES), np.clip(IMAGES + 51, 0, 255), rtol=1e-6)
    np.testing.assert_array_equal(model(IMAGES, training=False), IMAGES)
    np.testing.assert_array_equal(model.predict(IMAGES, verbose=0), IMAGES)
    network = fnn.Sequential([L.RandomBrightness((0.1, 0.1)), L.Flatten()])
    np.testing.assert_array_equal(network(IMAGES), IMAGES.reshape(6, -1))


WRONG = [
    (lambda: L.RandomRotation(1.5), "factor to be a number from -1.0 to 1.0"),
    (lambda: L.RandomRotation((1.5, 2.0)), "factor to be a number from -1.0 to 1.0"),
    (lambda: L.RandomRotation(0.1, "edge"), "fill_mode to be one of 'reflect'"),
    (lambda: L.RandomRotation(0.1, interpolation="cubic"), "interpolation to be one of"),
    (lambda: L.RandomTranslation(0.1, (0.0, 1.1)), "width_factor to be a number from -1.0"),
    (lambda: L.RandomZoom(-1.0), "height_factor to be above -1"),
    (lambda: L.RandomZoom(0.1, (-1.0, 0.0)), "width_factor to be above -1"),
    (lambda: L.RandomShear(-0.1), "x_factor to be a number from 0.0 to 1.0"),
    (lambda: L.RandomPerspective(1.2), "factor to be a number from 0.0 to 1.0"),
    (lambda: L.RandomPerspective(scale=1.2), "scale to be a number between 0 and 1"),
    (lambda: L.RandomCrop(0, 3), "height to be an integer above 0"),
    (lambda: L.RandomFlip("diagonal"), "mode to be one of 'horizontal'"),
    (lambda: L.RandomContrast(-0.2), "factor to be a number from 0.0 to 1.0"),
    (lambda: L.RandomBrightness(0.1, 3), "value_range to be"),
    (lambda: L.RandomColorJitter(hue_factor=2.0), "factor to be a number from 0.0 to 1.0"),
    (lambda: L.MixUp(0.0), "alpha to be a finite number above 0"),
    (lambda: L.CutMix(2.0), "factor to be a number from 0.0 to 1.0"),
    (lambda: L.RandomFlip().init(jax.random.key(0), IMAGES[0, 0]), "of 4 axes"),
]


@pytest.mark.parametrize(("make", "message"), WRONG)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
