"""`fit` says once that it leaves devices idle, unless somebody has said which to use."""

import jax
import numpy as np
import pytest

import fnn
from fnn.training.one_device import Mentioned

X, Y = np.ones((16, 4), "float32"), np.ones((16, 1), "float32")


@pytest.fixture(autouse=True)
def not_mentioned(monkeypatch):
    monkeypatch.setattr(Mentioned, "once", False)


def fit(x=X, distribution=None, **arguments):
    model = fnn.Sequential([fnn.layers.Dense(1, input_shape=(4,))], seed=0)
    model.compile("sgd", "mse", distribution=distribution)
    model.fit(x, Y, batch_size=16, verbose=2, **arguments)


def test_it_is_said_once(capsys):
    fit(epochs=2)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("fit uses 1 of 8 devices; distribution=fnn.distribution.Data")
    assert lines[1] == "Epoch 1/2"
    assert sum("devices" in line for line in lines) == 1
    fit()
    fnn.training.fit(lambda w, x, key: (w, {}), 0.0, X, verbose=2)
    assert "devices" not in capsys.readouterr().out


def test_a_pure_step_says_it_too(capsys):
    fnn.training.fit(lambda w, x, key: (w, {}), 0.0, lambda: iter([X]), verbose=2)
    assert "fit uses 1 of 8 devices" in capsys.readouterr().out


SLOW = [pytest.param(how, marks=pytest.mark.slow) for how in ("scope", "data", "device")]


@pytest.mark.parametrize("how", ["verbose", "distribution", *SLOW])
def test_it_is_not_said_to_who_chose(how, capsys):
    model = fnn.Sequential([fnn.layers.Dense(1, input_shape=(4,))], seed=0)
    model.compile("sgd", "mse")
    if how == "verbose":
        model.fit(X, Y, verbose=0)
    elif how == "distribution":
        fit(distribution=fnn.distribution.DataParallel())
    elif how == "scope":
        with fnn.distribution.DataParallel().scope():
            model.fit(X, Y, verbose=2)
    elif how == "data":
        fit(fnn.distribution.DataParallel().divide(X))
    else:
        with jax.default_device(jax.devices()[1]):
            model.fit(X, Y, verbose=2)
    assert "devices" not in capsys.readouterr().out
    assert not Mentioned.once
