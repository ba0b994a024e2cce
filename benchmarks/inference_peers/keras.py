"""Keras on JAX: the verbs of a compiled Model, and `stateless_call`."""

import jax
import jax.numpy as jnp

from benchmarks.peers.keras import LOSSES, NETWORKS


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
    x = jnp.asarray(x)
    weights = [
        [variable.value for variable in variables]
        for variables in (model.trainable_variables, model.non_trainable_variables)
    ]

    @jax.jit
    def outputs(weights, x):
        return model.stateless_call(*weights, x, training=False)[0]

    return lambda: jax.block_until_ready(outputs(weights, x))


VERBS = {
    "predict": predict,
    "evaluate": evaluate,
    "predict_on_batch": predict_on_batch,
    "call": call,
    "apply": apply,
}
