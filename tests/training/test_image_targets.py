"""Layers of images at the head of a model change the targets of `fit` too."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn import layers as L
from fnn.layers.sequential import Sequential
from fnn.training.targets import call_with_targets, moves_targets, target_specs

RNG = np.random.default_rng(0)
X = RNG.uniform(0, 1, (20, 8, 9, 3)).astype("float32")
Y = np.eye(4, dtype="float32")[RNG.integers(0, 4, 20)]
MASKS = RNG.integers(0, 5, (20, 8, 9), "int32")
CTX = fnn.Context(train=True, key=jax.random.key(4))


def graph(layers, shape=X.shape[1:]):
    node = x = L.Input(shape)
    for layer in layers:
        node = layer(node)
    return fnn.Model(x, node).layer


def nested(layers):
    return Sequential([Sequential(layers[:-1]), layers[-1]])


def all_moved(network, x, targets, ctx=CTX):
    """The outputs and the targets, of one program: each operation alone would be one of its own."""

    def run(x, targets):
        params, state = network.init(jax.random.key(0), x)
        outputs, _, targets = call_with_targets(network, params, state, x, targets, ctx)
        return outputs, targets

    return jax.jit(run)(x, targets)


def moved(network, x, y, ctx=CTX):
    outputs, (targets,) = all_moved(network, x, (y,), ctx)
    return outputs, targets


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "layer"),
    [
        (Sequential, L.MixUp(0.8)),
        (graph, L.CutMix()),
        # How the layers are put together is the same for masks, below.
        pytest.param(Sequential, L.CutMix(), marks=pytest.mark.thorough),
        pytest.param(nested, L.MixUp(0.8), marks=pytest.mark.thorough),
    ],
)
def test_labels_are_mixed_as_the_images(make, layer):
    """Images whose means are their labels: after mixing, too."""
    x = np.broadcast_to(Y.argmax(1).astype("float32")[:, None, None, None], X.shape)
    network = make([L.RandomFlip(), layer, L.GlobalAveragePooling2D()])
    means, labels = moved(network, jnp.asarray(x), jnp.asarray(Y))
    assert not np.allclose(labels, Y)
    # The rectangle of CutMix cuts pixels.
    atol = 1e-5 if isinstance(layer, L.MixUp) else 1.0
    np.testing.assert_allclose(means[:, 0], labels @ np.arange(4), atol=atol)
    np.testing.assert_allclose(labels.sum(1), 1, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("make", [Sequential, graph, nested])
def test_masks_move_as_the_images(make):
    """The images show their masks: after augmentation, too."""
    layers = [
        L.Rescaling(2.0),
        L.RandomFlip(),
        L.RandomRotation(0.2, interpolation="nearest"),
        L.RandomTranslation(0.2, 0.2, interpolation="nearest"),
        L.RandomCrop(5, 6),
        L.Identity(),
    ]
    x, targets = MASKS[..., None].astype("float32"), (MASKS[..., None], MASKS)
    network = make(layers) if make is not graph else graph(layers, (8, 9, 1))
    seen, moved = all_moved(network, x, targets)
    for y, masks in zip(targets, moved, strict=True):
        assert masks.shape == (20, 5, 6, 1)[: y.ndim]
        assert masks.dtype == y.dtype
        np.testing.assert_array_equal(seen[..., 0], 2 * masks.reshape(20, 5, 6))


@pytest.mark.slow
def test_a_mask_beside_labels_moves_with_the_same_draw():
    network = Sequential([L.RandomFlip(), L.RandomZoom(0.4, interpolation="nearest")])
    x, masks = jnp.asarray(MASKS[..., None], "float32"), jnp.asarray(MASKS)
    images, targets = all_moved(network, x, (Y, masks, None, masks))
    np.testing.assert_array_equal(targets[0], Y)
    np.testing.assert_array_equal(targets[1], images[..., 0])
    assert targets[2] is None
    np.testing.assert_array_equal(targets[3], targets[1])


def test_channels_first():
    network = Sequential(
        [L.RandomRotation(0.2, "constant", "nearest", data_format="channels_first")]
    )
    x = jnp.asarray(MASKS[:, None], "float32")
    for y in (jnp.asarray(MASKS), jnp.asarray(MASKS[:, None])):
        images, masks = moved(network, x, y)
        np.testing.assert_array_equal(masks.reshape(images.shape), images)


def test_in_inference_targets_stay_but_for_crops():
    network = Sequential([L.MixUp(), L.RandomRotation(0.4), L.Identity()])
    inference = fnn.Context()
    _, labels = moved(network, X, Y, inference)
    np.testing.assert_array_equal(labels, Y)
    _, masks = moved(Sequential([L.RandomRotation(0.3)]), X, MASKS, inference)
    np.testing.assert_array_equal(masks, MASKS)
    _, masks = moved(Sequential([L.RandomCrop(8, 5)]), X, jnp.asarray(MASKS), inference)
    np.testing.assert_array_equal(masks, MASKS[:, :, 2:7])


def test_other_networks_are_left_alone():
    plain = Sequential([L.Rescaling(2.0), L.RandomBrightness(0.2), L.Flatten(), L.Dense(2)])
    assert not moves_targets(plain)
    assert target_specs(plain, X, (Y,))[0].shape == Y.shape


@pytest.mark.slow
def test_a_mixing_layer_elsewhere_is_an_error():
    x = L.Input(X.shape[1:])
    flat, mixed = L.Flatten()(x), L.Flatten()(L.MixUp()(L.Rescaling(2.0)(x)))
    beside = fnn.Model(x, L.Dense(4, "softmax")(L.Concatenate()([flat, mixed])))
    wrapped = fnn.Sequential([L.Remat(L.MixUp()), L.Flatten(), L.Dense(4, "softmax")])
    y = L.RandomFlip()(x)
    before = fnn.Model(x, L.Dense(4, "softmax")(L.Flatten()(L.Add()([y, L.MixUp()(y)]))))
    for model in (beside, wrapped, before):
        model.compile("sgd", "categorical_crossentropy")
        with pytest.raises(ValueError, match="expected MixUp, which changes the targets too"):
            model.fit(X, Y, verbose=0)


@pytest.mark.slow
def test_a_shortcut_behind_a_mixing_layer_is_none():
    x = L.Input(X.shape[1:])
    mixed = L.MixUp()(x)
    model = fnn.Model(x, L.Dense(4)(L.Flatten()(L.Add()([mixed, L.Conv2D(3, 1)(mixed)]))))
    trained(model, X[:16], Y[:16], loss="mse")


def trained(model, *data, **options):
    model.compile("sgd", options.pop("loss"), metrics=["accuracy"])
    history = model.fit(*data, batch_size=8, epochs=1, verbose=0, **options).history
    assert np.isfinite(history["loss"]).all()
    return history


@pytest.mark.slow
def test_fit_mixes_labels():
    model = fnn.Sequential([L.MixUp(1.0), L.Flatten(), L.Dense(4, "softmax")])
    history = trained(model, X, Y, loss="categorical_crossentropy", validation_data=(X, Y))
    loss, _ = model.evaluate(X, Y, verbose=0)
    assert history["val_loss"] == [pytest.approx(loss, rel=1e-5)]
    probabilities = model.predict(X, verbose=0)
    expected = -np.log((probabilities * Y).sum(1)).mean()
    assert loss == pytest.approx(expected, rel=1e-5)
    assert np.isfinite(model.train_on_batch(X[:8], Y[:8])).all()


@pytest.mark.slow
def test_the_loss_of_fit_is_that_of_mixed_labels():
    """A network that returns the means of the images, whose targets are these means: no loss."""
    means = X.mean((1, 2))
    model = fnn.Sequential([L.RandomFlip(), L.MixUp(1.0), L.GlobalAveragePooling2D()])
    assert max(trained(model, X[:16], means[:16], loss="mse")["loss"]) < 1e-10
    without = fnn.Sequential([L.MixUp(1.0), L.GlobalAveragePooling2D()])
    without.compile("sgd", "mse")
    assert without.evaluate(X, means[::-1].copy(), verbose=0) > 1e-4


@pytest.mark.slow
def test_fit_moves_masks_and_crops_them():
    shown = MASKS[..., None].astype("float32")
    augment = [L.RandomFlip(), L.RandomCrop(6, 6)]
    model = fnn.Sequential([*augment, L.Lambda(lambda x: jax.nn.one_hot(x[..., 0].astype(int), 5))])
    options = {"loss": "sparse_categorical_crossentropy", "validation_data": (shown, MASKS)}
    history = trained(model, shown, MASKS, **options)
    assert history["accuracy"] == [1.0]
    assert history["val_accuracy"][0] < 1  # resized images, and masks of the nearest pixels
    assert model.predict(shown, verbose=0).shape == (20, 6, 6, 5)


@pytest.mark.slow
def test_integers_of_classes_cannot_be_mixed():
    model = fnn.Sequential([L.MixUp(), L.Flatten(), L.Dense(4, "softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy")
    with pytest.raises(ValueError, match="expected labels of which a mean"):
        model.fit(X, Y.argmax(1), verbose=0)
    assert np.isfinite(model.evaluate(X, Y.argmax(1), verbose=0))


@pytest.mark.slow
def test_streams_and_mixed_precision():
    def batches():
        for start in range(0, 16, 8):
            yield X[start : start + 8], Y[start : start + 8]

    layers = [L.MixUp(1.0), L.Flatten(), L.Dense(4, "softmax")]
    model = fnn.Model(Sequential(layers, dtype="bfloat16"))
    trained(model, batches, loss="categorical_crossentropy")


@pytest.mark.slow
def test_pure_steps_mix_too():
    from fnn.training.objective import Objective, OutputGoal
    from fnn.training.state import TrainState
    from fnn.training.step import init_optimizer, make_train_step

    network = Sequential([L.MixUp(1.0), L.GlobalAveragePooling2D()])
    optimizer = fnn.optimizers.SGD(0.1)
    params, state = network.init(jax.random.key(0), X)
    now = TrainState(params, state, init_optimizer(network, optimizer, params), jax.random.key(0))
    goal = OutputGoal("output", fnn.losses.get("mse"))
    step = make_train_step(network, Objective((goal,)), optimizer)
    batch = {"x": X, "y": (X.mean((1, 2)),), "weight": ()}, jnp.ones(20, bool)
    _, logs = jax.jit(step)(now, batch, jax.random.key(1))
    assert logs["loss"].result < 1e-10
