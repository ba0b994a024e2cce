"""fnn: the verbs of a compiled Model, and `apply` of its layer."""

import jax
import jax.numpy as jnp

from benchmarks.peers.fnn import LOSSES, NETWORKS


def network(workload):
    model = NETWORKS[workload]()
    model.compile("adam", loss=LOSSES[workload], metrics=["accuracy"])
    return model


def predict(model, x, y, batch):
    return lambda: model.predict(x, batch_size=batch, verbose=0)


def evaluate(model, x, y, batch):
    return lambda: model.evaluate(x, y, batch_size=batch, verbose=0)


def predict_on_batch(model, x, y, batch):
    return lambda: model.predict_on_batch(x)


def call(model, x, y, batch):
    return lambda: jax.block_until_ready(model(x))


def apply(model, x, y, batch):
    model(x)  # makes the weights
    x, params, state = jnp.asarray(x), model.params, model.state

    @jax.jit
    def outputs(params, state, x):
        return model.layer.apply(params, state, x)[0]

    return lambda: jax.block_until_ready(outputs(params, state, x))


VERBS = {
    "predict": predict,
    "evaluate": evaluate,
    "predict_on_batch": predict_on_batch,
    "call": call,
    "apply": apply,
}
