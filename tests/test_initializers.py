"""Initializers draw from Keras's distributions, and from a key alone."""

import importlib
import inspect
import itertools
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy

import fnn
from fnn import initializers
from fnn.core.config import from_config, to_config
from fnn.core.registry import names_of
from fnn.initializers.windows import WINDOWS, window
from tests.helpers.oracle import keras_rules

SHAPES = [(7,), (7, 5), (3, 7, 5), (3, 2, 7, 5), (2, 3, 2, 7, 5), ()]
SCALED = ["GlorotUniform", "GlorotNormal", "HeUniform", "HeNormal", "LecunUniform", "LecunNormal"]
RANDOM = [
    *((name, {}) for name in [*SCALED, "RandomNormal", "RandomUniform", "TruncatedNormal"]),
    ("RandomNormal", {"mean": 2.0, "stddev": 0.5}),
    ("TruncatedNormal", {"mean": -2.0, "stddev": 0.5}),
    ("RandomUniform", {"minval": 1.0, "maxval": 3.0}),
    *(
        ("VarianceScaling", {"scale": 3.0, "mode": mode, "distribution": distribution})
        for mode in ("fan_in", "fan_out", "fan_avg")
        for distribution in ("uniform", "truncated_normal", "untruncated_normal", "normal")
    ),
]


def test_every_name_and_argument_of_keras_is_known():
    from keras.src.initializers import ALL_OBJECTS_DICT

    theirs = {n: cls for n, cls in ALL_OBJECTS_DICT.items() if n.lower() != "initializer"}
    assert set(names_of("initializer")) == set(theirs)
    for name, cls in theirs.items():
        ours = type(initializers.get(name))
        assert ours.__name__ == cls.__name__
        assert [(p.name, p.default) for p in inspect.signature(ours).parameters.values()] == [
            (p.name, p.default) for p in inspect.signature(cls).parameters.values()
        ], name


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("axes", [(None, None), ((0,), (-1,))])
def test_fans_are_those_of_keras(shape, axes):
    from keras.src.initializers.random_initializers import compute_fans

    if axes[0] is None or shape:
        assert initializers.compute_fans(shape, *axes) == compute_fans(shape, *axes)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "arguments"), RANDOM)
def test_distribution_is_that_of_keras(name, arguments, key):
    import keras

    shape = (3, 200, 300)
    ours = np.asarray(getattr(initializers, name)(**arguments)(key, shape))
    with keras_rules():
        theirs = np.asarray(getattr(keras.initializers, name)(seed=1, **arguments)(shape))
    assert ours.shape == shape
    assert ours.dtype == np.float32
    spread = theirs.std()
    # 180 000 draws: the mean is known to 0.0024 spreads, the spread itself to 0.2 %.
    np.testing.assert_allclose(ours.mean(), theirs.mean(), atol=0.015 * spread)
    np.testing.assert_allclose(ours.std(), spread, rtol=0.01)
    quantiles = np.linspace(0.01, 0.99, 25)
    np.testing.assert_allclose(
        np.quantile(ours, quantiles), np.quantile(theirs, quantiles), atol=0.05 * spread
    )
    if arguments.get("distribution") != "untruncated_normal" and name != "RandomNormal":
        np.testing.assert_allclose(  # where a distribution ends, it ends at the same number
            [ours.min(), ours.max()], [theirs.min(), theirs.max()], atol=0.002 * spread
        )


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_glorot_uniform_fills_its_bounds_at_every_rank(shape, key):
    # (7, 5): sqrt(6 / 12); times a spatial size of 3, 6, 12; (7,): both fans are 7; (): both 1
    limit = np.sqrt(6 / {0: 2, 1: 14, 2: 12, 3: 36, 4: 72, 5: 144}[len(shape)])
    drawn = jax.vmap(lambda k: initializers.GlorotUniform()(k, shape))(jax.random.split(key, 2000))
    np.testing.assert_allclose(np.abs(drawn).max(), limit, rtol=5e-3)
    assert np.abs(drawn).max() <= limit


def test_input_and_output_axes_say_which_axes_count(key):
    drawn = initializers.LecunUniform(input_axes=(0, 1), output_axes=(2,))(key, (40, 30, 50))
    np.testing.assert_allclose(np.abs(drawn).max(), np.sqrt(3 / 1200), rtol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*SCALED, "RandomNormal", "RandomUniform", "TruncatedNormal",
                                  "VarianceScaling", "Orthogonal"])  # fmt: skip
