"""Folders of files: the files, labels and parts that Keras finds, and what is read from them."""

import wave

import keras
import numpy as np
import pytest
from keras.src.utils.dataset_utils import get_training_or_validation_split, index_directory

import fnn
from fnn.data.sounds import read_sound
from fnn.utils import (
    audio_dataset_from_directory,
    image_dataset_from_directory,
    img_to_array,
    load_img,
    save_img,
    text_dataset_from_directory,
)
from tests.helpers.oracle import keras_rules

FORMATS = (".bmp", ".gif", ".jpeg", ".jpg", ".png")
NAMES = ["ants/1.png", "ants/deep/0.bmp", "ants/2.PNG", "bees/b.png", "bees/a.png", "bees/c.gif"]
NAMES += ["cats/1.png", "cats/notes.md", ".hidden/1.png"]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for name in NAMES:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".md":
            path.write_text("no image")
        else:
            save_img(path, rng.integers(0, 256, (5, 7, 3)), scale=False)
    return str(folder)


def read_all(stream):
    """The labels of a stream, by the order of its files."""
    return np.concatenate([batch[1] for batch in stream])


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("labels", ["inferred", None, [0, 1, 2, 1, 0, 2, 1, 2]])
def test_files_and_labels_are_those_of_keras(images, shuffle, labels, capsys):
    stream = image_dataset_from_directory(
        images, labels, shuffle=shuffle, seed=4, image_size=(3, 3)
    )
    ours = capsys.readouterr().out
    given = labels if labels is None else list(labels) if labels != "inferred" else labels
    paths, numbers, names = index_directory(images, given, FORMATS, shuffle=shuffle, seed=4)
    assert ours == capsys.readouterr().out
    assert stream.file_paths == paths
    assert stream.class_names == names
    stream.seed = None  # in the order of the files
    if labels is None:
        assert np.concatenate(list(stream)).shape == (8, 3, 3, 3)
    else:
        np.testing.assert_array_equal(read_all(stream), numbers)


@pytest.mark.parametrize("subset", ["training", "validation", "both"])
def test_parts_are_those_of_keras(images, subset, capsys):
    arguments = {"validation_split": 0.4, "subset": subset, "seed": 1, "verbose": False}
    streams = image_dataset_from_directory(images, image_size=2, **arguments)
    printed = capsys.readouterr().out
    paths, labels, _ = index_directory(images, "inferred", FORMATS, seed=1, verbose=False)
    names = ["training", "validation"] if subset == "both" else [subset]
    if subset != "both":
        streams = [streams]
    for name, stream in zip(names, streams, strict=True):
        expected = get_training_or_validation_split(paths, labels, 0.4, name)
        assert stream.file_paths == expected[0]
        stream.seed = None
        np.testing.assert_array_equal(read_all(stream), expected[1])
    assert printed == capsys.readouterr().out


def test_class_names_choose_and_order_the_folders(images):
    stream = image_dataset_from_directory(
        images, class_names=["cats", "ants"], shuffle=False, image_size=(2, 2), verbose=False
    )
    assert stream.class_names == ["cats", "ants"]
    np.testing.assert_array_equal(read_all(stream), [0, 1, 1, 1])


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("int", np.array([0, 0, 0, 1, 1, 1], "int32")),
        ("binary", np.array([[0], [0], [0], [1], [1], [1]], "float32")),
        ("categorical", np.eye(2, dtype="float32")[[0, 0, 0, 1, 1, 1]]),
    ],
)
def test_modes_of_labels(images, mode, expected):
    stream = image_dataset_from_directory(
        images,
        label_mode=mode,
        class_names=["ants", "bees"],
        shuffle=False,
        image_size=(2, 2),
        verbose=False,
    )
    found = read_all(stream)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("data_format", [None, "channels_first"])
