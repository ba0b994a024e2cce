"""How the tests compile: by XLA's older emitters, which are fast at it, or by its usual ones."""

import os
import subprocess
import sys
from pathlib import Path

import jax

# Later versions may know the flag no more, and an unknown flag ends the process.
HAS_OLDER_EMITTERS = jax.__version_info__ < (0, 11)
# They compile a small program in 0.4 of the time, and compiling is most of what the tests do.
OLDER_EMITTERS = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"


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
