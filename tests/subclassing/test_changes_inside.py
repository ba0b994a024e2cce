"""Lists, dicts and objects among attributes, changed in place; what `call` changes on `self`."""

import copy
import functools
import pickle
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn import layers
from fnn.subclassing.containers import TrackedDict, TrackedList, TrackedSet
from fnn.subclassing.reads import names_read
from tests.helpers.both_libraries import assert_equal, on_fnn, on_keras
from tests.helpers.oracle import keras_rules

COMMON = """
X = np.ones((2, 3), "float32")
class Settings:
    def __init__(self):
        self.rate = 2.0
        self.inner = type("Inner", (), {})()
        self.inner.powers = [1, 2]
class Scale(layers.Layer):
    def __init__(self):
        super().__init__()
        self.factors = [2.0, [3.0]]
        self.scales = {"a": 1.0}
        self.names = {"a"}
        self.settings = Settings()
    def call(self, x):
        for name in sorted(self.names):
            x = x * self.scales.get(name, 7.0)
        x = x * self.factors[0] * self.factors[1][0] * self.settings.rate
        return x * sum(self.settings.inner.powers)
class Net(keras.Model):
    def __init__(self):
        super().__init__()
        self.scale = Scale()
        self.more = [1.0]
    def call(self, x):
        return self.scale(x) * sum(self.more)
def changed(thing, outer=None):
    results = [thing(X)]
    scale = getattr(thing, "scale", thing)
    for change in (
        "scale.factors[0] = 5.0",
        "scale.factors[1].append(1.0)",
        "scale.factors[1].insert(0, 4.0)",
        "scale.factors += [1.0]",
        "scale.scales['a'] = 0.5",
        "scale.scales.update({'b': 0.1})",
        "scale.names.add('b')",
        "scale.names.discard('a')",
        "scale.settings.rate = 3.0",
        "scale.settings.inner.powers.append(4)",
        "del scale.factors[2]",
        "scale.scales.clear()",
    ):
        exec(change, {"scale": scale})
        results.append(thing(X))
    return results
"""

PROGRAMS = {
    "of a layer": "result = changed(Scale())",
    "of a layer in a model": "result = changed(Net())",
    "of a model": """
        net = Net()
        result = [net(X)]
        net.more.append(2.0)
        result.append(net(X))
    """,
    "a new list": """
        scale, net = Scale(), Net()
        result = [scale(X), net(X)]
        scale.factors, net.more = [4.0, [5.0]], [2.0, 3.0]
        result += [scale(X), net(X)]
    """,
    "seen by predict after compile": """
        row = keras.Sequential([keras.Input((3,)), Scale()])
        row.compile("sgd", "mse")
        result = [row.predict(X, verbose=0)]
        row.layers[-1].factors[0] = 5.0
        row.layers[-1].settings.rate = 0.5
        row.layers[-1].settings.inner.powers[0] = 10
        row.compile("sgd", "mse")
        result.append(row.predict(X, verbose=0))
        result.append(row.evaluate(X, X, verbose=0))
    """,
    "after build has run": """
        class Built(layers.Layer):
            def __init__(self):
                super().__init__()
                self.factors = [2.0]
            def build(self, input_shape):
                self.dense = layers.Dense(2, kernel_initializer="ones")
                self.scale = self.add_weight(shape=(), initializer="ones")
            def call(self, x):
                return self.dense(x) * self.factors[0] * self.scale
        layer = Built()
        layer(X)
        dense = layer.dense
        layer.scale.assign(3.0)
        dense.set_weights([dense.get_weights()[0] * 0.5, np.ones(2)])
        layer.factors[0] = 5.0
        result = [layer(X), layer.dense is dense, len(layer.weights), layer.scale.numpy()]
    """,
    "layers put into lists before the weights are made": """
        class Row(layers.Layer):
            def __init__(self):
                super().__init__()
                self.blocks = []
                for _ in range(2):
                    self.blocks.append(layers.Dense(3, kernel_initializer="ones"))
                self.named = {}
                self.named["last"] = layers.Dense(1, kernel_initializer="ones")
            def build(self, input_shape):
                self.blocks.append(layers.Dense(2, kernel_initializer="ones"))
            def call(self, x):
                for block in self.blocks:
                    x = block(x)
                return self.named["last"](x)
        row = Row()
        result = [row(X), len(row.weights)]
    """,
}


