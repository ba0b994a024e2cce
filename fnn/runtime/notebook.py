"""Notebook: whether cells are run, and outputs that a notebook shows as HTML."""

from __future__ import annotations

import sys
from typing import Any


class Page:
    """A text that a notebook shows as HTML.

    >>> Page("3 layers", "<b>3</b> layers")
    3 layers
    """

    def __init__(self, text: str, html: str) -> None:
        self.text = text
        self.html = html

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return self.html


def _ipython() -> Any:
    """The module IPython of a running kernel, else None. It is not imported for this."""
    ipython: Any = sys.modules.get("IPython")
    if ipython is None or not hasattr(ipython, "get_ipython"):
        return None
    shell = ipython.get_ipython()
    return ipython if hasattr(shell, "kernel") else None


def is_notebook() -> bool:
    """Whether the code runs in a kernel, whose front end shows HTML."""
    return _ipython() is not None


def display(page: Page, updates: bool = False) -> Any:
    """Shows a page below the cell; with `updates`, returns a handle with `update(page)`."""
    return _ipython().display.display(page, display_id=updates or None)
