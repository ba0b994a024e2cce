"""Padded batches, sums and weights against an unpadded reference in NumPy."""

import numpy as np
import pytest

import fnn
from fnn.layers import BatchNormalization, Dense

ROWS, BATCH, RATE = 100, 32, 0.05


def task(rows=ROWS, seed=0):
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(rows, 5)).astype("float32")
    return x, (x @ generator.normal(size=(5, 1)) + 1).astype("float32")


class Reference:
    """Dense(4) - BatchNormalization - Dense(1), mean squared error, gradient descent, by hand."""

    def __init__(self, weights):
        (self.w1, self.b1, self.gamma, self.beta, self.mean, self.variance, self.w2, self.b2) = [
            w.astype(np.float64) for w in weights
        ]
        self.losses, self.errors = [], []

    def weights(self):
        return [self.w1, self.b1, self.gamma, self.beta, self.mean, self.variance, self.w2, self.b2]

    def step(self, x, y, weight):
        h = x @ self.w1 + self.b1
        mean, variance = h.mean(0), h.var(0)
        inverse = 1 / np.sqrt(variance + 1e-3)
        normal = (h - mean) * inverse
        z = normal * self.gamma + self.beta
        error = z @ self.w2 + self.b2 - y
        self.losses.append((weight * (error**2)[:, 0]).sum())
        self.errors.append(np.abs(error).sum())
        up = 2 * error * weight[:, None] / len(x)
        d_z = up @ self.w2.T
        d_normal = d_z * self.gamma
        d_h = inverse * (d_normal - d_normal.mean(0) - normal * (d_normal * normal).mean(0))
        self.w2 -= RATE * z.T @ up
        self.b2 -= RATE * up.sum(0)
        self.gamma -= RATE * (d_z * normal).sum(0)
        self.beta -= RATE * d_z.sum(0)
        self.w1 -= RATE * x.T @ d_h
        self.b1 -= RATE * d_h.sum(0)
        self.mean = 0.99 * self.mean + 0.01 * mean
        self.variance = 0.99 * self.variance + 0.01 * variance


def model():
    net = fnn.Sequential([Dense(4, input_shape=(5,)), BatchNormalization(), Dense(1)], seed=3)
    net.compile(fnn.optimizers.SGD(RATE), "mse", metrics=["mae"])
    return net


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "sample_weight"])
def test_one_epoch_equals_the_unpadded_reference(weighted):
    x, y = task()
    weight = np.random.default_rng(1).uniform(0.5, 2, ROWS) if weighted else np.ones(ROWS)
    net = model()
    reference = Reference(net.get_weights())
    history = net.fit(
        x,
        y,
        batch_size=BATCH,
        shuffle=False,
        verbose=0,
        sample_weight=weight if weighted else None,
    )
    for first in range(0, ROWS, BATCH):
        part = slice(first, first + BATCH)
        reference.step(x[part].astype(np.float64), y[part].astype(np.float64), weight[part])
    assert history.history["loss"] == [pytest.approx(sum(reference.losses) / ROWS, rel=1e-6)]
    assert history.history["mae"] == [pytest.approx(sum(reference.errors) / ROWS, rel=1e-6)]
    for ours, theirs in zip(net.get_weights(), reference.weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 7, 32, 100, 300])
def test_evaluate_is_the_mean_over_rows_for_any_batch_size(batch):
    x, y = task()
    net = model()
    predicted = net.predict(x, batch_size=batch, verbose=0)
    loss, error = net.evaluate(x, y, batch_size=batch, verbose=0)
    assert loss == pytest.approx(((predicted - y) ** 2).mean(), rel=1e-6)
    assert error == pytest.approx(np.abs(predicted - y).mean(), rel=1e-6)


@pytest.mark.slow
def test_predict_gives_every_row_once_in_order():
    x, _ = task(77)
    net = model()
    whole = net.predict(x, batch_size=77, verbose=0)
    for batch in (1, 10, 32, 64, 1000):
        np.testing.assert_allclose(net.predict(x, batch_size=batch, verbose=0), whole, atol=1e-6)
    assert net.predict(x[:0], verbose=0).shape == (0, 1)


@pytest.mark.slow
def test_many_steps_a_dispatch_equal_single_ones(monkeypatch):
    from fnn.training import cost, engine

    results = []
    for work in (0.0, 1e12):
        engine._cached_program.cache_clear()
        monkeypatch.setattr(cost, "WORK_PER_DISPATCH", {"default": work})
        net = model()
        net.fit(*task(), epochs=3, batch_size=BATCH, verbose=0)
        results.append(net.get_weights())
    engine._cached_program.cache_clear()
    for one, many in zip(*results, strict=True):
        np.testing.assert_allclose(one, many, rtol=1e-6, atol=1e-6)


@pytest.mark.slow
def test_a_seed_repeats_everything_bit_for_bit():
    def run():
        fnn.set_seed(5)
        net = fnn.Sequential(
            [Dense(8, "relu", input_shape=(5,)), fnn.layers.Dropout(0.5), Dense(1)]
        )
        net.compile("adam", "mse")
        history = net.fit(*task(), epochs=3, verbose=0)
        return [*net.get_weights(), np.array(history.history["loss"])]

    for first, second in zip(run(), run(), strict=True):
        np.testing.assert_array_equal(first, second)


def test_shuffling_covers_each_row_once_and_changes_each_epoch():
    from fnn.training.data import ArrayData

    data = ArrayData({"x": np.arange(50)}, 8, shuffle=True, seed=[1, 2], remainder="pad")
    orders = []
    for epoch in range(2):
        seen = []
        for (arrays, rows), count in data.chunks(epoch, 4):
            assert arrays["x"].shape == (4, 8)
            seen += np.asarray(arrays["x"])[rows].tolist()
            assert 0 < count <= 4
        assert sorted(seen) == list(range(50))
        orders.append(seen)
    assert orders[0] != orders[1]
    again = ArrayData({"x": np.arange(50)}, 8, shuffle=True, seed=[1, 2], remainder="pad")
    np.testing.assert_array_equal(again.order(1), data.order(1))


@pytest.mark.slow
def test_validation_split_takes_the_last_rows_before_shuffling():
    x, y = task()
    net = model()
    history = net.fit(x, y, epochs=1, validation_split=0.25, verbose=0)
    assert history.history["val_loss"] == [
        pytest.approx(net.evaluate(x[75:], y[75:], verbose=0)[0], rel=1e-6)
    ]


@pytest.mark.slow
def test_class_weights_are_sample_weights():
    x, _ = task()
    y = (x[:, :1] > 0).astype("float32")
    by_class, by_sample = (
        fnn.Sequential([Dense(1, "sigmoid", input_shape=(5,))], seed=1) for _ in range(2)
    )
    for net in (by_class, by_sample):
        net.compile(fnn.optimizers.SGD(0.1), "binary_crossentropy")
    by_class.fit(x, y, class_weight={0: 1.0, 1: 5.0}, verbose=0)
    by_sample.fit(x, y, sample_weight=np.where(y[:, 0] == 1, 5.0, 1.0), verbose=0)
    for a, b in zip(by_class.get_weights(), by_sample.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
