"""Metrics in Keras's way: alone, in training and as pure functions, with Keras's numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn import metrics
from fnn.core.config import from_config, to_config
from tests.helpers.both_libraries import assert_equal, both, linear, on_both, on_fnn, registered

PROGRAM = """
class TruePositives(keras.metrics.Metric):
    def __init__(self, name="true_positives", **kwargs):
        super().__init__(name=name, **kwargs)
        self.count = self.add_variable(shape=(), initializer="zeros", name="count")

    def update_state(self, y_true, y_pred, sample_weight=None):
        y_true = ops.cast(y_true, "bool")
        y_pred = y_pred > 0.5
        values = ops.cast(ops.logical_and(y_true, y_pred), self.dtype)
        if sample_weight is not None:
            sample_weight = ops.cast(sample_weight, self.dtype)
            sample_weight = ops.reshape(sample_weight, (-1, 1))
            values = ops.multiply(values, ops.broadcast_to(sample_weight, ops.shape(values)))
        self.count.assign(self.count + ops.sum(values))

    def result(self):
        return ops.convert_to_tensor(self.count)


class MeanOfBatches(keras.metrics.Metric):
    def __init__(self, name="mean_of_batches", **kwargs):
        super().__init__(name=name, **kwargs)
        self.total = self.add_weight(name="total", initializer="zeros")
        self.batches = self.add_weight(shape=(), initializer="zeros", name="batches")

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.total.assign_add(ops.mean(ops.abs(y_true - y_pred)))
        self.batches.assign_add(1.0)

    def result(self):
        return self.total / self.batches

    def reset_state(self):
        self.total.assign(0.0)
        self.batches.assign(0.0)


class Largest(keras.metrics.Metric):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.largest = self.add_weight(shape=(2,), initializer="ones", name="largest")

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.largest[0]
        both = ops.stack([ops.max(y_pred), ops.max(y_true)])
        self.largest.assign(ops.maximum(self.largest, both))

    def result(self):
        return ops.sum(self.largest)

    def reset_state(self):
        for v in self.variables:
            v.assign(ops.full(v.shape, -3.0))


class Moving(keras.metrics.Metric):
    def __init__(self, momentum=0.5, name="moving"):
        super().__init__(name=name)
        self.momentum = momentum
        self.value = self.add_weight(name="value", initializer="zeros")

    def update_state(self, y_true, y_pred, sample_weight=None):
        new = ops.mean(y_pred)
        self.value.assign(self.momentum * self.value + (1 - self.momentum) * new)

    def result(self):
        return 1.0 * self.value

    def get_config(self):
        return {**super().get_config(), "momentum": self.momentum}


class Moments(keras.metrics.Metric):
    def __init__(self, name="moments", **kwargs):
        super().__init__(name=name, **kwargs)
        self.sums = [self.add_weight(name=f"sum_{i}", initializer="zeros") for i in range(3)]

    def update_state(self, y_true, y_pred, sample_weight=None):
        for power, total in enumerate(self.sums):
            total.assign_add(ops.sum(y_pred**power))

    def result(self):
        mean = self.sums[1] / self.sums[0]
        return {"average": mean, "variance": self.sums[2] / self.sums[0] - mean**2}


class MeanError(keras.metrics.Mean):
    def __init__(self, name="mean_error", **kwargs):
        super().__init__(name=name, **kwargs)

    def update_state(self, y_true, y_pred, sample_weight=None):
        values = ops.mean(ops.abs(y_true - y_pred), axis=-1)
        super().update_state(values, sample_weight=sample_weight)


class Doubled(keras.metrics.Mean):
    def update_state(self, y_true, y_pred, sample_weight=None):
        return super().update_state(2 * y_pred, sample_weight)


class Wrapped(keras.metrics.MeanMetricWrapper):
    def __init__(self, name="wrapped", dtype=None):
        super().__init__(fn=lambda t, p: ops.mean((t - p) ** 3, axis=-1), name=name, dtype=dtype)

    def result(self):
        return -super().result()


class Percent(keras.metrics.BinaryAccuracy):
    def result(self):
        return 100.0 * super().result()