QUICK = ("of a model", "a new list")


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name not in QUICK)) for name in PROGRAMS],
)
def test_changes_in_place_are_seen_as_on_keras(name):
    source = COMMON + textwrap.dedent(PROGRAMS[name])
    with keras_rules():
        wanted = on_keras(source).result
        assert_equal(on_fnn(source).result, wanted)


PREDICTED = """
row = keras.Sequential([keras.Input((3,)), Scale()])
row.compile("sgd", "mse")
before = row.predict(X, verbose=0)
row.layers[-1].factors[0] *= 2.0
after = row.predict(X, verbose=0)
"""


def test_predict_sees_a_changed_list_at_once():
    ours, theirs = on_fnn(COMMON + PREDICTED), on_keras(COMMON + PREDICTED)
    np.testing.assert_allclose(theirs.after, theirs.before)
    np.testing.assert_allclose(ours.after, 2 * ours.before)


def test_private_values_of_objects_are_not_compared():
    scale = on_fnn(COMMON + "scale = Scale()").scale
    scale.settings._rate = 1.0
    before = hash(scale)
    scale.settings._rate = 3.0
    scale(np.ones((2, 3), "float32"))
    assert hash(scale) == before
    scale.settings.rate = 3.0
    scale(np.ones((2, 3), "float32"))
    assert hash(scale) != before


APPENDED = """
class Row(keras.{kind}):
    def __init__(self):
        super().__init__()
        self.blocks = [layers.Dense(2)]
        self.named = dict(a=1)
    def call(self, x):
        for block in self.blocks:
            x = block(x)
        return x
row = Row()
row(np.ones((1, 3)))
"""


@pytest.mark.parametrize("kind", ["layers.Layer", "Model"])
def test_a_layer_put_into_a_list_after_the_weights_is_an_error(kind):
    source = APPENDED.format(kind=kind)
    with pytest.raises(ValueError, match="already built"):
        on_keras(source).row.blocks.append(__import__("keras").layers.Dense(2))
    row = on_fnn(source).row
    with pytest.raises(ValueError, match=r"made in __init__ or build, received Dense\(units=3\)"):
        row.blocks.append(layers.Dense(3))
    with pytest.raises(ValueError, match=r"self\.named"):
        row.named["b"] = [layers.Dense(3)]
    assert len(row.blocks) == len(row.named) == 1


class Counter(layers.Layer):
    def __init__(self):
        super().__init__()
        self.count = 0
        self.seen = []
        self.kept = {}
        self.mode = None

    def call(self, x, training=None):
        return x


class Counts(Counter):
    def call(self, x, training=None):
        self.count += 1
        return x


class Appends(Counter):
    def call(self, x, training=None):
        self.seen.append(1)
        return x


@pytest.mark.parametrize(("cls", "name"), [(Counts, "count"), (Appends, "seen")])
def test_what_call_changes_on_itself_is_said_to_be_lost(cls, name):
    layer = cls()
    with pytest.warns(UserWarning, match=f"{cls.__name__}: call changes self.{name}, but it runs"):
        layer(np.ones((1, 2)))
    assert not getattr(layer, name)


class Leaks(Counter):
    def call(self, x, training=None):
        self.kept["x"] = x * 2
        return x


def test_an_array_does_not_leak_into_a_dict():
    layer = Leaks()
    with pytest.raises(TypeError, match=r"received an array put into self\.kept, which is gone"):
        layer(np.ones((1, 2)))
    assert layer.kept == {}


class Uses(Counter):
    def call(self, x, training=None):
        self.parts = []
        self.parts.append(x)
        self.parts.append(x * 2)
        self.count = 0
        return sum(self.parts)


def test_a_list_made_in_call_is_used_there():
    assert Uses()(np.ones((1, 2))).tolist() == [[3.0, 3.0]]


class Counted(layers.Layer):
    def __init__(self):
        super().__init__()
        self.count = self.add_weight(initializer="zeros", trainable=False)

    def call(self, x):
        self.count.assign_add(1)
        return x


def test_the_advice_counts_calls():
    layer = Counted()
    for _ in range(3):
        layer(np.ones((1, 2)))
    assert float(layer.count.numpy()) == 3


