"""The names of Keras and where they are here, for the documentation."""

import textwrap
from types import ModuleType

import fnn
from fnn.keras_names import MISSING_NAMES
from tests.helpers.oracle import keras_rules

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
    "keras.applications": fnn.applications,
    "keras.distribution": fnn.distribution,
    "keras.utils": fnn.utils,
    "keras.tree": fnn.tree,
    "keras.config": fnn.config,
    "keras.backend": fnn.backend,
    "keras.dtype_policies": fnn.dtype_policies,
    "keras.mixed_precision": fnn.mixed_precision,
    "keras.ops": fnn.ops,
    "keras.ops.image": fnn.ops.image,
    "keras.ops.linalg": fnn.ops.linalg,
    "keras.ops.nn": fnn.ops.nn,
    "keras.ops.numpy": fnn.ops.numpy,
    "keras.random": fnn.random,
    "keras.preprocessing": fnn.preprocessing,
    "keras.preprocessing.image": fnn.preprocessing.image,
    "keras.preprocessing.sequence": fnn.preprocessing.sequence,
    "keras.quantizers": fnn.quantizers,
    "keras.distillation": fnn.distillation,
    "keras.export": fnn.export,
    "keras.visualization": fnn.visualization,
    "keras.wrappers": fnn.wrappers,
}


def of_keras(part):
    """One of Keras's modules."""
    with keras_rules():
        import keras

        module = keras
        for name in part.split(".")[1:]:
            module = getattr(module, name)
        return module


def names(part):
    """The public names of one of Keras's modules."""
    with keras_rules():
        return [name for name in dir(of_keras(part)) if name[0] != "_" and name != "src"]


def modules():
    """The modules that Keras offers as attributes of itself, without its own old code."""
    found = vars(of_keras("keras")).items()
    return [
        f"keras.{name}"
        for name, thing in found
        if isinstance(thing, ModuleType) and name[0] != "_" and name not in ("src", "legacy")
    ]


def shown(part, name):
    """A name that is not here; of a module, how many names it has for users."""
    thing = getattr(of_keras(part), name)
    if not isinstance(thing, ModuleType) or name == "legacy":
        return name
    return f"{name} ({len(of_users(thing))} names)"


def of_users(module):
    """The public names of a module without the modules among them."""
    with keras_rules():
        found = [name for name in dir(module) if name[0] != "_"]
        return [name for name in found if not isinstance(getattr(module, name), ModuleType)]


def reasons(part):
    """Names that are not here -> why, or what takes their place."""
    return MISSING_NAMES.get(PARTS[part].__name__, {})


def split(part):
    """(names that are here, names that are not)."""
    found = names(part)
    here = [name for name in found if hasattr(PARTS[part], name)]
    return here, [name for name in found if name not in here]


def own(part):
    """What this module has and Keras's has not."""
    known = set(names(part))
    return [name for name in getattr(PARTS[part], "__all__", []) if name not in known]


def summary():
    """The part of the README: how many names are here."""
    sizes = {part: [len(found) for found in split(part)] for part in PARTS}
    here, missing = (sum(size[i] for size in sizes.values()) for i in (0, 1))
    shown_parts = ("layers", "losses", "metrics", "optimizers", "callbacks", "ops")
    several = ", ".join(
        f"{sizes[f'keras.{name}'][0]} of {sum(sizes[f'keras.{name}'])} in `{name}`"
        for name in shown_parts
    )
    text = (
        f"Of the {here + missing} names that Keras {of_keras('keras').__version__} offers, {here} "
        f"are here, with its arguments, order and defaults: {several}."
    )
    return "\n".join(["", *textwrap.wrap(text, 118), "", ""])


def section():
    """The part of the page of names."""
    lines = [""]
    for part, module in PARTS.items():
        here, missing = split(part)
        count = f"{len(here)} of {len(here) + len(missing)} names in `{module.__name__}`"
        line = f"**`{part}`**, {count}{': ' if here else ''}{', '.join(here)}."
        if own(part):
            line += f" Beyond Keras: {', '.join(own(part))}."
        lines += [*textwrap.wrap(line, 100, break_long_words=False), ""]
    lines += ["| not here | why |", "|---|---|"]
    groups = {}
    for part in PARTS:
        for name in split(part)[1]:
            where = groups.setdefault(reasons(part)[name], {})
            where.setdefault(part.removeprefix("keras."), []).append(shown(part, name))
    for why, missing in groups.items():
        places = "; ".join(f"`{part}`: {', '.join(found)}" for part, found in missing.items())
        lines += [f"| {places} | {why} |"]
    return "\n".join([*lines, "", ""])
