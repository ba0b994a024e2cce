"""The files of fnn, and the map of them in the documentation."""

import ast
import functools
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "fnn").rglob("*.py"))
MODULES = {str(file.relative_to(ROOT / "fnn")): file for file in FILES}


@functools.cache
def source(name):
    return MODULES[name].read_text()


@functools.cache
def parse(name):
    return ast.parse(source(name))


@functools.cache
def nodes(name):
    return list(ast.walk(parse(name)))


def caption(name):
    """The first line of a module's docstring."""
    return (ast.get_docstring(parse(name)) or "").partition("\n")[0]


def is_package_root(name):
    return name.endswith("__init__.py")


def tree_map():
    """The map of the modules: a line each, its name and its caption."""
    width = max(len(Path(name).name) + 4 * name.count("/") for name in MODULES) + 6
    folders = sorted({"."} | {str(Path(name).parent) for name in MODULES})
    rows = []
    for folder in folders:
        depth = 0 if folder == "." else folder.count("/") + 1
        root = "__init__.py" if folder == "." else f"{folder}/__init__.py"
        title = "fnn/" if folder == "." else f"{Path(folder).name}/"
        rows.append(f"{'    ' * depth + title:<{width}}{caption(root)}")
        for name in sorted(MODULES):
            if str(Path(name).parent) == folder and not is_package_root(name):
                indented = "    " * (depth + 1) + Path(name).name
                rows.append(f"{indented:<{width}}{caption(name)}")
    return "\n".join(rows)


def section():
    """The map as a part of a page."""
    return f"\n```\n{tree_map()}\n```\n"
