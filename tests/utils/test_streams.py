"""Streams: PyDataset in fit as in Keras, windows of series, splits."""

import inspect
import itertools
import os
import threading
import time

import keras
import numpy as np
import pytest
from keras.src.utils.dataset_utils import _rescale_dataset_split_sizes

import fnn
from fnn.data import Batches
from fnn.utils import PyDataset, Sequence, split_dataset, timeseries_dataset_from_array
from tests.helpers.from_processes import FromProcesses
from tests.helpers.oracle import keras_rules

RNG = np.random.default_rng(0)
X = RNG.normal(size=(10, 3)).astype("float32")
Y = (X @ [[1.0], [-2.0], [0.5]]).astype("float32")


class Rows(PyDataset):
    """Batches of 4 of the arrays above, the last of 2; it notes what it is asked for."""

    def __init__(self, targets=True, **kwargs):
        super().__init__(**kwargs)
        self.targets = targets
        self.asked = []
        self.epochs = [0, 0]

    def __len__(self):
        return 3

    def __getitem__(self, index):
        self.asked.append(index)
        rows = slice(4 * index, 4 * index + 4)
        return (X[rows], Y[rows]) if self.targets else X[rows]

    def on_epoch_begin(self):
        self.epochs[0] += 1

    def on_epoch_end(self):
        self.epochs[1] += 1


def network(k=fnn):
    model = k.Sequential([k.Input((3,)), k.layers.Dense(1)])
    model.compile(k.optimizers.SGD(0.05), "mse", metrics=["mae"])
    return model


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 3])
def test_fit_evaluate_and_predict_equal_those_of_keras(workers):
    with keras_rules():

        class OfKeras(keras.utils.PyDataset):
            __len__, __getitem__ = Rows.__len__, Rows.__getitem__
            targets = True

        theirs = network(keras)
        data = OfKeras()
        data.asked = []
        start = theirs.get_weights()
        history = theirs.fit(data, epochs=3, shuffle=False, verbose=0)
        expected = theirs.evaluate(data, verbose=0)
        outputs = theirs.predict(X, verbose=0)
    ours = network()
    ours.set_weights(start)
    data = Rows(workers=workers)
    found = ours.fit(data, epochs=3, shuffle=False, verbose=0)
    for name, values in history.history.items():
        np.testing.assert_allclose(found.history[name], values, rtol=1e-5)
    np.testing.assert_allclose(ours.evaluate(data, verbose=0), expected, rtol=1e-5)
    y = ours.predict(Rows(targets=False, workers=workers), verbose=0)
    np.testing.assert_allclose(y, outputs, rtol=1e-4, atol=1e-6)
    assert data.epochs == [4, 4], "begin and end of three epochs and an evaluation"


@pytest.mark.slow
def test_fit_reads_the_batches_in_a_new_order_each_epoch():
    orders = []
    for _ in range(2):
        model = fnn.Sequential([fnn.Input((3,)), fnn.layers.Dense(1)], seed=3)
        model.compile("sgd", "mse")
        data = Rows()
        model.fit(data, epochs=6, verbose=0)
        orders.append(data.asked)
        epochs = [tuple(data.asked[i : i + 3]) for i in range(0, 18, 3)]
        assert all(sorted(epoch) == [0, 1, 2] for epoch in epochs)
        assert len(set(epochs)) > 2
        assert epochs[0][0] == 0, "the first batch that comes is not the smaller last one"
    assert orders[0] == orders[1], "by the seed of the model"


@pytest.mark.slow
def test_a_dataset_without_end_needs_steps():
    class Endless(PyDataset):
        num_batches = None

        def __getitem__(self, index):
            return X[:4] + index, Y[:4]

    model = network()
    model.fit(Endless(), steps_per_epoch=5, epochs=2, verbose=0)
    assert int(model.optimizer.iterations) == 10
    firsts = [x[0, 0] for x, _ in itertools.islice(Endless(workers=2), 4)]
    np.testing.assert_allclose(firsts, X[0, 0] + np.arange(4))


def test_a_number_of_batches_may_be_a_property():
    class Counted(PyDataset):
        num_batches = 2

        def __getitem__(self, index):
            return X[:4], Y[:4]

    model = network()
    model.fit(Counted(), verbose=0)
    assert int(model.optimizer.iterations) == 2
    assert len(list(Counted())) == 2


def test_workers_make_batches_at_once_and_in_order():
    together, most = [0], [0]
    lock = threading.Lock()

    class Slow(PyDataset):
        def __len__(self):
            return 8

        def __getitem__(self, index):
            with lock:
                together[0] += 1
                most[0] = max(most[0], together[0])
            time.sleep(0.02 * (2 if index % 2 else 1))
            with lock:
                together[0] -= 1
            return index

    assert list(Slow(workers=4, max_queue_size=4)) == list(range(8))
    assert 2 <= most[0] <= 4


