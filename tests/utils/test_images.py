"""Images between files and arrays, against Keras live, and what is missing without Pillow."""

import builtins
import io

import keras
import numpy as np
import pytest
from keras.utils import array_to_img as keras_array_to_img
from keras.utils import img_to_array as keras_img_to_array
from keras.utils import load_img as keras_load_img

from fnn.data.resizing import INTERPOLATIONS, cropped_to_ratio, padded_to_ratio, resized
from fnn.utils import array_to_img, img_to_array, load_img, save_img
from tests.helpers.oracle import keras_rules

RNG = np.random.default_rng(0)


def pixels(channels=3, height=7, width=9):
    return RNG.integers(0, 256, (height, width, channels)).astype("float32")


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("color_mode", ["grayscale", "rgb", "rgba"])
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"target_size": (5, 4)},
        {"target_size": (12, 5), "interpolation": "bicubic", "keep_aspect_ratio": True},
    ],
)
def test_images_are_loaded_as_in_keras(channels, color_mode, arguments, tmp_path):
    path = tmp_path / "image.png"
    save_img(path, pixels(channels), scale=False)
    ours, theirs = (
        load(path, color_mode=color_mode, **arguments) for load in (load_img, keras_load_img)
    )
    assert (ours.mode, ours.size) == (theirs.mode, theirs.size)
    np.testing.assert_array_equal(img_to_array(ours), keras_img_to_array(theirs))
    for format in ("channels_first", "channels_last"):
        array = img_to_array(ours, format, "uint8")
        np.testing.assert_array_equal(array, keras_img_to_array(theirs, format, "uint8"))


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("data_format", ["channels_first", "channels_last"])
def test_arrays_become_images_as_in_keras(channels, scale, data_format):
    array = pixels(channels)
    if data_format == "channels_first":
        array = array.transpose(2, 0, 1)
    ours = array_to_img(array, data_format, scale)
    with keras_rules():
        theirs = keras_array_to_img(array, data_format, scale)
    assert ours.mode == theirs.mode
    np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))


def test_deep_gray_images_keep_their_depth(tmp_path):
    array = np.array([[[0.0], [70_000.0]]])
    image = array_to_img(array, scale=False)
    assert image.mode == "I"
    np.testing.assert_array_equal(img_to_array(image), array)


def test_formats_of_files(tmp_path):
    file = io.BytesIO()
    save_img(file, pixels(), file_format="jpg", quality=95)
    file.seek(0)
    assert load_img(file).size == (9, 7)
    with pytest.warns(UserWarning, match="JPEG has no transparency"):
        save_img(tmp_path / "image.jpg", pixels(4))
    assert load_img(tmp_path / "image.jpg", color_mode="rgba").mode == "RGBA"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: array_to_img(np.zeros((2, 3, 4, 3))),
            r"shape \(2, 3, 4, 3\); take one of a batch",
        ),
        (lambda: array_to_img(np.zeros((3, 4))), r"or add an axis, x\[\.\.\., None\]"),
        (lambda: img_to_array(np.zeros(3)), r"two or three axes, received shape \(3,\)"),
        (lambda: img_to_array(np.zeros((3, 3)), "last"), 'data_format as "channels_last" or'),
        (lambda: load_img("a.png", color_mode="cmyk"), "color_mode among grayscale, rgb, rgba"),
    ],
)
def test_errors_say_what_to_do(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_an_unknown_interpolation_of_pillow(tmp_path):
    save_img(tmp_path / "a.png", pixels())
    with pytest.raises(ValueError, match=r"interpolation among nearest, .*lanczos.*'area'"):
        load_img(tmp_path / "a.png", target_size=(3, 3), interpolation="area")


def test_without_pillow_the_error_says_how_to_install_it(monkeypatch):
    found = builtins.__import__

    def no_pillow(name, *rest):
        if name == "PIL":
            raise ImportError("No module named 'PIL'")
        return found(name, *rest)

    monkeypatch.setattr(builtins, "__import__", no_pillow)
    with pytest.raises(ImportError, match=r'needs pillow.*pip install "pillow"'):
        array_to_img(pixels())


SIZES = [((7, 9), (5, 5)), ((7, 9), (16, 12)), ((20, 13), (3, 20)), ((4, 4), (4, 4))]


@pytest.mark.slow
@pytest.mark.parametrize(
    "interpolation", ["nearest", "bilinear", "bicubic", "lanczos3", "lanczos5"]
)
def test_resized_images_are_those_of_keras(interpolation):
    for before, after in SIZES:
        image = pixels(2, *before)
        with keras_rules():
            expected = keras.ops.image.resize(image, after, interpolation)
        found = resized(image, after, interpolation)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "change"),
    [("crop_to_aspect_ratio", cropped_to_ratio), ("pad_to_aspect_ratio", padded_to_ratio)],
)
def test_aspect_ratios_are_kept_as_in_keras(name, change):
    for before, after in SIZES:
        image = pixels(2, *before)
        with keras_rules():
            expected = keras.ops.image.resize(image, after, **{name: True})
        found = resized(change(image, after), after, "bilinear")
        np.testing.assert_allclose(found, expected, atol=1e-3)


def test_area_is_the_mean_of_what_a_pixel_covers():
    image = pixels(2, 6, 8)
    found = resized(image, (3, 2), "area")
    np.testing.assert_allclose(found, image.reshape(3, 2, 2, 4, 2).mean((1, 3)), rtol=1e-5)
    uneven = resized(np.arange(3.0).reshape(1, 3, 1), (1, 2), "area")
    np.testing.assert_allclose(uneven[0, :, 0], [(0 + 0.5) / 1.5, (0.5 + 2) / 1.5], rtol=1e-5)


def mitchell(x):
    """The kernel of Mitchell and Netravali's paper for B = C = 1/3."""
    x = abs(x)
    if x < 1:
        return (7 * x**3 - 12 * x**2 + 16 / 3) / 6
    return (-7 / 3 * x**3 + 12 * x**2 - 20 * x + 32 / 3) / 6 if x < 2 else 0


def gaussian(x):
    return np.exp(-0.5 * (x / 0.5) ** 2) if abs(x) < 1.5 else 0


@pytest.mark.parametrize(
    ("interpolation", "kernel"), [("mitchellcubic", mitchell), ("gaussian", gaussian)]
)
def test_other_kernels_by_a_loop(interpolation, kernel):
    line = RNG.normal(size=7)
    found = resized(line.reshape(1, 7, 1), (1, 5), interpolation)[0, :, 0]
    for i in range(5):
        center = (i + 0.5) * 7 / 5 - 0.5
        weights = np.array([kernel(center - j) for j in range(7)])
        assert found[i] == pytest.approx(weights @ line / weights.sum(), abs=1e-5)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_a_constant_stays_constant(interpolation):
    np.testing.assert_allclose(resized(np.ones((5, 7, 1)), (9, 4), interpolation), 1, atol=1e-5)
