"""Datasets: small IDX files made here stand for the real ones; nothing touches the network."""

import builtins
import gzip
import hashlib
import os
import struct
from pathlib import Path

import numpy as np
import pytest

from fnn import datasets
from fnn.datasets import finding, idx_images
from fnn.datasets.idx_images import TEST, TRAIN

FILES = TRAIN + TEST
REAL = Path(os.environ.get("FNN_DATA") or Path(__file__).parents[3] / "shared" / "data")


def idx(array):
    """The bytes of an IDX file, written by the letter of its specification."""
    sizes = b"".join(struct.pack(">I", n) for n in array.shape)
    return bytes((0, 0, 8, array.ndim)) + sizes + array.astype("uint8").tobytes()


def images(count, start=0):
    return np.arange(start, start + count * 6).reshape(count, 2, 3) % 251


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """An empty FNN_DATA and an empty cache, and a source that has nothing."""
    monkeypatch.setenv("FNN_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("FNN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    serve(tmp_path / "nowhere", monkeypatch)
    return tmp_path / "data" / "mnist", tmp_path / "cache" / "mnist"


def serve(folder, monkeypatch, **wrong_sums):
    """A source on this disk instead of the network; its sums are those of the files there."""
    sums = {
        file: hashlib.sha256((folder / f"{file}.gz").read_bytes()).hexdigest()
        for file in FILES
        if (folder / f"{file}.gz").exists()
    }
    source = {
        file: finding.Remote(f"{file}.gz", f"file://{folder}/{file}.gz", sums.get(file, "0" * 64))
        for file in FILES
    }
    monkeypatch.setitem(idx_images.SOURCES, "mnist", source)


def write(folder, files, ending=".gz", count=10):
    folder.mkdir(parents=True, exist_ok=True)
    for number, file in enumerate(files):
        array = images(count, number) if "images" in file else np.arange(count)
        data = idx(array)
        (folder / (file + ending)).write_bytes(gzip.compress(data) if ending else data)


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("place", [0, 1])
def test_all_four_files_give_the_usual_sets(folders, place, ending):
    write(folders[place], FILES, ending)
    (x_train, y_train), (x_test, y_test) = datasets.mnist()
    np.testing.assert_array_equal(x_train, images(10, 0))
    np.testing.assert_array_equal(x_test, images(10, 2))
    np.testing.assert_array_equal(y_train, np.arange(10))
    np.testing.assert_array_equal(y_test, np.arange(10))
    assert x_train.dtype == y_train.dtype == np.uint8
    x_train[0] = 0  # writable, since users scale in place


def test_a_dataset_is_what_the_module_of_keras_is(folders):
    import keras

    from fnn.datasets import fashion_mnist, mnist

    write(folders[0], FILES)
    write(folders[0].parent / "fashion_mnist", FILES, count=4)
    modules = keras.datasets.mnist, keras.datasets.fashion_mnist
    for ours, theirs in zip((mnist, fashion_mnist), modules, strict=True):
        assert callable(theirs.load_data)
        for got, expected in zip(ours.load_data(), ours(), strict=True):
            np.testing.assert_array_equal(got[0], expected[0])
            np.testing.assert_array_equal(got[1], expected[1])
    assert len(mnist.load_data()[0][0]) == 10
    assert len(fashion_mnist.load_data()[0][0]) == 4


@pytest.mark.parametrize("ending", ["", "/"])
def test_the_folder_of_the_files_stands_for_its_parent(folders, monkeypatch, ending):
    write(folders[0], FILES)
    monkeypatch.setenv("FNN_DATA", f"{folders[0]}{ending}")
    np.testing.assert_array_equal(datasets.mnist()[0][0], images(10, 0))
    monkeypatch.chdir(folders[0])
    monkeypatch.setenv("FNN_DATA", ".")
    np.testing.assert_array_equal(datasets.mnist()[0][0], images(10, 0))
    with pytest.raises(FileNotFoundError):  # its files have the names of others, never their data
        datasets.fashion_mnist()
    write(folders[0] / "mnist", FILES, count=7)  # a parent of that name is a parent still
    assert len(datasets.mnist()[0][0]) == 7


def test_the_test_files_alone_are_split_four_to_one(folders):
    write(folders[0], TEST, count=20)
    write(folders[1], TRAIN)  # the cache does not change what FNN_DATA says
    (x_train, y_train), (x_test, y_test) = datasets.mnist()
    assert y_train.tolist() == list(range(16))
    assert y_test.tolist() == [16, 17, 18, 19]
    np.testing.assert_array_equal(np.concatenate([x_train, x_test]), images(20))


def test_missing_files_are_downloaded_once(folders, tmp_path, monkeypatch):
    write(tmp_path / "server", FILES)
    serve(tmp_path / "server", monkeypatch)
    first = datasets.mnist()
    assert sorted(p.name for p in folders[1].iterdir()) == sorted(f"{f}.gz" for f in FILES)
    (tmp_path / "plain").touch()
    usual = (tmp_path / "plain").stat().st_mode
    assert {p.stat().st_mode for p in folders[1].iterdir()} == {usual}  # others may read them
    serve(tmp_path / "nowhere", monkeypatch)
    np.testing.assert_array_equal(datasets.mnist()[0][0], first[0][0])


def test_offline_names_every_missing_file_and_where_to_put_it(folders):
    write(folders[1], TEST)
    with pytest.raises(FileNotFoundError) as caught:
        datasets.mnist()
    message = str(caught.value)
    assert all(f"{file}.gz" in message for file in TRAIN)
    assert not any(file in message for file in TEST)
    assert str(folders[1]) in message
    assert "FNN_DATA" in message


def test_a_file_without_a_sum_is_not_downloaded(folders, monkeypatch):
    unknown = {file: finding.Remote(f"{file}.gz", "file:///", "") for file in FILES}
    monkeypatch.setitem(idx_images.SOURCES, "mnist", unknown)
    with pytest.raises(FileNotFoundError, match="no checksum is known"):
        datasets.mnist()


def test_a_damaged_download_is_not_kept(folders, tmp_path, monkeypatch):
    write(tmp_path / "server", FILES)
    serve(tmp_path / "server", monkeypatch)
    (tmp_path / "server" / f"{FILES[0]}.gz").write_bytes(b"half a fi")
    with pytest.raises(
        ValueError, match=r"expected train-\S+ with sha256 \w{64}, received \w{64} in 9 bytes"
    ):
        datasets.mnist()
    assert list(folders[1].iterdir()) == []


def test_a_write_that_fails_leaves_nothing_behind(folders, tmp_path, monkeypatch):
    def fail(*paths):
        raise OSError("the disk is full")

    write(tmp_path / "server", FILES)
    serve(tmp_path / "server", monkeypatch)
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="the disk is full"):
        datasets.mnist()
    assert list(folders[1].iterdir()) == []


