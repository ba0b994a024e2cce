"""The documentation's table of layers is that of the layers and the catalogue."""

import pytest

from tests.generate.documents import ADVICE, shown
from tests.generate.layer_table import classes, oracle, section

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("cls", classes(), ids=lambda cls: cls.__name__)
def test_every_layer_has_an_oracle(cls):
    assert oracle(cls), f"{cls.__name__}: say in ORACLES what its numbers are compared with"


def test_the_documentation_shows_the_layers():
    assert shown("layers") == section(), ADVICE
