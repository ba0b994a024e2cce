"""What fit takes: batches by name, single examples, frames and datasets of other libraries."""

import datasets
import grain
import jax
import numpy as np
import pandas
import polars
import pytest
import scipy.sparse

import fnn
from fnn.layers import Concatenate, Dense
from fnn.training.examples import Collector, collated, is_example, is_example_of

try:
    import torch
except ImportError:
    torch = None

ROWS, SIZE = 70, 32
RNG = np.random.default_rng(0)
X = RNG.normal(size=(ROWS, 4)).astype("float32")
Y = X.sum(axis=1, keepdims=True)
STARTS = range(0, ROWS, SIZE)


def network():
    x = fnn.Input((4,), name="features")
    model = fnn.Model(x, Dense(1, name="price")(x), seed=0)
    model.compile("adam", "mse")
    return model


def results(x, y=None, shuffle=False):
    model = network()
    history = model.fit(x, y, epochs=2, shuffle=shuffle, verbose=0)
    return history.history["loss"], model.evaluate(x, y, verbose=0), model.predict(x, verbose=0)


@pytest.fixture(scope="module")
def expected():
    return results(X, Y)


def batches():
    return ((X[i : i + SIZE], Y[i : i + SIZE]) for i in STARTS)


class Items:
    """A dataset by number: single examples, or batches."""

    def __init__(self, items):
        self.items = list(items)
        self.asked = []

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        self.asked.append(index)
        return self.items[index]


class OfPlainNumbers(Items):
    def __getitem__(self, index):
        x, y = self.items[index]
        return x.tolist(), y.item()


def hugging_face():
    return datasets.Dataset.from_dict(
        {"features": X.tolist(), "price": Y[:, 0].tolist(), "note": ["a"] * ROWS}
    )


def pytorch():
    return torch.utils.data.TensorDataset(torch.tensor(X), torch.tensor(Y))


