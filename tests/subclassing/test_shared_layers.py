"""One layer object at several places, inside other layers and beside them: one set of weights."""

import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn.core import tree
from fnn.core.context import Context
from fnn.testing import check_layer
from tests.helpers.both_libraries import assert_equal, on_fnn, on_keras
from tests.helpers.oracle import keras_rules

COMMON = """
@keras.saving.register_keras_serializable("shared_layers")
class Block(layers.Layer):
    def __init__(self, inner, **kwargs):
        super().__init__(**kwargs)
        self.inner = inner
    def call(self, x, training=None):
        return self.inner(x, training=training)
    def get_config(self):
        inner = keras.saving.serialize_keras_object(self.inner)
        return {**super().get_config(), "inner": inner}
    @classmethod
    def from_config(cls, config):
        inner = keras.saving.deserialize_keras_object(config.pop("inner"))
        return cls(inner, **config)

X = np.random.default_rng(0).normal(size=(24, 4)).astype("float32")
Y = X.sum(axis=1, keepdims=True)

def filled(model):
    drawn = [
        np.random.default_rng(i).uniform(0.1, 0.5, size=w.shape)
        for i, w in enumerate(model.get_weights())
    ]
    model.set_weights(drawn)
    return [np.asarray(model(X)), len(drawn), len(model.trainable_weights), model.count_params()]

def trained(model):
    model.compile(keras.optimizers.SGD(0.01), "mse")
    model.fit(X, Y, batch_size=8, shuffle=False, verbose=0)  # three steps
    return model.get_weights()
"""

# Each ends with `result`, equal on both.
PROGRAMS = {
    "in two blocks of a row": """
        dense = layers.Dense(4)
        model = keras.Sequential([keras.Input((4,)), Block(dense), Block(dense), layers.Dense(1)])
        result = filled(model) + trained(model)
        result += [len(layer.weights) for layer in model.layers]
        result += [layer.count_params() for layer in model.layers]
        result += [model.layers[1](X), *dense.get_weights()]
    """,
    "in a graph, and in blocks of it": """
        dense = layers.Dense(4)
        x = keras.Input((4,))
        both = layers.Concatenate()([dense(x), Block(dense)(x)])
        y = Block(dense)(dense(x)) + layers.Dense(4)(both)
        model = keras.Model(x, layers.Dense(1)(y))
        result = filled(model) + trained(model)
    """,
    "held by two layers of a class": """
        class Two(layers.Layer):
            def __init__(self):
                super().__init__()
                inner = layers.Dense(4)
                self.first, self.second = Block(inner), Block(inner)
            def call(self, x):
                return self.second(self.first(x)) * len(self.weights)
        model = keras.Sequential([keras.Input((4,)), Two(), layers.Dense(1)])
        result = filled(model) + trained(model)
    """,
    "held by a model and by layers in its list": """
        class Net(keras.Model):
            def __init__(self):
                super().__init__()
                self.inner = layers.Dense(4)
                self.blocks = [Block(self.inner), Block(self.inner)]
                self.head = layers.Dense(1)
            def call(self, x):
                x = self.inner(x)
                for block in self.blocks:
                    x = block(x)
                return self.head(x)
        model = Net()
        model(X)
        result = filled(model) + trained(model)
    """,
    "held by a model that does not call it itself": """
        class Net(keras.Model):
            def __init__(self):
                super().__init__()
                self.inner = layers.BatchNormalization()
                self.blocks = [Block(self.inner), Block(self.inner), Block(self.inner)]
                self.head = layers.Dense(1)
            def call(self, x, training=None):
                x = self.blocks[1](x, training=training)
                return self.head(self.blocks[2](x, training=training))
        model = Net()
        model(X)
        result = filled(model) + trained(model) + [len(model.inner.weights)]
    """,
    "running averages go from place to place": """
        norm = layers.BatchNormalization(momentum=0.5)
        rows = [Block(norm), layers.Dense(4), Block(norm), layers.Dense(4), Block(norm)]
        model = keras.Sequential([keras.Input((4,)), *rows, layers.Dense(1)])
        result = filled(model) + trained(model)
    """,
    "a model in a block and beside it": """
        dense = layers.Dense(4)
        inner = keras.Sequential([keras.Input((4,)), layers.Dense(4), dense])
        model = keras.Sequential(
            [keras.Input((4,)), Block(dense), inner, Block(inner), layers.Dense(1)]
        )
        result = filled(model) + trained(model)
        result += [*inner.get_weights(), *dense.get_weights(), inner(X)]
        inner.set_weights([w * 0.5 for w in inner.get_weights()])
        result += model.get_weights()
    """,
    "a part of a model as another one": """
        dense = layers.Dense(4)
        whole = keras.Sequential(
            [keras.Input((4,)), Block(dense), layers.Dense(4), Block(dense), layers.Dense(1)]
        )
        result = filled(whole)
        part = keras.Sequential([keras.Input((4,)), *whole.layers[1:]])
        result += trained(part) + whole.get_weights()
    """,
    "frozen": """
        dense = layers.Dense(4)
        model = keras.Sequential([keras.Input((4,)), Block(dense), Block(dense), layers.Dense(1)])
        model.layers[0].trainable = False
        result = filled(model) + trained(model)
    """,
    "regularized once": """
        dense = layers.Dense(4, kernel_regularizer="l2")
        model = keras.Sequential([keras.Input((4,)), Block(dense), Block(dense), layers.Dense(1)])
        result = filled(model) + trained(model)
        result.append(model.evaluate(X, Y, verbose=0, batch_size=24))
    """,
    "cloned": """
        dense = layers.Dense(4)
        x = keras.Input((4,))
        model = keras.Sequential([keras.Input((4,)), Block(dense), Block(dense)])
        result = [len(keras.models.clone_model(model).weights)]
        graph = keras.Model(x, Block(dense)(Block(dense)(dense(x))))
        result += [len(graph.weights), len(keras.models.clone_model(graph).weights)]
    """,
}


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in PROGRAMS if name != "cloned"]


