"""Programs in the manner of Keras's documentation: equal numbers on Keras and on fnn.

Each file beside this one is a user's script. It builds `model`, or `models`, with weights, and
defines `run()`, which returns what is compared: arrays, numbers and strings, in any structure. The
weights made on Keras are carried over to fnn, and compared again after `run()`.

Random numbers are given as data where they matter. Most programs train by SGD: Adam places epsilon
elsewhere here, on purpose (docs/moving/keras.md), and its first steps enlarge the rounding of
small gradients.
"""

import importlib.util
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import fnn
from fnn.run_script import fnn_as_keras
from tests.helpers.oracle import keras_rules, random_weights_of_numpy

FOLDER = Path(__file__).parent
PROGRAMS = sorted(
    path.stem for path in FOLDER.glob("*.py") if path.stem not in ("__init__", Path(__file__).stem)
)
TOLERANCE = 1e-5  # absolute and relative


@pytest.mark.parametrize("page", ["README.md", "docs/moving/keras.md"])
def test_the_documentation_counts_them(page):
    text = FOLDER.parents[1].joinpath(page).read_text()
    assert f" {len(PROGRAMS)} programs" in " ".join(text.split())


def load(name):
    """The module of a program, run anew."""
    spec = importlib.util.spec_from_file_location(f"program_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules[spec.name]
    return module


def models_of(module):
    """What has the weights of a program: `models`, or `model` alone."""
    if hasattr(module, "models"):
        return module.models
    return [module.model]


def weights_of(module):
    return [[np.array(weight) for weight in model.get_weights()] for model in models_of(module)]


def on_keras(name):
    """(weights before, results, weights after) of a program on Keras itself."""
    with keras_rules():
        import keras

        keras.utils.set_random_seed(1)
        with random_weights_of_numpy(1):  # rounding grows with some more than with others
            module = load(name)
        before = weights_of(module)
        results = module.run()
        return before, results, weights_of(module)


def on_fnn(name, weights):
    """(results, weights after) of a program on fnn, from these weights."""
    with jax.numpy_rank_promotion("allow"), fnn_as_keras():
        module = load(name)
        assert module.layers is fnn.layers
        shapes = [[weight.shape for weight in part] for part in weights_of(module)]
        assert shapes == [[weight.shape for weight in part] for part in weights]
        for model, arrays in zip(models_of(module), weights, strict=True):
            model.set_weights(arrays)
        results = module.run()
        return results, weights_of(module)


def assert_same(ours, theirs, place="results"):
    """Compares structures of arrays, numbers and strings."""
    if isinstance(theirs, dict):
        assert sorted(ours) == sorted(theirs), place
        for key, item in theirs.items():
            assert_same(ours[key], item, f"{place}[{key!r}]")
    elif isinstance(theirs, (list, tuple)):
        assert len(ours) == len(theirs), place
        for index, item in enumerate(theirs):
            assert_same(ours[index], item, f"{place}[{index}]")
    elif isinstance(theirs, (str, bool, int, type(None))):
        assert ours == theirs, place
    else:
        assert np.shape(ours) == np.shape(theirs), place
        np.testing.assert_allclose(ours, theirs, rtol=TOLERANCE, atol=TOLERANCE, err_msg=place)


QUICK = ("layer_with_build_and_call", "stacked_cells", "custom_optimizer")


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in PROGRAMS],
)
def test_program_gives_the_numbers_of_keras(name):
    weights, theirs, theirs_after = on_keras(name)
    assert theirs
    assert all(weights)
    ours, ours_after = on_fnn(name, weights)
    assert_same(ours, theirs)
    assert_same(ours_after, theirs_after, "weights after")


def test_there_are_programs_enough():
    assert len(PROGRAMS) >= 40