@pytest.mark.parametrize(("workers", "most"), [(2, 3), (3, 1)])
def test_no_more_batches_are_made_ahead_than_fit_the_queue(workers, most):
    made, taken, ahead = [], [0], []

    class Noting(PyDataset):
        def __len__(self):
            return 12

        def __getitem__(self, index):
            made.append(index)
            ahead.append(len(made) - taken[0])
            return index

    for index in Noting(workers=workers, max_queue_size=most):
        assert index == taken[0]
        taken[0] += 1
        time.sleep(0.01)
    assert 1 <= max(ahead) <= most + 1, "one of them is being taken"


@pytest.mark.slow
def test_workers_may_be_processes(tmp_path):
    ours, theirs = network(), network()
    theirs.set_weights(ours.get_weights())
    data = FromProcesses(tmp_path, X, Y, workers=2, use_multiprocessing=True, max_queue_size=4)
    losses = ours.fit(data, shuffle=False, verbose=0).history["loss"]
    expected = theirs.fit(X, Y, batch_size=2, shuffle=False, verbose=0).history["loss"]
    np.testing.assert_allclose(losses, expected, rtol=1e-6)
    made = sorted(path.name.split() for path in tmp_path.iterdir())
    assert [index for index, _ in made] == list("01234")
    processes = {pid for _, pid in made}
    assert len(processes) == 2
    assert str(os.getpid()) not in processes


def test_an_error_of_a_worker_is_raised_and_the_others_stop():
    class Failing(Rows):
        def __getitem__(self, index):
            if index == 1:
                raise KeyError("no such row")
            return super().__getitem__(index)

    with pytest.raises(KeyError, match="no such row"):
        network().fit(Failing(workers=2), shuffle=False, verbose=0)


def test_classes_that_lack_a_method_are_told_so():
    assert Sequence is PyDataset
    with pytest.raises(TypeError, match="PyDataset has neither __len__ nor the property num_bat"):
        list(PyDataset())
    with pytest.raises(TypeError, match="has no method __getitem__, which takes the number"):
        PyDataset()[0]

    class Forgetful(Rows):
        def __init__(self):  # without super().__init__()
            self.targets, self.asked, self.epochs = True, [], [0, 0]

    assert len(list(Forgetful())) == 3


# -- batches by index ----------------------------------------------------------------------------


def test_batches_start_again_in_a_new_order():
    batches = Batches(10, lambda i: (X[i], Y[i]), 4, seed=0)
    assert len(batches) == 3
    passes = [np.concatenate([y for _, y in batches])[:, 0] for _ in range(2)]
    assert not np.array_equal(*passes)
    for found in passes:
        np.testing.assert_array_equal(np.sort(found), np.sort(Y[:, 0]))
    again = Batches(10, lambda i: (X[i], Y[i]), 4, seed=0)
    np.testing.assert_array_equal(np.concatenate([y for _, y in again])[:, 0], passes[0])
    singles = list(Batches(10, lambda i: (X[i], Y[i]), None))
    np.testing.assert_array_equal(singles[3][0], X[3])
    with pytest.raises(ValueError, match="batch_size as a positive integer or None, received 0"):
        Batches(3, lambda i: i, 0)


SERIES = np.arange(30.0)


def windows_by_a_loop(data, targets, length, stride, rate, start, end):
    """As Keras's documentation says it."""
    found = []
    position = start
    while position + (length - 1) * rate < end and (targets is None or position < len(targets)):
        window = [data[position + i * rate] for i in range(length)]
        found.append(window if targets is None else (window, targets[position]))
        position += stride
    return found


@pytest.mark.parametrize("length", [1, 4])
@pytest.mark.parametrize(("stride", "rate"), [(1, 1), (3, 2), (5, 1)])
@pytest.mark.parametrize(("start", "end"), [(None, None), (4, 25), (None, 12), (10, None)])
@pytest.mark.parametrize("ahead", [None, 0, 6])
def test_windows_of_a_series_by_a_loop(length, stride, rate, start, end, ahead):
    targets = None if ahead is None else SERIES[ahead:] * 10
    stream = timeseries_dataset_from_array(
        SERIES, targets, length, stride, rate, batch_size=3, start_index=start, end_index=end
    )
    expected = windows_by_a_loop(
        SERIES, targets, length, stride, rate, start or 0, end or len(SERIES)
    )
    batches = list(stream)
    assert all(len(b[0] if targets is not None else b) == 3 for b in batches[:-1])
    if targets is None:
        np.testing.assert_array_equal(np.concatenate(batches), expected)
    else:
        x, y = (np.concatenate(parts) for parts in zip(*batches, strict=True))
        np.testing.assert_array_equal(x, [window for window, _ in expected])
        np.testing.assert_array_equal(y, [target for _, target in expected])


