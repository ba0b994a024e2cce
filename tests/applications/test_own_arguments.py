"""Arguments that single families have, and the layers of ConvNeXt, compared with Keras."""

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

import fnn
from fnn.applications.keras_layers import LayerScale, StochasticDepth
from fnn.core.config import from_config, to_config
from tests.helpers.applications import (
    arguments_that_differ,
    assert_equals_keras,
    difference,
    of_keras,
    ours,
    pair,
    without_drawing,
)
from tests.helpers.catalogue import jit
from tests.helpers.oracle import keras_rules

SMALL = {"classes": 3, "input_shape": (32, 32, 3)}
OTHERS = [  # arguments that change weights or layers
    # The size of images is in the names of the first two, 224 where it is not one of the usual.
    (
        "MobileNet",
        {"alpha": 0.25, "depth_multiplier": 2, "dropout": 0.3, "input_shape": (128, 128, 3)},
    ),
    ("MobileNetV2", {"alpha": 0.35, "input_shape": (100, 100, 3)}),
    ("MobileNetV2", {"alpha": 1.4, "input_shape": (128, 128, 3)}),
    ("MobileNetV3Small", {"alpha": 1.25, "dropout_rate": 0.0}),
    ("MobileNetV3Small", {"minimalistic": True, "include_preprocessing": False}),
    ("EfficientNetV2B0", {"include_preprocessing": False}),
    ("ConvNeXtTiny", {"include_preprocessing": False, "name": "mine"}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "arguments"), OTHERS)
def test_layers_for_other_arguments_are_those_of_keras(name, arguments):
    with without_drawing():
        mine = ours(name, **SMALL | arguments)
    theirs = of_keras(name, **SMALL | arguments)
    assert mine.name == theirs.name
    assert arguments_that_differ(mine, theirs) == {}


@pytest.mark.thorough
@pytest.mark.parametrize(("name", "arguments"), OTHERS)
def test_a_network_with_other_arguments_equals_keras(name, arguments):
    assert_equals_keras(name, **arguments | {"input_shape": SMALL["input_shape"]})


DEEPEST = [
    *("MobileNetV3Large", "NASNetMobile", "NASNetLarge"),
    *("EfficientNetB7", "EfficientNetV2B3", "EfficientNetV2S", "EfficientNetV2L"),
    "ConvNeXtBase",
]


@pytest.mark.thorough
@pytest.mark.parametrize("name", DEEPEST)
def test_layers_have_the_arguments_of_keras(name):
    """Rates of dropping, momenta and initializers too, which no output in inference shows."""
    with without_drawing():
        mine = ours(name, **SMALL)
    assert arguments_that_differ(mine, of_keras(name, **SMALL)) == {}


@pytest.mark.slow
def test_the_branches_of_deep_blocks_are_dropped_at_the_rates_of_keras():
    with without_drawing():
        mine = ours("EfficientNetV2Deep", **SMALL)
    theirs = of_keras("EfficientNetV2Deep", **SMALL)
    rates = {one.name: one.rate for one in mine.layers if hasattr(one, "rate")}
    assert rates == {one.name: one.rate for one in theirs.layers if hasattr(one, "rate")}
    shapes = {one.noise_shape for one in mine.layers if one.name.endswith("_drop")}
    assert shapes == {(None, 1, 1, 1)}
    assert max(rates.values()) > 0.2


@pytest.mark.slow
def test_training_normalizes_by_the_batch_as_in_keras():
    """Outputs and moved averages in training, without what drops at random."""
    mine, theirs = pair("DenseNetSmall", **SMALL)
    x = np.random.default_rng(0).uniform(-1, 1, (3, 32, 32, 3)).astype("float32")
    trained = [v.value for v in theirs.trainable_variables]
    others = [v.value for v in theirs.non_trainable_variables]
    with keras_rules():
        run = jit(lambda x: theirs.stateless_call(trained, others, x, training=True))
        expected, moved = run(x)
    ctx = fnn.Context(train=True, key=jax.random.key(0))
    y, state = jit(lambda x: mine.layer.apply(mine.params, mine.state, x, ctx))(x)
    assert difference(y, expected) < 1e-4
    paths = [v.path.split("/") for v in theirs.non_trainable_variables]
    for path, value in zip(paths, moved, strict=True):
        if path[-1] != "seed_generator_state":
            assert difference(fnn.core.tree.get(state, tuple(path)), value) < 1e-4


