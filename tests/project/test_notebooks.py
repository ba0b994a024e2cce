"""Every notebook runs from its first cell to its last, with what the extra `docs` installs."""

import os
import re
import sys
import tomllib

import jax
import pytest

from tests.generate.documents import ROOT

pytestmark = pytest.mark.slow

FOLDER = ROOT / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def read(path):
    nbformat = pytest.importorskip("nbformat")
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return notebook


def code_of(notebook):
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


# As tests/conftest.py has it for the tests: see there.
ENVIRONMENT = {
    "JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir or "",
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_TRACEBACK_IN_LOCATIONS_LIMIT": "0",
    "JAX_NUM_CPU_DEVICES": "8",  # as many as 07_devices chooses, where JAX has started
}
# Before each: compiled in the way that takes less time, without the names of those before it, and
# without a search for dead objects among all that the imports have made, as in tests/conftest.py.
START = """
import gc
import jax
from tests.helpers.compiling import share_contexts
jax.config.update("jax_disable_most_optimizations", {cheap})
share_contexts()
gc.set_threshold(50_000, 20, 20)
gc.freeze()
%reset -f
"""
# What they assert takes so many steps that to run them is more than to compile them.
RUN_LONG = ("03_training_with_model", "06_understanding_a_model")
# Trainings of whose results nothing is asserted.
SHORTER = {
    "02_composing_and_transforming": {"epochs=150": "epochs=5"},
    "03_training_with_model": {"epochs=12": "epochs=2", "epochs=5": "epochs=1"},
    "04_your_own_loop": {"epochs=60": "epochs=2", "epochs=250": "epochs=3"},
    "06_understanding_a_model": {"epochs=30": "epochs=2"},
}


def with_short_trainings(path):
    notebook = read(path)
    for old, new in SHORTER.get(path.stem, {}).items():
        [cell] = [cell for cell in notebook.cells if re.search(rf"{old}\b", cell.source)]
        cell.source = re.sub(rf"{old}\b", new, cell.source)
    return notebook


@pytest.fixture(scope="module")
def kernel():
    """One process, since starting it and importing JAX takes as long as a notebook."""
    manager = pytest.importorskip("jupyter_client").KernelManager(kernel_name="python3")
    env = {**os.environ, **ENVIRONMENT, "PYTHONPATH": str(ROOT)}
    manager.start_kernel(cwd=str(FOLDER), env=env)
    yield manager
    manager.shutdown_kernel(now=True)


@pytest.mark.filterwarnings("ignore")  # those of the kernel's own machinery
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path, kernel):
    client = pytest.importorskip("nbclient").NotebookClient
    notebook = with_short_trainings(path)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    start = START.format(cheap=path.stem not in RUN_LONG)
    notebook.cells.insert(0, type(code[0])({**code[0], "id": "start", "source": start}))
    run = client(notebook, timeout=300, km=kernel)
    try:
        run.execute()
    finally:
        run.kc.stop_channels()
    assert all(cell.execution_count for cell in code)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_outputs(path):
    for cell in read(path).cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


def test_make_docs_installs_what_notebooks_import():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    needed = [*project["dependencies"], *extras["docs"]]
    installed = {"fnn"}
    for line in needed:
        name, _, inner = re.match(r"([\w-]+)(\[(.*?)\])?", line).groups()
        installed.add(name)
        needed += [more for extra in (inner or "").split(",") if extra for more in extras[extra]]
    imported = {
        name
        for path in NOTEBOOKS
        for source in code_of(read(path))
        for name in re.findall(r"^\s*(?:import|from) (\w+)", source, re.MULTILINE)
    }
    assert len(imported) > 5
    assert imported <= installed | sys.stdlib_module_names
