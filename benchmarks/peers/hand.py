"""Plain JAX: one jitted step, written by hand. The measure of all peers."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax, nn, random

from benchmarks.workloads import BLOCKS, GPT, LEARNING_RATE, LSTM, RESNET


class Network(NamedTuple):
    """`init(key)` gives params and state, `forward(params, state, x, train)` logits and state."""

    init: Callable[[Any], tuple[Any, Any]]
    forward: Callable[[Any, Any, Any, bool], tuple[Any, Any]]
    binary: bool = False

    def losses(self, logits, y):
        """The cross-entropy of each prediction."""
        if self.binary:
            return optax.sigmoid_binary_cross_entropy(logits, y)
        return optax.softmax_cross_entropy_with_integer_labels(logits, y)

    def probabilities(self, logits):
        return nn.sigmoid(logits) if self.binary else nn.softmax(logits)


def stateless(init, forward, **options):
    """A network of `init(key)` -> params and `forward(params, x, train)` -> logits."""
    return Network(
        lambda key: (init(key), {}),
        lambda p, s, x, train: (forward(p, x, train), s),
        **options,
    )


OPTIMIZER = optax.adam(LEARNING_RATE)


def start(network):
    """What a step changes: params, state and Adam's moments."""
    params, state = network.init(random.key(0))
    return params, state, OPTIMIZER.init(params)


def train_step(network, carry, x, y):
    """`carry` and the loss after one step of Adam."""
    params, state, moments = carry

    def loss(params):
        logits, after = network.forward(params, state, x, True)
        return network.losses(logits, y).mean(), after

    (value, state), gradient = jax.value_and_grad(loss, has_aux=True)(params)
    updates, moments = OPTIMIZER.update(gradient, moments)
    return (optax.apply_updates(params, updates), state, moments), value


def trainer(network, data):
    """The epoch function of a network: one dispatch a step."""
    carry = start(network)
    step = jax.jit(partial(train_step, network), donate_argnums=0)

    def epoch():
        nonlocal carry
        for x, y in data.batches():
            carry, value = step(carry, x, y)
        return float(value)

    return epoch


def dense(key, inputs, outputs):
    kernel = nn.initializers.glorot_uniform()(key, (inputs, outputs))
    return {"kernel": kernel, "bias": jnp.zeros(outputs)}


def affine(p, x):
    return x @ p["kernel"] + p["bias"]


def mlp():
    def init(key):
        first, second = random.split(key)
        return {"first": dense(first, 10, 16), "second": dense(second, 16, 1)}

    def forward(p, x, train):
        return affine(p["second"], nn.relu(affine(p["first"], x)))

    return stateless(init, forward, binary=True)


def kernel(key, shape):
    """The weights of a convolution."""
    return {
        "kernel": nn.initializers.glorot_uniform()(key, shape),
        "bias": jnp.zeros(shape[-1]),
    }


def convolve(p, x, strides=1, padding="VALID"):
    layout = ("NHWC", "HWIO", "NHWC")
    strides = (strides, strides)
    y = lax.conv_general_dilated(
        x, p["kernel"], strides, padding, dimension_numbers=layout
    )
    return y + p["bias"]