class Harmonic(keras.metrics.Metric):
    def __init__(self, name="harmonic", **kwargs):
        super().__init__(name=name, **kwargs)
        self.precision = keras.metrics.Precision()
        self.others = [keras.metrics.Recall(), keras.metrics.F1Score(threshold=0.5)]

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.precision.update_state(y_true, y_pred, sample_weight)
        for other in self.others:
            other.update_state(y_true, y_pred, sample_weight=sample_weight)

    def result(self):
        p, r = self.precision.result(), self.others[0].result()
        f1 = self.others[1].result()
        return 2 * p * r / (p + r + 1e-7) + f1[0]

    def reset_state(self):
        self.precision.reset_state()
        for other in self.others:
            other.reset_state()


class Twice(MeanError):
    def result(self):
        return 2 * super().result()


def everything():
    return [
        TruePositives(), MeanOfBatches(), Largest(), Moving(0.25), Moments(), MeanError(),
        Doubled(), Wrapped(), Percent(), Harmonic(), Twice(name="twice"),
    ]
"""
RNG = np.random.default_rng(3)
X = RNG.normal(size=(10, 2)).astype("float32")
Y = RNG.integers(0, 2, size=(10, 1)).astype("float32")
WEIGHT = RNG.uniform(0.5, 2, size=10).astype("float32")
KERNEL = np.array([[0.5], [-0.75]], "float32")
NAMES = [
    "TruePositives",
    "MeanOfBatches",
    "Largest",
    "Moving",
    "Moments",
    "MeanError",
    "Doubled",
    "Wrapped",
    "Percent",
    "Harmonic",
    "Twice",
]


def train(names, library):
    """(the history of two epochs, the logs of evaluate): the last batch has two examples."""
    model = linear(library, KERNEL, activation="sigmoid")
    model.compile(
        library.optimizers.SGD(0.5),
        "binary_crossentropy",
        metrics=names.everything(),
        weighted_metrics=[names.TruePositives(name="tp"), names.MeanError(name="error")],
    )
    given = {"batch_size": 4, "sample_weight": WEIGHT, "verbose": 0}
    history = model.fit(X, Y, epochs=2, shuffle=False, **given).history
    return history, model.evaluate(X, Y, return_dict=True, **given)


@pytest.mark.slow
def test_in_training_they_give_the_numbers_of_keras():
    (history, logs), (expected, expected_logs) = on_both(PROGRAM, train)
    assert set(history) == set(expected)
    assert_equal(history, expected)
    assert_equal(logs, expected_logs)


def alone(name):
    def run(names, library):
        metric = getattr(names, name)()
        found = []
        for part in (slice(4), slice(4, 10)):
            metric.update_state(Y[part], X[part, :1], sample_weight=WEIGHT[part])
            found.append(metric.result())
        values = sorted(float(np.sum(v)) for v in metric.variables)
        metric.reset_state()
        last = metric(Y, np.abs(X[:, 1:]))
        return jax.tree.map(np.asarray, (found, last)), values

    return run


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_alone_they_give_the_numbers_of_keras(name):
    received, expected = on_both(PROGRAM, alone(name))
    assert_equal(received, expected)


def pure(name):
    """The pure interface, under jit, on `name` of the program or of the library."""

    def run(names, library):
        metric = getattr(names, name, None) or getattr(library.metrics, name)
        metric = metric()
        metric.update_state(Y[:2], np.abs(X[:2, :1]))
        before = [np.asarray(v.value) for v in metric.variables]

        @jax.jit
        def total(y, x, weight):
            values = metric.stateless_reset_state()
            values = metric.stateless_update_state(values, y[:4], x[:4])
            values = metric.stateless_update_state(values, y[4:], x[4:], sample_weight=weight)
            return metric.stateless_result(values)

        found = total(Y, np.abs(X[:, :1]), WEIGHT[4:])
        after = [np.asarray(v.value) for v in metric.variables]
        assert_equal(after, before)
        return found

    return run


OWN = [
    "MeanSquaredError",
    "Precision",
    "AUC",
    "RootMeanSquaredError",
    "CosineSimilarity",
    "BinaryAccuracy",
]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES + OWN)
def test_the_pure_functions_give_the_numbers_of_keras(name):
    received, expected = on_both(PROGRAM, pure(name))
    assert_equal(received, expected)
    if name in OWN:
        with pytest.raises(ValueError, match="start with stateless_reset_state"):
            getattr(metrics, name)().stateless_result([])


def test_equal_ones_are_equal_and_share_a_program():
    ours, _ = both(PROGRAM)
    for name in NAMES:
        make = getattr(ours, name)
        if name != "Wrapped":  # its function is a new one each time
            assert make() == make()
            assert hash(make()) == hash(make())
    assert ours.Moving(0.5) != ours.Moving(0.25)
    assert ours.Moving() != ours.MeanError()
    metric = ours.Harmonic()
    metric.update_state(Y, np.abs(X[:, :1]))
    assert metric == ours.Harmonic()


def test_names_are_those_of_keras():
    ours, keras = both(PROGRAM)
    for name in NAMES:
        assert getattr(ours, name)().name == getattr(keras, name)().name.rstrip("_0123456789")


def test_they_are_saved_by_their_config():
    ours, _ = both(PROGRAM)
    metric = ours.Moving(0.75)
    metric.update_state(Y, X[:, :1])
    assert ours.Moving.from_config(metric.get_config()) == ours.Moving(0.75)
    with registered(ours.Moving):
        restored = from_config(to_config(metric))
    assert restored == metric
    assert float(restored.result()) == 0


MASKED = """
class Steps(keras.metrics.Metric):
    def __init__(self, name="steps", **kwargs):
        super().__init__(name=name, **kwargs)
        self.mean = keras.metrics.MeanAbsoluteError()
        self.count = self.add_weight(name="count", initializer="zeros")

    def update_state(self, y_true, y_pred, sample_weight=None):
        assert sample_weight is None
        self.mean.update_state(y_true, y_pred)
        self.count.assign_add(ops.cast(ops.size(y_pred), "float32"))

    def result(self):
        return {"mean": self.mean.result(), "count": self.count + 0.0}


