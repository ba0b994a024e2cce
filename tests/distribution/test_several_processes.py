"""Several processes, one computation: the numbers of one; what happens when one stops."""

import functools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import fnn

pytestmark = pytest.mark.slow  # each process compiles for itself
thorough = pytest.mark.thorough

ROOT = Path(__file__).parents[2]
HOST = socket.gethostname()


class Ended:
    """What processes have left: their exit status, their output, and what they found."""

    def __init__(self, folder, status):
        self.folder, self.status = folder, status

    def _texts(self, name):
        return [path.read_text() for path in sorted(self.folder.glob(f"{name}-*"))]

    @property
    def printed(self):
        return self._texts("printed")

    @property
    def errors(self):
        return self._texts("errors")

    @functools.cached_property
    def found(self):
        assert not any(self.status), "\n".join(self.errors)
        return [json.loads(text) for text in self._texts("found")]


@pytest.fixture(scope="module")
def run():
    """A function that runs processes to their end, which `tests/helpers/together.py` forks."""
    pytest.importorskip("orbax.checkpoint")
    compiled = {}
    if folder := jax.config.jax_compilation_cache_dir:
        compiled["JAX_COMPILATION_CACHE_DIR"] = folder
        compiled["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    command = [sys.executable, "-m", "tests.helpers.together"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=ROOT, env={**os.environ, **compiled}, **pipes) as forking:

        def run(folder, scenario, count, devices=1):
            line = json.dumps([scenario, count, devices, str(folder)])
            forking.stdin.write(f"{line}\n")
            forking.stdin.flush()
            return Ended(folder, json.loads(forking.stdout.readline()))

        yield run


@pytest.fixture(scope="module")
def two(run, tmp_path_factory):
    return run(tmp_path_factory.mktemp("two"), "together", 2, devices=2)


@pytest.fixture(scope="module")
def one(run, two, tmp_path_factory):
    """One process, which also continues what two have saved."""
    return continued(run, two, tmp_path_factory.mktemp("one"), 1)


@pytest.fixture(scope="module")
def four(run, two, tmp_path_factory):
    return continued(run, two, tmp_path_factory.mktemp("four"), 4)


def continued(run, two, folder, count):
    assert two.found
    shutil.copytree(two.folder / "first", folder / "saved")
    return run(folder, "together", count)


def assert_close(found, expected):
    assert type(found) is type(expected)
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for name in expected:
            assert_close(found[name], expected[name])
    elif isinstance(expected, list) and isinstance(expected[0], (list, dict)):
        for part, wanted in zip(found, expected, strict=True):
            assert_close(part, wanted)
    else:
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("part", ["arrays", "large", "streams", "own_steps"])
@pytest.mark.parametrize("count", ["two", pytest.param("four", marks=thorough)])
def test_every_process_has_the_numbers_of_one(count, part, one, request):
    """Dropout, shuffling and batch statistics included; `predict` returns all in each process."""
    expected = dict(one.found[0][part])
    alone = expected.pop("alone", None)
    for number, found in enumerate(request.getfixturevalue(count).found):
        received = dict(found[part])
        if alone is not None and number == 0:
            assert_close(received.pop("alone"), alone)
        assert_close(received, expected)


@pytest.mark.parametrize("count", ["two", pytest.param("four", marks=thorough)])
def test_metrics_of_each_step_are_exact(count, one, request):
    """More than 20 steps, the last of each epoch incomplete: no example is dropped."""
    expected = one.found[0]["arrays"]
    accuracies = [logs["accuracy"] for logs in expected["steps"]]
    assert len(accuracies) == 21
    for found in request.getfixturevalue(count).found:
        received = found["arrays"]
        assert [logs["accuracy"] for logs in received["steps"]] == accuracies
        for name in ("accuracy", "val_accuracy"):
            assert received["history"][name] == expected["history"][name]
        assert received["evaluate"][1:] == expected["evaluate"][1:]


def test_one_process_prints_and_writes(two):
    lines = [
        [line for line in output.splitlines() if line and not line.startswith("[Gloo]")]
        for output in two.printed
    ]
    for said in ("Epoch 7/7", "early stopping", "saving model to"):
        assert any(said in line for line in lines[0])
    assert not lines[1]
    names = ["1.fnn", "2.fnn", "log.csv", "log.jsonl", "model.fnn", "weights.npz"]
    files = [names, []]
    for found, written in zip(two.found, files, strict=True):
        assert found["writers"] == {"epochs": [0, 1], "files": written}


def test_a_file_of_divided_weights_is_whole(two):
    for name in ("replicated", "divided"):
        net = fnn.load(two.folder / f"{name}.fnn")
        sums = [float(np.abs(w).sum()) for w in net.get_weights()]
        assert_close(sums, two.found[0]["large"][f"{name} weights"])


@pytest.mark.parametrize("count", ["one", "two", pytest.param("four", marks=thorough)])
def test_what_two_processes_have_saved_is_continued(count, one, request):
    straight = one.found[0]["checkpoints"]["straight"]
    for found in request.getfixturevalue(count).found:
        assert_close(found["checkpoints"]["resumed"], straight)


def test_streams_of_each_process_are_continued_where_they_were(two):
    for found in two.found:
        parts = found["checkpoints"]
        np.testing.assert_array_equal(parts["parts resumed"], parts["parts"])


MISTAKES = {
    "weights": "the same weights in all processes of the training, received others in process 1",
    "data": "the same data in all processes of the training, received others in process 1",
    "arguments": "the same arguments in all processes of the training, received others",
    "streams": "streams with equal examples in all processes",
    "minutes": "every_steps or every_epochs with several processes",
}


def test_what_differs_is_an_error_in_each_process(two):
    found = [dict(found["mistakes"]) for found in two.found]
    assert found[0].pop("unseeded") == found[1].pop("unseeded")
    for messages in found:
        assert messages.keys() == MISTAKES.keys()
        for name, message in messages.items():
            assert MISTAKES[name] in message


ALONE = {
    "other call": "received evaluate with 8 examples in process 0 and predict of 9 examples in",
    "other size": "received predict of 8 examples in process 0 and predict of 9 examples in",
    "no stream": [
        "an error in process 1, ValueError: expected batches",
        "received an empty stream",
    ],
    "end of stream": ["an error in process 1, OSError: no such file", "no such file"],
}


# (epochs, steps) of the training that a callback of process 1 ends, whether the evaluation had two
# batches, the examples of the prediction.
ENDED_BY = {
    "on_epoch_begin": [[0, 1], 3],
    "on_epoch_end": [[0, 1], 6],
    "on_train_batch_end": [[0], 2],
    "on_test_batch_end": True,
    "on_predict_batch_end": 32,
}


def test_what_happens_in_one_process_alone_is_known_in_all(two):
    """Errors are raised in each, and a callback that ends the training of one ends that of all."""
    for process, found in enumerate(two.found):
        for name, expected in ALONE.items():
            message = found["one alone"][name]
            if isinstance(expected, list):
                expected = expected[process]
            assert expected in message
        assert {name: found["one alone"][name] for name in ENDED_BY} == ENDED_BY
        assert found["one alone"]["nan"] == [0]
    waited = "process 0 has waited 1 s at evaluate with 8 examples for process 1"
    assert waited in two.errors[0]
    late = two.found[0]["one alone"]["late"]
    assert "expected process 1 at evaluate with 8 examples" in late
    assert "has come to the end of its program" in late


ENDS = {
    "1 kill": "process 1 on {} has sent no sign of life for 6 s",
    "0 kill": "process 0 on {}, which connects the others, has stopped",
    "1 raise": "process 1 on {} ended with ArithmeticError: of its own",
    "1 interrupt": "process 1 on {} ended with KeyboardInterrupt: ",
}
WAITING = [pytest.param(scenario, marks=thorough) for scenario in ("1 kill", "1 interrupt")]


@pytest.mark.parametrize("scenario", ["0 kill", "1 raise", *WAITING])
def test_when_a_process_stops_the_others_end_and_name_it(scenario, run, tmp_path):
    ended = run(tmp_path, scenario, 2)
    assert all(ended.status)
    other = 1 - int(scenario[0])
    reason = ENDS[scenario].format(HOST)
    message = f"fnn: {reason}, so process {other} on {HOST} ends too. Start all processes again"
    assert message in ended.errors[other]


def test_sigterm_to_one_process_ends_all_after_the_same_step(run, tmp_path):
    ended = run(tmp_path, "1 terminate", 2)
    assert ended.status == [128 + signal.SIGTERM] * 2, ended.errors
    (saved,) = fnn.training.Checkpoint(tmp_path / "saved").describe()
    assert saved["step"] > 0
