"""RemoteMonitor: what a server gets, against what Keras sends."""

import http.server
import json
import threading
import urllib.parse

import numpy as np
import pytest

import fnn
from fnn.callbacks import RemoteMonitor

X = np.ones((4, 1), "float32")


@pytest.fixture
def server():
    """A server that keeps the requests it gets, and refuses those to /refuse."""
    got = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            got.append((self.path, self.headers["Content-Type"], self.headers["X-Run"], body))
            self.send_response(500 if self.path == "/refuse" else 200)
            self.end_headers()

        def log_message(self, *args):
            pass

    found = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=found.serve_forever, daemon=True)
    thread.start()
    found.got = got
    found.root = f"http://127.0.0.1:{found.server_port}"
    yield found
    found.shutdown()
    thread.join()
    found.server_close()


def fit(*callbacks):
    model = fnn.Sequential([fnn.layers.Dense(1, input_shape=(1,))], seed=0)
    model.compile("sgd", "mse")
    return model.fit(X, X, epochs=2, verbose=0, callbacks=list(callbacks)).history


@pytest.mark.slow
def test_logs_are_sent_as_a_form(server):
    history = fit(RemoteMonitor(server.root, headers={"X-Run": "7"}))
    assert len(server.got) == 2
    for epoch, (path, kind, run, body) in enumerate(server.got):
        assert (path, run) == ("/publish/epoch/end/", "7")
        assert kind == "application/x-www-form-urlencoded"
        sent = json.loads(urllib.parse.parse_qs(body)["data"][0])
        assert sent == {"epoch": epoch, "loss": history["loss"][epoch]}


@pytest.mark.slow
def test_logs_are_sent_as_json(server):
    history = fit(RemoteMonitor(server.root, "/log", send_as_json=True))
    sent = [json.loads(body) for _, _, _, body in server.got]
    assert [path for path, *_ in server.got] == ["/log", "/log"]
    assert [kind for _, kind, *_ in server.got] == ["application/json"] * 2
    assert sent == [{"epoch": e, "loss": history["loss"][e]} for e in (0, 1)]


def test_the_content_is_that_of_keras(monkeypatch):
    from keras.src.callbacks import remote_monitor

    class Requests:
        class exceptions:  # noqa: N801
            RequestException = OSError

        @staticmethod
        def post(url, data=None, json=None, headers=None):
            sent.append((url, data, json))

    sent = []
    monkeypatch.setattr(remote_monitor, "requests", Requests)
    logs = {"loss": np.float32(0.5), "val_loss": np.array([2.0])}
    for as_json in (False, True):
        remote_monitor.RemoteMonitor("http://h", send_as_json=as_json).on_epoch_end(3, logs)
    form = RemoteMonitor("http://h").body(3, {"loss": np.float32(0.5), "val_loss": 2.0})
    assert urllib.parse.parse_qs(form.decode()) == {"data": [sent[0][1]["data"]]}
    as_json = RemoteMonitor("http://h", send_as_json=True).body(3, {"loss": 0.5, "val_loss": 2.0})
    assert json.loads(as_json) == sent[1][2]


def test_a_server_that_is_not_there_is_a_warning(server):
    fit(RemoteMonitor(server.root, "/refuse"))  # what it answers is its own concern
    with pytest.warns(UserWarning, match="could not reach the server at http://127.0.0.1:9"):
        fit(RemoteMonitor("http://127.0.0.1:9"))
