"""Layers that disturb in training: their rates, their moments, what they drop together."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn import activations, regularizers  # noqa: F401 - their names
from fnn.core.calling import call, initialize, output_spec
from fnn.core.context import Context, Masked
from fnn.layers import Attention, SimpleRNNCell
from fnn.layers.dropout import (
    AlphaDropout,
    Dropout,
    GaussianDropout,
    GaussianNoise,
    SpatialDropout1D,
    SpatialDropout2D,
    SpatialDropout3D,
)
from fnn.layers.recurrent import LSTM, SimpleRNN
from fnn.layers.simple import ActivityRegularization
from fnn.regularizers import L2
from tests.helpers.keras_twins import stateless
from tests.helpers.oracle import keras_rules

IMAGES = np.random.default_rng(0).normal(size=(64, 5, 6, 7)).astype("float32")
RANDOM = [
    (Dropout(0.3), IMAGES),
    (SpatialDropout1D(0.3), IMAGES[0]),
    (SpatialDropout2D(0.3), IMAGES),
    (SpatialDropout3D(0.3), IMAGES[None]),
    (GaussianDropout(0.3), IMAGES),
    (GaussianNoise(0.3), IMAGES),
    (AlphaDropout(0.3), IMAGES),
]


@functools.partial(jax.jit, static_argnums=0)
def trained(layer, x, key, rows=None):
    return layer.apply({}, {}, x, Context(train=True, key=key, rows=rows))[0]


@pytest.mark.parametrize(("layer", "x"), RANDOM)
def test_inference_and_rate_zero_are_the_identity_without_a_key(layer, x):
    still = layer.replace(**{"stddev" if isinstance(layer, GaussianNoise) else "rate": 0.0})
    assert initialize(layer, jax.random.key(0), x) == ({}, {})
    np.testing.assert_array_equal(layer.apply({}, {}, x)[0], x)
    np.testing.assert_array_equal(still.apply({}, {}, x, Context(train=True))[0], x)
    with pytest.raises(ValueError, match="expected a key, since this layer draws random numbers"):
        layer.apply({}, {}, x, Context(train=True))


@pytest.mark.slow
@pytest.mark.parametrize(("layer", "x"), RANDOM)
def test_key_path_and_seed_decide_the_noise(layer, x, key):
    ctx = Context(train=True, key=key)
    noise = lambda layer, x, ctx=ctx: layer.apply({}, {}, x, ctx)[0]
    first = noise(layer, jnp.asarray(x))
    np.testing.assert_array_equal(first, noise(layer, jnp.asarray(x)))
    seeded = layer.replace(seed=1)
    np.testing.assert_allclose(first, trained(layer, x, key), rtol=1e-5, atol=1e-6)
    x = jnp.asarray(x)
    others = [  # operation by operation: each is compiled once for all of these
        noise(layer, x, ctx.replace(key=jax.random.key(1))),
        noise(seeded, x),
        noise(layer.replace(seed=0), x),
        noise(layer, x, ctx.replace(path=("a",))),
    ]
    for other in others:
        assert not np.array_equal(first, other)
    np.testing.assert_array_equal(others[1], noise(seeded, x))


@pytest.mark.slow
@pytest.mark.parametrize(("layer", "x"), RANDOM)
def test_gradient_is_finite_and_half_precision_stays(layer, x, key):
    gradient = jax.jit(jax.grad(lambda x: (trained(layer, x, key) ** 2).sum()))(x)
    assert np.isfinite(gradient).all()
    half = jax.ShapeDtypeStruct(x.shape, "bfloat16")
    assert jax.eval_shape(lambda x: trained(layer, x, key), half).dtype == "bfloat16"


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout_keeps_its_share_and_the_mean(rate, key):
    x = np.ones((400, 500), "float32")
    draw = lambda x: (trained(Dropout(rate), x, key).sum(), trained(Dropout(rate), x, key))
    gradient, y = jax.device_get(jax.jit(jax.grad(draw, has_aux=True))(x))
    assert set(np.unique(y)) == {0.0, np.float32(1 / (1 - rate))}
    np.testing.assert_allclose((y == 0).mean(), rate, atol=0.005)  # 4.5 standard errors
    np.testing.assert_allclose(y.mean(), 1, atol=0.03)
    np.testing.assert_array_equal(gradient, y)


def test_dropout_of_all_is_zero(key):
    np.testing.assert_array_equal(trained(Dropout(1.0), IMAGES, key), np.zeros_like(IMAGES))


@pytest.mark.slow
@pytest.mark.parametrize("cls", [Dropout, AlphaDropout])
@pytest.mark.parametrize("noise_shape", [(None, 1, 7), (64, 1, 7), [None, 1, None]])
def test_noise_shape_drops_together(cls, noise_shape, key):
    x = np.ones((64, 5, 7))
    y = np.asarray(trained(cls(0.5, noise_shape), x, key))
    np.testing.assert_array_equal(y, np.broadcast_to(y[:, :1], y.shape))
    assert len(np.unique(y)) == 2
    assert 0.3 < (y[:, 0] == y.min()).mean() < 0.7


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layer", "shape", "axes"),
    [
        (SpatialDropout1D(0.4), (50, 4, 40), (1,)),
        (SpatialDropout2D(0.4), (50, 4, 3, 40), (1, 2)),
        (SpatialDropout2D(0.4, "channels_first"), (50, 40, 4, 3), (2, 3)),
        (SpatialDropout3D(0.4), (50, 4, 3, 2, 40), (1, 2, 3)),
        (SpatialDropout3D(0.4, data_format="channels_first"), (50, 40, 4, 3, 2), (2, 3, 4)),
    ],
)
def test_spatial_dropout_drops_whole_channels(layer, shape, axes, key):
    y = np.asarray(trained(layer, np.ones(shape), key))
    channels = y.mean(axes)
    np.testing.assert_array_equal(np.unique(channels.round(4)), np.unique(y.round(4)))
    np.testing.assert_allclose((channels == 0).mean(), 0.4, atol=0.05)  # 2000 channels
    assert len(np.unique((channels == 0).sum(1))) > 1  # each example by itself


@pytest.mark.slow
def test_gaussian_dropout_has_the_moments_of_keras(key):
    import keras

    x = np.full((300, 500), 2.0, "float32")
    y = np.asarray(trained(GaussianDropout(0.2), x, key))
    with keras_rules():
        wanted = np.asarray(keras.layers.GaussianDropout(0.2, seed=1)(x, training=True))
    np.testing.assert_allclose([y.mean(), y.std()], [wanted.mean(), wanted.std()], rtol=0.01)
    np.testing.assert_allclose(y.std(), 1.0, rtol=0.01)  # 2 * sqrt(0.2 / 0.8)


def test_gaussian_noise_adds_its_spread(key):
    y = np.asarray(trained(GaussianNoise(0.5), np.full((300, 500), 2.0), key))
    np.testing.assert_allclose([y.mean(), y.std()], [2.0, 0.5], rtol=0.01)


@pytest.mark.slow
def test_alpha_dropout_gives_the_two_values_of_keras_and_keeps_the_moments(key):
    import keras

    layer = AlphaDropout(0.25)
    y = np.asarray(trained(layer, np.full((40, 50), 1.5, "float32"), key))
    with keras_rules():
        wanted = keras.layers.AlphaDropout(0.25, seed=1)(np.full((40, 50), 1.5), training=True)
    np.testing.assert_allclose(np.unique(y), np.unique(np.asarray(wanted)), rtol=1e-5)
    np.testing.assert_allclose((y == y.min()).mean(), 0.25, atol=0.04)
    normal = np.random.default_rng(0).normal(size=(500, 400))
    y = np.asarray(trained(layer, normal, key))
    np.testing.assert_allclose([y.mean(), y.std()], [0, 1], atol=0.01)


def test_activity_regularization_is_the_penalty_of_keras_a_mean_over_real_rows(key):
    import keras

    x = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
    layer = ActivityRegularization(0.3, 0.2)
    with keras_rules():
        theirs = keras.layers.ActivityRegularization(0.3, 0.2)
        theirs(x)
        wanted = float(sum(theirs.losses))
    params, state = initialize(layer, key, x)
    padded = np.concatenate([x, np.full((2, 3), 99, "float32")])

    @jax.jit
    def both(x, padded, rows):
        plain = call(layer, params, state, x, Context(train=True))
        return plain, call(layer, params, state, padded, Context(train=True, rows=rows))

    (y, after), (_, state) = both(x, padded, np.arange(6) < 4)
    np.testing.assert_array_equal(y, x)
    np.testing.assert_allclose(after["aux_loss"], wanted, rtol=1e-5)
    np.testing.assert_allclose(state["aux_loss"], wanted, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "arguments", "shapes"),
    [
        ("BatchNormalization", {}, [(4, 3)]),
        ("LayerNormalization", {"axis": 1}, [(4, 3, 2)]),
        ("MaxPooling2D", {}, [(4, 5, 6, 2)]),
        ("GlobalAveragePooling1D", {}, [(4, 3, 2)]),
        ("Add", {}, [(4, 3), (4, 3)]),
        ("Dot", {"axes": 1}, [(4, 3), (4, 3)]),
        ("Softmax", {}, [(4, 3)]),
        ("UpSampling2D", {}, [(4, 2, 3, 1)]),
    ],
)
def test_the_layer_after_is_the_argument_that_keras_takes_for_any_layer(name, arguments, shapes):
    """What fnn says to `activity_regularizer=` where a layer has no such field: in training."""
    import keras

    xs = [np.random.default_rng(i).normal(size=s).astype("float32") for i, s in enumerate(shapes)]
    x = xs[0] if len(xs) == 1 else tuple(xs)
    with keras_rules():
        regularizer = keras.regularizers.L1L2(0.3, 0.2)
        theirs = getattr(keras.layers, name)(**arguments, activity_regularizer=regularizer)
        theirs.build(xs[0].shape if len(xs) == 1 else [a.shape for a in xs])
        values = [[v.value for v in theirs.trainable_variables]]
        values += [[v.value for v in theirs.non_trainable_variables]]
        named = {"training": True} if "Batch" in name else {}
        penalty = jax.jit(lambda x: sum(stateless(theirs, *values, x, **named)[2]))

        wanted = float(penalty(xs[0] if len(xs) == 1 else xs))
    with pytest.raises(ValueError, match=r"put ActivityRegularization\(l1, l2\) after"):
        getattr(fnn.layers, name)(**arguments, activity_regularizer="l2")
    layer = getattr(fnn.layers, name)(**arguments)
    layer = fnn.layers.Sequential([layer, ActivityRegularization(0.3, 0.2)])

    def run(key, x):
        return call(layer, *initialize(layer, key, x), x, Context(train=True))[1]

    state = jax.jit(run)(jax.random.key(0), x)
    received = state["activity_regularization"]["aux_loss"]
    np.testing.assert_allclose(received, wanted, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "layer",
    [
        ActivityRegularization(0.3, 0.2),
        LSTM(2, activity_regularizer=L2(), return_sequences=True),
        SimpleRNN(2, activity_regularizer=L2(), return_sequences=True),
    ],
)
def test_the_penalty_leaves_masked_steps_out(layer, key):
    """It is that of the real steps, over the examples, whatever stands in the others."""
    mask = np.asarray([[True, True, False], [False, True, True]])
    x = IMAGES[0, :2, :3]
    params, state = jax.jit(lambda key: initialize(layer, key, x))(key)
    run = jax.jit(lambda x: call(layer, params, state, x, Context(train=True, key=key)))
    losses = []
    for junk in (0.0, 7.0, -1e3):
        y, after = run(Masked(np.where(mask[..., None], x, np.float32(junk)), mask))
        losses.append(float(after["aux_loss"]))
    real = np.asarray(y.values)[mask]
    np.testing.assert_allclose(losses, [layer.activity_regularizer(real) / 2] * 3, rtol=1e-5)


@pytest.mark.parametrize("layer", [Dropout(0.1), AlphaDropout(0.1), SpatialDropout1D(0.1)])
def test_several_inputs_are_refused(layer):
    with pytest.raises(TypeError, match="expected one array as input, received a tuple of 2"):
        layer.init(jax.random.key(0), (IMAGES, IMAGES))


def test_signatures_are_those_of_keras():
    import inspect

    import keras

    for cls in (*{type(layer) for layer, _ in RANDOM}, ActivityRegularization):
        theirs = inspect.signature(getattr(keras.layers, cls.__name__)).parameters.values()
        wanted = [(p.name, p.default) for p in theirs if p.name not in ("kwargs", "name", "dtype")]
        ours = inspect.signature(cls).parameters.values()
        assert [(p.name, p.default) for p in ours if p.kind != p.KEYWORD_ONLY] == wanted


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Dropout(1.5), "Dropout: expected rate to be a number between 0 and 1"),
        (lambda: Dropout(0.5, "ab"), "noise_shape to be a tuple of integers"),
        (lambda: Dropout(0.5, 3), "noise_shape to be a tuple of integers"),
        (lambda: Dropout(0.5, (None, 0)), "noise_shape to be a tuple of integers"),
        (lambda: Dropout(0.5, seed=-1), r"seed to be an integer from 0 to 2\*\*32 - 1"),
        (lambda: GaussianDropout(1.0), r"rate to be below 1, .*Dropout\(1.0\)"),
        (lambda: AlphaDropout(1), "rate to be below 1"),
        (lambda: GaussianNoise(-0.1), "stddev to be a finite number not below 0"),
        (lambda: ActivityRegularization(l1=-1), "l1 to be a finite number not below 0"),
        (lambda: SpatialDropout2D(0.5, "last"), "data_format to be one of None, 'channels_last'"),
        (lambda: SpatialDropout3D(0.5, "last"), "data_format to be one of None, 'channels_last'"),
        (lambda: output_spec(Dropout(0.5, (1, 2)), IMAGES), "noise_shape to have 1, None or"),
        (
            lambda: output_spec(Dropout(0.5, (None, 1, 5, 1)), IMAGES),
            r"inputs \(64, 5, 6, 7\), received noise_shape=\(None, 1, 5, 1\)",
        ),
        (
            lambda: trained(Dropout(0.5, (5, 1)), np.ones((1, 4)), jax.random.key(0)),
            "noise_shape to have 1, None or the size",
        ),
        (lambda: output_spec(SpatialDropout1D(0.5), IMAGES), "inputs of 3 axes"),
        (lambda: output_spec(SpatialDropout2D(0.5), IMAGES[0]), "inputs of 4 axes"),
        (lambda: output_spec(SpatialDropout3D(0.5), IMAGES), "inputs of 5 axes"),
    ],
)
def test_errors_say_what_to_do(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.slow
@pytest.mark.parametrize("seed", [None, 7])
@pytest.mark.parametrize("rate", [0.3, 1.0])
def test_one_rule_drops_everywhere(seed, rate):
    # The bits are those of a key by path, purpose and seed; a saved seed means the same for ever.
    ctx, x = Context(train=True, key=jax.random.key(1), path=("a",)), jnp.ones((4, 5))

    def dropped(purpose, shape):
        key = ctx.random_key(purpose)
        key = key if seed is None else jax.random.fold_in(key, seed)
        kept = jax.random.bernoulli(key, 1 - rate, shape)
        return np.where(kept, np.float32(1) / np.float32(max(1 - rate, 1e-9)), np.float32(0))

    cell = SimpleRNNCell(5, "linear", use_bias=False, dropout=rate, seed=seed)
    params = {"kernel": np.eye(5, dtype="f"), "recurrent_kernel": np.zeros((5, 5), "f")}
    attention = Attention(dropout=rate, seed=seed)

    @jax.jit
    def every(params, x):
        values = jnp.broadcast_to(jnp.eye(5), (4, 5, 5))
        return (
            Dropout(rate, seed=seed).apply({}, {}, x, ctx)[0],
            SpatialDropout1D(rate, seed=seed).apply({}, {}, x[None], ctx)[0][0, 2],
            cell.apply(params, {}, (x, jnp.zeros((4, 5))), ctx)[0][0],
            attention.apply({}, {}, (x[:, None], values), ctx)[0],
        )

    plain, spatial, recurrent, attended = every(params, x)
    np.testing.assert_allclose(plain, dropped("", (4, 5)), rtol=1e-6)
    np.testing.assert_allclose(spatial, dropped("", (1, 1, 5))[0, 0], rtol=1e-6)
    np.testing.assert_allclose(recurrent, dropped("dropout", (4, 5)), rtol=1e-6)
    np.testing.assert_allclose(attended, dropped("dropout", (4, 1, 5)) / 5, rtol=1e-6)
