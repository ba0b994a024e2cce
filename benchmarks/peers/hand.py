"""Plain JAX: one jitted step, written by hand. The measure of all peers."""

from functools import partial

import jax
import jax.numpy as jnp
import optax
from jax import lax, nn, random

from benchmarks.workloads import GPT, LEARNING_RATE, LSTM


def trainer(init, loss, data):
    """The epoch function of a network given by its weights and its loss."""
    optimizer = optax.adam(LEARNING_RATE)
    params = init(random.key(0))
    moments = optimizer.init(params)

    @partial(jax.jit, donate_argnums=(0, 1))
    def step(params, moments, x, y):
        value, gradient = jax.value_and_grad(loss)(params, x, y)
        updates, moments = optimizer.update(gradient, moments)
        return optax.apply_updates(params, updates), moments, value

    def epoch():
        nonlocal params, moments
        for x, y in data.batches():
            params, moments, value = step(params, moments, x, y)
        return float(value)

    return epoch


def dense(key, inputs, outputs):
    kernel = nn.initializers.glorot_uniform()(key, (inputs, outputs))
    return {"kernel": kernel, "bias": jnp.zeros(outputs)}


def affine(p, x):
    return x @ p["kernel"] + p["bias"]


def crossentropy(logits, y):
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()


def mlp(data):
    def init(key):
        first, second = random.split(key)
        return {"first": dense(first, 10, 16), "second": dense(second, 16, 1)}

    def loss(p, x, y):
        logits = affine(p["second"], nn.relu(affine(p["first"], x)))
        return optax.sigmoid_binary_cross_entropy(logits, y).mean()

    return trainer(init, loss, data)


def cnn(data):
    def kernel(key, inputs, outputs):
        weights = nn.initializers.glorot_uniform()(key, (3, 3, inputs, outputs))
        return {"kernel": weights, "bias": jnp.zeros(outputs)}

    def init(key):
        keys = random.split(key, 4)
        return {
            "conv1": kernel(keys[0], 1, 32),
            "conv2": kernel(keys[1], 32, 64),
            "hidden": dense(keys[2], 5 * 5 * 64, 128),
            "head": dense(keys[3], 128, 10),
        }

    def convolve(p, x):
        layout = ("NHWC", "HWIO", "NHWC")
        y = lax.conv_general_dilated(x, p["kernel"], (1, 1), "VALID", dimension_numbers=layout)
        return nn.relu(y + p["bias"])

    def pool(x):  # reduce_window is slower on CPU: its gradient searches each window again
        n, h, w, c = x.shape
        x = x[:, : h // 2 * 2, : w // 2 * 2]
        return x.reshape(n, h // 2, 2, w // 2, 2, c).max(axis=(2, 4))

    def loss(p, x, y):
        h = pool(convolve(p["conv2"], pool(convolve(p["conv1"], x))))
        h = nn.relu(affine(p["hidden"], h.reshape(len(h), -1)))
        return crossentropy(affine(p["head"], h), y)

    return trainer(init, loss, data)


def lstm(data):
    units = LSTM["units"]

    def init(key):
        first, second, third = random.split(key, 3)
        gates = dense(first, LSTM["features"], 4 * units)
        gates["bias"] = gates["bias"].at[units : 2 * units].set(1.0)
        recurrent = nn.initializers.orthogonal()(second, (units, 4 * units))
        return {"gates": gates, "recurrent": recurrent, "head": dense(third, units, 10)}

    def loss(p, x, y):
        def cell(carry, x):
            h, c = carry
            i, f, g, o = jnp.split(affine(p["gates"], x) + h @ p["recurrent"], 4, axis=-1)
            c = nn.sigmoid(f) * c + nn.sigmoid(i) * jnp.tanh(g)
            return (nn.sigmoid(o) * jnp.tanh(c), c), None

        zeros = jnp.zeros((len(x), units))
        (h, _), _ = lax.scan(cell, (zeros, zeros), x.swapaxes(0, 1))
        return crossentropy(affine(p["head"], h), y)

    return trainer(init, loss, data)


def gpt(data):
    width, heads, context = GPT["width"], GPT["heads"], GPT["context"]

    def init(key):
        keys = iter(random.split(key, 4 * GPT["blocks"] + 3))

        def norm():
            return {"scale": jnp.ones(width), "shift": jnp.zeros(width)}

        def block():
            return {
                "norm1": norm(),
                "norm2": norm(),
                "qkv": dense(next(keys), width, 3 * width),
                "out": dense(next(keys), width, width),
                "up": dense(next(keys), width, 4 * width),
                "down": dense(next(keys), 4 * width, width),
            }

        return {
            "tokens": 0.02 * random.normal(next(keys), (GPT["vocabulary"], width)),
            "positions": 0.02 * random.normal(next(keys), (context, width)),
            "blocks": [block() for _ in range(GPT["blocks"])],
            "norm": norm(),
            "head": dense(next(keys), width, GPT["vocabulary"]),
        }

    def normalize(p, x):
        x = x - x.mean(axis=-1, keepdims=True)
        return x * lax.rsqrt((x * x).mean(axis=-1, keepdims=True) + 1e-5) * p["scale"] + p["shift"]

    def attend(p, x):
        n, t, _ = x.shape
        q, k, v = jnp.moveaxis(affine(p["qkv"], x).reshape(n, t, 3, heads, -1), 2, 0)
        scores = jnp.einsum("nqhd,nkhd->nhqk", q, k) / (width // heads) ** 0.5
        causal = jnp.tril(jnp.ones((t, t), bool))
        weights = nn.softmax(jnp.where(causal, scores, -1e30))
        return affine(p["out"], jnp.einsum("nhqk,nkhd->nqhd", weights, v).reshape(n, t, width))

    def loss(p, x, y):
        h = p["tokens"][x] + p["positions"]
        for block in p["blocks"]:
            h = h + attend(block, normalize(block["norm1"], h))
            up = nn.gelu(affine(block["up"], normalize(block["norm2"], h)), approximate=False)
            h = h + affine(block["down"], up)
        return crossentropy(affine(p["head"], normalize(p["norm"], h)), y)

    return trainer(init, loss, data)


RUNNERS = {"mlp": mlp, "cnn": cnn, "gpt": gpt, "lstm": lstm}
