"""Splits: sizes, classes, groups and times of both parts, against scikit-learn and in fit."""

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.model_selection import train_test_split

import fnn
from fnn.data import Batches, split, windows

RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 3)).astype("float32")
LABELS = np.repeat([0, 1, 2], [35, 10, 5])


def together(first, last, count=50):
    """Every example is in one of the parts."""
    np.testing.assert_array_equal(np.sort(np.concatenate([first, last])), np.arange(count))


@pytest.mark.parametrize("fraction", [0.2, 0.33, 0.5, 0.9])
@pytest.mark.parametrize("shuffle", [False, True])
def test_the_second_part_has_the_fraction(fraction, shuffle):
    first, last = split(fraction, shuffle=shuffle).indices(50)
    together(first, last)
    assert len(first) == int(50 * (1 - fraction))
    assert (np.diff(first) > 0).all()
    assert (last[0] == len(first)) == (not shuffle)
    again = split(fraction, shuffle=shuffle).indices(50)
    np.testing.assert_array_equal(last, again[1])
    if shuffle:
        assert not np.array_equal(last, split(fraction, seed=1).indices(50)[1])


@pytest.mark.parametrize("fraction", [0.2, 0.3, 0.5])
@pytest.mark.parametrize("shuffle", [False, True])
def test_classes_have_the_shares_that_scikit_learn_gives_them(fraction, shuffle):
    first, last = split(fraction, stratify=True, shuffle=shuffle).indices(50, LABELS)
    together(first, last)
    _, expected = train_test_split(LABELS, test_size=fraction, stratify=LABELS, random_state=0)
    found, wanted = np.bincount(LABELS[last]), np.bincount(expected)
    assert found.sum() == wanted.sum()
    assert np.abs(found - wanted).max() <= 1  # where shares tie, it draws
    assert np.abs(found - np.bincount(LABELS) * fraction).max() < 1


def test_a_rare_class_is_in_both_parts():
    labels = np.array(["a"] * 48 + ["b"] * 2)
    _, last = split(0.1, stratify=labels).indices(50)
    assert (labels[last] == "b").sum() == 1
    one_hot = np.eye(2)[(labels == "b").astype(int)]
    np.testing.assert_array_equal(split(0.1, stratify=True).indices(50, one_hot)[1], last)


@pytest.mark.parametrize("shuffle", [False, True])
def test_groups_stay_together(shuffle):
    groups = np.array(list("aabbbccdddd"))[RNG.integers(0, 11, 50)]
    first, last = split(0.3, groups=groups, shuffle=shuffle).indices(50)
    together(first, last)
    assert not set(groups[first]) & set(groups[last])
    sizes = {group: (groups == group).sum() for group in set(groups)}
    if not shuffle:
        assert "d" in set(groups[last])
    assert abs(len(last) - 15) <= max(sizes.values())


def test_the_latest_are_in_the_second_part():
    time = RNG.integers(0, 20, 50)
    first, last = split(0.2, time=time).indices(50)
    together(first, last)
    assert time[first].max() < time[last].min()
    assert (np.diff(time[first]) >= 0).all()
    assert (np.diff(time[last]) >= 0).all()
    assert abs(len(last) - 10) <= np.bincount(time).max()


def test_the_parts_have_the_types_of_the_data():
    rows = [f"row {i}" for i in range(50)]
    frame = pd.DataFrame({"a": np.arange(50)})
    matrix = sparse.csr_matrix(X)
    data = {"x": X, "rows": rows, "parts": (frame, matrix)}
    first, last = split(0.2)(data)
    expected = split(0.2).indices(50)
    for part, indices in zip((first, last), expected, strict=True):
        np.testing.assert_array_equal(part["x"], X[indices])
        assert part["rows"] == [rows[i] for i in indices]
        assert part["parts"][0]["a"].tolist() == indices.tolist()
        np.testing.assert_array_equal(part["parts"][1].toarray(), X[indices])
    (x, y), _ = split(0.2, stratify=True)(X, LABELS)
    assert len(x) == len(y) == 40


def test_streams_that_are_made_by_index_are_split():
    stream = Batches(50, lambda i: (X[i], LABELS[i]), 8, seed=0, targets=LABELS)
    first, last = split(0.2, stratify=True)(stream)
    assert (first.count, last.count) == (40, 10)
    assert (len(first), len(last)) == (5, 2)
    found = np.concatenate([y for _, y in last])
    np.testing.assert_array_equal(found, np.sort(found))
    assert np.bincount(found).tolist() == [7, 2, 1]
    one, other = (np.concatenate([x for x, _ in first]) for _ in range(2))
    assert not np.array_equal(one, other)
    np.testing.assert_array_equal(np.sort(one, axis=0), np.sort(other, axis=0))
    train, test = split(0.25, shuffle=False)(windows(np.arange(10), length=3, horizon=1))
    assert [y.tolist() for _, y in train] == [[3, 4, 5, 6, 7]]
    assert [y.tolist() for _, y in test] == [[8, 9]]


