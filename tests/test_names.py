"""Keras's names: each is here, or stands in the README with the reason why not.

`python -m tests.test_names` prints the README's section of names, with `--write` it puts it there.
"""

import os
import sys
from pathlib import Path

os.environ["KERAS_BACKEND"] = "jax"

import pytest

import fnn
from tests.oracle import keras_rules

README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- names: begin -->", "<!-- names: end -->"
PARTS = {  # Keras's module -> where its names are here
    "layers": fnn.layers,
    "activations": fnn.activations,
    "initializers": fnn.initializers,
    "regularizers": fnn.regularizers,
    "constraints": fnn.constraints,
    "losses": fnn.losses,
    "metrics": fnn.metrics,
    "optimizers": fnn.optimizers,
    "optimizers.schedules": fnn.schedules,
    "callbacks": fnn.callbacks,
}
CONFIG = "one pair for all values: `fnn.core.config.to_config` and `from_config`"
FUNCTION = "the function of the loss: `fnn.losses` has it by the same name"
NOT_YET = "not written yet"
OTHERS = "wraps an object of another framework: here a class with `init` and `apply` is a layer"
REASONS = {
    "optimizers": {
        "MultiOptimizer": '`ByPath({"encoder/**": Adam(1e-4), "**": SGD()})`, by path',
        "OptimizerMap": "the dict that `ByPath` takes",
        "legacy": "what Keras keeps of its own past",
    },
    "callbacks": {
        "OrbaxCheckpoint": NOT_YET
        + ": `ModelCheckpoint`, `BackupAndRestore` write files of their own",
        "RemoteMonitor": "`JSONLogger` writes the same lines into a file, for any sender",
    },
    "layers": {
        "InputLayer": "`Input` is no layer here",
        "InputSpec": "a layer checks its inputs in `init`",
        "Wrapper": "no base class: a wrapper is a layer with a layer among its fields",
        "FlaxLayer": OTHERS,
        "JaxLayer": OTHERS,
        "TFSMLayer": OTHERS,
        "TorchModuleWrapper": OTHERS,
    },
}
for _part in PARTS:
    _own = REASONS.setdefault(_part, {})
    _own["serialize"] = _own["deserialize"] = CONFIG


def names(part):
    """The public names of one of Keras's modules."""
    with keras_rules():
        import keras

        module = keras
        for name in part.split("."):
            module = getattr(module, name)
        return [name for name in dir(module) if name[0] != "_"]


def reason(part, name):
    """Why a name is not here; None if nobody said."""
    known = REASONS[part].get(name)
    if known is None and part == "metrics" and hasattr(fnn.losses, name):
        return FUNCTION
    return known or (NOT_YET if part == "layers" else None)


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
        lines += [f"**`keras.{part}`**, {len(here)} of {len(here) + len(missing)} names in"]
        lines[-1] += f" `{module.__name__}`: {', '.join(here)}."
        if own(part):
            lines[-1] += f" Beyond Keras: {', '.join(own(part))}."
        lines += [""]
    lines += ["| not here | why |", "|---|---|"]
    groups = {}
    for part in PARTS:
        for name in split(part)[1]:
            groups.setdefault(reason(part, name), {}).setdefault(part, []).append(name)
    for why, missing in groups.items():
        shown = "; ".join(f"`{part}`: {', '.join(found)}" for part, found in missing.items())
        lines += [f"| {shown} | {why} |"]
    return "\n".join([*lines, ""])


@pytest.mark.parametrize("part", PARTS)
def test_every_name_is_here_or_has_a_reason(part):
    without = [name for name in split(part)[1] if not reason(part, name)]
    assert not without, f"keras.{part} has {without}: write them, or say in REASONS why not"


def test_second_names_are_of_the_same_classes():
    import keras

    for name in names("layers"):
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
