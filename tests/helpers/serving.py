"""A server of a model in a process of its own, and clients of it."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


@contextlib.contextmanager
def serving(model, *options):
    """(the address of `python -m fnn serve` for a file, its process)."""
    command = [sys.executable, "-m", "fnn", "serve", str(model), "--port", "0", *options]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment
    )
    try:
        line = process.stderr.readline()
        assert "serves" in line, line + process.stderr.read()
        yield line.split()[-1], process
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stderr.close()
