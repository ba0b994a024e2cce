"""Networks of fnn.applications have Keras's arguments, layers and weights."""

import ast
import doctest
import inspect
from pathlib import Path
from types import ModuleType

import keras
import pytest

import fnn
from tests.generate.applications import FILE, NETWORKS, row, text
from tests.helpers.applications import ours, without_drawing

ROWS = {line.split()[0]: line for line in FILE.read_text().splitlines()}
MODULES = [
    name for name, found in vars(keras.applications).items() if isinstance(found, ModuleType)
]
FEATURES = {  # channels without classifier
    "VGG16": 512,
    "ResNet50": 2048,
    "ResNet50V2": 2048,
    "DenseNet121": 1024,
    "InceptionV3": 2048,
    "InceptionResNetV2": 1536,
    "Xception": 2048,
    "MobileNet": 1024,
    "MobileNetV2": 1280,
    "MobileNetV3Small": 576,
    "EfficientNetB0": 1280,
    "EfficientNetV2B0": 1280,
    "ConvNeXtTiny": 768,
}


def test_the_networks_are_those_of_keras():
    theirs = {name for name, found in vars(keras.applications).items() if callable(found)}
    assert set(NETWORKS) == theirs
    assert len(theirs) == 40


# Modules that no network has to itself.
SHARED = {"application", "blocks", "branches", "checksums", "heads", "imagenet_utils"}
SHARED |= {"__init__", "keras_arguments", "keras_layers", "published"}


def test_the_networks_take_few_lines():
    """Lines with code, imports included: neither blank nor of a comment or a docstring alone."""
    paths = Path(fnn.applications.__file__).parent.glob("*.py")
    lines = {path.stem: code_lines(path.read_text()) for path in paths if path.stem not in SHARED}
    assert sum(lines.values()) <= 1200, lines


def code_lines(text):
    strings = [
        node
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    ]
    without = {line for node in strings for line in range(node.lineno, node.end_lineno + 1)}
    lines = [line.strip() for line in text.splitlines()]
    return sum(
        bool(line) and line[0] != "#" and number not in without
        for number, line in enumerate(lines, 1)
    )


@pytest.mark.parametrize("name", NETWORKS)
def test_arguments_and_defaults_are_those_of_keras(name):
    found = inspect.signature(getattr(fnn.applications, name)).parameters.values()
    expected = inspect.signature(getattr(keras.applications, name)).parameters.values()
    assert [(p.name, p.default) for p in found] == [(p.name, p.default) for p in expected]


@pytest.mark.parametrize("module", MODULES)
def test_modules_have_the_names_of_keras(module):
    expected = {name for name in vars(getattr(keras.applications, module)) if name[0] != "_"}
    found = getattr(fnn.applications, module)
    # Keras has no names of networks in its mobilenet_v3.
    assert expected <= set(found.__all__)
    for name in expected:
        one = getattr(found, name)
        assert one.__name__ == name
        assert one.__doc__


SMALLEST = ["VGG16", "ResNet50", "MobileNet", "MobileNetV3Small", "ConvNeXtTiny", "Xception"]


def sample(names):
    """The smallest in `make test`, all in `make thorough`: others take long to build."""
    marks = {name: () if name in SMALLEST else pytest.mark.thorough for name in names}
    return [pytest.param(name, marks=mark) for name, mark in marks.items()]


@pytest.mark.slow
@pytest.mark.parametrize("name", sample(NETWORKS))
def test_layers_and_weights_are_those_of_keras(name):
    """By names and shapes in order, as recorded from Keras."""
    with without_drawing():
        assert row(name, ours(name)) == ROWS[name]


# The others have examples of their own, which run as all do.
SHOWS_SIZE = sorted(set(NETWORKS) - {"MobileNet", "MobileNetV2"})


@pytest.mark.parametrize("name", SHOWS_SIZE)
def test_the_example_of_a_network_shows_its_size_in_keras(name):
    """Its call is the one of the test above, which takes long for most of them."""
    [example] = doctest.DocTestParser().get_examples(getattr(fnn.applications, name).__doc__)
    assert example.source == f"fnn.applications.{name}(weights=None).count_params()\n"
    assert example.want.strip() == ROWS[name].split()[3]


@pytest.mark.thorough
def test_the_record_is_that_of_keras_now():
    assert text() == FILE.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("name", sample(FEATURES))
@pytest.mark.filterwarnings("ignore:.*images have 1 or 3 channels")
def test_sizes_and_channels_of_images_may_be_others(name):
    with without_drawing():
        model = ours(name, include_top=False, input_shape=(None, None, 4), pooling="max")
    assert model.input_shape == (None, None, None, 4)
    shapes = [layer.output.shape for layer in model.layers]
    assert [shape for shape in shapes if len(shape) == 4][-1] == (None, None, None, FEATURES[name])
    assert model.output_shape == (None, FEATURES[name])  # pooling gives one vector an image


FIRST = ["VGG16", "ResNet50V2", "InceptionV3", "Xception"]
FIRST += ["MobileNet", "MobileNetV2", "MobileNetV3Small", "EfficientNetB0", "EfficientNetV2B0"]


@pytest.mark.slow
@pytest.mark.parametrize("name", sample(FIRST))
def test_channels_may_come_first(name):
    fnn.config.set_image_data_format("channels_first")
    try:
        with without_drawing():
            model = ours(name, include_top=False, input_shape=(3, 123, 123))
    finally:
        fnn.config.set_image_data_format("channels_last")
    assert model.output_shape[:2] == (None, FEATURES[name])
