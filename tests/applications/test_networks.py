"""Networks of fnn.applications: equal outputs and gradients as Keras's with the same weights."""

import pytest

from tests.helpers.applications import assert_equals_keras

SMALLEST = [
    "VGG16",
    "ResNet50",
    "ResNet50V2",
    "Xception",
    "MobileNet",
    "MobileNetV2",
    "MobileNetV3Small",
    "EfficientNetB0",
    "EfficientNetV2B0",
    "ConvNeXtTiny",
]
LARGER = [
    "VGG19",
    "ResNet101",
    "ResNet152",
    "ResNet101V2",
    "ResNet152V2",
    "DenseNet121",
    "DenseNet169",
    "DenseNet201",
    "InceptionV3",
    "InceptionResNetV2",
    "MobileNetV3Large",
    "NASNetMobile",
    "NASNetLarge",
    *[f"EfficientNetB{number}" for number in range(1, 8)],
    *[f"EfficientNetV2{size}" for size in ("B1", "B2", "B3", "S", "M", "L")],
    *[f"ConvNeXt{size}" for size in ("Small", "Base", "Large", "XLarge")],
]


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALLEST)
def test_a_network_equals_keras(name):
    assert_equals_keras(name)


@pytest.mark.thorough
@pytest.mark.parametrize("name", LARGER)
def test_a_larger_network_equals_keras(name):
    assert_equals_keras(name)