def test_the_key_decides_and_a_seed_replaces_it(name, key):
    other = jax.random.key(1)
    free, fixed = getattr(initializers, name)(), getattr(initializers, name)(seed=3)
    np.testing.assert_array_equal(free(key, (4, 5)), free(key, (4, 5)))
    assert not np.array_equal(free(key, (4, 5)), free(other, (4, 5)))
    np.testing.assert_array_equal(fixed(key, (4, 5)), fixed(other, (4, 5)))
    assert not np.array_equal(fixed(key, (4, 5)), fixed.replace(seed=4)(key, (4, 5)))
    assert free(key, (4, 5), "bfloat16").dtype == "bfloat16"
    assert from_config(to_config(fixed)) == fixed


@pytest.mark.parametrize("shape", [(6, 6), (8, 3), (3, 8), (3, 2, 4), (1, 2, 8)])
def test_orthogonal_has_orthonormal_rows_or_columns(shape, key):
    w = np.asarray(initializers.Orthogonal(gain=2.0)(key, shape)).reshape(-1, shape[-1]) / 2
    product = w.T @ w if w.shape[0] >= w.shape[1] else w @ w.T
    np.testing.assert_allclose(product, np.eye(min(w.shape)), atol=1e-5)


@pytest.mark.slow
def test_orthogonal_is_spread_evenly_over_the_rotations(key):
    # Without the sign of diag(r), QR gives diagonals of one sign only.
    drawn = jax.vmap(lambda k: initializers.Orthogonal()(k, (3, 3)))(jax.random.split(key, 2000))
    np.testing.assert_allclose(drawn.mean(0), np.zeros((3, 3)), atol=0.06)


def test_constants(key):
    np.testing.assert_array_equal(initializers.Zeros()(key, (2, 3)), np.zeros((2, 3)))
    np.testing.assert_array_equal(initializers.Ones()(key, (2, 3), "int32"), np.ones((2, 3)))
    np.testing.assert_array_equal(initializers.Constant(3)(key, (2,)), np.full(2, 3.0))
    matrix = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(initializers.Constant(matrix)(key, (2, 3)), matrix)
    np.testing.assert_array_equal(initializers.Identity(2.0)(key, (2, 3)), 2 * np.eye(2, 3))


