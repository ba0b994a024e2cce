"""Processes: what each one of a computation holds of an array, and what they agree on.

A computation has several processes after `jax.distributed.initialize`; each runs the same program
and sees the devices of all. Without it every function here leaves arrays as they are.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import sys
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import numpy as np
from jax import random
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, Sharding

from fnn.runtime.placement import Tree, partition
from fnn.runtime.warning import warn

Plain: TypeAlias = Any  # what JSON holds

WAIT = 1000  # milliseconds of one look for a value; Ctrl-C is noticed in between
PATIENCE = 60  # looks before a line says for whom this process waits
BEAT, DONE = "fnn/beat/", "done"  # signs of life, by process; the last one at its end
_SAME_CALLS = (
    "make the same calls of fit, evaluate and predict in every process, in one order"
)
_rounds = itertools.count()
_looks = itertools.count()


def are_several() -> bool:
    """Whether this computation has several processes."""
    return jax.distributed.is_initialized() and jax.process_count() > 1


def writes() -> bool:
    """Whether this process prints and writes files: the first one does so for all."""
    return not jax.distributed.is_initialized() or jax.process_index() == 0


# Variables in which launchers say how many processes they have started.
_LAUNCHED = (
    "SLURM_STEP_NUM_TASKS",
    "SLURM_NTASKS",
    "OMPI_COMM_WORLD_SIZE",
    "KERAS_DISTRIBUTION_NUM_PROCESSES",
)
looked: set[str] = set()


def warn_if_alone() -> None:
    """Warns, once, of several processes that were started but not connected."""
    looked.add("launch")
    for name in _LAUNCHED:
        number = os.environ.get(name, "")
        if number.isdecimal() and int(number) > 1 and not are_several():
            warn(
                f"{name}={number} says that this program runs in {number} processes, but they are "
                "not connected: each trains a model of its own; call "
                "fnn.distribution.initialize() before anything computes, to train one together"
            )
            return


def say(text: str) -> None:
    """Prints a line in the process that does so for all."""
    if writes():
        print(text)


# -- agreements ------------------------------------------------------------------------------------


def connection() -> Any:
    """What `jax.distributed.initialize` has set up: its `client` keeps values by name."""
    # JAX has no public name for it; its functions for several hosts use it, too.
    utilities: Any = multihost_utils
    return utilities.distributed.global_state


def client() -> Any:
    """The connection to the first process, which keeps values by name."""
    return connection().client


def value_of(
    name: str,
    process: int | None = None,
    what: str = "",
) -> str:
    """The value of a name, as soon as a process has set it.

    With a `process`, that is the one which sets it, as soon as it comes to `what`. Raises
    RuntimeError if it has come to the end of its program instead.
    """
    has_ended, waits = False, 0
    while True:
        waits += 1
        try:
            found: str = client().blocking_key_value_get(name, WAIT)
            return found
        except jax.errors.JaxRuntimeError as error:
            if "DEADLINE_EXCEEDED" not in str(error):
                raise
        if has_ended:
            raise RuntimeError(
                f"expected process {process} at {what}, where this process is, but it has come to "
                f"the end of its program; {_SAME_CALLS}"
            )
        # It may have set the value before its end, so one more look follows.
        has_ended = process is not None and _has_ended(process)
        if process is not None and waits == PATIENCE:
            print(
                f"fnn: process {jax.process_index()} has waited {PATIENCE} s at {what} for process "
                f"{process}, which is not there yet; {_SAME_CALLS}",
                file=sys.stderr,
            )


def _has_ended(process: int) -> bool:
    try:
        return bool(client().key_value_try_get(f"{BEAT}{process}") == DONE)
    except jax.errors.JaxRuntimeError:
        # Nobody watches over the processes.
        return False


def from_first(name: str, make: Callable[[], Plain]) -> Plain:
    """A value that the first process makes, and the others take as soon as it is there."""
    if writes():
        client().key_value_set(f"fnn/{name}", json.dumps(make()))
    return json.loads(value_of(f"fnn/{name}"))


def exchanged(value: Plain, what: str) -> list[Plain]:
    """The values of all processes, by their numbers; each calls this, in the same order.

    `what` says in messages where this process is. It takes about a millisecond and no device.
    Numbers, strings, lists and dicts are values. Raises RuntimeError in each process if one is
    somewhere else.
    """
    if not are_several():
        return [value]
    number, own = next(_rounds), jax.process_index()
    client().key_value_set(f"fnn/{number}/{own}", json.dumps([what, value]))
    if number > 1:
        # All have read it: they have set their values of the round after.
        client().key_value_delete(f"fnn/{number - 2}/{own}")
    processes = range(jax.process_count())
    found = [
        json.loads(value_of(f"fnn/{number}/{process}", process, what))
        for process in processes
    ]
    first = found[0][0]
    for process, (other, _) in enumerate(found):
        if other != first:
            raise RuntimeError(
                f"expected all processes at the same place, received {first} in process 0 and "
                f"{other} in process {process}; {_SAME_CALLS}"
            )
    return [one for _, one in found]


def agreed(what: str, function: Callable[[], Plain]) -> list[Plain]:
    """The results of a function in all processes; an error in one of them is raised in each."""
    if not are_several():
        return [function()]
    found, failure, own = None, None, None
    try:
        found = function()
    except Exception as error:
        own = error
        failure = f"{type(error).__name__}: {error}"
    results = exchanged([found, failure], what)
    if own is not None:
        raise own
    for process, (_, failure) in enumerate(results):
        if failure is not None:
            raise RuntimeError(
                f"expected {what} in each process, received an error in process {process}, "
                f"{failure}; mend it there"
            )
    return [found for found, _ in results]


def any_of(flag: bool, what: str) -> bool:
    """Whether a flag is set in any process; each calls this, in the same order."""
    return any(exchanged(bool(flag), what))


def by_first(what: str, function: Callable[[], Plain]) -> Plain:
    """The result of a function that the first process runs; its OSError is raised in each."""
    found, failure = None, None
    if writes():
        try:
            found = function()
        except OSError as error:
            if not are_several():
                raise
            failure = [error.errno or 0, error.strerror or str(error)]
    found, failure = exchanged([found, failure], what)[0]
    if failure is not None:
        raise OSError(*failure)
    return found


def are_terminated() -> bool:
    """Whether all processes end here, since one received SIGTERM; each asks after every dispatch.

    JAX has taken over the signal. It finds out which question all have yet to ask, and says yes
    to that one.
    """
    if connection().preemption_sync_manager is None:
        return False
    reached: bool = multihost_utils.reached_preemption_sync_point(next(_looks))
    return reached


# -- arrays ----------------------------------------------------------------------------------------


@functools.cache
def mesh() -> Mesh:
    """All devices along one axis, those of a process side by side."""
    devices = sorted(
        jax.devices(), key=lambda device: (device.process_index, device.id)
    )
    return Mesh(np.array(devices), ("batch",), axis_types=(AxisType.Auto,))


def put(arrays: Tree, sharding: Sharding) -> Tree:
    """`jax.device_put`; for devices of several processes each passes equal arrays."""
    if sharding.is_fully_addressable:
        return jax.device_put(arrays, sharding)
    return jax.tree.map(lambda array: _put(array, sharding), arrays)


def _put(array: Any, sharding: Sharding) -> jax.Array:
    if is_global(array):
        moved: jax.Array = jax.device_put(array, sharding)
        return moved
    if isinstance(array, jax.Array) and jax.dtypes.issubdtype(
        array.dtype, jax.dtypes.prng_key
    ):
        data = _put(random.key_data(array), sharding)
        key: jax.Array = random.wrap_key_data(data, impl=random.key_impl(array))
        return key
    values = np.asarray(array)
    values = values.astype(jax.dtypes.canonicalize_dtype(values.dtype), copy=False)
    return from_parts(values.shape, sharding, lambda where: values[where])


def from_parts(
    shape: tuple[int, ...],
    sharding: Sharding,
    part: Callable[[Any], Any],
) -> jax.Array:
    """An array of this shape, of which each process makes the parts for its own devices."""
    array: jax.Array = jax.make_array_from_callback(shape, sharding, part)
    return array


def joined(
    sharding: Sharding,
    part: np.ndarray,
    axis: int,
) -> jax.Array:
    """The array of which each process has a part, joined along an axis in their order."""
    shape = list(part.shape)
    shape[axis] *= hosts(sharding)
    join: Callable[..., jax.Array] = jax.make_array_from_process_local_data
    return join(sharding, part, tuple(shape))


def hosts(sharding: Sharding) -> int:
    """The number of processes among whose devices an array lies."""
    devices: Any = sharding.device_set
    return len({device.process_index for device in devices})


def is_global(array: object) -> bool:
    """Whether an array lies on devices of several processes."""
    return (
        isinstance(array, jax.Array)
        and not isinstance(array, jax.core.Tracer)
        and not array.is_fully_addressable
    )


def local(arrays: Tree) -> Tree:
    """Arrays of several processes as arrays of this one.

    A replicated array is not copied. One that is divided between processes is gathered, for which
    each process must call this.
    """
    if not jax.distributed.is_initialized():
        return arrays  # as they are: a map would sort the keys of dicts
    return jax.tree.map(_local, arrays)


def _local(array: Any) -> Any:
    if not is_global(array):
        return array
    if not array.is_fully_replicated:
        whole = NamedSharding(array.sharding.mesh, partition())
        array = jax.device_put(array, whole)
    return array.addressable_data(0)
