"""What is compiled, and how often."""

import numpy as np
import pytest

import fnn
import fnn.models.model
from fnn.layers import BatchNormalization, Dense, Dropout
from tests.counting import compilations


def model(units=8):
    return fnn.Sequential([Dense(units, "relu", input_shape=(5,)), Dropout(0.1), Dense(1)], seed=0)


def task(rows):
    x = np.random.default_rng(0).normal(size=(rows, 5)).astype("float32")
    return x, x.sum(axis=1, keepdims=True)


def train(net, rows=100):
    net.compile("adam", "mse", metrics=["mae"])
    net.fit(*task(rows), epochs=2, batch_size=32, validation_data=task(50), verbose=0)
    net.evaluate(*task(rows), verbose=0)
    return net.predict(task(rows)[0], verbose=0)


def test_an_equal_model_compiles_nothing():
    first = train(model(9))
    with compilations() as compiled:
        second = train(model(9))
    assert compiled == []
    np.testing.assert_array_equal(first, second)


def test_compilations_are_counted_at_all():
    with compilations() as compiled:
        train(model(11))
    assert compiled


def test_a_learning_rate_is_no_reason_to_compile():
    net = model(10)
    train(net)
    with compilations() as compiled:
        for rate in (1e-1, 1e-2, 1e-3, 1e-4, 1e-5):
            net.learning_rate = rate
            net.fit(*task(100), epochs=1, batch_size=32, verbose=0)
            assert float(net.learning_rate) == pytest.approx(rate)
    assert compiled == []


@pytest.fixture
def traces(monkeypatch):
    """How often Python ran each step function, by kind."""
    counts = {"train": 0, "eval": 0, "predict": 0}

    def counting(kind, make):
        made = {}

        def remade(*arguments):
            if arguments not in made:
                inner = make.__wrapped__(*arguments)

                def step(*given):
                    counts[kind] += 1
                    return inner(*given)

                made[arguments] = step
            return made[arguments]

        return remade

    monkeypatch.setattr(
        fnn.models.model, "make_train_step", counting("train", fnn.models.model.make_train_step)
    )
    monkeypatch.setattr(
        fnn.models.model, "make_eval_step", counting("eval", fnn.models.model.make_eval_step)
    )
    return counts


def test_each_step_is_traced_once_however_the_rows_divide(traces):
    calls = []

    class Spy(fnn.Layer):
        masking = "pass"

        def apply(self, params, state, x, ctx=fnn.INFERENCE):
            calls.append((ctx.train, x.shape))
            return x, state

    net = fnn.Sequential([Dense(4, input_shape=(5,)), BatchNormalization(), Spy(), Dense(1)])
    net.compile("adam", "mse", metrics=["mae"])
    net.fit(*task(100), batch_size=32, epochs=3, validation_data=task(50), verbose=0)
    assert traces == {"train": 1, "eval": 1, "predict": 0}
    assert [shape for training, shape in calls if training] == [(32, 4)]
    net.evaluate(*task(70), verbose=0)
    assert traces["eval"] == 1
    before = len(calls)
    net.predict(task(100)[0], verbose=0)
    # One abstract check of the inputs, for a batch of one, and one trace of the step.
    assert [shape for _, shape in calls[before:]] == [(1, 4), (32, 4)]
    net.predict(task(70)[0], verbose=0)
    assert len(calls) == before + 2


def test_predict_of_any_length_needs_few_compilations():
    net = model(12)
    net.predict(task(40)[0], verbose=0)
    with compilations() as compiled:
        for rows in range(1, 70):
            assert net.predict(task(rows)[0], verbose=0).shape == (rows, 1)
    assert len(compiled) <= 6  # batches of 1, 2, 4, 8, 16, 32; the loop over those is there
