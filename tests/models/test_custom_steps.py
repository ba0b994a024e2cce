"""Models whose classes override steps, losses and metrics, beside Keras on JAX live."""

import jax
import numpy as np
import pytest

from tests.helpers.both_libraries import (
    CLOSE,
    assert_equal,
    assert_same_training,
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


X, Y = normal(10, 4), normal(10, 3, seed=1)  # batches of 4: the last one is not full

NETWORK = """
    import jax
    class Base(keras.Model):
        def __init__(self):
            super().__init__()
            self.hidden = layers.Dense(5, activation="tanh", kernel_regularizer="l2")
            self.norm = layers.BatchNormalization()
            self.out = layers.Dense(3)
            self.tracker = keras.metrics.Mean(name="tracker")
        def call(self, x, training=None):
            return self.out(self.norm(self.hidden(x), training=training))
"""
TRAIN_STEP = (
    # Keras cannot compute regularizers here: its variables have no values in `train_step`.
    NETWORK.replace(', kernel_regularizer="l2"', "")
    + """
    class M(Base):
        def loss_and_updates(self, trainable, others, x, y, training=False):
            y_pred, others = self.stateless_call(trainable, others, x, training=training)
            return self.compute_loss(x, y, y_pred), (y_pred, others)
        def train_step(self, state, data):
            trainable, others, optimizer, metrics = state
            x, y = data
            gradient = jax.value_and_grad(self.loss_and_updates, has_aux=True)
            (loss, (y_pred, others)), grads = gradient(trainable, others, x, y, training=True)
            trainable, optimizer = self.optimizer.stateless_apply(optimizer, grads, trainable)
            logs, new = {}, []
            for metric in self.metrics:
                own = metrics[len(new):len(new) + len(metric.variables)]
                if metric.name in ("loss", "tracker"):
                    own = metric.stateless_update_state(own, loss)
                else:
                    own = metric.stateless_update_state(own, y, y_pred)
                logs[metric.name] = metric.stateless_result(own)
                new += own
            return logs, (trainable, others, optimizer, new)
    model = M()
"""
)
COMPUTE_LOSS = (
    NETWORK
    + """
    class M(Base):
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            loss = ops.mean(ops.square(y - y_pred)) + 0.1 * sum(self.losses)
            self.tracker.update_state(loss)
            return loss
    model = M()
"""
)
SUPER_LOSS = (
    NETWORK
    + """
    class M(Base):
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            loss = super().compute_loss(x, y, y_pred, sample_weight, training)
            return loss + ops.mean(ops.abs(y_pred))
    model = M()
"""
)
COMPUTE_METRICS = (
    NETWORK
    + """
    class M(Base):
        def compute_metrics(self, x, y, y_pred, sample_weight=None):
            logs = super().compute_metrics(x, y, y_pred, sample_weight)
            self.tracker.update_state(ops.mean(y_pred))
            logs["tracker"] = self.tracker.result()
            return logs
    model = M()
"""
)
DEFAULT_STEPS = (
    NETWORK
    + """
    class M(Base):
        def train_step(self, state, data):
            logs, state = super().train_step(state, data)
            return {**logs, "more": logs["loss"] + 1.0}, state
        def test_step(self, state, data):
            logs, state = super().test_step(state, data)
            return {**logs, "more": logs["loss"] + 1.0}, state
    model = M()
"""
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "compiles"),
    [
        pytest.param(TRAIN_STEP, {"loss": "mse"}, marks=pytest.mark.slow),
        pytest.param(COMPUTE_LOSS, {}, marks=pytest.mark.slow),
        pytest.param(SUPER_LOSS, {"loss": "mse", "metrics": ["mae"]}, marks=pytest.mark.slow),
        pytest.param(COMPUTE_METRICS, {"loss": "mse", "metrics": ["mae"]}, marks=pytest.mark.slow),
        (DEFAULT_STEPS, {"loss": "mse", "metrics": ["mae"]}),
    ],
    ids=["train_step", "compute_loss", "super_loss", "compute_metrics", "default_steps"],
)
def test_training_is_that_of_keras(source, compiles):
    mine, theirs = both_models(source, X)
    compiles = compiles or {"loss": None}
    count = len(X) if source in (TRAIN_STEP, COMPUTE_LOSS) else 8  # with a last batch, or without
    assert_same_training(mine, theirs, X[:count], Y[:count], compiles=compiles, epochs=3)


