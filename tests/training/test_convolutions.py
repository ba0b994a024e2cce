"""Convolutions on CPU: a step computes them as products where all of them are fast that way."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import fnn
from fnn import layers as L
from fnn.core.calling import weight_spec
from fnn.layers.shared import spatial
from fnn.training import engine
from fnn.training.cost import equations

SEQUENTIAL = {
    "digits": (
        [L.Conv2D(32, 3, activation="relu"), L.MaxPooling2D(), L.Conv2D(64, 3)],
        (12, 12, 1),
    ),
    "colors": ([L.Conv2D(16, 3, padding="same", strides=2), L.Conv2D(32, 3)], (9, 9, 3)),
    "few filters": ([L.Conv2D(6, 5, activation="tanh"), L.Conv2D(16, 5)], (12, 12, 1)),
    "steps": ([L.Conv1D(64, 3, dilation_rate=2), L.Conv1D(32, 3, padding="causal")], (14, 3)),
    "in a loop": ([L.ConvLSTM2D(3, 3, padding="same", data_format=None)], (3, 6, 6, 1)),
}
KEPT = {
    "as many filters as channels": ([L.Conv2D(32, 3), L.Conv2D(32, 3)], (34, 34, 3), "float32"),
    "many filters": ([L.Conv2D(250, 3)], (9, 9, 1), "float32"),
    "groups": ([L.Conv2D(32, 3), L.Conv2D(32, 3, groups=2)], (9, 9, 3), "float32"),
    "transposed": ([L.Conv2D(32, 3), L.Conv2DTranspose(4, 3)], (9, 9, 3), "float32"),
    "half precision": ([L.Conv2D(32, 3)], (9, 9, 3), "bfloat16"),
    "of the user": (
        [L.Conv2D(8, 3), L.Lambda(lambda x: lax.conv(x, jnp.ones((2, 7, 1, 1)), (1, 1), "VALID"))],
        (9, 9, 3),
        "float32",
    ),
}


def problem(layers, shape, dtype="float32"):
    """(a step of gradient descent, weights, 3 batches of 4 examples)."""
    layer = L.Sequential([*layers, L.GlobalAveragePooling2D() if len(shape) == 3 else L.Flatten()])
    rng, dtype = np.random.default_rng(0), jnp.dtype(dtype)
    x = rng.normal(size=(3, 4, *shape)).astype(dtype)
    specs, state = weight_spec(layer, x[0])
    params = jax.tree.map(lambda a: (0.2 * rng.normal(size=a.shape)).astype(dtype), specs)
    assert not jax.tree.leaves(state)

    def loss(params, x):
        return jnp.sin(3 * layer.apply(params, state, x)[0]).mean()

    def step(params, x, key):
        value, gradients = jax.value_and_grad(loss)(params, x)
        return jax.tree.map(lambda p, g: p - 0.1 * g, params, gradients), {"loss": value}

    return step, params, x


def programs(step, params, x):
    """The programs of training and of evaluation."""
    key = jax.eval_shape(lambda: jax.random.key(0))
    specs = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), (params, x[0]))
    return [engine.program(step, *specs, key, read_only) for read_only in (False, True)]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        # Square windows without strides are in "digits" too.
        pytest.param(name, marks=pytest.mark.thorough) if name == "few filters" else name
        for name in SEQUENTIAL
    ],
)
def test_a_step_of_products_has_the_numbers_of_xla(name, monkeypatch):
    """Many steps in a dispatch; the weights are those of a loop over steps with convolutions."""
    step, params, x = problem(*SEQUENTIAL[name])
    train, _ = programs(step, params, x)
    assert train.capacity > 1
    examples = x.reshape(-1, *x.shape[2:])
    found, history = fnn.training.fit(
        step, params, examples, batch_size=4, shuffle=False, verbose=0
    )
    # In a loop over time, convolutions are products in any step.
    monkeypatch.setattr(spatial, "MOST_IN_PATCHES", -1)
    monkeypatch.setattr(spatial, "_is_fast", lambda *given: False)
    step, _, _ = problem(*SEQUENTIAL[name])
    lowered, wanted, losses = jax.jit(step).lower(params, x[0], None), params, []
    assert "stablehlo.convolution" in lowered.as_text()
    by_xla = lowered.compile()
    for batch in x:
        wanted, logs = by_xla(wanted, batch, None)
        losses.append(logs["loss"])
    np.testing.assert_allclose(history.history["loss"], [np.mean(losses)], rtol=1e-5, atol=1e-6)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_repeated_convolutions_are_products_where_they_are_trained():
    """Their gradients are slow in a loop; forward alone, a convolution is not."""
    inner = L.Conv2D(4, 3, padding="same", activation="tanh")
    layer, x = L.Repeat(inner, 3), jax.random.normal(jax.random.key(0), (2, 6, 6, 4))
    params, state = layer.init(jax.random.key(1), x)

    def repeated(params, x):
        return jnp.sin(layer.apply(params, state, x)[0]).sum()

    def written_out(params, x):
        for kernel, bias in zip(params["kernel"], params["bias"], strict=True):
            x = inner.apply({"kernel": kernel, "bias": bias}, {}, x)[0]
        return jnp.sin(x).sum()

    forward, gradients = jax.jit(repeated), jax.jit(jax.grad(repeated, (0, 1)))
    assert "stablehlo.convolution" in forward.lower(params, x).as_text()
    assert "stablehlo.convolution" not in gradients.lower(params, x).as_text()
    found, wanted = gradients(params, x), jax.jit(jax.grad(written_out, (0, 1)))(params, x)
    for one, other in zip(*map(jax.tree.leaves, (found, wanted)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", KEPT)
def test_a_step_with_another_convolution_keeps_all(name):
    layers, shape, dtype = KEPT[name]
    step, params, x = problem(layers, shape, dtype)
    if name == "as many filters as channels":
        x = np.zeros((1, 32, *shape), "float32")  # the patches of a small batch are small
    assert [one.capacity for one in programs(step, params, x)] == [1, 1]


def test_evaluation_keeps_convolutions():
    train, evaluate = programs(*problem(*SEQUENTIAL["digits"]))
    assert train.capacity > 1 == evaluate.capacity


def test_a_loop_keeps_no_patches_for_its_backward_pass():
    """They would take 9 times the memory of the images, for each of the steps."""
    layer = L.ConvLSTM2D(4, 3, padding="same")
    x = jnp.zeros((2, 7, 6, 6, 4))
    params, state = layer.init(jax.random.key(0), x)
    loss = lambda params: layer.apply(params, state, x)[0].sum()
    traced = jax.make_jaxpr(jax.grad(loss))(params)
    loops = [one for one in equations(traced.jaxpr) if one.primitive.name == "scan"]
    kept = [variable.aval for loop in loops for variable in loop.outvars]
    assert loops
    assert max(array.shape[-1] for array in kept) == 4 * 4  # the gates


@pytest.mark.parametrize(
    ("layers", "traces"),
    [
        ([L.Conv2D(32, 3)], 1),
        ([L.Conv2D(32, 1)], 1),  # a product anyway
        ([L.Conv2D(250, 3)], 2),  # the first trace ends there
        (KEPT["of the user"][0], 2),
    ],
)
def test_a_step_is_traced_again_where_a_convolution_stays(layers, traces):
    step, params, x = problem(layers, (9, 9, 3))
    calls = []

    def counted(*given):
        calls.append(1)
        return step(*given)

    key = jax.eval_shape(lambda: jax.random.key(0))
    specs = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), (params, x[0]))
    with jax.checking_leaks():  # what an ended trace leaves behind
        engine.program(counted, *specs, key)
    assert len(calls) == traces


@pytest.mark.slow
def test_what_was_compiled_outside_of_a_step_changes_nothing_inside():
    """A function of the user's own that JAX has compiled for evaluation, or not."""
    layer = L.Conv2D(32, 3)
    params, state = layer.init(jax.random.key(0), jnp.zeros((4, 9, 9, 3)))
    compiled = jax.jit(lambda x: layer.apply(params, state, x)[0])
    step, params_of_step, x = problem([L.Conv2D(3, 1), L.Lambda(compiled)], (9, 9, 3))
    compiled(x[0])
    train, evaluate = programs(step, params_of_step, x)
    assert train.capacity > 1 == evaluate.capacity
