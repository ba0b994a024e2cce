"""Normalization layers give Keras's outputs, gradients and running averages."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import constraints, initializers, regularizers  # noqa: F401 - their names
from fnn.core.calling import call, initialize, output_spec, weight_spec
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


# The arguments of a row of the catalogue, which test_keras_layers.py compares alike.
IN_CATALOGUE = [STILL[0], STILL[5], STILL[12], STILL[13], STILL[14]]
# One of each way to gather statistics: along one axis, several, by groups.
WAYS = [("BatchNormalization", {}), *(STILL[i] for i in (0, 2, 5, 7, 12, 14))]


def rows(cases, shown):
    """A parametrization over layers; those that are not in `shown` are thorough."""
    marks = {True: (), False: pytest.mark.thorough}
    each = [pytest.param(*case, marks=marks[case in shown]) for case in cases]
    return pytest.mark.parametrize(("name", "arguments"), each)


def spread(shape, start=0.5):
    """Weights that are all different, so that none can be taken for another."""
    return np.linspace(start, start + 1, int(np.prod(shape)), dtype="float32").reshape(shape)


@functools.cache
def fresh(layer, shape=X.shape):
    """The weights and the state of a layer that is made for inputs of this shape."""
    x = jax.ShapeDtypeStruct(shape, "float32")
    return jax.jit(lambda key: initialize(layer, key, x))(jax.random.key(0))


def weighted(layer, shape=X.shape):
    """Weights that are all different, and a fresh state."""
    params, state = fresh(layer, shape)
    return {name: spread(p.shape) for name, p in params.items()}, state


def assert_close(ours, theirs):
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def built(name, arguments, shape=X.shape):
    """A layer of ours and of Keras, weights by name, as the shapes of both have them."""
    import keras

    layer = CLASSES[name](**arguments)
    params, state = fresh(layer, shape)
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


@pytest.mark.slow
@rows(STILL, [case for case in STILL if case not in IN_CATALOGUE])
def test_outputs_and_gradients_are_those_of_keras(name, arguments):
    with keras_rules():
        layer, params, state, theirs = built(name, arguments)
        ours = lambda p, x: layer.apply(p, state, x, TRAIN)[0]
        them = lambda p, x: keras_apply(theirs, p, {}, x)[0]
        run = lambda p, x: [with_gradients(function, SEED, p, x) for function in (ours, them)]
        found, wanted = jax.jit(run)(params, X)
    assert_close(found, wanted)
    assert from_config(to_config(layer)) == layer


def step_of(*pairs):
    """One program for all steps of layers, given as (in training, in inference).

    Of each it returns (outputs in inference, outputs, gradients, state).
    """

    def step(params, states, x):
        found = []
        for (train, infer), state in zip(pairs, states, strict=True):
            run = lambda params, x, train=train, state=state: train(params, state, x)
            found.append(
                (infer(params, state, x), *with_gradients(run, SEED, params, x, has_aux=True))
            )
        return found

    return jax.jit(step)


@pytest.mark.slow
@pytest.mark.parametrize("arguments", BATCH)
def test_batch_normalization_is_that_of_keras_over_several_steps(arguments):
    with keras_rules():
        layer, params, state, theirs = built("BatchNormalization", arguments)
        run = step_of(
            (lambda p, s, x: layer.apply(p, s, x, TRAIN), lambda p, s, x: layer.apply(p, s, x)),
            (
                lambda p, s, x: keras_apply(theirs, p, s, x, training=True),
                lambda p, s, x: keras_apply(theirs, p, s, x, training=False),
            ),
        )
        states = state, state
        for number in range(3):
            found, wanted = run(params, states, X * (number + 1) + number)
            assert_close(found, wanted)
            states = found[-1], wanted[-1]

    def infer(x):
        y, after = layer.apply(params, state, x)
        assert after is state
        return y

    jax.eval_shape(infer, X)
    assert from_config(to_config(layer)) == layer


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(4, 3, 8), (4, 3, 6, 8)])
def test_masked_steps_stay_out_of_the_statistics_as_in_keras(shape):
    x = X[:, :, 0] if len(shape) == 3 else X
    mask = np.random.default_rng(2).random(shape[:-1]) > 0.4
    with keras_rules():
        layer, params, state, theirs = built("BatchNormalization", {}, shape)
        masked = lambda p, x: keras_apply(theirs, p, state, x, training=True, mask=mask)
        wanted = jax.jit(masked)(params, x)
    given = jnp.asarray(mask)

    def run(params, x):
        y, new = call(layer, params, state, Masked(x, given), TRAIN)
        assert y.mask is given
        return y.values, new

    assert_close(jax.jit(run)(params, x), wanted)


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


@functools.cache
def masked_gradients(layer):
    """One program whatever stands in the padding: (gradients by weights and inputs), outputs."""

    def loss(params, padded, mask):
        y, _ = call(layer, params, {}, Masked(padded, mask), TRAIN)
        return jnp.where(y.mask[..., None], y.values * SEED[:, :, 0], 0).sum(), y.values

    return jax.jit(jax.grad(loss, (0, 1), has_aux=True))


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
    params, _ = weighted(layer, x.shape)
    if params and not isinstance(layer, GroupNormalization):  # weights of each step: in its place
        params = jax.tree.map(lambda p: np.broadcast_to(p[:1], p.shape), params)
    padded = np.where(mask[..., None], x, np.float32(junk))
    (weights, inputs), y = masked_gradients(layer)(params, padded, mask)
    y = np.asarray(y)
    for row, real, ours in zip(x, mask, y, strict=True):
        if real.any():
            wanted = plainly(layer, params, row[real])
            np.testing.assert_allclose(ours[real], wanted, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(np.asarray(inputs)[~mask], 0)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((weights, inputs)))


def test_a_mask_over_the_channels_of_groups_is_divided_as_they_are():
    x, mask = X[:, 0], np.random.default_rng(2).random((4, 6)) > 0.4
    layer = GroupNormalization(3, axis=1, center=False, scale=False)
    y = jax.jit(lambda x, mask: call(layer, {}, {}, Masked(x, mask), TRAIN)[0].values)(x, mask)
    for row, real, ours in zip(x, mask, np.asarray(y), strict=True):
        for first in range(0, 6, 2):
            group = np.flatnonzero(real[first : first + 2]) + first
            if len(group):
                wanted = (row[group] - row[group].mean()) / np.sqrt(row[group].var() + 1e-3)
                np.testing.assert_allclose(ours[group], wanted, rtol=1e-4, atol=1e-5)


def test_a_mask_changes_nothing_where_steps_are_normalized_alone():
    x = X[:, :, 0]
    mask = np.random.default_rng(2).random((4, 3)) > 0.4
    layer = LayerNormalization()
    params, _ = weighted(layer, x.shape)

    def run(x, mask):
        masked = call(layer, params, {}, Masked(x, mask), TRAIN)[0].values
        return masked, layer.apply(params, {}, x, TRAIN)[0]

    np.testing.assert_array_equal(*jax.jit(run)(x, mask))


@functools.cache
def with_and_without_rows(layer, masked):
    """One program whatever stands in the padding: values and gradients, of padded rows second."""
    state = fresh(layer)[1]

    def loss(params, x, ctx):
        y, new = layer.apply(params, state, x, ctx)
        return (y[:4] * SEED).sum(), (y[:4], new)

    differentiate = jax.value_and_grad(loss, (0, 1), has_aux=True)

    def run(params, plain, padded):
        (x, mask), (longer, longer_mask) = plain, padded
        rows = TRAIN.replace(rows=jnp.arange(7) < 4, mask=longer_mask)
        alone = differentiate(params, x, TRAIN.replace(mask=mask))
        return alone, differentiate(params, longer, rows)

    return jax.jit(run)


@pytest.mark.slow
@pytest.mark.parametrize("junk", [99.0, np.nan])
@pytest.mark.parametrize("arguments", [{}, {"axis": 1, "renorm": True}])
@pytest.mark.parametrize("masked", [False, True])
def test_padded_rows_change_nothing(junk, arguments, masked):
    layer = BatchNormalization(**arguments)
    params, _ = weighted(layer)
    mask = np.random.default_rng(2).random((4, 3)) > 0.3 if masked else None
    padded_mask = np.concatenate([mask, np.ones((3, 3), bool)]) if masked else None
    padded = np.concatenate([X, np.full((3, *X.shape[1:]), junk, "float32")])
    differentiate = with_and_without_rows(layer, masked)
    wanted, found = differentiate(params, (X, mask), (padded, padded_mask))
    (value, aux), (weights, inputs) = found
    np.testing.assert_array_equal(inputs[4:], 0)
    ours = (value, aux), (weights, inputs[:4])
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6 * max(1, np.abs(b).max()))


def test_a_batch_of_padding_alone_keeps_the_layer_finite():
    layer = BatchNormalization()
    params, state = fresh(layer)
    empty = lambda x, rows: layer.apply(params, state, x, TRAIN.replace(rows=rows))
    y, new = jax.jit(empty)(X, np.zeros(4, bool))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((y, new)))


def test_a_batch_normalization_that_does_not_learn_is_in_inference():
    layer = BatchNormalization()
    params, _ = fresh(layer)
    state = {"moving_mean": spread((8,)), "moving_variance": spread((8,), 2.0)}

    def run(x):
        found = [layer.apply(params, state, x, ctx)[0] for ctx in (INFERENCE, TRAIN)]
        frozen = layer.replace(trainable=False)
        for y, after in (
            call(layer, params, state, x, TRAIN.replace(frozen=True)),
            call(frozen, params, state, x, TRAIN),
            frozen.apply(params, state, x, TRAIN),
        ):
            assert after is state
            found.append(y)
        return found

    wanted, learning, *still, _ = jax.jit(run)(X)
    assert not np.allclose(wanted, learning)
    for y in still:
        np.testing.assert_allclose(y, wanted, rtol=1e-6)


@functools.cache
def of_other_inputs(layer):
    """One program: the outputs of `layer` as said by the names, and its gradient at zeros."""
    params, state = fresh(layer)
    apply = lambda x: layer.apply(params, state, x, TRAIN)

    def run(half, zeros, whole):
        (y, new), (wanted, _) = apply(half), apply(half.astype("float32"))
        assert all(leaf.dtype == "float32" for leaf in jax.tree.leaves((params, new)))
        return {
            "half": (y, wanted.astype("bfloat16")),
            "zeros": jax.grad(lambda x: (apply(x)[0] * SEED).sum())(zeros),
            "whole": (apply(whole)[0], apply(whole.astype("float32"))[0]),
        }

    half = (X * 0.01 + 200).astype(jnp.bfloat16)  # in bfloat16 the spread would be lost
    return jax.jit(run)(half, np.zeros_like(X), X.round().astype("int32"))


@pytest.mark.slow
@rows([("BatchNormalization", {}), *STILL], WAYS)
def test_half_precision_comes_out_and_float32_counts(name, arguments):
    y, wanted = of_other_inputs(CLASSES[name](**arguments))["half"]
    assert y.dtype == "bfloat16"
    np.testing.assert_array_equal(y, wanted)


@pytest.mark.slow
@rows([("BatchNormalization", {}), *STILL], WAYS)
def test_zeros_and_whole_numbers_are_no_trouble(name, arguments):
    found = of_other_inputs(CLASSES[name](**arguments))
    assert np.isfinite(found["zeros"]).all()
    np.testing.assert_allclose(*found["whole"])


def test_variance_survives_a_large_mean():
    # The mean of squares minus the square of the mean would give 0 or less here.
    layer = BatchNormalization(epsilon=0.0)
    params, state = fresh(layer)
    y, _ = jax.jit(lambda x: layer.apply(params, state, x, TRAIN))(X + np.float32(10_000))
    np.testing.assert_allclose(np.asarray(y).reshape(-1, 8).std(0), 1, rtol=1e-4)


@pytest.mark.slow
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
    params, state = fresh(layer, x.shape)
    run = lambda x, given: layer.apply(params, state, x, TRAIN.replace(**given))[1]
    new = jax.jit(run)(x, given)
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
    params, state = fresh(layer, x.shape)
    _, new = jax.jit(lambda x: layer.apply(params, state, x, TRAIN))(x)
    wanted = x.astype("float64").reshape(-1, 2).var(0)
    np.testing.assert_allclose(new["moving_variance"], wanted, rtol=1e-5)


def test_the_batch_is_one_on_several_devices():
    # `synchronized` has nothing to do: under jit a sharded batch has the statistics of the whole.
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:2]), ("data",))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    layer = BatchNormalization(synchronized=True)
    params, state = fresh(layer)
    run = jax.jit(lambda x: layer.apply(params, state, x, TRAIN))
    assert_close(run(jax.device_put(X, sharding)), run(X))


def test_rms_normalization_scales_along_its_own_axes():
    # The oracle is NumPy: Keras 3.15.1 always lays the weight along the last axes.
    layer = RMSNormalization(axis=(1, 2))
    scale = spread((3, 6))
    y, _ = jax.jit(lambda x: layer.apply({"scale": scale}, {}, x))(X)
    wanted = X / np.sqrt((X**2).mean((1, 2), keepdims=True) + 1e-6) * scale[None, :, :, None]
    np.testing.assert_allclose(y, wanted, rtol=1e-5)


@pytest.mark.parametrize("layer", [BatchNormalization(), LayerNormalization()])
def test_several_inputs_are_refused(layer):
    with pytest.raises(TypeError, match="expected one array as input, received a tuple of 2"):
        layer.init(jax.random.key(0), (X, X))


def test_axes_of_mixed_sign_are_counted_from_the_front():
    params, _ = weight_spec(LayerNormalization(axis=(-1, 1)), X)
    assert params["gamma"].shape == (3, 8)
    params, _ = weight_spec(RMSNormalization(axis=[-2, 1]), X)
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


@pytest.mark.slow
@pytest.mark.parametrize("layer", [LayerNormalization((1, 2)), GroupNormalization(2)], ids=str)
def test_derivatives_of_any_order_and_mode_are_those_of_the_formula(layer):
    with jax.enable_x64(True):
        x = np.random.default_rng(3).normal(2, 1, (2, 3, 4))
        params, state = fresh(layer.replace(dtype="float64"), x.shape)
        apply = lambda x: jnp.sin(layer.replace(dtype="float64").apply(params, state, x)[0])

        def formula(x):
            grouped = isinstance(layer, GroupNormalization)
            parts = x.reshape(2, 3, 2, 2) if grouped else x
            axes = (1, 3) if grouped else (1, 2)
            mean, variance = parts.mean(axes, keepdims=True), parts.var(axes, keepdims=True)
            return jnp.sin(((parts - mean) / jnp.sqrt(variance + layer.epsilon)).reshape(x.shape))

        derivatives = jax.jacfwd, jax.jacrev, jax.hessian
        every = lambda x: [[d(f)(x) for d in derivatives] for f in (apply, formula)]
        for found, wanted in zip(*jax.jit(every)(x), strict=True):
            np.testing.assert_allclose(found, wanted, atol=1e-9)
