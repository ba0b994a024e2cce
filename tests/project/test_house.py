"""The house: who may import whom, how large things get, and what each says of itself."""

import ast
import doctest
import functools
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.generate.documents import ADVICE, shown
from tests.generate.floors import FLOORS, PICTURE, picture
from tests.generate.modules import (
    MODULES,
    ROOT,
    caption,
    nodes,
    parse,
    section,
    source,
)

# What users find in `fnn.layers` are symbolic things too; `fnn.preprocessing` has a few of
# Keras's names for functions of `fnn.utils`.
LISTS_OF_NAMES = {
    "layers/__init__.py",
    "preprocessing/image.py",
    "preprocessing/sequence.py",
}
# Layers that are made of other layers, or that run others.
COMPOSITE = {
    "attention": {"einsum"},
    "lora": {"wrappers"},
    "quantized": {"dense", "einsum", "embedding"},
    "stacking": {"repeat", "sequential"},
    "transformer": {"attention", "dense", "dropout", "merging", "normalization"},
}
# What a leaf layer may stand on: what a layer is, and mathematics.
BELOW_LAYERS = {"runtime", "core", "activations", "initializers", "regularizers", "quantizers"}
CORE_FILES, MODULES_OF_DENSE = 16, 12  # with the names that fields have in Keras's configs
OPTAX = {"optimizers", "schedules", "losses", "training", "ops"} | {"command_line"}  # its version
FORBIDDEN = {"pickle", "importlib", "marshal", "yaml", "shelve", "dill", "cloudpickle"}
UNSAFE = {"extract", "extractall", "system", "popen", "unsafe_load", "unpack_archive"}
# Members of downloaded archives are unpacked after a check of their names.
UNPACKING = {"utils/files.py": UNSAFE - {"extract"}}
# The command that runs a program imports it, by Python's own means.
MAY_IMPORT = {"run_script.py": {"importlib"}}
REQUIRED = {"fnn", "jax", "jaxlib", "numpy", "optax", "safetensors"} | {"scipy"}  # JAX needs it
LAZY = {
    "orbax",
    "grain",
    "h5py",
    "matplotlib",
    "torch",
    "tensorflow",
    "keras",
    "sklearn",
    "IPython",
    "rich",
    "PIL",
}

# What they hold and users need is offered by the others.
INSIDE = {
    "__main__",
    "core",
    "keras_names",
    "preprocessing",
    "runtime",
    "saving",
    "subclassing",
    "symbolic",
}
# Functions that a table makes: a sentence each, as of the function behind, and no example.
FROM_A_TABLE = {"ops", "applications"}
# Made for each kind by one function, `serializers`, which has the example.
OF_EACH_KIND = {"fnn.core.config.serialize", "fnn.core.config.deserialize"}

# What a file has that imports a test module: only such files are parsed, which takes a second else.
MAY_IMPORT_A_TEST = re.compile(r"^\s*from tests(?:(?!\n\n).)*?\btest_", re.MULTILINE | re.DOTALL)

LINES_OF_A_FILE, LINES_OF_A_FUNCTION = 400, 40
# Longer, each for a reason: {"path.py": lines} and {"path.py:function": lines}.
LONGER_FILES: dict[str, int] = {}
LONGER_FUNCTIONS: dict[str, int] = {
    "models/model.py:fit": 56,  # its signature is Keras's, 18 lines of it
}


def unit(module):
    """`layers.dense` -> `layers`; the modules of one unit know each other."""
    return module.partition(".")[0]


def dotted(name):
    """`layers/dense.py` -> `layers.dense`, `layers/__init__.py` -> `layers`."""
    parts = name.removesuffix(".py").split("/")
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def imports(name):
    """Every module imported in a file, at the top or inside a function, with its line."""
    for node in nodes(name):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name}:{node.lineno} imports relatively"
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                path = submodule.removeprefix("fnn.").replace(".", "/")
                known = f"{path}.py" in MODULES or f"{path}/__init__.py" in MODULES
                yield (submodule if known else node.module), node.lineno


@functools.cache
def own_imports(name):
    """What a file imports of fnn, without the `fnn.`: `(module, line)`."""
    return [
        (module.removeprefix("fnn").removeprefix(".") or "__init__", line)
        for module, line in imports(name)
        if unit(module) == "fnn"
    ]


def test_the_picture_shows_the_floors():
    assert PICTURE.read_text() == picture(), ADVICE


def test_every_module_has_a_floor():
    missing = {unit(dotted(name)) for name in MODULES} - set(FLOORS)
    assert not missing, (
        f"new units {sorted(missing)}: give each a floor in tests/generate/floors.py"
    )


