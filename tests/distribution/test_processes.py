"""The names of Keras for devices and processes."""

import jax
import pytest

import fnn
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
