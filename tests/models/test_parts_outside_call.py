"""Layers and models that a class uses in its losses and steps only, beside Keras live."""

import jax
import numpy as np
import pytest

import fnn
from tests.helpers.both_libraries import (
    CLOSE,
    assert_equal,
    both_models,
    compile_with_sgd,
    normal,
    on_fnn,
)
from tests.helpers.oracle import keras_rules


@pytest.fixture(autouse=True)
def rules_of_users():
    """Programs in Keras's way add arrays of different ranks."""
    with jax.numpy_rank_promotion("allow"):
        yield


X, Y = normal(10, 4), normal(10, 3, seed=1)

DISTILLER = """
    def net(name):
        rows = [keras.Input((4,)), layers.Dense(5, activation="tanh")]
        rows += [layers.BatchNormalization(), layers.Dense(3)]
        return keras.Sequential(rows, name=name)
    class Distiller(keras.Model):
        def __init__(self, student, teacher):
            super().__init__()
            self.student = student
            self.teacher = teacher
        def call(self, x, training=None):
            return self.student(x, training=training)
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            soft = self.teacher(x, training=False)
            return ops.mean(ops.square(y - y_pred)) + ops.mean(ops.square(soft - y_pred))
    model = Distiller(net("student"), net("teacher"))
"""
STEPS = (
    DISTILLER.replace("def compute_loss", "def unused")
    + """
    class Steps(Distiller):
        def loss_of(self, trainable, others, x, y, training):
            y_pred, others = self.stateless_call(trainable, others, x, training=training)
            pairs = [*zip(self.trainable_variables, trainable)]
            pairs += [*zip(self.non_trainable_variables, others)]
            with keras.StatelessScope(pairs):
                soft = self.teacher(x, training=False)
            return ops.mean(ops.square(soft - y_pred)), others
        def train_step(self, state, data):
            trainable, others, optimizer, metrics = state
            x, y = data
            import jax
            gradient = jax.value_and_grad(self.loss_of, has_aux=True)
            (loss, others), grads = gradient(trainable, others, x, y, True)
            trainable, optimizer = self.optimizer.stateless_apply(optimizer, grads, trainable)
            return {"loss": loss}, (trainable, others, optimizer, metrics)
        def test_step(self, state, data):
            trainable, others, metrics = state
            x, y = data
            loss, others = self.loss_of(trainable, others, x, y, False)
            return {"loss": loss}, (trainable, others, metrics)
    model = Steps(net("student"), net("teacher"))
"""
)


def training(model, is_keras):
    """Logs and weights of a teacher trained alone, of all trained, and with a frozen teacher."""
    fit = {"batch_size": 5, "shuffle": False, "verbose": 0}  # Keras compiles for each size
    compile_with_sgd(model.teacher, is_keras, {"loss": "mse"})
    found = [model.teacher.fit(X, Y, **fit).history]
    for trainable in (True, False):
        model.teacher.trainable = trainable
        compile_with_sgd(model, is_keras, {})
        logs = [model.fit(X, Y, **fit).history, model.evaluate(X, Y, verbose=0)]
        if not hasattr(model, "loss_of"):  # Keras logs its own trackers after such a step
            found += logs
        found += [model.get_weights(), model.teacher.get_weights()]
        found += [len(model.trainable_variables), model.teacher.predict(X, verbose=0)]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("source", [DISTILLER, STEPS], ids=["compute_loss", "steps"])
def test_a_model_used_in_the_loss_alone_is_trained_or_frozen_as_in_keras(source):
    mine, theirs = both_models(source, X)
    with keras_rules():
        wanted = training(theirs, True)
    assert len(mine.weights) == len(theirs.weights) == 16
    assert_equal(training(mine, False), wanted, **CLOSE)


def test_its_weights_are_in_files(tmp_path):
    names = on_fnn(DISTILLER)
    model = names.model
    model(X)
    path = tmp_path / "all.weights.h5"
    model.save_weights(path)
    other = names.Distiller(names.net("student"), names.net("teacher"))
    other(X)
    other.load_weights(path)
    np.testing.assert_array_equal(other.teacher(X), model.teacher(X))


@pytest.mark.slow
def test_a_layer_used_in_the_loss_alone_learns():
    model = on_fnn(
        """
        class M(keras.Model):
            def __init__(self):
                super().__init__()
                self.inner, self.more = layers.Dense(3), layers.Dense(3)
            def call(self, x):
                return self.inner(x)
            def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
                return ops.mean(ops.square(self.more(x) - y_pred - y))
        model = M()
        """
    ).model
    model.compile("sgd")
    with pytest.raises(ValueError, match=r"make them before, layer.build\(input_shape\)"):
        model.fit(X, Y, verbose=0)
    model.more.build((None, 4))
    model.compile("sgd")
    first = [model.fit(X, Y, verbose=0).history["loss"][0] for _ in range(5)]
    assert first == sorted(first, reverse=True)
    assert [w.path.split("/")[-2:] for w in model.weights][2] == ["more", "kernel"]


@pytest.mark.slow
def test_a_model_without_weights_in_the_loss_is_named():
    names = on_fnn(DISTILLER)
    teacher = fnn.Sequential([fnn.layers.Dense(3)], name="teacher")
    model = names.Distiller(names.net("student"), teacher)
    model.compile("sgd")
    with pytest.raises(ValueError, match="expected 'teacher' to have weights before a step"):
        model.fit(X, Y, verbose=0)
    teacher.build((None, 4))
    model.compile("sgd")
    model.fit(X, Y, verbose=0)
    assert len(model.weights) == 10
