"""Progress: Keras's bar in a terminal or notebook, one line per epoch elsewhere."""

from __future__ import annotations

import contextlib
import shutil
import sys
import time
from collections.abc import Mapping
from typing import Any

WIDTH = 20
FULL = "━"
EMPTY = "─"
INTERVAL = 0.1  # seconds between updates, so that output never slows a training down


def number(value: Any) -> str:
    """A metric as Keras prints it: four decimals, or scientific if those would all be 0."""
    if getattr(value, "ndim", 0):  # one number per class, for example
        return f"[{' '.join(map(number, value.ravel().tolist()))}]"
    if abs(value) > 1e-3 or value == 0:
        return f"{value:.4f}"
    return f"{value:.4e}"


def step_time(seconds: float) -> str:
    """`3s`, `12ms`, `85us`."""
    if seconds >= 1:
        return f"{seconds:.0f}s"
    if seconds >= 1e-3:
        return f"{seconds * 1e3:.0f}ms"
    return f"{seconds * 1e6:.0f}us"


def duration(seconds: float) -> str:
    """`42s`, `3:05`, `1:02:03`."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}:{minutes:02d}:{rest:02d}"
    if minutes:
        return f"{minutes}:{rest:02d}"
    return f"{rest}s"


def bar(
    done: int,
    total: int | None,
    elapsed: float,
    each: float | None,
    values: Mapping[str, float],
    ended: bool = False,
) -> str:
    """One line: `40/250 ━━━━━━━━━━━━━━━━━━━━ 2s 8ms/step - accuracy: 0.9010 - loss: 0.3120`.

    `elapsed` is the time of all steps so far, `each` the time of one, None if it is not
    known yet. The bar shows the remaining time if it is known, else the elapsed time.
    """
    line = f"{done:7d}/Unknown"
    if total is not None:
        full = WIDTH * done // max(total, 1)
        count = f"{done:{len(str(total))}d}/{total}"
        line = f"{count} {FULL * full}{EMPTY * (WIDTH - full)}"
    if each is not None:
        seconds = elapsed
        if total is not None and not ended:
            seconds = each * (total - done)
        line += f" {duration(seconds)} {step_time(each)}/step"
    return line + _listed(values)


def _listed(values: Mapping[str, float]) -> str:
    return "".join(f" - {name}: {number(value)}" for name, value in values.items())


class Progress:
    """Shows the progress of a run over batches. Never raises, even if the output is closed.

    `verbose`: 0 nothing, 1 a bar, 2 one line at the end, "auto" a bar in a terminal or a
    notebook and one line per epoch in a file or pipe.

    The time of a step is measured over the steps after the first dispatch, if there are
    any, since the first may include compilation; the time of the run includes everything,
    as in Keras.
    """

    def __init__(self, verbose: int | str, total: int | None) -> None:
        self.mode = _mode(verbose)
        self.total = total
        self.start = time.perf_counter()
        self.last = self.start
        # The number of steps of the first dispatch, and when it ended.
        self._first: tuple[int, float] | None = None
        self._each: float | None = None
        self._spent = 0.0
        self._length = 0

    def begin(self, epoch: int = 0, epochs: int = 1) -> None:
        """`Epoch 1/10`, if there are several, and an empty bar while the steps compile."""
        if self.mode and epochs > 1:
            self._write(f"Epoch {epoch + 1}/{epochs}\n")
        if self.mode == 1:
            self._line(bar(0, self.total, 0.0, None, {}))

    def reached(self, done: int) -> bool:
        """Measures the time after `done` steps. Returns whether to draw an update."""
        now = time.perf_counter()
        self._spent = now - self.start
        if self._first is None:
            self._first = (done, now)
        count, since = self._first
        if done > count:
            self._each = (now - since) / (done - count)
        return self.mode == 1 and now - self.last >= INTERVAL

    def update(self, done: int, values: Mapping[str, float]) -> None:
        """Draws the bar over the last one."""
        self.last = time.perf_counter()
        self._line(bar(done, self.total, self.last - self.start, self._each, values))

    def end(self, done: int, values: Mapping[str, float]) -> None:
        """Writes the final line, which stays."""
        elapsed = time.perf_counter() - self.start
        total = self.total or done
        each = self._each
        if each is None:
            each = self._spent / max(done, 1)
        if self.mode == 1:
            self._line(bar(done, total, elapsed, each, values, ended=True), whole=True)
            self._write("\n")
        elif self.mode == 2:
            times = f"{duration(elapsed)} - {step_time(each)}/step"
            self._write(f"{done}/{total} - {times}{_listed(values)}\n")

    def stop(self) -> None:
        """Leaves the line of a bar that will not be completed."""
        if self.mode == 1 and self._length:
            self._write("\n")
            self._length = 0

    def _line(self, text: str, whole: bool = False) -> None:
        """Draws a line over the last one; cut to the width of the terminal unless `whole`."""
        width = max(shutil.get_terminal_size().columns - 1, 1)
        # A line that wraps could not be drawn over.
        if len(text) > width and not whole:
            end = text.rfind(" - ", 0, width + 3)  # do not cut a number
            if end <= 0:
                end = width
            text = text[:end]
        padding = " " * max(0, self._length - len(text))
        self._write("\r" + text + padding)
        self._length = len(text)

    def _write(self, text: str) -> None:
        with contextlib.suppress(Exception):
            try:
                sys.stdout.write(text)
            except UnicodeEncodeError:
                sys.stdout.write(text.replace(FULL, "=").replace(EMPTY, "-"))
            sys.stdout.flush()


def _mode(verbose: int | str) -> int:
    if verbose == "auto":
        if _can_draw_over():
            return 1
        return 2
    if verbose in (0, 1, 2):
        return int(verbose)
    raise ValueError(
        f'expected verbose as 0, 1, 2 or "auto", received verbose={verbose!r}'
    )


def _can_draw_over() -> bool:
    """Whether the output is a terminal or a notebook, in which a line can be redrawn."""
    with contextlib.suppress(Exception):
        return sys.stdout.isatty() or type(sys.stdout).__name__ == "OutStream"
    return False
