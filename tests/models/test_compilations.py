"""`model.compilations`: what was compiled and why; `max_compiles`; the cache between processes."""

import re
import sys
import time

import numpy as np
import pytest

import fnn
from fnn.layers import Dense
from tests.helpers.compiling import run_as_users_do

X, Y = np.ones((64, 4), "float32"), np.ones((64, 1), "float32")


def compiled(units=17, **options):
    """`units` tells the models of different tests apart: equal ones share programs."""
    model = fnn.Sequential([Dense(units, input_shape=(4,)), Dense(1)], seed=0)
    model.compile("sgd", "mse", **options)
    return model


def fit(model, size=32, x=X):
    return model.fit(x, Y[: len(x)], batch_size=size, verbose=0)


def test_each_compilation_is_listed_with_what_changed():
    model = compiled(17)
    assert model.compilations == ()
    began = time.perf_counter()
    fit(model)
    took = time.perf_counter() - began
    (first,) = model.compilations
    assert (first.program, first.reason) == ("training", "first use")
    assert 0 < first.seconds < took
    fit(model)
    assert len(model.compilations) == 1
    fit(model, size=16)
    shape = model.compilations[-1].reason
    assert "x changed from float32[2, 32, 4] to float32[4, 16, 4]" in shape
    model.evaluate(X, Y, verbose=0)
    model.predict(X, verbose=0)
    assert [entry.program for entry in model.compilations[2:]] == ["evaluation", "prediction"]
    model.predict(X[:2], verbose=0)
    assert re.search(
        r"x changed from float32\[\d+, 4\] to float32\[2, 4\]", str(model.compilations[-1])
    )


@pytest.mark.slow
def test_a_value_that_changes_the_program_is_named():
    model = compiled(18)
    fit(model)
    model.compile(fnn.optimizers.Adam(), "mse")
    fit(model)
    assert "optimizer changed from SGD(learning_rate=None) to Adam" in model.compilations[-1].reason
    model.compile(fnn.optimizers.Adam(0.5), "mse")  # the rate is in the state
    fit(model)
    assert len(model.compilations) == 2
    model.compile(model.optimizer, "mae")
    fit(model)
    reason = model.compilations[-1].reason
    assert "objective changed" in reason
    assert "MeanAbsoluteError" in reason
    model.freeze("dense/bias")
    fit(model)
    assert "network changed" in model.compilations[-1].reason


@pytest.mark.slow
def test_models_do_not_see_the_compilations_of_others():
    one, other = compiled(19), compiled(20)
    fit(one)
    fit(other)
    fit(one)
    assert len(one.compilations) == len(other.compilations) == 1
    # Equal to the first, whose program it takes.
    third = compiled(19)
    fit(third)
    assert third.compilations == ()
    # A loop of the user's over a step of its own is no model's.
    step = lambda state, batch, key: (state + batch.mean(), {"loss": state})
    fnn.training.fit(step, np.zeros(()), X[:, 0], verbose=0)
    assert len(one.compilations) == 1


@pytest.mark.slow
def test_more_compilations_than_allowed_are_an_error_with_the_reason():
    model = compiled(21, max_compiles=1)
    fit(model)
    model.evaluate(X, Y, verbose=0)  # counts apart
    before = model.get_weights()
    with pytest.raises(
        RuntimeError,
        match=r"training was .* at most 1 times.*x changed from float32\[2, 32, 4\] to",
    ):
        fit(model, size=16)
    for a, b in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)
    fit(model)  # its program is there
    model.compile(model.optimizer, "mse", max_compiles=1)
    fit(model, size=16)  # counted from `compile` on
    with pytest.raises(
        ValueError, match="max_compiles to be a positive integer or None, received 0"
    ):
        model.compile("sgd", "mse", max_compiles=0)


TWICE = """
import time, sys
import jax, numpy as np
import fnn
fnn.config.set_compilation_cache(sys.argv[1] if len(sys.argv) > 1 else FOLDER)
rows = [fnn.layers.Dense(64, "gelu", input_shape=(32,)) for _ in range(4)]
model = fnn.Sequential([*rows, fnn.layers.Dense(1)], seed=0)
model.compile("adam", "mse")
hits = []
jax.monitoring.register_event_listener(lambda event, **_: hits.append(event))
model.fit(np.ones((64, 32), "float32"), np.ones((64, 1), "float32"), verbose=0)
found = hits.count("/jax/compilation_cache/cache_hits")
assert (found > 0) is WARM, (found, hits)
"""


@pytest.mark.slow
def test_a_second_process_finds_the_programs_of_the_first(tmp_path):
    for warm in (False, True):
        code = TWICE.replace("FOLDER", repr(str(tmp_path))).replace("WARM", str(warm))
        run_as_users_do(code)
        assert any(tmp_path.iterdir())
    assert sys.executable
