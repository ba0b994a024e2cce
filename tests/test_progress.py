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
    line = bar(50, 200, 1.0, {"accuracy": 0.901, "loss": 0.312}, ended=False)
    assert line == " 50/200 ━━━━━─────────────── 3s 20ms/step - accuracy: 0.9010 - loss: 0.3120"
    assert bar(7, None, 1.0, {}, ended=False) == "      7/Unknown 1s 143ms/step"


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
        if shown.due():
            shown.update(done, {})
    elapsed = time.perf_counter() - start
    assert out.getvalue().count("\r") <= elapsed / progress.INTERVAL + 1