@pytest.mark.slow
@pytest.mark.parametrize("side", ["real", "imag"])
@pytest.mark.parametrize("scaling", ["density", "spectrum", None])
@pytest.mark.parametrize("window", ["hann", "hamming", None, tuple(n / 12 for n in range(12))])
def test_stft_is_that_of_keras_and_a_fourier_transform(side, scaling, window, key):
    import keras

    arguments = {"side": side, "scaling": scaling, "window": window, "periodic": True}
    ours = np.asarray(initializers.STFT(**arguments)(key, (12, 1, 7)))
    with keras_rules():
        theirs = keras.initializers.STFT(**arguments)((12, 1, 7))
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    if window is None:
        x = np.random.default_rng(0).normal(size=12)
        spectrum = np.fft.rfft(x)
        wanted = spectrum.real if side == "real" else spectrum.imag
        np.testing.assert_allclose(x @ ours[:, 0], wanted, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", WINDOWS)
def test_windows_are_those_of_scipy(name):
    from scipy.signal import get_window

    for length, periodic in itertools.product([1, 2, 3, 8, 401], [False, True]):
        ours = window(name, length, periodic)
        assert ours.dtype == np.float32
        np.testing.assert_allclose(ours, get_window(name, length, periodic), atol=1e-6)


@pytest.mark.slow
def test_a_long_transform_is_exact(key):
    """Where the angle in float32 would have lost its fraction."""
    frame, length = np.arange(1024)[:, None], 4096
    wanted = np.cos(2 * np.pi * (frame * np.arange(length // 2 + 1)[None] % length) / length)
    ours = initializers.STFT(window=None)(key, (1024, 1, length // 2 + 1))
    np.testing.assert_allclose(ours[:, 0], wanted, atol=1e-6)


@pytest.mark.slow
def test_a_transform_imports_nothing_and_changes_no_filter_of_warnings(key, monkeypatch):
    """To import this module of SciPy takes long; here it is an error."""
    monkeypatch.delattr(scipy, "signal", raising=False)
    monkeypatch.setitem(sys.modules, "scipy.signal", None)
    with pytest.raises(ImportError):
        importlib.import_module("scipy.signal")
    filters = list(warnings.filters)
    initializers.STFT()(key, (14, 1, 9))
    assert warnings.filters == filters


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: initializers.STFT()(None, (4, 1, 1)), "of 2 frequencies or more"),
        (lambda: initializers.Constant("two"), "expected value to be a number, received"),
        (lambda: initializers.Constant([[1, 2], [3]]), "inhomogeneous"),
        (lambda: initializers.Identity()(None, (2, 3, 4)), r"a weight of 2 axes, .*\(2, 3, 4\)"),
        (lambda: initializers.Orthogonal(seed=0)(None, (3,)), "at least 2 axes, received shape"),
        (lambda: initializers.STFT()(None, (3, 4)), "a weight of 3 axes"),
        (lambda: initializers.STFT(window=(1, 2))(None, (3, 1, 4)), "a window of 3 values"),
        (lambda: initializers.STFT(window="hen"), "to be a window of scipy.signal.windows"),
        (lambda: initializers.STFT(side="left"), "side to be one of 'real', 'imag', received"),
        (lambda: initializers.STFT(scaling="x"), "scaling to be one of 'density'"),
        (lambda: initializers.VarianceScaling(0.0), "scale to be a finite number above 0"),
        (lambda: initializers.VarianceScaling(mode="fan"), "mode to be one of 'fan_in'"),
        (lambda: initializers.VarianceScaling(distribution="u"), "distribution to be one of"),
        (
            lambda: initializers.HeNormal(seed=1.5),
            "seed to be an integer or None",
        ),
        (lambda: initializers.HeNormal(input_axes=[0]), "to be both given or both None"),
        (lambda: initializers.get("glorot"), "did you mean 'glorot_"),
    ],
)
def test_errors_say_what_to_do(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_an_ensemble_draws_each_member_afresh(key):
    drawn = jax.vmap(lambda k: initializers.GlorotUniform()(k, (3, 4)))(jax.random.split(key, 5))
    assert len(np.unique(np.asarray(drawn))) == 60
    assert jnp.isfinite(drawn).all()


def halves(shape, dtype=None):
    return np.full(shape, 0.5, dtype)


class Halves(initializers.Initializer):
    """An initializer in Keras's form."""

    value: float = 0.5

    def __call__(self, shape, dtype=None, **kwargs):
        return jnp.full(shape, self.value, dtype)


FORMS = {
    "function": halves,
    "lambda": lambda shape, dtype=None: jnp.full(shape, 0.5, dtype),
    "shape alone": lambda shape: np.full(shape, 0.5),
    "other names": lambda s, dtype=None: np.full(s, 0.5, dtype),
    "class": Halves,
    "value": Halves(0.5),
    "ours": lambda key, shape, dtype: jnp.full(shape, 0.5, dtype),
}


@pytest.mark.parametrize("initializer", FORMS.values(), ids=FORMS)
def test_initializers_in_the_form_of_keras(initializer):
    net = fnn.Sequential(
        [
            fnn.layers.Dense(3, kernel_initializer=initializer, input_shape=(4,)),
            fnn.layers.Reshape((3, 1)),
            fnn.layers.LSTM(2, recurrent_initializer=initializer),
        ]
    )
    for weight in (net.get_weights()[0], net.get_weights()[3]):
        np.testing.assert_array_equal(weight, np.full(weight.shape, 0.5, "float32"))
        assert weight.dtype == np.float32


def test_what_has_three_arguments_stays_as_it_is():
    for initializer in (initializers.GlorotUniform(), jax.nn.initializers.he_normal(), Halves()):
        assert initializers.get(initializer) is initializer or initializer == Halves()


@pytest.mark.parametrize("initializer", [lambda: 0.5, lambda key, shape: 0.5, lambda a, b, c, d: 0])
def test_a_function_of_neither_form_is_refused(initializer):
    with pytest.raises(TypeError, match=r"called as \(key, shape, dtype\), or as \(shape, "):
        fnn.layers.Dense(3, kernel_initializer=initializer)


def test_an_initializer_by_hand_needs_a_shape_alone():
    import keras

    ours = initializers.GlorotUniform()
    with keras_rules():
        theirs = keras.initializers.GlorotUniform()
        assert theirs((3, 2)).shape == ours((3, 2)).shape
        assert bool((theirs((3, 2)) == theirs((3, 2))).all())  # the same every time
    np.testing.assert_array_equal(ours((3, 2)), ours(shape=(3, 2)))
    np.testing.assert_array_equal(ours((3, 2)), ours(jax.random.key(0), (3, 2)))
    assert ours([3, 2], "bfloat16").dtype == jnp.bfloat16
    seeded = initializers.RandomNormal(seed=3)
    np.testing.assert_array_equal(seeded((3, 2)), seeded(None, (3, 2)))
    assert initializers.Constant(2.0)((3,)).tolist() == [2.0] * 3
    assert ours(key=jax.random.key(1), shape=(3, 2)).shape == (3, 2)