def test_imports_go_down():
    breaches = [
        f"{name}:{line} (floor {FLOORS[here]}) imports fnn.{module} (floor {FLOORS[unit(module)]})"
        for name in MODULES
        for here in (unit(dotted(name)),)
        for module, line in own_imports(name)
        if unit(module) != here and FLOORS[unit(module)] >= FLOORS[here]
        if name not in LISTS_OF_NAMES
    ]
    assert not breaches, "\n".join(breaches)


def test_leaf_layers_do_not_know_each_other():
    breaches = []
    for name in MODULES:
        stem = Path(name).stem
        if not name.startswith("layers/") or name == "layers/__init__.py":
            continue
        allowed = {f"layers.{part}" for part in COMPOSITE.get(stem, ())}
        breaches += [
            f"{name}:{line} imports fnn.{module}"
            for module, line in own_imports(name)
            if not (
                unit(module) in BELOW_LAYERS
                or module.startswith("layers.shared")
                or module in allowed
            )
        ]
    assert not breaches, "\n".join(breaches)


@functools.cache
def modules_behind(name):
    """Every module that a file imports, or that these import: not the packages they lie in."""
    seen, waiting = set(), [name]
    while waiting:
        here = waiting.pop()
        if here not in seen:
            seen.add(here)
            waiting += [file_of(module) for module, _ in own_imports(here)]
    return seen


def file_of(module):
    """`layers.dense` -> `layers/dense.py`, `layers` -> `layers/__init__.py`."""
    path = f"{module.replace('.', '/')}.py"
    return path if path in MODULES else f"{module.replace('.', '/')}/__init__.py"


def test_no_module_imports_itself_by_way_of_others():
    """Imports inside functions counted."""
    circles = [
        f"{name} imports fnn.{module}, which imports it"
        for name in MODULES
        for module, _ in own_imports(name)
        if name != "__init__.py" and name in modules_behind(file_of(module))
    ]
    assert not circles, "\n".join(circles)


def test_imports_stand_at_the_top():
    late = [
        f"{name}:{inner.lineno} imports fnn within {node.name}"
        for name in MODULES
        for node in nodes(name)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        for inner in ast.walk(node)
        if isinstance(inner, ast.ImportFrom) and str(inner.module).startswith("fnn")
    ]
    assert not late, "\n".join(late)


def test_no_name_is_looked_up_in_place_of_an_import():
    found = [
        f"{name}:{node.lineno} looks up {node.args[1].value!r}"
        for name in MODULES
        for node in nodes(name)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        if node.func.id == "lookup" and isinstance(node.args[-1], ast.Constant)
    ]
    assert not found, "\n".join(found)


def test_core_is_what_a_layer_is():
    files = [name for name in MODULES if name.startswith("core/")]
    assert len(files) <= CORE_FILES, files
    behind = modules_behind("layers/dense.py")
    assert len(behind) <= MODULES_OF_DENSE, sorted(behind)


def test_training_does_not_know_the_layers():
    known = [
        f"{name}:{line} imports fnn.{module}"
        for name in MODULES
        if name.startswith("training/")
        for module, line in own_imports(name)
        if unit(module) == "layers"
    ]
    assert not known, "\n".join(known)


def test_outside_packages_stay_in_their_place():
    breaches = [
        f"{name}:{line} imports {module}"
        for name in MODULES
        for module, line in imports(name)
        if unit(module) in FORBIDDEN - MAY_IMPORT.get(name, set())
        or (unit(module) == "optax" and unit(dotted(name)) not in OPTAX)
        or module == "jax.core"  # what is not public
        or "._src" in module
    ]
    assert not breaches, "\n".join(breaches)


def guarded_lines(name):
    """The lines inside `with optional(...)` blocks."""
    return {
        inner.lineno
        for node in nodes(name)
        if isinstance(node, ast.With) and "optional(" in ast.unparse(node.items[0])
        for inner in node.body
    }


def test_packages_that_may_be_missing_are_imported_with_advice():
    breaches = [
        f"{name}:{line} imports {module}"
        for name in MODULES
        for module, line in imports(name)
        if unit(module) not in REQUIRED | sys.stdlib_module_names
        and line not in guarded_lines(name)
    ]
    assert not breaches, "\n".join(breaches)


def test_nothing_is_executed_from_data():
    breaches = [
        f"{name}:{node.lineno} calls {node.func.id}"
        for name in MODULES
        for node in nodes(name)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        if node.func.id in ("eval", "exec", "compile", "__import__")
    ]
    assert not breaches, "\n".join(breaches)


