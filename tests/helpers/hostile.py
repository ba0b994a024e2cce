"""Saved models with members that were changed, and what loading them may do."""

import contextlib
import encodings.cp437  # noqa: F401  of zip files: Python imports it when it reads the first
import hashlib
import io
import json
import sys
import time
import tracemalloc
import warnings
import zipfile
from pathlib import Path

import numpy as np

import fnn
from fnn.saving.archive import FileError


def packed(members, **arguments):
    """A saved model of these members, with the checksums that they have."""
    members = dict(members)
    manifest = json.loads(members["manifest.json"])
    manifest["sha256"] = {
        name: hashlib.sha256(members[name]).hexdigest() for name in manifest["sha256"]
    }
    members["manifest.json"] = json.dumps(manifest).encode()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            archive.writestr(name, data, **arguments)
    return out.getvalue()


def described(members, change):
    config = json.loads(members["config.json"])
    return packed({**members, "config.json": json.dumps(change(config)).encode()})


@contextlib.contextmanager
def harmless(seconds=2.0, megabytes=40, peak_of=None):
    """Nothing is imported, no filter of warnings changes, and it costs little.

    `peak_of()` starts to measure memory and returns what stops it and gives the peak in bytes.
    """
    modules, filters = set(sys.modules), list(warnings.filters)
    peak = (peak_of or allocated)()
    start = time.process_time()
    try:
        yield
    finally:
        took = time.process_time() - start
        used = peak() / 2**20
    assert set(sys.modules) == modules
    assert warnings.filters == filters
    assert took < seconds
    assert used < megabytes


def allocated():
    """All that is allocated, used or not; everything takes three times as long."""
    tracemalloc.start()

    def peak():
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    return peak


def resident():
    """What is written to, as Linux counts it; `allocated` elsewhere. Costs nothing."""
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts from now
        before = _resident("VmRSS")
    except (OSError, LookupError):
        return allocated()
    return lambda: _resident("VmHWM") - before


def _resident(name):
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise LookupError(name)


def nodes(data, at=()):
    yield at
    inside = data if isinstance(data, dict) else range(len(data)) if isinstance(data, list) else ()
    for key in inside:
        yield from nodes(data[key], (*at, key))


def put(data, at, value):
    if not at:
        return value
    copy = dict(data) if isinstance(data, dict) else list(data)
    copy[at[0]] = put(copy[at[0]], at[1:], value) if len(at) > 1 else value
    return copy


WRONG = [None, True, -1, 3, 10**30, 1.5, "x", [], [[1]], {}, {"layer": "Dense"}, {"": 1}]


def loads_or_is_refused(path):
    """The model in the file, or None if it is refused; nothing else may happen."""
    start = time.process_time()
    try:
        loaded = fnn.load(path)
        assert all(isinstance(array, np.ndarray) for array in loaded.get_weights())
    except FileError:
        loaded = None
    assert time.process_time() - start < 2
    return loaded
