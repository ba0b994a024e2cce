"""Progress: what is written, how often, and that it never harms."""

import io
import sys
import time

import numpy as np
import pytest

import fnn
from fnn.training import progress
from fnn.training.progress import Progress, bar, duration, number, step_time


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.5, "0.5000"),
        (-2.0, "-2.0000"),
        (0.0, "0.0000"),
        (3e-5, "3.0000e-05"),
        (float("nan"), "nan"),
    ],
)
def test_numbers_as_in_keras(value, text):
    assert number(value) == text


def test_times_in_words():
    assert [step_time(s) for s in (2.2, 0.0124, 85e-6)] == ["2s", "12ms", "85us"]
    assert [duration(s) for s in (42, 185, 3723)] == ["42s", "3:05", "1:02:03"]


def test_a_bar():
    line = bar(50, 200, 1.5, 0.02, {"accuracy": 0.901, "loss": 0.312})
    assert line == " 50/200 ━━━━━─────────────── 3s 20ms/step - accuracy: 0.9010 - loss: 0.3120"
    assert bar(7, None, 1.0, 0.1, {}) == "      7/Unknown 1s 100ms/step"
    assert bar(200, 200, 9.0, 0.02, {}, ended=True) == f"200/200 {progress.FULL * 20} 9s 20ms/step"
    assert bar(0, 200, 1.0, None, {}) == f"  0/200 {progress.EMPTY * 20}"
    assert bar(7, None, 1.0, None, {"loss": 0.5}) == "      7/Unknown - loss: 0.5000"


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


class Ascii(Terminal):
    def write(self, text):
        text.encode("ascii")
        return super().write(text)


class Closed(Terminal):
    def write(self, text):
        raise ValueError("I/O operation on closed file")


def fit(out, monkeypatch, rows=320, **arguments):
    monkeypatch.setattr(sys, "stdout", out)
    x = np.zeros((rows, 3), "float32")
    model = fnn.Sequential([fnn.layers.Dense(1, input_shape=(3,))], seed=0)
    model.compile("sgd", "mse")
    model.fit(x, x[:, :1], **{"epochs": 2, **arguments})


@pytest.mark.slow
def test_a_pipe_gets_one_line_an_epoch(monkeypatch):
    out = io.StringIO()
    fit(out, monkeypatch)
    lines = out.getvalue().splitlines()
    assert [line[:9] for line in lines] == ["Epoch 1/2", "10/10 - 0", "Epoch 2/2", "10/10 - 0"] or (
        lines[1].startswith("10/10 - ") and len(lines) == 4
    )
    assert "\r" not in out.getvalue()
    assert "\b" not in out.getvalue()


def test_a_terminal_gets_a_bar_that_is_drawn_over(monkeypatch):
    out = Terminal()
    fit(out, monkeypatch, epochs=1)
    assert out.getvalue().startswith("\r")
    assert out.getvalue().endswith("\n")
    assert "10/10 " + progress.FULL * progress.WIDTH in out.getvalue()


def test_verbose_0_writes_nothing(monkeypatch):
    out = Terminal()
    fit(out, monkeypatch, verbose=0)
    assert out.getvalue() == ""


@pytest.mark.parametrize("columns", [1, 30])
def test_a_narrow_terminal_never_wraps_while_it_is_drawn_over(columns, monkeypatch):
    out = Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setenv("COLUMNS", str(columns))
    shown = Progress(1, 100)
    for done in range(100):
        shown.update(done, {"loss": 0.5})
    assert max(map(len, out.getvalue().split("\r"))) <= max(columns - 1, 1)


@pytest.mark.parametrize(
    ("columns", "shown"),
    [(200, "loss|mae"), (62, "loss|mae"), (61, "loss"), (48, "loss"), (47, ""), (9, "")],
)
def test_a_narrow_terminal_shows_no_half_of_a_number(columns, shown, monkeypatch):
    out = Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setenv("COLUMNS", str(columns))
    Progress(1, 100).update(10, {"loss": 6.5716e-4, "mae": 0.0201})
    values = {"loss": " - loss: 6.5716e-04", "mae": " - mae: 0.0201", "": ""}
    head = f" 10/100 {progress.FULL * 2}{progress.EMPTY * 18}"[: columns - 1]
    assert out.getvalue() == "\r" + head + "".join(values[name] for name in shown.split("|"))


def test_an_output_without_the_characters_gets_others(monkeypatch):
    out = Ascii()
    fit(out, monkeypatch, epochs=1)
    assert "10/10 " + "=" * progress.WIDTH in out.getvalue()


def test_a_closed_output_is_no_error(monkeypatch):
    fit(Closed(), monkeypatch)


