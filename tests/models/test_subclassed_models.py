"""Models in Keras's way, written as classes with `call`, beside Keras live."""

import copy

import jax
import numpy as np
import pytest

import fnn
from fnn.training.objective import resolve_objective
from tests.helpers.both_libraries import (
    CLOSE,
    assert_equal,
    assert_same_predictions,
    assert_same_training,
    both_models,
    carried,
    first,
    normal,
    on_fnn,
    on_keras,
)
from tests.helpers.oracle import keras_rules


@pytest.fixture(autouse=True)
def rules_of_users():
    """Programs in Keras's way add arrays of different ranks."""
    with jax.numpy_rank_promotion("allow"):
        yield


X, Y = normal(10, 4), normal(10, 4, seed=1)  # batches of 4: the last one is not full

PLAIN = """
    class M(keras.Model):
        def __init__(self, units, **named):
            super().__init__(**named)
            self.blocks = []
            for _ in range(2):
                self.blocks.append(layers.Dense(units, activation="relu"))
            self.norm = layers.BatchNormalization()
            self.drop = layers.Dropout(0.5)
            self.out = layers.Dense(4)
        def call(self, x, training=None):
            for block in self.blocks:
                x = block(x)
            x = self.norm(x, training=training)
            return self.out(self.drop(x, training=False))
    model = M(8, name="net")
"""
BUILT = """
    class M(keras.Model):
        def __init__(self, units):
            super().__init__()
            self.units = units
        def build(self, input_shape):
            super().build(input_shape)
            self.scale = self.add_weight(shape=(input_shape[-1],), initializer="ones")
            self.dense = layers.Dense(self.units)
            self.dense.build(input_shape)
            self.out = layers.Dense(4)
            self.built = True
        def call(self, x):
            return self.out(self.dense(x * self.scale))
    model = M(8)
"""
NESTED = """
    class Encoder(keras.Model):
        def __init__(self, units):
            super().__init__(name="encoder")
            self.units = units
            self.first = layers.Dense(units, activation="tanh")
        def build(self, input_shape):
            self.second = layers.Dense(self.units)
        def call(self, x):
            return self.second(self.first(x))
    class M(keras.Model):
        def __init__(self):
            super().__init__()
            self.encoder = Encoder(5)
            x = keras.Input((5,))
            self.decoder = keras.Model(x, layers.Dense(4)(x))
            self.more = keras.Sequential([layers.Dense(6), layers.ReLU(), layers.Dense(4)])
        def call(self, x):
            hidden = self.encoder(x)
            return self.decoder(hidden) + self.more(hidden) / self.encoder.units
    model = M()
"""
HELPERS = """
    class M(keras.Model):
        def __init__(self):
            super().__init__()
            self.first = layers.Dense(4)
            self.same = self.first
            self.drop = layers.Dropout(0.0)
        def twice(self, x):
            return self.first(self.same(x))
        @property
        def factor(self):
            return 0.5
        def call(self, x, training=False):
            if training:
                x = self.drop(x, training=training)
            return self.twice(x) * self.factor
    model = M()
"""
FUNCTIONAL = """
    class M(keras.Model):
        def __init__(self, units, **named):
            x = keras.Input((4,))
            y = layers.Dense(units, activation="relu")(x)
            super().__init__(inputs=x, outputs=layers.Dense(4)(y), **named)
            self.factor = 2.0
        def call(self, x, training=None):
            return super().call(x, training=training) * self.factor
    model = M(8)
"""
FUNCTIONAL_ALONE = """
    class M(keras.Model):
        def __init__(self, units):
            x = keras.Input((4,))
            super().__init__(x, layers.Dense(4)(layers.Dense(units)(x)))
            self.note = units
    model = M(8)
"""
SEQUENTIAL = """
    class S(keras.Sequential):
        def __init__(self, units):
            super().__init__()
            self.add(layers.Dense(units))
            self.add(layers.Dense(4))
        def call(self, x, training=None):
            return super().call(x) + 1.0
    model = S(8)
"""
SEQUENTIAL_ALONE = """
    class S(keras.Sequential):
        def __init__(self, units):
            super().__init__([layers.Dense(units), layers.Dense(4)], name="row")
    model = S(8)
"""
LOSSES = """
    class Penalty(layers.Layer):
        def call(self, x):
            self.add_loss(0.1 * ops.mean(ops.square(x)))
            return x
    class M(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(4, kernel_regularizer="l2")
            self.penalty = Penalty()
        def call(self, x):
            y = self.penalty(self.dense(x))
            self.add_loss(0.2 * ops.mean(ops.abs(y)))
            return y
    model = M()
"""
BLOCKS = """
    class Block(layers.Layer):
        def __init__(self, units):
            super().__init__()
            self.dense = layers.Dense(units)
            self.branch = keras.Sequential([layers.Dense(3), layers.Dense(units)])
        def call(self, x):
            return self.dense(x) + self.branch(x)
    class M(keras.Model):
        def __init__(self):
            super().__init__()
            self.blocks = [Block(4) for _ in range(2)]
        def call(self, x):
            for block in self.blocks:
                x = block(x)
            return x / 4
    model = M()
"""


