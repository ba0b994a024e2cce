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


def bar(done: int, total: int | None, elapsed: float, values: dict[str, float], ended: bool) -> str:
    """One line: `40/250 ━━━━━━━━━━━━━━━━━━━━ 2s 8ms/step - accuracy: 0.9010 - loss: 0.3120`."""
    each = elapsed / done if done else 0.0
    shown = "".join(f" - {name}: {number(value)}" for name, value in values.items())
    if total is None:
        head = f"{done:7d}/Unknown"
        clock = duration(elapsed)
    else:
        full = WIDTH * done // max(total, 1)
        head = f"{done:{len(str(total))}d}/{total} " + FULL * full + EMPTY * (WIDTH - full)
        clock = duration(elapsed if ended else each * (total - done))
    return f"{head} {clock} {step_time(each)}/step{shown}"


class Progress:
    """Shows how far a run over batches is. Never raises: a closed or odd output is not an error.

    `verbose`: 0 nothing, 1 a bar, 2 one line at the end, "auto" a bar where the output is a
    terminal or a notebook and one line an epoch in a file or pipe.
    """

    def __init__(self, verbose: Any, total: int | None) -> None:
        self.mode = _mode(verbose)
        self.total, self.done = total, 0
        self.start = self.last = time.perf_counter()
        self._length = 0

    def header(self, epoch: int, epochs: int) -> None:
        """`Epoch 1/10`, where there are several."""
        if self.mode and epochs > 1:
            self._write(f"Epoch {epoch + 1}/{epochs}\n")

    def due(self) -> bool:
        """Whether it is time to show something again."""
        return self.mode == 1 and time.perf_counter() - self.last >= INTERVAL

    def update(self, done: int, values: dict[str, float]) -> None:
        """Draws the bar over the last one."""
        self.last = time.perf_counter()
        self.done = done
        self._line(bar(done, self.total, self.last - self.start, values, ended=False))

    def end(self, done: int, values: dict[str, float]) -> None:
        """The last line, which stays."""
        elapsed = time.perf_counter() - self.start
        if self.mode == 1:
            self._line(bar(done, self.total or done, elapsed, values, ended=True), whole=True)
            self._write("\n")
        elif self.mode == 2:
            shown = "".join(f" - {name}: {number(value)}" for name, value in values.items())
            each = step_time(elapsed / max(done, 1))
            self._write(f"{done}/{self.total or done} - {duration(elapsed)} - {each}/step{shown}\n")

    def stop(self) -> None:
        """Leaves the line of a bar that will not be finished."""
        if self.mode == 1 and self._length:
            self._write("\n")
            self._length = 0

    def _line(self, text: str, whole: bool = False) -> None:
        if not whole:  # a line that wraps could not be drawn over
            text = text[: max(shutil.get_terminal_size().columns - 1, 1)]
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
    raise ValueError(f'expected verbose as 0, 1, 2 or "auto", received verbose={verbose!r}')


def _shows_a_bar() -> bool:
    """A terminal, or a notebook (whose output understands a return to the start of the line)."""
    with contextlib.suppress(Exception):
        return sys.stdout.isatty() or type(sys.stdout).__name__ == "OutStream"
    return False
