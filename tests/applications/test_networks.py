"""Networks of fnn.applications: equal outputs and gradients as Keras's with the same weights."""

import keras
import pytest

from fnn.applications import efficientnet, efficientnet_v2
from fnn.layers import depthwise
from tests.generate.applications import NETWORKS
from tests.helpers.applications import assert_equals_keras
from tests.helpers.small_networks import OURS, blocks_of_keras, fused_of_keras

# Gradients of these are compared in `make thorough`; their layers are those of other networks here.
OUTPUTS_ALONE = {"VGG16", "NASNetSmall", "ResNetSmallV2", "EfficientNetBSmall"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["VGG16", *OURS])
def test_a_small_network_of_each_family_equals_keras(name, monkeypatch):
    if name == "NASNetSmall":
        # Kernels as up to 49 products each are long to trace and to compile.
        monkeypatch.setattr(depthwise, "FEW_OFFSETS", 0)
    assert_equals_keras(name, gradients=name not in OUTPUTS_ALONE)


def test_the_blocks_of_efficientnets_are_those_of_keras():
    known = keras.src.applications
    assert [*blocks_of_keras(efficientnet.BLOCKS)] == known.efficientnet.DEFAULT_BLOCKS_ARGS
    tables = {"b0": (efficientnet_v2.BASE, 32), "s": (efficientnet_v2.SMALL, 24)}
    tables |= {"m": (efficientnet_v2.MEDIUM, 24), "l": (efficientnet_v2.LARGE, 32)}
    for size, given in tables.items():
        expected = known.efficientnet_v2.DEFAULT_BLOCKS_ARGS[f"efficientnetv2-{size}"]
        assert [*fused_of_keras(*given)] == expected


@pytest.mark.slow
def test_mobilenet_equals_keras():
    assert_equals_keras("MobileNet", gradients=False, alpha=0.25)


@pytest.mark.thorough
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_equals_keras(name):
    assert_equals_keras(name)