SOURCES = {
    "plain": PLAIN,
    "build": BUILT,
    "nested": NESTED,
    "helpers": HELPERS,
    "functional": FUNCTIONAL,
    "functional_alone": FUNCTIONAL_ALONE,
    "sequential": SEQUENTIAL,
    "sequential_alone": SEQUENTIAL_ALONE,
    "losses": LOSSES,
    "blocks": BLOCKS,
}
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in SOURCES if name != "helpers"]


@pytest.mark.parametrize("name", ["helpers", *SLOW])
def test_training_and_inference_are_those_of_keras(name):
    source = SOURCES[name]
    mine, theirs = both_models(source, X)
    assert mine.count_params() == theirs.count_params()
    count = len(X) if source in (PLAIN, LOSSES) else 8  # with a last batch, or without
    assert_same_training(mine, theirs, X[:count], Y[:count])


SEVERAL = """
    class M(keras.Model):
        def __init__(self):
            super().__init__()
            self.parts = {"a": layers.Dense(4), "b": layers.Dense(4)}
        def call(self, inputs):
            a, b = %s
            return self.parts["a"](a) + self.parts["b"](b)
    model = M()
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "x"),
    [
        (SEVERAL % "inputs", [X, normal(10, 3)]),
        (SEVERAL % "inputs['x'], inputs['y']", {"x": X, "y": normal(10, 3)}),
    ],
    ids=["list", "dict"],
)
def test_several_inputs(source, x):
    mine, theirs = both_models(source, x)
    assert_same_training(mine, theirs, first(x, 8), Y[:8], epochs=1)


@pytest.mark.slow
def test_masks_go_from_layer_to_layer():
    source = """
        class M(keras.Model):
            def __init__(self):
                super().__init__()
                self.embedding = layers.Embedding(7, 4, mask_zero=True)
                self.mean = layers.GlobalAveragePooling1D()
            def call(self, ids, mask=None):
                x = self.embedding(ids)
                return self.mean(x) + (0.0 if mask is None else 1.0)
        model = M()
    """
    ids = np.random.default_rng(0).integers(0, 7, (8, 6))
    mine, theirs = both_models(source, ids)
    assert_same_training(mine, theirs, ids, Y[:8], epochs=1)


@pytest.mark.slow
def test_outputs_in_a_tuple_and_a_dict():
    source = """
        class M(keras.Model):
            def __init__(self):
                super().__init__()
                self.a, self.b = layers.Dense(4), layers.Dense(2)
            def call(self, x):
                return {"a": self.a(x), "b": self.b(x)}
        class T(M):
            def call(self, x):
                return self.a(x), self.b(x)
        model, pair = M(), T()
    """
    y = {"a": Y, "b": normal(10, 2)}
    mine, theirs = both_models(source, X)
    compiles = {"loss": "mse", "metrics": {"a": ["mae"]}}
    assert_same_training(mine, theirs, X[:8], first(y, 8), compiles=compiles)
    mine, theirs = both_models(source, X, "pair")
    assert_same_predictions(mine, theirs, X[:8])


@pytest.mark.slow
def test_call_with_several_arguments():
    source = """
        class M(keras.Model):
            def __init__(self):
                super().__init__()
                self.query, self.key = layers.Dense(4), layers.Dense(4)
            def call(self, x, memory, scale=1.0, training=None):
                y = self.query(x) + self.key(memory) * scale
                return -y if training else y
        model = M()
    """
    mine, theirs = on_fnn(source).model, on_keras(source).model
    memory = normal(10, 3)
    with keras_rules():
        theirs(X, memory)
    mine(X, memory)
    carried(theirs, mine)
    for named in ({}, {"scale": 3.0}, {"training": True}, {"training": False, "scale": 2.0}):
        with keras_rules():
            wanted = theirs(X, memory=memory, **named)
        assert_equal(mine(X, memory=memory, **named), wanted, **CLOSE)


# -- the weights ---------------------------------------------------------------------------------


def test_weights_can_be_made_before_data():
    model = on_fnn(BUILT).model
    assert not model.built
    with pytest.raises(ValueError, match=r"has no weights yet"):
        model.params  # noqa: B018
    assert model.get_weights() == []
    model.build((None, 4))
    assert [w.shape for w in model.weights] == [(4,), (4, 8), (8,), (8, 4), (4,)]
    assert model.dense.get_weights()[0].shape == (4, 8)
    before = model.get_weights()
    model(X)
    assert_equal(model.get_weights(), before)


@pytest.mark.slow
def test_models_inside_share_their_weights():
    model = on_fnn(NESTED).model
    model.compile("sgd", "mse")
    model.fit(X, Y, verbose=0)
    for part, place in ((model.encoder, "encoder"), (model.decoder, "decoder")):
        inner = model.params[place]
        assert_equal(jax.tree.leaves(part.params), jax.tree.leaves(inner))
    hidden = model.encoder.predict(X, verbose=0)
    assert_equal(
        model.predict(X, verbose=0),
        model.decoder.predict(hidden, verbose=0) + model.more.predict(hidden, verbose=0) / 5,
        **CLOSE,
    )
    model.encoder.set_weights([np.zeros_like(a) for a in model.encoder.get_weights()])
    assert not model.params["encoder"]["first"]["kernel"].any()


@pytest.mark.slow
def test_a_frozen_model_inside_does_not_learn():
    model = on_fnn(NESTED).model
    model(X)
    model.encoder.trainable = False
    model.compile("sgd", "mse")
    before = model.get_weights()
    model.fit(X, Y, verbose=0)
    moved = [bool((a != b).any()) for a, b in zip(before, model.get_weights(), strict=True)]
    assert moved == [False] * 4 + [True] * 6
    assert len(model.trainable_weights) == 6


@pytest.mark.slow
def test_weights_go_to_a_file_and_back(tmp_path):
    model, other = on_fnn(NESTED).model, on_fnn(NESTED).model
    model(X)
    model.save_weights(tmp_path / "weights")
    other.build((None, 4))
    other.load_weights(tmp_path / "weights")
    assert_equal(other.predict(X, verbose=0), model.predict(X, verbose=0))


@pytest.mark.slow
def test_a_copy_trains_alone():
    model = on_fnn(NESTED).model
    model.compile("sgd", "mse")
    model.fit(X, Y, verbose=0)
    before = model.predict(X, verbose=0)
    other = copy.deepcopy(model)
    assert_equal(other.predict(X, verbose=0), before)
    other.fit(X, Y, verbose=0)
    assert_equal(model.predict(X, verbose=0), before)
    assert np.abs(other.predict(X, verbose=0) - before).max() > 1e-3


@pytest.mark.slow
def test_attributes_may_change():
    source = """
        class M(keras.Model):
            def __init__(self):
                super().__init__()
                self.body, self.head, self.scale = layers.Dense(4), layers.Dense(3), 1.0
            def call(self, x):
                return self.head(self.body(x)) * self.scale
        model = M()
    """
    model = on_fnn(source).model
    first = model(X)
    model.scale = 2.0
    assert_equal(model(X), 2 * first, **CLOSE)
    body = model.body.get_weights()
    model.head = fnn.layers.Dense(2)
    assert model(X).shape == (10, 2)
    assert_equal(model.body.get_weights(), body)
    assert [w.shape for w in model.weights] == [(4, 4), (4,), (4, 2), (2,)]


# -- the network as a value ----------------------------------------------------------------------


@pytest.mark.slow
def test_equal_models_share_one_network_value():
    cls = on_fnn(PLAIN).M
    first, second, other = cls(8), cls(8), cls(9)
    for model in (first, second, other):
        model(X)
    assert first.layer == second.layer != other.layer
    assert hash(first.layer) == hash(second.layer)


@pytest.mark.slow
def test_the_network_is_a_pure_pair():
    model = on_fnn(PLAIN).model
    wanted = model(X)
    init, apply = model.layer
    params, _ = init(jax.random.key(1), X)
    assert jax.tree.structure(params) == jax.tree.structure(model.params)
    outputs, _ = jax.jit(lambda p, s, x: apply(p, s, x))(model.params, model.state, X)
    assert_equal(outputs, wanted, **CLOSE)


def _step_program(model, x, y):
    program = model._program
    objective = resolve_objective(
        program.arguments,
        ["output"],
        jax.tree.map(np.asarray, (y,)),
        [jax.ShapeDtypeStruct(y.shape, y.dtype)],
    )
    program.ensure_optimizer_state()
    batch = {"x": x, "y": (y,), "weight": ()}, np.ones(len(x), bool)
    step = program.train_step(objective)
    return str(jax.make_jaxpr(step)(model.train_state, batch, jax.random.key(0)))


@pytest.mark.slow
def test_the_step_is_that_of_the_same_network_from_layers():
    source = """
        class M(keras.Model):
            def __init__(self):
                super().__init__()
                self.a = layers.Dense(8, activation="relu", name="a")
                self.b = layers.BatchNormalization(name="b")
                self.c = layers.Dropout(0.5, name="c")
                self.d = layers.Dense(4, name="d")
            def call(self, x, training=None):
                x = self.b(self.a(x), training=training)
                return self.d(self.c(x, training=training))
        def plain():
            return keras.Sequential([
                layers.Dense(8, activation="relu", name="a"),
                layers.BatchNormalization(name="b"),
                layers.Dropout(0.5, name="c"),
                layers.Dense(4, name="d"),
            ])
    """
    names = on_fnn(source)
    programs = []
    for model in (names.M(), names.plain()):
        model.build((None, 4))
        model.compile("adam", "mse")
        programs.append(_step_program(model, X, Y))
    assert programs[0] == programs[1]


# -- random numbers, graphs, words ---------------------------------------------------------------


@pytest.mark.slow
def test_training_calls_draw_anew():
    source = """
        class M(keras.Model):
            def __init__(self, **named):
                super().__init__(**named)
                self.drop = layers.Dropout(0.5)
            def call(self, x, training=None):
                return self.drop(x, training=training)
    """
    cls = on_fnn(source).M
    model = cls()
    x = np.ones((4, 50), "float32")
    first, second = model(x, training=True), model(x, training=True)
    assert (first != second).any()
    assert_equal(model(x), x)
    assert_equal(cls(seed=3)(x, training=True), cls(seed=3)(x, training=True))


@pytest.mark.slow
def test_a_model_is_a_layer_of_a_graph():
    model = on_fnn(PLAIN).model
    x = fnn.Input((4,))
    outer = fnn.Model(x, fnn.layers.Dense(2)(model(x)))
    outer.compile("sgd", "mse")
    outer.fit(X, normal(10, 2), verbose=0)
    assert_equal(outer.params["net"], model.params)
    assert outer.predict(X, verbose=0).shape == (10, 2)


@pytest.mark.slow
def test_the_summary_shows_the_layers_of_the_attributes(capsys):
    model = on_fnn(NESTED).model
    model(X)
    model.summary()
    shown = capsys.readouterr().out
    rows = [
        [cell.strip() for cell in line.strip("│").split("│")]
        for line in shown.splitlines()
        if line.startswith("│")
    ]
    assert rows[1:] == [
        ["encoder (Encoder)", "(None, 5)", "55"],
        ["decoder (Graph)", "(None, 4)", "24"],
        ["more (Sequential)", "(None, 4)", "64"],
    ]
    assert "Total params: 143" in shown
    assert repr(model) == '<M "m": 3 layers, 143 parameters>'


def test_layers_are_the_objects_among_the_attributes():
    model = on_fnn(NESTED).model
    assert model.layers == [model.encoder, model.decoder, model.more]
    assert model.get_layer("encoder") is model.encoder
    assert model.get_layer("decoder") is model.decoder
    assert model.get_layer(index=2) is model.more
