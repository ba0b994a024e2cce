"""The names of Keras for devices and processes."""

import jax
import numpy as np
import pytest

import fnn
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
