"""Schedules: whole curves against Keras and optax, very late steps, messages."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fnn import schedules
from fnn.core.config import from_config, to_config
from tests.helpers.oracle import keras_rules

pytestmark = pytest.mark.slow

# (class, arguments): each curve equals that of Keras
TABLE = [
    ("ExponentialDecay", (0.1, 20, 0.7)),
    ("ExponentialDecay", (0.1, 20, 0.7, True)),
    ("InverseTimeDecay", (0.1, 20, 0.5)),
    ("InverseTimeDecay", (0.1, 20, 0.5, True)),
    ("PiecewiseConstantDecay", ([10, 30, 31], [1.0, 0.5, 0.1, 0.01])),
    ("PiecewiseConstantDecay", ([5], [0.3, 0.2])),
    ("PolynomialDecay", (0.1, 50)),
    ("PolynomialDecay", (0.1, 30, 0.01, 2.0)),
    ("PolynomialDecay", (0.1, 30, 0.01, 0.5, True)),
    ("CosineDecay", (0.1, 60)),
    ("CosineDecay", (0.1, 60, 0.2)),
    ("CosineDecay", (0.0, 60, 0.1, "warm", 0.5, 15)),
    ("CosineDecay", (0.1, 60, 0.1, "no target", None, 15)),
    ("CosineDecayRestarts", (0.1, 20)),
    ("CosineDecayRestarts", (0.1, 20, 1.0, 0.8, 0.1)),
    ("CosineDecayRestarts", (0.1, 7, 1.5, 0.9)),
]
NAMES = [f"{name}{arguments}" for name, arguments in TABLE]


@pytest.mark.parametrize(("name", "arguments"), TABLE, ids=NAMES)
def test_the_whole_curve_equals_keras(keras, name, arguments):
    steps = np.arange(150, dtype="int32")
    with keras_rules():
        oracle = getattr(keras.optimizers.schedules, name)(*arguments)
        expected = np.array(jax.vmap(oracle)(jnp.asarray(steps)))
    schedule = getattr(schedules, name)(*arguments)
    found = jax.jit(schedule)(steps)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)
    one = jax.jit(schedule)(jnp.int32(149))
    np.testing.assert_allclose(one, expected[149], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("m_mul", [1.0, 0.8])
def test_cycles_that_shorten_come_to_an_end(keras, m_mul):
    """Those of Keras too, but that its rate is NaN from there on."""
    arguments = (0.1, 40, 0.5, m_mul, 0.1)
    steps = np.arange(100, dtype="int32")
    with keras_rules():
        oracle = keras.optimizers.schedules.CosineDecayRestarts(*arguments)
        expected = np.array(jax.vmap(oracle)(jnp.asarray(steps)))
    found = jax.jit(schedules.CosineDecayRestarts(*arguments))(steps)
    np.testing.assert_allclose(found[:79], expected[:79], rtol=1e-4, atol=1e-6)
    assert np.isnan(expected[80:]).all()
    np.testing.assert_allclose(found[80:], 0.1 * 0.1, rtol=1e-6)


@pytest.mark.parametrize(("name", "arguments"), TABLE, ids=NAMES)
def test_a_schedule_is_a_value_that_a_file_can_hold(name, arguments):
    schedule = getattr(schedules, name)(*arguments)
    assert from_config(to_config(schedule)) == schedule
    assert hash(schedule) == hash(getattr(schedules, name)(*arguments))


@pytest.mark.parametrize("name", sorted({name for name, _ in TABLE}))
def test_arguments_are_those_of_keras(keras, name):
    expected = inspect.signature(getattr(keras.optimizers.schedules, name).__init__).parameters
    found = inspect.signature(getattr(schedules, name)).parameters
    assert ["self", *found] == list(expected)
    assert [p.default for p in found.values()] == [p.default for p in expected.values()][1:]


def test_curves_equal_optax():
    steps = np.arange(80)
    pairs = [
        (schedules.CosineDecay(0.1, 60), optax.cosine_decay_schedule(0.1, 60)),
        (schedules.ExponentialDecay(0.1, 20, 0.7), optax.exponential_decay(0.1, 20, 0.7)),
        (
            schedules.CosineDecay(0.0, 60, warmup_target=0.5, warmup_steps=15),
            optax.warmup_cosine_decay_schedule(0.0, 0.5, 15, 75),
        ),
        (schedules.PolynomialDecay(0.1, 50, 0.01), optax.polynomial_schedule(0.1, 0.01, 1, 50)),
    ]
    for ours, oracle in pairs:
        np.testing.assert_allclose(ours(steps), jax.vmap(oracle)(steps), rtol=1e-5, atol=1e-7)


def test_very_late_steps():
    late = np.float64(2**31 + 5)  # past int32; float32 holds it to one part in 16.8 million
    np.testing.assert_allclose(
        schedules.ExponentialDecay(1.0, 1e9, 0.5)(late), 0.5 ** (late / 1e9), rtol=1e-6
    )
    np.testing.assert_allclose(
        schedules.InverseTimeDecay(1.0, 1e6, 0.5)(late), 1 / (1 + 0.5 * late / 1e6), rtol=1e-6
    )
    np.testing.assert_allclose(
        schedules.CosineDecay(1.0, 2**33)(late), 0.5 * (1 + np.cos(np.pi * late / 2**33)), rtol=1e-6
    )
    last = np.int32(2**31 - 1)  # integers are compared as such
    piecewise = schedules.PiecewiseConstantDecay([2**31 - 2], [1.0, 0.5])
    assert piecewise(last) == 0.5
    assert piecewise(last - 1) == 1
    assert schedules.PiecewiseConstantDecay([2**31 + 5], [1.0, 0.5])(last) == 1
    assert schedules.PiecewiseConstantDecay([2**31 + 5], [1.0, 0.5])(np.float32(2**32)) == 0.5
    for name, arguments in TABLE:
        assert np.isfinite(getattr(schedules, name)(*arguments)(last))


WRONG = [
    (lambda: schedules.ExponentialDecay(0.1, 0, 0.5), "decay_steps to be a finite number above 0"),
    (lambda: schedules.InverseTimeDecay(0.1, -1, 0.5), "decay_steps to be a finite number above 0"),
    (lambda: schedules.PolynomialDecay(0.1, 0), "decay_steps to be a finite number above 0"),
    (lambda: schedules.CosineDecay(0.1, 0), "decay_steps to be a finite number above 0"),
    (
        lambda: schedules.CosineDecayRestarts(0.1, 0),
        "first_decay_steps to be a finite number above 0",
    ),
    (lambda: schedules.CosineDecayRestarts(0.1, 5, 0.0), "t_mul to be a finite number above 0"),
    (
        lambda: schedules.PiecewiseConstantDecay([1], [1.0]),
        "one value more than there are boundaries",
    ),
    (
        lambda: schedules.PiecewiseConstantDecay([2, 1], [1.0, 2.0, 3.0]),
        "boundaries to be in ascending order",
    ),
]


@pytest.mark.parametrize(("run", "message"), WRONG)
def test_wrong_arguments_are_refused(run, message):
    with pytest.raises(ValueError, match=message):
        run()


def test_a_schedule_without_a_call_says_so():
    with pytest.raises(TypeError, match=r"Schedule does not define __call__\(step\)"):
        schedules.Schedule()(0)


def test_one_cycle_equals_optax():
    steps = np.arange(150, dtype="int32")
    oracle = optax.cosine_onecycle_schedule(100, 0.5, 0.3, 25.0, 1e4)
    found = jax.jit(schedules.OneCycle(0.5, 100))(steps)
    np.testing.assert_allclose(found, [oracle(n) for n in range(150)], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("decay", ["linear", "sqrt"])
def test_warm_up_stable_decay_is_three_pieces(decay):
    schedule = schedules.WarmupStableDecay(0.5, 10, 70, 20, 0.1, decay)
    steps = np.arange(150.0)
    shape = (lambda share: share) if decay == "linear" else np.sqrt
    fall = 0.5 - 0.4 * shape(np.clip((steps - 80) / 20, 0, 1))
    expected = np.where(steps < 80, 0.5 * np.minimum(steps / 10, 1), fall)
    np.testing.assert_allclose(jax.jit(schedule)(steps.astype("int32")), expected, rtol=1e-5)
    if decay == "linear":
        pieces = [
            optax.linear_schedule(0.0, 0.5, 10),
            optax.constant_schedule(0.5),
            optax.linear_schedule(0.5, 0.1, 20),
        ]
        oracle = optax.join_schedules(pieces, [10, 80])
        np.testing.assert_allclose(expected, [oracle(n) for n in range(150)], rtol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: schedules.OneCycle(0.1, 0), "total_steps to be an integer above 0"),
        (lambda: schedules.OneCycle(0.1, 10, warmup=1.0), "warmup to be a fraction above 0"),
        (
            lambda: schedules.WarmupStableDecay(0.1, 0, 5, 5),
            "warmup_steps to be an integer above 0",
        ),
        (
            lambda: schedules.WarmupStableDecay(0.1, 5, -1, 5),
            "stable_steps to be an integer not below 0",
        ),
        (
            lambda: schedules.WarmupStableDecay(0.1, 5, 5, 5, decay="cut"),
            "decay to be one of 'linear'",
        ),
    ],
)
def test_wrong_whole_schedules_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_schedules_stand_where_keras_has_them():
    from fnn import optimizers

    assert optimizers.schedules.CosineDecay is schedules.CosineDecay
    assert optimizers.schedules.__all__ == schedules.__all__
