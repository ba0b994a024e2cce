"""Distribution: the devices over which training and prediction divide batches."""

from __future__ import annotations

import os
from collections.abc import Callable

import jax
from jax.sharding import AxisType

from fnn.runtime.devices import Distribution, use
from fnn.runtime.memory import keep_all_freed_memory

__all__ = ["get_device_count", "initialize", "list_devices", "use_cpu_cores"]

# Where a launcher may put what `initialize` is not given; the names are Keras's.
_VARIABLES = "KERAS_DISTRIBUTION_"


def list_devices(device_type: str | None = None) -> list[str]:
    """The devices of all processes, as "platform:number".

    `device_type` is "cpu", "gpu" or "tpu"; by default the platform on which JAX computes. Raises
    RuntimeError of JAX for one that is not there.

    >>> list_devices("cpu")[0]
    'cpu:0'
    """
    return [f"{device.platform}:{device.id}" for device in _devices(device_type)]


def get_device_count(device_type: str | None = None) -> int:
    """The number of devices of all processes, of one type as in `list_devices`.

    >>> get_device_count() == len(list_devices())
    True
    """
    return len(_devices(device_type))


def _devices(device_type: str | None) -> list[jax.Device]:
    backend = None
    if device_type is not None:
        backend = device_type.lower()
    return jax.devices(backend)


def initialize(
    job_addresses: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
) -> None:
    """Connects this process with the others of one computation, by `jax.distributed`.

    `job_addresses` has the "address:port" of each process, separated by commas, or that of the
    first alone; `process_id` is this one's number, from 0. What is None is taken from the variables
    `KERAS_DISTRIBUTION_JOB_ADDRESSES`, `..._NUM_PROCESSES` and `..._PROCESS_ID` of the environment,
    else found by JAX (SLURM, TPU pods). Call it before anything computes. Raises ValueError for
    another number of addresses than processes.

    >>> initialize("10.0.0.1:1234,10.0.0.2:1234", num_processes=2, process_id=0)  # doctest: +SKIP
    """
    given = os.environ
    addresses = job_addresses or given.get(f"{_VARIABLES}JOB_ADDRESSES")
    if num_processes is None and f"{_VARIABLES}NUM_PROCESSES" in given:
        num_processes = int(given[f"{_VARIABLES}NUM_PROCESSES"])
    if process_id is None and f"{_VARIABLES}PROCESS_ID" in given:
        process_id = int(given[f"{_VARIABLES}PROCESS_ID"])
    coordinator = addresses
    if addresses and "," in addresses:
        coordinator, *others = addresses.split(",")
        if num_processes not in (None, 1 + len(others)):
            raise ValueError(
                f"initialize: expected an address for each of {num_processes} processes, received "
                f"{addresses!r}; give one for each, or that of the first process alone"
            )
    jax.distributed.initialize(coordinator, num_processes, process_id)


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
    devices = jax.local_devices(backend="cpu")[:number]
    return Distribution(
        jax.make_mesh((number,), ("batch",), (AxisType.Auto,), devices=devices)
    )
