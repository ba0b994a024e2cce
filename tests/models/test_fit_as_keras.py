"""What fit takes, logs and prints, against Keras: no targets, weights, names, the last line."""

import re

import numpy as np
import pytest

import fnn
from fnn.layers import Dense
from tests.helpers.both_libraries import check, fill

X = np.random.default_rng(0).normal(size=(6, 3)).astype("float32")
Y = X[:, :1] ** 2
IDS = [np.array([0, 1, 0, 1, 1, 0]), np.array([2, 1, 0, 0, 1, 2])]
WEIGHTS = [np.array([1.0, 2, 3, 4, 5, 6]), np.array([6.0, 5, 4, 3, 2, 1])]


def network(k, metrics=None):
    model = fill(k.Sequential([k.Input((3,)), k.layers.Dense(1)]))
    model.compile(k.optimizers.SGD(1e-3), "mse", metrics=metrics)
    return model


@pytest.mark.slow
def test_a_fit_without_targets_and_without_a_loss():
    def program(k):
        x = k.Input((3,))
        y = k.layers.Dense(2, kernel_regularizer="l2")(x)
        model = fill(k.Model(x, k.layers.ActivityRegularization(l2=0.5)(y)))
        model.compile(k.optimizers.SGD(0.01))
        history = model.fit(X, verbose=0, epochs=2, validation_data=(X,), batch_size=6).history
        last = model.evaluate(X, verbose=0), model.train_on_batch(X), model.test_on_batch(X)
        return history, last, model.get_weights()

    check(program)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["list", "dict"])
@pytest.mark.parametrize("given", ["each", "all"])
def test_sample_weights_of_several_outputs(form, given):
    def program(k):
        x = k.Input((3,))
        outputs = [
            k.layers.Dense(n, activation="softmax", name=name)(x)
            for n, name in ((2, "a"), (3, "b"))
        ]
        y, weights, losses = IDS, WEIGHTS, ["sparse_categorical_crossentropy"] * 2
        if form == "dict":
            outputs, y, weights, losses = (
                dict(zip("ab", pair, strict=True)) for pair in (outputs, y, weights, losses)
            )
        if given == "all":
            weights = WEIGHTS[0]
        model = fill(k.Model(x, outputs))
        model.compile(k.optimizers.SGD(0.1), losses)
        return model.fit(X, y, sample_weight=weights, verbose=0, batch_size=6).history

    check(program)


@pytest.mark.slow
def test_a_class_without_a_weight_has_the_weight_1():
    def program(k):
        model = fill(k.Sequential([k.Input((3,)), k.layers.Dense(3, activation="softmax")]))
        model.compile(k.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
        fits = [
            model.fit(X, IDS[1], class_weight=some, verbose=0, batch_size=6).history["loss"]
            for some in ({0: 5.0}, {0: 0.5, 2: 2.0})
        ]
        return fits, model.get_weights()

    check(program)


@pytest.mark.slow
def test_a_metric_called_loss_is_logged_in_its_place():
    def program(k):
        model = network(k, [k.metrics.MeanAbsoluteError(name="loss")])
        history = model.fit(X, Y, verbose=0, epochs=2, batch_size=6).history
        return history, model.evaluate(X, Y, verbose=0), model.get_weights()

    check(program)
    twice = network(fnn, [fnn.metrics.MeanAbsoluteError(name="loss")] * 2)
    assert list(twice.fit(X, Y, verbose=0).history) == ["loss", "loss_1"]
    assert twice.metrics_names == ["loss", "loss", "loss_1"]
    assert twice.metric_directions() == {"loss": "min", "loss_1": "min"}


@pytest.mark.slow
def test_on_train_end_gets_the_logs_of_the_last_epoch():
    def program(k):
        found = []

        class Last(k.callbacks.Callback):
            def on_train_end(self, logs=None):
                found.append(dict(logs))

        model = network(k)
        model.fit(X, Y, verbose=0, epochs=2, batch_size=6, callbacks=[Last()])
        model.fit(X, Y, verbose=0, validation_data=(X, Y), batch_size=6, callbacks=[Last()])
        return found

    check(program)


@pytest.mark.slow
def test_the_last_line_of_an_epoch_shows_the_learning_rate(capsys):
    def program(k):
        capsys.readouterr()
        halve = k.callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.5)
        network(k).fit(X, Y, epochs=2, verbose=2, callbacks=[halve], batch_size=6)
        return re.findall(r"loss: \d.*", capsys.readouterr().out)

    check(program)
    network(fnn).fit(X, Y, verbose=1, callbacks=[fnn.callbacks.ReduceLROnPlateau("loss")])
    assert "learning_rate: 0.0010\n" in capsys.readouterr().out


def test_a_bar_is_left_when_a_callback_fails(capsys):
    def fail(epoch, logs):
        raise KeyError("of the callback")

    with pytest.raises(KeyError):
        network(fnn).fit(
            X, Y, verbose=1, callbacks=[fnn.callbacks.LambdaCallback(on_epoch_end=fail)]
        )
    assert capsys.readouterr().out.endswith("\n")


def batches(count=2):
    for _ in range(count):
        yield X[:3], Y[:3]


@pytest.mark.slow
def test_too_few_batches_to_validate_are_a_warning():
    def program(k):
        model = network(k)
        history = model.fit(
            X, Y, verbose=0, validation_data=batches(), validation_steps=5, batch_size=6
        ).history
        return history, model.evaluate(batches(), steps=5, verbose=0)

    with pytest.warns(UserWarning, match="expected 5 batches in a pass, received 2"):
        check(program)
    with pytest.raises(ValueError, match="expected 5 batches in a pass, received 2"):
        network(fnn).fit(batches(), steps_per_epoch=5, verbose=0)


def test_a_summary_before_the_shapes_are_known():
    def program(k):
        lines = []
        model = k.Sequential([k.layers.Dense(3), k.layers.Dense(4)])
        model.summary(print_fn=lambda text, **_: lines.append(text))
        words = re.findall(r"[\w?]+ \(\w+\)|\?|unbuilt|params: \S+", "\n".join(lines))
        return words

    check(program)
    lines = []
    fnn.Model(Dense(3)).summary(print_fn=lines.append, show_trainable=True)
    assert "dense (Dense) │ ?            │ 0 (unbuilt) │ -" in lines[0]
