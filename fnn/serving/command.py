"""Command: `python -m fnn serve m.fnn`."""

from __future__ import annotations

import argparse
import socket
import sys
from typing import Any

from fnn.runtime.optional import optional
from fnn.serving.application import Application, Limits

DESCRIPTION = """\
Serves predictions of a saved model over HTTP.

  POST /predict   {"inputs": [[...], ...]} as application/json, or the arrays by name as
                  application/safetensors; answers {"outputs": ...} in the same format
  GET  /          names, shapes and dtypes of inputs and outputs
  GET  /health    200 once all programs are compiled
  GET  /metrics   counters for Prometheus

Requests that arrive together are computed together. SIGTERM finishes the requests that are open.
There is no encryption and no password: behind 127.0.0.1, put a reverse proxy in front."""

EXAMPLE = """\
example:
  python -m fnn serve digits.fnn --port 8000
  curl -H 'Content-Type: application/json' -d '{"inputs": [[0.1, 0.2]]}' localhost:8000/predict"""


def serve(
    model: Any,
    host: str = "127.0.0.1",
    port: int = 8000,
    limits: Limits | None = None,
    max_connections: int = 512,
    grace: int = 30,
) -> None:
    """Serves a model, or the file of one, over HTTP until SIGTERM or Ctrl-C.

    `port=0` takes a free one, which the line on standard error names. `grace` is the number of
    seconds in which open requests are finished.

    >>> serve("model.fnn", limits=Limits(max_batch=64))  # doctest: +SKIP
    fnn: serves model at http://127.0.0.1:8000
    """
    with optional("uvicorn", extra="serve"):
        import uvicorn

    def ready() -> None:
        bound.listen(config.backlog)
        shown = f"[{host}]" if ":" in host else host
        address = f"http://{shown}:{bound.getsockname()[1]}"
        print(
            f"fnn: serves {application.served.name} at {address}",
            file=sys.stderr,
            flush=True,
        )

    application = Application(model, limits, ready)
    config = uvicorn.Config(
        application,
        host,
        port,
        lifespan="on",
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
        limit_concurrency=max_connections,
        backlog=max(max_connections, 128),
        timeout_graceful_shutdown=grace,
    )
    bound = _bound(host, port)
    uvicorn.Server(config).run(sockets=[bound])


def _bound(host: str, port: int) -> socket.socket:
    """A socket that listens later. Raises OSError where the address cannot be taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise OSError(
            f"expected an address of this machine and a free port, received {host}, port {port}: "
            f"{error.strerror}; choose another one, or port 0 for any that is free"
        ) from error
    return bound


def main(arguments: list[str]) -> None:
    """Runs `python -m fnn serve` with these arguments; exits with status 2 for wrong ones.

    >>> main(["--help"])  # doctest: +SKIP
    """
    given = _parser().parse_args(arguments)
    limits = Limits(
        max_batch=given.max_batch,
        delay=given.delay / 1000,
        max_queue=given.max_queue,
        max_body=int(given.max_body * 2**20),
        body_seconds=given.body_timeout,
        max_programs=given.max_programs,
    )
    try:
        serve(
            given.model,
            given.host,
            given.port,
            limits,
            given.max_connections,
            given.grace,
        )
    except (OSError, ValueError, ImportError) as error:
        print(f"python -m fnn serve: {error}", file=sys.stderr)
        sys.exit(1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m fnn serve",
        description=DESCRIPTION,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", help="a file that model.save wrote, such as m.fnn")
    for name, kind, default, help in (
        ("host", str, "127.0.0.1", "address to listen at; 0.0.0.0 is every one"),
        ("port", _port, 8000, "port to listen at; 0 takes a free one"),
        ("max-batch", _positive, 32, "examples computed at once; 1 is no batching"),
        ("delay", float, 2.0, "milliseconds that an example waits for others"),
        ("max-queue", _positive, 4096, "examples that may wait; more are answered 503"),
        ("max-body", float, 16.0, "megabytes of a body; larger ones are answered 413"),
        ("body-timeout", float, 30.0, "seconds in which a body must arrive"),
        (
            "max-programs",
            _positive,
            128,
            "compiled programs, one for each shape of a batch",
        ),
        ("max-connections", _positive, 512, "open connections; more are answered 503"),
        ("grace", _positive, 30, "seconds to finish open requests after SIGTERM"),
    ):
        metavar = "ADDRESS" if kind is str else "N"
        text = f"{help} (default: {default})"
        parser.add_argument(
            f"--{name}", type=kind, default=default, help=text, metavar=metavar
        )
    return parser


def _port(given: str) -> int:
    number = int(given)
    if not 0 <= number < 2**16:
        raise argparse.ArgumentTypeError(
            f"expected a port from 0 to 65535, received {given}"
        )
    return number


def _positive(given: str) -> int:
    number = int(given)
    if number < 1:
        raise argparse.ArgumentTypeError(
            f"expected a positive integer, received {given}"
        )
    return number
