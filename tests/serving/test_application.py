"""The application without a server: what it answers, and the limits on what it takes."""

import asyncio
import contextlib
import json
import threading

import httpx
import numpy as np
import pytest
from safetensors.numpy import load, save

import fnn
from fnn import layers as L
from fnn.serving import Application, Limits, main
from fnn.serving.bodies import BINARY, JSON
from fnn.serving.served import Served
from tests.helpers.counting import compilations
from tests.helpers.exported import NETWORKS, across_examples, by_name, dense, numbers


@contextlib.asynccontextmanager
async def running(application):
    """A client of an application that runs."""
    served = application.served
    await application.batcher.in_thread(served.warm_up)
    application.batcher.start()
    transport = httpx.ASGITransport(application)
    async with httpx.AsyncClient(transport=transport, base_url="http://fnn") as client:
        yield client
    await application.batcher.stop()


def answers(application, *requests):
    """The answers to requests, each a function of the client, one after the other."""

    async def whole():
        async with running(application) as client:
            return [await request(client) for request in requests]

    return asyncio.run(whole())


def post(body, kind=JSON, path="/predict", **headers):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    if isinstance(body, dict):
        body = json.dumps(body)

    async def send(client):
        return await client.post(path, content=body, headers={"content-type": kind, **named})

    return send


def get(path, method="GET"):
    return lambda client: client.request(method, path)


@pytest.mark.slow
@pytest.mark.parametrize("make", NETWORKS, ids=lambda make: make.__name__)
def test_every_kind_of_network_is_served(make):
    model, x = make()
    application = Application(model, Limits(max_batch=4))
    specs = application.served.inputs
    arrays = fnn.tree.flatten(x)
    named = {spec.name: array for spec, array in zip(specs, arrays, strict=True)}
    lists = {name: array.tolist() for name, array in named.items()}
    as_json, as_binary, described = answers(
        application, post({"inputs": lists}), post(save(named), BINARY), get("/")
    )
    wanted = fnn.tree.flatten(model.predict(x, verbose=0))
    names = [one["name"] for one in described.json()["outputs"]]
    for found in (as_json.json()["outputs"], load(as_binary.content)):
        if len(names) == 1:
            found = {names[0]: found["outputs"] if isinstance(found, dict) else found}
        for name, other in zip(names, wanted, strict=True):
            np.testing.assert_allclose(found[name], other, atol=1e-5)


def test_the_application_tells_of_itself():
    model, x = by_name()
    application = Application(model, Limits(max_batch=4))
    root, health, predicted, metrics, head = answers(
        application,
        get("/"),
        get("/health"),
        post({"inputs": {name: array.tolist() for name, array in x.items()}}),
        get("/metrics"),
        get("/health", "HEAD"),
    )
    assert root.json() == {
        "model": model.name,
        "inputs": [
            {"name": "a", "path": ["a"], "shape": [None, 3], "dtype": "float32"},
            {"name": "b", "path": ["b"], "shape": [None, 2], "dtype": "float32"},
        ],
        "outputs": [
            {"name": "all", "path": ["all"], "shape": [None, 5], "dtype": "float32"},
            {"name": "sum", "path": ["sum"], "shape": [None, 2], "dtype": "float32"},
        ],
    }
    assert health.json() == {"status": "ok"}
    assert (head.status_code, head.content) == (200, b"")
    assert predicted.status_code == 200
    assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = metrics.text.splitlines()
    assert 'fnn_requests_total{code="200"} 3' in lines
    assert "fnn_requests_in_progress 1" in lines
    assert "fnn_batch_examples_sum 5.0" in lines
    assert "fnn_request_seconds_count 3" in lines


def test_the_answer_has_the_type_that_the_client_accepts():
    model, x = dense()
    binary, plain, nan = answers(
        Application(model, Limits(max_batch=8)),
        post({"inputs": x.tolist()}, accept=BINARY),
        post(save({"inputs": x}), BINARY, accept=f"text/html, {JSON}"),
        post({"inputs": x.tolist()}, accept="*/*"),
    )
    wanted = model.predict(x, verbose=0)
    np.testing.assert_allclose(load(binary.content)["outputs"], wanted, atol=1e-5)
    np.testing.assert_allclose(plain.json()["outputs"], wanted, atol=1e-5)
    assert nan.headers["content-type"] == JSON


