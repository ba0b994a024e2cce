"""Sends itself SIGINT at random moments of fit, evaluate and predict; run by test_interrupts.py.

The argument and the one line that it prints are JSON: a list of (verb, signals, donated), and for
each of them a dict: how many signals were sent, how many ended a call, how many fell between
two calls into JAX's own callback of the garbage collector, where Python ignores what is raised,
and what went wrong.
"""

import json
import os
import random
import signal
import sys
import threading
import time

import numpy as np

import fnn
from fnn.layers import Dense
from fnn.training import engine

LARGE = engine.DONATED_BYTES


def interrupted(verb, signals, donated):
    engine.DONATED_BYTES = 0 if donated else LARGE
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    x = np.random.default_rng(0).normal(size=(3200, 8)).astype("float32")
    y = x.sum(axis=1, keepdims=True)
    model = fnn.Sequential(
        [Dense(17 if donated else 16, "relu", input_shape=(8,)), Dense(1)], seed=0
    )
    model.compile("adam", "mse")
    calls = {
        "fit": lambda: model.fit(x, y, batch_size=32, epochs=1000, shuffle=False, verbose=0),
        "evaluate": lambda: [model.evaluate(x, y, batch_size=8, verbose=0) for _ in range(1000)],
        "predict": lambda: [model.predict(x, batch_size=8, verbose=0) for _ in range(1000)],
    }
    start, fresh = model.train_state, model.get_weights()
    before = signal.getsignal(signal.SIGINT)
    wrong, ended, ignored = [], 0, []
    sys.unraisablehook = ignored.append
    for number in range(signals):
        # The first signals fall into compilation, the others anywhere.
        delay = random.Random(number).uniform(0, 0.5 if number < 3 else 0.06)
        timer = threading.Timer(delay, os.kill, (os.getpid(), signal.SIGINT))
        try:
            timer.start()
            calls[verb]()
            time.sleep(1)
        except KeyboardInterrupt:
            ended += 1
        timer.join()
        state = model.train_state
        weights = model.get_weights()
        if not all(np.isfinite(w).all() for w in weights):
            wrong.append(f"{number}: weights not finite")
        counted = 0 if state.optimizer is None else int(state.optimizer["step"])
        if int(state.step) != counted:
            wrong.append(f"{number}: {state.step} steps, the optimizer counted {counted}")
        if verb != "fit" and any((a != b).any() for a, b in zip(weights, fresh, strict=True)):
            wrong.append(f"{number}: weights changed")
        if not np.isfinite(model.predict(x[:4], verbose=0)).all():
            wrong.append(f"{number}: predict")
        if signal.getsignal(signal.SIGINT) is not before:
            wrong.append(f"{number}: the signal handler was not put back")
        if verb == "fit":
            check_against_plain_run(model, start, x, y, wrong, number)
            model.train_state = start
    for lost in ignored:
        if lost.exc_type is not KeyboardInterrupt or lost.object.__name__ != "_xla_gc_callback":
            wrong.append(f"ignored: {lost.exc_value!r} in {lost.object!r}")
    return {"sent": signals, "ended": ended, "ignored": len(ignored), "wrong": wrong}


def check_against_plain_run(model, start, x, y, wrong, number):
    """An interrupted training has exactly the weights of one that ran that many steps."""
    steps, reached = int(model.train_state.step), model.get_weights()
    model.train_state = start
    if steps:
        model.fit(x, y, batch_size=32, epochs=1, steps_per_epoch=steps, shuffle=False, verbose=0)
    for a, b in zip(reached, model.get_weights(), strict=True):
        if (a != b).any():
            wrong.append(f"{number}: other weights than after {steps} plain steps")
            return


if __name__ == "__main__":
    print(json.dumps([interrupted(*case) for case in json.loads(sys.argv[1])]))