@pytest.mark.parametrize("name", ["cloned", *SLOW])
def test_programs_end_as_on_keras(name):
    source = COMMON + textwrap.dedent(PROGRAMS[name])
    with keras_rules():
        wanted = on_keras(source).result
        assert_equal(on_fnn(source).result, wanted, rtol=1e-4, atol=1e-5)


def test_a_summary_counts_them_once():
    source = COMMON + textwrap.dedent("""
        dense = layers.Dense(4)
        model = keras.Sequential([keras.Input((4,)), Block(dense), Block(dense), layers.Dense(1)])
        lines = []
        model.summary(print_fn=lines.append)
    """)
    shown = "\n".join(on_fnn(source).lines)
    assert shown.count("20 ") == 2  # each block
    assert "Total params: 25" in shown
    assert "Total params: 25" in "\n".join(on_keras(source).lines)


SAVED = """
dense = layers.Dense(4)
row = keras.Sequential([keras.Input((4,)), Block(dense), Block(dense), layers.Dense(1)])

@keras.saving.register_keras_serializable("shared_layers")
class Pair(keras.Model):
    def __init__(self, first, second, **kwargs):
        super().__init__(**kwargs)
        self.first, self.second = first, second
    def call(self, x):
        return self.second(self.first(x))
    def get_config(self):
        blocks = [keras.saving.serialize_keras_object(b) for b in (self.first, self.second)]
        return {**super().get_config(), "blocks": blocks}
    @classmethod
    def from_config(cls, config):
        blocks = map(keras.saving.deserialize_keras_object, config.pop("blocks"))
        return cls(*blocks, **config)

pair = Pair(Block(dense), Block(dense))
pair(X)
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["row", "pair"])
def test_a_saved_model_has_one_set_of_weights_again(name, tmp_path):
    # Keras does not load these files: it finds no weights for the second place.
    program = on_fnn(COMMON + SAVED)
    model = vars(program)[name]
    model.save(tmp_path / "model.fnn")
    again = fnn.load(tmp_path / "model.fnn")
    assert len(again.weights) == len(model.weights)
    np.testing.assert_array_equal(again.predict(program.X), model.predict(program.X))
    model.save_weights(tmp_path / "model.weights.h5")
    again.load_weights(tmp_path / "model.weights.h5")
    if name == "row":
        again.pop()
        assert len(again.weights) == 2


PURE = """
@keras.saving.register_keras_serializable("pure_shared")
class Block(layers.Layer):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner
    def call(self, x):
        return self.inner(x)
