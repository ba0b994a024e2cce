"""Kills trainings at random moments and lets them continue; run by test_killed_trainings.py.

usage: killed_trainings.py HOW KILLS FOLDER EPOCHS. HOW is "random" (SIGKILL), "writing" (SIGKILL
while a checkpoint is half-written) or "terminate" (SIGTERM). Each training is a process of its
own, forked before JAX starts. Prints one line of JSON: how the processes ended, the epoch and step
of the newest checkpoint after each kill, and whether the last training ended as one that was not
killed.
"""

import json
import os
import random
import signal
import sys
import time
import traceback
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint  # noqa: F401 - before the fork, for its time

import fnn
from fnn.layers import BatchNormalization, Dense, Dropout
from fnn.optimizers import Adam
from fnn.schedules import ExponentialDecay
from fnn.training import Checkpoint

STEPS, BATCH = 25, 8


def train(folder, result, every, epochs):
    """A training that writes its end to a file; `folder` is None for one without checkpoints."""
    jax.config.update("jax_compilation_cache_dir", str(result.parent / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    x = np.random.default_rng(0).normal(size=(STEPS * BATCH - 3, 4)).astype("float32")
    layers = [Dense(8, "tanh", input_shape=(4,)), Dropout(0.2), BatchNormalization(), Dense(1)]
    model = fnn.Sequential(layers, seed=0)
    rate = ExponentialDecay(0.01, 100, 0.9)
    model.compile(Adam(rate, use_ema=True, gradient_accumulation_steps=3), "mse", metrics=["mae"])
    checkpoint = None
    if folder is not None:
        checkpoint = Checkpoint(folder, every_steps=every, keep=3)
    stopping = fnn.callbacks.EarlyStopping("loss", patience=99, restore_best_weights=True)
    history = model.fit(
        x,
        x.sum(axis=1),
        batch_size=BATCH,
        epochs=epochs,
        verbose=0,
        callbacks=[stopping],
        checkpoint=checkpoint,
        resume=checkpoint is not None,
    )
    state = model.train_state.replace(key=jax.random.key_data(model.train_state.key))
    leaves = [np.asarray(leaf).tobytes().hex() for leaf in jax.tree.leaves(state)]
    result.write_text(json.dumps([leaves, history.as_dict(), stopping.best_epoch]))


def forked(*arguments):
    """The id of a process that trains."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        train(*arguments)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def ended(child):
    """How a process ended: its status, or minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def wait_for(found, child):
    """Waits for something, as long as the process lives. Returns whether it has ended."""
    while not found():
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            raise RuntimeError(f"a training ended by itself: {os.waitstatus_to_exitcode(status)}")
        time.sleep(0.0005)


def kill(child, how, folder, chance):
    """Kills a training, most after they have saved something. Returns how it ended."""
    before = position(folder)
    if chance.random() < 0.2 and how == "random":
        time.sleep(chance.uniform(0, 3))
    else:
        wait_for(lambda: position(folder) != before, child)
        time.sleep(chance.uniform(0, 0.3))
    if how == "writing":
        known = set(folder.glob("*-tmp*"))
        wait_for(lambda: set(folder.glob("*-tmp*")) - known, child)
        time.sleep(chance.uniform(0, 0.06))
    os.kill(child, signal.SIGTERM if how == "terminate" else signal.SIGKILL)
    return ended(child)


def position(folder):
    """[epoch, step] of the newest checkpoint."""
    names = [
        path.name.split("-") for path in folder.glob("epoch-*-step-*") if "tmp" not in path.name
    ]
    return max(([int(name[1]), int(name[3])] for name in names), default=[0, 0])


def main(how, kills, folder, epochs):
    chance = random.Random(how)
    outcomes, positions, unfinished = [], [], 0
    for _ in range(kills):
        child = forked(folder, folder.parent / "killed.json", 2, epochs)
        outcomes.append(kill(child, how, folder, chance))
        unfinished += any(folder.glob("*-tmp*"))
        positions.append(position(folder))
    last = ended(forked(folder, folder.parent / "killed.json", 500, epochs))
    straight = ended(forked(None, folder.parent / "straight.json", None, epochs))
    results = [(folder.parent / f"{name}.json").read_text() for name in ("killed", "straight")]
    found = {
        "outcomes": outcomes,
        "positions": positions,
        "unfinished": unfinished,
        "last": [last, straight],
        "equal": results[0] == results[1],
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]) / "run", int(sys.argv[4]))
