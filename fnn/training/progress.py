"""Progress: Keras's bar in a terminal or notebook, one line an epoch elsewhere."""

from __future__ import annotations

import contextlib
import shutil
import sys
import time
from typing import Any

WIDTH, FULL, EMPTY = 20, "━", "─"
INTERVAL = 0.1  # seconds between updates, so that output never slows a training down


def number(value: Any) -> str:
    """A metric as Keras prints it: four decimals, or scientific where those would show nothing."""
    if getattr(value, "ndim", 0):  # one for each class, say
        return f"[{' '.join(map(number, value.ravel().tolist()))}]"
    return f"{value:.4f}" if abs(value) > 1e-3 or value == 0 else f"{value:.4e}"


def step_time(seconds: float) -> str:
    """`3s`, `12ms`, `85us`."""
    if seconds >= 1:
        return f"{seconds:.0f}s"
    return f"{seconds * 1e3:.0f}ms" if seconds >= 1e-3 else f"{seconds * 1e6:.0f}us"


def duration(seconds: float) -> str:
    """`42s`, `3:05`, `1:02:03`."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}:{minutes:02d}:{rest:02d}"
    return f"{minutes}:{rest:02d}" if minutes else f"{rest}s"


def bar(
    done: int,
    total: int | None,
    elapsed: float,
    each: float | None,
    values: dict[str, float],
    ended: bool = False,
) -> str:
    """One line: `40/250 ━━━━━━━━━━━━━━━━━━━━ 2s 8ms/step - accuracy: 0.9010 - loss: 0.3120`.

    `elapsed` is the time of all steps so far, `each` that of one, None where it is not known yet.
    """
    head = f"{done:7d}/Unknown"
    if total is not None:
        full = WIDTH * done // max(total, 1)
        head = (
            f"{done:{len(str(total))}d}/{total} " + FULL * full + EMPTY * (WIDTH - full)
        )
    if each is not None:
        left = None if ended or total is None else each * (total - done)
        head += f" {duration(elapsed if left is None else left)} {step_time(each)}/step"
    return head + _listed(values)


def _listed(values: dict[str, float]) -> str:
    return "".join(f" - {name}: {number(value)}" for name, value in values.items())


class Progress:
    """Shows how far a run over batches is. Never raises: a closed or odd output is not an error.

    `verbose`: 0 nothing, 1 a bar, 2 one line at the end, "auto" a bar where the output is a
    terminal or a notebook and one line an epoch in a file or pipe.

    The time of a step is that of the steps after the first dispatch, which may have compiled them,
    if there are any; the time of the run is all of it, as in Keras.
    """

    def __init__(self, verbose: Any, total: int | None) -> None:
        self.mode = _mode(verbose)
        self.total = total
        self.start = self.last = time.perf_counter()
        self._first: tuple[int, float] | None = (
            None  # steps of the first dispatch, when it ended
        )
        self._each: float | None = None
        self._spent = 0.0
        self._length = 0

    def begin(self, epoch: int = 0, epochs: int = 1) -> None:
        """`Epoch 1/10`, where there are several, and a bar without steps while they compile."""
        if self.mode and epochs > 1:
            self._write(f"Epoch {epoch + 1}/{epochs}\n")
        if self.mode == 1:
            self._line(bar(0, self.total, 0.0, None, {}))

    def reached(self, done: int) -> bool:
        """Takes the time, as `done` steps are over. Whether to show something again."""
        now = time.perf_counter()
        self._spent = now - self.start
        count, since = self._first = self._first or (done, now)
        if done > count:
            self._each = (now - since) / (done - count)
        return self.mode == 1 and now - self.last >= INTERVAL

    def update(self, done: int, values: dict[str, float]) -> None:
        """Draws the bar over the last one."""
        self.last = time.perf_counter()
        self._line(bar(done, self.total, self.last - self.start, self._each, values))

    def end(self, done: int, values: dict[str, float]) -> None:
        """The last line, which stays."""
        elapsed, total = time.perf_counter() - self.start, self.total or done
        each = self._spent / max(done, 1) if self._each is None else self._each
        if self.mode == 1:
            self._line(bar(done, total, elapsed, each, values, ended=True), whole=True)
            self._write("\n")
        elif self.mode == 2:
            times = f"{duration(elapsed)} - {step_time(each)}/step"
            self._write(f"{done}/{total} - {times}{_listed(values)}\n")

    def stop(self) -> None:
        """Leaves the line of a bar that will not be finished."""
        if self.mode == 1 and self._length:
            self._write("\n")
            self._length = 0

    def _line(self, text: str, whole: bool = False) -> None:
        width = max(shutil.get_terminal_size().columns - 1, 1)
        if len(text) > width and not whole:  # a line that wraps could not be drawn over
            whole_values = text.rfind(
                " - ", 0, width + 3
            )  # half a number is another number
            text = text[: whole_values if whole_values > 0 else width]
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


def _mode(verbose: Any) -> int:
    if verbose == "auto":
        return 1 if _shows_a_bar() else 2
    if verbose in (0, 1, 2):
        return int(verbose)
    raise ValueError(
        f'expected verbose as 0, 1, 2 or "auto", received verbose={verbose!r}'
    )


def _shows_a_bar() -> bool:
    """A terminal, or a notebook (whose output understands a return to the start of the line)."""
    with contextlib.suppress(Exception):
        return sys.stdout.isatty() or type(sys.stdout).__name__ == "OutStream"
    return False
