"""`model.estimate`: what a step costs, before any data is there, against what it costs then."""

import jax
import numpy as np
import pytest

import fnn
from fnn.distribution import FSDP
from fnn.layers import Conv2D, Dense, Embedding, Flatten
from fnn.layers import GlobalAveragePooling1D as Pool
from fnn.runtime.devices import beside, divide, shared
from fnn.training import engine
from fnn.training.cost import operations
from fnn.training.state import without_counters


def dense():
    model = fnn.Sequential([Dense(256, "relu", input_shape=(64,)), Dense(10, "softmax")], seed=0)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model, np.ones((64, 64), "float32"), np.zeros(64, int)


def conv():
    rows = [Conv2D(8, 3, activation="relu", input_shape=(12, 12, 3)), Flatten(), Dense(1)]
    model = fnn.Sequential(rows, seed=0)
    model.compile("sgd", "mse")
    return model, np.ones((64, 12, 12, 3), "float32"), np.zeros((64, 1), "float32")


def measured(model, x, y):
    """(operations, bytes) of the program that `fit` has compiled for this batch."""
    size = len(x)
    arrays = {"x": x, "y": (y.astype(np.int32 if y.ndim == 1 else np.float32),), "weight": ()}
    step = model._program.train_step(model._program.objective)
    state = without_counters(model.train_state)
    program = engine.program(step, state, (arrays, np.ones(size, bool)), state.key)
    chunk = jax.tree.map(lambda a: np.asarray(a)[None], (arrays, np.ones(size, bool)))
    chunk = divide(chunk, state, 1)
    rest = state, program.zeros(), state.key, np.True_
    state, zeros, key, healthy = beside(chunk, rest)
    batches = engine.Batches(chunk, key, np.zeros(3, np.int32), np.zeros(2, bool))
    run = program._run_donating if program.is_large else program._run
    given = state, zeros, healthy, batches, program.chooses("raise", program.is_large)
    compiled = run.lower(*given, shared(chunk, state)).compile()
    memory = compiled.memory_analysis()
    used = memory.argument_size_in_bytes + memory.output_size_in_bytes
    used += memory.temp_size_in_bytes - memory.alias_size_in_bytes
    return compiled.cost_analysis()["flops"], used


@pytest.mark.slow
@pytest.mark.parametrize("make", [dense, conv])
def test_an_estimate_is_what_the_step_of_fit_costs(make):
    model, x, y = make()
    before = model.estimate(64)
    model.fit(x, y, batch_size=64, verbose=0)
    flops, used = measured(model, x, y)
    assert before.batch_size == 64
    assert before.flops == pytest.approx(flops, rel=0.1)
    assert before.peak_bytes == pytest.approx(used, rel=0.1)
    weights = sum(array.nbytes for array in model.get_weights())
    assert before.peak_bytes > weights + x.nbytes
    # `fit` finds it compiled: the time is that of the one compilation that there was.
    (compilation,) = model.compilations
    assert before.compile_seconds == pytest.approx(compilation.seconds, rel=0.1)
    assert model.estimate(64).compile_seconds == pytest.approx(compilation.seconds)


@pytest.mark.slow
def test_with_a_distribution_the_numbers_are_those_of_a_device():
    model, x, y = dense()
    alone = model.estimate(64)
    model.compile("adam", "sparse_categorical_crossentropy", distribution=FSDP(min_size=512))
    each = model.estimate(60)  # `fit` pads it to 64
    assert each.devices == 8
    assert str(each).endswith("for each of 8 devices")
    assert each.peak_bytes < alone.peak_bytes  # the weights of a layer are gathered
    assert 0.9 * alone.flops / 8 < each.flops < alone.flops / 4
    known = model.compilations
    model.fit(x[:60], y[:60], batch_size=60, verbose=0)
    assert model.compilations == known
    with FSDP(min_size=512).scope():
        flops, used = measured(model, x, y)
    assert each.peak_bytes == pytest.approx(used, rel=0.1)
    assert each.flops == pytest.approx(flops, rel=0.1)