ROW = {"inputs": [[1, 2, 3, 4]]}
ERRORS = {
    "another path": (post(ROW, path="/predictions"), 404, "expected one of the paths"),
    "another method": (get("/predict"), 405, "expected POST for /predict, received GET"),
    "no type": (post(ROW, ""), 415, "expected Content-Type application/json or"),
    "pickle": (post(b"\x80\x04.", "application/octet-stream"), 415, "octet-stream"),
    "a compressed body": (post(ROW, content_encoding="gzip"), 415, "uncompressed"),
    "a large body": (post(b" " * 5000), 413, "expected a body of at most 4000 bytes"),
    "a length that is none": (post(ROW, content_length="-1"), 413, "its size in Content-Length"),
    "another shape": (post({"inputs": [[1]]}), 400, r"(any, 4), received an array of shape (1, 1)"),
    "a charset": (post(ROW, "application/json; charset=utf-8"), 200, ""),
}


def test_errors_are_json_with_a_message():
    model, _ = dense()
    application = Application(model, Limits(max_batch=1, max_body=4000))
    found = answers(application, *(request for request, _, _ in ERRORS.values()))
    for case, answer in zip(ERRORS, found, strict=True):
        _, status, message = ERRORS[case]
        assert answer.status_code == status, (case, answer.text)
        assert message in answer.json().get("error", ""), case
    assert found[1].headers["allow"] == "POST"
    assert application.held == application.batcher.examples == 0


def test_values_that_the_model_refuses_are_the_errors_of_their_request():
    ids = fnn.Input((2,), dtype="int32")
    application = Application(fnn.Model(ids, L.Embedding(4, 1)(ids)), Limits(max_batch=2))

    async def whole():
        async with running(application) as client:
            both = post({"inputs": [[0, 9]]}), post({"inputs": [[0, 3]]})
            return await asyncio.gather(*(request(client) for request in both))

    wrong, right = asyncio.run(whole())
    assert (wrong.status_code, right.status_code) == (400, 200)
    assert "expected ids from 0 to 3, received 9" in wrong.json()["error"]


def test_a_model_that_fails_is_an_error_of_the_server(caplog):
    model, x = dense()
    application = Application(model, Limits(max_batch=1))

    def fails(arrays):
        raise RuntimeError("secret")

    application.batcher.run = fails
    (answer,) = answers(application, post({"inputs": x[:1].tolist()}))
    assert (answer.status_code, "secret" in answer.text) == (500, False)
    assert "secret" in caplog.text


def test_what_exceeds_the_queue_or_the_memory_is_answered_503():
    model, x = dense()
    application = Application(model, Limits(max_batch=1, max_queue=2))
    gate, run = threading.Event(), application.served.run

    def slow(arrays):
        gate.wait(5)
        return run(arrays)

    application.batcher.run = slow

    async def whole():
        async with running(application) as client:
            request = post({"inputs": x[:1].tolist()})
            accepted = [asyncio.ensure_future(request(client))]
            await asyncio.sleep(0.2)  # it runs
            accepted += [asyncio.ensure_future(request(client)) for _ in range(2)]
            await asyncio.sleep(0.2)
            refused = await request(client)
            gate.set()
            done = await asyncio.gather(*accepted)
            application.held = 16 * application.limits.max_body
            return [*done, refused, await request(client)]

    *done, refused, large = asyncio.run(whole())
    assert [answer.status_code for answer in done] == [200] * 3
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert "2 examples are waiting, and at most 2 may" in refused.json()["error"]
    assert large.status_code == 503
    assert "take all memory that they may" in large.json()["error"]


def call(application, messages, headers=()):
    """What an application sends for a request whose body is `messages`."""
    sent = []

    async def receive():
        if messages:
            return messages.pop(0)
        await asyncio.sleep(10)

    async def send(message):
        sent.append(message)

    kind = (b"content-type", JSON.encode())
    scope = {
        "type": "http", "method": "POST", "path": "/predict", "headers": [kind, *headers]
    }  # fmt: skip
    asyncio.run(application(scope, receive, send))
    return sent


def test_without_a_start_it_compiles_at_the_first_request():
    model, x = dense()
    body = json.dumps({"inputs": x.tolist()}).encode()
    start, rest = call(Application(model), [{"type": "http.request", "body": body}])
    assert start["status"] == 200
    wanted = model.predict(x, verbose=0)
    np.testing.assert_allclose(json.loads(rest["body"])["outputs"], wanted, atol=1e-5)


