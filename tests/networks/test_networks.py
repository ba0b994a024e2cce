"""Networks and the parts of transformers, against NumPy and Keras."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn import layers as L
from fnn import networks
from fnn.core import tree
from fnn.core.calling import call, initialize, output_spec, weight_spec
from fnn.core.context import INFERENCE
from fnn.core.weights import in_order
from fnn.networks import convolutional
from tests.helpers.applications import drawn as drawn_for
from tests.helpers.applications import of_keras
from tests.helpers.applications import weights as weights_of_keras
from tests.helpers.catalogue import jit
from tests.helpers.oracle import keras_rules, weights_unset

pytestmark = pytest.mark.slow

EXPECTED = re.compile(r"expected .* received ", re.DOTALL)


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def random_params(layer, x):
    spec, draw = weight_spec(layer, x)[0], np.random.default_rng(3).normal
    return jax.tree.map(lambda a: (0.3 * draw(size=a.shape)).astype(a.dtype), spec)


def spec(*shape, dtype="float32"):
    return jax.ShapeDtypeStruct(shape, jnp.dtype(dtype))


def close(received, expected, tolerance=1e-5):
    np.testing.assert_allclose(received, expected, rtol=tolerance, atol=tolerance)


# EinsumDense

EQUATIONS = [
    ("ab,bc->ac", 5, "c", (3, 4)),
    ("abc,cd->abd", (None, 5), "d", (3, 6, 4)),
    ("abc,cde->abde", (6, 2, 5), "de", (3, 6, 4)),
    ("abc,cde->abde", (6, 2, 5), "e", (3, 6, 4)),
    ("abc,cde->abde", (6, 2, 5), "d", (3, 6, 4)),
    ("abcd,cde->abe", (6, 5), "e", (3, 6, 4, 2)),
    ("...x,xy->...y", 5, "y", (3, 6, 4)),
    ("...x,xy->...y", 5, None, (3, 4)),
    ("...bc,bcd->...d", 5, "d", (3, 6, 4, 2)),
    ("ab...,bc->ac...", 5, "c", (3, 4, 6, 2)),
    ("abc,bd->adc", (5, 4), "dc", (3, 6, 4)),
    ("abc,cb->ab", 6, "b", (3, 6, 4)),
]


@pytest.mark.parametrize(("equation", "shape", "bias", "inputs"), EQUATIONS)
def test_einsum_dense_equals_keras(equation, shape, bias, inputs):
    import keras

    layer = L.EinsumDense(equation, shape, "tanh", bias)
    x = drawn(*inputs)
    params = random_params(layer, x)
    weights = [params[name] for name in ("kernel", "bias") if name in params]
    out = drawn(*output_spec(layer, x).shape)
    with keras_rules(), weights_unset():
        twin = keras.layers.EinsumDense(equation, shape, "tanh", bias)
        twin.build(inputs)
        assert [v.shape for v in twin.weights] == [w.shape for w in weights]
        run = lambda weights, x: jnp.vdot(out, twin.stateless_call(weights, [], x)[0])
        expected = jit(jax.value_and_grad(run, (0, 1)))([jnp.asarray(w) for w in weights], x)
    run = lambda params, x: jnp.vdot(out, layer.apply(params, {}, x)[0])
    value, (by_params, by_x) = jit(jax.value_and_grad(run, (0, 1)))(params, x)
    close(value, expected[0])
    for name, theirs in zip(("kernel", "bias"), expected[1][0], strict=False):
        close(by_params[name], theirs)
    close(by_x, expected[1][1])


def test_einsum_dense_draws_by_its_own_inputs_and_outputs():
    params, _ = L.EinsumDense("...x,xhd->...hd", (20, 30)).init(jax.random.key(0), spec(1, 40))
    limit = math.sqrt(6 / (40 + 600))
    assert 0.98 * limit < float(abs(params["kernel"]).max()) <= limit
    constant = L.EinsumDense("ab,bc->ac", 3, kernel_initializer="ones")
    assert (constant.init(jax.random.key(0), spec(1, 4))[0]["kernel"] == 1).all()


def test_einsum_dense_keeps_the_mask_where_the_steps_stay():
    x = fnn.Masked(jnp.ones((2, 3, 4)), jnp.array([[True, False, True]] * 2))
    for equation, shape in (
        ("abc,cd->abd", (3, 5)),
        ("...c,cd->...d", 5),
        ("...bc,cd->...bd", (3, 5)),
    ):
        layer = L.EinsumDense(equation, shape)
        y, _ = call(layer, random_params(layer, x.values), {}, x, INFERENCE)
        assert (y.mask == x.mask).all()
    layer = L.EinsumDense("abc,bcd->ad", 5)
    with pytest.raises(ValueError, match=EXPECTED) as error:
        call(layer, random_params(layer, x.values), {}, x, INFERENCE)
    assert "Unmask()" in str(error.value)


# positions


def test_sinusoidal_position_equals_numpy():
    for features in (6, 5):
        x = drawn(2, 40, features)
        expected = np.zeros((40, features))
        for position in range(40):
            for i in range(features):
                angle = position / 10000 ** (2 * (i // 2) / features)
                expected[position, i] = math.cos(angle) if i % 2 else math.sin(angle)
        close(run(L.SinusoidalPosition(), {}, x), x + expected)


def test_position_embedding_adds_its_rows():
    layer, x = L.PositionEmbedding(9), drawn(2, 5, 4)
    params = random_params(layer, x)
    close(run(layer, params, x), x + params["embeddings"][:5])


@pytest.mark.parametrize("shape", [(2, 40, 6), (2, 40, 3, 6)])
def test_rotary_embedding_equals_turning_complex_numbers(shape):
    x, layer = drawn(*shape), L.RotaryEmbedding(1000.0, 2.0)
    rate = 1000.0 ** (-2 / 6 * np.arange(3)) / 2
    turn = np.exp(1j * np.arange(40)[:, None] * rate)
    turned = (x[..., :3] + 1j * x[..., 3:]) * (turn if len(shape) == 3 else turn[:, None])
    close(layer.apply({}, {}, x)[0], np.concatenate([turned.real, turned.imag], -1))


def test_rotary_scores_depend_on_distance_alone():
    turn = lambda x: np.asarray(run(L.RotaryEmbedding(), {}, x))
    q, k = (np.repeat(drawn(1, 1, 8, seed=i), 30, 1) for i in range(2))
    scores = turn(q)[0] @ turn(k)[0].T
    for distance in range(-5, 6):
        diagonal = np.diagonal(scores, distance)
        close(diagonal, np.full_like(diagonal, diagonal[0]))


# parts of transformers, in NumPy


def dense(p, x, activation=lambda y: y):
    return activation(x @ p["kernel"] + p["bias"])


def gelu(x):
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def norm(p, x):
    x = x - x.mean(-1, keepdims=True)
    return p["gamma"] * x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) + p["beta"]


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def attend(p, x, memory, causal=False, real=None, turn=lambda a: a):
    """Head by head, query by query."""
    y = np.zeros((*x.shape[:2], p["attention_output"]["kernel"].shape[-1]))
    project = lambda name, a, h: a @ p[name]["kernel"][:, h] + p[name]["bias"][h]
    for h in range(p["query"]["kernel"].shape[1]):
        for b in range(len(x)):
            q = turn(project("query", x[b], h))
            k, v = turn(project("key", memory[b], h)), project("value", memory[b], h)
            for t in range(len(q)):
                scores = k @ q[t] / math.sqrt(len(q[t]))
                if causal:
                    scores[t + 1 :] = -np.inf
                if real is not None:
                    scores[~real[b]] = -np.inf
                y[b, t] += softmax(scores) @ v @ p["attention_output"]["kernel"][h]
    return y + p["attention_output"]["bias"]


def feedforward(p, x):
    return dense(p["feedforward_down"], dense(p["feedforward_up"], x, gelu))


def encoder_block(p, x, causal=False, real=None):
    h = norm(p["attention_norm"], x)
    x = x + attend(p["attention"], h, h, causal, real)
    return x + feedforward(p, norm(p["feedforward_norm"], x))


def decoder_block(p, x, memory, real=None):
    h = norm(p["attention_norm"], x)
    x = x + attend(p["attention"], h, h, causal=True)
    x = x + attend(p["cross_attention"], norm(p["cross_attention_norm"], x), memory, real=real)
    return x + feedforward(p, norm(p["feedforward_norm"], x))


def at(params, index):
    return jax.tree.map(lambda a: a[index], params)


def state_of(layer, x):
    """Here the states hold nothing but names."""
    return weight_spec(layer, x)[1]


def run(layer, params, x):
    return jit(lambda params, x: call(layer, params, state_of(layer, x), x, INFERENCE)[0])(
        params, x
    )


@pytest.mark.parametrize("activation", ["silu", "gelu", "sigmoid", None])
def test_gated_dense_equals_numpy(activation):
    functions = {"silu": lambda x: x * sigmoid(x), "gelu": gelu, "sigmoid": sigmoid}
    layer, x = L.GatedDense(3, activation), drawn(2, 5, 4)
    params = random_params(layer, x)
    gate, values = np.split(dense(params, x), 2, -1)
    close(run(layer, params, x), functions.get(activation, lambda x: x)(gate) * values)
    fresh, _ = L.GatedDense(300).init(jax.random.key(0), spec(1, 300))
    limit = math.sqrt(6 / 600)  # of a layer of 300 units, though the kernel has 600 columns
    assert 0.98 * limit < float(abs(fresh["kernel"]).max()) <= limit
    assert "bias" not in L.GatedDense(3, use_bias=False).init(jax.random.key(0), x)[0]


@pytest.mark.parametrize("causal", [False, True])
def test_encoder_block_equals_numpy(causal):
    layer, x = L.TransformerEncoderBlock(6, 2, 5, 0.4, use_causal_mask=causal), drawn(2, 4, 6)
    params = random_params(layer, x)
    real = np.array([[True, True, False, True], [False, True, True, True]])
    both = lambda params, x: (
        layer.apply(params, state_of(layer, x), x)[0],
        call(layer, params, {}, fnn.Masked(x, real[:1].repeat(2, 0)), INFERENCE)[0],
    )
    plain, y = jit(both)(params, x)
    close(plain, encoder_block(params, x, causal))
    expected = encoder_block(params, x, causal, real[:1].repeat(2, 0))
    close(y.values[:, real[0]], expected[:, real[0]])


def test_encoder_block_with_the_normalization_after():
    layer, x = L.TransformerEncoderBlock(6, 2, normalize_first=False), drawn(2, 4, 6)
    p = random_params(layer, x)
    assert p["feedforward_up"]["kernel"].shape == (6, 24)
    h = norm(p["attention_norm"], x + attend(p["attention"], x, x))
    close(run(layer, p, x), norm(p["feedforward_norm"], h + feedforward(p, h)))


def test_decoder_block_equals_numpy():
    layer, x, memory = L.TransformerDecoderBlock(6, 3), drawn(2, 4, 6), drawn(2, 3, 5, seed=1)
    p = random_params(layer, (x, memory))
    close(run(layer, p, (x, memory)), decoder_block(p, x, memory))
    real = np.array([[True, False, True], [True, True, False]])
    masked = x, fnn.Masked(jnp.asarray(memory), jnp.asarray(real))
    close(run(layer, p, masked), decoder_block(p, x, memory, real))


def turned(a, slower=1):
    """`RotaryEmbedding` of (steps, features); the angle of each pair is divided by `slower`."""
    half = a.shape[-1] // 2
    angles = np.arange(len(a))[:, None] * 10000.0 ** (-np.arange(half) / half) / slower
    z = (a[:, :half] + 1j * a[:, half:]) * np.exp(1j * angles)
    return np.concatenate([z.real, z.imag], -1)


def turning_encoder(p, x):
    h = norm(p["attention_norm"], x)
    x = x + attend(p["attention"], h, h, causal=True, turn=turned)
    return x + feedforward(p, norm(p["feedforward_norm"], x))


def decoder_normalized_after(p, x, memory):
    h = norm(p["attention_norm"], x + attend(p["attention"], x, x, causal=True, turn=turned))
    h = norm(p["cross_attention_norm"], h + attend(p["cross_attention"], h, memory))
    return norm(p["feedforward_norm"], h + feedforward(p, h))


def between(wavelength):
    """The factor of Llama 3.1 for an angle, as transformers computes it."""
    length, low, high, factor = 628.0, 1.0, 12.56, 4.0
    smooth = (length / wavelength - low) / (high - low)
    return (1 - smooth) / factor + smooth


ROTARY = {"position": L.RotaryEmbedding()}
STEPS = drawn(2, 4, 8)
OWN = [
    (L.TransformerEncoderBlock(8, 2, 5), STEPS, encoder_block),
    (L.TransformerEncoderBlock(8, 2, use_causal_mask=True, **ROTARY), STEPS, turning_encoder),
    (L.TransformerDecoderBlock(8, 2), (STEPS, drawn(2, 3, 5, seed=1)), decoder_block),
    (
        L.TransformerDecoderBlock(8, 2, normalize_first=False, **ROTARY),
        (STEPS, drawn(2, 3, 5, seed=1)),
        decoder_normalized_after,
    ),
    (L.GatedDense(3), STEPS, lambda p, x: (lambda g, v: g * sigmoid(g) * v)(*halves(p, x))),
    (L.PositionEmbedding(9), STEPS, lambda p, x: x + p["embeddings"][:4]),
    (L.Bias(), STEPS, lambda p, x: x + p["bias"]),
    (L.RotaryEmbedding(), STEPS, lambda p, x: np.stack([turned(a) for a in x])),
    (  # of wavelengths 6.3, 62.8, 628.3 and 6283
        L.RotaryEmbedding(scaling_factor=4.0, scaled_wavelengths=(50.0, 628.0)),
        STEPS,
        lambda p, x: np.stack([turned(a, [1, 1 / between(20 * np.pi), 4, 4]) for a in x]),
    ),
]


def halves(p, x):
    return np.split(dense(p, x), 2, -1)


@pytest.mark.parametrize(("layer", "x", "oracle"), OWN, ids=[repr(case[0]) for case in OWN])
def test_outputs_and_gradients_equal_numpy(layer, x, oracle):
    """Gradients along a random direction: the slope of the oracle in float64."""
    params, state, rng = random_params(layer, x), state_of(layer, x), np.random.default_rng(5)
    exact = lambda tree: jax.tree.map(lambda a: np.asarray(a, "float64"), tree)
    apart = lambda x: x if isinstance(x, tuple) else (x,)
    expected = oracle(exact(params), *apart(exact(x)))
    cotangent = rng.normal(size=expected.shape)
    direction = jax.tree.map(lambda a: rng.normal(size=a.shape), (params, x))

    def objective(params, x):
        y = call(layer, params, state, x, INFERENCE)[0]
        return jnp.vdot(cotangent.astype("float32"), y), y

    gradients, y = jit(jax.grad(objective, (0, 1), has_aux=True))(params, x)
    close(y, expected)
    values = []
    for step in (1e-5, -1e-5):
        moved = jax.tree.map(lambda a, d, step=step: a + step * d, exact((params, x)), direction)
        values.append(np.vdot(cotangent, oracle(moved[0], *apart(moved[1]))))
    products = jax.tree.leaves(jax.tree.map(np.vdot, gradients, direction))
    np.testing.assert_allclose(sum(products), (values[0] - values[1]) / 2e-5, rtol=1e-4, atol=1e-4)


# networks


def test_gpt_equals_numpy():
    network, ids = networks.gpt(11, 6, 3, 2, context=7), np.arange(10).reshape(2, 5)
    p = random_params(network, ids)
    h = p["embedding"]["embeddings"][ids] + p["position_embedding"]["embeddings"][:5]
    for index in range(3):
        h = encoder_block(at(p["repeat"], index), h, causal=True)
    h = norm(p["layer_normalization"], h)
    close(run(network, p, ids), dense(p["dense"], h, softmax))


def test_vit_equals_numpy():
    network, x = networks.vit((5, 8, 3), 4, 6, 2, 2, classes=3), drawn(2, 5, 8, 3)
    p = random_params(network, x)
    patches = [x[:, :4, 4 * i : 4 * i + 4].reshape(2, -1) for i in range(2)]
    kernel = {"kernel": p["patches"]["kernel"].reshape(-1, 6), "bias": p["patches"]["bias"]}
    h = np.stack([dense(kernel, patch) for patch in patches], 1)
    h = h + p["position_embedding"]["embeddings"]
    for index in range(2):
        h = encoder_block(at(p["repeat"], index), h)
    h = norm(p["layer_normalization"], h).mean(1)
    close(run(network, p, x), dense(p["dense"], h, softmax))


def test_encoder_decoder_equals_numpy():
    network = networks.encoder_decoder((9, 11), width=6, depth=1, heads=2)
    source, target = np.array([[1, 2, 3], [4, 5, 0]]), np.array([[1, 2, 3, 4], [5, 6, 7, 8]])
    p = random_params(network, (source, target))
    tables = sorted(n for n in p if n.startswith("embedding"))
    tables.sort(key=lambda n: len(p[n]["embeddings"]))
    place = lambda x: np.asarray(run(L.SinusoidalPosition(), {}, x.astype("float32")))
    embedded = [
        place(p[n]["embeddings"][ids]) for n, ids in zip(tables, (source, target), strict=True)
    ]
    norms = sorted(n for n in p if n.startswith("layer_normalization"))
    results = []
    for first, last in (norms, norms[::-1]):  # which is whose depends on the order of the graph
        memory = norm(p[first], encoder_block(at(p["repeat"], 0), embedded[0], real=source != 0))
        h = decoder_block(p["transformer_decoder_block"], embedded[1], memory, source != 0)
        results.append(dense(p["dense"], norm(p[last], h), softmax))
    y = run(network, p, (source, target))
    assert y.mask.all()
    assert min(abs(y.values - r).max() for r in results) < 1e-5


def test_mlp_equals_numpy():
    network, x = networks.mlp([5, 4, 3], "tanh", "sigmoid", dropout=0.5), drawn(2, 2, 3)
    p = random_params(network, x)
    h = dense(p["dense_1"], dense(p["dense"], x.reshape(2, -1), np.tanh), np.tanh)
    close(run(network, p, x), dense(p["dense_2"], h, sigmoid))


def test_lstm_classifier_equals_keras():
    import keras

    network, x = networks.lstm_classifier(3, classes=2, depth=2), drawn(2, 4, 5)
    p = random_params(network, x)
    with keras_rules(), weights_unset():
        last = [keras.layers.LSTM(3), keras.layers.Dense(2, "softmax")]
        twin = keras.Sequential([keras.layers.LSTM(3, return_sequences=True), *last])
        twin.build(x.shape)
        twin.set_weights(
            [tree.get(p, path) for _, path in in_order(network, *weight_spec(network, x))]
        )
        values = [v.value for v in twin.trainable_variables]
        others = [v.value for v in twin.non_trainable_variables]
        expected = jit(lambda x: twin.stateless_call(values, others, x)[0])(x)
    close(run(network, p, x), expected)


def test_lenet_has_the_weights_of_lenet_5():
    params = weight_spec(networks.lenet(), spec(1, 28, 28, 1))[0]
    assert tree.count(params) == 61706
    assert tree.count(params["conv2d"]) == 156
    assert tree.count(params["dense"]) == 48120


def keras_outputs(twin, params, x):
    """What a Keras model makes of `x` with these weights, which it has by the same names."""
    for layer in twin.layers:
        for variable in layer.weights:
            variable.assign(params[layer.name][variable.name])
    return jit(lambda x: twin.stateless_call([v.value for v in twin.variables], [], x)[0])(x)


def test_lenet_equals_keras():
    from keras import Sequential, layers

    network, x = networks.lenet(classes=7), drawn(3, 28, 28, 1)
    params = random_params(network, x)
    with keras_rules(), weights_unset():
        twin = Sequential(
            [
                layers.Input((28, 28, 1)),
                layers.Conv2D(6, 5, padding="same", activation="tanh", name="conv2d"),
                layers.AveragePooling2D(2),
                layers.Conv2D(16, 5, activation="tanh", name="conv2d_1"),
                layers.AveragePooling2D(2),
                layers.Flatten(),
                layers.Dense(120, "tanh", name="dense"),
                layers.Dense(84, "tanh", name="dense_1"),
                layers.Dense(7, "softmax", name="dense_2"),
            ]
        )
        expected = keras_outputs(twin, params, x)
    close(run(network, params, x), expected)


DEEPER = [pytest.param(depth, marks=pytest.mark.thorough) for depth in (101, 152)]


@pytest.mark.parametrize("depth", [50, *DEEPER])
def test_resnet_has_the_layout_of_keras(depth):
    network = networks.resnet(depth)
    params, state = weight_spec(network, spec(1, 224, 224, 3))
    twin = of_keras(f"ResNet{depth}")
    shapes = {v.path: v.shape for v in twin.weights}
    mine = {"/".join(path): a.shape for part in (params, state) for path, a in tree.flatten(part)}
    assert mine == shapes


@pytest.mark.parametrize(("depth", "weights"), [(18, 11_689_512), (34, 21_797_672)])
def test_small_resnets_have_as_many_weights_as_published(depth, weights):
    """Those of torchvision, whose convolutions have no bias."""
    params = weight_spec(networks.resnet(depth), spec(1, 224, 224, 3))[0]
    biases = [
        a for path, a in tree.flatten(params) if path[0].endswith("conv") and path[1] == "bias"
    ]
    assert tree.count(params) - tree.count(biases) == weights


def test_deep_resnets_have_as_many_blocks_as_those_of_applications():
    """Whose weights are counted in their examples, and are as many as Keras's."""
    for depth, blocks in fnn.applications.resnet.DEPTHS.items():
        assert convolutional.STAGES[depth] == (blocks, True)


