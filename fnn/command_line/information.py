"""Information: the versions, devices and settings that a process of fnn would use."""

from __future__ import annotations

import argparse
import os
import platform
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import jax
import jaxlib
import numpy as np
import optax

from fnn.command_line.errors import one_line_errors
from fnn.config import dtype_policy
from fnn.runtime.version import VERSION
from fnn.summaries.sizes import size

DESCRIPTION = """\
Prints the versions of fnn and of what it stands on, the devices that JAX finds, the cache of
compiled programs, and the dtype policy: what to put into a report of an error."""


def info(arguments: list[str]) -> None:
    """Runs `python -m fnn info`: a line for each fact, `name: value`.

    Exits with status 1 and one line on standard error if JAX finds no device.

    >>> info([])  # doctest: +ELLIPSIS
    fnn: 0.1.0
    ...
    dtype policy: float32
    """
    parser = argparse.ArgumentParser(
        "python -m fnn info",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.parse_args(arguments)
    with one_line_errors("info"):
        for name, value in _facts():
            print(f"{name}: {value}")


def _facts() -> Iterator[tuple[str, str]]:
    yield "fnn", VERSION
    yield "python", f"{platform.python_version()} on {platform.platform()}"
    for module in (jax, jaxlib, optax, np):
        yield module.__name__, module.__version__
    yield "cpu cores", str(os.cpu_count())
    yield "compilation cache", _compilation_cache()
    yield "devices", _devices()  # raises RuntimeError where JAX finds none
    yield "dtype policy", dtype_policy().name


def _devices() -> str:
    kinds = Counter(_kind(device) for device in jax.devices())
    return ", ".join(f"{count} x {kind}" for kind, count in kinds.items())


def _kind(device: jax.Device) -> str:
    """A platform, its device, and the memory that JAX may use of it."""
    kind: str = device.platform
    if device.device_kind != kind:
        kind = f"{kind} ({device.device_kind})"
    memory = (device.memory_stats() or {}).get("bytes_limit")
    if memory:
        kind = f"{kind} with {size(memory)}"
    return kind


def _compilation_cache() -> str:
    folder = getattr(jax.config, "jax_compilation_cache_dir")  # noqa: B009
    if not folder:
        return (
            "none; JAX_COMPILATION_CACHE_DIR=folder keeps programs for later processes"
        )
    programs = [path for path in Path(folder).glob("*-cache") if path.is_file()]
    used = size(sum(path.stat().st_size for path in programs))
    return f"{folder} ({len(programs)} programs, {used})"
