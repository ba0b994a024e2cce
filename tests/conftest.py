"""Strict JAX for every test: several devices, no silent broadcasting of ranks."""

import contextlib
import gc
import os
import shutil
import sys
from pathlib import Path

os.environ["KERAS_BACKEND"] = "jax"

import jax
import pytest

import fnn
from fnn.training.one_device import Mentioned
from tests.helpers.compiling import (
    HAS_OLDER_EMITTERS,
    OLDER_EMITTERS,
    remember_files_of_jax,
    share_contexts,
)
from tests.helpers.oracle import keras_rules

if HAS_OLDER_EMITTERS:
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {OLDER_EMITTERS}"

jax.config.update("jax_traceback_in_locations_limit", 0)  # shown nowhere, and takes time
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
Mentioned.once = True  # that there are 8 devices; what `fit` prints is the same in each test

# All that is compiled is kept in the virtual environment: to read a program takes a quarter of the
# time of compiling it, a fifth are equal to an earlier one, and a second run finds each. (A file
# that another process is still writing is an error of JAX's, ignored in pyproject.toml.)
COMPILED, MOST_COMPILED = Path(sys.prefix, "compiled"), 2**31
if sys.prefix != sys.base_prefix and not jax.config.jax_compilation_cache_dir:
    jax.config.update("jax_compilation_cache_dir", str(COMPILED))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)

remember_files_of_jax()


def keep_to_a_core(worker, count):
    """Where there is a worker of pytest-xdist for each core, each computes on one of them.

    So do its children. Threads of several workers would wait for each other: a tenth of the time.
    """
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_setaffinity") else ()
    if 1 < len(cores) <= count:
        os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})


if "PYTEST_XDIST_WORKER" in os.environ:
    keep_to_a_core(os.environ["PYTEST_XDIST_WORKER"], int(os.environ["PYTEST_XDIST_WORKER_COUNT"]))

# Tracing makes many objects that live on, through which Python would search for dead ones.
gc.set_threshold(500_000, 10, 1000)


def size_of(file):
    with contextlib.suppress(FileNotFoundError):  # another run may have removed it
        return file.stat().st_size
    return 0


def pytest_sessionstart(session):
    """Empties the folder of what was compiled where it has grown too large."""
    alone = "PYTEST_XDIST_WORKER" not in os.environ
    if alone and sum(map(size_of, COMPILED.glob("*"))) > MOST_COMPILED:
        shutil.rmtree(COMPILED, ignore_errors=True)  # another run may be writing there


@pytest.fixture
def key():
    return jax.random.key(0)


@pytest.fixture(scope="session")
def keras():
    with keras_rules():
        import keras

        return keras


@pytest.fixture(autouse=True)
def same_weights_in_every_run():
    """What a model learns does not hang on the weights that it happens to start from."""
    fnn.set_seed(0)


# A process dies at 65,530 mappings (Linux), and each program takes about five of them.
MOST_MAPPINGS = 30_000


def mappings():
    maps = Path("/proc/self/maps")
    return maps.read_bytes().count(b"\n") if maps.exists() else 0


@pytest.fixture(autouse=True, scope="module")
def cheap_compilation(request):
    """Programs that run a few times are compiled without the costly optimizations."""
    share_contexts()
    cheap = not request.node.get_closest_marker("optimized")
    jax.config.update("jax_disable_most_optimizations", cheap)
    if not cheap:
        fnn.utils.clear_session()  # it would use what was compiled cheaply for an equal model
    yield
    jax.config.update("jax_disable_most_optimizations", False)
    if mappings() > MOST_MAPPINGS:
        gc.unfreeze()
        jax.clear_caches()
    gc.collect()
    gc.freeze()  # what is left stays: each later collection would go through all of it again