def test_resnet_equals_keras(monkeypatch):
    few = {50: convolutional._Stages((1, 2), bottleneck=True)}
    monkeypatch.setattr(convolutional, "STAGES", few)
    network, x = networks.resnet(50, classes=3, shape=(32, 32, 3)), drawn(2, 32, 32, 3)
    twin, draw = (
        of_keras("ResNetSmall", classes=3, input_shape=(32, 32, 3)),
        np.random.default_rng(4),
    )
    with keras_rules(), weights_unset():
        for path, variable in weights_of_keras(twin):
            variable.assign(drawn_for(path, tuple(variable.shape), draw))
        values = {tuple(v.path.split("/")): np.asarray(v.value) for v in twin.weights}
        trained = [jnp.asarray(v.value) for v in twin.trainable_variables]
        others = [jnp.asarray(v.value) for v in twin.non_trainable_variables]
        expected = jit(lambda x: twin.stateless_call(trained, others, x)[0])(x)
    params, state = weight_spec(network, x)
    fill = lambda part: tree.unflatten((path, values[path]) for path, _ in tree.flatten(part))
    full = lambda part: tree.fill(part, fill(part))
    y = jit(lambda x: network.apply(full(params), full(state), x)[0])(x)
    close(y, expected)


def test_unet_joins_every_level():
    network, x = networks.unet((8, 12, 2), classes=3, width=2, depth=2), drawn(1, 8, 12, 2)
    params = random_params(network, x)
    state = state_of(network, x)

    def value(params):
        y = network.apply(params, state, x)[0]
        return y[..., 0].sum(), y

    gradients, y = jit(jax.grad(value, has_aux=True))(params)
    assert y.shape == (1, 8, 12, 3)
    close(np.asarray(y).sum(-1), np.ones((1, 8, 12)))
    assert all(np.any(g) for g in jax.tree.leaves(gradients))
    joined = [a.shape for _, a in tree.flatten(params) if a.ndim == 4]
    assert {(3, 3, 8, 4), (3, 3, 4, 2)} <= set(joined)  # twice the channels, after joining


