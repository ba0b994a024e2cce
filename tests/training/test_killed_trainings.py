"""Trainings in processes of their own, killed at random moments, end with the same bits."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def killed(how, kills, folder, epochs=40):
    """What `killed_trainings` found."""
    script = ROOT / "tests/helpers/killed_trainings.py"
    done = subprocess.run(
        [sys.executable, script, how, str(kills), folder, str(epochs)],
        capture_output=True,
        text=True,
        timeout=3000,
        check=False,
        cwd=ROOT,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "JAX_PLATFORMS": "cpu",
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        },
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def assert_resumed(found, ended_by):
    """Each was ended by the signal and went further than the one before; the end is the same."""
    assert set(found["outcomes"]) == {ended_by}
    assert found["positions"] == sorted(found["positions"])
    assert found["last"] == [0, 0]
    assert found["equal"]


@pytest.mark.slow
def test_a_few_kills_change_no_bit(tmp_path):
    found = killed("writing", 2, tmp_path, epochs=8)
    assert_resumed(found, -9)
    assert found["positions"][-1] > [0, 2]


@pytest.mark.thorough
@pytest.mark.parametrize(("how", "kills"), [("random", 50), ("writing", 20)])
def test_many_kills_change_no_bit(how, kills, tmp_path):
    found = killed(how, kills, tmp_path)
    assert_resumed(found, -9)
    assert found["unfinished"] > (kills // 2 if how == "writing" else 0)


@pytest.mark.thorough
def test_sigterm_loses_no_step(tmp_path):
    """It is saved after the current step, and the process ends as by the signal."""
    found = killed("terminate", 6, tmp_path)
    assert_resumed(found, -15)
    assert found["unfinished"] == 0