SOURCES = {
    "batches as x, y, sample_weight": lambda: (
        lambda: ({"x": x, "y": y, "sample_weight": np.ones(len(x))} for x, y in batches())
    ),
    "batches as x and y": lambda: lambda: ({"x": x, "y": y} for x, y in batches()),
    "batches by the names of layers": lambda: (
        lambda: ({"features": x, "price": y, "other": y} for x, y in batches())
    ),
    "inputs by name in a tuple": lambda: lambda: (({"features": x}, y) for x, y in batches()),
    "lists": lambda: lambda: ([x, y, np.ones(len(x))] for x, y in batches()),
    "sparse batches": lambda: lambda: ((scipy.sparse.csr_matrix(x), y) for x, y in batches()),
    "batches by number": lambda: Items(batches()),
    "examples by number": lambda: Items(zip(X, Y, strict=True)),
    "examples by number, without axes": lambda: OfPlainNumbers(zip(X, Y, strict=True)),
    "examples by number and name": lambda: Items(
        {"x": x, "y": y} for x, y in zip(X, Y, strict=True)
    ),
    "an iterable of examples": lambda: lambda: zip(X, Y, strict=True),
    "datasets": hugging_face,
    "datasets, one by one": lambda: hugging_face().to_iterable_dataset(),
    "datasets in batches": lambda: Items(hugging_face().with_format("numpy").iter(SIZE)),
    "grain": lambda: grain.MapDataset.source(list(zip(X, Y, strict=True))),
    "grain in batches": lambda: grain.MapDataset.source(list(zip(X, Y, strict=True))).batch(SIZE),
    "grain, one by one": lambda: grain.MapDataset.source(
        list(zip(X, Y, strict=True))
    ).to_iter_dataset(),
}
PYTORCH = {}
if torch is not None:
    PYTORCH = {"torch": pytorch}
    SOURCES |= {
        **PYTORCH,
        "torch in batches": lambda: torch.utils.data.DataLoader(pytorch(), SIZE),
        "datasets as tensors": lambda: hugging_face().with_format("torch"),
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", SOURCES)
def test_a_source_trains_as_its_arrays(name, expected):
    for found, wanted in zip(results(SOURCES[name]()), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


FRAMES = {
    "pandas": (pandas.DataFrame(X), pandas.Series(Y[:, 0])),
    "polars": (polars.DataFrame(X), polars.Series(Y[:, 0])),
    "polars, computed on demand": (polars.LazyFrame(X), polars.LazyFrame(Y)),
    "columns of datasets": (hugging_face()["features"], hugging_face()["price"]),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FRAMES)
def test_a_frame_trains_as_its_array(name, expected):
    for found, wanted in zip(results(*FRAMES[name]), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("library", [pandas, polars])
def test_columns_of_a_frame_are_several_inputs_by_name(library):
    def model():
        a, b = (fnn.Input((1,), name=name) for name in "ab")
        model = fnn.Model([a, b], Dense(1, name="y")(Concatenate()([a, b])), seed=0)
        model.compile("adam", "mse")
        return model

    frame = library.DataFrame({"b": X[:, 1], "a": X[:, 0], "y": Y[:, 0], "c": X[:, 2]})
    ours, theirs = model(), model()
    loss = ours.fit(frame, verbose=0).history["loss"]
    assert loss == theirs.fit([X[:, :1], X[:, 1:2]], Y, verbose=0).history["loss"]
    expected = theirs.predict([X[:, :1], X[:, 1:2]], verbose=0)
    np.testing.assert_array_equal(ours.predict(frame, verbose=0), expected)


# -- examples and batches, told apart --------------------------------------------------------------


def shape(*sizes):
    return fnn.Input(sizes)


@pytest.mark.parametrize(
    ("x", "node", "example"),
    [
        ((4,), shape(4), True),
        ((3, 4), shape(4), False),
        ((4, 4), shape(4), False),
        ((1,), shape(1), True),
        ((7,), shape(1), False),
        ((7,), shape(None), True),
        ((7, 9), shape(None), False),
        ((28, 28), shape(28, 28, 1), True),
        ((28, 28, 1), shape(28, 28, 1), True),
        ((28, 28, 28), shape(28, 28, 1), False),
        ((28, 28, 1), shape(28, 28), True),
        ((28, 28, 28), shape(28, 28), False),
        ((2, 28, 28, 1), shape(28, 28, 1), False),
        ((), shape(), True),
        ((5,), shape(4), False),
        ((3, 5), shape(4), False),
    ],
)
def test_an_example_is_known_by_the_shape_of_the_input(x, node, example):
    parts = np.zeros(x), np.zeros(1), None
    assert is_example_of(parts, node, unless_batch=False) is example


def test_what_may_be_both_is_a_batch_of_an_iterable():
    parts = np.zeros(1), np.zeros(1), None
    assert not is_example_of(parts, shape(1), unless_batch=True)
    assert is_example_of((np.zeros(1), 0.0, None), shape(1), unless_batch=True)


@pytest.mark.parametrize(
    ("parts", "example"),
    [
        ((np.zeros(3), 1.0, None), True),
        ((np.zeros(3), np.zeros(1), None), True),
        ((np.zeros((3, 2)), np.zeros(3), np.ones(3)), False),
        ((np.zeros(3), None, None), False),
        (({"a": [1, 2], "b": [3, 4]}, [0, 1], None), False),
        (({"a": [1, 2], "b": [3]}, [0, 1], None), True),
        (([[1], [2, 3]], 1, None), True),
    ],
)
def test_an_example_is_known_by_lengths_while_the_network_is_not(parts, example):
    assert is_example(parts) is example


@pytest.mark.slow
def test_a_model_without_inputs_yet_takes_examples():
    model = fnn.Sequential([Dense(1)], seed=0)
    model.compile("adam", "mse")
    model.fit(OfPlainNumbers(zip(X, Y, strict=True)), verbose=0)
    assert int(model.optimizer.iterations) == 3


@pytest.mark.slow
def test_examples_are_shuffled_by_number_and_collected_by_batch_size():
    orders = []
    for _ in range(2):
        data, model = Items(zip(X, Y, strict=True)), network()
        model.fit(data, batch_size=8, epochs=3, verbose=0)
        assert int(model.optimizer.iterations) == 3 * 9
        asked = data.asked[1:]  # the first is read to see what it is
        epochs = [asked[i : i + ROWS] for i in range(0, 3 * ROWS, ROWS)]
        assert all(sorted(epoch) == list(range(ROWS)) for epoch in epochs)
        assert epochs[0] != epochs[1] != list(range(ROWS))
        orders.append(asked)
    assert orders[0] == orders[1], "by the seed of the model"
    assert len(network().predict(Items(X), batch_size=7, verbose=0)) == ROWS


def test_examples_of_any_structure_are_stacked():
    items = [({"a": X[i], "b": (i, [i, i])}, None, 1.0) for i in range(3)]
    x, y, weight = collated(items, range(3))
    np.testing.assert_array_equal(x["a"], X[:3])
    np.testing.assert_array_equal(x["b"][0], [0, 1, 2])
    np.testing.assert_array_equal(x["b"][1], [[0, 0], [1, 1], [2, 2]])
    assert y is None
    assert weight.tolist() == [1.0] * 3
    collector = Collector(lambda item: True, 2)
    assert [batch.tolist() for batch in collector(iter(range(5)))] == [[0, 1], [2, 3], [4]]
    assert collector.batches(5) == 3
    assert list(Collector(lambda item: False, 2)(iter("ab"))) == ["a", "b"]


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([(X[0], 1.0), (X[0][:3], 1.0)], r"shape \(3,\) at \[0\] in example 1 and \(4,\) in"),
        (
            [{"x": X[0], "y": 1.0}, {"x": X[0]}],
            r"the keys \['x'\] in example 1 and the keys \['x', 'y'\] in another",
        ),
        ([(X[0], 1), (X[0], 1, 2)], "received 3 items in example 1 and 2 items in another"),
        ([(X[0], 1.0), (X[0], None)], "None in row 1"),
    ],
)
def test_examples_that_differ_are_named(items, message):
    with pytest.raises((ValueError, TypeError), match=message):
        network().fit(lambda: iter(items), verbose=0)


# -- the loop of any step --------------------------------------------------------------------------


def step(w, batch, key):
    x, y = batch
    loss, gradient = jax.value_and_grad(lambda w: ((x @ w - y) ** 2).mean())(w)
    return w - 0.1 * gradient, {"loss": loss}


@pytest.mark.slow
@pytest.mark.parametrize(
    "data",
    [
        batches,
        Items(zip(X, Y, strict=True)),
        lambda: zip(X, Y, strict=True),
        (scipy.sparse.csr_matrix(X), Y),
        (polars.DataFrame(X), polars.DataFrame(Y)),
        (pandas.DataFrame(X), Y),
        *(make() for make in PYTORCH.values()),
    ],
    ids=["batches", "examples", "one by one", "sparse", "polars", "pandas", *PYTORCH],
)
def test_the_loop_takes_the_same(data):
    start = np.zeros((4, 1), "float32")
    _, expected = fnn.training.fit(step, start, (X, Y), epochs=2, shuffle=False, verbose=0)
    _, found = fnn.training.fit(step, start, data, epochs=2, shuffle=False, verbose=0)
    np.testing.assert_allclose(found.history["loss"], expected.history["loss"], rtol=1e-5)


# -- what cannot be -------------------------------------------------------------------------------


def changing(*found):
    return lambda: iter(found)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (
            lambda: datasets.DatasetDict(train=hugging_face()),
            TypeError,
            r"several by the names \['train'\]; pass one of them, e.g. data\['train'\]",
        ),
        (
            lambda: hugging_face().rename_column("price", "cost"),
            ValueError,
            r"inputs \['features'\] and outputs \['price'\], received the keys \['cost', 'feat",
        ),
        (
            lambda: changing((X, Y), (X, Y, np.ones(ROWS))),
            ValueError,
            r"batch 1 of the stream is \{weight: \(float32\[70\],\), x.* first was \{weight: \(\)",
        ),
        (
            lambda: changing(({"features": X}, Y), ({"feature": X}, Y)),
            ValueError,
            r"a dict, or|received a dict with \['feature'\]",
        ),
        (
            lambda: changing((X.astype(int), Y), (X, Y)),
            ValueError,
            r"batch 1 of the stream is float32.*the first was int32",
        ),
        (
            lambda: Items([]),
            ValueError,
            "expected batches, received an empty stream",
        ),
    ],
    ids=["splits", "columns", "keys", "names", "dtype", "empty"],
)
def test_data_that_cannot_be_used(data, error, message):
    with pytest.raises(error, match=message):
        network().fit(data(), shuffle=False, verbose=0)


