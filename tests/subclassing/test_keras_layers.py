"""Layers written in Keras's way, the same text on both: equal outputs from equal weights."""

import numpy as np
import pytest

from tests.helpers.both_libraries import assert_same_outputs, on_fnn, on_keras
from tests.helpers.oracle import keras_rules

X = np.random.default_rng(0).normal(size=(3, 4)).astype("float32")
STEPS = np.random.default_rng(1).normal(size=(2, 5, 4)).astype("float32")
IDS = np.array([[1, 2, 0, 0], [3, 0, 0, 0]])

LINEAR = """
class Linear(layers.Layer):
    def __init__(self, units=3, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def build(self, input_shape):
        self.w = self.add_weight(
            shape=(input_shape[-1], self.units), initializer="random_normal", trainable=True
        )
        self.b = self.add_weight(shape=(self.units,), initializer="ones", name="b")

    def call(self, inputs):
        return ops.matmul(inputs, self.w) + self.b
"""

PROGRAMS = {
    "build_and_call": (LINEAR + "layer = Linear(5)", (X,), {}),
    "no_weights": (
        """
        class Antirectifier(layers.Layer):
            def call(self, inputs):
                inputs = inputs - ops.mean(inputs, axis=-1, keepdims=True)
                return ops.concatenate([ops.relu(inputs), ops.relu(-inputs)], axis=-1)
        layer = Antirectifier()
        """,
        (X,),
        {},
    ),
    "weights_in_init": (
        """
        class Scale(layers.Layer):
            def __init__(self, size):
                super().__init__()
                self.scale = self.add_weight((size,), "random_uniform")
                self.shift = self.add_weight(shape=(), initializer="ones", dtype="float32")
            def call(self, inputs):
                return inputs * self.scale + self.shift
        layer = Scale(4)
        """,
        (X,),
        {},
    ),
    "weights_by_position_and_name": (
        """
        class Scale(layers.Layer):
            def build(self, input_shape):
                self.a = self.add_weight(
                    (input_shape[-1],), "uniform", "float32", name="a",
                    regularizer="l2", constraint="non_neg",
                )
                self.built = True
            def call(self, inputs):
                return inputs * self.a
        layer = Scale()
        """,
        (X,),
        {},
    ),
    "a_keras_variable": (
        """
        class Scale(layers.Layer):
            def __init__(self):
                super().__init__()
                self.v = keras.Variable([1.0, 2.0, 3.0, 4.0], name="v")
            def call(self, inputs):
                return inputs * self.v.value - self.v[0] + ops.sum(self.v)
        layer = Scale()
        """,
        (X,),
        {},
    ),
    "layers_made_in_build": (
        """
        class Block(layers.Layer):
            def build(self, input_shape):
                self.inner = layers.Dense(input_shape[-1], activation="tanh")
                self.inner.build(input_shape)
                super().build(input_shape)
            def call(self, inputs):
                return inputs + self.inner(inputs)
        layer = Block()
        """,
        (X,),
        {},
    ),
    "layers_in_lists_and_dicts": (
        """
        class Stack(layers.Layer):
            def __init__(self, depth=3):
                super().__init__()
                self.blocks = [layers.Dense(4, activation="relu") for _ in range(depth)]
                self.heads = {"left": layers.Dense(2), "right": layers.Dense(3)}
            def call(self, x):
                for block in self.blocks:
                    x = block(x)
                return {name: head(x) for name, head in self.heads.items()}
        layer = Stack()
        """,
        (X,),
        {},
    ),
    "a_layer_called_twice": (
        """
        class Twice(layers.Layer):
            def __init__(self):
                super().__init__()
                self.inner = layers.Dense(4, activation="tanh")
            def call(self, x):
                return self.inner(self.inner(x))
        layer = Twice()
        """,
        (X,),
        {},
    ),
    "inside_each_other": (
        LINEAR
        + """
class Outer(layers.Layer):
    def __init__(self):
        super().__init__()
        self.first = Linear(6)
        self.second = Linear(2)
    def call(self, x):
        return self.second(ops.relu(self.first(x))) + ops.sum(self.first.b)
layer = Outer()
""",
        (X,),
        {},
    ),
    "several_inputs": (
        """
        class Mix(layers.Layer):
            def __init__(self):
                super().__init__()
                self.q = layers.Dense(4)
                self.v = layers.Dense(4)
            def call(self, query, value, scale=1.0, add=None, mode="sum"):
                y = self.q(query) * scale + self.v(value)
                if add is not None:
                    y = y + add
                return y if mode == "sum" else -y
        layer = Mix()
        """,
        (X, X + 1),
        {"scale": 2.0, "add": X * 3, "mode": "minus"},
    ),
    "a_list_of_inputs": (
        """
        class Both(layers.Layer):
            def build(self, input_shape):
                first, second = input_shape
                self.w = self.add_weight(shape=(first[-1], second[-1]))
            def call(self, inputs):
                a, b = inputs
                return ops.matmul(a, self.w) * b
        layer = Both()
        """,
        ([X, X + 1],),
        {},
    ),
    "a_dict_of_inputs": (
        """
        class Both(layers.Layer):
            def build(self, input_shape):
                self.w = self.add_weight(shape=(input_shape["a"][-1], 2))
            def call(self, inputs):
                return {"y": ops.matmul(inputs["a"], self.w), "z": inputs["b"] * 2}
        layer = Both()
        """,
        ({"a": X, "b": X + 1},),
        {},
    ),
    "shapes_by_name": (
        """
        class Both(layers.Layer):
            def build(self, query_shape, value_shape):
                self.w = self.add_weight(shape=(query_shape[-1], value_shape[-1]))
            def call(self, query, value):
                return ops.matmul(query, self.w) * value
        layer = Both()
        """,
        (X, X),
        {},
    ),
    "training_argument": (
        """
        class Noisy(layers.Layer):
            def __init__(self):
                super().__init__()
                self.drop = layers.Dropout(0.5)
            def call(self, x, training=None):
                if training:
                    return x * 0 + 7
                return self.drop(x, training=training)
        layer = Noisy()
        """,
        (X,),
        {"training": True},
    ),
    "training_reaches_layers_inside": (
        """
        class Inner(layers.Layer):
            def call(self, x, training=False):
                return x * (3.0 if training else 1.0)
        class Outer(layers.Layer):
            def __init__(self):
                super().__init__()
                self.inner = Inner()
            def call(self, x):
                return self.inner(x) + self.inner(x, training=False)
        layer = Outer()
        """,
        (X,),
        {"training": True},
    ),
    "batch_normalization_inside": (
        """
        class Normed(layers.Layer):
            def __init__(self):
                super().__init__()
                self.norm = layers.BatchNormalization()
            def call(self, x, training=None):
                return self.norm(x, training=training)
        layer = Normed()
        """,
        (X,),
        {"training": True},
    ),
    "a_subclass_of_dense": (
        """
        class Scaled(layers.Dense):
            def __init__(self, units, scale=2.0, **kwargs):
                super().__init__(units, **kwargs)
                self.scale = scale
            def call(self, inputs):
                return super().call(inputs * 2) * self.scale + ops.sum(self.kernel)
        layer = Scaled(3, scale=0.5, activation="tanh")
        """,
        (X,),
        {},
    ),
    "a_subclass_of_dense_with_a_build": (
        """
        class Masked(layers.Dense):
            def build(self, input_shape):
                super().build(input_shape)
                self.gate = self.add_weight(shape=(self.units,), initializer="ones", name="gate")
            def call(self, inputs):
                return ops.matmul(inputs, self.kernel) * self.gate + self.bias
        layer = Masked(3)
        """,
        (X,),
        {},
    ),
    "tied_weights": (
        """
        class Tied(layers.Layer):
            def __init__(self):
                super().__init__()
                self.embed = layers.Embedding(10, 4)
                self.dense = layers.Dense(4)
            def call(self, x):
                return ops.matmul(self.dense(self.embed(x)), ops.transpose(self.embed.embeddings))
        layer = Tied()
        """,
        (IDS,),
        {},
    ),
    "masks_from_an_embedding": (
        """
        class Encoder(layers.Layer):
            def __init__(self):
                super().__init__()
                self.embed = layers.Embedding(10, 4, mask_zero=True)
                self.rnn = layers.LSTM(3)
            def call(self, x):
                return self.rnn(self.embed(x))
        layer = Encoder()
        """,
        (IDS,),
        {},
    ),
    "masks_by_compute_mask": (
        """
        class Tokens(layers.Layer):
            def __init__(self):
                super().__init__()
                self.embed = layers.Embedding(10, 4)
            def call(self, x):
                return self.embed(x)
            def compute_mask(self, x, mask=None):
                return ops.not_equal(x, 0)
        class Encoder(layers.Layer):
            def __init__(self):
                super().__init__()
                self.tokens = Tokens()
                self.rnn = layers.GRU(3)
            def call(self, x):
                return self.rnn(self.tokens(x))
        layer = Encoder()
        """,
        (IDS,),
        {},
    ),
    "a_layer_that_uses_the_mask": (
        """
        class Mean(layers.Layer):
            def __init__(self):
                super().__init__()
                self.supports_masking = True
            def call(self, x, mask=None):
                if mask is None:
                    return ops.mean(x, axis=1)
                weight = ops.expand_dims(ops.cast(mask, x.dtype), -1)
                return ops.sum(x * weight, axis=1) / ops.sum(weight, axis=1)
        class Encoder(layers.Layer):
            def __init__(self):
                super().__init__()
                self.embed = layers.Embedding(10, 4, mask_zero=True)
                self.mean = Mean()
            def call(self, x):
                return self.mean(self.embed(x))
        layer = Encoder()
        """,
        (IDS,),
        {},
    ),
    "a_cell_of_rnn": (
        """
        class Minimal(layers.Layer):
            def __init__(self, units, **kwargs):
                super().__init__(**kwargs)
                self.units = units
                self.state_size = units
            def build(self, input_shape):
                self.kernel = self.add_weight(shape=(input_shape[-1], self.units), name="kernel")
                self.recurrent = self.add_weight(shape=(self.units, self.units), name="recurrent")
            def call(self, inputs, states):
                h = ops.matmul(inputs, self.kernel) + ops.matmul(states[0], self.recurrent)
                return h, [h]
        layer = layers.RNN(Minimal(3), return_sequences=True)
        """,
        (STEPS,),
        {},
    ),
    "a_wrapper": (
        """
        class Doubled(layers.Wrapper):
            def call(self, inputs):
                return self.layer(inputs) * 2
        layer = Doubled(layers.Dense(3))
        """,
        (X,),
        {},
    ),
    "over_time": (LINEAR + "layer = layers.TimeDistributed(Linear(3))", (STEPS,), {}),
    "attention_with_scores": (
        """
        class Attend(layers.Layer):
            def __init__(self):
                super().__init__()
                self.attend = layers.MultiHeadAttention(num_heads=2, key_dim=3)
                self.norm = layers.LayerNormalization()
            def call(self, x):
                y, scores = self.attend(x, x, return_attention_scores=True, use_causal_mask=True)
                return self.norm(x + y), scores
        layer = Attend()
        """,
        (STEPS,),
        {},
    ),
    "a_weight_made_at_first_use": (
        """
        class Lazy(layers.Layer):
            def __init__(self):
                super().__init__()
                self.w = None
            def build(self, input_shape):
                if self.w is None:
                    self.w = self.add_weight(shape=(input_shape[-1], 2))
            def call(self, x):
                return ops.matmul(x, self.w)
        layer = Lazy()
        """,
        (X,),
        {},
    ),
    "helper_methods_and_properties": (
        """
        class Helped(layers.Layer):
            def __init__(self):
                super().__init__()
                self.dense = layers.Dense(4)
            @property
            def factor(self):
                return 3.0
            def half(self, x):
                return self.dense(x) / 2
            def call(self, x):
                self.last = self.half(x)
                return self.last * self.factor
        layer = Helped()
        """,
        (X,),
        {},
    ),
}