@keras.saving.register_keras_serializable("pure_shared")
class Two(layers.Layer):
    def __init__(self, first, second):
        super().__init__()
        self.blocks = [Block(first), Block(second)]
    def call(self, x):
        return self.blocks[1](ops.tanh(self.blocks[0](x)))
shared = layers.Dense(3)
one, other = Two(shared, shared), Two(layers.Dense(3), layers.Dense(3))
"""


@pytest.mark.slow
def test_a_class_with_one_layer_at_two_places_is_a_pure_pair():
    program = on_fnn(PURE)
    init, apply = program.one
    x = jax.random.normal(jax.random.key(0), (5, 3))
    params, state = init(jax.random.key(1), x)
    inner = tree.get(params, ("blocks_0", "inner"))
    kernel, bias = inner["kernel"], inner["bias"]
    assert len(jax.tree.leaves(params)) == 2

    def wanted(kernel, bias):
        return jnp.tanh(x @ kernel + bias[None]) @ kernel + bias[None]

    found = jax.jit(apply)(params, state, x)[0]
    np.testing.assert_allclose(found, wanted(kernel, bias), rtol=1e-5)
    slopes = jax.grad(lambda params: apply(params, state, x)[0].sum())(params)
    by_hand = jax.grad(lambda *both: wanted(*both).sum(), (0, 1))(kernel, bias)
    np.testing.assert_allclose(slopes["blocks_0"]["inner"]["kernel"], by_hand[0], rtol=1e-4)
    np.testing.assert_allclose(slopes["blocks_0"]["inner"]["bias"], by_hand[1], rtol=1e-4)
    check_layer(program.one, x)


def test_which_layers_are_one_belongs_to_the_value():
    program, again = on_fnn(PURE), on_fnn(PURE)
    assert program.one != program.other
    assert hash(program.one) != hash(program.other)
    assert again.Two(*[fnn.layers.Dense(3)] * 2) == again.one
    x = jnp.ones((2, 3))
    counts = [
        len(jax.tree.leaves(fnn.core.calling.weight_spec(layer, x)[0]))
        for layer in (program.one, program.other, program.one)
    ]
    assert counts == [2, 4, 2]
    program.one.blocks[1].inner = fnn.layers.Dense(3)
    assert len(jax.tree.leaves(program.one.init(jax.random.key(0), x)[0])) == 4


def test_pure_layers_in_a_row_are_values_also_inside_a_model():
    dense = fnn.layers.Dense(3)
    pure = fnn.layers.Sequential([fnn.layers.Residual(dense), fnn.layers.Residual(dense)])
    model = fnn.Sequential([fnn.Input((3,)), pure])
    assert len(model.weights) == 4


@pytest.mark.slow
def test_ties_of_a_pure_row_pass_state_and_losses_on():
    norm, dense = fnn.layers.BatchNormalization(momentum=0.5), fnn.layers.Dense(3)
    names = ("batch_normalization", "batch_normalization_1", "batch_normalization_2")
    places = [(name,) for name in names]
    row = fnn.layers.Sequential(
        [norm, dense, norm, norm],
        ties=((places[1], places[0]), (places[2], places[1])),
    )
    x = jax.random.normal(jax.random.key(0), (8, 3))
    params, state = row.init(jax.random.key(1), x)
    y, after = row.apply(params, state, x, Context(train=True))
    own = params["batch_normalization"], state["batch_normalization"]
    for layer in row.layers:
        if layer is dense:
            x = layer.apply(params["dense"], {}, x)[0]
        else:
            x, moved = layer.apply(own[0], own[1], x, Context(train=True))
            own = own[0], moved
    np.testing.assert_allclose(y, x, rtol=1e-5)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert_equal(after["batch_normalization"], own[1])
