"""Flax NNX: modules, nnx.Optimizer and nnx.jit."""

from functools import partial

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from benchmarks.workloads import BLOCKS, GPT, LEARNING_RATE, LSTM, RESNET


def trainer(model, loss, data):
    optimizer = nnx.Optimizer(model, optax.adam(LEARNING_RATE), wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer, x, y):
        value, gradient = nnx.value_and_grad(lambda model: loss(model(x), y).mean())(
            model
        )
        optimizer.update(model, gradient)
        return value

    def epoch():
        for x, y in data.batches():
            value = step(model, optimizer, x, y)
        return float(value)

    return epoch


crossentropy = optax.softmax_cross_entropy_with_integer_labels


class MLP(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Linear(10, 16, rngs=rngs)
        self.second = nnx.Linear(16, 1, rngs=rngs)

    def __call__(self, x):
        return self.second(nnx.relu(self.first(x)))


class CNN(nnx.Module):
    def __init__(self, rngs):
        self.conv1 = nnx.Conv(1, 32, (3, 3), padding="VALID", rngs=rngs)
        self.conv2 = nnx.Conv(32, 64, (3, 3), padding="VALID", rngs=rngs)
        self.hidden = nnx.Linear(5 * 5 * 64, 128, rngs=rngs)
        self.head = nnx.Linear(128, 10, rngs=rngs)

    def __call__(self, x):
        x = nnx.max_pool(nnx.relu(self.conv1(x)), (2, 2), strides=(2, 2))
        x = nnx.max_pool(nnx.relu(self.conv2(x)), (2, 2), strides=(2, 2))
        return self.head(nnx.relu(self.hidden(x.reshape(len(x), -1))))


class LSTMClassifier(nnx.Module):
    def __init__(self, rngs):
        cell = nnx.OptimizedLSTMCell(LSTM["features"], LSTM["units"], rngs=rngs)
        self.rnn = nnx.RNN(cell)
        self.head = nnx.Linear(LSTM["units"], LSTM["classes"], rngs=rngs)

    def __call__(self, x):
        return self.head(self.rnn(x)[:, -1])


class Block(nnx.Module):
    def __init__(self, rngs):
        width = GPT["width"]
        self.norm1 = nnx.LayerNorm(width, rngs=rngs)
        self.norm2 = nnx.LayerNorm(width, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(
            GPT["heads"], width, decode=False, rngs=rngs
        )
        self.up = nnx.Linear(width, 4 * width, rngs=rngs)
        self.down = nnx.Linear(4 * width, width, rngs=rngs)

    def __call__(self, x, mask):
        x = x + self.attention(self.norm1(x), mask=mask)
        return x + self.down(nnx.gelu(self.up(self.norm2(x)), approximate=False))


class Transformer(nnx.Module):
    def __init__(self, blocks, rngs):
        width = GPT["width"]
        self.tokens = nnx.Embed(GPT["vocabulary"], width, rngs=rngs)
        self.positions = nnx.Embed(GPT["context"], width, rngs=rngs)
        self.blocks = nnx.List([Block(rngs) for _ in range(blocks)])
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.head = nnx.Linear(width, GPT["vocabulary"], rngs=rngs)

    def __call__(self, x):
        mask = nnx.make_causal_mask(x)
        h = self.tokens(x) + self.positions(jnp.arange(x.shape[1]))
        for block in self.blocks:
            h = block(h, mask)
        return self.head(self.norm(h))


class Normalized(nnx.Module):
    """A convolution and batch normalization."""

    def __init__(self, inputs, outputs, size, rngs, strides=1, padding="SAME"):
        sizes = {
            "kernel_size": (size, size),
            "strides": (strides, strides),
            "padding": padding,
        }
        self.convolution = nnx.Conv(inputs, outputs, **sizes, rngs=rngs)
        self.norm = nnx.BatchNorm(outputs, momentum=0.99, epsilon=1.001e-5, rngs=rngs)

    def __call__(self, x):
        return self.norm(self.convolution(x))


class Bottleneck(nnx.Module):
    def __init__(self, inputs, filters, strides, first, rngs):
        outputs = 4 * filters
        self.shortcut = Normalized(inputs, outputs, 1, rngs, strides) if first else None
        self.first = Normalized(inputs, filters, 1, rngs, strides)
        self.second = Normalized(filters, filters, 3, rngs)
        self.third = Normalized(filters, outputs, 1, rngs)

    def __call__(self, x):
        y = self.third(nnx.relu(self.second(nnx.relu(self.first(x)))))
        return nnx.relu(y + (x if self.shortcut is None else self.shortcut(x)))


class ResNet(nnx.Module):
    def __init__(self, rngs):
        self.first = Normalized(3, 64, 7, rngs, 2, 3)
        blocks, inputs = [], 64
        for stage, (filters, number) in enumerate(RESNET["stages"]):
            for block in range(number):
                strides = 2 if stage and not block else 1
                blocks.append(Bottleneck(inputs, filters, strides, not block, rngs))
                inputs = 4 * filters
        self.blocks = nnx.List(blocks)
        self.head = nnx.Linear(inputs, RESNET["classes"], rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.first(x))
        x = nnx.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean((1, 2)))


MODULES = {
    "mlp": MLP,
    "cnn": CNN,
    "gpt": partial(Transformer, BLOCKS["gpt"]),
    "gpt12": partial(Transformer, BLOCKS["gpt12"]),
    "lstm": LSTMClassifier,
    "resnet": ResNet,
}
LOSSES = {
    **dict.fromkeys(MODULES, crossentropy),
    "mlp": optax.sigmoid_binary_cross_entropy,
}


def network(workload):
    return MODULES[workload](rngs=nnx.Rngs(jax.random.key(0)))


def runner(workload):
    return lambda data: trainer(network(workload), LOSSES[workload], data)


RUNNERS = {workload: runner(workload) for workload in MODULES}
