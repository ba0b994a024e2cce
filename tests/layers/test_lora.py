"""LoRA against W + alpha / rank * A @ B by NumPy, and trained by `fit`."""

import jax
import numpy as np
import pytest

import fnn
from fnn.core import tree, weights
from fnn.core.calling import call, initialize, weight_spec
from fnn.core.context import INFERENCE, Context
from fnn.last_activation import without_last_activation
from fnn.layers import (
    BatchNormalization,
    Conv2D,
    Dense,
    Ensemble,
    Frozen,
    LoRA,
    MultiHeadAttention,
    Repeat,
    Residual,
    Sequential,
)
from fnn.networks import gpt
from fnn.testing.subject import jit

X = np.random.default_rng(0).normal(size=(4, 6)).astype("float32")
STEPS = np.random.default_rng(1).normal(size=(2, 5, 6)).astype("float32")
IMAGES = np.random.default_rng(2).normal(size=(2, 5, 5, 3)).astype("float32")
BLOCKS = Sequential([Repeat(Residual(Sequential([Dense(6, "tanh")])), 3), Ensemble(Dense(2), 2)])


def made(layer, x, seed=0):
    """(params, state) of random numbers, `b` too."""
    draw = np.random.default_rng(seed).normal
    return jax.tree.map(lambda a: (0.5 * draw(size=a.shape)).astype(a.dtype), weight_spec(layer, x))


def close(received, expected, tolerance=1e-5):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance),
        received,
        expected,
    )


def changed(params, scale):
    """`inner` with the changes added, by NumPy, copy by copy where there are such."""
    plain = params["inner"]
    for path, kernel in tree.flatten(plain):
        pair = tree.get(params["lora"], path)
        if pair:
            a, b = (np.asarray(pair[name], "float64") for name in "ab")
            subscripts = "n...r,nro->n...o" if b.ndim == 3 else "...r,ro->...o"
            change = scale * np.einsum(subscripts, a, b)
            plain = tree.put(plain, path, (kernel + change).astype("float32"))
    return plain


INNER = {
    "dense": (Dense(4, "tanh"), X, {"kernel"}),
    "convolution": (Conv2D(4, 3), IMAGES, {"kernel"}),
    "attention": (
        MultiHeadAttention(2, 3),
        STEPS,
        {f"{part}/kernel" for part in ("query", "key", "value", "attention_output")},
    ),
    "copies": (BLOCKS, X, {"repeat/dense/kernel", "ensemble/kernel"}),
}


@pytest.mark.parametrize("name", INNER)
@pytest.mark.parametrize("alpha", [pytest.param(None, marks=pytest.mark.slow), 5.0])
def test_it_is_inner_with_changed_kernels(name, alpha):
    inner, x, paths = INNER[name]
    layer = LoRA(inner, 2, alpha)
    params, state = made(layer, x)
    plain = changed(params, 1 if alpha is None else alpha / 2)
    found = {"/".join(path[:-1]) for path, _ in tree.flatten(params["lora"])}
    assert found == paths
    run = jit(lambda params: call(layer, params, state, x, INFERENCE)[0])
    expected = jit(lambda plain: call(inner, plain, state["inner"], x, INFERENCE)[0])(plain)
    close(run(params), expected)
    close(layer.merge(params), plain)


@pytest.mark.slow
@pytest.mark.parametrize("name", INNER)
def test_at_first_it_is_inner(name, key):
    """To the bit, with random `a` and zeros in `b`; copies of a layer have changes of their own."""
    inner, x, _ = INNER[name]
    layer = LoRA(inner, 2)
    params, state = initialize(layer, key, x)
    y, _ = call(layer, params, state, x, INFERENCE)
    expected, _ = call(inner, params["inner"], state["inner"], x, INFERENCE)
    np.testing.assert_array_equal(y, expected)
    drawn = dict(tree.flatten(jax.device_get(params["lora"])))
    for path, leaf in drawn.items():
        assert bool((leaf == 0).all()) == (path[-1] == "b")
    first = [leaf.ravel()[:4].tolist() for path, leaf in drawn.items() if path[-1] == "a"]
    assert len(first) == len(set(map(tuple, first)))
    if name == "copies":
        a = drawn["repeat", "dense", "kernel", "a"]
        assert a.shape == (3, 6, 2)
        assert not np.array_equal(a[0], a[1])
        bound = np.sqrt(6 / 6)  # of he_uniform: sqrt(6 / features), not that of a stack
        assert 0.7 * bound < np.abs(a).max() <= bound


@pytest.mark.slow
def test_only_the_pair_has_gradients_and_slots():
    layer = Sequential([LoRA(Sequential([Dense(4), BatchNormalization()]), 2), Dense(1)])
    params, state = made(layer, X)
    loss = lambda params: call(layer, params, state, X, Context(train=True))[0].sum()
    gradients = dict(tree.flatten(jax.device_get(jit(jax.grad(loss))(params))))
    for path, gradient in gradients.items():
        assert bool((gradient != 0).any()) == (path[1] != "inner")
    _, fixed = weights.split(layer, params)
    assert [p for p, _ in tree.flatten(fixed)] == [p for p in gradients if p[1] == "inner"]


