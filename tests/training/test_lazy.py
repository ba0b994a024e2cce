"""Sparse matrices, memmaps and large arrays: read, converted and checked batch by batch."""

import numpy as np
import pytest
import scipy.sparse

import fnn
from fnn.layers import Dense, Embedding, Flatten
from fnn.training import data, lazy
from fnn.training.checks import as_array
from fnn.training.lazy import LazyArray

ROWS = 100
MATRIX = scipy.sparse.random(ROWS, 6, 0.3, format="csr", random_state=0, dtype="float64")
X = MATRIX.toarray().astype("float32")
Y = X.sum(axis=1, keepdims=True)


def network(last="linear", loss="mse", units=1, **compiled):
    model = fnn.Sequential([fnn.Input((6,)), Dense(units, last)], seed=0)
    model.compile("adam", loss, **compiled)
    return model


def everything(x, y):
    """What fit, evaluate and predict return for this data, with weights and a validation."""
    model = network(metrics=["mae"])
    weights = np.linspace(0.5, 1.5, ROWS)
    history = model.fit(x, y, epochs=2, sample_weight=weights, validation_split=0.2, verbose=0)
    found = [history.history[name] for name in sorted(history.history)]
    return *found, model.evaluate(x, y, verbose=0), model.predict(x, verbose=0)


@pytest.fixture(scope="module")
def expected():
    return everything(X, Y)


def on_disk(path, array, dtype):
    saved = np.memmap(path, dtype, "w+", shape=array.shape)
    saved[:] = array
    return saved


