"""ReversibleEmbedding: ids to vectors and back, against Keras."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn.core import tree
from fnn.core.calling import call, weight_spec
from fnn.core.context import INFERENCE, Masked
from fnn.layers import Dense, Input, ReversibleEmbedding, Sequential
from fnn.networks import generate
from fnn.testing.subject import jit
from tests.helpers.oracle import keras_rules

IDS = np.array([[3, 1, 0], [4, 4, 2]], "int32")
VECTORS = np.random.default_rng(0).normal(size=(2, 3, 4)).astype("float32")


def made(layer, x, seed=0):
    """(params, state) of random numbers."""
    spec, draw = weight_spec(layer, x), np.random.default_rng(seed).normal
    drawn = jax.tree.map(lambda a: jax.device_put((draw(size=a.shape)).astype(a.dtype)), spec)
    return tuple(map(tree.same_order, drawn, spec))


def close(received, expected, tolerance=1e-5):
    np.testing.assert_allclose(received, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"tie_weights": False},
        {"logit_soft_cap": 1.5},
        {"reverse_dtype": "bfloat16", "tie_weights": False, "logit_soft_cap": 2.0},
    ],
    ids=str,
)
def test_back_and_forth_are_those_of_keras(options):
    """There and back in one: the gradient of a tied table is the sum of both."""
    import keras

    layer = ReversibleEmbedding(5, 4, **options)
    params, state = made(layer, IDS)

    def logits(params, vectors):
        first, _ = call(layer, params, state, IDS, INFERENCE)
        y, _ = call(layer, params, state, first * vectors, INFERENCE)
        return (y.astype("float32") ** 2).sum(), (first, y)

    run = jit(jax.value_and_grad(logits, (0, 1), has_aux=True))
    (_, (first, y)), (gradients, by_vectors) = run(params, VECTORS)
    with keras_rules():
        theirs = keras.layers.ReversibleEmbedding(5, 4, **options)
        theirs.build()
        assert [v.name for v in theirs.weights] == list(params)
        weights = list(params.values())

        def their_logits(weights, vectors):
            first, _ = theirs.stateless_call(weights, [], jnp.asarray(IDS))
            y, _ = theirs.stateless_call(weights, [], first * vectors, reverse=True)
            return (y.astype("float32") ** 2).sum(), (first, y)

        run = jit(jax.value_and_grad(their_logits, (0, 1), has_aux=True))
        (_, (their_first, their_y)), (their_gradients, theirs_by_vectors) = run(weights, VECTORS)
    close(first, their_first)
    assert y.dtype == their_y.dtype
    close(y.astype("float32"), their_y.astype("float32"))
    close(by_vectors, theirs_by_vectors)
    for name, gradient in zip(params, their_gradients, strict=True):
        close(gradients[name], gradient)


@pytest.mark.slow
def test_masks():
    """Ids 0 are padding, and the logits know it: the loss leaves these steps out."""
    layer = ReversibleEmbedding(5, 4, mask_zero=True)
    params, state = made(layer, IDS)
    vectors, _ = call(layer, params, state, IDS, INFERENCE)
    np.testing.assert_array_equal(vectors.mask, IDS != 0)
    logits, _ = call(layer, params, state, vectors, INFERENCE)
    assert isinstance(logits, Masked)
    np.testing.assert_array_equal(logits.mask, IDS != 0)


@pytest.mark.slow
def test_a_graph_uses_one_table_twice():
    ids = Input((None,), dtype="int32")
    table = ReversibleEmbedding(5, 4, embeddings_regularizer="l2")
    model = fnn.Model(ids, table(Dense(4, "tanh")(table(ids)), reverse=True), seed=0)
    assert model.output_shape == (None, None, 5)
    assert set(model.params) == {"reversible_embedding", "dense"}
    embeddings = model.params["reversible_embedding"]["embeddings"]
    dense = model.params["dense"]
    hidden = np.tanh(embeddings[IDS] @ dense["kernel"] + dense["bias"].reshape(1, 1, -1))
    close(model.predict(IDS, verbose=0), hidden @ embeddings.T)
    loss = fnn.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(fnn.optimizers.Adam(0.05), loss)
    losses = model.fit(IDS, IDS, epochs=30, verbose=0).history["loss"]
    assert losses[-1] < 0.5 * losses[0]
    with pytest.raises(ValueError, match="ReversibleEmbedding: expected ids from 0 to 4, recei"):
        model.predict(IDS + 1, verbose=0)
    tokens = generate(model.layer, model.params, model.state, IDS, 2)
    assert tokens.shape == (2, 5)


def test_the_kind_of_the_inputs_decides():
    layer, ids = ReversibleEmbedding(5, 4), Input((4,), dtype="int32")
    assert layer(ids).shape == (None, 4, 4)
    assert layer(layer(ids), reverse=True).shape == (None, 4, 5)
    with pytest.raises(ValueError, match=r"expected reverse to be True for inputs of float32"):
        layer(Input((4,)))  # as wide as a vector
    with pytest.raises(ValueError, match=r"expected reverse to be False for inputs of int32"):
        layer(ids, reverse=True)
    message = r"or vectors of 4 features .*, not float32, received one array of shape \(2, 3\)"
    with pytest.raises(ValueError, match=message):
        weight_spec(Sequential([layer]), np.ones((2, 3), "float32"))
    with pytest.raises(
        ValueError, match=r"vectors of 4 features .* not float32, received one array of shape .*3\)"
    ):
        call(layer, *made(layer, IDS), VECTORS[..., :3], INFERENCE)
    with pytest.raises(ValueError, match=r"ids \(batch, time\) .* mask_zero=True, received"):
        weight_spec(ReversibleEmbedding(5, 4, mask_zero=True), IDS[0])
    vectors = fnn.Model(Sequential([layer]), seed=0)
    assert vectors.predict(VECTORS, verbose=0).shape == (2, 3, 5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_dim": 0}, "input_dim to be an integer above 0, received"),
        ({"output_dim": 2.5}, "output_dim to be an integer, received"),
        ({"reverse_dtype": "int8"}, "reverse_dtype .*received reverse_dtype='int8'"),
        ({"logit_soft_cap": -1}, "logit_soft_cap to be a finite number above 0"),
        ({"logit_soft_cap": 0}, "logit_soft_cap to be a finite number above 0, or None, received"),
    ],
    ids=str,
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=f"ReversibleEmbedding: expected {message}"):
        ReversibleEmbedding(**{"input_dim": 5, "output_dim": 4, **arguments})
