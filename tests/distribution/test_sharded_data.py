"""Batches that a user has divided over devices reach the step as they lie."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import fnn
from fnn.layers import Dense
from tests.helpers.sharding import note

EXAMPLES, BATCH = 64, 16
KINDS = {"automatic": AxisType.Auto, "explicit": AxisType.Explicit}


@pytest.fixture(params=["automatic", pytest.param("explicit", marks=pytest.mark.slow)])
def placed(request):
    """A function that divides an array over 8 devices by its examples."""
    mesh = jax.make_mesh((8,), ("data",), axis_types=(KINDS[request.param],))
    return lambda a: jax.device_put(a, NamedSharding(mesh, PartitionSpec("data")))


class Seen(fnn.Layer):
    """Notes over how many devices its inputs lie."""

    masking = "pass"

    label: str = ""
    parts = []

    def apply(self, params, state, x, ctx=fnn.INFERENCE):
        note(x, self.parts)
        return x, state


def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(EXAMPLES, 4)).astype("float32")
    return x, x.sum(1, keepdims=True)


def batches(placed, *arrays):
    for first in range(0, EXAMPLES, BATCH):
        part = tuple(placed(a[first : first + BATCH]) for a in arrays)
        yield part if len(part) > 1 else part[0]


def model(label):
    Seen.parts.clear()
    net = fnn.Sequential([Seen(label), Dense(1, input_shape=(4,))], seed=0)
    net.compile("sgd", "mse")
    return net


def fitted(net, *given, **arguments):
    net.fit(*given, batch_size=BATCH, epochs=2, shuffle=False, verbose=0, **arguments)
    return net.get_weights()


slow = pytest.mark.slow
STREAM = pytest.param("stream", marks=slow)


@pytest.mark.parametrize("form", ["arrays", STREAM])
def test_fit_keeps_what_is_divided(placed, form, request):
    x, y = data()
    expected = fitted(model("plain"), x, y)
    net = model(request.node.name)
    if form == "arrays":
        found = fitted(net, placed(x), placed(y))
    else:
        net.fit(lambda: batches(placed, x, y), epochs=2, verbose=0)
        found = net.get_weights()
    assert BATCH // 8 in Seen.parts
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


@slow
def test_shuffled_examples_stay_divided(placed):
    x, y = data()
    found = []

    def step(w, batch, key):
        note(batch[0], found)
        loss = lambda w: jnp.square(batch[0] @ w - batch[1]).mean()
        value, slope = jax.value_and_grad(loss)(w)
        return w - 0.1 * slope, {"loss": value}

    start, results = np.zeros((4, 1), "float32"), []
    for given in ((x, y), (placed(x), placed(y))):
        w, _ = fnn.training.fit(step, start, given, batch_size=BATCH, epochs=3, verbose=0)
        results.append(w)
    assert BATCH // 8 in found
    np.testing.assert_allclose(*results, atol=1e-6)
    found.clear()
    stream = lambda: batches(placed, x, y)
    fnn.training.fit(step, start, stream, epochs=1, verbose=0)
    assert set(found) == {BATCH // 8}


@pytest.mark.parametrize("form", ["arrays", STREAM])
def test_predict_keeps_what_is_divided(placed, form, request):
    x, _ = data()
    net = model(request.node.name)
    expected = net.predict(x, verbose=0)
    Seen.parts.clear()
    given = placed(x) if form == "arrays" else list(batches(placed, x))
    found = (
        net.predict(given, batch_size=BATCH, verbose=0)
        if form == "arrays"
        else net.predict(iter(given), verbose=0)
    )
    assert set(Seen.parts) == {BATCH // 8}
    np.testing.assert_allclose(found, expected, atol=1e-6)


@slow
def test_a_ragged_end_of_divided_examples_is_right(placed):
    x, y = data()
    net = model("ragged")
    np.testing.assert_allclose(
        net.predict(placed(x), batch_size=24, verbose=0), net.predict(x, verbose=0), atol=1e-6
    )
    plain = net.evaluate(x, y, batch_size=24, verbose=0)
    assert net.evaluate(placed(x), placed(y), batch_size=24, verbose=0) == pytest.approx(plain)
