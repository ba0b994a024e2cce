"""How the tests compile: by XLA's older emitters, which are fast at it, or by its usual ones."""

import functools
import os
import subprocess
import sys
import threading
from pathlib import Path

import jax
from jax._src import traceback_util
from jax._src.interpreters import mlir

# Later versions may know the flag no more, and an unknown flag ends the process.
HAS_OLDER_EMITTERS = jax.__version_info__ < (0, 11)
# They compile a small program in 0.4 of the time, and compiling is most of what the tests do.
OLDER_EMITTERS = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"


_new_context = getattr(mlir, "make_ir_context", None)


@functools.cache
def _context_of(thread):
    return _new_context()


def _context():
    try:
        mlir.ir.InsertionPoint.current  # noqa: B018 - raises outside of a program
    except ValueError:
        return _context_of(threading.get_ident())
    return _new_context()  # a program within another one would be put into it


def share_contexts():
    """Lets the programs of a thread share a context of MLIR: a fifth of the time of a small one.

    JAX makes one for each program, which loads all dialects anew. What a program leaves in it stays
    until the next call of this.
    """
    _context_of.cache_clear()
    if _new_context is not None:
        mlir.make_ir_context = _context


def remember_files_of_jax():
    """JAX asks the file system once, not for each frame of each error, whether a file is its own.

    That takes two thirds of the time of a test of an error.
    """
    is_in = getattr(traceback_util, "_path_starts_with", None)
    if is_in is not None and not hasattr(is_in, "cache_info"):
        traceback_util._path_starts_with = functools.cache(is_in)


def with_gradients(function, seed, *given, has_aux=False):
    """(outputs, gradients of their sum with weights `seed`), and what comes beside the outputs.

    One program: operation by operation it would be a program for each.
    """

    def run(*given):
        y, pull, *others = jax.vjp(function, *given, has_aux=has_aux)
        return y, pull(seed), *others

    return jax.jit(run)(*given)


def usual_jit(function):
    """`jax.jit` as users have it: two programs of the same arithmetic agree in every bit."""
    usual = {"xla_cpu_use_fusion_emitters": True} if HAS_OLDER_EMITTERS else None
    return jax.jit(function, compiler_options=usual)


def run_as_users_do(code):
    """Runs code in a process that compiles by the usual emitters. An error there is one here."""
    flags = os.environ.get("XLA_FLAGS", "").replace(OLDER_EMITTERS, "").strip()
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "XLA_FLAGS": flags},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