@pytest.mark.slow
def test_fit_changes_the_pair_alone():
    net = Sequential([Dense(8, "tanh", input_shape=(6,)), BatchNormalization(), Dense(1)])
    model = fnn.Sequential([LoRA(net, 2, name="tuned")], seed=0)
    model.compile("adam", "mse")
    before, moved = model.params["tuned"], model.state
    losses = model.fit(X, X.sum(-1, keepdims=True), epochs=8, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    after = model.params["tuned"]
    jax.tree.map(np.testing.assert_array_equal, after["inner"], before["inner"])
    jax.tree.map(np.testing.assert_array_equal, model.state, moved)
    pairs = [jax.tree.leaves(params["lora"]) for params in (before, after)]
    assert all((a != b).any() for a, b in zip(*pairs, strict=True))
    slots = [leaf.shape for leaf in jax.tree.leaves(model.train_state.optimizer) if leaf.ndim]
    assert sorted(slots) == sorted(2 * [a.shape for a in pairs[0]])


@pytest.mark.slow
def test_a_trained_model_goes_in_and_comes_out():
    pretrained = fnn.Sequential([Dense(8, "tanh", input_shape=(6,)), Dense(1)], seed=3)
    expected = pretrained.predict(X, verbose=0)
    layer = LoRA(pretrained, 2)
    tuned = fnn.Model(layer, seed=4)
    np.testing.assert_array_equal(tuned.predict(X, verbose=0), expected)
    tuned.compile("adam", "mse")
    tuned.fit(X, X.sum(-1, keepdims=True), epochs=3, verbose=0)
    after = tuned.predict(X, verbose=0)
    pretrained.params = layer.merge(tuned.params)  # which `tuned` has inside, too
    close(pretrained.predict(X, verbose=0), after)
    assert not np.array_equal(pretrained.predict(X, verbose=0), expected)


def test_trained_weights_are_put_in_by_hand(key):
    inner = Sequential([Dense(8, "tanh"), Dense(1)])
    trained_params, _ = made(inner, X, seed=5)
    layer = LoRA(inner, 2)
    params, state = layer.init(key, X)
    params = {**params, "inner": trained_params}
    expected, _ = call(inner, trained_params, state["inner"], X, INFERENCE)
    close(layer.apply(params, state, X)[0], expected)


@pytest.mark.slow
def test_a_language_model_is_tuned_through_its_logits():
    """It ends in softmax: the loss is taken before, as of the network itself."""
    network = gpt(7, 8, depth=1, heads=2, context=5)
    layer = LoRA(network, 2, patterns=("**/attention/query/kernel", "**/attention/value/kernel"))
    ids = np.random.default_rng(3).integers(0, 7, (8, 5)).astype("int32")
    params, _ = weight_spec(layer, ids)
    assert {path[-3] for path, _ in tree.flatten(params["lora"])} == {"query", "value"}
    bare, ends = without_last_activation(layer, ids)
    assert ends[()].name == "softmax"
    assert bare.inner != layer.inner
    model = fnn.Model(layer, seed=0)
    model.compile(fnn.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    history = model.fit(ids, ids, epochs=4, verbose=0).history["loss"]
    assert history[-1] < history[0]
    with pytest.raises(ValueError, match="Embedding: expected ids from 0 to 6, received 7"):
        model.fit(ids + 1, ids, verbose=0)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: LoRA(3, 2), TypeError, "LoRA: expected a layer as inner, received 3"),
        (lambda: LoRA(Dense(2), 0), ValueError, "rank to be an integer above 0, received rank"),
        (lambda: LoRA(Dense(2), 2, -1), ValueError, "alpha to be a finite number not below 0"),
        (lambda: LoRA(Dense(2), 2, patterns=("",)), ValueError, "patterns to be patterns of paths"),
        (
            lambda: weight_spec(LoRA(Dense(2), 2, patterns=("**/bias",)), X),
            ValueError,
            r"patterns to match a trainable weight with at least two axes, out of kernel, bias",
        ),
        (
            lambda: weight_spec(LoRA(Sequential([Frozen(Dense(2))]), 2), X),
            ValueError,
            r"two axes, out of frozen/kernel, frozen/bias, received patterns=\('\*\*/kernel',\)",
        ),
        (lambda: weight_spec(LoRA(Sequential([]), 2), X), ValueError, "out of no weights, rec"),
    ],
)
def test_what_cannot_be_changed_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.slow
def test_what_is_frozen_inside_stays():
    layer = LoRA(Sequential([Frozen(Dense(4)), Dense(2)]), 2)
    params, _ = weight_spec(layer, X)
    assert set(params["lora"]) == {"dense"}
