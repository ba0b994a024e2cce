"""`python -m fnn serve` in a process of its own: no request is lost, and no client ends it."""

import asyncio
import json
import re
import signal
import socket
import time

import httpx
import numpy as np
import pytest

import fnn
from fnn import layers as L
from fnn.__main__ import main
from tests.helpers.serving import serving

pytestmark = pytest.mark.slow
CLIENTS, REQUESTS = 200, 3


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """(the file of a model, the model)"""
    rows = [L.Dense(16, "tanh", input_shape=(4,)), L.Dense(3)]
    model = fnn.Sequential(rows, seed=0)
    path = tmp_path_factory.mktemp("saved") / "m.fnn"
    model.save(path)
    return path, model


@pytest.fixture(scope="module")
def server(saved):
    """(address, process) of a server."""
    with serving(saved[0], "--max-body", "0.5") as found:
        yield found


def test_without_a_host_only_this_machine_reaches_it(server):
    assert server[0].startswith("http://127.0.0.1:")
    port = int(server[0].rpartition(":")[2])
    with socket.socket() as other:  # from another address of this machine
        other.settimeout(1)
        assert other.connect_ex(("127.0.0.2", port)) != 0


async def of_client(address, number, model_input):
    """The outputs that one client gets on one connection, one request after the other."""
    reader, writer = await asyncio.open_connection(*address)
    found = []
    for request in range(REQUESTS):
        x = model_input[number, request, : 1 + (number + request) % 3]
        body = json.dumps({"inputs": x.tolist()}).encode()
        writer.write(post(body, connection="keep-alive"))
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(re.search(rb"content-length: (\d+)", head)[1])
        answer = await reader.readexactly(length)
        assert head.startswith(b"HTTP/1.1 200"), answer
        found.append(json.loads(answer)["outputs"])
    writer.close()
    return found


def test_200_clients_get_each_their_own_outputs(server, saved):
    x = np.random.default_rng(0).normal(size=(CLIENTS, REQUESTS, 3, 4)).astype("float32")
    host, port = server[0].removeprefix("http://").split(":")

    async def whole():
        return await asyncio.gather(*(of_client((host, port), n, x) for n in range(CLIENTS)))

    found = asyncio.run(whole())
    wanted = saved[1].predict(x.reshape(-1, 4), verbose=0).reshape(CLIENTS, REQUESTS, 3, 3)
    for number, answers in enumerate(found):
        for request, outputs in enumerate(answers):
            some = wanted[number, request, : 1 + (number + request) % 3]
            np.testing.assert_allclose(outputs, some, atol=1e-5)
    metrics = httpx.get(f"{server[0]}/metrics").text
    batches = int(re.search(r"fnn_batch_examples_count (\d+)", metrics)[1])
    assert batches < CLIENTS * REQUESTS / 2


def exchanged(address, data, seconds=5, close=False):
    """What a server sends back for these bytes."""
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), seconds) as connection:
        connection.sendall(data)
        if close:
            return b""
        found = b""
        try:
            while piece := connection.recv(65536):
                found += piece
        except (TimeoutError, ConnectionResetError):
            pass
        return found


def post(body, length=None, kind="application/json", more="", connection="close"):
    length = len(body) if length is None else length
    head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\n{more}"
    return f"{head}Connection: {connection}\r\nContent-Length: {length}\r\n\r\n".encode() + body


GOOD = b'{"inputs": [[1, 2, 3, 4]]}'
HOSTILE = {
    "huge JSON": (post(b"[" * 600_000), b"413"),
    "nested JSON": (post(b'{"inputs": ' + b"[" * 400_000), b"400"),
    "NaN": (post(b'{"inputs": [[NaN, 1, 2, 3]]}'), b"400"),
    "another type": (post(GOOD, kind="text/plain"), b"415"),
    "pickle": (post(b"\x80\x04K\x01.", kind="application/octet-stream"), b"415"),
    "npy with objects": (post(b"\x93NUMPY", kind="application/x-npy"), b"415"),
    "safetensors cut off": (post(b"\x08" + bytes(9), kind="application/safetensors"), b"400"),
    "more than it says": (post(GOOD, length=5), b"400"),
    "a negative length": (post(GOOD, length=-5), b"400"),
    "an absurd length": (post(GOOD, length=10**15), b"413"),
    "two lengths": (post(GOOD, more="Content-Length: 3\r\n"), b"400"),
    "no HTTP": (b"\x16\x03\x01\x02\x00" * 20, b"400"),
    "endless headers": (b"GET / HTTP/1.1\r\n" + b"x: " + b"y" * 200_000, b"400"),
    "another method": (b"DELETE /predict HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b"405"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_requests_are_answered_and_the_server_lives(case, server):
    data, status = HOSTILE[case]
    answer = exchanged(server[0], data)
    assert answer.split()[1] == status, answer[:300]
    assert httpx.get(f"{server[0]}/health").json() == {"status": "ok"}


def test_slow_and_vanishing_clients_hold_up_nobody(server):
    host, port = server[0].removeprefix("http://").split(":")
    slow = [socket.create_connection((host, int(port))) for _ in range(50)]
    for connection in slow:
        connection.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-")
    for _ in range(20):
        exchanged(server[0], post(GOOD, length=1000), close=True)
        exchanged(server[0], post(GOOD), close=True)
    start = time.perf_counter()
    answer = httpx.post(f"{server[0]}/predict", json=json.loads(GOOD))
    assert answer.status_code == 200
    assert time.perf_counter() - start < 2
    for connection in slow:
        connection.close()


@pytest.mark.parametrize(
    ("port", "status", "message"),
    [("taken", 1, "a free port, received 127.0.0.1, port "), ("65536", 2, "from 0 to 65535")],
)
def test_a_port_that_cannot_be_taken_is_named(port, status, message, saved, capsys, monkeypatch):
    # It would log into what pytest captures of this test, in all tests after it.
    monkeypatch.setattr("uvicorn.Config.configure_logging", lambda config: None)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        if port == "taken":
            port = str(taken.getsockname()[1])
        with pytest.raises(SystemExit) as ended:
            main(["serve", str(saved[0]), "--port", port])
    assert ended.value.code == status
    assert message in capsys.readouterr().err


def test_sigterm_finishes_what_is_open(saved):
    with serving(saved[0], "--max-batch", "4") as (address, process):
        host, port = address.removeprefix("http://").split(":")
        connection = socket.create_connection((host, int(port)), 20)
        data = post(GOOD)
        connection.sendall(data[:-5])
        httpx.get(f"{address}/health")  # by now the request has arrived
        process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        connection.sendall(data[-5:])
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
        connection.close()
        assert b"200 OK" in answer
        body = json.loads(answer.partition(b"\r\n\r\n")[2])
        wanted = saved[1].predict(np.array([[1, 2, 3, 4]], "float32"), verbose=0)
        np.testing.assert_allclose(body["outputs"], wanted, atol=1e-5)
        assert process.wait(20) in (0, -signal.SIGTERM)
        with pytest.raises(OSError, match="refused"):
            socket.create_connection((host, int(port)), 5)