QUICK = ("weights_in_init", "no_weights", "layers_made_in_build", "a_subclass_of_dense")
QUICK += ("a_keras_variable", "training_argument", "a_layer_called_twice", "a_dict_of_inputs")


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name not in QUICK)) for name in PROGRAMS],
)
def test_equal_outputs(name):
    source, given, named = PROGRAMS[name]
    ours, theirs = assert_same_outputs(source, *given, **named)
    with keras_rules():
        shapes = [w.shape for w in theirs.get_weights()]
    assert [w.shape for w in ours.get_weights()] == shapes


STATEFUL = """
class Sum(layers.Layer):
    def __init__(self, size):
        super().__init__()
        self.total = self.add_weight(shape=(size,), initializer="zeros", trainable=False)
        self.count = keras.Variable(0, trainable=False, name="count")
    def call(self, inputs):
        self.total.assign_add(ops.sum(inputs, axis=0))
        self.count.assign(self.count + 1)
        return self.total * 1
layer = Sum(4)
"""


def test_state_is_assigned_in_call():
    ours, theirs = on_fnn(STATEFUL).layer, on_keras(STATEFUL).layer
    with keras_rules():
        wanted = [np.asarray(theirs(X)) for _ in range(3)]
    found = [np.asarray(ours(X)) for _ in range(3)]
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    assert int(ours.count) == 3
    np.testing.assert_allclose(ours.total, wanted[-1], rtol=1e-5)


