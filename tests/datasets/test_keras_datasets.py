"""Datasets that Keras has: small files in their formats, read by both libraries."""

import hashlib
import inspect
import tarfile
from pathlib import Path

import keras
import numpy as np
import pytest
from keras.src.datasets.cifar import load_batch

import fnn
from fnn import datasets
from fnn.datasets import cifar, housing, words
from fnn.datasets.finding import Remote, file_of
from tests.helpers import dataset_files

NAMES = ["boston_housing", "california_housing", "cifar10", "cifar100", "imdb", "reuters"]
FILES = {
    "boston_housing": [housing.BOSTON],
    "california_housing": [housing.CALIFORNIA],
    "imdb": [words.IMDB, words.IMDB_WORDS],
    "reuters": [words.REUTERS, words.REUTERS_WORDS],
    "cifar10": [cifar.CIFAR10],
    "cifar100": [cifar.CIFAR100],
}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    dataset_files.write_all(folder)
    return folder


@pytest.fixture
def data(written, tmp_path, monkeypatch):
    """The files of both libraries; neither reaches the network."""
    monkeypatch.setenv("FNN_DATA", str(written))
    monkeypatch.setenv("FNN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    for name in NAMES:
        module = getattr(keras.src.datasets, name)

        def get_file(fname, extract=False, *, folder=written / name, **rest):
            return str(folder if extract else folder / fname)

        monkeypatch.setattr(module, "get_file", get_file)
    return written


CALLS = [
    ("boston_housing", {}),
    ("boston_housing", {"test_split": 0.0, "seed": 3}),
    ("boston_housing", {"test_split": 0.55}),
    ("california_housing", {}),
    ("california_housing", {"version": "small", "test_split": 0.3, "seed": 1}),
    ("cifar100", {}),
    ("cifar100", {"label_mode": "coarse"}),
    ("imdb", {}),
    ("imdb", {"num_words": 30_000, "skip_top": 5000}),
    ("imdb", {"maxlen": 6, "seed": 7}),
    ("imdb", {"start_char": None, "oov_char": None, "num_words": 40_000}),
    ("imdb", {"start_char": None, "index_from": 0}),
    ("reuters", {}),
    ("reuters", {"num_words": 30_000, "skip_top": 5000, "test_split": 0.4}),
    ("reuters", {"maxlen": 6, "seed": 7, "oov_char": 0}),
    ("reuters", {"start_char": None, "index_from": 0, "oov_char": None}),
]


@pytest.mark.parametrize(("name", "arguments"), CALLS, ids=str)
def test_the_same_numbers_from_the_same_file(data, name, arguments):
    ours = getattr(datasets, name).load_data(**arguments)
    theirs = getattr(keras.datasets, name).load_data(**arguments)
    for found, expected in zip(ours, theirs, strict=True):
        for part, wanted in zip(found, expected, strict=True):
            assert type(part) is type(wanted)
            assert part.shape == wanted.shape
            assert part.dtype == wanted.dtype
            assert part.tolist() == wanted.tolist()


def test_the_batches_of_cifar10_are_those_of_keras(data):
    """Keras itself takes files of 10,000 images only."""
    (x, y), (x_test, y_test) = datasets.cifar10.load_data()
    assert x.dtype == x_test.dtype == y.dtype == y_test.dtype == np.uint8
    folder = data / "cifar10" / "cifar-10-batches-py"
    parts = [load_batch(folder / f"data_batch_{n}") for n in range(1, 6)]
    expected = np.concatenate([images for images, _ in parts]).transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(x, expected)
    np.testing.assert_array_equal(y[:, 0], [n for _, labels in parts for n in labels])
    images, labels = load_batch(folder / "test_batch")
    np.testing.assert_array_equal(x_test, images.transpose(0, 2, 3, 1))
    np.testing.assert_array_equal(y_test[:, 0], labels)


@pytest.mark.parametrize("name", NAMES)
def test_arguments_are_those_of_keras(name):
    ours = inspect.signature(getattr(datasets, name))
    theirs = inspect.signature(getattr(keras.datasets, name).load_data)
    expected = {n: p.default for n, p in theirs.parameters.items() if n != "kwargs"}
    assert {n: p.default for n, p in ours.parameters.items()} == expected


def test_words_and_topics_are_those_of_keras(data):
    for name in ("imdb", "reuters"):
        ours = getattr(datasets, name).get_word_index()
        assert ours == getattr(keras.datasets, name).get_word_index()
    topics = keras.datasets.reuters.get_label_names()
    assert datasets.reuters.get_label_names() == topics


def test_channels_first_by_the_settings(data):
    last = datasets.cifar10()
    fnn.config.set_image_data_format("channels_first")
    try:
        first = datasets.cifar10()
    finally:
        fnn.config.set_image_data_format("channels_last")
    for (x, _), (y, _) in zip(first, last, strict=True):
        np.testing.assert_array_equal(x, y.transpose(0, 3, 1, 2))


def test_addresses_and_checksums_are_those_of_keras():
    folder = Path(keras.src.datasets.__file__).parent
    for name, remotes in FILES.items():
        source = (folder / f"{name}.py").read_text()
        for remote in remotes:
            assert remote.url.startswith("https://")
            assert remote.checksum in source
            assert remote.url in source or f'{{origin_folder}}{remote.name}"' in source


def put(folder, remote, monkeypatch, module, constant):
    """A file for a remote, whose checksum becomes that of this file."""
    checksum = hashlib.sha256((folder / remote.name).read_bytes()).hexdigest()
    changed = Remote(remote.name, f"file://{folder}/{remote.name}", checksum)
    monkeypatch.setattr(module, constant, changed)
    return changed


def test_the_cache_of_keras_is_read_where_the_file_is_the_right_one(data, tmp_path, monkeypatch):
    monkeypatch.setenv("FNN_DATA", str(tmp_path / "none"))
    of_keras = tmp_path / "keras" / "datasets"
    dataset_files.write_imdb(of_keras)
    with pytest.raises(FileNotFoundError, match="expected the files of imdb") as caught:
        monkeypatch.setattr(words, "IMDB", words.IMDB._replace(url="file:///nowhere"))
        datasets.imdb()  # the file has another checksum
    assert str(tmp_path / "cache" / "imdb") in str(caught.value)
    put(of_keras, words.IMDB, monkeypatch, words, "IMDB")
    found = datasets.imdb()
    (of_keras / "imdb.npz").rename(tmp_path / "mine.npz")
    again = datasets.imdb(path=str(tmp_path / "mine.npz"))
    assert again[0][0].tolist() == found[0][0].tolist()
    with pytest.raises(FileNotFoundError, match="leave the path out"):
        datasets.imdb(path=str(tmp_path / "other.npz"))


def test_keras_extracts_archives_into_its_cache(data, tmp_path, monkeypatch):
    expected = datasets.cifar100()
    monkeypatch.setenv("FNN_DATA", str(tmp_path / "none"))
    of_keras = tmp_path / "keras" / "datasets" / "cifar-100-python-target"
    of_keras.mkdir(parents=True)
    (of_keras / "cifar-100-python").symlink_to(data / "cifar100" / "cifar-100-python")
    np.testing.assert_array_equal(datasets.cifar100()[0][0], expected[0][0])


def test_files_are_downloaded_once_into_the_cache(data, tmp_path, monkeypatch):
    expected = datasets.cifar10()
    monkeypatch.setenv("FNN_DATA", str(tmp_path / "none"))
    server = tmp_path / "server"
    server.mkdir()
    with tarfile.open(server / "cifar-10-python.tar.gz", "w:gz") as archive:
        archive.add(data / "cifar10" / "cifar-10-batches-py", "cifar-10-batches-py")
    put(server, cifar.CIFAR10, monkeypatch, cifar, "CIFAR10")
    np.testing.assert_array_equal(datasets.cifar10()[0][0], expected[0][0])
    (server / "cifar-10-python.tar.gz").unlink()
    np.testing.assert_array_equal(datasets.cifar10()[1][1], expected[1][1])
    dataset_files.write_housing(server, "boston_housing", 13)
    put(server, housing.BOSTON, monkeypatch, housing, "BOSTON")
    first = datasets.boston_housing()
    (server / "boston_housing.npz").unlink()
    np.testing.assert_array_equal(datasets.boston_housing()[0][0], first[0][0])


def test_offline_the_error_says_what_to_put_where(data, tmp_path, monkeypatch):
    monkeypatch.setenv("FNN_DATA", str(tmp_path / "none"))
    gone = cifar.CIFAR10._replace(url="http://localhost:1/cifar-10-python.tar.gz")
    monkeypatch.setattr(cifar, "CIFAR10", gone)
    with pytest.raises(FileNotFoundError) as caught:
        datasets.cifar10()
    message = str(caught.value)
    assert "cifar-10-python.tar.gz (http://localhost:1/" in message
    assert f"put them into {tmp_path / 'cache' / 'cifar10'}" in message
    # The advice works: also for the extracted folder in FNN_DATA.
    (tmp_path / "none" / "cifar10").mkdir(parents=True)
    extracted = tmp_path / "none" / "cifar10" / "cifar-10-batches-py"
    extracted.symlink_to(data / "cifar10" / "cifar-10-batches-py")
    assert datasets.cifar10()[0][0].shape == (15, 32, 32, 3)


def test_mnist_is_read_from_the_cache_of_keras(tmp_path, monkeypatch):
    from fnn.datasets import idx_images

    monkeypatch.delenv("FNN_DATA", raising=False)
    monkeypatch.setenv("FNN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    (tmp_path / "datasets").mkdir()
    path = tmp_path / "datasets" / "mnist.npz"
    arrays = {name: np.arange(4, dtype="uint8") + i for i, name in enumerate(idx_images.NAMES)}
    np.savez(path, **arrays)
    monkeypatch.setattr(idx_images, "NPZ", hashlib.sha256(path.read_bytes()).hexdigest())
    (x_train, y_train), (_, y_test) = datasets.mnist.load_data()
    assert (x_train[0], y_train[0], y_test[0]) == (0, 1, 3)
    assert datasets.mnist(path=str(path))[1][0][0] == 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: datasets.cifar100("medium"),
            'expected label_mode as "fine" or "coarse"',
        ),
        (lambda: datasets.california_housing("huge"), 'expected version as "small" or "large"'),
        (lambda: datasets.boston_housing(test_split=1), "expected test_split from 0 up to 1"),
        (lambda: datasets.reuters(test_split=-0.1), "expected test_split from 0 up to 1"),
        (lambda: datasets.imdb(maxlen=2), r"imdb: expected a maxlen above .* the shortest has 3"),
    ],
)
def test_errors_say_what_to_do(data, call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_damaged_file_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("FNN_DATA", str(tmp_path))
    dataset_files.write_cifar10(tmp_path / "cifar10")
    path = tmp_path / "cifar10" / "cifar-10-batches-py" / "test_batch"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"test_batch: expected images and labels of CIFAR: it en"):
        datasets.cifar10()
    (tmp_path / "imdb").mkdir()
    (tmp_path / "imdb" / "imdb.npz").write_bytes(b"no archive")
    with pytest.raises(ValueError, match=r"imdb\.npz: expected the arrays x_train"):
        datasets.imdb()
    assert file_of("imdb", words.IMDB, "imdb.npz").name == "imdb.npz"
