"""Ctrl-C at random moments: the model stays whole, exactly at a step boundary."""

import itertools
import json
import linecache
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import jax
import numpy as np
import pytest

import fnn
from fnn.layers import Dense
from fnn.training.interrupt import interruptible
from fnn.training.state import Accumulator

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def sigint():
    """Ctrl-C as in a terminal: a job in the background is started with it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupted(*cases):
    """What `tests/helpers/interrupted.py` found, for each (verb, signals, donated)."""
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "helpers" / "interrupted.py", json.dumps(cases)],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        cwd=ROOT,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "JAX_PLATFORMS": "cpu",
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        },
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("signals", [10, pytest.param(60, marks=pytest.mark.thorough)])
def test_many_interrupts_leave_a_whole_model(signals):
    """Every signal ended a call, but for one that Python dropped outside of fnn's calls."""
    cases = [(verb, signals, False) for verb in ("fit", "evaluate", "predict")]
    cases.append(("fit", signals // 3, True))  # the state's memory is given to the next step
    for (verb, sent, _), found in zip(cases, interrupted(*cases), strict=True):
        assert found["wrong"] == [], verb
        assert found["sent"] == sent
        assert found["ended"] + found["ignored"] == sent
        assert found["ignored"] <= 2


def task():
    x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
    return x, x.sum(axis=1, keepdims=True)


def compiled():
    model = fnn.Sequential([Dense(3, input_shape=(4,)), Dense(1)], seed=0)
    model.compile("sgd", "mse")
    return model


class PressCtrlC(fnn.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if batch == 1:
            os.kill(os.getpid(), signal.SIGINT)


def test_training_goes_on_after_an_interrupt_and_keeps_the_history():
    model = compiled()
    with pytest.raises(KeyboardInterrupt):
        model.fit(*task(), batch_size=16, epochs=3, callbacks=[PressCtrlC()], verbose=0)
    assert int(model.train_state.step) == 2
    assert model.history.epoch == []
    model.fit(*task(), batch_size=16, epochs=1, verbose=0)
    assert int(model.train_state.step) == 6


def test_a_handler_of_the_user_is_called_and_put_back():
    calls = []
    before = signal.signal(signal.SIGINT, lambda *_: calls.append(1))
    mine = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(KeyboardInterrupt):
            compiled().fit(*task(), batch_size=16, callbacks=[PressCtrlC()], verbose=0)
        assert calls == [1]
        assert signal.getsignal(signal.SIGINT) is mine
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.slow
@pytest.mark.parametrize("handler", [signal.SIG_IGN, signal.SIG_DFL], ids=lambda h: h.name)
def test_what_the_system_does_with_ctrl_c_is_put_back(handler):
    seen = []
    look = fnn.callbacks.LambdaCallback(
        on_train_begin=lambda logs: seen.append(signal.getsignal(signal.SIGINT))
    )
    before = signal.signal(signal.SIGINT, handler)
    try:
        compiled().fit(*task(), callbacks=[look], verbose=0)
        assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert (seen[0] is handler) == (handler is signal.SIG_IGN)  # who ignores it goes on doing so


def test_training_works_in_another_thread():
    model, errors = compiled(), []

    def work():
        try:
            model.fit(*task(), verbose=0)
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(60)
    assert errors == []
    assert int(model.train_state.step) == 2


def test_the_handler_is_put_back_after_an_error():
    before = signal.getsignal(signal.SIGINT)

    class Fails(fnn.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        compiled().fit(*task(), callbacks=[Fails()], verbose=0)
    assert signal.getsignal(signal.SIGINT) is before


# -- at every line -------------------------------------------------------------------------------

CALLS = {
    "compile": lambda net, x, y: net.compile("adam", "mse", metrics=["mae"]),
    "fit": lambda net, x, y: net.fit(x, y, verbose=0),
    "evaluate": lambda net, x, y: net.evaluate(x, y, verbose=0),
    "predict": lambda net, x, y: net.predict(x, verbose=0),
    "train_on_batch": lambda net, x, y: net.train_on_batch(x, y),
}
FILES = ("/fnn/", "typing.py", "contextlib.py", "signal.py")


def pressed_at(line, again, call):
    """Runs `call` with Ctrl-C before a line, counted as they run, and before another soon after.

    Not before the line of a `with` block, which a tracer sees once more as the block ends, outside
    of its protection: Python itself never looks for signals there.
    Returns whether KeyboardInterrupt came, and whether there was such a line at all.
    """
    seen, wanted = [0], [line, line + again] if again else [line]

    def trace(frame, event, argument):
        if event == "line" and any(name in frame.f_code.co_filename for name in FILES):
            seen[0] += 1
            text = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
            if wanted and seen[0] >= wanted[0] and not text.lstrip().startswith("with "):
                wanted.pop(0)
                os.kill(os.getpid(), signal.SIGINT)
        return trace

    try:
        sys.settrace(trace)
        try:
            call()
        finally:
            sys.settrace(None)
    except KeyboardInterrupt:
        return True, True
    return False, len(wanted) < (2 if again else 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "twice", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["once", "twice"]
)
@pytest.mark.parametrize("verb", CALLS)
def test_ctrl_c_at_a_line_is_not_lost_and_the_handler_comes_back(verb, twice, monkeypatch):
    ignored = []
    monkeypatch.setattr(sys, "unraisablehook", ignored.append)
    net, before = compiled(), signal.getsignal(signal.SIGINT)
    net.fit(*task(), verbose=0)
    line, lost, distances = 1, [], itertools.cycle((1, 5) if twice else (0,))
    for again in distances:
        came, sent = pressed_at(line, again, lambda: CALLS[verb](net, *task()))
        assert signal.getsignal(signal.SIGINT) is before, f"{verb}: line {line}"
        if not sent:
            break
        if not came:
            lost.append(line)
        line += 1 + line // 30
    assert not lost
    assert line > 300
    assert ignored == []
    net.compile("sgd", "mse")
    net.fit(*task(), verbose=0)


def test_ctrl_c_beside_another_error_is_not_lost():
    class Fails(fnn.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            os.kill(os.getpid(), signal.SIGINT)
            raise ZeroDivisionError

    with pytest.raises(KeyboardInterrupt) as found:
        compiled().fit(*task(), callbacks=[Fails()], verbose=0)
    assert isinstance(found.value.__cause__, ZeroDivisionError)


class PressesTwice:
    """A value whose comparison is struck by two Ctrl-C, for a pytree's metadata: C code asks."""

    def __eq__(self, other):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        return True

    __hash__ = None


def test_ctrl_c_that_c_code_turns_into_another_error_is_not_lost():
    def structure():
        return jax.tree.structure(Accumulator(PressesTwice(), (), ()))

    with pytest.raises(KeyboardInterrupt) as found, interruptible():
        assert structure() == structure()
    assert isinstance(found.value.__cause__, ValueError)


def test_ctrl_c_that_c_code_drops_is_not_lost(monkeypatch):
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)

    class Finalized:
        def __del__(self):
            PressesTwice().__eq__(None)

    with pytest.raises(KeyboardInterrupt), interruptible():
        Finalized()


def test_a_callback_may_predict_after_ctrl_c():
    """What is told at the end of an interrupted training is not interrupted once more."""
    told = []

    class Predicts(PressCtrlC):
        def on_train_end(self, logs=None):
            told.append(self.model.predict(task()[0], verbose=0).shape)

    with pytest.raises(KeyboardInterrupt):
        compiled().fit(*task(), batch_size=16, callbacks=[Predicts()], verbose=0)
    assert told == [(64, 1)]