WHOLE = idx(images(10))
DAMAGED = {
    "empty": (b"", "received a start of nothing"),
    "text": (b"<html>not found", "an IDX file of unsigned bytes with 3 axes"),
    "labels": (idx(np.arange(10)), "starts with 00000803.*received a start of 00000801"),
    "floats": (b"\0\0\x0d\x03" + WHOLE[4:], "received a start of 00000d03"),
    "header": (WHOLE[:10], "a header of 16 bytes, received 10 bytes"),
    "short": (WHOLE[:-1], r"60 bytes after the header, for \(10, 2, 3\), received 59"),
    "long": (WHOLE + b"\0", "received 61"),
    "gzip": (gzip.compress(WHOLE)[:-12], "a complete gzip file"),
    "bits": (gzip.compress(WHOLE)[:-6] + b"\0" * 6, "a complete gzip file"),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_file_is_an_error_that_names_it(folders, kind):
    data, words = DAMAGED[kind]
    write(folders[0], FILES)
    (folders[0] / f"{TRAIN[0]}.gz").write_bytes(data)
    with pytest.raises(ValueError, match=f"(?s)train-images-idx3-ubyte.gz: expected.*{words}"):
        datasets.mnist()


def test_labels_must_be_as_many_as_images(folders):
    write(folders[0], FILES)
    write(folders[0], TRAIN[1:], count=9)
    with pytest.raises(ValueError, match=r"one label for each image, received 10 images .* 9 lab"):
        datasets.mnist()


def test_the_sources_are_https_with_sums_for_every_file():
    for source in idx_images.SOURCES.values():
        assert set(source) == set(FILES)
        for file, remote in source.items():
            assert remote.url.startswith("https://")
            assert remote.url.endswith(f"/{file}.gz")
            assert len(bytes.fromhex(remote.checksum)) == 32


@pytest.mark.parametrize(
    ("name", "shape", "dtype", "mean"),
    [
        ("digits", (1797, 8, 8), "int32", 4.8841),
        ("breast_cancer", (569, 30), "int32", 61.8907),
        ("diabetes", (442, 10), "float32", 0.0),
    ],
)
def test_scikit_learn_sets_are_split_without_loss(name, shape, dtype, mean):
    load = getattr(datasets, name)
    (x_train, y_train), (x_test, y_test) = load(test_split=0.25)
    x, y = np.concatenate([x_train, x_test]), np.concatenate([y_train, y_test])
    assert x.shape == shape
    assert len(x_test) == round(shape[0] / 4)
    assert (x.dtype, y.dtype) == ("float32", dtype)
    assert x.mean() == pytest.approx(mean, abs=1e-3)
    from sklearn import datasets as oracle

    ours, theirs = y.sum(), getattr(oracle, f"load_{name}")().target.sum()
    assert ours == pytest.approx(theirs)
    np.testing.assert_array_equal(load(0.25)[1][0], x_test)
    assert not np.array_equal(load(0.25, seed=1)[1][0], x_test)


def test_images_keep_their_labels():
    from sklearn.datasets import load_digits

    bunch = load_digits()
    known = {image.tobytes(): label for image, label in zip(bunch.data, bunch.target, strict=True)}
    _, (x, y) = datasets.digits()
    assert [known[image.astype("float64").tobytes()] for image in x] == y.tolist()


@pytest.mark.parametrize("share", [0, 1, -0.5])
def test_a_wrong_share_is_an_error(share):
    with pytest.raises(ValueError, match="expected test_split to be between 0 and 1"):
        datasets.digits(test_split=share)


def test_without_scikit_learn_the_error_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def without(name, *rest, **named):
        if name.partition(".")[0] == "sklearn":
            raise ImportError(f"No module named {name!r}")
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r'"scikit-learn", or pip install "\.\[datasets\]"'):
        datasets.digits()


@pytest.mark.skipif(not (REAL / "mnist").is_dir(), reason="the real MNIST files are not here")
def test_the_real_files_are_the_known_ones(monkeypatch, tmp_path):
    monkeypatch.setenv("FNN_DATA", str(REAL))
    monkeypatch.setenv("FNN_CACHE", str(tmp_path))
    sums = {file: remote.checksum for file, remote in idx_images.SOURCES["mnist"].items()}
    for file in (REAL / "mnist").glob("*.gz"):
        assert hashlib.sha256(file.read_bytes()).hexdigest() == sums[file.name[:-3]]
    (x_train, y_train), (x_test, y_test) = datasets.mnist()
    assert (len(x_train), len(x_test)) in ((8000, 2000), (60000, 10000))
    assert x_train.shape[1:] == x_test.shape[1:] == (28, 28)
    counts = np.bincount(np.concatenate([y_train, y_test]))
    assert len(counts) == 10
    if len(x_train) == 8000:  # the test file as published
        assert counts.tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
