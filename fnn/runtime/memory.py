"""Memory: settings of glibc that keep freed memory for later arrays."""

from __future__ import annotations

import ctypes
import os
import sys

# Parameters of mallopt (malloc.h of glibc).
_TRIM_THRESHOLD = -1
_TOP_PAD = -2
_MMAP_THRESHOLD = -3
_MMAP_MAX = -4
_ARENA_MAX = -8
# Environment variables of glibc; if the user has set one of these, nothing is changed.
CHOICES = (
    "MALLOC_TRIM_THRESHOLD_",
    "MALLOC_MMAP_THRESHOLD_",
    "MALLOC_MMAP_MAX_",
    "MALLOC_TOP_PAD_",
    "MALLOC_ARENA_MAX",
    "GLIBC_TUNABLES",
)

# Bytes of freed memory kept at the end of each heap.
KEPT = 2**29
# Bytes from which an array gets memory of its own from the system; the largest that glibc takes.
LARGE = 2**25


def keep_some_freed_memory() -> None:
    """Lets glibc keep up to 512 MB of freed memory per heap for later arrays of up to 32 MB.

    By default glibc may return such memory to the system at once and request it again in the next
    step, when the kernel clears each page again. Whether it does depends on the layout of the
    heap; for the network `cnn` of `benchmarks/` it doubles the time of a batch. Nothing changes
    if the user has set an environment variable of `CHOICES`, or without glibc.
    """
    if not any(name in os.environ for name in CHOICES):
        _set((_MMAP_THRESHOLD, LARGE), (_TRIM_THRESHOLD, KEPT))


def keep_all_freed_memory() -> None:
    """Lets glibc keep all freed memory, of arrays of any size, for later arrays."""
    _set(
        (_MMAP_MAX, 0),
        (_TRIM_THRESHOLD, 2**31 - 1),
        (_TOP_PAD, 2**26),
        (_ARENA_MAX, 1),
    )


def _set(*settings: tuple[int, int]) -> None:
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "gnu_get_libc_version"):
        for parameter, value in settings:
            libc.mallopt(parameter, value)