def test_unet_equals_keras():
    from keras import Model, layers

    network, x = networks.unet((8, 12, 2), classes=3, width=2, depth=2), drawn(2, 8, 12, 2)
    params = random_params(network, x)
    names = iter(["conv2d", *(f"conv2d_{i}" for i in range(1, 11))])
    convolve = lambda x, filters, size=3, activation="relu": layers.Conv2D(
        filters, size, padding="same", activation=activation, name=next(names)
    )(x)
    rise = lambda x, filters, name: layers.Conv2DTranspose(
        filters, 2, strides=2, activation="relu", name=name
    )(x)
    with keras_rules(), weights_unset():
        start = layers.Input((8, 12, 2))
        high = convolve(convolve(start, 2), 2)
        middle = convolve(convolve(layers.MaxPooling2D()(high), 4), 4)
        low = convolve(convolve(layers.MaxPooling2D()(middle), 8), 8)
        up = layers.Concatenate()([middle, rise(low, 4, "conv2d_transpose")])
        up = convolve(convolve(up, 4), 4)
        up = layers.Concatenate()([high, rise(up, 2, "conv2d_transpose_1")])
        up = convolve(convolve(up, 2), 2)
        twin = Model(start, convolve(up, 3, 1, "softmax"))
        expected = keras_outputs(twin, params, x)
    close(run(network, params, x), expected)


