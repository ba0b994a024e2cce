"""The watch over the processes of a computation: when one stops, the others end, and say why."""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import socket
import subprocess
import sys
import threading
import time

import jax

from fnn.runtime.processes import BEAT, DONE, client, connection, value_of

_HOST, _END = "fnn/host/", "fnn/end"
# Errors of JAX that another process may have caused begin with one of these.
_OF_OTHERS = re.compile(
    "(UNKNOWN|UNAVAILABLE|INTERNAL|ABORTED|CANCELLED|DEADLINE_EXCEEDED): "
)
_AGAIN = (
    "Start all processes again; with fit(..., checkpoint='folder', resume=True) the training "
    "continues from the newest checkpoint."
)

# JAX aborts a process at once when the first one is gone, before Python could say why. This runs
# beside it: it reads until the process is gone, and prints the message unless it was told not to.
_WITNESS = """
import signal, socket, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
if not sys.stdin.read():
    host, port = sys.argv[1].rsplit(":", 1)
    try:
        socket.create_connection((host.strip("[]"), int(port)), 5).close()
    except OSError:
        sys.stderr.write(sys.argv[2])
"""


class Watch:
    """Ends this process, with status 1 and a message, when another one has stopped.

    Each process sends the first one a sign of life. When one has sent none for `timeout` seconds,
    or has ended with an error, the first one tells the others. A computation could not go on, and
    waiting for a process that is gone cannot be interrupted, so the process ends at once.
    """

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self.interval = min(1.0, timeout / 10)
        self.number: int = connection().process_id
        self.client = client()
        # The last beats, and when they came.
        self._seen: dict[str, tuple[str, float]] = {}
        self._is_over = threading.Event()
        self.client.key_value_set(f"{_HOST}{self.number}", socket.gethostname())
        first = f"{self.name(0)}, which connects the others, has stopped"
        address = str(connection().coordinator_address)
        command = [sys.executable, "-S", "-c", _WITNESS, address, self._message(first)]
        self._witness = subprocess.Popen(command, stdin=subprocess.PIPE)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        atexit.register(self._at_exit)

    def name(self, process: int) -> str:
        """A process and its host, for messages."""
        return f"process {process} on {value_of(f'{_HOST}{process}')}"

    def _run(self) -> None:
        beat = 0
        while not self._is_over.is_set():
            beat += 1
            try:
                self._send(str(beat))
                if self.number == 0:
                    self._look_at_others()
                end = self._end_of_all()
            except jax.errors.JaxRuntimeError:
                # The first process answers at any time, as long as it is there.
                return
            if end is not None and not self._is_over.is_set():
                self._leave(end)

    def _send(self, beat: str) -> None:
        self.client.key_value_set(f"{BEAT}{self.number}", beat, allow_overwrite=True)

    def _look_at_others(self) -> None:
        now = time.monotonic()
        for name, beat in self.client.key_value_dir_get(BEAT):
            last, since = self._seen.get(name, ("", now))
            if beat != last:
                self._seen[name] = beat, now
            elif beat != DONE and now - since > self.timeout:
                process = self.name(int(name.removeprefix(BEAT)))
                self._tell(f"{process} has sent no sign of life for {self.timeout:g} s")

    def _tell(self, end: str) -> None:
        """Tells all processes that the computation ends; the first word counts."""
        try:
            self.client.key_value_set(_END, end)
        except jax.errors.JaxRuntimeError as error:
            if "ALREADY_EXISTS" not in str(error):
                raise

    def _end_of_all(self) -> str | None:
        """The message with which this process ends, if it does within `interval` seconds."""
        try:
            found: str = self.client.blocking_key_value_get(
                _END, int(1000 * self.interval)
            )
            return self._message(found)
        except jax.errors.JaxRuntimeError as error:
            if "DEADLINE_EXCEEDED" in str(error):
                return None
            raise

    def _message(self, reason: str) -> str:
        return f"\nfnn: {reason}, so {self.name(self.number)} ends too. {_AGAIN}\n"

    def _leave(self, message: str = "") -> None:
        """Ends this process; the first one a little later, so that the others hear of it."""
        self._dismiss_witness()
        sys.stderr.write(message)
        sys.stdout.flush()
        sys.stderr.flush()
        if self.number == 0:
            time.sleep(1)
        os._exit(1)

    def _dismiss_witness(self) -> None:
        with contextlib.suppress(OSError):
            self._witness.communicate(b"over")

    def _at_exit(self) -> None:
        error = getattr(sys, "last_value", None)
        if error is None:
            self._is_over.set()
            self._send(DONE)
            self._thread.join()
            self._dismiss_witness()
            return
        if _OF_OTHERS.match(str(error)):
            # The thread ends this process as soon as it is known which one has stopped.
            self._thread.join(self.timeout + 5)
        self._is_over.set()
        line = str(error).partition("\n")[0]
        self._tell(
            f"{self.name(self.number)} ended with {type(error).__name__}: {line}"
        )
        time.sleep(self.interval)
        self._leave()
