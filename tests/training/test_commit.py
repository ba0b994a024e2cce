"""A step is taken or left out as a whole, whatever its program computes from what."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn.training.commit import committed


def step(state, batch, key):
    """Moments that new weights and the log depend on, a state from before the loss, constants."""
    seen = state["seen"] + batch.sum()
    loss = ((batch - state["w"]) ** 2).mean()
    moment = 0.9 * state["moment"] + jax.grad(lambda w: ((batch - w) ** 2).mean())(state["w"])
    new = {
        "w": state["w"] - 0.1 * moment,
        "moment": moment,
        "same": moment,
        "seen": seen,
        "kept": state["kept"],
        "constant": jnp.ones(()),
        "key": jax.random.split(key)[0],
    }
    return new, {"loss": loss, "moment": jnp.abs(moment)}


@pytest.mark.slow
@pytest.mark.parametrize("example", [2.0, np.nan])
def test_all_of_the_state_is_chosen_by_the_loss(example):
    names = ("w", "moment", "same", "seen", "kept", "constant")
    state = {name: jnp.float32(i) for i, name in enumerate(names)}
    state["key"] = jax.random.key(3)
    inputs = state, jnp.array([example, 1.0], jnp.float32), jax.random.key(0)

    @jax.jit
    def run(*inputs):
        traced = jax.jit(step).trace(*inputs)
        return committed(traced, inputs, lambda logs: jnp.isfinite(logs["loss"]))

    found, logs, commit = run(*inputs)
    wanted, wanted_logs = step(*inputs)
    assert bool(commit) == np.isfinite(example)
    if not commit:
        wanted = state
    assert jax.random.key_data(found.pop("key")).tolist() == (
        jax.random.key_data(wanted.pop("key")).tolist()
    )
    for name in names:
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-6)
    np.testing.assert_allclose(logs["loss"], wanted_logs["loss"], rtol=1e-6)


def test_a_step_without_a_loss_is_taken():
    inputs = jnp.ones(()), jnp.ones(()), jax.random.key(0)
    traced = jax.jit(lambda w, batch, key: (w + batch, {})).trace(*inputs)
    state, logs, _ = committed(traced, inputs, lambda logs: jnp.array(not logs))
    assert (state.item(), logs) == (2.0, {})
