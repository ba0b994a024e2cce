"""Arguments of networks that do not fit together, and files of weights."""

import hashlib
import inspect
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

import fnn
from fnn.applications.application import Parts, application
from fnn.applications.published import published
from fnn.layers import Conv2D, Dense
from tests.helpers.applications import ours, pair, without_drawing
from tests.helpers.oracle import keras_rules, weights_unset

WRONG = [
    ({"pooling": "mean"}, "expected pooling to be None"),
    ({"weights": "imagenet", "classes": 10}, "expected classes to be 1000"),
    ({"weights": "nowhere.h5"}, "expected weights to be None, .*; no such file is there"),
    ({"weights": 3}, "expected weights to be None, .* received weights=3"),
    ({"weights": b"nowhere.h5"}, "expected weights to be None, "),
    ({"weights": "imagenet", "classifier_activation": "relu"}, "expected classifier_activation"),
    ({"weights": "imagenet", "input_shape": (64, 64, 3)}, r"to be \(224, 224, 3\)"),
    (
        {"weights": "imagenet", "input_shape": (64, 64, 1), "include_top": False},
        "to have 3 channels",
    ),
    ({"input_shape": (31, 64, 3)}, "to have at least 32 x 32 pixels"),
    ({"input_shape": (64, 64)}, "to have three numbers"),
    ({"input_shape": (None, None, 3)}, "without None with include_top=True"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG, ids=str)
def test_arguments_that_do_not_fit_are_refused_as_in_keras(arguments, message):
    arguments = {"weights": None, **arguments}
    with pytest.raises(ValueError, match=f"ResNet50: .*{message}"):
        fnn.applications.ResNet50(**arguments)
    # Keras ignores another pooling, and looks at the activation when all else is made.
    if not {"pooling", "classifier_activation"} & set(arguments):
        # A number is a file that may be open: it is read once the network is made.
        with weights_unset(), pytest.raises(ValueError):  # noqa: PT011 - Keras's message is its own
            keras.applications.ResNet50(**arguments)


def test_a_number_is_no_input_shape():
    with pytest.raises(ValueError, match=r"ResNet50: .*to be like \(224, 224, 3\), received .*=64"):
        fnn.applications.ResNet50(weights=None, input_shape=64)


def test_weights_that_keras_publishes_without_a_checksum_are_taken_with_a_warning(tiny, tmp_path):
    """A copy in Keras's cache is taken without one, as the user put it there."""
    _, first, file, remote = tiny
    facts = published("Tiny", "tiny", "tiny", size=32)
    assert facts.with_top.checksum is None
    facts = facts._replace(with_top=remote._replace(checksum=None))
    network = application(facts, Parts(Conv2D(4, 3, strides=16, name="conv")), __name__)
    with pytest.warns(UserWarning, match=f"{remote.name} is published without a checksum, so only"):
        assert_same(network(), first)
    assert_same(network(), first)  # from the cache of fnn
    folder = tmp_path / "keras" / "models"
    folder.mkdir(parents=True)
    file.rename(folder / remote.name)
    (tmp_path / "cache" / "models" / remote.name).unlink()
    assert_same(network(), first)


def test_keras_publishes_no_checksums_of_the_first_two_mobilenets_alone():
    """All others are known; where Keras adds one, it is to be taken over."""
    folder = Path(keras.src.applications.__file__).parent
    for name in ("mobilenet", "mobilenet_v2"):
        source = (folder / f"{name}.py").read_text()
        assert "get_file(" in source
        assert "hash" not in source


def test_an_array_is_no_input_tensor():
    with pytest.raises(TypeError, match="ResNet50: expected input_tensor to be a node"):
        fnn.applications.ResNet50(weights=None, input_tensor=np.ones((1, 32, 32, 3)))


def test_channels_come_last_where_keras_wants_it():
    fnn.config.set_image_data_format("channels_first")
    try:
        with pytest.raises(ValueError, match="DenseNet121: expected the data format"):
            fnn.applications.DenseNet121(weights=None)
    finally:
        fnn.config.set_image_data_format("channels_last")


def test_unusual_channels_are_warned_of():
    with without_drawing(), pytest.warns(UserWarning, match="1 or 3 channels as a rule, these"):
        fnn.applications.VGG16(weights=None, include_top=False, input_shape=(32, 32, 5))


def test_a_network_begins_at_a_node():
    start = fnn.Input((200, 200, 4), name="start")
    x = Conv2D(3, 2, strides=2, name="before")(start)
    with without_drawing():
        model = fnn.applications.VGG16(weights=None, include_top=False, input_tensor=x)
    assert [layer.name for layer in model.layers][:3] == ["start", "before", "block1_conv1"]
    assert model.input_shape == (None, 200, 200, 4)  # one input, not a list of one, as in Keras
    assert model.output_shape == (None, 3, 3, 512)


def test_positional_arguments_are_in_keras_order():
    names = list(inspect.signature(keras.applications.VGG16).parameters)
    assert names[:3] == ["include_top", "weights", "input_tensor"]
    with without_drawing():
        model = fnn.applications.VGG16(False, None, None, (32, 32, 3), "avg", name="mine")
    assert (model.name, model.output_shape) == ("mine", (None, 512))
    with pytest.raises(TypeError, match=r"VGG16: .*'topless'; its arguments are include_top, w"):
        fnn.applications.VGG16(topless=True)


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A network whose file of weights lies in a folder, its own weights, and the file."""
    monkeypatch.setenv("FNN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    parts = Parts(Conv2D(4, 3, strides=16, name="conv"))
    facts = published("Tiny", "tiny", "tiny", size=32)
    first = application(facts, parts, __name__)(weights=None)
    file = tmp_path / "published.safetensors"
    first.save_weights(file)
    checksum = hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest()
    remote = facts.with_top._replace(url=f"file://{file}", checksum=checksum)
    return application(facts._replace(with_top=remote), parts, __name__), first, file, remote


def assert_same(model, expected):
    for found, wanted in zip(model.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_a_path_is_loaded(tiny):
    network, first, file, _ = tiny
    assert_same(network(weights=file), first)
    assert_same(network(weights=str(file), classifier_activation=None), first)


def test_published_weights_are_downloaded_once(tiny):
    network, first, file, _ = tiny
    assert_same(network(), first)
    file.unlink()
    assert_same(network(), first)


def test_published_weights_in_the_cache_of_keras_are_used(tiny, tmp_path):
    network, first, file, remote = tiny
    folder = tmp_path / "keras" / "models"
    folder.mkdir(parents=True)
    file.rename(folder / remote.name)
    assert_same(network(), first)
    assert not (tmp_path / "cache").exists()


def test_a_file_with_another_checksum_is_not_used(tiny, tmp_path):
    network, _, file, remote = tiny
    folder = tmp_path / "keras" / "models"
    folder.mkdir(parents=True)
    (folder / remote.name).write_bytes(file.read_bytes()[:-1])
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(ValueError, match="md5"):
        network()
    assert not list((tmp_path / "cache").rglob("*.h5"))


def test_a_file_that_is_nowhere_says_where_to_put_it(tiny):
    network, _, file, remote = tiny
    file.unlink()
    with pytest.raises(FileNotFoundError, match=f"{remote.name} .*cannot be read.* No such file"):
        network()


def test_weights_that_do_not_fit_leave_no_model(tiny):
    network, _, file, _ = tiny
    with pytest.raises(ValueError, match="predictions"):
        network(weights=file, classes=7)


# The files of Keras, of networks whose layers have names of their own and of others.
def keras_files(theirs, folder):
    """A file of weights of Keras 3, and one as the published ones are."""
    new, old = folder / "new.weights.h5", folder / "old.h5"
    with keras_rules(), h5py.File(old, "w") as file:
        theirs.save_weights(new)
        keras.src.legacy.saving.legacy_h5_format.save_weights_to_hdf5_group(file, theirs)
    return new, old


def check_files(name, folder, **arguments):
    mine, theirs = pair(name, **arguments)
    for file in keras_files(theirs, folder):
        with without_drawing():
            loaded = ours(name, weights=file, **arguments)
        assert_same(loaded, mine)


@pytest.mark.slow
def test_files_of_keras_are_read(tmp_path):
    check_files("DenseNetSmall", tmp_path, include_top=False)


@pytest.mark.thorough
@pytest.mark.parametrize(
    "name",
    [
        *(
            "VGG16",
            "DenseNet121",
            "ResNet50",
            "ResNet50V2",
            "InceptionV3",
            "InceptionResNetV2",
            "Xception",
        ),
        *("MobileNet", "MobileNetV2", "MobileNetV3Small", "MobileNetV3Large", "NASNetMobile"),
        *("EfficientNetB0", "EfficientNetV2B0", "ConvNeXtTiny"),
    ],
)
def test_files_of_keras_of_each_family_are_read(name, tmp_path):
    check_files(name, tmp_path)


@pytest.mark.slow
def test_a_network_is_trained_on_other_classes():
    """The features frozen, as Keras's guides do it."""
    with without_drawing():
        base = fnn.applications.VGG16(weights=None, include_top=False, input_shape=(32, 32, 3))
        base.trainable = False
        x = fnn.Input((32, 32, 3))
        model = fnn.Model(x, Dense(2)(fnn.layers.Flatten()(base(x, training=False))))
        assert len(model.trainable_weights) == 2
        assert len(model.weights) == 28
