"""Keras's names: each is here, or stands in the README with the reason why not.

`python -m tests.test_names` prints the README's section of names, with `--write` it puts it there.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

os.environ["KERAS_BACKEND"] = "jax"

import pytest

import fnn
from fnn.keras_names import ABSENT
from tests.oracle import keras_rules

README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- names: begin -->", "<!-- names: end -->"
PARTS = {  # Keras's module -> where its names are here
    "keras": fnn,
    "keras.layers": fnn.layers,
    "keras.activations": fnn.activations,
    "keras.initializers": fnn.initializers,
    "keras.regularizers": fnn.regularizers,
    "keras.constraints": fnn.constraints,
    "keras.losses": fnn.losses,
    "keras.metrics": fnn.metrics,
    "keras.optimizers": fnn.optimizers,
    "keras.optimizers.schedules": fnn.schedules,
    "keras.callbacks": fnn.callbacks,
    "keras.models": fnn.models,
    "keras.saving": fnn.saving,
    "keras.datasets": fnn.datasets,
    "keras.distribution": fnn.distribution,
    "keras.utils": fnn.utils,
    "keras.ops": fnn.ops,
    "keras.ops.image": fnn.ops.image,
    "keras.ops.linalg": fnn.ops.linalg,
    "keras.ops.nn": fnn.ops.nn,
    "keras.ops.numpy": fnn.ops.numpy,
    "keras.random": fnn.random,
}


def names(part):
    """The public names of one of Keras's modules."""
    with keras_rules():
        import keras

        module = keras
        for name in part.split(".")[1:]:
            module = getattr(module, name)
        return [name for name in dir(module) if name[0] != "_" and name != "src"]


def reasons(part):
    """Names that are not here -> why, or what takes their place."""
    return ABSENT[PARTS[part].__name__]


def split(part):
    """(names that are here, names that are not)."""
    found = names(part)
    here = [name for name in found if hasattr(PARTS[part], name)]
    return here, [name for name in found if name not in here]


def own(part):
    """What this module has and Keras's has not."""
    known = set(names(part))
    return [name for name in getattr(PARTS[part], "__all__", []) if name not in known]


def section():
    """The README's section of names."""
    lines = ["", "## Names of Keras", ""]
    for part, module in PARTS.items():
        here, missing = split(part)
        lines += [f"**`{part}`**, {len(here)} of {len(here) + len(missing)} names in"]
        lines[-1] += f" `{module.__name__}`{': ' if here else ''}{', '.join(here)}."
        if own(part):
            lines[-1] += f" Beyond Keras: {', '.join(own(part))}."
        lines += [""]
    lines += ["| not here | why |", "|---|---|"]
    groups = {}
    for part in PARTS:
        for name in split(part)[1]:
            where = groups.setdefault(reasons(part)[name], {})
            where.setdefault(part.removeprefix("keras."), []).append(name)
    for why, missing in groups.items():
        shown = "; ".join(f"`{part}`: {', '.join(found)}" for part, found in missing.items())
        lines += [f"| {shown} | {why} |"]
    return "\n".join([*lines, ""])


@pytest.mark.parametrize("part", PARTS)
def test_every_name_is_here_or_has_a_reason(part):
    without = [name for name in split(part)[1] if name not in reasons(part)]
    assert not without, f"{part} has {without}: write them, or say in fnn/keras_names.py why not"


@pytest.mark.parametrize("module", ABSENT)
def test_a_name_that_is_not_here_says_what_takes_its_place(module):
    found = sys.modules[module]
    for name, why in ABSENT[module].items():
        assert name not in vars(found), f"{module}.{name} is here; take it out of ABSENT"
        with pytest.raises(AttributeError, match=rf"^{module}\.{name} is not here: ") as error:
            getattr(found, name)
        assert why in str(error.value)
    with pytest.raises(AttributeError, match=f"^module '{module}' has no attribute 'nothing'$"):
        found.nothing  # noqa: B018
    assert not hasattr(found, "__wrapped__")


def test_what_takes_the_place_of_a_name_is_there():
    """Every `fnn.a.b` among the reasons."""
    for names in ABSENT.values():
        for path in re.findall(r"`fnn\.([a-zA-Z_.]+)", " ".join(names.values())):
            found = fnn
            for name in path.split("."):
                found = getattr(found, name)


@pytest.mark.parametrize(
    ("name", "suggested"), [("layers.Dens", "Did you mean: 'Dense'?"), ("applications", None)]
)
def test_python_suggests_names_for_typing_errors_alone(name, suggested):
    run = subprocess.run(
        [sys.executable, "-c", f"import fnn; fnn.{name}"],
        capture_output=True, text=True, cwd=README.parent,
    )  # fmt: skip
    assert "AttributeError: " in run.stderr
    assert (suggested or "is not here: ") in run.stderr
    assert ("Did you mean" in run.stderr) == bool(suggested)


def test_second_names_are_of_the_same_classes():
    import keras

    for name in names("keras.layers"):
        first = getattr(getattr(keras.layers, name), "__name__", name)
        if first != name and hasattr(keras.layers, first):
            assert getattr(fnn.layers, name) is getattr(fnn.layers, first), name


def test_the_readme_lists_the_names():
    text = README.read_text()
    shown = text.partition(BEGIN)[2].partition(END)[0]
    assert shown == section() + "\n", "run python -m tests.test_names --write"


def write():
    """Puts the section into the README, before its last section if it has none yet."""
    text = README.read_text()
    if BEGIN not in text:
        head, mark, tail = text.rpartition("\n## License")
        text = f"{head}\n{BEGIN}\n{END}\n{mark}{tail}"
    head, _, rest = text.partition(BEGIN)
    README.write_text(f"{head}{BEGIN}{section()}\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    write() if "--write" in sys.argv else print(section())
