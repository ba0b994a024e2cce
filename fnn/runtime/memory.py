"""Memory of the process: what is freed is kept for what comes next, within bounds."""

from __future__ import annotations

import ctypes
import os
import sys

# Parameters of mallopt (malloc.h of glibc).
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -2, -3, -4, -8
# What glibc takes from the environment: who sets one of these has chosen.
CHOICES = (
    *("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_MMAP_MAX_"),
    *("MALLOC_TOP_PAD_", "MALLOC_ARENA_MAX", "GLIBC_TUNABLES"),
)

KEPT = 2**29  # bytes at the end of each heap
LARGE = (
    2**25
)  # bytes; arrays from here on are taken from the system each time, the most glibc has


def keep_some_freed_memory() -> None:
    """Lets glibc keep up to 512 MB of freed memory a heap for later arrays of up to 32 MB.

    By default it may return such memory to the system at once, and take it anew in the next step:
    each page is then cleared by the kernel again. Whether it does depends on how the heap happens
    to lie. For the network `cnn` of `benchmarks/` it doubles the time of a batch. Nothing is set
    where the user has set it in the environment, or where there is no glibc.
    """
    if not any(name in os.environ for name in CHOICES):
        _set((_MMAP_THRESHOLD, LARGE), (_TRIM_THRESHOLD, KEPT))


def keep_all_freed_memory() -> None:
    """Lets glibc keep all freed memory, of arrays of any size, for later ones."""
    _set(
        (_MMAP_MAX, 0), (_TRIM_THRESHOLD, 2**31 - 1), (_TOP_PAD, 2**26), (_ARENA_MAX, 1)
    )


def _set(*settings: tuple[int, int]) -> None:
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "gnu_get_libc_version"):
        for parameter, value in settings:
            libc.mallopt(parameter, value)
