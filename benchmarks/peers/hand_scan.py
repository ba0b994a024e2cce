"""Plain JAX: an epoch in one dispatch, a `lax.scan` over batches of data that is on the device."""

import jax
import jax.numpy as jnp
from jax import lax

from benchmarks.peers import hand


def trainer(network, data):
    """The epoch function of a network: one dispatch an epoch."""
    carry, x, y = hand.start(network), jnp.asarray(data.x), jnp.asarray(data.y)

    def run(carry, x, y, order):
        step = lambda carry, indices: hand.train_step(
            network, carry, x[indices], y[indices]
        )
        carry, losses = lax.scan(step, carry, order)
        return carry, losses[-1]

    run = jax.jit(run, donate_argnums=0)

    def epoch():
        nonlocal carry
        carry, value = run(carry, x, y, data.order())
        return float(value)

    return epoch


def convolve(p, x):
    """3x3, as a product of matrices: XLA's convolution is many times slower in a loop on CPU."""
    h, w = x.shape[1] - 2, x.shape[2] - 2
    shifted = [x[:, i : i + h, j : j + w] for i in range(3) for j in range(3)]
    patches = jnp.concatenate(shifted, axis=-1)
    return patches @ p["kernel"].reshape(-1, p["kernel"].shape[-1]) + p["bias"]


def runner(make):
    return lambda data: trainer(make(), data)


NETWORKS = {**hand.NETWORKS, "cnn": lambda: hand.cnn(convolve)}
del NETWORKS["resnet"]  # convolutions in a loop
RUNNERS = {name: runner(make) for name, make in NETWORKS.items()}
