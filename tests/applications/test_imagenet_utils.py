"""Preprocessing of images and names of classes, compared with Keras."""

import hashlib
import json

import jax.numpy as jnp
import keras
import numpy as np
import pytest

import fnn
from fnn.applications import imagenet_utils
from tests.helpers.oracle import keras_rules

RNG = np.random.default_rng(0)
PIXELS = RNG.uniform(0, 255, (2, 3, 4, 3)).astype("float32")
MODULES = [
    name
    for name in fnn.applications.__all__
    if hasattr(getattr(keras.applications, name), "preprocess_input")
]


def theirs(function, x, **arguments):
    with keras_rules():
        return np.asarray(function(x.copy(), **arguments))


@pytest.mark.parametrize("mode", ["caffe", "tf", "torch"])
@pytest.mark.parametrize("data_format", [None, "channels_last", "channels_first"])
@pytest.mark.parametrize("batch", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8"])
def test_images_are_prepared_as_by_keras(mode, data_format, batch, dtype):
    x = PIXELS if batch else PIXELS[0]
    if data_format == "channels_first":
        x = np.moveaxis(x, -1, -3)
    x = x.astype(dtype)
    before = x.copy()
    arguments = {"data_format": data_format, "mode": mode}
    expected = theirs(keras.applications.imagenet_utils.preprocess_input, x, **arguments)
    found = imagenet_utils.preprocess_input(x, **arguments)
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-5)
    np.testing.assert_array_equal(x, before)
    on_device = imagenet_utils.preprocess_input(jnp.asarray(x, jnp.float32), **arguments)
    np.testing.assert_allclose(on_device, expected, rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize("mode", ["caffe", "tf", "torch"])
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_images_are_prepared_inside_a_graph(mode, dtype):
    x = fnn.Input((3, 4, 3), dtype=dtype)
    model = fnn.Model(x, imagenet_utils.preprocess_input(x, mode=mode))
    pixels = PIXELS.astype(dtype)
    expected = theirs(keras.applications.imagenet_utils.preprocess_input, pixels, mode=mode)
    np.testing.assert_allclose(model.predict(pixels, verbose=0), expected, rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize("module", MODULES)
def test_each_family_has_its_mode(module):
    expected = theirs(getattr(keras.applications, module).preprocess_input, PIXELS)
    found = getattr(fnn.applications, module).preprocess_input(PIXELS)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("x", [PIXELS[..., :1], PIXELS[0, 0], np.zeros(())])
def test_what_are_no_images_of_three_channels_is_refused(x):
    with pytest.raises(ValueError, match=r"expected one image or a batch.*received shape \("):
        imagenet_utils.preprocess_input(x)


@pytest.mark.parametrize("arguments", [{"mode": "RGB"}, {"data_format": "last"}])
def test_other_modes_and_formats_are_refused(arguments):
    with pytest.raises(ValueError, match=r"preprocess_input: expected .* received "):
        imagenet_utils.preprocess_input(PIXELS, **arguments)


@pytest.fixture
def class_index(tmp_path, monkeypatch):
    """A file of names in Keras's cache, which both libraries read."""
    names = {str(number): [f"n{number:08d}", f"thing_{number}"] for number in range(1000)}
    file = tmp_path / "models" / "imagenet_class_index.json"
    file.parent.mkdir()
    file.write_text(json.dumps(names))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setenv("FNN_CACHE", str(tmp_path / "fnn"))
    checksum = hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest()
    remote = imagenet_utils.CLASS_INDEX._replace(checksum=checksum, url="file:///nowhere")
    monkeypatch.setattr(imagenet_utils, "CLASS_INDEX", remote)
    monkeypatch.setattr(keras.src.applications.imagenet_utils, "CLASS_INDEX", names)
    return file


@pytest.mark.parametrize("top", [1, 5])
@pytest.mark.parametrize("kind", [np.asarray, jnp.asarray])
def test_predictions_are_decoded_as_by_keras(class_index, top, kind):
    preds = RNG.uniform(size=(3, 1000)).astype("float32")
    found = fnn.applications.resnet.decode_predictions(kind(preds), top=top)
    assert found == keras.applications.resnet.decode_predictions(preds, top=top)
    assert [len(example) for example in found] == [top] * 3


@pytest.mark.parametrize("shape", [(1000,), (2, 999), (2, 1000, 1)])
def test_predictions_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match="decode_predictions: expected predictions of shape"):
        imagenet_utils.decode_predictions(np.zeros(shape))


def test_another_file_of_names_is_not_read(class_index):
    class_index.write_text("{}")
    with pytest.raises(FileNotFoundError, match=r"imagenet_class_index\.json"):
        imagenet_utils.decode_predictions(np.zeros((1, 1000)))
