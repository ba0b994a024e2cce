"""Equinox: modules of one example, vmap over the batch, filter_jit."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from equinox import nn
from jax import random

from benchmarks.workloads import BLOCKS, GPT, LEARNING_RATE, LSTM


def trainer(model, loss, data):
    optimizer = optax.adam(LEARNING_RATE)
    moments = optimizer.init(eqx.filter(model, eqx.is_inexact_array))

    @eqx.filter_value_and_grad
    def objective(model, x, y):
        return loss(jax.vmap(model)(x), y).mean()

    @eqx.filter_jit(donate="all")
    def step(model, moments, x, y):
        value, gradient = objective(model, x, y)
        updates, moments = optimizer.update(gradient, moments)
        return eqx.apply_updates(model, updates), moments, value

    def epoch():
        nonlocal model, moments
        for x, y in data.batches():
            model, moments, value = step(model, moments, x, y)
        return float(value)

    return epoch


crossentropy = optax.softmax_cross_entropy_with_integer_labels


class CNN(eqx.Module):
    layers: nn.Sequential

    def __init__(self, key):
        keys = random.split(key, 4)
        self.layers = nn.Sequential(
            [
                nn.Conv2d(1, 32, 3, key=keys[0]),
                nn.Lambda(jax.nn.relu),
                nn.MaxPool2d(2, 2),
                nn.Conv2d(32, 64, 3, key=keys[1]),
                nn.Lambda(jax.nn.relu),
                nn.MaxPool2d(2, 2),
                nn.Lambda(jnp.ravel),
                nn.Linear(64 * 5 * 5, 128, key=keys[2]),
                nn.Lambda(jax.nn.relu),
                nn.Linear(128, 10, key=keys[3]),
            ]
        )

    def __call__(self, x):
        return self.layers(jnp.moveaxis(x, -1, 0))


class LSTMClassifier(eqx.Module):
    cell: nn.LSTMCell
    head: nn.Linear

    def __init__(self, key):
        first, second = random.split(key)
        self.cell = nn.LSTMCell(LSTM["features"], LSTM["units"], key=first)
        self.head = nn.Linear(LSTM["units"], LSTM["classes"], key=second)

    def __call__(self, x):
        zeros = jnp.zeros(LSTM["units"])
        (h, _), _ = jax.lax.scan(
            lambda state, x: (self.cell(x, state), None), (zeros, zeros), x
        )
        return self.head(h)


class Block(eqx.Module):
    norm1: nn.LayerNorm
    norm2: nn.LayerNorm
    attention: nn.MultiheadAttention
    up: nn.Linear
    down: nn.Linear

    def __init__(self, key):
        width, keys = GPT["width"], random.split(key, 3)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        biases = dict.fromkeys(
            ("use_query_bias", "use_key_bias", "use_value_bias", "use_output_bias"),
            True,
        )
        self.attention = nn.MultiheadAttention(
            GPT["heads"], width, **biases, key=keys[0]
        )
        self.up = nn.Linear(width, 4 * width, key=keys[1])
        self.down = nn.Linear(4 * width, width, key=keys[2])

    def __call__(self, x, mask):
        normal = jax.vmap(self.norm1)(x)
        x = x + self.attention(normal, normal, normal, mask)
        up = jax.vmap(self.up)(jax.vmap(self.norm2)(x))
        return x + jax.vmap(self.down)(jax.nn.gelu(up, approximate=False))


class Transformer(eqx.Module):
    tokens: nn.Embedding
    positions: nn.Embedding
    blocks: list[Block]
    norm: nn.LayerNorm
    head: nn.Linear

    def __init__(self, blocks, key):
        width, keys = GPT["width"], random.split(key, blocks + 3)
        self.tokens = nn.Embedding(GPT["vocabulary"], width, key=keys[0])
        self.positions = nn.Embedding(GPT["context"], width, key=keys[1])
        self.blocks = [Block(key) for key in keys[3:]]
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, GPT["vocabulary"], key=keys[2])

    def __call__(self, x):
        mask = jnp.tril(jnp.ones((len(x), len(x)), bool))
        h = jax.vmap(self.tokens)(x) + jax.vmap(self.positions)(jnp.arange(len(x)))
        for block in self.blocks:
            h = block(h, mask)
        return jax.vmap(self.head)(jax.vmap(self.norm)(h))


MODULES = {
    "mlp": partial(nn.MLP, 10, 1, width_size=16, depth=1),
    "cnn": CNN,
    "gpt": partial(Transformer, BLOCKS["gpt"]),
    "gpt12": partial(Transformer, BLOCKS["gpt12"]),
    "lstm": LSTMClassifier,
}
LOSSES = {
    **dict.fromkeys(MODULES, crossentropy),
    "mlp": optax.sigmoid_binary_cross_entropy,
}


def network(workload):
    return MODULES[workload](key=random.key(0))


def runner(workload):
    return lambda data: trainer(network(workload), LOSSES[workload], data)


RUNNERS = {workload: runner(workload) for workload in MODULES}
