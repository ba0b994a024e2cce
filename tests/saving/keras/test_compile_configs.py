"""The arguments of `compile` in Keras's configs, with live Keras, both directions."""

import jax
import keras
import numpy as np
import pytest

import fnn
from fnn.models import model_from_json
from fnn.saving.keras.configs import compile_from_keras, compile_to_keras
from tests.helpers.oracle import keras_rules

COMPILED = {
    "strings": {"optimizer": "adam", "loss": "mse", "metrics": ["mae"]},
    "objects": {
        "optimizer": lambda k: k.optimizers.SGD(
            k.optimizers.schedules.ExponentialDecay(0.5, 10, 0.9), momentum=0.5, clipnorm=1.0
        ),
        "loss": lambda k: k.losses.Huber(0.5),
        "metrics": lambda k: [k.metrics.MeanSquaredError(), "mae"],
    },
}


def compiled(k, named):
    model = k.Sequential([k.Input((4,)), k.layers.Dense(2)])
    model.compile(**{n: item(k) if callable(item) else item for n, item in named.items()})
    return model


@pytest.mark.slow
@pytest.mark.parametrize("kind", COMPILED)
def test_the_arguments_of_compile_in_both_directions(kind):
    x = np.random.default_rng(0).normal(size=(6, 4)).astype("float32")
    with keras_rules():
        theirs = compiled(keras, COMPILED[kind])
        written, name = theirs.to_json(), type(theirs.optimizer).__name__
        # Not drawn: a gradient may be near 0, where steps of Adam differ (epsilon).
        weights = [np.linspace(-1, 1, w.size).reshape(w.shape) for w in theirs.get_weights()]
    mine = compiled(fnn, COMPILED[kind]).to_json()
    for ours in (model_from_json(written), model_from_json(mine)):
        assert type(ours._program.arguments["optimizer"]).__name__ == name
        ours.set_weights(weights)
        with keras_rules():
            again = keras.models.model_from_json(written)
            again.compile_from_config(compile_to_keras(ours._program.arguments))
            again.set_weights(weights)
            logs = again.train_on_batch(x, x[:, :2], return_dict=True)
            expected = {name: float(value) for name, value in logs.items()}
            after = again.get_weights()
        received = ours.train_on_batch(x, x[:, :2], return_dict=True)
        assert received == pytest.approx(expected, rel=1e-4)
        for a, b in zip(ours.get_weights(), after, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_a_training_config_of_a_legacy_file():
    given = compile_from_keras(
        {
            "loss": {"class_name": "MeanSquaredError", "config": {"reduction": "auto"}},
            "metrics": [
                {"class_name": "MeanMetricWrapper", "config": {"name": "accuracy", "fn": "x"}}
            ],
            "weighted_metrics": None,
            "loss_weights": None,
            "optimizer_config": {
                "class_name": "Custom>SGD",
                "config": {"lr": 0.5, "decay": 0.1, "momentum": 0.9, "jit_compile": True},
            },
        }
    )
    assert given["loss"] == fnn.losses.MeanSquaredError()
    assert given["metrics"] == ["accuracy"]
    assert given["optimizer"].momentum == 0.9
    assert given["optimizer"].learning_rate(jax.numpy.array(10)) == pytest.approx(0.25)
    assert compile_from_keras(None) is compile_to_keras(None) is None
