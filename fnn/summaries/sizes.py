"""Sizes: numbers of bytes with their units."""

from __future__ import annotations


def size(count: int) -> str:
    """A number of bytes with its unit.

    >>> size(1536), size(9)
    ('1.50 KB', '9.00 B')
    """
    amount = float(count)
    units = ["B", "KB", "MB", "GB", "TB"]
    while amount >= 1024 and len(units) > 1:
        amount /= 1024
        units.pop(0)
    return f"{amount:.2f} {units[0]}"
