"""Every example in a docstring of fnn runs and shows what it says."""

import doctest
import importlib
import pkgutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn

MODULES = ["fnn", *(module.name for module in pkgutil.walk_packages(fnn.__path__, "fnn."))]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    module = importlib.import_module(name)
    names = {**vars(module), "jax": jax, "jnp": jnp, "np": np, "fnn": fnn}
    finder = doctest.DocTestFinder()
    runner = doctest.DocTestRunner(
        verbose=False, optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    )
    failures = []
    for example in finder.find(module, name, globs=names):
        runner.run(example, out=failures.append)
    assert not runner.summarize(verbose=False).failed, "".join(failures)