VAE = """
    import jax
    class Sampling(layers.Layer):
        def call(self, inputs):
            mean, log_var = inputs
            return mean + ops.exp(0.5 * log_var) * 0.1
    class VAE(keras.Model):
        def __init__(self, **named):
            super().__init__(**named)
            x = keras.Input((4,))
            h = layers.Dense(6, activation="relu")(x)
            mean, log_var = layers.Dense(2)(h), layers.Dense(2)(h)
            self.encoder = keras.Model(x, [mean, log_var, Sampling()([mean, log_var])])
            z = keras.Input((2,))
            self.decoder = keras.Model(z, layers.Dense(4)(z))
            self.total = keras.metrics.Mean(name="loss")
            self.kl = keras.metrics.Mean(name="kl_loss")
        @property
        def metrics(self):
            return [self.total, self.kl]
        def call(self, x):
            return self.decoder(self.encoder(x)[2])
        def loss_of(self, trainable, others, x):
            encoder = len(self.encoder.trainable_variables)
            (mean, log_var, z), _ = self.encoder.stateless_call(trainable[:encoder], [], x)
            y, _ = self.decoder.stateless_call(trainable[encoder:], [], z)
            kl = -0.5 * ops.mean(1 + log_var - ops.square(mean) - ops.exp(log_var))
            return ops.mean(ops.square(x - y)) + kl, kl
        def train_step(self, state, data):
            trainable, others, optimizer, metrics = state
            gradient = jax.value_and_grad(self.loss_of, has_aux=True)
            (loss, kl), grads = gradient(trainable, others, data)
            trainable, optimizer = self.optimizer.stateless_apply(optimizer, grads, trainable)
            total = self.total.stateless_update_state(metrics[:2], loss)
            kls = self.kl.stateless_update_state(metrics[2:], kl)
            logs = {
                "loss": self.total.stateless_result(total),
                "kl_loss": self.kl.stateless_result(kls),
            }
            return logs, (trainable, others, optimizer, total + kls)
    model = VAE()
"""


@pytest.mark.slow
def test_a_variational_autoencoder_learns_as_on_keras():
    mine, theirs = both_models(VAE, X)
    found, wanted = [], []
    for model, logs in ((mine, found), (theirs, wanted)):
        compile_with_sgd(model, model is theirs, {})
        with keras_rules():
            history = model.fit(X[:8], epochs=3, batch_size=4, shuffle=False, verbose=0)
        logs.append(history.history)
    assert_equal(found, wanted, **CLOSE)
    with keras_rules():
        wanted = theirs.get_weights()
    assert_equal(mine.get_weights(), wanted, **CLOSE)
    assert float(mine.total.result()) == pytest.approx(found[0]["loss"][-1], rel=1e-5)


GAN = """
    class GAN(keras.Model):
        def __init__(self, critic, generator):
            super().__init__()
            self.critic, self.generator = critic, generator
            self.seed = keras.random.SeedGenerator(1)
            self.noise = keras.metrics.Mean(name="noise")
        def train_step(self, state, data):
            trainable, others, optimizer, metrics = state
            def loss_of(trainable):
                count = len(self.critic.trainable_variables)
                z = keras.random.normal((ops.shape(data)[0], 3), seed=self.seed)
                fake, _ = self.generator.stateless_call(trainable[count:], [], z)
                score, _ = self.critic.stateless_call(trainable[:count], [], fake)
                real, _ = self.critic.stateless_call(trainable[:count], [], data)
                return ops.mean(ops.square(score)) + ops.mean(ops.square(real - 1)), z
            import jax
            (loss, z), grads = jax.value_and_grad(loss_of, has_aux=True)(trainable)
            trainable, optimizer = self.optimizer.stateless_apply(optimizer, grads, trainable)
            metrics = self.noise.stateless_update_state(metrics[-2:], ops.mean(z))
            return {"g": loss, "noise": ops.mean(z)}, (trainable, others, optimizer, metrics)
        @property
        def metrics(self):
            return [self.noise]
    critic = keras.Sequential([keras.Input((4,)), layers.Dense(1)])
    generator = keras.Sequential([keras.Input((3,)), layers.Dense(4)])
    model = GAN(critic, generator)
"""