@pytest.mark.slow
def test_windows_go_into_fit():
    series = RNG.normal(size=(40, 2)).astype("float32")
    stream = timeseries_dataset_from_array(
        series[:-1], series[5:, :1], 5, batch_size=8, shuffle=True, seed=0
    )
    model = fnn.Sequential([fnn.Input((5, 2)), fnn.layers.Flatten(), fnn.layers.Dense(1)])
    model.compile("adam", "mse")
    model.fit(stream, epochs=2, verbose=0)
    assert int(model.optimizer.iterations) == 2 * len(stream) == 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"start_index": 30}, "start_index from 0 to 29 for a series of 30 steps, received 30"),
        ({"start_index": 5, "end_index": 5}, "end_index from 6 to 30 for a series"),
        ({"sequence_stride": 0}, "sequence_stride from 1 to 29"),
        ({"sampling_rate": 30}, "sampling_rate from 1 to 29"),
        ({"sequence_length": 40}, "room for sequence_length=40 and sampling_rate=1, received 30"),
    ],
)
def test_windows_that_do_not_fit(arguments, message):
    with pytest.raises(ValueError, match=message):
        timeseries_dataset_from_array(SERIES, None, **{"sequence_length": 3, **arguments})


@pytest.mark.parametrize(
    "name",
    [
        "image_dataset_from_directory",
        "text_dataset_from_directory",
        "audio_dataset_from_directory",
        "timeseries_dataset_from_array",
        "split_dataset",
        "load_img",
        "img_to_array",
        "array_to_img",
        "save_img",
    ],
)
def test_arguments_are_those_of_keras(name):
    ours = inspect.signature(getattr(fnn.utils, name)).parameters.values()
    theirs = inspect.signature(getattr(keras.utils, name)).parameters.values()
    assert [(p.name, p.default) for p in ours] == [(p.name, p.default) for p in theirs]


# -- splits --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("left", "right"),
    [(0.8, None), (None, 0.25), (7, None), (None, 3), (0.5, 0.2), (2, 0.3), (4, 5), (0.35, None)],
)
def test_sizes_of_parts_are_those_of_keras(left, right):
    expected = _rescale_dataset_split_sizes(left, right, 10)
    first, last = split_dataset(X, left, right)
    assert (len(first), len(last)) == expected
    np.testing.assert_array_equal(first, X[: expected[0]])
    np.testing.assert_array_equal(last, X[-expected[1] :])


def test_a_shuffled_split_has_keras_s_order():
    import random

    expected = list(range(10))
    random.seed(5)
    random.shuffle(expected)  # what Keras does with its list of samples
    (x, y), (x_last, _) = split_dataset((X, Y), 0.7, shuffle=True, seed=5)
    np.testing.assert_array_equal(x, X[expected[:7]])
    np.testing.assert_array_equal(y, Y[expected[:7]])
    np.testing.assert_array_equal(x_last, X[expected[7:]])


def test_structures_and_streams_are_split():
    left, right = split_dataset({"x": X, "y": Y}, right_size=2)
    assert {name: part.shape for name, part in right.items()} == {"x": (2, 3), "y": (2, 1)}
    x, y = split_dataset(Rows(), left_size=4)[0]
    np.testing.assert_array_equal(x, X[:4])
    np.testing.assert_array_equal(y, Y[:4])
    assert len(left["x"]) == 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((X,), "expected left_size, right_size or both"),
        ((X, 11), "on both sides of 10, received 11 and None"),
        ((X, 1.5), "received 1.5 and None"),
        ((X, 0.7, 0.7), "received 0.7 and 0.7"),
        (((X, Y[:3]), 0.5), r"arrays of one length, received lengths \[3, 10\]"),
        ((Batches(0, lambda i: i, 2), 0.5), "expected batches, received an empty stream"),
    ],
)
def test_splits_that_do_not_fit(arguments, message):
    with pytest.raises(ValueError, match=message):
        split_dataset(*arguments)


@pytest.mark.parametrize("shuffle", [False, True])
def test_parts_are_those_of_keras(shuffle):
    arguments = {"left_size": 0.6, "right_size": 0.3, "shuffle": shuffle, "seed": 5}
    ours = split_dataset((X, Y), **arguments)
    theirs = keras.utils.split_dataset((X, Y), **arguments)
    for found, expected in zip(ours, theirs, strict=True):
        rows = list(expected)
        np.testing.assert_array_equal(found[0], [x.numpy() for x, _ in rows])
        np.testing.assert_array_equal(found[1], [y.numpy() for _, y in rows])


def test_datasets_of_tensorflow_are_split_as_in_keras():
    import tensorflow as tf

    whole = tf.data.Dataset.from_tensor_slices((X, Y))
    for dataset in (whole, whole.batch(3)):
        left, _ = split_dataset(dataset, left_size=7)
        expected, _ = keras.utils.split_dataset(dataset, left_size=7)
        if dataset is not whole:
            expected = expected.unbatch()
        np.testing.assert_array_equal(left[0], [x.numpy() for x, _ in expected])


def test_datasets_of_single_examples_are_split():
    class Rows:  # as of PyTorch
        def __len__(self):
            return len(X)

        def __getitem__(self, index):
            return X[index], Y[index]

    left, right = split_dataset(Rows(), right_size=4)
    np.testing.assert_array_equal(left[0], X[:6])
    np.testing.assert_array_equal(right[1], Y[6:])
