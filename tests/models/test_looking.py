"""Outputs of layers inside, and losses and gradients of single examples, against loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn.layers import BatchNormalization, Dense, Dropout, Repeat

X = np.linspace(-1, 1, 40, dtype="float32").reshape(10, 4)
Y = np.arange(10) % 3


def row():
    inner = fnn.layers.Sequential([Dense(5, "tanh"), Dropout(0.5), Dense(3)], name="inner")
    rows = [Dense(6, "relu", name="first", input_shape=(4,)), inner, BatchNormalization()]
    return fnn.Sequential([*rows, Dense(3, "softmax", name="head")], seed=0)


def graph():
    x = fnn.Input((4,))
    shared = Dense(4, "tanh", name="shared")
    h = fnn.layers.Add(name="sum")([shared(x), shared(shared(x))])
    return fnn.Model(x, Dense(3, "softmax", name="head")(h), seed=0)


class Subclassed(fnn.Model):
    def __init__(self):
        super().__init__(seed=0)
        self.encoder = fnn.Sequential([Dense(6, "relu"), Dense(5)])
        self.head = Dense(3, "softmax")

    def call(self, x):
        return self.head(self.encoder(x))


def compiled(model):
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.build((None, 4))
    draw = np.random.default_rng(0).uniform
    model.set_weights([draw(0.1, 0.9, w.shape) for w in model.get_weights()])
    return model


# -- layers inside -------------------------------------------------------------------------------


@pytest.mark.slow
def test_outputs_inside_a_row_are_those_of_models_that_end_there():
    model = compiled(row())
    found = model.intermediates(X, ["*", "inner/**"], batch_size=4)
    assert set(found) == {
        *("first", "inner", "inner/dense", "inner/dense_1", "inner/dropout"),
        *("batch_normalization", "head"),
    }
    for index, name in enumerate(("first", "inner", "batch_normalization", "head")):
        part = fnn.Model(model.inputs[0], model.layers[index].output)
        np.testing.assert_allclose(found[name], part.predict(X, verbose=0), rtol=1e-5, atol=1e-6)
    params = model.params["inner"]
    kernel, bias = (np.asarray(params["dense"][name]) for name in ("kernel", "bias"))
    h = np.tanh(found["first"] @ kernel + bias)
    np.testing.assert_allclose(found["inner/dense"], h, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found["inner/dropout"], found["inner/dense"])


@pytest.mark.slow
def test_a_layer_that_is_called_several_times_has_its_last_outputs():
    model = compiled(graph())
    found = model.intermediates(X, "shared")["shared"]
    kernel, bias = (np.asarray(model.params["shared"][name]) for name in ("kernel", "bias"))
    once = np.tanh(X @ kernel + bias)
    np.testing.assert_allclose(found, np.tanh(once @ kernel + bias), rtol=1e-5, atol=1e-6)
    both = model.intermediates(X, ("sum", "head"))
    np.testing.assert_allclose(both["sum"], once + found, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(both["head"], model.predict(X, verbose=0), rtol=1e-5)


@pytest.mark.slow
def test_outputs_inside_a_subclassed_model_and_a_model_in_it():
    model = compiled(Subclassed())
    found = model.intermediates(X, ("encoder", "encoder/*", "head"))
    encoded = model.encoder.predict(X, verbose=0)
    np.testing.assert_allclose(found["encoder"], encoded, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found["encoder/dense_1"], encoded, rtol=1e-5, atol=1e-6)
    assert found["encoder/dense"].shape == (10, 6)
    np.testing.assert_allclose(found["head"], model.predict(X, verbose=0), rtol=1e-5)


@pytest.mark.slow
def test_copies_come_first_and_masks_are_left_out():
    blocks = fnn.layers.Sequential([Dense(4, "tanh")])
    model = fnn.Sequential([Repeat(blocks, 3, name="blocks"), Dense(2)], seed=0)
    model.build((None, 4))
    found = model.intermediates(X, "blocks/*", batch_size=4)["blocks/dense"]
    h = X
    for index in range(3):
        kernel = model.params["blocks"]["dense"]["kernel"][index]
        h = np.tanh(h @ np.asarray(kernel))
        np.testing.assert_allclose(found[index], h, rtol=1e-5, atol=1e-6)
    words = fnn.Sequential(
        [fnn.layers.Embedding(5, 3, mask_zero=True, name="words"), fnn.layers.LSTM(2)], seed=0
    )
    found = words.intermediates(np.array([[1, 2, 0]]), "words")["words"]
    np.testing.assert_array_equal(
        found[0], words.params["words"]["embeddings"][np.array([1, 2, 0])]
    )
    with pytest.raises(
        ValueError, match=r"intermediates: expected paths to be patterns of layers.*"
    ):
        words.intermediates(np.array([[1]]), "wrds")


# -- single examples -----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("make", [row, pytest.param(graph, marks=pytest.mark.thorough), Subclassed])
def test_losses_and_gradient_norms_are_those_of_a_loop(make):
    model = compiled(make())
    weight = np.linspace(0.5, 2, 10, dtype="float32")
    losses = model.per_example_losses(X, Y, batch_size=4)
    norms = model.per_example_gradient_norms(X, Y, batch_size=4)
    expected = [model.test_on_batch(X[i : i + 1], Y[i : i + 1])[0] for i in range(10)]
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    np.testing.assert_allclose(losses.mean(), model.evaluate(X, Y, verbose=0)[0], rtol=1e-5)
    values = [v.value for v in model.trainable_variables]
    others = [v.value for v in model.non_trainable_variables]

    @jax.jit
    def norm(values, x, y):
        def loss(values):
            outputs, _ = model.stateless_call(values, others, x[None], training=False)
            return -jnp.log(outputs[0, y])

        return jnp.sqrt(sum(jnp.square(g).sum() for g in jax.grad(loss)(values)))

    by_hand = [float(norm(values, x, y)) for x, y in zip(X, Y, strict=True)]
    np.testing.assert_allclose(norms, by_hand, rtol=2e-4)
    weighted = model.per_example_losses(X, Y, sample_weight=weight)
    expected = model.evaluate(X[3:4], Y[3:4], sample_weight=weight[3:4], verbose=0)[0]
    np.testing.assert_allclose(weighted[3], expected, rtol=1e-5)


def test_only_weights_that_learn_count_and_penalties_do():
    model = fnn.Sequential([Dense(1, use_bias=False, kernel_regularizer="l2", name="one")], seed=0)
    model.compile("sgd", "mse")
    targets = X[:, :1]
    losses = model.per_example_losses(X, targets)
    kernel = np.asarray(model.params["one"]["kernel"])
    errors = (X @ kernel - targets)[:, 0]
    np.testing.assert_allclose(losses, errors**2 + 0.01 * (kernel**2).sum(), rtol=1e-4, atol=1e-6)
    norms = model.per_example_gradient_norms(X, targets)
    expected = np.linalg.norm(2 * errors[:, None] * X + 0.02 * kernel[:, 0], axis=1)
    np.testing.assert_allclose(norms, expected, rtol=1e-4, atol=1e-6)
    model.freeze("one/**")
    np.testing.assert_array_equal(model.per_example_gradient_norms(X, targets), 0)


def test_an_objective_of_the_users_counts_by_example_too():
    def objective(apply, params, state, batch, ctx):
        outputs, state = apply(params, state, batch)
        return jnp.square(outputs).mean(), (state, {})

    model = fnn.Sequential([Dense(3, input_shape=(4,))], seed=0)
    model.compile("sgd", objective=objective)
    expected = np.square(model.predict(X, verbose=0)).mean(1)
    np.testing.assert_allclose(model.per_example_losses(X), expected, rtol=1e-5)


@pytest.mark.slow
def test_models_whose_loss_has_no_single_examples_are_refused():
    with pytest.raises(RuntimeError, match="per_example_losses needs a compiled model"):
        row().per_example_losses(X, Y)

    class Own(Subclassed):
        def test_step(self, state, data):
            return {"loss": jnp.zeros(())}, state

    with pytest.raises(ValueError, match="computes its loss in a step of its class"):
        compiled(Own()).per_example_losses(X, Y)
    first = fnn.Input(batch_shape=(2, 3, 4))
    stateful = fnn.Sequential([first, fnn.layers.LSTM(2, stateful=True), Dense(1)])
    stateful.compile("sgd", "mse")
    with pytest.raises(ValueError, match="is stateful, so the loss of an example depends"):
        stateful.per_example_losses(np.ones((2, 3, 4)), np.ones((2, 1)))