@pytest.mark.slow
def test_a_model_without_call_trains_the_models_inside():
    names = on_fnn(GAN)
    model = names.model
    model.compile("sgd")
    before = names.critic.get_weights() + names.generator.get_weights()
    history = model.fit(X, epochs=2, batch_size=4, verbose=0).history
    assert set(history) == {"g", "noise"}
    assert history["noise"][0] != history["noise"][1]
    after = names.critic.get_weights() + names.generator.get_weights()
    assert all((a != b).any() for a, b in zip(before, after, strict=True))
    assert_equal(model.get_weights(), after)


def test_predict_step_of_the_class():
    source = (
        NETWORK
        + """
    class M(Base):
        def predict_step(self, state, data):
            outputs, others = super().predict_step(state, data)
            return {"twice": 2 * outputs, "argmax": ops.argmax(outputs, -1)}, others
    model = M()
"""
    )
    mine, theirs = both_models(source, X)
    with keras_rules():
        wanted = theirs.predict(X, batch_size=4, verbose=0)
    assert_equal(mine.predict(X, batch_size=4, verbose=0), wanted, **CLOSE)


@pytest.mark.slow
def test_validation_weights_classes_and_batches():
    mine, theirs = both_models(COMPUTE_METRICS, X)
    results = []
    for model in (mine, theirs):
        compile_with_sgd(model, model is theirs, {"loss": "mse", "weighted_metrics": ["mae"]})
        weight = np.linspace(0, 1, 10).astype("float32")
        with keras_rules():
            history = model.fit(
                X,
                Y,
                sample_weight=weight,
                validation_split=0.2,
                batch_size=4,
                shuffle=False,
                verbose=0,
                epochs=2,
            )
            logs = model.train_on_batch(X, Y, return_dict=True)
            more = model.test_on_batch(X, Y, return_dict=True)
            scores = model.evaluate(X, Y, verbose=0)
        results.append([history.history, scores])
        assert set(logs) == set(more) == {"loss", "mae", "tracker"}
    assert_equal(*results, **CLOSE)


@pytest.mark.slow
def test_a_stream_of_batches():
    mine, theirs = both_models(TRAIN_STEP, X)
    results = []
    for model in (mine, theirs):
        compile_with_sgd(model, model is theirs, {"loss": "mse"})

        def batches():
            while True:
                yield X[:4], Y[:4]
                yield X[4:6], Y[4:6]

        with keras_rules():
            history = model.fit(batches(), steps_per_epoch=4, epochs=2, verbose=0)
        results.append(history.history)
    assert_equal(*results, **CLOSE)


def test_steps_for_tensorflow_get_the_form_for_jax():
    source = (
        NETWORK
        + """
    class M(Base):
        def train_step(self, data):
            x, y = data
            return {}
        def test_step(self, data):
            return {}
    model = M()
"""
    )
    model = on_fnn(source).model
    model.compile("sgd", "mse")
    with pytest.raises(TypeError, match=r"train_step\(self, state, data\), as in Keras on JAX"):
        model.fit(X, Y, verbose=0)
    with pytest.raises(TypeError, match=r"test_step\(self, state, data\), as in Keras on JAX"):
        model.evaluate(X, Y, verbose=0)


def test_a_step_that_returns_something_else():
    source = (
        NETWORK
        + """
    class M(Base):
        def train_step(self, state, data):
            return self.result
    model = M()
"""
    )
    model = on_fnn(source).model
    model.compile("sgd", "mse")
    for result in ({"loss": 1.0}, ({}, ([], [])), (1.0, 2.0)):
        model.result = result
        with pytest.raises(TypeError, match=r"expected M.train_step to return \(logs, state\)"):
            model.fit(X, Y, verbose=0)


@pytest.mark.slow
def test_the_form_in_the_error_runs():
    from fnn.models.own_steps import FORMS

    for name, form in FORMS.items():
        source = NETWORK + "    class M(Base):\n        pass\n    model = M()\n"
        names = on_fnn(source)
        lines = form.partition("\n")[2]
        space = {"jax": jax}
        exec("class Steps:\n" + lines, space)
        cls = type("M", (names.Base,), {name: vars(space["Steps"])[name]})
        model = cls()
        model.compile("sgd", "mse")
        if name == "predict_step":
            assert model.predict(X, verbose=0).shape == (10, 3)
            continue
        call = model.fit if name == "train_step" else model.evaluate
        call(X, Y, verbose=0)
