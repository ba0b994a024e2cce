"""Equinox: vmap of the module, under filter_jit or as it is."""

from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from benchmarks.inference_peers import loops
from benchmarks.peers import equinox


class Module(NamedTuple):
    model: eqx.Module
    probabilities: Any  # of logits
    losses: Any  # of logits and targets
    hits: Any


def network(workload):
    model, losses = equinox.network(workload), equinox.LOSSES[workload]
    if workload == "mlp":
        return Module(
            model, jax.nn.sigmoid, losses, lambda logits, y: (logits > 0) == (y > 0)
        )
    return Module(
        model, jax.nn.softmax, losses, lambda logits, y: logits.argmax(-1) == y
    )


def outputs_of(module):
    return lambda model, x: module.probabilities(jax.vmap(model)(x))


def predict(module, x, y, batch):
    outputs = eqx.filter_jit(outputs_of(module))
    return lambda: loops.predict(partial(outputs, module.model), x, batch)


def evaluate(module, x, y, batch):
    @eqx.filter_jit
    def step(model, sums, x, y):
        logits = jax.vmap(model)(x)
        hits = module.hits(logits, y).sum().astype("float32")
        return sums + jnp.stack([module.losses(logits, y).sum(), hits])

    return lambda: loops.evaluate(partial(step, module.model), x, y, batch)


def call(module, x, y, batch):
    outputs = outputs_of(module)
    return lambda: jax.block_until_ready(outputs(module.model, x))


def apply(module, x, y, batch):
    x, (arrays, rest) = jnp.asarray(x), eqx.partition(module.model, eqx.is_array)

    @jax.jit
    def outputs(arrays, x):
        return outputs_of(module)(eqx.combine(arrays, rest), x)

    return lambda: jax.block_until_ready(outputs(arrays, x))


VERBS = {"predict": predict, "evaluate": evaluate, "call": call, "apply": apply}
