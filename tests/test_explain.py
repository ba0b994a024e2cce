"""Explain: exact on linear functions, complete, and equal to hand-written computations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn import explain
from fnn.core.calling import weight_spec
from fnn.core.context import INFERENCE, Context, strip_masks
from fnn.layers import (
    BatchNormalization,
    Conv2D,
    Dense,
    Flatten,
    Frozen,
    GlobalAveragePooling2D,
    Input,
    Repeat,
    Residual,
    Sequential,
)

RNG = np.random.default_rng(0)
close = np.testing.assert_allclose


def draw(*shape):
    return RNG.normal(size=shape).astype("float32")


def with_weights(layer, x):
    """(layer, params, state) with random weights, biases too."""
    params, state = weight_spec(layer, x)
    params = jax.tree.map(lambda a: jnp.asarray(0.3 * draw(*a.shape)), params)
    return layer, params, jax.tree.map(lambda a: np.ones(a.shape, a.dtype), state)


KERNEL, BIAS = draw(5, 3), draw(3)
LINEAR = Dense(3), {"kernel": KERNEL, "bias": BIAS}, {}
X = draw(4, 5)
CLASSES = np.array([2, 0, 1, 2])


def test_a_linear_network_is_explained_exactly():
    ofs = KERNEL[:, CLASSES].T  # (n, features): the weights of the class of each example
    close(explain.saliency(LINEAR, X, CLASSES), abs(ofs))
    close(explain.smooth_grad(LINEAR, X, CLASSES, samples=3), ofs, rtol=1e-5)
    baseline = draw(1, 5)
    parts = explain.integrated_gradients(LINEAR, X, CLASSES, baseline=baseline, steps=4)
    close(parts, (X - baseline) * ofs, rtol=1e-5)


@pytest.mark.slow
def test_the_target_is_a_class_or_classes_or_the_largest_output_or_a_function():
    one = explain.saliency(LINEAR, X, 1)
    close(one, np.tile(abs(KERNEL[:, 1]), (4, 1)))
    close(explain.saliency(LINEAR, X, lambda y: y[:, 1]), one)
    largest = (X @ KERNEL + BIAS).argmax(1)
    close(explain.saliency(LINEAR, X), abs(KERNEL[:, largest].T))
    close(explain.saliency(lambda x: x @ KERNEL[:, 0], X), np.tile(abs(KERNEL[:, 0]), (4, 1)))


@pytest.mark.slow
def test_saliency_and_smooth_grad_equal_hand_written_ones():
    model = with_weights(Sequential([Dense(8, "tanh"), Dense(3)]), X)
    p = model[1]

    def score(x, c):
        h = jnp.tanh(x @ p["dense"]["kernel"] + p["dense"]["bias"])
        return (h @ p["dense_1"]["kernel"] + p["dense_1"]["bias"])[c]

    gradient = jax.jit(jax.vmap(jax.grad(score)))
    close(explain.saliency(model, X, CLASSES), abs(gradient(X, CLASSES)), rtol=1e-5)

    def smoothed(key):
        total, width = 0, 0.2 * (X.max(1, keepdims=True) - X.min(1, keepdims=True))
        for own in jax.random.split(key, 6):
            noise = jax.random.normal(jax.random.fold_in(own, 0), X.shape)
            total += gradient(X + width * noise, CLASSES)
        return total / 6

    key = jax.random.key(3)
    found = explain.smooth_grad(model, X, CLASSES, key=key, samples=6, noise=0.2)
    close(found, jax.jit(smoothed)(key), rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_saliency_equals_that_of_pytorch():
    torch = pytest.importorskip("torch")
    layer, params, state = with_weights(Sequential([Dense(6, "sigmoid"), Dense(3)]), X)
    x = torch.tensor(X, requires_grad=True)
    w = [torch.tensor(np.array(a)) for d in params.values() for a in (d["kernel"], d["bias"])]
    y = torch.sigmoid(x @ w[0] + w[1]) @ w[2] + w[3]
    y[torch.arange(4), torch.tensor(CLASSES)].sum().backward()
    close(explain.saliency((layer, params, state), X, CLASSES), abs(x.grad.numpy()), rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_integrated_gradients_are_complete(activation):
    net = Sequential([Dense(16, activation), Dense(3, "softmax")])
    model = layer, params, state = with_weights(net, X)
    baseline = draw(4, 5)
    parts = explain.integrated_gradients(model, X, CLASSES, baseline=baseline, steps=2000)
    y, start = (layer.apply(params, state, x)[0][np.arange(4), CLASSES] for x in (X, baseline))
    close(parts.sum(1), y - start, atol=2e-4)


@pytest.mark.slow
def test_several_inputs_have_a_map_each():
    def f(x):
        return (x["a"] ** 2).sum(1) + 3 * x["b"][:, 0]

    x = {"a": draw(4, 2), "b": draw(4, 1)}
    parts = explain.integrated_gradients(f, x)
    close(parts["a"], x["a"] ** 2, rtol=1e-4)
    close(parts["b"], 3 * x["b"], rtol=1e-4)


IMAGES = draw(3, 9, 8, 2)


def network():
    return Sequential(
        [
            Conv2D(4, 3, activation="relu", name="first"),
            Frozen(Conv2D(5, 3, activation="tanh"), name="second"),
            GlobalAveragePooling2D(),
            Dense(3, "softmax", name="classes"),
        ]
    )


@pytest.mark.slow
@pytest.mark.parametrize(("name", "logits"), [("first", False), ("second", True)])
def test_grad_cam_equals_a_hand_written_one(name, logits):
    layer, params, state = with_weights(network(), IMAGES)
    children = dict(layer.children())
    names = list(children)
    after = names.index(name) + 1

    def run(x, names):
        for child in names:
            x, _ = children[child].apply(params.get(child, {}), state.get(child, {}), x)
        return x

    if logits:  # the last layer without its softmax
        children["classes"] = Dense(3, name="classes")

    def score(features):
        return run(features, names[after:])[np.arange(3), np.array([1, 2, 0])].sum()

    def by_hand(images):
        features = run(images, names[:after])
        return features, jax.grad(score)(features)

    features, gradient = map(np.asarray, jax.jit(by_hand)(IMAGES))
    weights = gradient.mean((1, 2))  # (n, channels)
    expected = np.maximum(np.einsum("nhwc,nc->nhw", features, weights), 0)
    assert expected.max() > 0
    model = layer, params, state
    found = explain.grad_cam(model, IMAGES, name, np.array([1, 2, 0]), logits=logits)
    close(found, expected, rtol=1e-4, atol=1e-7)


@pytest.mark.slow
def test_activations_are_the_outputs_of_the_layers():
    layer, params, state = with_weights(network(), IMAGES)
    found = explain.activations((layer, params, state), IMAGES)
    assert list(found) == ["first", "second", "global_average_pooling2d", "classes"]
    x = IMAGES
    for name, child in layer.children():
        x, _ = child.apply(params.get(name, {}), state.get(name, {}), x)
        close(found[name], x, rtol=1e-5, atol=1e-6)
    assert list(explain.activations((layer, params, state), IMAGES, ["second"])) == ["second"]


@pytest.mark.slow
def test_activations_in_a_graph_with_a_shared_layer_and_layers_inside_layers():
    start = Input((5,))
    shared = Dense(5, name="shared")
    block = Residual(Sequential([Dense(5, "relu", name="inner")]), name="block")
    y = Repeat(Dense(5, "tanh"), 3, name="deep")(block(shared(shared(start))))
    model = fnn.Model(start, BatchNormalization(name="norm")(y), seed=0)
    found = explain.activations(model, X)
    p = {name: np.asarray(weight) for name, weight in model.params["shared"].items()}
    twice = (X @ p["kernel"] + p["bias"]) @ p["kernel"] + p["bias"]
    close(found["shared"], twice, rtol=1e-4, atol=1e-5)
    inner = np.asarray(model.params["block"]["inner"]["kernel"])
    close(found["block"] - twice, found["block/inner"], rtol=1e-4, atol=1e-5)
    close(found["block/inner"], np.maximum(twice @ inner, 0), rtol=1e-4, atol=1e-5)
    deep = np.asarray(found["block"])
    for kernel in np.asarray(model.params["deep"]["kernel"]):
        deep = np.tanh(deep @ kernel)
    close(found["deep"], deep, rtol=1e-4, atol=1e-5)
    close(found["norm"], model.predict(X, verbose=0), rtol=1e-5)


@pytest.mark.slow
def test_grad_cam_counts_every_use_of_a_shared_layer():
    start = Input((4, 4, 1))
    shared = Conv2D(1, 1, use_bias=False, kernel_initializer="ones", name="shared")
    y = Dense(1, kernel_initializer="ones")(Flatten()(shared(shared(start))))
    model = fnn.Model(start, y)
    images = np.ones((1, 4, 4, 1), "float32")
    # Offsets of both uses reach the output: d y / d offset = 2 at each place, times features 1.
    close(explain.grad_cam(model, images, "shared", 0), np.full((1, 4, 4), 2.0))


@pytest.mark.slow
def test_a_class_with_call_is_seen_inside():
    class Net(fnn.Model):
        def __init__(self):
            super().__init__()
            self.hidden = fnn.layers.Dense(4, activation="relu")
            self.last = fnn.layers.Dense(2)

        def call(self, x):
            return self.last(self.hidden(x))

    model = Net()
    y = model.predict(X, verbose=0)
    found = explain.activations(model, X)
    close(found["last"], y, rtol=1e-5)
    close(found["hidden"] @ model.last.kernel.numpy(), y, rtol=1e-4, atol=1e-6)
    assert explain.saliency(model, X, 0).shape == X.shape


@pytest.mark.slow
def test_statistics_are_those_of_numpy():
    net = Sequential([Dense(6, "relu"), Dense(3)])
    model = with_weights(net, X)
    model[1]["dense"]["bias"] = model[1]["dense"]["bias"].at[2].set(-100.0)  # a dead channel
    y = np.maximum(X @ np.asarray(model[1]["dense"]["kernel"]) + model[1]["dense"]["bias"][None], 0)
    y = np.asarray(y)
    found = explain.activation_statistics(model, X)
    assert list(found) == ["dense", "dense_1"]
    expected = {
        "mean": y.mean(),
        "std": y.std(),
        "min": y.min(),
        "max": y.max(),
        "zeros": (y == 0).mean(),
        "dead": (y == 0).all(0).mean(),
    }
    assert found["dense"].keys() == expected.keys()
    for name, value in expected.items():
        close(found["dense"][name], value, rtol=1e-5)
    assert found["dense"]["dead"] >= 1 / 6


@pytest.mark.slow
def test_all_of_them_compile_and_take_a_model():
    model = fnn.Sequential([Input((9, 8, 2)), *network().layers], seed=0)
    calls = {
        "saliency": lambda m, x, t: explain.saliency(m, x, t),
        "integrated": lambda m, x, t: explain.integrated_gradients(m, x, t, steps=3),
        "smooth": lambda m, x, t: explain.smooth_grad(m, x, t, samples=2),
        "grad_cam": lambda m, x, t: explain.grad_cam(m, x, "first", t),
        "activations": lambda m, x, t: explain.activations(m, x),
        "statistics": lambda m, x, t: explain.activation_statistics(m, x),
    }
    every = lambda m, x, t: {name: run(m, x, t) for name, run in calls.items()}
    eager = every(model, IMAGES, 1)
    jitted = jax.jit(lambda p, s, x, t: every((model.layer, p, s), x, t))
    compiled = jitted(model.params, model.state, IMAGES, np.array(1))
    jax.tree.map(lambda a, b: close(a, b, rtol=1e-4, atol=1e-6), eager, compiled)


@pytest.mark.slow
def test_a_record_changes_neither_outputs_nor_state():
    layer, params, state = with_weights(Sequential([Dense(5), BatchNormalization(), Dense(2)]), X)
    plain, after = layer.apply(params, state, X, INFERENCE)
    y, recorded = layer.apply(params, state, X, Context(record=True))
    close(y, plain)
    assert after["batch_normalization"]
    for name, branch in after.items():
        for key, value in branch.items():
            close(recorded[name][key], value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: explain.saliency(3, X), "expected a model, a tuple .* received 3"),
        (lambda: explain.saliency(Dense(2), X), "expected a model, a tuple"),
        (lambda: explain.activations(lambda x: x, X), "inside a function cannot be seen"),
    ],
)
def test_what_is_no_model_is_an_error(call, message):
    with pytest.raises(TypeError, match=message):
        call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: explain.saliency(LINEAR, np.ones((1, 5), int)), r"floating-point.*int64\[1, 5\]"),
        (lambda: explain.saliency(lambda x: x[:, None, :], X), r"expected outputs \(n, classes\)"),
        (lambda: explain.saliency(lambda x: x, X, logits=True), "logits=True needs a model"),
        (lambda: explain.activations(LINEAR, X, ["no"]), r"received \['no'\]"),
        (lambda: explain.grad_cam(LINEAR, X, "no"), "name of a layer inside the model"),
        (
            lambda: explain.grad_cam(with_weights(network(), IMAGES), IMAGES, "classes"),
            "axes of space",
        ),
    ],
)
def test_what_cannot_be_explained_is_an_error(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.slow
def test_masks_do_not_matter_to_the_caller():
    net = Sequential([fnn.layers.Masking(), fnn.layers.LSTM(3), Dense(2)])
    x = draw(2, 4, 3)
    layer, params, state = with_weights(net, x)
    found = explain.activations((layer, params, state), x)
    close(found["masking"], strip_masks(x))
    close(found["dense"], layer.apply(params, state, x)[0], rtol=1e-5)