def test_an_efficientnet_runs_without_adapt():
    """In Keras too its normalization is the identity at first."""
    layer = fnn.applications.efficientnet._identity(3)
    x = fnn.Input((4, 4, 3))
    model = fnn.Model(x, layer(x))
    images = np.random.default_rng(0).normal(size=(2, 4, 4, 3)).astype("float32")
    np.testing.assert_allclose(model.predict(images, verbose=0), images, rtol=1e-6)


PUBLISHED = [
    ("MobileNet", {"alpha": 0.3}, "alpha to be one of"),
    ("MobileNet", {"depth_multiplier": 2}, "depth_multiplier to be one of"),
    ("MobileNetV2", {"alpha": 0.25}, "alpha to be one of"),
    ("MobileNetV3Large", {"alpha": 0.5}, "alpha to be 1"),
    ("MobileNetV3Small", {"alpha": 0.75, "minimalistic": True}, "alpha to be 1"),
    ("NASNetLarge", {"input_shape": (None, None, 3), "include_top": False}, "a known height"),
]


@pytest.mark.parametrize(("name", "arguments", "message"), PUBLISHED)
def test_weights_that_are_not_published_are_refused_as_in_keras(name, arguments, message):
    with pytest.raises(ValueError, match=f"{name}: expected .*{message}"):
        getattr(fnn.applications, name)(**arguments)
    with pytest.raises(ValueError):  # noqa: PT011 - Keras's message is its own
        getattr(keras.applications, name)(**arguments)


@pytest.mark.parametrize("name", ["MobileNet", "MobileNetV2"])
def test_weights_of_another_size_are_warned_of(name, monkeypatch, tmp_path):
    """The file is that of 224, which is not there."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setenv("FNN_CACHE", str(tmp_path))
    monkeypatch.setattr(fnn.applications.published, "STORAGE", f"file://{tmp_path}/")
    network = getattr(fnn.applications, name)
    with (
        pytest.raises(FileNotFoundError, match="224"),
        pytest.warns(UserWarning, match="224.* is published without a checksum"),
        pytest.warns(UserWarning, match=f"{name}: published weights are for square images"),
    ):
        network((64, 64, 3), include_top=False)


# -- The layers of ConvNeXt ----------------------------------------------------------------------


def test_layer_scale_equals_keras():
    x = np.random.default_rng(0).normal(size=(2, 3, 5)).astype("float32")
    layer = LayerScale(0.25, 5)
    params, state = layer.init(jax.random.key(0), x)
    with keras_rules():
        twin = keras.src.applications.convnext.LayerScale(0.25, 5)
        np.testing.assert_allclose(layer.apply(params, state, x)[0], twin(x))
    scaled = layer.apply({"gamma": jnp.arange(5.0)}, state, x)[0]
    np.testing.assert_allclose(scaled, x * np.arange(5.0), rtol=1e-6)


def test_stochastic_depth_drops_whole_examples():
    x = np.random.default_rng(0).normal(size=(4000, 2, 3)).astype("float32")
    layer = StochasticDepth(0.25)
    np.testing.assert_array_equal(layer.apply({}, {}, x)[0], x)
    ctx = fnn.Context(train=True, key=jax.random.key(0))
    y = np.asarray(layer.apply({}, {}, x, ctx)[0])
    kept = (y != 0).any((1, 2))
    np.testing.assert_allclose(y[kept], x[kept] / 0.75, rtol=1e-6)
    assert kept.mean() == pytest.approx(0.75, abs=0.03)
    with keras_rules():
        twin = keras.src.applications.convnext.StochasticDepth(0.25)
        np.testing.assert_array_equal(twin(x, training=False), x)


@pytest.mark.parametrize("layer", [LayerScale(0.5, 3), StochasticDepth(0.5)], ids=str)
def test_the_layers_of_convnext_are_saved_by_name(layer):
    assert from_config(to_config(layer)) == layer