def test_slow_endless_and_broken_bodies():
    model, _ = dense()
    application = Application(model, Limits(max_body=100, body_seconds=0.1))
    piece = {"type": "http.request", "body": b"[" * 60, "more_body": True}
    slow, _ = call(application, [piece])
    endless, _ = call(application, [piece, piece, piece])
    assert (slow["status"], endless["status"]) == (408, 413)
    assert call(application, [piece, {"type": "http.disconnect"}]) == []
    assert application.held == application.metrics.open == 0


def test_examples_that_hang_together_are_not_mixed():
    model, x = across_examples()
    application = Application(model, Limits(max_batch=8))
    assert not application.served.takes_batches

    async def whole():
        async with running(application) as client:
            requests = [post({"inputs": x[:n].tolist()}) for n in (2, 3, 4)]
            return await asyncio.gather(*(request(client) for request in requests))

    for n, answer in zip((2, 3, 4), asyncio.run(whole()), strict=True):
        wanted = model.predict(x[:n], verbose=0)
        np.testing.assert_allclose(answer.json()["outputs"], wanted, atol=1e-5)


def test_strings_are_served():
    x = fnn.Input((), dtype="string")
    model = fnn.Model(x, L.StringLookup(vocabulary=["a", "b"])(x))
    (answer,) = answers(Application(model, Limits(max_batch=2)), post({"inputs": ["b", "a", "z"]}))
    assert answer.json() == {"outputs": [2, 1, 0]}


def test_nothing_is_compiled_at_a_request():
    model, _ = dense()
    application = Application(model, Limits(max_batch=6))

    async def whole():
        async with running(application) as client:
            with compilations() as compiled:
                for n in range(1, 14):
                    answer = await post({"inputs": numbers(n, 4).tolist()})(client)
                    assert len(answer.json()["outputs"]) == n
        return compiled

    assert not asyncio.run(whole())


@pytest.mark.slow
def test_at_most_so_many_programs_of_ever_new_lengths_are_kept():
    model = fnn.Sequential([L.Dense(2, input_shape=(None, 3))], seed=0)
    kernel, _ = model.get_weights()
    served = Served(model, programs=3)

    def compiles(length):
        x = numbers(1, length, 3)
        with compilations() as compiled:
            (found,) = served.run([x])
        np.testing.assert_allclose(found, x @ kernel, atol=1e-5)
        return bool(compiled)

    lengths = [1, 2, 3, 1, 3, 4, 1, 4, 2, 3]
    assert [compiles(n) for n in lengths] == [
        *(True, True, True, False, False),
        *(True, True, False, True, True),  # before the fourth and the seventh all are dropped
    ]


def test_models_that_cannot_be_served_are_refused(tmp_path):
    stateful = fnn.Sequential([L.Input(batch_shape=(2, 3, 1)), L.GRU(2, stateful=True)])
    with pytest.raises(ValueError, match="is stateful, so that an answer would depend"):
        Served(stateful)
    with pytest.raises(ValueError, match="has no weights yet"):
        Served(fnn.Sequential([L.Dense(1)]))
    (tmp_path / "m.fnn").write_bytes(b"no model")
    with pytest.raises(fnn.saving.tensors.FileError):
        Served(tmp_path / "m.fnn")


def test_wrong_arguments_end_with_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit, match="1"):
        main([str(tmp_path / "m.fnn")])
    shown = capsys.readouterr().err
    assert shown.startswith("python -m fnn serve: expected a file, received ")
    assert shown.count("\n") == 1
    with pytest.raises(SystemExit, match="2"):
        main(["m.fnn", "--max-batch", "0"])
    assert "expected a positive integer, received 0" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    assert "POST /predict" in capsys.readouterr().out


def test_a_model_without_an_output_for_each_example_ends_the_start():
    model = fnn.Sequential([L.Dense(1, input_shape=(2,)), L.Lambda(total)])
    messages = []

    async def receive():
        return {"type": "lifespan.startup"}

    async def send(message):
        messages.append(message)

    asyncio.run(Application(model)({"type": "lifespan"}, receive, send))
    (failed,) = messages
    assert failed["type"] == "lifespan.startup.failed"
    assert "returns a single number for a batch" in failed["message"]


@fnn.register
def total(x):
    return x.sum()
