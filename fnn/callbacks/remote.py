"""RemoteMonitor: sends the logs of each epoch to a server."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from fnn.runtime.warning import warn
from fnn.training.hooks import Callback, Logs

TIMEOUT = 10.0  # seconds; training waits no longer for a server


class RemoteMonitor(Callback):
    """Posts `epoch` (from 0) and the logs of each epoch to `root + path`.

    The content is a form with the JSON in the field `field`, or with `send_as_json` the JSON
    itself. A server that cannot be reached is a warning; the training continues.

    >>> monitor = RemoteMonitor("http://localhost:9", send_as_json=True)
    >>> monitor.body(0, {"loss": 0.5})
    b'{"epoch": 0, "loss": 0.5}'
    """

    first_process_only: ClassVar[bool] = True

    def __init__(
        self,
        root: str = "http://localhost:9000",
        path: str = "/publish/epoch/end/",
        field: str = "data",
        headers: Mapping[str, str] | None = None,
        send_as_json: bool = False,
    ) -> None:
        super().__init__()
        self.root = root
        self.path = path
        self.field = field
        self.headers = headers
        self.send_as_json = send_as_json

    def body(self, epoch: int, logs: Logs) -> bytes:
        """The content of the request for an epoch."""
        sent: dict[str, Any] = {"epoch": epoch}
        for name, value in logs.items():
            sent[name] = np.asarray(value).tolist()
        text = json.dumps(sent)
        if not self.send_as_json:
            text = urllib.parse.urlencode({self.field: text})
        return text.encode()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        content = "application/x-www-form-urlencoded"
        if self.send_as_json:
            content = "application/json"
        headers = {"Content-Type": content, **(self.headers or {})}
        request = urllib.request.Request(
            self.root + self.path, self.body(epoch, logs or {}), headers
        )
        try:
            urllib.request.urlopen(request, timeout=TIMEOUT).close()
        except urllib.error.HTTPError as error:
            error.close()  # the server answered: what it says is its own concern
        except (OSError, ValueError):
            warn(f"RemoteMonitor: could not reach the server at {self.root}")