class Logged(fnn.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(1)
        self.log = []

    def call(self, x):
        return self.dense(x)

    def note(self, value):
        self.log.append(value)


def test_a_list_that_call_does_not_read_compiles_nothing_again():
    model = Logged()
    model(np.ones((1, 2)))
    network = model.layer
    model.note(1.0)
    assert model.log == [1.0]
    assert model.layer is network
    assert "log" not in names_read(Logged)
    assert "dense" in names_read(Logged)


class Helped(layers.Layer):
    def __init__(self, by="factors"):
        super().__init__()
        self.by = by
        self.factors = [2.0]

    def call(self, x):
        return x * getattr(self, self.by)[0]


def test_attributes_read_by_any_name_count():
    layer = Helped()
    before = float(layer(np.ones((1, 1)))[0, 0])
    layer.factors[0] = 3.0
    assert (before, float(layer(np.ones((1, 1)))[0, 0])) == (2.0, 3.0)
    assert names_read(Helped) is None


def test_containers_are_what_they_were_before():
    class Held(layers.Layer):
        def __init__(self):
            super().__init__()
            self.sizes, self.table, self.names = [1, {"a": [2]}], {"b": (1, 2)}, {"c"}

        def call(self, x):
            return x * self.sizes[0]

    held = Held()
    kinds = TrackedList, TrackedDict, TrackedSet
    assert tuple(map(type, (held.sizes, held.table, held.names))) == kinds
    assert type(held.sizes[1]["a"]) is TrackedList
    assert held.sizes == [1, {"a": [2]}]
    assert held.table == {"b": (1, 2)}
    assert held.names == {"c"}
    for thing in (held.sizes, held.table, held.names):
        for again in (copy.deepcopy(thing), pickle.loads(pickle.dumps(thing))):
            assert again == thing
            assert type(again) in (list, dict, set)
    doubled = jax.tree.map(lambda n: 2 * n, held.sizes)
    assert doubled == [2, {"a": [4]}]
    assert type(doubled) is list
    other = copy.deepcopy(held)
    other.sizes.append(5)
    assert type(other.sizes) is TrackedList
    assert held.sizes == [1, {"a": [2]}]
    assert other != held
    del other.sizes[-1]
    assert Held().sizes == held.sizes
    held.sizes.extend([[3], {4}])
    assert type(held.sizes[-2]) is TrackedList
    assert type(held.sizes[-1]) is TrackedSet


def test_pure_use_follows_a_list_too():
    class Scaled(layers.Layer):
        def __init__(self):
            super().__init__()
            self.sizes = [3]

        def build(self, input_shape):
            self.kernel = self.add_weight(shape=(input_shape[-1], self.sizes[0]))

        def call(self, x):
            return x @ self.kernel

    layer = Scaled()
    x = jnp.ones((2, 4))
    assert layer.init(jax.random.key(0), x)[0]["kernel"].shape == (4, 3)
    before = hash(layer)
    layer.sizes[0] = 5
    assert hash(layer) != before
    assert layer.init(jax.random.key(0), x)[0]["kernel"].shape == (4, 5)


class Scaler:
    """An object of any class, which reads the layer that it is given."""

    def __init__(self, layer=None):
        self.layer = layer

    def of(self, x, layer=None):
        return x * (layer or self.layer).factors[0]


class Handing(fnn.layers.Layer):
    def __init__(self, way):
        super().__init__()
        self.factors = [2.0]
        self.way = way
        self.scaler = Scaler()
        if way == "held":
            self.scaler = Scaler(self)
        if way == "bound":
            self.scale = functools.partial(self.scaler.of, layer=self)

    def call(self, x):
        if self.way == "bound":
            return self.scale(x)
        if self.way == "held":
            return self.scaler.of(x)
        if self.way == "closure":
            return (lambda: self.scaler.of(x, self))()
        return self.scaler.of(x, self)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["given", "held", "bound", "closure"])
def test_a_list_that_another_object_reads_is_seen(way):
    layer = Handing(way)
    assert layer(np.ones(1)).tolist() == [2]
    layer.factors[0] = 5.0
    assert layer(np.ones(1)).tolist() == [5]
