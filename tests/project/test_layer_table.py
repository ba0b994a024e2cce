"""The README's table of layers is that of the layers and the catalogue."""

import pytest

from tests.generate.layer_table import classes, oracle, section
from tests.generate.readme import ADVICE, shown

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("cls", classes(), ids=lambda cls: cls.__name__)
def test_every_layer_has_an_oracle(cls):
    assert oracle(cls), f"{cls.__name__}: say in ORACLES what its numbers are compared with"


def test_the_readme_shows_the_layers():
    assert shown("layers") == section(), ADVICE
