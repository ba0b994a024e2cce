"""Progress: a bar in a terminal, one for all epochs in a notebook, a line per epoch elsewhere."""

from __future__ import annotations

import contextlib
import logging
import shutil
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

from fnn.runtime.notebook import is_notebook
from fnn.runtime.processes import writes
from fnn.runtime.settings import settings
from fnn.training.updated_line import UpdatedLine

WIDTH = 20
FULL = "━"
EMPTY = "─"
CHECKING = "checking the data"
COMPILING = "compiling"
LONG_STAGE = 10.0  # seconds after which a stage is written to a file too
SHOWN_NUMBERS = 8
INTERVAL = 0.1  # seconds between updates, so that output never slows a training down


def number(value: Any) -> str:
    """A metric as Keras prints it: four decimals, or scientific if those would all be 0.

    Many numbers (one per class, or per member) are shown as the least and the greatest.
    """
    if getattr(value, "ndim", 0):
        if value.size > SHOWN_NUMBERS:
            return f"[{number(value.min())} ... {number(value.max())}]"
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
    width: int = WIDTH,
    unit: str = "step",
) -> str:
    """One line: `40/250 ━━━━━━━━━━━━━━━━━━━━ 2s 8ms/step - accuracy: 0.9010 - loss: 0.3120`.

    `elapsed` is the time of all steps so far, `each` the time of one, None if it is not
    known yet. The bar shows the remaining time if it is known, else the elapsed time.
    """
    line = f"{done:7d}/Unknown"
    if total is not None:
        full = width * min(done, total) // max(total, 1)
        count = f"{done:{len(str(total))}d}/{total}"
        line = f"{count} {FULL * full}{EMPTY * (width - full)}"
    if each is not None:
        seconds = elapsed
        if total is not None and not ended:
            seconds = each * (total - done)
        line += f" {duration(seconds)} {step_time(each)}/{unit}"
    return line + _listed(values)


def _listed(values: Mapping[str, float]) -> str:
    return "".join(f" - {name}: {number(value)}" for name, value in values.items())