def test_at_most_ten_updates_a_second(monkeypatch):
    out = Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    shown, start = Progress(1, 10**6), time.perf_counter()
    for done in range(200_000):
        if shown.reached(done):
            shown.update(done, {})
    elapsed = time.perf_counter() - start
    assert out.getvalue().count("\r") <= elapsed / progress.INTERVAL + 1


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still unless it is set."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    return now


def test_the_time_of_a_step_is_without_that_of_compiling(clock, monkeypatch):
    """As in Keras, which leaves out its first step; here the first dispatch, of many steps."""
    from keras.src.utils.progbar import Progbar

    monkeypatch.setattr("time.time", lambda: clock[0])
    ours, theirs = Progress(0, 100), Progbar(100, verbose=0)
    for done, clock[0] in ((1, 5.0), (2, 5.1), (12, 6.1)):
        ours.reached(done)
        expected = theirs._estimate_step_duration(done, clock[0])
    assert ours._each == pytest.approx(expected) == pytest.approx(0.1)


def test_what_is_shown_while_the_first_steps_compile(clock, monkeypatch):
    out = Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    clock[0] = 0.0
    shown = Progress(1, 100)
    shown.begin()
    for done, clock[0] in ((32, 20.0), (64, 20.32), (100, 20.68)):
        if shown.reached(done):
            shown.update(done, {})
    clock[0] += 5  # a validation
    shown.end(100, {})
    drawn = [line.lstrip().replace(progress.FULL, "=") for line in out.getvalue().split("\r")[1:]]
    assert [line.replace(progress.EMPTY, "-").rstrip(" ") for line in drawn] == [
        "0/100 --------------------",
        "32/100 ======--------------",
        "64/100 ============-------- 0s 10ms/step",
        "100/100 ==================== 0s 10ms/step",
        "100/100 ==================== 25s 10ms/step\n",
    ]
    alone = Progress(1, 32)
    clock[0] += 3.2
    alone.reached(32)
    alone.end(32, {})
    assert out.getvalue().endswith(" 3s 100ms/step\n")


def test_an_empty_bar_stands_before_the_first_dispatch(monkeypatch):
    out = Terminal()
    fit(out, monkeypatch)
    drawn = [line.rstrip(" ") for line in out.getvalue().split("\r")]
    assert drawn[:5] == ["", "checking the data", "compiling", "", "Epoch 1/2\n"]
    assert drawn[5:7] == [f" 0/10 {progress.EMPTY * 20} compiling", f" 0/10 {progress.EMPTY * 20}"]
    for run in ("evaluate", "predict"):
        out = Terminal()
        monkeypatch.setattr(sys, "stdout", out)
        x = np.zeros((64, 3), "float32")
        model = fnn.Sequential([fnn.layers.Dense(1, input_shape=(3,))], seed=0)
        model.compile("sgd", "mse")
        getattr(model, run)(x, *([x[:, :1]] if run == "evaluate" else []))
        assert out.getvalue().startswith("\r0/2 " + progress.EMPTY * 20 + "\r")
        assert out.getvalue().endswith("\n")


def prepared(verbose, clock):
    """The progress of a run that checks for 3 seconds, compiles for 8 and runs 10 steps in 1."""
    shown = Progress(verbose, None)
    with shown:
        shown.stage("checking the data")
        clock[0] += 3.0
        shown.stage("compiling")
        shown.total = 10
        shown.begin()
        clock[0] += 8.0
        for done in (1, 11):
            shown.steps_run()
            shown.reached(min(done, 10))
            clock[0] += 0.5
        shown.end(10, {})


@pytest.mark.parametrize(
    ("verbose", "times"),
    [("auto", "12s (checking the data 3s, compiling 8s)"), (2, "12s"), (0, "")],
)
def test_the_time_counts_from_the_call_of_fit(verbose, times, clock, monkeypatch):
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    prepared(verbose, clock)
    assert out.getvalue() == (f"10/10 - {times} - 56ms/step\n" if times else "")


@pytest.mark.parametrize(("verbose", "told"), [("auto", "compiling ...\n"), (2, "")])
def test_a_file_is_told_what_takes_long(verbose, told, monkeypatch):
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(progress, "LONG_STAGE", 0.01)
    with Progress(verbose, 10) as shown:
        shown.stage("compiling")
        end = time.perf_counter() + 5
        while out.getvalue() != told and time.perf_counter() < end:
            time.sleep(0.01)
        shown.steps_run()
        time.sleep(0.05)
    assert out.getvalue() == told


def test_data_that_is_refused_leaves_a_line_of_its_own(monkeypatch):
    out = Terminal()
    with pytest.raises(ValueError, match="axis of examples"):
        fit(out, monkeypatch, sample_weight=3.0)
    assert out.getvalue() == "\rchecking the data\n"
