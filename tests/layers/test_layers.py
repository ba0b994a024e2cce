"""What a row of the catalogue cannot say: where masks go, dropout along time, what is compiled."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import Input, initializers
from fnn import layers as L
from fnn.core.calling import call, initialize
from fnn.core.context import INFERENCE, Context, Masked, salt, strip_masks
from tests.helpers.catalogue import Case, jit
from tests.helpers.oracle import keras_rules

KEY = jax.random.key(0)


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def with_nan(x):
    """NaN in a step that `HALF` masks."""
    x[0, 1] = np.nan
    return x


def run(layer, x, ctx=INFERENCE):
    """The outputs of a fresh layer, in one program."""
    return jax.jit(lambda x: call(layer, *initialize(layer, KEY, x), x, ctx)[0])(x)


HALF = np.array([[True, False, True], [False, False, False]])


@pytest.mark.slow
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize(
    ("layer", "reduce"), [(L.GlobalMaxPooling1D, np.max), (L.GlobalAveragePooling1D, np.mean)]
)
@pytest.mark.parametrize("channels_first", [False, True])
def test_global_pooling_leaves_masked_steps_out(layer, reduce, keepdims, channels_first):
    """Where no step is real the result is 0, and its gradient is finite."""
    axis = 2 if channels_first else 1
    layer = layer("channels_first" if channels_first else None, keepdims)
    x = np.swapaxes(with_nan(random(2, 3, 4)), 1, axis)
    expected = reduce(np.take(x[0], [0, 2], axis - 1), axis - 1, keepdims=keepdims)

    @jax.jit
    @functools.partial(jax.grad, has_aux=True)
    def graded(x):
        y = call(layer, {}, {}, Masked(x, HALF), INFERENCE)[0]
        return jnp.sum(y**2), y

    gradient, y = graded(x)
    np.testing.assert_allclose(y[0], expected, rtol=1e-6)
    np.testing.assert_array_equal(y[1], np.zeros_like(expected))
    assert np.isfinite(gradient).all()
    np.testing.assert_array_equal(np.take(np.asarray(gradient[0]), 1, axis - 1), np.zeros(4))


def test_averages_of_long_sequences_in_bfloat16_count_right():
    x = Masked(np.ones((1, 700, 2), jnp.bfloat16), np.ones((1, 700), bool))
    assert run(L.GlobalAveragePooling1D(), x).tolist() == [[1.0, 1.0]]


def test_a_sum_is_real_where_all_its_inputs_are():
    other = np.array([[True, True, False]] * 2)
    x = random(2, 3, 4)
    y = run(L.Add(), (Masked(x, HALF), Masked(x, other), x))
    np.testing.assert_array_equal(y.mask, HALF & other)


def test_concatenation_in_time_concatenates_the_masks():
    x = random(2, 3, 4)
    y = run(L.Concatenate(1), (Masked(x, HALF), x))
    np.testing.assert_array_equal(y.mask, np.concatenate([HALF, np.ones((2, 3), bool)], 1))
    y = run(L.Concatenate(), (Masked(x, HALF), x))
    np.testing.assert_array_equal(y.mask, HALF)


@pytest.mark.parametrize("layer", [L.Add(), L.Multiply(), L.Maximum(), L.Average()], ids=repr)
def test_masks_repeat_as_their_values_do(layer):
    """A mask of one step is for all the steps along which its values repeat."""
    one, many = np.ones((3, 1, 4), "float32"), np.ones((3, 6, 4), "float32")
    short = np.asarray([[True], [False], [True]])
    long = np.arange(18).reshape(3, 6) % 4 != 1
    given = (
        ((Masked(one, short), many), np.broadcast_to(short, (3, 6))),
        ((many, Masked(one, short)), np.broadcast_to(short, (3, 6))),
        ((Masked(one, short), Masked(many, long)), short & long),
        ((np.ones((3, 4), "float32"), Masked(many, long)), long),
    )

    @jax.jit
    def every(given):
        pairs = ((x, tuple(map(strip_masks, x))) for x in given)
        return [[call(layer, {}, {}, x, INFERENCE)[0] for x in pair] for pair in pairs]

    for (y, single), (_, real) in zip(every([x for x, _ in given]), given, strict=True):
        assert y.shape == (3, 6, 4)
        np.testing.assert_array_equal(y.mask, real)
        np.testing.assert_array_equal(y.values, single)


@pytest.mark.slow
def test_masks_add_up_along_the_way():
    ids = jnp.array([[1, 0, 2]])
    embedded = run(L.Embedding(3, 2, mask_zero=True), Masked(ids, jnp.array([[True, True, False]])))
    assert embedded.mask.tolist() == [[True, False, False]]
    assert run(L.Masking(), Masked(random(1, 3, 2), embedded.mask)).mask.tolist() == [
        [True, False, False]
    ]
    assert not isinstance(run(L.Unmask(), embedded), Masked)
    passed = run(L.Lambda(jnp.square, mask=lambda x, mask: ~mask), embedded)
    assert passed.mask.tolist() == [[False, True, True]]


@pytest.mark.slow
@pytest.mark.parametrize("layer", [L.LSTM, L.GRU, L.SimpleRNN])
def test_the_mask_turns_round_with_the_sequence(layer):
    layer = layer(2, go_backwards=True, return_sequences=True)
    assert run(layer, Masked(random(2, 3, 4), HALF)).mask.tolist() == HALF[:, ::-1].tolist()


@pytest.mark.slow
@pytest.mark.parametrize("layer", [L.LSTM(2), L.GRU(2), L.SimpleRNN(2)], ids=repr)
def test_not_even_nan_in_a_masked_step_reaches_a_gradient(layer):
    case = Case(layer, with_nan(random(2, 3, 4)))
    (params, state), x = case.weights, case.x
    loss = lambda params, x: jnp.sum(call(layer, params, state, Masked(x, HALF), INFERENCE)[0] ** 2)
    gradients = jax.jit(jax.grad(loss, (0, 1)))(params, x)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradients))


TRAINING = Context(train=True, key=jax.random.key(3))


def test_dropout_drops_the_same_features_at_every_step():
    layer = L.SimpleRNN(50, None, False, dropout=0.25, return_sequences=True)
    zeros, eye = np.zeros((50, 50), "float32"), np.eye(50, dtype="float32")
    run = jax.jit(lambda params, x: layer.apply(params, {}, x, TRAINING)[0])
    y = np.asarray(run({"kernel": eye, "recurrent_kernel": zeros}, np.ones((40, 5, 50), "f")))
    np.testing.assert_array_equal(y, np.broadcast_to(y[:, :1], y.shape))
    np.testing.assert_allclose(np.unique(y), [0, 1 / 0.75], rtol=1e-6)
    assert abs(float(y.mean()) - 1) < 0.05


@pytest.mark.slow
def test_recurrent_dropout_drops_the_same_units_at_every_step():
    layer = L.SimpleRNN(50, None, False, recurrent_dropout=0.5, return_sequences=True)
    params = {"kernel": np.zeros((3, 50), "f"), "recurrent_kernel": np.eye(50, dtype="f")}
    run = jax.jit(lambda params, x: layer.apply(params, {}, x, TRAINING)[0])
    y = np.asarray(run(params, (np.ones((40, 4, 3), "f"), np.ones((40, 50), "f"))))
    np.testing.assert_allclose(y, np.stack([y[:, 0] ** n for n in range(1, 5)], 1))
    assert abs(float((y[:, 0] > 0).mean()) - 0.5) < 0.05


@pytest.mark.slow
@pytest.mark.parametrize("layer", [L.LSTM, L.GRU])
def test_dropout_follows_the_seed_and_the_key(layer):
    case = Case(layer(3), (2, 3, 4))
    (params, state), x = case.weights, case.x

    dropping = layer(3, dropout=0.5, recurrent_dropout=0.5)

    @jit
    def draw(key):
        ctx = Context(train=True, key=key)
        seeds = 1, 1, 2, None
        return [dropping.replace(seed=n).apply(params, state, x, ctx)[0] for n in seeds]

    one, again, other, unseeded = draw(jax.random.key(1))
    np.testing.assert_array_equal(draw(jax.random.key(1))[0], one)
    np.testing.assert_array_equal(again, one)
    assert not np.array_equal(one, other)
    assert not np.array_equal(one, draw(jax.random.key(2))[0])
    assert np.sum(unseeded) != np.sum(one)


@pytest.mark.slow
def test_dropping_everything_leaves_zeros_and_finite_gradients():
    layer, x = L.LSTM(3, dropout=1.0, use_bias=False), random(2, 3, 4)
    params, state = Case(layer, x).weights
    total = lambda x: layer.apply(params, state, x, TRAINING)[0].sum()
    y, gradient = jax.jit(jax.value_and_grad(total))(x)
    assert y == 0
    assert np.isfinite(gradient).all()


def test_fresh_recurrent_weights():
    """The state is turned, not stretched, and an LSTM remembers at first."""
    params, _ = L.LSTM(4).init(KEY, jnp.ones((1, 2, 3)))
    turned = params["recurrent_kernel"] @ params["recurrent_kernel"].T
    np.testing.assert_allclose(turned, np.eye(4), atol=1e-5)
    assert params["bias"].tolist() == [0.0] * 4 + [1.0] * 4 + [0.0] * 8
    assert L.LSTM(4, unit_forget_bias=False).init(KEY, jnp.ones((1, 2, 3)))[0]["bias"].sum() == 0


def test_the_state_goes_on_where_it_ended():
    layer, x = L.LSTM(3, return_state=True), random(2, 6, 4)
    params, state = Case(layer, x).weights

    @jax.jit
    def parts(params, x):
        _, h, c = layer.apply(params, state, x[:, :4])[0]
        seconds = (x[:, 4:], h, c), (x[:, 4:], [h, c])
        each = [layer.apply(params, state, second)[0] for second in seconds]
        return layer.apply(params, state, x)[0], each

    whole, each = parts(params, x)
    for second in each:
        for a, b in zip(second, whole, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-6)


def test_states_in_a_graph():
    x = Input((5, 4))
    y, h, c = L.LSTM(3, return_state=True)(x)
    again = L.LSTM(3, return_sequences=True)(x, initial_state=[h, c])
    assert (y.shape, again.shape) == ((None, 3), (None, 5, 3))


def test_merging_functions_make_nodes():
    a, b = Input((4,)), Input((4,))
    assert L.add([a, b]).shape == L.maximum([a, b]).shape == (None, 4)
    assert L.concatenate([a, b], axis=1).shape == (None, 8)
    assert L.dot([a, b], axes=1).shape == (None, 1)
    assert L.add.__name__ == "add"


APART = [  # (axes of positions, pool_size, strides): windows that do not overlap
    (1, 2, None),
    (1, 2, 5),
    (2, (2, 5), None),
    (2, (1, 3), (3, 3)),
    (2, (6, 2), (7, 3)),
    (3, (2, 1, 2), (2, 2, 3)),
]


FORMATS = [("valid", "channels_last"), ("same", "channels_last"), ("same", "channels_first")]
NUMBERS = FORMATS[1]  # those of the others, drawn with the windows: test_spatial.py


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["Max", "Average"])
@pytest.mark.parametrize(("axes", "window", "strides"), APART)
def test_windows_that_do_not_overlap_are_no_reduce_window(axes, window, strides, kind):
    """Whose gradient scatters: measured, it costs a small network 1.7 times its whole step."""
    import keras

    sizes, name = (7, 9, 8)[:axes], f"{kind}Pooling{axes}D"
    for padding, data_format in FORMATS:
        x = random(2, *sizes, 3) if data_format == "channels_last" else random(2, 3, *sizes)
        layer = getattr(L, name)(window, strides, padding, data_format)
        ours = weighed(lambda x, layer=layer: layer.apply({}, {}, x)[0])
        traced = str(jax.make_jaxpr(ours)(x))
        assert "reduce_window" not in traced
        assert "select_and_scatter" not in traced
        if (padding, data_format) == NUMBERS:
            with keras_rules():
                theirs = weighed(getattr(keras.layers, name)(window, strides, padding))
                both = [ours, theirs]
                found, expected = jit(lambda x, both=both: [run(x) for run in both])(x)
            for received, wanted in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
                np.testing.assert_allclose(received, wanted, atol=1e-6)


def weighed(pool):
    """A function: what `pool` makes of inputs, and the gradient of its weighted sum."""

    def total(x):
        y = pool(x)
        return jnp.vdot(random(*y.shape), y), y

    return jax.value_and_grad(total, has_aux=True)


@pytest.mark.slow
@pytest.mark.parametrize("pool_size", [2, 6])
def test_equal_largest_values_share_the_gradient(pool_size):
    x = np.zeros((1, pool_size, 1), "float32")
    gradient = jax.jit(jax.grad(lambda x: L.MaxPooling1D(pool_size).apply({}, {}, x)[0].sum()))(x)
    np.testing.assert_allclose(gradient.sum(), 1)
    assert (gradient >= 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["int32", "uint8", "bfloat16"])
@pytest.mark.parametrize("strides", [None, 1])
def test_pooling_of_other_dtypes(dtype, strides):
    x = np.array([3, 1, 2], jnp.dtype(dtype)).reshape(1, 3, 1)
    pools = [kind(2, strides, padding="same") for kind in (L.MaxPooling1D, L.AveragePooling1D)]
    largest, mean = jax.jit(lambda x: [pool.apply({}, {}, x)[0] for pool in pools])(x)
    assert largest.dtype == x.dtype
    assert largest.ravel().tolist() == ([3, 2] if strides is None else [3, 2, 2])
    assert mean.dtype == (x.dtype if dtype == "bfloat16" else jnp.float32)
    assert mean.ravel().tolist() == ([2, 2] if strides is None else [2, 1.5, 2])


def test_strides_and_dilation_together():
    """Against a loop, since Keras refuses it."""
    layer, x = L.Conv2D(2, 3, strides=2, dilation_rate=2, use_bias=False), random(1, 9, 8, 3)
    params, state = Case(layer, x).weights
    y = jax.jit(lambda x: layer.apply(params, state, x)[0])(x)
    expected = np.zeros((3, 2, 2))
    for i, j in np.ndindex(3, 2):
        patch = x[0, 2 * i : 2 * i + 5 : 2, 2 * j : 2 * j + 5 : 2]
        expected[i, j] = np.tensordot(patch, params["kernel"], 3)
    np.testing.assert_allclose(y[0], expected, rtol=1e-5, atol=1e-6)


def test_pixels_are_convolved_as_numbers():
    x = np.arange(9, dtype="uint8").reshape(1, 3, 3, 1)
    assert run(L.Conv2D(1, 3, kernel_initializer="ones"), x).item() == 36.0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layer", "shape", "stem"),
    [
        (L.Dense(3), (2, 4), "kernel"),
        (L.LSTM(3), (2, 4, 5), "recurrent"),
        (L.ConvLSTM1D(2, 2), (1, 2, 4, 3), "recurrent"),
        (L.DepthwiseConv2D(2), (1, 4, 4, 3), "depthwise"),
        (L.SeparableConv1D(4, 2), (1, 4, 3), "depthwise"),
        (L.SeparableConv1D(4, 2), (1, 4, 3), "pointwise"),
    ],
    ids=repr,
)
def test_the_key_of_a_weight_is_by_its_own_name(layer, shape, stem):
    name = layer.weight_names.get(stem, stem)
    weight = layer.init(KEY, jax.ShapeDtypeStruct(shape, "float32"))[0][name]
    draw = initializers.get(getattr(layer, f"{stem}_initializer"))
    expected = draw(jax.random.fold_in(KEY, salt(name)), weight.shape, "float32")
    np.testing.assert_array_equal(weight, expected)
