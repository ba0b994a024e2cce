"""Every example in a docstring of fnn runs and shows what it says; every public name has one."""

import doctest
import functools
import importlib
import pkgutil
import types
import typing

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn.datasets.idx_images import TEST, TRAIN
from tests.helpers import dataset_files
from tests.helpers.public import public_names

pytestmark = pytest.mark.slow

MODULES = ["fnn", *(module.name for module in pkgutil.walk_packages(fnn.__path__, "fnn."))]


def by_numpy(name):
    """A function of jax.numpy that makes an array, without a program for each shape."""
    make = getattr(np, name)
    return functools.wraps(make)(lambda *given, **named: jnp.asarray(make(*given, **named)))


# What examples call `jnp`: in 550 modules, they make arrays of hundreds of shapes.
MADE = {name: by_numpy(name) for name in ("ones", "zeros", "full", "arange", "eye")}
JNP = types.SimpleNamespace(**vars(jnp) | MADE)


def small_training():
    """The `model`, `x` and `y` of the examples of callbacks: its loss is a quarter each epoch."""
    dense = fnn.layers.Dense(1, kernel_initializer="zeros", input_shape=(1,))
    model = fnn.Sequential([dense], seed=0)
    model.compile(fnn.optimizers.SGD(0.125), "mse")
    return {"model": model, "x": np.ones((8, 1), "float32"), "y": np.ones((8, 1), "float32")}


def stand_ins(folder):
    """Small files where those of the datasets would be."""
    dataset_files.write_all(folder)
    for name in ("mnist", "fashion_mnist"):
        (folder / name).mkdir(parents=True)
        for images, labels in (TRAIN, TEST):
            sizes = (3, 28, 28)
            header = bytes([0, 0, 8, 3]) + b"".join(n.to_bytes(4, "big") for n in sizes)
            (folder / name / images).write_bytes(header + bytes(3 * 28 * 28))
            (folder / name / labels).write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 0, 1, 2]))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    stand_ins(folder)
    return folder


def examples_of(module, names):
    """The examples of a module, also of functions that another module made for it."""
    finder = doctest.DocTestFinder()
    found = finder.find(module, module.__name__, globs=names)
    if module.__name__.startswith("fnn.applications."):  # tests/applications has that example
        return [example for example in found if "count_params()" not in example.docstring]
    for name, thing in vars(module).items():
        made = isinstance(thing, types.FunctionType) and thing.__module__ == module.__name__
        if made and thing.__globals__ is not vars(module):
            found += finder.find(thing, f"{module.__name__}.{name}", module=False, globs=names)
    return found


def of_features(example):
    """Of what is below a head of fnn.applications: it takes long to build."""
    return ">>> features(" in example.docstring


def run(name, tmp_path, monkeypatch, chosen):
    """Each in a folder of its own, as a script of a user (whose classes are not fnn's)."""
    module = importlib.import_module(name)
    names = {**vars(module), "jax": jax, "jnp": JNP, "np": np, "fnn": fnn, "__name__": "__main__"}
    runner = doctest.DocTestRunner(
        verbose=False, optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    )
    failures = []
    examples = [one for one in examples_of(module, names) if one.examples and chosen(one)]
    for number, example in enumerate(examples):
        if name.startswith("fnn.callbacks"):
            example.globs.update(small_training())
        folder = tmp_path / str(number)
        folder.mkdir()
        monkeypatch.chdir(folder)
        runner.run(example, out=failures.append)
    assert not runner.summarize(verbose=False).failed, "".join(failures)
    return len(examples)


@pytest.mark.parametrize("name", MODULES)
def test_examples(name, data, tmp_path, monkeypatch):
    monkeypatch.setenv("FNN_DATA", str(data))
    run(name, tmp_path, monkeypatch, lambda example: not of_features(example))


@pytest.mark.thorough
def test_examples_of_features(tmp_path, monkeypatch):
    """In `make test`, tests/applications compares small ones with Keras's, whole."""
    count = 0
    for name in MODULES:
        if name.startswith("fnn.applications."):
            (tmp_path / name).mkdir()
            count += run(name, tmp_path / name, monkeypatch, of_features)
    assert count > 5


def test_every_public_name_has_an_example():
    without = [
        name
        for name, thing in public_names()
        if callable(thing) and typing.get_origin(thing) is None  # a name for a type
        if ">>>" not in (thing.__doc__ or "")
    ]
    assert not without, f"write an example into the docstrings of {without}"
