"""SpectralNormalization against Keras and the singular values of NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn.core.calling import call, weight_spec
from fnn.core.context import INFERENCE, Context
from fnn.layers import (
    Conv2D,
    Dense,
    Embedding,
    Ensemble,
    MultiHeadAttention,
    Repeat,
    Sequential,
    SpectralNormalization,
    Training,
)
from fnn.testing.subject import jit
from tests.helpers.oracle import keras_rules

ROWS = np.random.default_rng(0).normal(size=(4, 6)).astype("float32")
IMAGES = np.random.default_rng(1).normal(size=(2, 5, 5, 3)).astype("float32")
IDS = np.array([[1, 4, 0], [2, 2, 3]], "int32")


def made(layer, x, seed=0):
    """(params, state) of random numbers."""
    draw = np.random.default_rng(seed).normal
    return jax.tree.map(
        lambda a: jax.device_put((0.5 * draw(size=a.shape)).astype(a.dtype)), weight_spec(layer, x)
    )


def close(received, expected, tolerance=1e-5):
    np.testing.assert_allclose(received, expected, rtol=tolerance, atol=tolerance)


def objective(y):
    return jnp.vdot(np.random.default_rng(2).normal(size=y.shape).astype("float32"), y)


def their_twin(inner, params, state, x, iterations):
    """Keras's layer with the same weights, by their names."""
    import keras

    layer = keras.layers.SpectralNormalization(inner(keras.layers), iterations)
    layer.build(x.shape)
    named = {**params, **state}
    assert {v.name for v in layer.weights} == set(named)
    for variable in layer.weights:
        variable.assign(named[variable.name])
    return layer


@pytest.mark.slow
@pytest.mark.parametrize("iterations", [1, 3])
@pytest.mark.parametrize(
    ("inner", "x"),
    [
        (lambda layers: layers.Dense(4, "tanh"), ROWS),
        (lambda layers: layers.Conv2D(4, 3, padding="same"), IMAGES),
    ],
    ids=["Dense", "Conv2D"],
)
def test_training_is_that_of_keras(inner, x, iterations):
    """Outputs, the moved vector, gradients by all weights."""
    layer = SpectralNormalization(inner(fnn.layers), iterations)
    params, state = made(layer, x)

    def loss(params):
        y, after = call(layer, params, state, x, Context(train=True))
        return objective(y), (y, after)

    (_, (y, after)), gradients = jit(jax.value_and_grad(loss, has_aux=True))(params)
    with keras_rules():
        theirs = their_twin(inner, params, state, x, iterations)
        moving = [v.value for v in theirs.non_trainable_variables]

        def their_loss(trained):
            y, moved = theirs.stateless_call(trained, moving, jnp.asarray(x), training=True)
            return objective(y), (y, moved)

        run = jit(jax.value_and_grad(their_loss, has_aux=True))
        trained = theirs.trainable_variables
        (_, (expected, (moved,))), their_gradients = run([v.value for v in trained])
    close(y, expected)
    close(after["vector_u"], moved)
    for variable, gradient in zip(trained, their_gradients, strict=True):
        close(gradients[variable.name], gradient)


@pytest.mark.slow
def test_an_embedding_has_the_table_of_keras():
    """Keras's own outputs are useless: it casts the vectors to the dtype of the ids."""
    inner = lambda layers: layers.Embedding(6, 4)
    layer = SpectralNormalization(inner(fnn.layers))
    params, state = made(layer, IDS)
    y, after = call(layer, params, state, IDS, Context(train=True))
    with keras_rules():
        moved, table = their_twin(inner, params, state, IDS, 1).normalized_weights()
    close(y, np.asarray(table)[IDS])
    close(after["vector_u"], moved)
    masking = SpectralNormalization(Embedding(6, 4, mask_zero=True))
    np.testing.assert_array_equal(call(masking, params, state, IDS, INFERENCE)[0].mask, IDS != 0)


def test_the_stored_vector_moves_in_training_and_only_there():
    """Division is by the same number whether the layer is frozen; inference does not divide."""
    layer = SpectralNormalization(Dense(4))
    params, state = made(layer, ROWS)
    u = np.asarray(state["vector_u"], "float64")
    kernel, bias = (np.asarray(params[name], "float64") for name in ("kernel", "bias"))
    v = u @ kernel.T / np.linalg.norm(u @ kernel.T)
    sigma = np.linalg.norm(v @ kernel)
    for ctx in (INFERENCE, Context(train=True), Context(train=True, frozen=True)):
        y, after = call(layer, params, state, ROWS, ctx)
        close(y, ROWS @ kernel / (sigma if ctx.train else 1) + bias)
        moved = not np.array_equal(after["vector_u"], state["vector_u"])
        assert moved == (ctx == Context(train=True))
    y, _ = call(Training(layer), params, state, ROWS, INFERENCE)
    close(y, ROWS @ kernel / sigma + bias)


def test_many_iterations_reach_the_largest_singular_value():
    layer = SpectralNormalization(Conv2D(4, 3, use_bias=False))
    params, state = made(layer, IMAGES)
    step = jit(lambda state: call(layer, params, state, IMAGES, Context(train=True)))
    for _ in range(50):
        _, state = step(state)
    sigma = np.linalg.norm(np.asarray(params["kernel"]).reshape(-1, 4), 2)
    y, _ = step(state)
    plain, _ = jit(lambda x: call(layer.inner, params, {}, x, INFERENCE))(IMAGES)
    close(y, plain / sigma, 1e-4)


def test_a_kernel_of_zeros_stays_one():
    layer = SpectralNormalization(Dense(4, kernel_initializer="zeros"))
    params, state = layer.init(jax.random.key(0), ROWS)
    loss = lambda params: call(layer, params, state, ROWS, Context(train=True))[0].sum()
    value, gradient = jit(jax.value_and_grad(loss))(params)
    assert value == 0
    assert np.isfinite(gradient["kernel"]).all()
    _, after = call(layer, params, state, ROWS, Context(train=True))
    np.testing.assert_array_equal(after["vector_u"], state["vector_u"])


def test_weights_are_named_as_in_keras():
    params, state = weight_spec(SpectralNormalization(Dense(4)), ROWS)
    assert jax.tree.map(lambda a: a.shape, (params, state)) == (
        {"kernel": (6, 4), "bias": (4,)},
        {"vector_u": (1, 4)},
    )
    nested = Sequential([Repeat(SpectralNormalization(Dense(6)), 3)])
    assert weight_spec(nested, ROWS)[1]["repeat"]["vector_u"].shape == (3, 1, 6)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: SpectralNormalization(3), TypeError, "SpectralNormalization: expected a layer as"),
        (
            lambda: SpectralNormalization(Dense(2), 0),
            ValueError,
            "power_iterations to be an integer",
        ),
        *(
            (
                lambda cls=cls: SpectralNormalization(cls(Dense(6), 2)),
                ValueError,
                f"with one kernel, not one for each copy, received inner={cls.__name__}.*; e",
            )
            for cls in (Repeat, Ensemble)
        ),
        (
            lambda: weight_spec(SpectralNormalization(MultiHeadAttention(2, 3)), IMAGES),
            ValueError,
            r"a weight 'kernel' or 'embeddings', received inner=MultiHead.*\['attention_output'",
        ),
        (
            lambda: weight_spec(SpectralNormalization(Sequential([Dense(3)])), ROWS),
            ValueError,
            r"or 'embeddings', received inner=Sequential.*; wrap the layers inside it, which has",
        ),
    ],
)
def test_what_has_no_kernel_of_its_own_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()
