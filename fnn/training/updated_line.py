"""Updated line: the progress of a run in a notebook, one line below the cell that is redrawn."""

from __future__ import annotations

import contextlib
import time
from html import escape
from typing import Any

from fnn.runtime.notebook import Page, display

INTERVAL = 0.1  # seconds between lines that end an epoch; the last one is always drawn


class UpdatedLine:
    """One output of a cell. Never raises, even if the front end is gone."""

    def __init__(self) -> None:
        self._handle: Any = None
        self._epoch = ""  # of several
        self._is_last = True  # of them
        self._drawn = float("-inf")
        self._waiting: str | None = None

    def begin(self, epoch: int, epochs: int) -> None:
        """The lines that follow are those of this epoch."""
        if epochs > 1:
            self._epoch = f"Epoch {epoch + 1}/{epochs}  "
        self._is_last = epoch + 1 >= epochs

    def show(self, text: str, ended: bool) -> None:
        """Draws a line over the last one; what comes too soon after it waits for the next."""
        self._waiting = self._epoch + text
        soon = time.perf_counter() - self._drawn < INTERVAL
        if not soon or (ended and self._is_last):
            self.draw()

    def draw(self) -> None:
        """Draws the line that waits, if there is one."""
        if self._waiting is None:
            return
        text, self._waiting = self._waiting, None
        self._drawn = time.perf_counter()
        style = (
            "margin: 0; white-space: pre-wrap; color: inherit; background: transparent"
        )
        page = Page(text, f'<pre style="{style}">{escape(text)}</pre>')
        with contextlib.suppress(Exception):
            if self._handle is None:
                self._handle = display(page, updates=True)
            else:
                self._handle.update(page)
