"""Processes that compute together; run by test_several_processes.py.

One process has imported what all need. For each line of its input, the JSON of [scenario, number of
processes, devices of each, folder], it forks them, and prints their exit statuses. They write what
they print to FOLDER/printed-N and FOLDER/errors-N, and what they have found to FOLDER/found-N.json.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import sys
import time
from pathlib import Path

import jax
import numpy as np

import fnn
from fnn import callbacks, metrics
from fnn.layers import BatchNormalization, Dense, Dropout
from fnn.runtime import processes
from fnn.training import Checkpoint
from tests.helpers.compiling import share_contexts

with contextlib.suppress(ImportError):
    import orbax.checkpoint  # noqa: F401 - once for all processes

SCENARIO, FOLDER, PROCESS, PROCESSES = "", Path(), 0, 0  # of a forked process
BATCH, EXAMPLES = 16, 45
x = np.random.default_rng(0).normal(size=(EXAMPLES, 5)).astype("float32")
y = np.random.default_rng(1).integers(0, 3, EXAMPLES)


def model():
    """Equal ones, trained on batches of one size, share their programs."""
    layers = [Dense(12, "relu", input_shape=(5,)), Dropout(0.3), BatchNormalization()]
    made = fnn.Sequential([*layers, Dense(3, "softmax")], seed=0)
    loss = fnn.losses.SparseCategoricalCrossentropy()
    measured = ["accuracy", metrics.SparseTopKCategoricalAccuracy(2)]
    made.compile("adam", loss, metrics=measured)
    return made


class Share:
    """The batches of which each process has a part; the last one is smaller."""

    def __init__(self, last=EXAMPLES):
        self.last = last

    def __iter__(self):
        size = BATCH // PROCESSES
        for first in range(PROCESS * size, self.last, BATCH):
            part = slice(first, min(first + size, first // BATCH * BATCH + BATCH, self.last))
            yield x[part], y[part]


class Sized(Share):
    def __len__(self):
        return sum(1 for _ in self)


def arrays():
    """The verbs on arrays, of which each process reads its part."""
    net = model()
    steps = []  # 21 of them
    watch = callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: steps.append(logs))
    validated = {"validation_data": (x[:22], y[:22]), "callbacks": [watch]}
    found = {"history": net.fit(x, y, BATCH, 7, verbose=2, **validated).history, "steps": steps}
    found["evaluate"] = net.evaluate(x, y, BATCH, verbose=0)
    found["predict"] = net.predict(x, BATCH, verbose=0)
    found["batches"] = [net.train_on_batch(x[:size], y[:size]) for size in (6, 6)]
    found["tested"] = net.test_on_batch(x[:6], y[:6])
    found["weights"] = net.get_weights()
    # Each process for itself: no other one need call it.
    if PROCESS == 0:
        # A second batch like the first is dispatched another way.
        found["alone"] = [np.asarray(net(x[:7])) for _ in range(2)]
        found["alone"] += [net.predict_on_batch(x[:8]) for _ in range(2)]
    return found


def large():
    """States that are donated; weights divided over the devices of all processes."""
    found = {}
    momentum = fnn.optimizers.SGD(0.05, momentum=0.9)
    for name in ("replicated", "divided"):
        over = fnn.distribution.FSDP() if name == "divided" else None
        layers = [Dense(12_288, "relu", input_shape=(5,)), BatchNormalization()]
        net = fnn.Sequential([*layers, Dense(3, "softmax")], seed=0)
        net.compile(momentum, "sparse_categorical_crossentropy", distribution=over)
        found[name] = net.fit(x, y, BATCH, 1, verbose=0).history["loss"]
        found[name] += net.fit(x, y, BATCH, 1, verbose=0).history["loss"]
        found[f"{name} weights"] = [float(np.abs(w).sum()) for w in net.get_weights()]
        net.save(FOLDER / f"{name}.fnn")
    return found


def streams():
    found = {}
    sources = {"unknown": Share(), "known": Sized()}
    with contextlib.suppress(ImportError):
        import grain

        sources["grain"] = grain.MapDataset.source(list(Share()))
    for name, source in sources.items():
        net = model()
        history = net.fit(source, epochs=2, verbose=0).history
        evaluated = net.evaluate(source, verbose=0)
        found[name] = history, evaluated, net.get_weights()
        assert net.predict(source, verbose=0).shape == (sum(len(b[0]) for b in source), 3)
    net = model()  # of the last batch the last processes have nothing
    found["uneven"] = [net.evaluate(s(33), verbose=0) for s in (Share, Sized)]
    found["uneven"] += [net.fit(s(33), verbose=0).history["accuracy"] for s in (Share, Sized)]
    return found


def step(w, batch, key):
    loss, slope = jax.value_and_grad(lambda w: ((batch @ w) ** 2).mean())(w)
    return w - 0.1 * slope, {"loss": loss}


def own_steps():
    """`fnn.training.fit`, also with batches that the devices do not divide."""
    start, found = np.ones((5, 2), "float32"), {}
    for size in (8, 7):
        w, history = fnn.training.fit(step, start, x, batch_size=size, epochs=2, verbose=0)
        found[str(size)] = history.history["loss"], np.asarray(w)
    parts = lambda: (batch for batch, _ in Share(32))
    w, history = fnn.training.fit(step, start, parts, epochs=2, verbose=0)
    return {**found, "parts": [history.history["loss"], np.asarray(w)]}


def writers():
    """Each process is given a folder of its own."""
    own = FOLDER / f"of-{PROCESS}"
    own.mkdir()
    net = model()
    stopping = callbacks.EarlyStopping("loss", min_delta=9, patience=1, verbose=1)
    writing = [
        callbacks.CSVLogger(own / "log.csv"), callbacks.JSONLogger(own / "log.jsonl"),
        callbacks.ModelCheckpoint(own / "{epoch}.fnn", verbose=1), stopping,
        callbacks.BackupAndRestore(FOLDER / "backup", delete_checkpoint=False),
    ]  # fmt: skip
    history = net.fit(x, y, BATCH, epochs=5, verbose=1, callbacks=writing)
    net.save(own / "model.fnn")
    net.save_weights(own / "weights.npz")
    return {"epochs": history.epoch, "files": sorted(path.name for path in own.iterdir())}


class Stop(callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if self.model.train_state.step == 4:
            raise KeyboardInterrupt


def checkpoints():
    """Two processes save a training that ends in the middle; all numbers of them continue it."""
    saved = FOLDER / "saved"
    if PROCESSES == 2:
        for folder, data in ((saved, (x, y)), (FOLDER / "parts", (Sized(),))):
            checkpoint = Checkpoint(folder, every_steps=2)
            given = {"checkpoint": checkpoint, "callbacks": [Stop()]}
            with contextlib.suppress(KeyboardInterrupt):
                model().fit(*data, batch_size=BATCH, epochs=2, verbose=0, **given)
        if PROCESS == 0:  # others wait for it before they go on
            shutil.copytree(saved, FOLDER / "first")
    found = {}
    trainings = {"resumed": {"checkpoint": saved, "resume": True}}
    if PROCESSES == 1:
        trainings["straight"] = {}
    for name, given in trainings.items():
        net = model()
        history = net.fit(x, y, batch_size=BATCH, epochs=2, verbose=0, **given).history
        found[name] = history, net.get_weights()
    if PROCESSES == 2:
        resumed = {"checkpoint": FOLDER / "parts", "resume": True}
        for name, given in (("parts", {}), ("parts resumed", resumed)):
            history = model().fit(Sized(), epochs=2, verbose=0, **given).history
            found[name] = history["loss"]
    return found


def mistakes():
    """What differs between processes is an error in each, before the first step."""
    calls = {
        "weights": lambda: fnn.Sequential([Dense(3, input_shape=(5,))], seed=PROCESS),
        "data": model, "arguments": model, "streams": model, "minutes": model,
    }  # fmt: skip
    found = {}
    for name, make in calls.items():
        net = make()
        net.compile("sgd", "sparse_categorical_crossentropy")
        data, more = (x + (name == "data") * PROCESS, y), {}
        if name == "streams":
            net = fnn.Sequential([Dense(3)])
            net.compile("sgd", "mse")
            data = (lambda: iter([(x[:4, : 3 + PROCESS], x[:4, :3])]),)
        if name == "minutes":
            more["checkpoint"] = Checkpoint(FOLDER / "minutes", every_minutes=1)
        found[name] = said(
            lambda net=net, data=data, name=name, more=more: net.fit(
                *data, epochs=1 + (name == "arguments") * PROCESS, verbose=0, **more
            )
        )
    unseeded = fnn.Sequential([Dense(3, input_shape=(5,))])
    return {**found, "unseeded": float(np.abs(unseeded.get_weights()[0]).sum())}


def said(call):
    """The message of the error that a call raises."""
    try:
        call()
    except (OSError, RuntimeError, ValueError) as error:
        return str(error)
    return None


def alone():
    """What happens in process 1 alone: errors that it survives, other calls, an end."""
    net = model()

    def failing():
        for number, batch in enumerate(Share()):
            if PROCESS == 1 and number == 2:
                raise OSError("no such file")
            yield batch

    evaluate = lambda: net.evaluate(x[:8], y[:8], verbose=0)
    predict = lambda: net.predict(x[: 8 + PROCESS], verbose=0)
    found = {
        "other call": said(predict if PROCESS else evaluate),
        "other size": said(predict),
        "no stream": said(lambda: net.fit(Share(EXAMPLES * (1 - PROCESS)), verbose=0)),
        "end of stream": said(lambda: net.fit(failing, verbose=0)),
    }
    for hook in ("on_epoch_begin", "on_epoch_end", "on_train_batch_end"):
        net = model()
        history = net.fit(x, y, BATCH, 3, verbose=0, callbacks=stop(hook))
        found[hook] = history.epoch, int(net.train_state.step)
    seen = net.evaluate(x, y, BATCH, verbose=0, callbacks=stop("on_test_batch_end"))
    found["on_test_batch_end"] = np.allclose(seen, net.evaluate(x[:32], y[:32], BATCH, verbose=0))
    seen = net.predict(x, BATCH, verbose=0, callbacks=stop("on_predict_batch_end"))
    found["on_predict_batch_end"] = len(seen)
    net = fnn.Sequential([Dense(3, "softmax", input_shape=(5,))], seed=0)
    net.compile("sgd", "sparse_categorical_crossentropy")
    net.set_weights([np.full_like(weight, np.nan) for weight in net.get_weights()])
    ended = net.fit(x, y, BATCH, 3, verbose=0, callbacks=[callbacks.TerminateOnNaN()])
    return {**found, "nan": ended.epoch}


def late():
    """What process 0 hears when it waits for process 1, which has ended."""
    net = model()
    processes.PATIENCE = 1
    if PROCESS == 0:
        return said(lambda: net.evaluate(x[:8], y[:8], verbose=0))
    while "has waited" not in (FOLDER / "errors-0").read_text():
        time.sleep(0.02)
    return None


def stop(hook):
    """Of process 1 alone, a callback that ends what runs after the epoch or batch 1."""

    def end(number, logs=None):
        if number == 1:
            for verb in ("training", "evaluating", "predicting"):
                setattr(one.model, f"stop_{verb}", True)

    one = callbacks.LambdaCallback(**{hook: end})
    return [one] * PROCESS


SIGNALS = {"kill": signal.SIGKILL, "terminate": signal.SIGTERM, "interrupt": signal.SIGINT}


class End(callbacks.Callback):
    """Ends this process as told by the name of the scenario: `1 kill`."""

    def on_epoch_end(self, epoch, logs=None):
        time.sleep(0.05)
        if epoch != 3 or int(SCENARIO[0]) != PROCESS:
            return
        if SCENARIO[2:] == "raise":
            raise ArithmeticError("of its own")
        os.kill(os.getpid(), SIGNALS[SCENARIO[2:]])


def ended():
    """A training that one process ends."""
    checkpoint = None
    if SCENARIO[2:] == "terminate":
        checkpoint = Checkpoint(FOLDER / "saved", every_epochs=None)
    given = {"batch_size": 8, "callbacks": [End()], "checkpoint": checkpoint, "verbose": 0}
    fnn.training.fit(step, np.ones((5, 2), "float32"), x, epochs=100_000, **given)


TOGETHER = (arrays, large, streams, own_steps, writers, checkpoints)


def plain(found):
    return jax.tree.map(lambda leaf: getattr(leaf, "tolist", lambda: leaf)(), found)


def run(port, devices):
    """What a forked process does."""
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", devices)
    jax.config.update("jax_disable_most_optimizations", True)
    jax.config.update("jax_traceback_in_locations_limit", 0)
    share_contexts()
    if PROCESSES > 1:
        # Short only where it is waited for: on a busy machine the signs of life come late.
        timeout = 6 if SCENARIO[2:] == "kill" else 100
        given = {"timeout": timeout, "join_timeout": 3 if SCENARIO == "missing" else 300}
        fnn.distribution.initialize(f"127.0.0.1:{port}", PROCESSES, PROCESS, **given)
    found = {}
    if SCENARIO == "together":
        for part in TOGETHER:
            found[part.__name__] = plain(part())
        if PROCESSES == 2:
            found["mistakes"] = mistakes()
            found["one alone"] = plain(alone()) | {"late": late()}
    else:
        ended()
    (FOLDER / f"found-{PROCESS}.json").write_text(json.dumps(found))


def fork(scenario, count, devices, folder):
    """The exit statuses of the processes, after their end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = {}
    for number in range(count):
        if scenario == "missing" and number == 1:
            continue
        child = os.fork()
        if not child:
            begin(scenario, count, Path(folder), number)
            run(port, devices)
            sys.exit()
        children[child] = number
    statuses = {}
    until = time.monotonic() + 600
    while len(statuses) < len(children):
        for child in children.keys() - statuses.keys():
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                statuses[child] = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > until:
                os.kill(child, signal.SIGKILL)
        time.sleep(0.02)
    return [statuses[child] for child in children]


def begin(scenario, count, folder, number):
    """Makes a forked process one of a scenario."""
    globals().update(SCENARIO=scenario, PROCESSES=count, FOLDER=folder, PROCESS=number)
    for stream, name in ((1, "printed"), (2, "errors")):
        file = os.open(folder / f"{name}-{number}", os.O_CREAT | os.O_WRONLY)
        os.dup2(file, stream)


if __name__ == "__main__":
    for line in iter(sys.stdin.readline, ""):
        print(json.dumps(fork(*json.loads(line))), flush=True)