class Error(keras.metrics.MeanAbsoluteError):
    def update_state(self, y_true, y_pred, sample_weight=None):
        super().update_state(y_true, y_pred, sample_weight)


def build():
    return keras.Sequential([
        keras.layers.Input((3,)),
        keras.layers.Embedding(5, 2, mask_zero=True),
        keras.layers.Dense(1),
    ])
"""


@pytest.mark.slow
def test_a_metric_of_several_numbers_may_be_watched():
    def run(names, library):
        model = linear(library, KERNEL)
        model.compile(library.optimizers.SGD(0.1), "mse", metrics=[names.Moments(), "mae"])
        stopping = library.callbacks.EarlyStopping("val_variance", mode="max", patience=1)
        given = {"epochs": 4, "shuffle": False, "verbose": 0, "callbacks": [stopping]}
        history = model.fit(X, Y, validation_data=(X, Y), **given)
        return history.history, sorted(np.ravel(model.evaluate(X, Y, verbose=0)))

    received, expected = on_both(PROGRAM, run)
    assert_equal(received, expected)


@pytest.mark.slow
def test_masks_reach_the_metrics_that_know_of_them():
    ids = np.array([[1, 2, 0], [3, 0, 0], [4, 1, 2]])
    y = np.arange(9, dtype="float32").reshape(3, 3, 1)

    def run(names, library):
        model = names.build()
        table = np.arange(10, dtype="float32").reshape(5, 2)
        kernel, bias = np.array([[1.0], [0.5]], "float32"), np.zeros(1, "float32")
        model.set_weights([table, kernel, bias])
        model.compile("sgd", "mse", metrics=[names.Steps(), names.Error(name="error")])
        logs = model.evaluate(ids, y, batch_size=2, verbose=0, return_dict=True)
        logs.pop("loss")
        return logs

    received, expected = on_both(MASKED, run)
    assert_equal(received, expected)


@pytest.mark.slow
def test_a_variable_may_be_made_at_the_first_update():
    source = """
    class Lazy(keras.metrics.Metric):
        def __init__(self, name="lazy"):
            super().__init__(name=name)
            self.made = False

        def update_state(self, y_true, y_pred, sample_weight=None):
            if not self.made:
                self.made = True
                shape = (y_pred.shape[-1],)
                self.columns = self.add_weight(shape=shape, initializer="zeros")
            self.columns.assign_add(ops.sum(y_pred, axis=0))

        def result(self):
            return ops.max(self.columns)
    """
    ours = on_fnn(source)
    metric = ours.Lazy()
    metric.update_state(Y, X)
    assert float(metric.result()) == pytest.approx(X.sum(0).max(), rel=1e-6)
    model = linear(fnn, np.eye(2, dtype="float32"))
    model.compile("sgd", "mse", metrics=[ours.Lazy()])
    logs = model.evaluate(X, X, batch_size=4, verbose=0, return_dict=True)
    assert logs["lazy"] == pytest.approx(X.sum(0).max(), rel=1e-6)


@pytest.mark.slow
def test_in_an_ensemble_they_are_the_mean_of_the_members():
    ours, _ = both(PROGRAM)
    net = fnn.layers.Ensemble(fnn.layers.Dense(1, input_shape=(2,)), 3)
    model = fnn.Sequential([net])
    model.compile("sgd", "mse", metrics=[ours.Largest(name="largest"), ours.Moments()])
    logs = model.evaluate(X, Y, batch_size=4, verbose=0, return_dict=True)
    y = np.asarray(model.predict(X, verbose=0))  # (examples, members, 1)
    assert logs["average"] == pytest.approx(y.mean(), rel=1e-5, abs=1e-6)
    largest = np.maximum(y.max((0, 2)), -3) + 1
    assert logs["largest"] == pytest.approx(largest.mean(), rel=1e-5)


# -- mistakes -------------------------------------------------------------------------------------

MISTAKES = """
class Base(keras.metrics.Metric):
    def __init__(self):
        super().__init__(name="mistake")
        self.total = self.add_weight(name="total", initializer="zeros")

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.total.assign_add(ops.sum(y_pred))

    def result(self):
        return self.total


