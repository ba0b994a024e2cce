"""Networks of fnn.applications: equal outputs and gradients as Keras's with the same weights."""

import pytest

from fnn.layers import depthwise
from tests.generate.applications import NETWORKS
from tests.helpers.applications import assert_equals_keras
from tests.helpers.small_networks import OURS


@pytest.mark.slow
@pytest.mark.parametrize("name", ["VGG16", "MobileNetV3Small", *OURS])
def test_a_small_network_of_each_family_equals_keras(name, monkeypatch):
    if name == "NASNetSmall":
        # Kernels of 7 x 7 as 49 products each are three times as long to compile.
        monkeypatch.setattr(depthwise, "FEW_OFFSETS", 9)
    assert_equals_keras(name)


@pytest.mark.slow
def test_mobilenet_equals_keras():
    assert_equals_keras("MobileNet", alpha=0.25)


@pytest.mark.thorough
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_equals_keras(name):
    assert_equals_keras(name)