def test_an_unnamed_input_of_a_dataset_is_told_so():
    model = fnn.Sequential([fnn.Input((4,)), Dense(1, name="price")])
    model.compile("adam", "mse")
    with pytest.raises(ValueError, match=r"inputs \[None\] and outputs \['price'\].*name the lay"):
        model.fit(hugging_face(), verbose=0)
    with pytest.raises(ValueError, match="name the layers by them"):
        model.predict(hugging_face(), verbose=0)


# -- a model with steps of its own -----------------------------------------------------------------


class Own(fnn.Model):
    """A model whose steps compute with any structure of data."""

    def __init__(self):
        super().__init__()
        self.dense = Dense(1, kernel_initializer="ones")

    def call(self, x):
        return self.dense(x)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return ((y - y_pred) ** 2).mean()

    def predict_step(self, state, data):
        x = data[0] if isinstance(data, tuple) else data
        y, _ = self.stateless_call(state[0], state[1], x)
        return y, state


@pytest.mark.slow
@pytest.mark.parametrize(
    "data",
    [
        batches,
        lambda: zip(X, Y, strict=True),
        Items(zip(X, Y, strict=True)),
        *(make() for make in PYTORCH.values()),
    ],
    ids=["batches", "one by one", "examples", *PYTORCH],
)
def test_a_model_with_steps_of_its_own_takes_the_same(data):
    model = Own()
    model.compile(fnn.optimizers.SGD(0.0))
    loss = model.fit(data, shuffle=False, verbose=0).history["loss"]
    assert loss == pytest.approx([0.0], abs=1e-8)
    np.testing.assert_allclose(model.predict(data, verbose=0), Y, rtol=1e-5, atol=1e-6)
