"""The names of Keras for devices and processes."""

import socket
import time
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest

import fnn
from fnn.distribution.joining import join
from fnn.runtime import processes
from tests.helpers.oracle import keras_rules


@pytest.mark.parametrize("kind", [None, "cpu", "CPU"])
def test_devices_are_those_of_keras(keras, kind):
    with keras_rules():
        expected = keras.distribution.list_devices(kind)
        count = keras.distribution.get_device_count(kind)
    assert fnn.distribution.list_devices(kind) == expected
    assert fnn.distribution.get_device_count(kind) == count == 8
    with pytest.raises(RuntimeError):
        fnn.distribution.list_devices("tpu")


CALLS = [
    ({"job_addresses": "a:1,b:2", "num_processes": 2, "process_id": 1}, {}),
    ({"job_addresses": "a:1", "num_processes": 3, "process_id": 0}, {}),
    ({}, {"JOB_ADDRESSES": "a:1,b:2", "NUM_PROCESSES": "2", "PROCESS_ID": "1"}),
    ({"process_id": 0}, {"JOB_ADDRESSES": "a:1", "NUM_PROCESSES": "2", "PROCESS_ID": "1"}),
    ({}, {}),
]


@pytest.mark.parametrize(("given", "environment"), CALLS)
def test_processes_are_connected_as_by_keras(keras, given, environment, monkeypatch):
    calls = []

    def connect(coordinator_address=None, num_processes=None, process_id=None, **patience):
        calls.append((coordinator_address, num_processes, process_id))

    monkeypatch.setattr(jax.distributed, "initialize", connect)
    monkeypatch.setattr(fnn.distribution.processes, "join", lambda *given: None)
    for name, value in environment.items():
        monkeypatch.setenv(f"KERAS_DISTRIBUTION_{name}", value)
    fnn.distribution.initialize(**given)
    with keras_rules():
        keras.distribution.initialize(**given)
    assert calls[0] == calls[1]


def test_an_address_for_each_process():
    with pytest.raises(ValueError, match=r"each of 3 processes, received 'a:1,b:2'"):
        fnn.distribution.initialize("a:1,b:2", 3, 0)


@pytest.mark.parametrize("timeout", [0, -1, True, float("nan")])
def test_the_timeout_is_positive(timeout):
    with pytest.raises(ValueError, match="timeout must be a positive number of seconds, got"):
        fnn.distribution.initialize("a:1", 2, 0, timeout=timeout)


@pytest.fixture
def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def joined(port, *processes, timeout=30):
    """What `join` says in each of these (number of processes, number), called at once."""

    def one(count, number):
        try:
            return join(f"localhost:{port}", count, number, timeout)
        except RuntimeError as error:
            return str(error)

    with ThreadPoolExecutor() as threads:
        return list(threads.map(one, *zip(*processes, strict=True)))


def test_processes_wait_for_each_other(port):
    assert joined(port, (3, 1), (3, 0), (3, 2)) == [None] * 3
    # The port is free for JAX.
    socket.create_server(("", port)).close()


def test_a_process_that_never_joins_is_named_in_all_others(port):
    messages = joined(port, (4, 0), (4, 2), timeout=0.5)
    for message in messages:
        assert "waited 0.5 s for all 4 processes, and process 1, 3 has not come" in message


def test_an_address_at_which_nobody_is(port):
    (message,) = joined(port, (2, 1), timeout=0.3)
    assert f"waited 0.3 s for process 0 at localhost:{port}, which was not reached" in message
    with pytest.raises(ValueError, match="expected 'address:port' of the first process"):
        join("localhost", 2, 1, 1)


def test_numbers_that_do_not_fit_together(port):
    different = "process 1 expects 3 processes and process 0 expects 2"
    assert all(different in message for message in joined(port, (2, 0), (3, 1)))
    first, *others = sorted(map(str, joined(port, (3, 0), (3, 1), (3, 1), timeout=1)))
    assert "another process has come as number 1; give each its own" in first
    assert all("process 2 has not come" in message for message in others)
    with pytest.raises(ValueError, match="process_id must be between 0 and 1 for 2 processes"):
        join("localhost:1", 2, 2, 1)


def knock(port, said):
    """Connects to the first process, as soon as it listens, and leaves after saying this."""
    while True:
        try:
            with socket.create_connection(("localhost", port)) as connection:
                return connection.sendall(said)
        except OSError:
            time.sleep(0.01)


STRANGERS = [b"GET / HTTP/1.1\r\n\r\n", b"[" * 3000, b"2 2\n", b"2 -1\n", b"2 0\n", b"2 inf\n"]


def test_strangers_at_the_port_are_passed_over(port):
    with ThreadPoolExecutor() as threads:
        first = threads.submit(join, f"localhost:{port}", 2, 0, 30)
        for said in STRANGERS:
            knock(port, said)
        assert joined(port, (2, 1)) == [None]
        assert first.result() is None


def test_a_process_that_came_and_has_ended_is_missing(port):
    with ThreadPoolExecutor() as threads:
        first = threads.submit(joined, port, (3, 0), timeout=1)
        knock(port, b"3 1\n")
        messages = joined(port, (3, 2), timeout=1) + first.result()
    assert all("process 1 has not come" in message for message in messages)


def test_a_second_call_is_refused_at_once(monkeypatch):
    def refuse(*given, **named):
        raise RuntimeError("only once")

    monkeypatch.setattr(jax.distributed, "initialize", refuse)
    monkeypatch.setattr(jax.distributed, "is_initialized", lambda: True)
    with pytest.raises(RuntimeError, match="only once"):
        fnn.distribution.initialize("localhost:1", 2, 1, join_timeout=0.1)


@pytest.mark.parametrize(
    "name", ["SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE", "KERAS_DISTRIBUTION_NUM_PROCESSES"]
)
def test_fit_warns_once_of_processes_that_are_not_connected(name, monkeypatch):
    monkeypatch.setattr(processes, "looked", set())
    monkeypatch.setenv(name, "4")
    model = fnn.Sequential([fnn.layers.Dense(1, input_shape=(2,))])
    model.compile("sgd", "mse")
    x = np.ones((4, 2), "float32")
    with pytest.warns(UserWarning, match=f"{name}=4 .* not connected: .*initialize"):
        model.fit(x, x[:, :1], verbose=0)
    model.fit(x, x[:, :1], verbose=0)


def test_one_process_is_not_warned(monkeypatch):
    monkeypatch.setattr(processes, "looked", set())
    monkeypatch.setenv("SLURM_NTASKS", "1")
    processes.warn_if_alone()
