"""One device of the CPU for each core, over which batches are divided."""

from __future__ import annotations

import os
from collections.abc import Callable

import jax

from fnn.distribution.ready_made import DataParallel
from fnn.runtime.layouts import Distribution, use
from fnn.runtime.memory import keep_all_freed_memory


def use_cpu_cores(cores: int | None = None) -> None:
    """Divides each batch over the cores of the CPU, which then work in parallel.

    XLA runs much of a training step on one core. Recurrent networks and transformers become
    faster; convolutional networks, which use all cores anyway, do not (benchmarks/README.md).
    After this call JAX has one CPU device for each core, and the methods of `Model` and
    `fnn.training.fit` divide each batch over them; weights and optimizer state are replicated. The
    results are those of one device, up to rounding. Freed memory is kept for the next step rather
    than returned to the system (glibc only). Arrays that you put on devices yourself stay there.
    On an accelerator nothing is divided.

    Call it once, before anything that computes with JAX: it changes what `jax.devices()` returns.
    `cores`: by default all that this process may use. Raises ValueError for a number out of range,
    and RuntimeError if JAX has started with another number of CPU devices.

    >>> use_cpu_cores(8)  # doctest: +SKIP
    >>> len(jax.devices("cpu"))
    8
    """
    available = _available_cores()
    if cores is None:
        cores = available
    if (
        isinstance(cores, bool)
        or not isinstance(cores, int)
        or not 1 <= cores <= available
    ):
        raise ValueError(
            f"use_cpu_cores: cores must be an integer from 1 to {available}, the number of cores "
            f"that this process may use, got {cores!r}; leave it out to use all of them"
        )
    _start_devices(cores)
    keep_all_freed_memory()
    use(lambda: _over_cores(cores))


def _available_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _start_devices(number: int) -> None:
    update: Callable[[str, int], None] = jax.config.update
    try:
        update("jax_num_cpu_devices", number)
    except RuntimeError as error:
        started = len(jax.local_devices(backend="cpu"))
        if started != number:
            raise RuntimeError(
                f"use_cpu_cores: the number of CPU devices of JAX is {started} since it started, "
                f"and cannot become {number}; call fnn.use_cpu_cores() right after the imports, "
                "before anything computes with JAX"
            ) from error


def _over_cores(number: int) -> Distribution | None:
    if number == 1 or jax.default_backend() != "cpu":
        return None
    return DataParallel(devices=jax.local_devices(backend="cpu")[:number])