def test_no_archive_is_unpacked_and_no_pickle_read():
    breaches = []
    for name in MODULES:
        for node in nodes(name):
            named = isinstance(node, ast.keyword) and node.arg == "allow_pickle"
            if named and ast.unparse(node.value) != "False":
                breaches.append(f"{name}:{node.value.lineno} may read a pickle")
            if isinstance(node, ast.Attribute) and node.attr in UNPACKING.get(name, UNSAFE):
                breaches.append(f"{name}:{node.lineno} uses {node.attr}")
    assert not breaches, "\n".join(breaches)


def test_files_stay_small():
    lengths = {name: len(source(name).splitlines()) for name in MODULES}
    long = [
        f"{name} has {lines} lines"
        for name, lines in lengths.items()
        if lines > LONGER_FILES.get(name, LINES_OF_A_FILE)
    ]
    assert not long, "\n".join(long)


def test_functions_stay_small():
    long = [
        f"{name}:{node.lineno} {node.name} has {code_lines(node)} lines"
        for name in MODULES
        for node in nodes(name)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        if code_lines(node) > LONGER_FUNCTIONS.get(f"{name}:{node.name}", LINES_OF_A_FUNCTION)
    ]
    assert not long, "\n".join(long)


def code_lines(function):
    """The lines of the body of a function, without its docstring."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


def test_a_module_says_in_one_line_what_it_holds():
    silent = [f"fnn/{n} begins with {caption(n)!r}" for n in MODULES if caption(n)[-1:] != "."]
    assert not silent, "\n".join([*silent, "begin each with a sentence on what it holds"])


def public(tree):
    """The functions and classes of a module without `_`, but for signatures of overloads."""
    for node in tree.body:
        if not isinstance(node, (ast.FunctionDef, ast.ClassDef)) or node.name[0] == "_":
            continue
        if "overload" not in map(ast.unparse, node.decorator_list):
            yield node.name, node


def test_public_names_explain_themselves():
    silent = [
        f"fnn/{name}: no docstring at {thing}"
        for name in MODULES
        for thing, node in public(parse(name))
        if not ast.get_docstring(node)
    ]
    assert not silent, "\n".join(silent)


def offered(module):
    """The classes and functions that users find in a module, in `__all__` or by where they are."""
    for name in getattr(module, "__all__", vars(module)):
        thing = getattr(module, name)
        home = str(getattr(thing, "__module__", ""))
        own = hasattr(module, "__all__") or home.startswith(module.__name__)
        if own and name[0] != "_" and home.startswith("fnn.") and hasattr(thing, "__name__"):
            yield thing


@functools.cache
def with_examples(module):
    """The names in a module whose docstrings have examples, as `test_doctests` runs them."""
    found = doctest.DocTestFinder().find(importlib.import_module(module), module)
    return {example.name for example in found if example.examples}


UNITS = sorted({unit(dotted(name)) for name in MODULES} - INSIDE - FROM_A_TABLE)


@pytest.mark.parametrize("part", UNITS)
def test_public_names_show_an_example(part):
    """Of one object with several names (`mse`, `mean_squared_error`) it is one example."""
    module = importlib.import_module("fnn" if part == "__init__" else f"fnn.{part}")
    names = {
        (thing.__module__, f"{thing.__module__}.{thing.__name__}") for thing in offered(module)
    }
    assert names, f"{module.__name__} offers nothing"
    silent = sorted(
        name for home, name in names if name not in with_examples(home) and name not in OF_EACH_KIND
    )
    assert not silent, f"no example (>>> ...) in the docstring of {', '.join(silent)}"


def test_the_documentation_shows_every_module_with_its_line():
    assert shown("files") == section(), ADVICE


def test_no_test_module_imports_another():
    """What several of them use is in tests/helpers."""
    breaches = [
        f"{file.relative_to(ROOT)}:{node.lineno} imports {node.module}"
        for file in sorted((ROOT / "tests").rglob("*.py"))
        for text in (file.read_text(),)
        if MAY_IMPORT_A_TEST.search(text)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ImportFrom)
        for name in (*str(node.module).split("."), *(alias.name for alias in node.names))
        if name.startswith("test_") and str(node.module).startswith("tests")
    ]
    assert not breaches, "\n".join(breaches)


def test_import_is_light_and_starts_no_backend():
    """In a fresh process, since this one has imported everything."""
    script = f"""
import sys, fnn
heavy = {LAZY!r} & {{name.partition('.')[0] for name in sys.modules}}
assert not heavy, f"import fnn imports {{sorted(heavy)}}"
import jax
jax.config.update("jax_num_cpu_devices", 3)  # an error once a backend runs
assert len(jax.devices("cpu")) == 3
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 0, run.stderr
