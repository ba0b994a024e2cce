"""Losses, metrics and a step of training on a mesh whose axes are explicit."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn import layers as L
from fnn.training.objective import Objective, OutputGoal
from fnn.training.state import TrainState
from fnn.training.step import init_optimizer, make_train_step
from tests.helpers.sharding import BY_BATCH, WHOLE, close, columns, mesh, put

pytestmark = pytest.mark.slow

KEY = jax.random.key(7)
DRAW = np.random.default_rng(0)
SHARES = DRAW.dirichlet(np.ones(3), 8).astype("float32")
CLASSES = np.arange(8) % 3
SCORES, HITS = SHARES[:, :1], (CLASSES[:, None] == 0).astype("float32")
VECTORS = DRAW.normal(size=(8, 4)).astype("float32")
WEIGHTS = np.linspace(0.5, 1.5, 8).astype("float32")
LOSSES = {
    "MeanSquaredError": (VECTORS, VECTORS[::-1]),
    "BinaryCrossentropy": (HITS, SCORES),
    "CategoricalCrossentropy": (np.eye(3, dtype="float32")[CLASSES], SHARES),
    "SparseCategoricalCrossentropy": (CLASSES, SHARES),
    "CosineSimilarity": (VECTORS, VECTORS[::-1]),
    "Circle": (CLASSES, VECTORS),
    "Triplet": (CLASSES, VECTORS),
    "InfoNCE": (VECTORS, VECTORS[::-1] + VECTORS),
    "CTC": (np.full((8, 2), 1), DRAW.normal(size=(8, 6, 3)).astype("float32")),
}
METRICS = {
    "SparseCategoricalAccuracy": (CLASSES, SHARES),
    "SparseTopKCategoricalAccuracy": (CLASSES, SHARES),
    "AUC": (HITS, SCORES),
    "Precision": (HITS, SCORES),
    "RecallAtPrecision": (HITS, SCORES),
    "F1Score": (np.eye(3, dtype="float32")[CLASSES], SHARES),
    "BinaryIoU": (HITS, SCORES),
    "ExpectedCalibrationError": (CLASSES, SHARES),
    "R2Score": (VECTORS, VECTORS[::-1]),
}


def by_both(run, given):
    """What a function returns on one device, and on a mesh over which its batches are divided."""
    run = jax.jit(run)
    with jax.set_mesh(mesh()):
        received = run(put(given, BY_BATCH))
    return run(given), received


@functools.cache
def losses():
    """All in one program."""
    valid = np.arange(8) != 3
    given = {name: (np.ascontiguousarray(p), y, WEIGHTS, valid) for name, (y, p) in LOSSES.items()}

    def value(name, p, y, *weights):
        loss = getattr(fnn.losses, name)()
        return jax.value_and_grad(lambda p: jnp.divide(*loss.totals(y, p, *weights)))(p)

    return by_both(lambda given: {name: value(name, *each) for name, each in given.items()}, given)


@functools.cache
def metrics():
    options = {"RecallAtPrecision": (0.5,), "SparseTopKCategoricalAccuracy": (2,)}
    given = {name: (*map(np.ascontiguousarray, of), WEIGHTS) for name, of in METRICS.items()}

    def value(name, y, p, weight):
        metric = getattr(fnn.metrics, name)(*options.get(name, ()))
        return metric.result(metric.update(metric.init(y, p), y, p, weight))

    return by_both(lambda given: {name: value(name, *each) for name, each in given.items()}, given)


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_of_a_divided_batch(name):
    expected, received = losses()
    close(received[name], expected[name])


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_of_a_divided_batch(name):
    expected, received = metrics()
    close(received[name], expected[name])


def test_a_step_of_training_on_divided_batches_and_weights():
    layers = [L.Dense(8, "relu"), L.BatchNormalization(), L.Dropout(0.2), L.Dense(3, "softmax")]
    net, optimizer = L.Sequential(layers), fnn.optimizers.Adam(0.01)
    accuracy = "accuracy", fnn.metrics.SparseCategoricalAccuracy(), True
    goal = OutputGoal("output", fnn.losses.SparseCategoricalCrossentropy(), 1.0, (accuracy,))
    params, state = net.init(KEY, VECTORS)
    now = TrainState(params, state, init_optimizer(net, optimizer, params), KEY)
    batch = {"x": VECTORS, "y": (CLASSES,), "weight": ()}, np.arange(8) < 7
    step = jax.jit(make_train_step(net, Objective((goal,)), optimizer))
    expected, logs = step(now, batch, KEY)
    rule = lambda a: columns(a) if a.ndim == 2 else ()
    with jax.set_mesh(mesh()):
        received, same = step(put(now, rule), put(batch, BY_BATCH), put(KEY, WHOLE))
    close(received.params, expected.params)
    close(received.state, expected.state)
    close(same["loss"].result, logs["loss"].result)
    close(same["accuracy"].result, logs["accuracy"].result)