@pytest.mark.parametrize(
    ("color_mode", "arguments"),
    [
        ("rgb", {}),
        ("rgb", {"interpolation": "lanczos3"}),
        ("grayscale", {"interpolation": "bicubic"}),
        ("rgba", {"crop_to_aspect_ratio": True}),
        ("rgb", {"pad_to_aspect_ratio": True, "interpolation": "nearest"}),
    ],
)
def test_images_are_those_of_keras(images, color_mode, arguments, data_format):
    stream = image_dataset_from_directory(
        images,
        label_mode=None,
        color_mode=color_mode,
        image_size=(4, 9),
        batch_size=3,
        shuffle=False,
        data_format=data_format,
        verbose=False,
        **arguments,
    )
    batches = list(stream)
    assert [len(batch) for batch in batches] == [3, 3, 2]
    for path, found in zip(stream.file_paths, np.concatenate(batches), strict=True):
        with keras_rules():
            image = img_to_array(load_img(path, color_mode))
            expected = np.array(keras.ops.image.resize(image, (4, 9), **arguments))
        if data_format:
            expected = expected.transpose(2, 0, 1)
        np.testing.assert_allclose(found, expected, atol=1e-3)


@pytest.mark.slow
def test_images_go_into_fit(images):
    train, valid = image_dataset_from_directory(
        images,
        image_size=(4, 4),
        batch_size=2,
        validation_split=0.25,
        subset="both",
        seed=0,
        verbose=False,
    )
    model = fnn.Sequential(
        [fnn.Input((4, 4, 3)), fnn.layers.Flatten(), fnn.layers.Dense(3, "softmax")]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    history = model.fit(train, validation_data=valid, epochs=2, verbose=0)
    assert sorted(history.history) == ["accuracy", "loss", "val_accuracy", "val_loss"]
    assert int(model.optimizer.iterations) == 6
    assert model.predict(valid, verbose=0).shape == (1, 3)


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    for name, text in (("bad/1", "dull"), ("bad/2", "a bore"), ("good/1", "größer")):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")
    return folder


def test_texts_are_arrays_of_strings(texts):
    stream = text_dataset_from_directory(
        texts, label_mode="binary", shuffle=False, batch_size=2, max_length=4, verbose=False
    )
    (first, labels), (last, _) = stream
    assert first.tolist() == ["dull", "a bo"]
    assert last.tolist() == ["größ"]
    assert labels.tolist() == [[0.0], [0.0]]
    singles = list(text_dataset_from_directory(texts, labels=None, batch_size=None, verbose=False))
    assert sorted(singles) == ["a bore", "dull", "größer"]


@pytest.mark.parametrize("mode", ["int", "categorical", None])
def test_texts_are_those_of_keras(texts, mode):
    arguments = {"label_mode": mode, "shuffle": False, "max_length": 5, "verbose": False}
    with keras_rules():
        theirs = list(keras.utils.text_dataset_from_directory(texts, format="grain", **arguments))
    (found,) = text_dataset_from_directory(texts, **arguments)
    (expected,) = theirs
    if mode is None:
        assert found.tolist() == list(expected)
        return
    assert found[0].tolist() == list(expected[0])
    np.testing.assert_array_equal(found[1], np.asarray(expected[1]))


def write_wave(path, samples, width=2, rate=8000):
    """Writes integers (samples, channels) of so many bytes."""
    numbers = np.asarray(samples, "<i4")
    numbers = numbers + 128 if width == 1 else numbers
    data = numbers.astype("<i4")[..., None].view(np.uint8)[..., :width]
    with wave.open(str(path), "wb") as file:
        file.setparams((numbers.shape[1], width, rate, 0, "NONE", ""))
        file.writeframes(data.tobytes())


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_sounds_of_every_width(width, tmp_path):
    most = 2 ** (8 * width - 1)
    samples = [[0, most // 2], [-most, most - 1], [most // 4, -1]]
    write_wave(tmp_path / "a.wav", samples, width, rate=11025)
    sound, rate = read_sound(str(tmp_path / "a.wav"))
    assert rate == 11025
    assert sound.dtype == np.float32
    np.testing.assert_allclose(sound, np.array(samples) / most, atol=1e-7)


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sounds")
    for name, length in (("no/1", 3), ("no/2", 6), ("yes/1", 4)):
        (folder / name).parent.mkdir(exist_ok=True)
        write_wave(folder / f"{name}.wav", np.full((length, 2), 16384))
    return folder


@pytest.mark.parametrize(("length", "expected"), [(None, 6), (4, 4), (8, 8)])
def test_sounds_are_cut_and_padded(sounds, length, expected):
    stream = audio_dataset_from_directory(
        sounds, output_sequence_length=length, shuffle=False, verbose=False
    )
    ((found, labels),) = stream
    assert found.shape == (3, expected, 2)
    assert labels.tolist() == [0, 0, 1]
    for sound, own in zip(found, (3, 6, 4), strict=True):
        np.testing.assert_array_equal(sound[:own], 0.5)
        np.testing.assert_array_equal(sound[own:], 0)


@pytest.mark.parametrize("length", [None, 4])
@pytest.mark.parametrize("batch_size", [2, None])
def test_sounds_are_those_of_keras(sounds, length, batch_size):
    arguments = {"output_sequence_length": length, "batch_size": batch_size}
    arguments |= {"shuffle": False, "verbose": False}
    theirs = keras.utils.audio_dataset_from_directory(sounds, **arguments)
    ours = audio_dataset_from_directory(sounds, **arguments)
    for found, expected in zip(ours, theirs, strict=True):
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one, other.numpy())


def test_sounds_of_other_formats(tmp_path):
    soundfile = pytest.importorskip("soundfile")
    tone = np.sin(np.arange(50) / 4)[:, None] * 0.5
    for number, subtype in enumerate(["FLOAT", "DOUBLE", "PCM_24", "ULAW"]):
        soundfile.write(tmp_path / f"{number}.wav", tone, 8000, subtype)
    (found,) = audio_dataset_from_directory(tmp_path, labels=None, shuffle=False, verbose=False)
    assert found.dtype == np.float32
    for sound, tolerance in zip(found, (1e-7, 1e-7, 1e-6, 0.02), strict=True):
        np.testing.assert_allclose(sound, tone, atol=tolerance)


def test_sounds_are_resampled(tmp_path):
    (tmp_path / "tone").mkdir()
    time = np.arange(800)[:, None] / 8000
    tone = np.sin(2 * np.pi * 200 * time)
    write_wave(tmp_path / "tone" / "1.wav", np.round(tone * 20000))
    ((found, _),) = audio_dataset_from_directory(tmp_path, sampling_rate=4000, verbose=False)
    assert found.shape == (1, 400, 1)
    inner = slice(20, 380)  # without the ends, where the filter lacks samples
    np.testing.assert_allclose(found[0, inner], tone[::2][inner] * 20000 / 32768, atol=0.01)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"labels": [1, 2]}, "a list of 8 integers, one for each file"),
        ({"labels": None, "class_names": ["ants"]}, 'class_names with labels="inferred" alone'),
        ({"class_names": ["dogs"]}, r"among the folders \['ants', 'bees', 'cats'\]"),
        ({"label_mode": "binary"}, r'two classes for label_mode="binary", received \[\'ants'),
        ({"label_mode": "one-hot"}, 'label_mode as "int", "categorical"'),
        ({"color_mode": "cmyk"}, "image_dataset_from_directory: expected color_mode among"),
        ({"interpolation": "box"}, "interpolation among nearest, area"),
        ({"crop_to_aspect_ratio": True, "pad_to_aspect_ratio": True}, "or pad_to.*received both"),
        ({"subset": "test"}, 'subset as "training", "validation" or "both"'),
        ({"subset": "training"}, "validation_split and subset together"),
        ({"subset": "training", "validation_split": 1.5}, "between 0 and 1, received 1.5"),
        ({"subset": "training", "validation_split": 0.5}, "expected a seed for shuffled files"),
        (
            {"subset": "validation", "validation_split": 0.01, "seed": 0},
            "received none for the subset validation",
        ),
    ],
)
def test_errors_say_what_to_do(images, arguments, message):
    with pytest.raises(ValueError, match=message):
        image_dataset_from_directory(images, **arguments)


def test_sounds_that_cannot_be_read(sounds, tmp_path):
    with pytest.raises(ValueError, match="ragged=False, received True"):
        audio_dataset_from_directory(sounds, ragged=True)
    with pytest.raises(ValueError, match=r"sampling_rate as a positive integer, received 0\.5"):
        audio_dataset_from_directory(sounds, sampling_rate=0.5)
    (tmp_path / "a.wav").write_bytes(b"no sound at all")
    stream = audio_dataset_from_directory(tmp_path, labels=None, verbose=False)
    with pytest.raises(ValueError, match=r"a\.wav cannot be read: .*Format not recognised"):
        list(stream)
    with pytest.raises(ValueError, match=r"files of the formats \.txt in .*received none"):
        text_dataset_from_directory(sounds)