def pool(x, train):
    """The largest of 2x2 pixels.

    To train, `reduce_window` is slower on CPU: its gradient searches each window again.
    """
    if not train:
        return lax.reduce_window(
            x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID"
        )
    n, h, w, c = x.shape
    x = x[:, : h // 2 * 2, : w // 2 * 2]
    return x.reshape(n, h // 2, 2, w // 2, 2, c).max(axis=(2, 4))


def cnn(convolve=convolve):
    def init(key):
        keys = random.split(key, 4)
        return {
            "conv1": kernel(keys[0], (3, 3, 1, 32)),
            "conv2": kernel(keys[1], (3, 3, 32, 64)),
            "hidden": dense(keys[2], 5 * 5 * 64, 128),
            "head": dense(keys[3], 128, 10),
        }

    def forward(p, x, train):
        h = pool(nn.relu(convolve(p["conv1"], x)), train)
        h = pool(nn.relu(convolve(p["conv2"], h)), train)
        return affine(p["head"], nn.relu(affine(p["hidden"], h.reshape(len(h), -1))))

    return stateless(init, forward)


def lstm():
    units = LSTM["units"]

    def init(key):
        first, second, third = random.split(key, 3)
        gates = dense(first, LSTM["features"], 4 * units)
        gates["bias"] = gates["bias"].at[units : 2 * units].set(1.0)
        recurrent = nn.initializers.orthogonal()(second, (units, 4 * units))
        return {"gates": gates, "recurrent": recurrent, "head": dense(third, units, 10)}

    def forward(p, x, train):
        def cell(carry, x):
            h, c = carry
            i, f, g, o = jnp.split(
                affine(p["gates"], x) + h @ p["recurrent"], 4, axis=-1
            )
            c = nn.sigmoid(f) * c + nn.sigmoid(i) * jnp.tanh(g)
            return (nn.sigmoid(o) * jnp.tanh(c), c), None

        zeros = jnp.zeros((len(x), units))
        (h, _), _ = lax.scan(cell, (zeros, zeros), x.swapaxes(0, 1))
        return affine(p["head"], h)

    return stateless(init, forward)


def gpt(blocks):
    width, heads, context = GPT["width"], GPT["heads"], GPT["context"]

    def init(key):
        keys = iter(random.split(key, 4 * blocks + 3))

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
            "blocks": [block() for _ in range(blocks)],
            "norm": norm(),
            "head": dense(next(keys), width, GPT["vocabulary"]),
        }

    def normalize(p, x):
        x = x - x.mean(axis=-1, keepdims=True)
        return (
            x * lax.rsqrt((x * x).mean(axis=-1, keepdims=True) + 1e-3) * p["scale"]
            + p["shift"]
        )

    def attend(p, x):
        n, t, _ = x.shape
        q, k, v = jnp.moveaxis(affine(p["qkv"], x).reshape(n, t, 3, heads, -1), 2, 0)
        scores = jnp.einsum("nqhd,nkhd->nhqk", q, k) / (width // heads) ** 0.5
        causal = jnp.tril(jnp.ones((t, t), bool))
        weights = nn.softmax(jnp.where(causal, scores, -1e30))
        return affine(
            p["out"], jnp.einsum("nhqk,nkhd->nqhd", weights, v).reshape(n, t, width)
        )

    def forward(p, x, train):
        h = p["tokens"][x] + p["positions"]
        for block in p["blocks"]:
            h = h + attend(block, normalize(block["norm1"], h))
            up = nn.gelu(
                affine(block["up"], normalize(block["norm2"], h)), approximate=False
            )
            h = h + affine(block["down"], up)
        return affine(p["head"], normalize(p["norm"], h))

    return stateless(init, forward)


def resnet():
    def kernels():
        """The shape of each convolution's kernel, by name."""
        shapes, inputs = {"conv1": (7, 7, 3, 64)}, 64
        for name, filters, _, first in bottlenecks():
            outputs = 4 * filters
            if first:
                shapes[f"{name}_0"] = (1, 1, inputs, outputs)
            shapes[f"{name}_1"] = (1, 1, inputs, filters)
            shapes[f"{name}_2"] = (3, 3, filters, filters)
            shapes[f"{name}_3"] = (1, 1, filters, outputs)
            inputs = outputs
        return shapes

    def bottlenecks():
        for stage, (filters, number) in enumerate(RESNET["stages"]):
            for block in range(number):
                strides = 2 if stage and not block else 1
                yield f"conv{stage + 2}_block{block + 1}", filters, strides, not block

    def init(key):
        shapes = kernels()
        params, state = {}, {}
        keys = random.split(key, len(shapes) + 1)
        for (name, shape), key in zip(shapes.items(), keys[1:], strict=True):
            scale = {"gamma": jnp.ones(shape[-1]), "beta": jnp.zeros(shape[-1])}
            params[name] = kernel(key, shape) | scale
            state[name] = {
                "mean": jnp.zeros(shape[-1]),
                "variance": jnp.ones(shape[-1]),
            }
        params["head"] = dense(keys[0], 2048, RESNET["classes"])
        return params, state

    def forward(params, state, x, train):
        after = {}

        def normalized(name, x, strides=1, padding="SAME"):
            p, s = params[name], state[name]
            y = convolve(p, x, strides, padding)
            if train:
                now = {"mean": y.mean((0, 1, 2)), "variance": y.var((0, 1, 2))}
                after[name] = jax.tree.map(
                    lambda old, new: 0.99 * old + 0.01 * new, s, now
                )
                s = now
            scale = p["gamma"] * lax.rsqrt(s["variance"] + 1.001e-5)
            return y * scale + (p["beta"] - s["mean"] * scale)

        h = nn.relu(normalized("conv1", x, 2, ((3, 3), (3, 3))))
        window, edges = (1, 3, 3, 1), ((0, 0), (1, 1), (1, 1), (0, 0))
        h = lax.reduce_window(h, -jnp.inf, lax.max, window, (1, 2, 2, 1), edges)
        for name, _, strides, first in bottlenecks():
            y = nn.relu(normalized(f"{name}_1", h, strides))
            y = nn.relu(normalized(f"{name}_2", y))
            y = normalized(f"{name}_3", y)
            h = nn.relu(y + (normalized(f"{name}_0", h, strides) if first else h))
        return affine(params["head"], h.mean((1, 2))), after if train else state

    return Network(init, forward)


NETWORKS = {
    "mlp": mlp,
    "cnn": cnn,
    "gpt": partial(gpt, BLOCKS["gpt"]),
    "gpt12": partial(gpt, BLOCKS["gpt12"]),
    "lstm": lstm,
    "resnet": resnet,
}


def runner(make):
    return lambda data: trainer(make(), data)


RUNNERS = {name: runner(make) for name, make in NETWORKS.items()}
