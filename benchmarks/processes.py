"""Peers in processes of their own, which answer commands: the side that asks."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]

# Import times are those of an installed package, whose bytecode is cached.
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}


class Worker:
    """A peer in its own process: its first answer, and `skip`: why it does not run."""

    def __init__(self, peer: str, *command: str):
        self.peer = peer
        self.process = subprocess.Popen(
            [sys.executable, "-m", *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=ENVIRONMENT,
        )
        self.started = self.answer()
        self.skip = self.started.get("skip")

    def answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        return json.loads(line) if line else {"skip": "it failed"}

    def ask(self, command: str) -> dict[str, Any]:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # the answer tells that it ended
            print(command, file=self.process.stdin, flush=True)
        return self.answer()

    def close(self) -> float | None:
        """Ends the process; returns its peak memory in MB."""
        memory = None if self.skip else self.ask("quit").get("memory")
        self.process.communicate()
        return memory
