"""Keras's names: each is here, or stands in the documentation with the reason why not."""

import re
import sys

import pytest

import fnn
from fnn.keras_names import MISSING_NAMES
from tests.generate.documents import ADVICE, shown
from tests.generate.names import PARTS, modules, names, reasons, section, split, summary
from tests.generate.names import shown as shown_name


@pytest.mark.parametrize("part", PARTS)
def test_every_name_is_here_or_has_a_reason(part):
    without = [name for name in split(part)[1] if name not in reasons(part)]
    assert not without, f"{part} has {without}: write them, or say in fnn/keras_names.py why not"


@pytest.mark.parametrize("module", MISSING_NAMES)
def test_a_name_that_is_not_here_says_what_takes_its_place(module):
    found = sys.modules[module]
    for name, why in MISSING_NAMES[module].items():
        assert name not in vars(found), f"{module}.{name} is here; take it out of MISSING_NAMES"
        with pytest.raises(AttributeError, match=rf"^{module}\.{name} is not available: ") as error:
            getattr(found, name)
        assert why in str(error.value)
    with pytest.raises(AttributeError, match=f"^module '{module}' has no attribute 'nothing'$"):
        found.nothing  # noqa: B018
    assert not hasattr(found, "__wrapped__")


def test_every_module_of_keras_is_in_the_table():
    """It is one of those whose names are listed, or it is a name that is not here."""
    left = set(modules()) - set(PARTS) - {f"keras.{name}" for name in reasons("keras")}
    assert not left


def test_few_names_are_not_here():
    """Those of modules that are not here count, too."""
    shown_names = [shown_name(part, name) for part in PARTS for name in split(part)[1]]
    counts = [int((re.findall(r"\((\d+) names\)", name) or [1])[0]) for name in shown_names]
    assert sum(counts) <= 30, shown_names


def test_what_takes_the_place_of_a_name_is_there():
    """Every `fnn.a.b` among the reasons."""
    for absent in MISSING_NAMES.values():
        for path in re.findall(r"`fnn\.([a-zA-Z_.]+)", " ".join(absent.values())):
            found = fnn
            for name in path.split("."):
                found = getattr(found, name)


@pytest.mark.parametrize("module", MISSING_NAMES)
def test_an_import_of_a_name_that_is_not_here_gives_the_same_advice(module):
    for name, why in MISSING_NAMES[module].items():
        with pytest.raises(ImportError, match=rf"^{module}\.{name} is not available: ") as error:
            exec(f"from {module} import {name}")
        assert why in str(error.value)
        assert not isinstance(error.value, AttributeError)
    with pytest.raises(ImportError, match=f"^cannot import name 'nothing' from '{module}'"):
        exec(f"from {module} import nothing")


@pytest.mark.parametrize(
    ("name", "suggested"), [("layers.Dens", "Did you mean: 'Dense'?"), ("SymbolicScope", None)]
)
def test_python_suggests_names_for_typing_errors_alone(name, suggested, capsys):
    with pytest.raises(AttributeError) as error:
        exec(f"fnn.{name}")
    sys.__excepthook__(error.type, error.value, error.tb)  # as Python prints it at the end
    printed = capsys.readouterr().err
    assert "AttributeError: " in printed
    assert (suggested or "is not available: ") in printed
    assert ("Did you mean" in printed) == bool(suggested)


def test_second_names_are_of_the_same_classes():
    import keras

    for name in names("keras.layers"):
        first = getattr(getattr(keras.layers, name), "__name__", name)
        if first != name and hasattr(keras.layers, first):
            assert getattr(fnn.layers, name) is getattr(fnn.layers, first), name


def test_the_documentation_lists_the_names():
    assert shown("names") == section(), ADVICE
    assert shown("keras") == summary(), ADVICE