def test_a_normalized_unet_is_a_plain_one_once_the_statistics_are_folded_in():
    x = drawn(2, 8, 12, 2)
    plain, normalized = (
        networks.unet((8, 12, 2), classes=3, width=2, depth=2, normalize=n) for n in (False, True)
    )
    params = random_params(normalized, x)
    state = jax.tree.map(lambda s: abs(drawn(*s.shape)) + 0.5, state_of(normalized, x))
    folded = dict(params)
    for name in [name for name in params if name.startswith("batch_normalization")]:
        conv = name.replace("batch_normalization", "conv2d")
        scale = params[name]["gamma"] / np.sqrt(state[name]["moving_variance"] + 1e-3)
        bias = params[name]["beta"] - state[name]["moving_mean"] * scale
        folded[conv] = {"kernel": params[conv]["kernel"] * scale, "bias": bias}
        del folded[name]
    assert len(params) - len(folded) == 10
    y = jit(lambda params, state: normalized.apply(params, state, x)[0])(params, state)
    close(y, run(plain, folded, x))


@pytest.mark.parametrize(
    "make",
    [
        lambda: networks.gpt(9, 4, 1, 2, 5),
        lambda: networks.vit((4, 4, 1), 2, 4, 1, 2, 3),
        lambda: networks.vit((4, 4, 1), 2, 4, 1, 2, 3, pooling="token", classifier_activation=None),
        lambda: networks.gpt2(9, 4, 1, 2, 5),
        lambda: networks.llama(9, 8, 1, 4, 2, 5),
        lambda: networks.bert(9, 4, 1, 2, 5, head="tokens"),
        lambda: networks.whisper_encoder(3, 4, 1, 2, 5),
        lambda: networks.resnet(50, 3, (32, 32, 3), version="v1.5"),
        lambda: networks.encoder_decoder((5, 6), 4, 1, 2),
        lambda: networks.resnet(18, 3, (32, 32, 3)),
        lambda: networks.unet((4, 4, 1), 2, 2, 1),
        lambda: networks.lenet(),
    ],
)
def test_networks_are_values(make):
    network = make()
    data = fnn.core.config.to_config(network)
    assert fnn.core.config.from_config(data) == network


