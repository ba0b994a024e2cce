"""Processes: what each one of a computation holds of an array, and what they agree on.

A computation has several processes after `jax.distributed.initialize`; each runs the same program
and sees the devices of all. Without it every function here leaves arrays as they are.
"""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import numpy as np
from jax import random
from jax._src import distributed
from jax.sharding import AxisType, Mesh, NamedSharding, Sharding

from fnn.runtime.placement import Tree, partition

Plain: TypeAlias = Any  # what JSON holds

WAIT = 1000  # milliseconds of one look for a value; Ctrl-C is noticed in between
_rounds = itertools.count()


def are_several() -> bool:
    """Whether this computation has several processes."""
    return jax.distributed.is_initialized() and jax.process_count() > 1


def writes() -> bool:
    """Whether this process prints and writes files: the first one does so for all."""
    return not jax.distributed.is_initialized() or jax.process_index() == 0


# -- agreements ------------------------------------------------------------------------------------


def client() -> Any:
    """The connection to the first process, which keeps values by name."""
    return distributed.global_state.client


def value_of(name: str) -> str:
    """The value of a name, as soon as a process has set it."""
    while True:
        try:
            found: str = client().blocking_key_value_get(name, WAIT)
            return found
        except jax.errors.JaxRuntimeError as error:
            if "DEADLINE_EXCEEDED" not in str(error):
                raise


def exchanged(value: Plain) -> list[Plain]:
    """The values of all processes, by their numbers; each calls this, in the same order.

    It takes about a millisecond and no device. Numbers, strings, lists and dicts are values.
    """
    if not are_several():
        return [value]
    number, own = next(_rounds), jax.process_index()
    client().key_value_set(f"fnn/{number}/{own}", json.dumps(value))
    if number > 1:
        # All have read it: they have set their values of the round after.
        client().key_value_delete(f"fnn/{number - 2}/{own}")
    processes = range(jax.process_count())
    return [json.loads(value_of(f"fnn/{number}/{process}")) for process in processes]


def by_first(function: Callable[[], Plain]) -> Plain:
    """The result of a function that the first process runs; its OSError is raised in each."""
    found, failure = None, None
    if writes():
        try:
            found = function()
        except OSError as error:
            if not are_several():
                raise
            failure = [error.errno or 0, error.strerror or str(error)]
    found, failure = exchanged([found, failure])[0]
    if failure is not None:
        raise OSError(*failure)
    return found


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
        return jax.device_put(array, sharding)
    if isinstance(array, jax.Array) and jax.dtypes.issubdtype(
        array.dtype, jax.dtypes.prng_key
    ):
        data = _put(random.key_data(array), sharding)
        return random.wrap_key_data(data, impl=random.key_impl(array))
    values = np.asarray(array)
    values = values.astype(jax.dtypes.canonicalize_dtype(values.dtype), copy=False)
    return from_parts(values.shape, sharding, lambda where: values[where])


def from_parts(
    shape: tuple[int, ...], sharding: Sharding, part: Callable[[Any], Any]
) -> jax.Array:
    """An array of this shape, of which each process makes the parts for its own devices."""
    array: jax.Array = jax.make_array_from_callback(shape, sharding, part)
    return array


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
    return jax.tree.map(_local, arrays)


def _local(array: Any) -> Any:
    if not is_global(array):
        return array
    if not array.is_fully_replicated:
        whole = NamedSharding(array.sharding.mesh, partition())
        array = jax.device_put(array, whole)
    return array.addressable_data(0)
