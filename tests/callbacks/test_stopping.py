"""Callbacks that end evaluate and predict after a batch, as in Keras."""

import numpy as np
import pytest

import fnn
from fnn.layers import Dense

X = np.random.default_rng(0).normal(size=(22, 3)).astype("float32")
Y = X.sum(axis=1, keepdims=True)
SIZE = 4  # examples in a batch


@pytest.fixture(scope="module")
def net():
    net = fnn.Sequential([Dense(1, input_shape=(3,))], seed=0)
    net.compile(fnn.optimizers.SGD(0.0), "mse")
    return net


class Stop(fnn.callbacks.Callback):
    """Sets an attribute of the model at the end of a batch, and counts batches."""

    def __init__(self, attribute, after):
        super().__init__()
        self.attribute, self.after, self.ended = attribute, after, []

    def end(self, batch, logs=None):
        self.ended.append(batch)
        if batch + 1 == self.after:
            setattr(self.model, self.attribute, True)

    on_test_batch_end = on_predict_batch_end = end


def outputs(net, examples):
    kernel, bias = net.get_weights()
    return examples @ kernel + bias


def error(net, count):
    return pytest.approx(np.square(outputs(net, X[:count]) - Y[:count]).mean(), rel=1e-5)


def batches(size=SIZE):
    return ((X[at : at + size], Y[at : at + size]) for at in range(0, len(X), size))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("after", [1, 3, 6])
def test_evaluate_ends_after_the_batch(net, stream, after):
    given = (batches(),) if stream else (X, Y)
    stop = Stop("stop_evaluating", after)
    size = None if stream else SIZE
    found = net.evaluate(*given, batch_size=size, callbacks=[stop], verbose=0)
    assert found == error(net, after * SIZE)
    assert stop.ended == list(range(after))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("after", [1, 3, 6])
def test_predict_ends_after_the_batch(net, stream, after):
    given = (x for x, _ in batches()) if stream else X
    stop = Stop("stop_predicting", after)
    size = None if stream else SIZE
    found = net.predict(given, batch_size=size, callbacks=[stop], verbose=0)
    np.testing.assert_allclose(found, outputs(net, X[: after * SIZE]), rtol=1e-5, atol=1e-6)
    assert stop.ended == list(range(after))


@pytest.mark.slow
def test_validation_ends_too(net):
    stop = Stop("stop_evaluating", 2)
    history = net.fit(
        X, Y, batch_size=SIZE, epochs=2, validation_data=(X, Y), callbacks=[stop], verbose=0
    ).history
    assert history["val_loss"] == [error(net, 2 * SIZE)] * 2
    assert history["loss"] == [error(net, len(X))] * 2
    assert stop.ended == [0, 1, 0, 1]


def test_each_verb_starts_afresh(net):
    net.stop_evaluating = net.stop_predicting = True
    assert net.evaluate(X, Y, batch_size=SIZE, verbose=0) == error(net, len(X))
    assert len(net.predict(X, batch_size=SIZE, callbacks=[], verbose=0)) == len(X)
    assert (net.stop_evaluating, net.stop_predicting) == (False, False)


def test_what_is_set_at_the_beginning_leaves_one_batch(net):
    begin = fnn.callbacks.LambdaCallback()
    begin.on_test_begin = lambda logs: setattr(net, "stop_evaluating", True)
    begin.on_predict_begin = lambda logs: setattr(net, "stop_predicting", True)
    found = net.evaluate(X, Y, batch_size=SIZE, callbacks=[begin], verbose=0)
    assert found == error(net, SIZE)
    found = net.predict(X, batch_size=SIZE, callbacks=[begin], verbose=0)
    np.testing.assert_allclose(found, outputs(net, X[:SIZE]), rtol=1e-5, atol=1e-6)
