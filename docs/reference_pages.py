"""The pages of the reference, one for each public module, written by each build."""

import importlib
import inspect
import shutil
from pathlib import Path
from types import ModuleType

import fnn

FOLDER = Path(__file__).parent / "reference" / "api"
# Public modules that are not names of `fnn` itself.
FURTHER = [
    "applications.imagenet_utils",
    "ops.image",
    "ops.linalg",
    "ops.nn",
    "ops.numpy",
    "preprocessing.image",
    "preprocessing.sequence",
    "saving.pytorch",
    "serving",
    "testing",
    "utils.bounding_boxes",
    "wrappers",
]


def modules():
    """Names of the public modules: fnn, those that it offers, and a few below."""
    offered = [
        name for name in fnn.__all__ if isinstance(getattr(fnn, name), ModuleType)
    ]
    return ["fnn", *(f"fnn.{name}" for name in sorted({*offered, *FURTHER}))]


def names(module):
    """The public names of a module that are not modules themselves."""
    listed = getattr(module, "__all__", None)
    if listed is None:
        listed = [
            name
            for name, thing in vars(module).items()
            if name[0] != "_" and _is_of_users(getattr(thing, "__module__", ""))
        ]
    return sorted(
        name for name in listed if not isinstance(getattr(module, name), ModuleType)
    )


def _is_of_users(home):
    """Whether a module without `__all__` offers what comes from there, and not only uses it."""
    return home.startswith("fnn") and not home.startswith(("fnn.core", "fnn.models"))


def _kind(thing):
    """What a constant is, in a line."""
    if isinstance(thing, dict):
        return f"A table of {', '.join(f'`{key}`' for key in thing)}."
    return f"The value `{thing!r}`."


def page(module, homes):
    """The text of a module's page. `homes`: objects -> the name under which each is described."""
    title = module.__name__
    lines = [f"# {title}", "", (inspect.getdoc(module) or "").partition("\n")[0], ""]
    lines += ["```{eval-rst}", f".. currentmodule:: {title}", ""]
    aliases = []
    for name in names(module):
        thing = getattr(module, name)
        home = homes.setdefault(id(thing), f"{title}.{name}")
        if home != f"{title}.{name}":
            aliases.append(f"- `{name}`: `{home}`")
        elif inspect.isclass(thing):
            lines += [f".. autoclass:: {title}.{name}", ""]
        elif callable(thing):
            lines += [f".. autofunction:: {title}.{name}", ""]
        else:
            lines += [f".. py:data:: {title}.{name}", "", f"   {_kind(thing)}", ""]
    lines += ["```", ""]
    if aliases:
        lines += ["## Other names", "", *aliases, ""]
    return "\n".join(lines)


def write():
    """Writes every page anew."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    found = {name: importlib.import_module(name) for name in modules()}
    homes = {}
    # An object is described where it has most siblings of its kind: `fnn` itself comes last.
    for name in sorted(found, key=lambda name: (name == "fnn", -name.count("."))):
        (FOLDER / f"{name}.md").write_text(page(found[name], homes))
