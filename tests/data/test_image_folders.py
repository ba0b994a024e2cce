"""Image folders: pixels as Keras reads them, labels, unreadable files, splits, fit."""

import os
import threading

import keras
import numpy as np
import pytest

import fnn
from fnn.data import image_folder, split
from fnn.utils import image_dataset_from_directory, save_img, text_dataset_from_directory
from tests.helpers.oracle import keras_rules

RNG = np.random.default_rng(0)
COUNTS = {"ants": 4, "bees": 6, "cats": 3}


def write_images(folder, ending=".png"):
    for name, count in COUNTS.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = RNG.integers(0, 256, (5 + number, 9 - number, 3))
            save_img(folder / name / f"{number}{ending}", pixels, scale=False)
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("images"))


@pytest.fixture
def spoiled(tmp_path):
    """One file holds no image, another half of one."""
    folder = write_images(tmp_path / "images")
    (folder / "bees" / "1.png").write_bytes(b"no image")
    path = folder / "cats" / "2.png"
    path.write_bytes(path.read_bytes()[:70])
    return folder


MODES = [
    ("int", np.repeat([0, 1, 2], [4, 6, 3]).astype("int32")),
    ("categorical", np.eye(3, dtype="float32")[np.repeat([0, 1, 2], [4, 6, 3])]),
    (None, None),
]


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "expected"), MODES)
def test_images_and_labels_are_those_of_keras(images, mode, expected):
    stream = image_folder(images, (6, 4), label_mode=mode, batch_size=5, shuffle=False)
    with keras_rules():
        theirs = keras.utils.image_dataset_from_directory(
            images,
            label_mode=mode,
            image_size=(6, 4),
            batch_size=5,
            shuffle=False,
            verbose=False,
            format="grain",
        )
        wanted = list(theirs)
    assert len(stream) == 3
    for found, other in zip(stream, wanted, strict=True):
        pairs = [(found, other)] if mode is None else zip(found, other, strict=True)
        for one, two in pairs:
            assert one.dtype == np.asarray(two).dtype
            np.testing.assert_allclose(one, np.asarray(two), atol=1e-3)
    if mode is not None:
        np.testing.assert_array_equal(stream.targets, expected)
    assert stream.class_names == list(COUNTS)


def test_every_pass_has_an_order_of_its_own(images):
    stream = image_folder(images, 2, batch_size=4, seed=3)
    passes = [np.concatenate([x for x, _ in stream]) for _ in range(2)]
    assert not np.array_equal(*passes)
    sums = [np.sort(found.sum(axis=(1, 2, 3))) for found in passes]
    np.testing.assert_array_equal(*sums)


def test_files_are_read_by_threads_when_they_are_due(images, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    stream = image_folder(images, 2, batch_size=2, shuffle=False)
    seen = []
    read = stream.read

    def noted(path):
        seen.append((path, threading.get_ident()))
        return read(path)

    stream.read = noted
    assert not seen
    batches = iter(stream)
    next(batches)
    assert 2 <= len(seen) < 13, "the others are not due"
    assert threading.get_ident() not in {thread for _, thread in seen}
    assert len(list(batches)) == 6
    assert sorted(path for path, _ in seen) == stream.file_paths


def test_an_unreadable_image_is_named(spoiled):
    with pytest.raises(ValueError, match=r"bees/1\.png cannot be read: .*repair or remove"):
        list(image_folder(spoiled, 2, shuffle=False))
    stream = image_dataset_from_directory(spoiled, image_size=2, shuffle=False, verbose=False)
    with pytest.raises(ValueError, match=r"bees/1\.png cannot be read"):
        list(stream)


def test_unreadable_images_are_left_out_with_a_warning(spoiled):
    stream = image_folder(spoiled, 2, batch_size=4, shuffle=False, unreadable="skip")
    assert len(stream) == 4
    with pytest.warns(UserWarning, match="cannot be read and is left out") as found:
        labels = [y.tolist() for _, y in stream]
    names = [str(warning.message).partition(" ")[0][-10:] for warning in found]
    assert names == ["bees/1.png", "cats/2.png"]
    assert labels == [[0, 0, 0, 0], [1, 1, 1, 1], [1, 2, 2]], "batches are full but the last"
    assert [len(y) for _, y in stream] == [4, 4, 3]
    assert (stream.count, len(stream)) == (11, 3)
    assert [path[-10:] for path in stream.file_paths].count("bees/1.png") == 0


@pytest.mark.slow
def test_fit_goes_on_without_unreadable_images(spoiled):
    stream = image_folder(spoiled, 4, batch_size=4, seed=0, unreadable="skip")
    model = fnn.Sequential(
        [fnn.Input((4, 4, 3)), fnn.layers.Flatten(), fnn.layers.Dense(3, "softmax")]
    )
    model.compile("sgd", "sparse_categorical_crossentropy")
    with pytest.warns(UserWarning, match="cannot be read and is left out"):
        model.fit(stream, epochs=3, verbose=0)
    assert int(model.optimizer.iterations) == 9


def test_a_folder_without_any_readable_image(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.png").write_bytes(b"no image")
    stream = image_folder(tmp_path, 2, unreadable="skip")
    with (
        pytest.warns(UserWarning, match="left out"),
        pytest.raises(ValueError, match="files that can be read, received 1 that cannot"),
    ):
        list(stream)


def test_folders_are_split_by_their_labels(images):
    stream = image_folder(images, 2, batch_size=3, seed=0)
    train, valid = split(0.3, stratify=True)(stream)
    assert not set(train.file_paths) & set(valid.file_paths)
    assert set(train.file_paths) | set(valid.file_paths) == set(stream.file_paths)
    labels = np.concatenate([y for _, y in valid])
    np.testing.assert_array_equal(labels, valid.targets)
    assert np.bincount(labels).tolist() == [1, 2, 1]
    assert train.class_names == valid.class_names == stream.class_names


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"unreadable": "ignore"}, 'unreadable as "raise" or "skip", received \'ignore\''),
        ({"image_size": (3,)}, r"image_folder: expected image_size as \(height, width\)"),
        ({"color_mode": "cmyk"}, "image_folder: expected color_mode among"),
        ({"label_mode": "binary"}, 'two classes for label_mode="binary"'),
        ({"class_names": ["dogs"]}, "class_names among the folders"),
    ],
)
def test_errors_say_what_to_do(images, arguments, message):
    with pytest.raises(ValueError, match=message):
        image_folder(images, **arguments)


def test_an_empty_folder(tmp_path):
    with pytest.raises(ValueError, match=r"files of the formats \.bmp, .* received none; with inf"):
        image_folder(tmp_path)
    (tmp_path / "a").mkdir()
    with pytest.raises(ValueError, match=r"received none"):
        image_dataset_from_directory(tmp_path, verbose=False)
    with pytest.raises(FileNotFoundError):
        image_folder(tmp_path / "none")


def test_a_text_that_is_no_unicode_is_named(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(ValueError, match=r"1\.txt cannot be read: .*codec can't decode"):
        list(text_dataset_from_directory(tmp_path, verbose=False))
