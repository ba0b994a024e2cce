"""The processes of one computation, and their devices."""

from __future__ import annotations

import os

import jax

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
