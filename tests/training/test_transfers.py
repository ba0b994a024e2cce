"""What moves between device and host in a training: nothing back, between progress updates."""

import jax
import numpy as np
import pytest
from jax._src.array import ArrayImpl

import fnn
from fnn.layers import Dense
from fnn.training import engine, trainer

X, Y = np.ones((4096, 4), "float32"), np.ones((4096, 1), "float32")


@pytest.fixture
def reads(monkeypatch):
    """The shapes of arrays that the host reads: the guard of JAX does not see it on CPU."""
    found = []
    value = ArrayImpl._value

    def noted(array):
        found.append(array.shape)
        return value.fget(array)

    monkeypatch.setattr(ArrayImpl, "_value", property(noted))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("bytes_donated", [None, 0])
def test_no_step_transfers_anything_to_the_host_between_updates(bytes_donated, reads, monkeypatch):
    """Both for a small state and for a large one, which is donated."""
    if bytes_donated is not None:
        monkeypatch.setattr(engine, "DONATED_BYTES", bytes_donated)
        engine._cached_program.cache_clear()
    dispatched = []
    call = engine.Program.__call__

    def counted(self, *given, **named):
        dispatched.append(named["donate"])
        return call(self, *given, **named)

    monkeypatch.setattr(engine.Program, "__call__", counted)
    monkeypatch.setattr(trainer, "INTERVAL", 1e9)
    model = fnn.Sequential([Dense(8, input_shape=(4,)), Dense(1)], seed=0)
    model.compile("sgd", "mse")
    with jax.transfer_guard_device_to_host("disallow"):
        model.fit(X[:64], Y[:64], batch_size=4, verbose=0)
        counts = []
        for examples in (512, 2048):
            reads.clear()
            dispatched.clear()
            model.fit(X[:examples], Y[:examples], batch_size=4, shuffle=False, verbose=0)
            counts.append((len(dispatched), len(reads)))
    (few, few_reads), (many, many_reads) = counts
    assert many >= few + 3
    assert few_reads == many_reads
    assert set(dispatched) == {bytes_donated == 0}
    engine._cached_program.cache_clear()


@pytest.mark.slow
def test_a_loss_that_is_not_finite_is_found_though_it_is_read_later(monkeypatch):
    monkeypatch.setattr(trainer, "INTERVAL", 1e9)
    x = X.copy()
    x[700:704] = np.inf
    model = fnn.Sequential([Dense(2, input_shape=(4,), name="first"), Dense(1)], seed=0)
    model.compile(fnn.optimizers.SGD(1e-4), "mse", checks=False)
    with pytest.raises(
        fnn.training.TrainingError, match="infinity at step 175, first in the inputs"
    ):
        model.fit(x, Y, batch_size=4, shuffle=False, verbose=0)
    assert int(model.train_state.step) == 175
    expected = fnn.Sequential([Dense(2, input_shape=(4,), name="first"), Dense(1)], seed=0)
    expected.compile(fnn.optimizers.SGD(1e-4), "mse")
    expected.fit(x[:700], Y[:700], batch_size=4, shuffle=False, verbose=0)
    for a, b in zip(model.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_a_large_state_is_donated():
    model = fnn.Sequential([Dense(200_000, input_shape=(4,)), Dense(1)], seed=0)
    model.compile("sgd", "mse")
    model.fit(X[:64], Y[:64], batch_size=32, verbose=0)
    program = engine.program(
        model._program.train_step(model._program.objective),
        model.train_state,
        ({"x": X[:32], "y": (Y[:32],), "weight": ()}, np.ones(32, bool)),
        model.train_state.key,
    )
    memory = program.compiled("raise").memory_analysis()
    weights = sum(array.nbytes for array in model.get_weights())
    assert memory.alias_size_in_bytes >= weights