# errors

WRONG = [
    (lambda: L.EinsumDense("ab", 3), "'ab'"),
    (lambda: L.EinsumDense("...ab,bc->ac", 3), "'...ab,bc->ac'"),
    (lambda: L.EinsumDense("ab,bc->ad", 3), "to name each axis"),
    (lambda: L.EinsumDense("ab,bc->ac", (3, 4)), "output_shape=(3, 4)"),
    (lambda: L.EinsumDense("ab,bc->ac", 0), "output_shape=0"),
    (lambda: L.EinsumDense("ab,bc->ac", 3, bias_axes="b"), "bias_axes='b'"),
    (lambda: networks.resnet(50, version="v3"), "version='v3'"),
    (lambda: networks.vit((8, 8, 3), 4, 8, 1, 2, 3, pooling="max"), "pooling='max'"),
    (lambda: networks.bert(9, 8, 1, 2, head="words"), "head='words'"),
    (lambda: L.RotaryEmbedding(scaled_wavelengths=(8.0, 2.0)), "(8.0, 2.0)"),
    (lambda: L.PositionEmbedding(0), "sequence_length=0"),
    (lambda: L.PositionEmbedding(4).cache({}, 1, 5), "sequence_length=4"),
    (lambda: L.SinusoidalPosition(0), "max_wavelength=0"),
    (lambda: L.RotaryEmbedding(scaling_factor=-1), "scaling_factor=-1"),
    (lambda: L.GatedDense(0), "units=0"),
    (lambda: networks.resnet(20), "depth=20"),
    (lambda: networks.unet((6, 8, 1), 2, depth=2), "multiples of 4"),
    (lambda: networks.mlp([]), "units=0"),
    (lambda: initialize(L.EinsumDense("ab,bc->ac", 3), KEY, spec(2, 3, 4)), "'ab'"),
    (lambda: initialize(L.EinsumDense("ab,bc->ac", None), KEY, spec(2, 3)), "an integer or a"),
    (lambda: initialize(L.EinsumDense("abc,cd->abd", (4, 5)), KEY, spec(2, 3, 6)), "(4, 5)"),
    (lambda: initialize(L.PositionEmbedding(4), KEY, spec(2, 5, 3)), "at most 4"),
    (lambda: initialize(L.PositionEmbedding(4), KEY, spec(2, 5)), "3 axes"),
    (lambda: initialize(L.SinusoidalPosition(), KEY, spec(2, 5)), "3 axes"),
    (lambda: initialize(L.RotaryEmbedding(), KEY, spec(2, 5, 3)), "even number"),
    (lambda: initialize(L.GatedDense(4), KEY, spec(5)), "2 axes"),
]
KEY = jax.random.key(0)


@pytest.mark.parametrize(("make", "words"), WRONG)
def test_what_is_wrong_is_refused(make, words):
    with pytest.raises(ValueError, match=EXPECTED) as error:
        make()
    assert words in str(error.value)
