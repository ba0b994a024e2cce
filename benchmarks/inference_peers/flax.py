"""Flax NNX: a loop over `nnx.jit`, the module as it is, and its split form under `jax.jit`."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from benchmarks.inference_peers import loops
from benchmarks.peers import flax


class Module(NamedTuple):
    model: nnx.Module
    probabilities: Any  # of logits
    losses: Any  # of logits and targets
    hits: Any


def network(workload):
    model = flax.network(workload)
    model.eval()
    if workload == "mlp":
        hits = lambda logits, y: (logits > 0) == (y > 0)
        return Module(model, nnx.sigmoid, flax.LOSSES[workload], hits)
    return Module(
        model,
        nnx.softmax,
        flax.LOSSES[workload],
        lambda logits, y: logits.argmax(-1) == y,
    )


def predict(module, x, y, batch):
    outputs = nnx.jit(lambda model, x: module.probabilities(model(x)))
    return lambda: loops.predict(partial(outputs, module.model), x, batch)


def evaluate(module, x, y, batch):
    @nnx.jit
    def step(model, sums, x, y):
        logits = model(x)
        hits = module.hits(logits, y).sum().astype("float32")
        return sums + jnp.stack([module.losses(logits, y).sum(), hits])

    return lambda: loops.evaluate(partial(step, module.model), x, y, batch)


def call(module, x, y, batch):
    return lambda: jax.block_until_ready(module.probabilities(module.model(x)))


def apply(module, x, y, batch):
    x, (graph, weights) = jnp.asarray(x), nnx.split(module.model)

    @jax.jit
    def outputs(weights, x):
        return module.probabilities(nnx.merge(graph, weights)(x))

    return lambda: jax.block_until_ready(outputs(weights, x))


VERBS = {"predict": predict, "evaluate": evaluate, "call": call, "apply": apply}
