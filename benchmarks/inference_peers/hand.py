"""Plain JAX: a jitted function of a batch. The measure of all peers."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.inference_peers import loops
from benchmarks.peers.hand import NETWORKS


class Jitted(NamedTuple):
    outputs: Any  # of a batch
    step: Any  # of `loops.evaluate`


def network(workload):
    made = NETWORKS[workload]()
    weights = made.init(jax.random.key(0))

    @jax.jit
    def outputs(weights, x):
        return made.probabilities(made.forward(*weights, x, False)[0])

    @jax.jit
    def step(weights, sums, x, y):
        logits, _ = made.forward(*weights, x, False)
        hits = (logits > 0) == (y > 0) if made.binary else logits.argmax(-1) == y
        return sums + jnp.stack(
            [made.losses(logits, y).sum(), hits.sum().astype("float32")]
        )

    return Jitted(partial(outputs, weights), partial(step, weights))


def apply(jitted, x, y, batch):
    x = jnp.asarray(x)
    return lambda: jax.block_until_ready(jitted.outputs(x))


VERBS = {
    "predict": lambda jitted, x, y, batch: (
        lambda: loops.predict(jitted.outputs, x, batch)
    ),
    "evaluate": lambda jitted, x, y, batch: (
        lambda: loops.evaluate(jitted.step, x, y, batch)
    ),
    "predict_on_batch": lambda jitted, x, y, batch: (
        lambda: np.asarray(jitted.outputs(x))
    ),
    "call": lambda jitted, x, y, batch: (
        lambda: jax.block_until_ready(jitted.outputs(x))
    ),
    "apply": apply,
}
