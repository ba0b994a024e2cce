"""Several processes, one computation: the numbers of one; what happens when one stops."""

import functools
import json
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fnn

pytestmark = pytest.mark.slow  # each process imports JAX and compiles for itself
thorough = pytest.mark.thorough

ROOT = Path(__file__).parents[2]
HOST = socket.gethostname()


class Ended:
    """What processes have left: their exit status, their output, and what they found."""

    def __init__(self, folder, running):
        self.folder = folder
        pairs = [process.communicate(timeout=600) for process in running]
        self.printed, self.errors = zip(*pairs, strict=True)
        self.status = [process.returncode for process in running]

    @functools.cached_property
    def found(self):
        assert not any(self.status), "\n".join(self.errors)
        count = len(self.status)
        paths = [self.folder / f"found-{number}.json" for number in range(count)]
        return [json.loads(path.read_text()) for path in paths]


def run(folder, scenario, count, devices=1):
    """Runs this many processes of `tests/helpers/together.py` to their end."""
    pytest.importorskip("orbax.checkpoint")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running = []
    for number in range(count):
        numbers = map(str, (number, count, port, devices))
        command = [sys.executable, "-m", "tests.helpers.together", scenario, *numbers, folder]
        output = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        running.append(subprocess.Popen(command, cwd=ROOT, **output))
    return Ended(folder, running)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    return run(tmp_path_factory.mktemp("two"), "together", 2, devices=2)


@pytest.fixture(scope="module")
def one(two, tmp_path_factory):
    """One process, which also continues what two have saved."""
    return continued(two, tmp_path_factory.mktemp("one"), 1)


@pytest.fixture(scope="module")
def four(two, tmp_path_factory):
    return continued(two, tmp_path_factory.mktemp("four"), 4)


def continued(two, folder, count):
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


def test_one_process_prints_and_writes(two):
    lines = [
        [line for line in output.splitlines() if line and not line.startswith("[Gloo]")]
        for output in two.printed
    ]
    for said in ("Epoch 3/3", "early stopping", "saving model to"):
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


ENDS = {
    "1 kill": "process 1 on {} has sent no sign of life for 6 s",
    "0 kill": "process 0 on {}, which connects the others, has stopped",
    "1 raise": "process 1 on {} ended with ArithmeticError: of its own",
}


@pytest.mark.parametrize("scenario", [pytest.param("1 kill", marks=thorough), "0 kill", "1 raise"])
def test_when_a_process_stops_the_others_end_and_name_it(scenario, tmp_path):
    ended = run(tmp_path, scenario, 2)
    assert all(ended.status)
    other = 1 - int(scenario[0])
    reason = ENDS[scenario].format(HOST)
    message = f"fnn: {reason}, so process {other} on {HOST} ends too. Start all processes again"
    assert message in ended.errors[other]


def test_sigterm_to_one_process_ends_all_after_the_same_step(tmp_path):
    ended = run(tmp_path, "1 terminate", 2)
    assert ended.status == [128 + signal.SIGTERM] * 2, ended.errors
    (saved,) = fnn.training.Checkpoint(tmp_path / "saved").describe()
    assert saved["step"] > 0