def compiled():
    model = fnn.Sequential([fnn.Input((3,)), fnn.layers.Dense(3, "softmax")], seed=0)
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model


def losses(model, *data, **named):
    history = model.fit(*data, epochs=2, verbose=0, **named).history
    return history["loss"], history["val_loss"]


@pytest.mark.slow
def test_fit_validates_on_the_second_part():
    chosen = split(0.3, stratify=True, seed=4)
    weights = RNG.uniform(1, 2, 50)
    first, last = chosen.indices(50, LABELS)
    found = losses(compiled(), X, LABELS, sample_weight=weights, validation_split=chosen)
    expected = losses(
        compiled(),
        X[first],
        LABELS[first],
        sample_weight=weights[first],
        validation_data=(X[last], LABELS[last], weights[last]),
    )
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.slow
def test_the_last_ones_are_those_of_a_fraction():
    found = losses(compiled(), X, LABELS, validation_split=split(0.3, shuffle=False))
    expected = losses(compiled(), X, LABELS, validation_split=0.3)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("chosen", [0.2, split(0.2, stratify=True)])
def test_fit_splits_streams_that_are_made_by_index(chosen):
    stream = Batches(50, lambda i: (X[i], LABELS[i]), 10, targets=LABELS)
    model = compiled()
    found = losses(model, stream, validation_split=chosen)
    assert int(model.optimizer.iterations) == 8
    assert len(found[1]) == 2
    with pytest.raises(ValueError, match="is made by index, but x is a generator; pass validation"):
        compiled().fit(iter(stream), validation_split=chosen, verbose=0)


@pytest.mark.slow
def test_models_with_a_step_of_their_own_take_splits_too():
    seen = []

    class Own(fnn.Model):
        def __init__(self):
            super().__init__()
            self.dense = fnn.layers.Dense(1)

        def call(self, x):
            return self.dense(x)

        def train_step(self, state, data):
            seen.append(data[0].shape)
            return {"loss": data[0].mean()}, state

    model = Own()
    model.compile("sgd", "mse")
    history = model.fit(X, LABELS, validation_split=split(0.4), batch_size=30, verbose=0).history
    assert seen[-1] == (30, 3)
    expected = X[split(0.4).indices(50)[0]].mean()
    np.testing.assert_allclose(history["loss"], [expected], rtol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: split(0), "the fraction of examples in the second part, .* received 0"),
        (lambda: split(1.5), "between 0 and 1, received 1.5"),
        (lambda: split(0.2, groups=[1], time=[1]), "one of stratify, groups and time, received gr"),
        (lambda: split(0.01).indices(1), "examples on both sides, received 1 examples"),
        (lambda: split(0.2, stratify=True)(X), "labels for stratify=True, received data without"),
        (lambda: split(0.2, stratify=X[:, 0])(X), "two examples of each class .* one of 50 of 50"),
        (lambda: split(0.2, groups=[1] * 50)(X), "groups with at least two different values"),
        (lambda: split(0.2, time=[1] * 50)(X), "time with at least two different values"),
        (lambda: split(0.2, groups=[1, 2])(X), "groups for each of 50 examples, received 2"),
        (lambda: split(0.2)(X, LABELS[1:]), r"arrays of one length, received lengths \[49, 50\]"),
    ],
)
def test_errors_say_what_to_do(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.slow
def test_fit_splits_sparse_matrices_and_arrays_on_disk(tmp_path):
    X.tofile(tmp_path / "x.bin")
    on_disk = np.memmap(tmp_path / "x.bin", "float32", "r+", shape=X.shape)
    chosen = split(0.3, stratify=True)
    expected = losses(compiled(), X, LABELS, validation_split=chosen)
    for x in (on_disk, sparse.csr_matrix(X)):
        found = losses(compiled(), x, LABELS, validation_split=chosen)
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    first, last = chosen.indices(50, LABELS)
    for number in (first[7], last[3]):
        on_disk[number, 1] = np.nan
        with pytest.raises(ValueError, match=rf"(?s)NaN.*\b{number}\b"):
            losses(compiled(), on_disk, LABELS, validation_split=chosen)
        on_disk[number, 1] = 0