@pytest.mark.slow
@pytest.mark.parametrize("form", ["csr", "csc", "coo", "bsr"])
@pytest.mark.parametrize("kind", ["matrix", "array"])
def test_sparse_data_trains_as_dense(form, kind, expected):
    x = MATRIX.asformat(form)
    if kind == "array":
        x = getattr(scipy.sparse, f"{form}_array")(x)
    for found, wanted in zip(everything(x, Y), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64", ">f4"])
def test_a_memmap_trains_as_an_array(dtype, tmp_path, expected):
    x = on_disk(tmp_path / "x", X, dtype)
    y = on_disk(tmp_path / "y", Y, dtype)
    for found, wanted in zip(everything(x, y), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-6)


@pytest.mark.slow
def test_large_arrays_train_as_small_ones(monkeypatch, expected):
    monkeypatch.setattr(lazy, "CHECKED_AT_ONCE", 100)
    for found, wanted in zip(everything(X, Y), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-6)
    # As on an accelerator, where they stay on the device.
    monkeypatch.setattr(data, "_may_reside", lambda arrays: True)
    for found, wanted in zip(everything(X, Y), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-6)


@pytest.mark.slow
def test_sparse_targets_and_single_batches():
    model, other = network(), network()
    targets = scipy.sparse.csr_array(Y)
    model.fit(MATRIX, targets, verbose=0)
    other.fit(X, Y, verbose=0)
    assert model.train_on_batch(MATRIX, targets) == other.train_on_batch(X, Y)
    assert model.test_on_batch(MATRIX, targets) == other.test_on_batch(X, Y)
    np.testing.assert_array_equal(model(MATRIX), other(X))
    np.testing.assert_array_equal(model.predict_on_batch(MATRIX), other.predict_on_batch(X))


@pytest.mark.slow
def test_the_whole_is_never_dense():
    class Counted(scipy.sparse.csr_matrix):
        largest = 0

        def toarray(self, *given, **named):
            Counted.largest = max(Counted.largest, self.shape[0])
            return super().toarray(*given, **named)

    x = Counted(scipy.sparse.random(4000, 6, 0.3, format="csr"))
    model = network()
    model.fit(x, np.zeros((4000, 1)), validation_split=0.5, verbose=0)
    model.predict(x, verbose=0)
    assert 0 < Counted.largest <= 32 * 32


class Recorded(np.memmap):
    """A memmap that notes which rows are read."""

    rows: list

    def __getitem__(self, index):
        if isinstance(index, np.ndarray):
            self.rows.extend(index.tolist())
        elif isinstance(index, slice):
            self.rows.extend(range(*index.indices(len(self))))
        return np.asarray(super().__getitem__(index))


@pytest.fixture
def recorded(tmp_path):
    found = on_disk(tmp_path / "x", np.tile(X, (40, 1)), "float32").view(Recorded)
    found.rows = []
    return found


def test_nothing_is_read_before_the_first_step(recorded):
    read = []

    class Reads(fnn.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            read.append(len(set(recorded.rows)))

    model = network()
    model.fit(recorded, np.zeros((4000, 1)), callbacks=[Reads()], verbose=0)
    assert read[0] <= 32 * 32
    assert read[-1] == 4000


def test_a_row_with_nan_ends_the_training_before_its_step(recorded):
    recorded.view(np.memmap)[3900, 2] = np.nan
    model = network()
    message = "NaN in row 3900 of column 2; fill or drop"
    with pytest.raises(ValueError, match=message):
        model.fit(recorded, np.zeros((4000, 1)), shuffle=False, verbose=0)
    assert 0 < int(model.optimizer.iterations) <= 3900 // 32
    assert all(np.isfinite(weight).all() for weight in model.get_weights())
    with pytest.raises(ValueError, match=message):
        model.fit(recorded, np.zeros((4000, 1)), verbose=0)
    with pytest.raises(ValueError, match=message):
        model.predict(recorded, verbose=0)
    with pytest.raises(ValueError, match=message):
        model.fit(recorded, np.zeros((4000, 1)), validation_split=0.5, verbose=0)
    model.compile("adam", "mse", checks=False, guard="ignore")
    model.fit(recorded, np.zeros((4000, 1)), verbose=0)


@pytest.mark.slow
def test_labels_and_ids_are_checked_as_they_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(lazy, "CHECKED_AT_ONCE", 100)
    labels = np.zeros(ROWS, "int32")
    labels[70] = 3
    model = network("softmax", "sparse_categorical_crossentropy", 3)
    with pytest.raises(ValueError, match=r"received label 3 at row 70, the model has"):
        model.fit(X, labels, verbose=0)
    with pytest.raises(ValueError, match="received label 3 at row 70"):
        model.evaluate(X, labels, verbose=0)

    ids = np.zeros((ROWS, 2), "int32")
    ids[50, 1] = 9
    model = fnn.Sequential([fnn.Input((2,), dtype="int32"), Embedding(9, 4), Flatten(), Dense(1)])
    model.compile("adam", "mse")
    with pytest.raises(ValueError, match="Embedding"):
        model.fit(ids, Y, verbose=0)
    with pytest.raises(ValueError, match="Embedding"):
        model.predict(ids, verbose=0)


def test_an_example_is_checked_once(monkeypatch):
    monkeypatch.setattr(lazy, "CHECKED_AT_ONCE", 100)
    array = as_array("x", X.astype("float64"), lazy=True)
    seen = []
    array.check_later(lambda part: seen.append(len(part)))
    for index in ([[3, 5], [3, 9]], [[5, 5], [9, 70]], [[70, 3], [9, 5]]):
        found = array[np.array(index)]
        np.testing.assert_array_equal(found, X[np.array(index)])
        assert found.dtype == np.float32
    array.check(np.array([[70, 71], [3, 71]]))
    assert seen == [4, 1, 1], "of a first read all rows, the repeated ones too"
    part = array.part(slice(60, 90))
    assert isinstance(part, LazyArray)
    np.testing.assert_array_equal(part.reshape(30, 6, 1)[:][..., 0], X[60:90])


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (scipy.sparse.csr_matrix(np.eye(3) * 1j), TypeError, "expected x to hold numbers"),
        (scipy.sparse.csr_matrix(np.eye(3) * 2.0**40).astype("int64"), ValueError, "to fit int32"),
    ],
)
def test_sparse_data_that_cannot_be_used(value, error, message):
    model = fnn.Sequential([fnn.Input((3,)), Dense(1)])
    model.compile("adam", "mse")
    with pytest.raises(error, match=message):
        model.fit(value, np.zeros((3, 1)), verbose=0)


def test_a_ragged_list_is_named_with_its_rows():
    with pytest.raises(ValueError, match=r"row 0 has shape \(2,\) and row 1 has \(1,\); pad"):
        as_array("x", [[1.0, 2.0], [3.0]])
    with pytest.raises(ValueError, match=r"ragged list: row 1 is ragged; pad"):
        as_array("x", [[[1.0], [2.0]], [[3.0], [4.0, 5.0]]])
    ragged = np.empty(2, object)
    ragged[:] = [np.ones(3), np.ones(4)]
    with pytest.raises(ValueError, match=r"row 0 has shape \(3,\) and row 1 has"):
        as_array("y", ragged)


def test_strings_are_not_numbers_to_be_read_later(monkeypatch):
    monkeypatch.setattr(lazy, "CHECKED_AT_ONCE", 8)
    words = np.array(["a", "bb"])
    assert as_array("x", words, lazy=True, strings=True) is words
    with pytest.raises(TypeError, match="expected x to hold numbers"):
        as_array("x", words, lazy=True)
