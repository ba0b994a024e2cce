"""The processes of one computation, and their devices."""

from __future__ import annotations

import math
import os
from collections.abc import Callable

import jax

from fnn.distribution.joining import join
from fnn.distribution.watching import Watch

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
    *,
    timeout: float = 100,
    join_timeout: float = 300,
) -> None:
    """Connects this process with the others of one computation, by `jax.distributed`.

    Each process runs the same program. After this `jax.devices()` has the devices of all, `fit`,
    `evaluate` and `predict` are one computation over them, which every process must call, and
    the first process alone prints and writes files. Give every process the same arrays, of which it
    reads its part, or a stream of its own examples.

    `job_addresses` has the "address:port" of each process, separated by commas, or that of the
    first alone; `process_id` is this one's number, from 0. What is None is taken from the variables
    `KERAS_DISTRIBUTION_JOB_ADDRESSES`, `..._NUM_PROCESSES` and `..._PROCESS_ID` of the environment,
    else found by JAX (SLURM, TPU pods). Call it before anything computes. When a process stops, or
    has sent no sign of life for `timeout` seconds, the others end with status 1 and a message that
    names it and its host. Raises RuntimeError if not all processes are there after `join_timeout`
    seconds, with the numbers of those that are missing, and ValueError for another number of
    addresses than processes, and for a timeout that is not positive.

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
    _check_seconds("timeout", timeout)
    _check_seconds("join_timeout", join_timeout)
    if (
        not jax.distributed.is_initialized()  # else JAX refuses the call
        and coordinator
        and num_processes is not None
        and process_id is not None
    ):
        join(coordinator, num_processes, process_id, join_timeout)
    connect: Callable[..., None] = jax.distributed.initialize
    connect(
        coordinator,
        num_processes,
        process_id,
        initialization_timeout=math.ceil(join_timeout),
        # JAX ends a process without naming others; it waits a little longer.
        heartbeat_timeout_seconds=math.ceil(timeout) + 30,
    )
    if jax.distributed.is_initialized():
        Watch(timeout)


def _check_seconds(name: str, value: float) -> None:
    if isinstance(value, bool) or not value > 0:
        raise ValueError(
            f"initialize: {name} must be a positive number of seconds, got {value!r}"
        )
