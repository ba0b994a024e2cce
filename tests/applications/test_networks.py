"""Networks of fnn.applications: equal outputs and gradients as Keras's with the same weights."""

import pytest

from tests.generate.applications import NETWORKS
from tests.helpers.applications import assert_equals_keras
from tests.helpers.small_networks import OURS


@pytest.mark.slow
@pytest.mark.parametrize("name", ["VGG16", "MobileNetV3Small", *OURS])
def test_a_small_network_of_each_family_equals_keras(name):
    assert_equals_keras(name)


@pytest.mark.slow
def test_mobilenet_equals_keras():
    assert_equals_keras("MobileNet", alpha=0.25)


@pytest.mark.thorough
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_equals_keras(name):
    assert_equals_keras(name)
