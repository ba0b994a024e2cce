"""Application: predictions of a model over HTTP (ASGI)."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, NamedTuple, TypeAlias

from fnn.serving import bodies
from fnn.serving.batching import Batcher, FullError
from fnn.serving.bodies import BINARY, JSON, BodyError
from fnn.serving.metrics import Metrics
from fnn.serving.served import Served

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

PATHS = {"/": "GET", "/health": "GET", "/metrics": "GET", "/predict": "POST"}
LARGE_BODIES = 16  # how many of the largest bodies may be in memory at a time


class Limits(NamedTuple):
    """How much a server takes; `delay` and `body_seconds` are in seconds.

    >>> Limits(max_batch=64).max_batch
    64
    """

    max_batch: int = 32  # examples that are computed at once; 1: no batching
    delay: float = 0.002  # how long an example waits for others when nothing runs
    max_queue: int = 4096  # examples that wait
    max_body: int = 2**24  # bytes
    body_seconds: float = 30.0  # in which a body must arrive
    max_programs: int = 128  # one a shape of a batch; before more, all are dropped


class HTTPError(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, message: str, *headers: tuple[str, str]) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers


class Gone(Exception):  # noqa: N818 - no error
    """The client has gone."""


class Answer(NamedTuple):
    """A status, a body and its type."""

    status: int
    body: bytes
    kind: str = JSON
    headers: tuple[tuple[str, str], ...] = ()


class Application:
    """An ASGI application that answers with predictions of `model`, a model or its file.

    `POST /predict` takes `{"inputs": array}` as JSON or the arrays as safetensors, and answers in
    the same format. `GET /` tells the names and shapes of inputs and outputs, `/health` whether
    the server works, `/metrics` its counters for Prometheus. Errors are JSON, `{"error": ...}`.
    `ready()` is called when all programs are compiled; inside another application, which does not
    tell it of the start, they are compiled at the first requests.

    >>> model = fnn.Sequential([fnn.layers.Dense(1, input_shape=(2,))])
    >>> application = Application(model, Limits(max_batch=8))
    >>> application.served.inputs[0].shape
    (None, 2)
    """

    def __init__(
        self,
        model: Any,
        limits: Limits | None = None,
        ready: Callable[[], object] = lambda: None,
    ) -> None:
        self.limits = limits or Limits()
        self.metrics = Metrics()
        self.ready = ready
        self.served = Served(model, self.limits.max_batch, self.limits.max_programs)
        self.held = 0  # bytes of bodies
        self.batcher = Batcher(
            self.served.run,
            most=self.limits.max_batch,
            delay=self.limits.delay,
            queue=self.limits.max_queue,
            together=self.served.takes_batches,
            metrics=self.metrics,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI's entry."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        """Starts and ends with the server."""
        await receive()
        try:
            await self.batcher.in_thread(self.served.warm_up)
        except Exception as error:
            message = f"{type(error).__name__}: {error}"
            await send({"type": "lifespan.startup.failed", "message": message})
            return
        self.batcher.start()
        await send({"type": "lifespan.startup.complete"})
        self.ready()
        await receive()
        await self.batcher.stop()
        await send({"type": "lifespan.shutdown.complete"})

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = time.perf_counter()
        self.metrics.open += 1
        try:
            answer = await self._answered(scope, receive)
        except Gone:
            return
        finally:
            self.metrics.open -= 1
        self.metrics.answered(answer.status, time.perf_counter() - start)
        headers = [
            ("content-type", answer.kind),
            ("content-length", str(len(answer.body))),
            *answer.headers,
        ]
        encoded = [(name.encode(), value.encode()) for name, value in headers]
        await send(
            {"type": "http.response.start", "status": answer.status, "headers": encoded}
        )
        body = answer.body
        if scope["method"] == "HEAD":
            body = b""
        await send({"type": "http.response.body", "body": body})

    async def _answered(self, scope: Scope, receive: Receive) -> Answer:
        try:
            return await self._routed(scope, receive)
        except HTTPError as error:
            return _error(error.status, str(error), error.headers)
        except FullError as error:
            return _error(503, str(error), (("retry-after", "1"),))
        except BodyError as error:
            return _error(400, str(error))
        except Gone:
            raise
        except Exception:
            logging.getLogger("fnn").exception("a request failed")
            return _error(500, "the model failed; the log of the server tells more")

    async def _routed(self, scope: Scope, receive: Receive) -> Answer:
        path, method = scope["path"], scope["method"]
        wanted = PATHS.get(path)
        if wanted is None:
            raise HTTPError(
                404, f"expected one of the paths {list(PATHS)}, received {path[:200]}"
            )
        if method != wanted and (method, wanted) != ("HEAD", "GET"):
            message = f"expected {wanted} for {path}, received {method}"
            raise HTTPError(405, message, ("allow", wanted))
        if path == "/predict":
            return await self._predict(scope, receive)
        if path == "/metrics":
            self.metrics.waiting = self.batcher.examples
            kind = "text/plain; version=0.0.4; charset=utf-8"
            return Answer(200, self.metrics.text().encode(), kind)
        if path == "/health":
            return Answer(200, b'{"status": "ok"}')
        return Answer(200, json.dumps(self.described()).encode())

    def described(self) -> dict[str, Any]:
        """The model's name, inputs and outputs."""
        return {
            "model": self.served.name,
            "inputs": [spec.as_json() for spec in self.served.inputs],
            "outputs": [spec.as_json() for spec in self.served.outputs],
        }

    async def _predict(self, scope: Scope, receive: Receive) -> Answer:
        headers = {name.lower(): value for name, value in scope["headers"]}
        kind = _type_of(headers)
        self.batcher.check_room(1)
        if not self.batcher.running:
            # Inside another application, which tells it nothing of the start.
            self.batcher.start()
        body = bytearray()
        try:
            await self._read(body, headers, receive)
            arrays = bodies.read(kind, bytes(body), self.served.inputs)
            try:
                outputs = await self.batcher(arrays)
            except (ValueError, TypeError) as error:
                # Values that the model refuses, such as an id out of range.
                raise HTTPError(400, str(error).partition("\n")[0]) from None
        finally:
            self.held -= len(body)
        wanted = _accepted(headers, kind)
        written = bodies.write(wanted, outputs, self.served.outputs)
        return Answer(200, written, wanted)

    async def _read(
        self, body: bytearray, headers: dict[bytes, bytes], receive: Receive
    ) -> None:
        """Reads a body. Raises HTTPError if it is too large or slow, Gone if the client left."""
        limits = self.limits
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > limits.max_body:
            raise _too_large(limits.max_body)
        try:
            async with asyncio.timeout(limits.body_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Gone
                    self._hold(body, message.get("body", b""))
                    if not message.get("more_body"):
                        return
        except TimeoutError:
            raise HTTPError(
                408,
                f"the body did not arrive within {limits.body_seconds} s",
                ("connection", "close"),
            ) from None

    def _hold(self, body: bytearray, piece: bytes) -> None:
        body += piece
        self.held += len(piece)
        if len(body) > self.limits.max_body:
            raise _too_large(self.limits.max_body)
        if self.held > LARGE_BODIES * self.limits.max_body:
            raise HTTPError(
                503,
                "the bodies of other requests take all memory that they may; try again later",
                ("retry-after", "1"),
                ("connection", "close"),
            )


def _too_large(most: int) -> HTTPError:
    return HTTPError(
        413,
        f"expected a body of at most {most} bytes, with its size in Content-Length",
        ("connection", "close"),
    )


def _error(
    status: int,
    message: str,
    headers: Iterable[tuple[str, str]] = (),
) -> Answer:
    body = json.dumps({"error": message}).encode()
    return Answer(status, body, JSON, tuple(headers))


def _type_of(headers: dict[bytes, bytes]) -> str:
    """The type of a body. Raises HTTPError for another one, and for compressed bodies."""
    encoding = headers.get(b"content-encoding", b"identity")
    given = headers.get(b"content-type", b"").decode("latin-1")
    kind = given.partition(";")[0].strip().lower()
    if kind not in (JSON, BINARY) or encoding != b"identity":
        raise HTTPError(
            415,
            f"expected Content-Type {JSON} or {BINARY}, uncompressed, received {given[:200]!r}",
            ("connection", "close"),
        )
    return kind


def _accepted(headers: dict[bytes, bytes], kind: str) -> str:
    """The type of the answer: that of the request, unless the client asks for the other."""
    accepted = headers.get(b"accept", b"").decode("latin-1").lower()
    for other in (JSON, BINARY):
        if other in accepted and kind not in accepted:
            return other
    return kind