def test_losses_of_layers_and_regularizers_train_alike():
    source = """
    class Endpoint(layers.Layer):
        def call(self, y, target):
            self.add_loss(ops.mean(ops.square(y - target)))
            return y
    class Scale(layers.Layer):
        def build(self, input_shape):
            self.w = self.add_weight(shape=(input_shape[-1], 3), initializer="ones",
                                     regularizer=keras.regularizers.L2(0.1), name="w")
        def call(self, x):
            self.add_loss(0.01 * ops.sum(self.w))
            return ops.matmul(x, self.w)
    x = keras.Input((4,))
    target = keras.Input((3,))
    y = Scale(activity_regularizer=keras.regularizers.L1(0.01))(x)
    y = Endpoint()(y, target)
    layer = keras.Model([x, target], y)
    layer.compile(keras.optimizers.SGD(0.1))
    X = np.linspace(-1, 1, 32).reshape(8, 4).astype("float32")
    T = np.ones((8, 3), "float32")
    losses = layer.fit([X, T], epochs=3, batch_size=4, shuffle=False, verbose=0).history["loss"]
    """
    found = on_fnn(source).losses
    np.testing.assert_allclose(found, on_keras(source).losses, rtol=1e-5)


@pytest.mark.slow
def test_in_graphs_with_static_arguments():
    source = (
        PROGRAMS["several_inputs"][0]
        + """
        q, v = keras.Input((4,)), keras.Input((4,))
        y = layer(q, v, scale=3.0, mode="minus")
        model = keras.Model([q, v], [y, layer(v, value=q)])
        """
    )
    ours, theirs = on_fnn(source).model, on_keras(source).model
    with keras_rules():
        ours.set_weights(theirs.get_weights())
        wanted = theirs.predict([X, X + 1], verbose=0)
    found = ours.predict([X, X + 1], verbose=0)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


