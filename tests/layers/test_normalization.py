"""Normalization layers give Keras's outputs, gradients and running averages."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import constraints, initializers, regularizers  # noqa: F401 - their names
from fnn.core.calling import call, initialize, output_spec
from fnn.core.config import from_config, to_config
from fnn.core.context import INFERENCE, Context, Masked
from fnn.layers.batch_normalization import BatchNormalization
from fnn.layers.normalization import (
    GroupNormalization,
    LayerNormalization,
    RMSNormalization,
    UnitNormalization,
)
from tests.helpers.compiling import with_gradients
from tests.helpers.oracle import keras_rules

pytestmark = pytest.mark.slow

X = np.random.default_rng(0).normal(1, 3, (4, 3, 6, 8)).astype("float32")
SEED = np.random.default_rng(1).normal(size=X.shape).astype("float32")
TRAIN = Context(train=True)

CLASSES = {
    c.__name__: c
    for c in (
        BatchNormalization,
        LayerNormalization,
        GroupNormalization,
        RMSNormalization,
        UnitNormalization,
    )
}
STILL = [
    ("LayerNormalization", {}),
    ("LayerNormalization", {"axis": 2, "epsilon": 0.1}),
    ("LayerNormalization", {"axis": (2, 3)}),
    ("LayerNormalization", {"axis": [1, 3], "center": False}),
    ("LayerNormalization", {"axis": [-1, -2], "scale": False}),
    ("LayerNormalization", {"rms_scaling": True}),
    ("LayerNormalization", {"rms_scaling": True, "scale": False, "axis": 1}),
    ("GroupNormalization", {"groups": 4}),
    ("GroupNormalization", {"groups": -1, "scale": False}),
    ("GroupNormalization", {"groups": 1, "center": False}),
    ("GroupNormalization", {"groups": 3, "axis": 2}),
    ("GroupNormalization", {"groups": 3, "axis": 1, "epsilon": 0.1}),
    ("RMSNormalization", {}),
    ("RMSNormalization", {"axis": (2, 3), "epsilon": 0.1}),
    ("UnitNormalization", {}),
    ("UnitNormalization", {"axis": [1, 2]}),
]
BATCH = [
    {},
    {"axis": 1},
    {"axis": 2, "momentum": 0.6, "epsilon": 0.1},
    {"axis": 0, "scale": False},
    {"center": False, "scale": False},
    {"renorm": True, "momentum": 0.7, "renorm_momentum": 0.5},
    {"renorm": True, "renorm_clipping": {"rmin": 0.5, "rmax": 1.2, "dmax": 0.3}, "center": False},
    {"renorm": True, "renorm_clipping": {"dmax": 0.1, "rmax": None}, "scale": False, "axis": 1},
]


def spread(shape, start=0.5):
    """Weights that are all different, so that none can be taken for another."""
    return np.linspace(start, start + 1, int(np.prod(shape)), dtype="float32").reshape(shape)


def assert_close(ours, theirs):
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def built(name, arguments, shape=X.shape):
    """A layer of ours and of Keras, weights by name, as the shapes of both have them."""
    import keras

    layer = CLASSES[name](**arguments)
    params, state = initialize(layer, jax.random.key(0), jax.ShapeDtypeStruct(shape, "float32"))
    theirs = getattr(keras.layers, name)(**arguments)
    theirs.build(shape)
    assert {v.name: v.shape for v in theirs.trainable_variables} == {
        n: p.shape for n, p in params.items()
    }
    for v in theirs.non_trainable_variables:
        np.testing.assert_array_equal(state[v.name], v.value)
    assert len(state) == len(theirs.non_trainable_variables)
    return layer, {n: spread(p.shape) for n, p in params.items()}, state, theirs


def keras_apply(theirs, params, state, x, **arguments):
    values = [params[v.name] for v in theirs.trainable_variables]
    others = [state[v.name] for v in theirs.non_trainable_variables]
    y, new = theirs.stateless_call(values, others, x, **arguments)
    return y, {v.name: n for v, n in zip(theirs.non_trainable_variables, new, strict=True)}


@pytest.mark.parametrize(("name", "arguments"), STILL)
def test_outputs_and_gradients_are_those_of_keras(name, arguments):
    with keras_rules():
        layer, params, state, theirs = built(name, arguments)
        wanted = with_gradients(lambda p, x: keras_apply(theirs, p, {}, x)[0], SEED, params, X)
    found = with_gradients(lambda p, x: layer.apply(p, state, x, TRAIN)[0], SEED, params, X)
    assert_close(found, wanted)
    assert from_config(to_config(layer)) == layer


def step_of(apply):
    """One program for all steps: (outputs, gradients, state) of (params, state, x)."""

    def step(params, state, x):
        run = lambda params, x: apply(params, state, x)
        return with_gradients(run, SEED, params, x, has_aux=True)

    return jax.jit(step)


@pytest.mark.parametrize("arguments", BATCH)
def test_batch_normalization_is_that_of_keras_over_several_steps(arguments):
    with keras_rules():
        layer, params, state, theirs = built("BatchNormalization", arguments)
    ours = step_of(lambda p, s, x: layer.apply(p, s, x, TRAIN))
    their_step = step_of(lambda p, s, x: keras_apply(theirs, p, s, x, training=True))
    their_state = state
    for number in range(3):
        x = X * (number + 1) + number
        *found, state = ours(params, state, x)
        with keras_rules():
            *wanted, their_state = their_step(params, their_state, x)
        assert_close((*found, state), (*wanted, their_state))
    with keras_rules():
        wanted, unchanged = keras_apply(theirs, params, their_state, X, training=False)
    value, after = layer.apply(params, state, jnp.asarray(X))
    assert_close((value, after), (wanted, unchanged))
    assert after is state
    assert from_config(to_config(layer)) == layer


@pytest.mark.parametrize("shape", [(4, 3, 8), (4, 3, 6, 8)])
def test_masked_steps_stay_out_of_the_statistics_as_in_keras(shape):
    x = X[:, :, 0] if len(shape) == 3 else X
    mask = np.random.default_rng(2).random(shape[:-1]) > 0.4
    with keras_rules():
        layer, params, state, theirs = built("BatchNormalization", {}, shape)
        wanted = keras_apply(theirs, params, state, x, training=True, mask=mask)
    y, new = call(layer, params, state, Masked(jnp.asarray(x), mask), TRAIN)
    assert_close((y.values, new), wanted)
    assert y.mask is mask


def plainly(layer, params, x):
    """What a normalization of one unpadded sequence (time, channels) is, in NumPy."""
    x, params = np.asarray(x, "float64"), jax.tree.map(np.asarray, params)
    if isinstance(layer, GroupNormalization):
        groups = x.reshape(len(x), layer.groups, -1)
        mean, variance = groups.mean((0, 2)), groups.var((0, 2))
        y = (groups - mean[:, None]) / np.sqrt(variance[:, None] + layer.epsilon)
        return y.reshape(x.shape) * params["gamma"] + params["beta"]
    if isinstance(layer, UnitNormalization):
        return x / np.sqrt((x**2).sum())
    if isinstance(layer, RMSNormalization):
        return x / np.sqrt((x**2).mean() + layer.epsilon) * params["scale"][: len(x)]
    y = (x if layer.rms_scaling else x - x.mean()) / np.sqrt(x.var() + layer.epsilon)
    shift = 0 if layer.rms_scaling else params["beta"][: len(x)]
    return y * params["gamma"][: len(x)] + shift


@pytest.mark.parametrize("junk", [99.0, np.nan])
@pytest.mark.parametrize(
    "layer",
    [
        GroupNormalization(2),
        GroupNormalization(1),
        LayerNormalization(axis=(1, 2)),
        LayerNormalization(axis=(1, 2), rms_scaling=True),
        RMSNormalization(axis=(1, 2)),
        UnitNormalization(axis=(1, 2)),
    ],
    ids=repr,
)
def test_statistics_over_time_leave_masked_steps_out(layer, junk):
    x, mask = X[:, :, 0], np.array([[1, 1, 1], [1, 1, 0], [0, 0, 1], [0, 0, 0]], bool)
    shape = jax.ShapeDtypeStruct(x.shape, "float32")
    params, _ = initialize(layer, jax.random.key(0), shape)
    params = jax.tree.map(lambda p: jnp.asarray(spread(p.shape)), params)
    if params and not isinstance(layer, GroupNormalization):  # weights of each step: in its place
        params = jax.tree.map(lambda p: p.at[:].set(p[:1]), params)
    padded = jnp.where(mask[..., None], x, junk)

    def loss(params, padded):
        y, _ = call(layer, params, {}, Masked(padded, jnp.asarray(mask)), TRAIN)
        return jnp.where(y.mask[..., None], y.values * SEED[:, :, 0], 0).sum(), y.values

    y = loss(params, padded)[1]
    for row, real, ours in zip(x, mask, y, strict=True):
        if real.any():
            wanted = plainly(layer, params, row[real])
            np.testing.assert_allclose(ours[real], wanted, rtol=1e-5, atol=1e-5)
    weights, inputs = jax.grad(loss, (0, 1), has_aux=True)(params, padded)[0]
    np.testing.assert_array_equal(np.asarray(inputs)[~mask], 0)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((weights, inputs)))


def test_a_mask_over_the_channels_of_groups_is_divided_as_they_are():
    x, mask = X[:, 0], np.random.default_rng(2).random((4, 6)) > 0.4
    layer = GroupNormalization(3, axis=1, center=False, scale=False)
    y = call(layer, {}, {}, Masked(jnp.asarray(x), jnp.asarray(mask)), TRAIN)[0].values
    for row, real, ours in zip(x, mask, np.asarray(y), strict=True):
        for first in range(0, 6, 2):
            group = np.flatnonzero(real[first : first + 2]) + first
            if len(group):
                wanted = (row[group] - row[group].mean()) / np.sqrt(row[group].var() + 1e-3)
                np.testing.assert_allclose(ours[group], wanted, rtol=1e-4, atol=1e-5)


def test_a_mask_changes_nothing_where_steps_are_normalized_alone():
    x = jnp.asarray(X[:, :, 0])
    mask = jnp.asarray(np.random.default_rng(2).random((4, 3)) > 0.4)
    layer = LayerNormalization()
    params, _ = initialize(layer, jax.random.key(0), x)
    y = call(layer, params, {}, Masked(x, mask), TRAIN)[0].values
    np.testing.assert_array_equal(y, layer.apply(params, {}, x, TRAIN)[0])


@pytest.mark.parametrize("junk", [99.0, np.nan])
@pytest.mark.parametrize("arguments", [{}, {"axis": 1, "renorm": True}])
@pytest.mark.parametrize("masked", [False, True])
def test_padded_rows_change_nothing(junk, arguments, masked):
    layer = BatchNormalization(**arguments)
    x = jnp.asarray(X)
    params, state = initialize(layer, jax.random.key(0), x)
    params = jax.tree.map(lambda p: jnp.asarray(spread(p.shape)), params)
    mask = jnp.asarray(np.random.default_rng(2).random((4, 3)) > 0.3) if masked else None

    def loss(params, x, ctx):
        y, new = layer.apply(params, state, x, ctx)
        return (y[:4] * SEED).sum(), (y[:4], new)

    differentiate = jax.value_and_grad(loss, (0, 1), has_aux=True)
    wanted = differentiate(params, x, TRAIN.replace(mask=mask))
    padded = jnp.concatenate([x, jnp.full((3, *x.shape[1:]), junk)])
    if masked:
        mask = jnp.concatenate([mask, jnp.ones((3, 3), bool)])
    rows = TRAIN.replace(rows=jnp.arange(7) < 4, mask=mask)
    (value, aux), (weights, inputs) = differentiate(params, padded, rows)
    np.testing.assert_array_equal(inputs[4:], 0)
    ours = (value, aux), (weights, inputs[:4])
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6 * max(1, np.abs(b).max()))


def test_a_batch_of_padding_alone_keeps_the_layer_finite():
    layer = BatchNormalization()
    params, state = initialize(layer, jax.random.key(0), X)
    y, new = layer.apply(params, state, jnp.asarray(X), TRAIN.replace(rows=jnp.zeros(4, bool)))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((y, new)))


def test_a_batch_normalization_that_does_not_learn_is_in_inference():
    layer = BatchNormalization()
    params, state = initialize(layer, jax.random.key(0), X)
    state = {"moving_mean": spread((8,)), "moving_variance": spread((8,), 2.0)}
    wanted = layer.apply(params, state, X, INFERENCE)[0]
    assert not np.allclose(wanted, layer.apply(params, state, X, TRAIN)[0])
    for still, ctx in (
        (layer, TRAIN.replace(frozen=True)),
        (layer.replace(trainable=False), TRAIN),
    ):
        y, after = call(still, params, state, X, ctx)
        np.testing.assert_allclose(y, wanted, rtol=1e-6)
        assert after is state
    y, after = layer.replace(trainable=False).apply(params, state, X, TRAIN)
    assert after is state


@pytest.mark.parametrize(("name", "arguments"), [("BatchNormalization", {}), *STILL])
def test_half_precision_comes_out_and_float32_counts(name, arguments):
    layer = CLASSES[name](**arguments)
    half = jnp.asarray(X * 0.01 + 200, "bfloat16")  # in bfloat16 the spread would be lost
    params, state = initialize(layer, jax.random.key(0), half)
    y, new = layer.apply(params, state, half, TRAIN)
    wanted, _ = layer.apply(params, state, half.astype("float32"), TRAIN)
    assert y.dtype == "bfloat16"
    np.testing.assert_array_equal(y, wanted.astype("bfloat16"))
    assert all(leaf.dtype == "float32" for leaf in jax.tree.leaves((params, new)))


@pytest.mark.parametrize(("name", "arguments"), [("BatchNormalization", {}), *STILL])
def test_zeros_and_whole_numbers_are_no_trouble(name, arguments):
    layer = CLASSES[name](**arguments)
    params, state = initialize(layer, jax.random.key(0), X)

    def loss(x):
        return (layer.apply(params, state, x, TRAIN)[0] * SEED).sum()

    assert np.isfinite(jax.grad(loss)(jnp.zeros(X.shape))).all()
    whole = jnp.asarray(X.round(), "int32")
    y = layer.apply(params, state, whole, TRAIN)[0]
    np.testing.assert_allclose(y, layer.apply(params, state, whole.astype(float), TRAIN)[0])


def test_variance_survives_a_large_mean():
    # The mean of squares minus the square of the mean would give 0 or less here.
    x = jnp.asarray(X + 10_000.0)
    params, state = initialize(BatchNormalization(epsilon=0.0), jax.random.key(0), x)
    y, _ = BatchNormalization(epsilon=0.0).apply(params, state, x, TRAIN)
    np.testing.assert_allclose(np.asarray(y).reshape(-1, 8).std(0), 1, rtol=1e-4)


@pytest.mark.parametrize("axis", [-1, 1])
@pytest.mark.parametrize("padding", ["mask", "rows", "both"])
def test_variance_survives_a_large_mean_where_the_first_entries_are_padding(axis, padding):
    x = np.random.default_rng(3).normal(1e4, 1, (16, 8, 5)).astype("float32")
    mask, rows = np.ones((16, 8), bool), np.ones(16, bool)
    mask[:, :3] = mask[5, -1] = padding == "rows"
    rows[[0, 7]] = padding == "mask"
    given = {"mask": mask, "rows": rows}
    given = given if padding == "both" else {padding: given[padding]}
    layer = BatchNormalization(axis=axis, momentum=0.0)
    params, state = initialize(layer, jax.random.key(0), x)
    ctx = TRAIN.replace(**{name: jnp.asarray(known) for name, known in given.items()})
    _, new = layer.apply(params, state, jnp.asarray(x), ctx)
    channels = np.moveaxis(x.astype("float64"), axis, -1).reshape(-1, x.shape[axis])
    real = np.broadcast_to((mask & rows[:, None])[..., None], x.shape)
    real = np.moveaxis(real, axis, -1).reshape(channels.shape)
    for channel, known, mean, variance in zip(
        channels.T, real.T, new["moving_mean"], new["moving_variance"], strict=True
    ):
        if known.any():
            np.testing.assert_allclose(mean, channel[known].mean(), rtol=1e-6)
            np.testing.assert_allclose(variance, channel[known].var(), rtol=1e-4)


@pytest.mark.parametrize("outlier", ["entry", "example"])
def test_variance_survives_an_outlier_at_the_start(outlier):
    x = np.random.default_rng(3).normal(1000, 2.4, (16, 16, 16, 2)).astype("float32")
    x[(0, 0, 0) if outlier == "entry" else 0] = 0  # such as a black pixel, a black image
    layer = BatchNormalization(momentum=0.0)
    params, state = initialize(layer, jax.random.key(0), x)
    _, new = layer.apply(params, state, jnp.asarray(x), TRAIN)
    wanted = x.astype("float64").reshape(-1, 2).var(0)
    np.testing.assert_allclose(new["moving_variance"], wanted, rtol=1e-5)


def test_the_batch_is_one_on_several_devices():
    # `synchronized` has nothing to do: under jit a sharded batch has the statistics of the whole.
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:2]), ("data",))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    layer = BatchNormalization(synchronized=True)
    params, state = initialize(layer, jax.random.key(0), X)
    wanted = layer.apply(params, state, X, TRAIN)
    ours = jax.jit(lambda x: layer.apply(params, state, x, TRAIN))(jax.device_put(X, sharding))
    assert_close(ours, wanted)


def test_rms_normalization_scales_along_its_own_axes():
    # The oracle is NumPy: Keras 3.15.1 always lays the weight along the last axes.
    layer = RMSNormalization(axis=(1, 2))
    scale = spread((3, 6))
    y, _ = layer.apply({"scale": scale}, {}, X)
    wanted = X / np.sqrt((X**2).mean((1, 2), keepdims=True) + 1e-6) * scale[None, :, :, None]
    np.testing.assert_allclose(y, wanted, rtol=1e-5)


@pytest.mark.parametrize("layer", [BatchNormalization(), LayerNormalization()])
def test_several_inputs_are_refused(layer):
    with pytest.raises(TypeError, match="expected one array as input, received a tuple of 2"):
        layer.init(jax.random.key(0), (X, X))


def test_axes_of_mixed_sign_are_counted_from_the_front():
    params, _ = initialize(LayerNormalization(axis=(-1, 1)), jax.random.key(0), X)
    assert params["gamma"].shape == (3, 8)
    params, _ = initialize(RMSNormalization(axis=[-2, 1]), jax.random.key(0), X)
    assert params["scale"].shape == (3, 6)


def test_signatures_are_those_of_keras():
    import keras

    for name, cls in CLASSES.items():
        theirs = inspect.signature(getattr(keras.layers, name)).parameters.values()
        ours = inspect.signature(cls).parameters.values()
        assert [(p.name, p.default) for p in ours if p.kind != p.KEYWORD_ONLY] == [
            (p.name, p.default) for p in theirs if p.name != "kwargs"
        ]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BatchNormalization(axis=(1, 2)), "expected axis to be an integer, received"),
        (lambda: BatchNormalization(momentum=1.5), "momentum to be a number between 0 and 1"),
        (
            lambda: BatchNormalization(renorm_momentum=-1),
            "renorm_momentum to be a number between 0 and 1",
        ),
        (lambda: BatchNormalization(epsilon=-1e-3), "epsilon to be a finite number not below 0"),
        (
            lambda: BatchNormalization(renorm_clipping={"max": 1}),
            'renorm_clipping to be a dict of "rmin" <= "rmax" and "dmax" >= 0, received',
        ),
        (lambda: BatchNormalization(renorm_clipping={"rmin": 2, "rmax": 1}), "to be a dict of"),
        (lambda: BatchNormalization(renorm_clipping={"dmax": -1}), "to be a dict of"),
        (lambda: BatchNormalization(renorm_clipping=3), "to be a dict of"),
        (
            lambda: output_spec(BatchNormalization(axis=4), X),
            r"to be axes of the inputs, which have shape \(4, 3, 6, 8\), each once, received",
        ),
        (
            lambda: LayerNormalization(axis="last"),
            "to be an integer or a tuple of integers",
        ),
        (lambda: LayerNormalization(axis=()), "to be an integer or a tuple of integers"),
        (lambda: output_spec(LayerNormalization(axis=(1, -3)), X), "axis to be axes of the inputs"),
        (lambda: output_spec(UnitNormalization(axis=4), X), "axis to be axes of the inputs"),
        (lambda: output_spec(RMSNormalization(axis=4), X), "axis to be axes of the inputs"),
        (lambda: output_spec(GroupNormalization(2, axis=-4), X), "axis to be that of the channels"),
        (lambda: GroupNormalization(0), "groups to be an integer above 0"),
        (
            lambda: output_spec(GroupNormalization(), X),
            r"groups to divide the channels of inputs of .*8\), received groups=32; use fewer",
        ),
    ],
)
def test_errors_say_what_to_do(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("layer", [LayerNormalization((1, 2)), GroupNormalization(2)], ids=str)
def test_derivatives_of_any_order_and_mode_are_those_of_the_formula(layer):
    with jax.enable_x64(True):
        x = jax.random.normal(jax.random.key(3), (2, 3, 4), "float64") + 2
        params, state = layer.replace(dtype="float64").init(jax.random.key(0), x)
        apply = lambda x: jnp.sin(layer.apply(params, state, x)[0])

        def formula(x):
            grouped = isinstance(layer, GroupNormalization)
            parts = x.reshape(2, 3, 2, 2) if grouped else x
            axes = (1, 3) if grouped else (1, 2)
            mean, variance = parts.mean(axes, keepdims=True), parts.var(axes, keepdims=True)
            return jnp.sin(((parts - mean) / jnp.sqrt(variance + layer.epsilon)).reshape(x.shape))

        for derivative in (jax.jacfwd, jax.jacrev, jax.hessian):
            np.testing.assert_allclose(derivative(apply)(x), derivative(formula)(x), atol=1e-9)
