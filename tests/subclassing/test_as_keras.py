"""What programs rely on beside outputs: variables read and assigned, lists of weights, freezing."""

import textwrap

import pytest

from tests.helpers.both_libraries import assert_equal, on_fnn, on_keras
from tests.helpers.oracle import keras_rules

DATA = """
X = np.random.default_rng(0).normal(size=(16, 4)).astype("float32")
Y = X.sum(axis=1, keepdims=True)
"""

# Each ends with `result`, equal on both.
PROGRAMS = {
    "a weight of a model is read and assigned": """
        class Scaled(keras.Model):
            def __init__(self):
                super().__init__()
                self.scale = self.add_weight(shape=(), initializer="ones", name="scale")
                self.shift = keras.Variable(2.0, trainable=False)
            def call(self, x):
                return x * self.scale + self.shift
        model = Scaled()
        result = [model(X)]
        model.scale.assign(5.0)
        result += [model(X), model.predict(X, verbose=0), model.scale.numpy()]
        model.set_weights([np.array(4.0), np.array(1.0)])
        result += [model.scale.numpy(), model.shift.numpy(), model(X)]
    """,
    "a callback anneals a weight of a model": """
        class Weighted(keras.Model):
            def __init__(self):
                super().__init__()
                self.dense = layers.Dense(1, kernel_initializer="ones")
                self.beta = keras.Variable(0.0, trainable=False)
            def call(self, x):
                return self.dense(x) * self.beta
        class Anneal(keras.callbacks.Callback):
            def on_epoch_begin(self, epoch, logs=None):
                self.model.beta.assign(float(epoch))
        model = Weighted()
        model.compile(keras.optimizers.SGD(0.01), "mse")
        result = model.fit(X, Y, epochs=3, batch_size=8, shuffle=False, verbose=0,
                           callbacks=[Anneal()]).history["loss"]
    """,
    "lists of weights inside call": """
        class Regular(layers.Layer):
            def __init__(self):
                super().__init__()
                self.dense = layers.Dense(1, kernel_initializer="ones")
                self.norm = layers.LayerNormalization()
            def call(self, x):
                y = self.dense(self.norm(x))
                self.add_loss(0.1 * sum(ops.sum(w**2) for w in self.trainable_weights))
                self.add_loss(0.01 * ops.sum(self.dense.trainable_variables[0] ** 2))
                return y * len(self.weights) + len(self.dense.weights)
        model = keras.Sequential([keras.Input((4,)), Regular()])
        model.compile(keras.optimizers.SGD(0.01), "mse")
        result = model.fit(X, Y, epochs=2, batch_size=8, shuffle=False, verbose=0).history["loss"]
    """,
    "constants that are equal but of other dtypes": """
        class Divided(layers.Layer):
            def __init__(self, by):
                super().__init__()
                self.by = by
            def call(self, x):
                if isinstance(self.by, np.integer):
                    return x // int(self.by)
                return x / float(self.by)
        result = [Divided(np.int32(2))(X), Divided(np.float32(2))(X)]
    """,
    "freezing reaches the layers inside": """
        class Two(layers.Layer):
            def __init__(self):
                super().__init__()
                self.a, self.b = layers.Dense(3), layers.Dense(1)
            def call(self, x):
                return self.b(self.a(x))
        alone = Two()
        alone(X)
        alone.trainable = False
        result = [len(alone.trainable_weights)]
        inside = Two()
        model = keras.Sequential([keras.Input((4,)), inside])
        inside.a.trainable = False
        result.append(len(model.trainable_weights))
        inside.trainable = True
        result.append(len(model.trainable_weights))
        class Net(keras.Model):
            def __init__(self):
                super().__init__()
                self.a, self.b = layers.Dense(3), layers.Dense(1)
            def call(self, x):
                return self.b(self.a(x))
        net = Net()
        net(X)
        for value in (False, True):
            net.a.trainable = False
            net.trainable = value
            result.append(len(net.trainable_weights))
    """,
    "a variable of a layer inside another class": """
        class Beta(layers.Layer):
            def __init__(self):
                super().__init__()
                self.beta = keras.Variable(3.0, trainable=False)
            def call(self, x):
                return x * self.beta
        class Outer(layers.Layer):
            def __init__(self):
                super().__init__()
                self.inner = Beta()
            def call(self, x):
                return self.inner(x)
        class Net(keras.Model):
            def __init__(self):
                super().__init__()
                self.inner = Outer()
            def call(self, x):
                return self.inner(x)
        x = keras.Input((4,))
        result = [Net()(X), Outer()(X), keras.Model(x, Outer()(x)).predict(X, verbose=0)]
    """,
    "a mask given to inputs that have one": """
        class Encoder(layers.Layer):
            def __init__(self):
                super().__init__()
                self.embed = layers.Embedding(10, 4, mask_zero=True, embeddings_initializer="ones")
                self.lstm = layers.LSTM(3, kernel_initializer="ones", recurrent_initializer="ones")
                self.mean = layers.GlobalAveragePooling1D()
            def call(self, x):
                h = self.embed(x)
                mask = ops.not_equal(x, 0)
                return self.lstm(h, mask=mask), self.mean(h, mask=mask)
        result = Encoder()(np.array([[1, 2, 0, 0], [3, 0, 0, 0]]))
    """,
    "weights before all are made": """
        class Pair(keras.Model):
            def __init__(self):
                super().__init__()
                self.scale = self.add_weight(shape=(2,), name="scale")
                self.first = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
                self.second = keras.Sequential([keras.Input((3,)), layers.Dense(1)])
                self.later = layers.Dense(5)
            def call(self, x):
                return self.later(self.second(self.first(x))) * ops.sum(self.scale)
        pair, row = Pair(), keras.Sequential([layers.Dense(3)])
        result = [len(pair.weights), len(pair.trainable_variables), len(row.weights)]
        pair(X)
        result.append(len(pair.weights))
    """,
    "dtypes by name": """
        class Cast(layers.Layer):
            def call(self, x):
                return ops.cast(x, self.compute_dtype)
        result = [Cast()(np.arange(3)), float(Cast().variable_dtype == "float32")]
    """,
}


QUICK = ("dtypes by name", "constants that are equal but of other dtypes")


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name not in QUICK)) for name in PROGRAMS],
)
def test_programs_end_alike(name):
    source = DATA + textwrap.dedent(PROGRAMS[name])
    with keras_rules():
        wanted = on_keras(source).result
        assert_equal(on_fnn(source).result, wanted, rtol=2e-5, atol=1e-6)


# -- differences on purpose ----------------------------------------------------------------------

WITHOUT_TRAINING = """
class Net(keras.Model):
    def __init__(self):
        super().__init__()
        self.drop = layers.Dropout(0.5)
        self.dense = layers.Dense(1, kernel_initializer="ones")
    def call(self, x):
        return self.dense(self.drop(x))
model = Net()
model.compile(keras.optimizers.SGD(0.0), "mse")
X = np.ones((64, 4), "float32")
loss = model.fit(X, X[:, :1] * 4, verbose=0).history["loss"][0]
"""


@pytest.mark.slow
def test_fit_trains_layers_whose_call_does_not_say_training():
    assert on_keras(WITHOUT_TRAINING).loss == pytest.approx(0, abs=1e-6)  # no dropout
    # Each input is 0 or 2, so the sum of four has the variance 4.
    assert on_fnn(WITHOUT_TRAINING).loss == pytest.approx(4, rel=0.5)