SAMPLING = """
class Sampling(layers.Layer):
    def __init__(self):
        super().__init__()
        self.seed_generator = keras.random.SeedGenerator(3)
    def call(self, inputs):
        mean, scale = inputs
        return mean + scale * keras.random.normal(ops.shape(mean), seed=self.seed_generator)
a, b = keras.Input((4,)), keras.Input((4,))
model = keras.Model([a, b], Sampling()([a, b]))
dropped = keras.Model(a, layers.Dropout(0.5)(a, training=True))
"""


@pytest.mark.slow
def test_random_numbers_in_inference_move_on():
    program = on_fnn(SAMPLING)
    ones = np.ones((2000, 4), "float32")
    first, second = (program.model.predict([ones * 5, ones * 2], verbose=0) for _ in range(2))
    assert (first != second).mean() > 0.99
    np.testing.assert_allclose([first.mean(), first.std()], [5, 2], atol=0.1)
    assert len(np.unique(first)) > 7000  # not those of the batch before
    first, second = (program.dropped.predict(ones, verbose=0) for _ in range(2))
    assert (first != second).any()
    assert set(np.unique(first)) == {0.0, 2.0}
    np.testing.assert_allclose(first.mean(), 1, atol=0.05)
    first, second = (np.asarray(program.dropped(ones)) for _ in range(2))
    assert (first != second).any()


@pytest.mark.slow
def test_random_numbers_follow_the_seed():
    def drawn():
        on_fnn("keras.set_seed(4)")
        model = on_fnn(SAMPLING).dropped
        return model.predict(np.ones((4, 4)), verbose=0)

    np.testing.assert_array_equal(drawn(), drawn())