class Leaks(Base):
    def update_state(self, y_true, y_pred, sample_weight=None):
        self.last = y_pred


class AssignsOther(Base):
    def update_state(self, y_true, y_pred, sample_weight=None):
        other.assign(ops.sum(y_pred))


class NoNumber(Base):
    def result(self):
        return "good"


class Assigns(Base):
    def result(self):
        return self.total.assign(0.0)


class NoSuper(keras.metrics.Metric):
    def __init__(self):
        self.total = self.add_weight(name="total")

    def update_state(self, y_true, y_pred, sample_weight=None):
        pass


class NoResult(keras.metrics.Metric):
    def update_state(self, y_true, y_pred, sample_weight=None):
        pass
"""


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("Leaks", ValueError, "a traced array as self.last; make a variable with self.add_weight"),
        ("AssignsOther", ValueError, "to assign variables of the metric, received another"),
        ("NoNumber", TypeError, "result.. to return a number, .* received 'good'"),
        ("Assigns", ValueError, "it assigned a variable; assign in update_state"),
        ("NoSuper", RuntimeError, "call super...__init__.name=name. before add_weight"),
        ("NoResult", NotImplementedError, "NoResult: define result"),
    ],
)
def test_mistakes_are_explained(name, kind, words):
    ours = on_fnn(MISTAKES)
    ours.other = fnn.variables.Variable(0.0)
    model = linear(fnn, KERNEL)
    with pytest.raises(kind, match=words):
        model.compile("sgd", "mse", metrics=[getattr(ours, name)()])
        model.evaluate(X, Y, verbose=0)


def test_old_names_and_traced_assignments_are_explained():
    ours = on_fnn(MISTAKES)
    with pytest.raises(TypeError, match="expected reset_state, received a method reset_states"):
        type("Old", (metrics.Metric,), {"reset_states": lambda self: None})
    with pytest.raises(ValueError, match="a traced one, which would leave its trace"):
        jax.jit(lambda y: ours.Base().update_state(y, y))(jnp.ones(3))
    with pytest.raises(ValueError, match="the values of its 1 variables, received 2"):
        ours.Base().stateless_update_state([1.0, 2.0], Y, Y)