@pytest.mark.slow
def test_operations_are_those_of_the_products():
    model, _, _ = dense()
    products = 2 * 64 * (64 * 256 + 256 * 10)
    by_hand = 3 * products - 2 * 64 * 64 * 256  # no gradient by the inputs
    assert model.estimate(64).flops == pytest.approx(by_hand, rel=0.2)
    model.freeze("dense/**")
    assert model.estimate(64).flops < 0.6 * by_hand


@pytest.mark.parametrize(
    "layer",
    [
        Conv2D(24, (3, 5)),
        Conv2D(24, 3, groups=3),
        Conv2D(24, 3, data_format="channels_first"),
    ],
)
def test_operations_of_convolutions(layer):
    """Two for each element of the kernel at each place where it is."""
    x = np.zeros((4, 12, 12, 12), "float32")
    params, state = layer.init(jax.random.key(0), x)
    y, _ = layer.apply(params, state, x)
    filters = y.shape[1 if layer.data_format == "channels_first" else 3]
    by_hand = 2 * y.size * params["kernel"].size / filters
    program = jax.make_jaxpr(layer.apply)(params, state, x).jaxpr
    assert operations(program) == pytest.approx(by_hand, rel=0.07)


@pytest.mark.slow
def test_loops_count_as_often_as_they_run():
    def flops(layer):
        model = fnn.Sequential([layer, Dense(1)], seed=0)
        model.build((None, 64))
        model.compile("sgd", "mse")
        return model.estimate(32).flops

    rows = fnn.layers.Sequential([Dense(64, "tanh") for _ in range(6)])
    assert flops(fnn.layers.Repeat(Dense(64, "tanh"), 6)) == pytest.approx(flops(rows), rel=0.2)


@pytest.mark.slow
def test_the_largest_batch_fits_and_a_larger_one_does_not():
    model, _, _ = dense()
    memory = 12e6
    found = model.estimate(32, memory=memory)
    largest = found.largest_batch
    assert model.estimate(largest).peak_bytes <= memory
    assert model.estimate(int(1.1 * largest)).peak_bytes > memory
    assert model.estimate(32, memory=1000).largest_batch == 0
    assert f"largest batch {largest}" in str(found)
    assert model.estimate(32).largest_batch is None  # a CPU does not say how much it has
    # The programs that were only looked at are not among the compilations.
    assert len(model.compilations) < 5


@pytest.mark.slow
def test_shapes_that_are_not_known_are_passed():
    model = fnn.Sequential([fnn.Input((None,)), Embedding(50, 4), Pool(), Dense(1)])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="free sizes besides the number of examples; pass x"):
        model.estimate(8)
    ids = np.zeros((1, 7), "int32")
    short, long = (model.estimate(8, x=np.repeat(ids, n, 1)).flops for n in (1, 3))
    assert short < long
    with pytest.raises(RuntimeError, match="estimate needs a compiled model"):
        fnn.Sequential([Dense(1, input_shape=(2,))]).estimate(8)
    unbuilt = fnn.Sequential([Dense(1)])
    unbuilt.compile("sgd", "mse")
    with pytest.raises(ValueError, match="has no weights yet"):
        unbuilt.estimate(8)
    assert unbuilt.estimate(8, x=np.ones((1, 5))).flops > 8 * 5 * 2


@pytest.mark.slow
def test_targets_of_any_form_are_found_or_passed():
    def objective(apply, params, state, batch, ctx):
        x, y = batch
        outputs, state = apply(params, state, x)
        return ((outputs - y["far"]) ** 2).mean(), (state, {})

    model = fnn.Sequential([Dense(3, input_shape=(4,))], seed=0)
    model.compile("sgd", objective=objective)
    assert model.estimate(8, y={"far": np.zeros((1, 3), "float32")}).flops > 8 * 4 * 3 * 2
    model = fnn.Sequential([Dense(3, "softmax", input_shape=(4,))], seed=0)
    model.compile("sgd", "categorical_crossentropy")
    assert model.estimate(8).flops > 0
    assert model.metrics_names == ["loss"]
    model.compile("sgd", fnn.losses.CTC())
    with pytest.raises(ValueError, match=r"labels .* for ctc") as info:
        model.estimate(8)
    assert any("pass y, an array" in note for note in info.value.__notes__)
