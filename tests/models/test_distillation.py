"""Distillation trains as Keras's Distiller does."""

import jax
import keras
import numpy as np
import pytest

import fnn
from fnn.distillation import (
    DistillationLoss,
    Distiller,
    FeatureDistillation,
    LogitsDistillation,
)
from tests.helpers.both_libraries import (
    CLOSE,
    assert_equal,
    both_models,
    compile_with_sgd,
    normal,
    on_both,
)
from tests.helpers.oracle import keras_rules


@pytest.fixture(autouse=True)
def rules_of_users():
    with jax.numpy_rank_promotion("allow"):
        yield


X = normal(10, 4)
Y = np.arange(10) % 3
LOSS = {"loss": "sparse_categorical_crossentropy", "metrics": ["accuracy"]}

MODELS = """
    def net(name, units):
        rows = [keras.Input((4,)), layers.Dense(units, activation="tanh", name="hidden")]
        rows += [layers.Dense(5, name="features"), layers.Dense(3, activation="softmax")]
        return keras.Sequential(rows, name=name)
    def Logits(temperature=3.0, loss=None):
        loss = loss or keras.losses.KLDivergence()
        return keras.distillation.LogitsDistillation(temperature, loss)
    Features = keras.distillation.FeatureDistillation
    model = keras.distillation.Distiller(net("teacher", 6), net("student", 2), {arguments})
"""
ARGUMENTS = [
    "Logits()",
    "Logits(2.0, 'mse'), student_loss_weight=0.3",
    "Logits(), student_loss_weight=1.0",
    "[Logits(4.0), Features('mae'), Features('mse', 'features', 'features')], [0.5, 2.0, 1.5]",
]


@pytest.mark.slow
@pytest.mark.parametrize("arguments", ARGUMENTS)
def test_training_is_that_of_keras(arguments):
    mine, theirs = both_models(MODELS.replace("{arguments}", arguments), X)

    def run(model, is_keras):
        compile_with_sgd(model, is_keras, LOSS)
        size = 4 if arguments == ARGUMENTS[0] else 5  # with a smaller last batch, or without
        fit = {"batch_size": size, "shuffle": False, "verbose": 0, "epochs": 2}
        history = model.fit(X, Y, **fit).history
        scores = model.evaluate(X, Y, verbose=0, return_dict=True)
        outputs = model.predict(X, verbose=0)
        return [history, scores, outputs, model.student.get_weights()]

    with keras_rules():
        wanted = run(theirs, True)
    before = mine.teacher.get_weights()
    assert_equal(run(mine, False), wanted, **CLOSE)
    assert_equal(mine.teacher.get_weights(), before)
    assert len(mine.trainable_variables) == 6


def test_losses_are_those_of_keras():
    teacher, student = normal(4, 3), normal(4, 3, seed=1)

    def run(names, library):
        losses = [
            library.distillation.LogitsDistillation(3.0, library.losses.KLDivergence()),
            library.distillation.LogitsDistillation(5.0, "categorical_crossentropy"),
            library.distillation.FeatureDistillation("cosine_similarity"),
        ]
        pairs = [teacher, 2 * teacher], [student, student]
        several = library.distillation.LogitsDistillation(2.0, ["mse", None])
        found = [loss.compute_loss(teacher, student) for loss in losses]
        return [*found, several.compute_loss(*pairs)]

    assert_equal(*on_both("", run))


def test_the_default_takes_probabilities_too():
    """Keras gives logits to a loss that was named, of which its logarithm is not defined."""
    teacher, student = normal(4, 3), normal(4, 3, seed=1)
    named, made = LogitsDistillation(), LogitsDistillation(loss=fnn.losses.KLDivergence())
    assert_equal(named.compute_loss(teacher, student), made.compute_loss(teacher, student))
    theirs = keras.distillation.LogitsDistillation()
    with keras_rules():
        found = theirs.compute_loss(teacher, student)
        wanted = keras.ops.mean(keras.losses.kl_divergence(teacher / 3, student / 3))
    assert_equal(found, wanted)


def test_mistakes_are_named():
    net = fnn.Sequential([fnn.layers.Dense(3, input_shape=(4,))])
    with pytest.raises(ValueError, match="temperature must be a positive number"):
        LogitsDistillation(0)
    with pytest.raises(ValueError, match="a loss for one output at least"):
        FeatureDistillation(None)
    with pytest.raises(ValueError, match="teacher must be a model, got Dense"):
        Distiller(fnn.layers.Dense(3), net, LogitsDistillation())
    with pytest.raises(ValueError, match="student_loss_weight must be between 0 and 1"):
        Distiller(net, net, LogitsDistillation(), student_loss_weight=2)
    with pytest.raises(ValueError, match="expected 1 distillation_loss_weights"):
        Distiller(net, net, [LogitsDistillation()], [1.0, 2.0])
    with pytest.raises(ValueError, match="'nothing'"):
        Distiller(net, net, FeatureDistillation("mse", "nothing"))
    with pytest.raises(ValueError, match="expected the student's loss"):
        Distiller(net, net, LogitsDistillation()).compile("sgd")
    with pytest.raises(NotImplementedError, match="define the method compute_loss"):
        DistillationLoss().compute_loss(1, 2)
    with pytest.raises(ValueError, match="of one structure"):
        LogitsDistillation().validate_outputs([1], 2)
