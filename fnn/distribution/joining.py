"""Joining: the processes of a computation find each other, or an error says who is missing.

JAX would abort all of them after a while, without a name. So before it connects them, each says at
the address of the first process that it is there, and the first one answers when all are.
"""

from __future__ import annotations

import json
import selectors
import socket
import time

_PAUSE = 0.2  # seconds between two tries to reach the first process
_ANSWER = 5.0  # seconds in which a process answers


def join(
    address: str,
    count: int,
    number: int,
    timeout: float,
) -> None:
    """Returns when all `count` processes are there.

    Raises RuntimeError if that takes longer than `timeout` seconds, with the numbers of those that
    are missing, and for processes whose numbers do not fit together.
    """
    host, _, port = address.strip().rpartition(":")
    if not host or not port.isdecimal():
        raise ValueError(
            f"initialize: expected 'address:port' of the first process, received {address!r}; "
            "e.g. 'localhost:1234'"
        )
    if not 0 <= number < count:
        raise ValueError(
            f"initialize: process_id must be between 0 and {count - 1} for {count} processes, got "
            f"{number}"
        )
    until = time.monotonic() + timeout
    if number == 0:
        problem = _gather(int(port), count, until, timeout)
    else:
        own = (count, number)
        problem = _report(host.strip("[]"), int(port), own, until, timeout)
    if problem:
        raise RuntimeError(f"initialize: {problem}")


def _gather(
    port: int,
    count: int,
    until: float,
    timeout: float,
) -> str:
    """Waits, as the first process, for all others, and answers them. Returns what is wrong."""
    there: dict[int, socket.socket] = {}
    problem = ""
    with _listening(port) as server, selectors.DefaultSelector() as incoming:
        incoming.register(server, selectors.EVENT_READ)
        while len(there) < count - 1 and not problem:
            if not incoming.select(max(until - time.monotonic(), 0)):
                problem = _missing(there, count, timeout)
                break
            connection, _ = server.accept()
            problem = _greet(connection, there, count)
            if len(there) == count - 1:
                _forget_ended(there)
        for connection in there.values():
            _answer(connection, problem)
    return problem


def _forget_ended(there: dict[int, socket.socket]) -> None:
    """Removes processes that came and have ended: the others wait until they come again."""
    for number, connection in list(there.items()):
        connection.setblocking(False)
        try:
            has_ended = not connection.recv(1)
        except BlockingIOError:
            has_ended = False
        except OSError:
            has_ended = True
        connection.settimeout(_ANSWER)
        if has_ended:
            there.pop(number).close()


def _listening(port: int) -> socket.socket:
    family, both = socket.AF_INET, socket.has_dualstack_ipv6()
    if both:
        family = socket.AF_INET6
    try:
        return socket.create_server(("", port), family=family, dualstack_ipv6=both)
    except OSError as error:
        raise OSError(
            error.errno,
            f"initialize: process 0 cannot listen at port {port} ({error.strerror}); pass a free "
            "port of its host",
        ) from error


def _greet(
    connection: socket.socket,
    there: dict[int, socket.socket],
    count: int,
) -> str:
    """Takes up a process that has come. Returns what is wrong with it."""
    connection.settimeout(_ANSWER)
    try:
        theirs, number = map(int, _line(connection).split())
        if not 0 < number < theirs:
            raise ValueError
    except (OSError, ValueError):
        connection.close()  # a stranger at this port
        return ""
    before = there.get(number)
    there[number] = connection
    if theirs != count:
        return f"process {number} expects {theirs} processes and process 0 expects {count}; pass "
        "the same number in each"
    if before is not None:
        # It may have been started again; if not, two have the same number.
        _answer(
            before, f"another process has come as number {number}; give each its own"
        )
    return ""


def _missing(
    there: dict[int, socket.socket],
    count: int,
    timeout: float,
) -> str:
    missing = [str(number) for number in range(1, count) if number not in there]
    shown = ", ".join(missing[:8])
    if len(missing) > 8:
        shown += ", ..."
    return (
        f"waited {timeout:g} s for all {count} processes, and process {shown} has not come; look "
        "at its output, and whether its host reaches the address of process 0"
    )


def _report(
    host: str,
    port: int,
    own: tuple[int, int],
    until: float,
    timeout: float,
) -> str:
    """Says to the first process that this one is there. Returns what is wrong."""
    reason = ""
    while (left := until - time.monotonic()) > 0:
        try:
            with socket.create_connection(
                (host, port), min(left, _ANSWER)
            ) as connection:
                connection.sendall(b"%d %d\n" % own)
                # The first process, which may have come later, answers a little after its time.
                connection.settimeout(timeout + 10)
                return str(json.loads(_line(connection)))
        except (OSError, ValueError) as error:
            reason = str(error) or type(error).__name__
        time.sleep(_PAUSE)
    return (
        f"waited {timeout:g} s for process 0 at {host}:{port}, which was not reached ({reason}); "
        "check the address, that process 0 runs there, and that no firewall is between"
    )


def _line(connection: socket.socket) -> bytes:
    with connection.makefile("rb") as file:
        return file.readline(2000)


def _answer(connection: socket.socket, problem: str) -> None:
    """Lets a process go on, or tells it what is wrong."""
    try:
        connection.sendall(json.dumps(problem).encode() + b"\n")
        connection.recv(1)  # it closes first, so that the port is free at once
    except OSError:
        pass
    finally:
        connection.close()
