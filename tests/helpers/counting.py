"""Counts what JAX compiles."""

import contextlib

import jax

_EVENT = "/jax/core/compile/backend_compile_duration"
_counters = []


def _listen(event, duration, **details):
    if event == _EVENT:
        for counter in _counters:
            counter.append(details)


jax.monitoring.register_event_duration_secs_listener(_listen)


@contextlib.contextmanager
def compilations():
    """A list that gets one item for every compilation inside the block."""
    counter = []
    _counters.append(counter)
    try:
        yield counter
    finally:
        _counters.remove(counter)