class Progress:
    """Shows the progress of a run over batches. Never raises, even if the output is closed.

    `verbose`: 0 nothing, 1 a bar, 2 one line at the end, "auto" a bar in a terminal or a
    notebook and one line per epoch in a file or pipe. In a notebook a single line is redrawn for
    all epochs, so that a long training does not fill the page.

    The time of a step is measured over the steps after the first dispatch, if there are
    any, since the first may include compilation; the time of the run includes everything,
    as in Keras, from the moment when this object was made. Before its steps a run may have
    stages (`stage`): a bar names the current one; with "auto" in a file, one that takes
    long gets a line, and the final line their times.
    """

    width = WIDTH
    unit = "step"  # what is counted
    interval = INTERVAL

    def __init__(
        self, verbose: int | str, total: int | None, before: Progress | None = None
    ) -> None:
        self.mode = _mode(verbose)
        self.total = total
        self._logs_stages = verbose == "auto" and self.mode == 2
        self._stages: list[tuple[str, float]] = []  # and when each began
        self._timer: threading.Timer | None = None
        self.start = time.perf_counter()
        self.last = self.start
        self._since = self.start  # when the steps, or their compilation, began
        # The number of steps of the first dispatch, and when it ended.
        self._first: tuple[int, float] | None = None
        self._each: float | None = None
        self._spent = 0.0
        self._length = 0
        # The line in a notebook, which goes on from that of the epoch before.
        self._cell: UpdatedLine | None = None
        if before is not None:
            self._cell = before._cell
        if (
            self.mode == 1
            and self._cell is None
            and settings.interactive_logging
            and is_notebook()
        ):
            self._cell = UpdatedLine()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: object, *error: object) -> None:
        self.stop()

    @classmethod
    def of_fit(cls, verbose: int | str) -> Progress:
        """The progress of a call of `fit`, which begins by checking its data."""
        progress = cls(verbose, None)
        progress.stage(CHECKING)
        return progress

    def stage(self, name: str) -> None:
        """The run now does this; the steps themselves are a stage without name."""
        if self._timer is not None:
            self._cancel_timer()
        now = time.perf_counter()
        self._stages.append((name, now))
        if name:
            self._since = now
        if self.mode == 1:
            line = name
            if self.total is not None:
                line = f"{self._bar(0, 0.0, None, {})} {name}".rstrip()
            self._line(line)
        elif self._logs_stages and name:
            self._timer = threading.Timer(LONG_STAGE, self._write, [f"{name} ...\n"])
            self._timer.daemon = True
            self._timer.start()

    def steps_run(self) -> None:
        """Ends the last stage before the steps."""
        if self._stages and self._stages[-1][0]:
            self.stage("")

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def begin(self, epoch: int = 0, epochs: int = 1) -> None:
        """`Epoch 1/10`, if there are several, and an empty bar while the steps compile."""
        if self._cell is not None:
            self._cell.begin(epoch, epochs)
        elif self.mode and epochs > 1:
            self.note(f"Epoch {epoch + 1}/{epochs}")
        if self.mode == 1:
            line = self._bar(0, 0.0, None, {})
            if self._stages:
                line += f" {self._stages[-1][0]}"
            self._line(line)

    def note(self, text: str) -> None:
        """Writes a line, in place of what is drawn."""
        if self._length:
            self._write(f"\r{' ' * self._length}\r")
            self._length = 0
        self._write(f"{text}\n")

    def reached(self, done: int) -> bool:
        """Measures the time after `done` steps. Returns whether to draw an update."""
        now = time.perf_counter()
        self._spent = now - self._since
        if self._first is None:
            self._first = (done, now)
        count, since = self._first
        if done > count:
            self._each = (now - since) / (done - count)
        return self.mode == 1 and now - self.last >= self.interval

    def update(self, done: int, values: Mapping[str, float]) -> None:
        """Draws the bar over the last one."""
        self.last = time.perf_counter()
        elapsed = self.last - self.start
        self._line(self._bar(done, elapsed, self._each, values))

    def end(self, done: int, values: Mapping[str, float]) -> None:
        """Writes the final line, which stays."""
        elapsed = time.perf_counter() - self.start
        self.total = self.total or done
        each = self._each
        if each is None:
            each = self._spent / max(done, 1)
        if self.mode == 1:
            line = self._bar(done, elapsed, each, values, ended=True)
            self._line(line, whole=True)
            self._end_line()
        elif self.mode == 2:
            times = duration(elapsed) + self._preparation()
            times += f" - {step_time(each)}/{self.unit}"
            self._write(f"{done}/{self.total} - {times}{_listed(values)}\n")

    def _preparation(self) -> str:
        """The times of the stages before the steps: ` (checking 2s, compiling 8s)`."""
        if not self._logs_stages:
            return ""
        ends = [since for _, since in self._stages[1:]]
        shown = []
        for (name, since), end in zip(self._stages, ends, strict=False):
            if end - since >= 1:
                shown.append(f"{name} {duration(end - since)}")
        if not shown:
            return ""
        return f" ({', '.join(shown)})"

    def _bar(
        self,
        done: int,
        elapsed: float,
        each: float | None,
        values: Mapping[str, float],
        ended: bool = False,
    ) -> str:
        return bar(
            done, self.total, elapsed, each, values, ended, self.width, self.unit
        )

    def stop(self) -> None:
        """Leaves the line of a bar that will not be completed."""
        self._cancel_timer()
        if self._cell is not None:
            self._cell.draw()
        elif self.mode == 1 and self._length:
            self._end_line()

    def _end_line(self) -> None:
        """Leaves the line as it is; a notebook goes on with the same one."""
        if self._cell is None:
            self._write("\n")
            self._length = 0

    def _line(self, text: str, whole: bool = False) -> None:
        """Draws a line over the last one; cut to the width of the terminal unless `whole`."""
        if self._cell is not None:
            self._cell.show(text, whole)
            return
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
        if not settings.interactive_logging:
            logging.getLogger("fnn").info(text.strip())
            return
        with contextlib.suppress(Exception):
            try:
                sys.stdout.write(text)
            except UnicodeEncodeError:
                text = text.replace(FULL, "=").replace(EMPTY, "-")
                sys.stdout.write(text)
            sys.stdout.flush()


def _mode(verbose: int | str) -> int:
    if verbose in ("auto", 1, 2) and not writes():
        return 0
    if verbose == "auto":
        if _can_draw_over() and settings.interactive_logging:
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
