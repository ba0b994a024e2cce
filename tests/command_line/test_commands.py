"""`python -m fnn info`, `summary` and `predict`: what they print and write, and their errors."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import fnn
from fnn import layers as L
from fnn.__main__ import COMMANDS, main

ROOT = Path(__file__).parents[2]
LEFT, RIGHT = np.ones((70, 3), "float32"), np.arange(140, dtype="float32").reshape(70, 2)


@pytest.fixture(scope="module")
def models():
    """One input and output, two of each, and dicts of them."""
    left, right = fnn.Input((3,), name="left"), fnn.Input((2,), name="right")
    both = L.Concatenate()([left, right])
    outputs = [L.Dense(2, name="p")(both), L.Dense(1, name="q", dtype="bfloat16")(both)]
    return {
        "one": fnn.Sequential([L.Dense(2, input_shape=(3,))], seed=0),
        "two": fnn.Model([left, right], outputs, seed=0),
        "dict": fnn.Model({"a": left, "b": right}, {"p": outputs[0]}, seed=0),
    }


@pytest.fixture(scope="module")
def saved(models, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    for name, model in models.items():
        model.save(folder / f"{name}.fnn")
    np.save(folder / "x.npy", LEFT)
    np.save(folder / "wide.npy", np.ones((2, 7), "float32"))
    np.save(folder / "objects.npy", np.array([{}], object))
    np.savez(folder / "two.npz", left=LEFT, right=RIGHT)
    np.savez(folder / "dict.npz", a=LEFT, b=RIGHT)
    (folder / "cut.npz").write_bytes((folder / "two.npz").read_bytes()[:300])
    (folder / "text.npy").write_text("1, 2, 3")
    return folder


@pytest.fixture
def folder(saved, tmp_path, monkeypatch):
    """The current folder, with the files of `saved`."""
    for file in saved.iterdir():
        (tmp_path / file.name).symlink_to(file)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def failed(arguments, capsys):
    """(the status, what the command prints on standard error)."""
    with pytest.raises(SystemExit) as exit:
        main(arguments.split())
    captured = capsys.readouterr()
    assert captured.out == ""
    return exit.value.code, captured.err


# -- info ------------------------------------------------------------------------------------------


def test_info_prints_versions_devices_cache_and_policy(capsys, tmp_path):
    (tmp_path / "jit_step-cache").write_bytes(bytes(2048))
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    try:
        main(["info"])
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
    lines = capsys.readouterr().out.splitlines()
    facts = dict(line.split(": ", 1) for line in lines)
    assert facts["fnn"] == fnn.__version__
    assert facts["jax"] == jax.__version__
    assert facts["python"].startswith("{}.{}.{} on ".format(*sys.version_info))
    assert facts["devices"] == f"{jax.device_count()} x cpu"
    assert facts["compilation cache"] == f"{tmp_path} (1 programs, 2.00 KB)"
    assert facts["dtype policy"] == "float32"


def test_info_without_a_device_is_one_line(capsys, monkeypatch):
    def none():
        raise RuntimeError("no device:\n  found none")

    monkeypatch.setattr(jax, "devices", none)
    with pytest.raises(SystemExit) as exit:
        main(["info"])
    assert exit.value.code == 1
    assert capsys.readouterr().err == "python -m fnn info: no device: found none\n"


# -- summary ---------------------------------------------------------------------------------------


def test_summary_prints_the_table_of_the_model(folder, models, capsys):
    options = {"expand_nested": True, "show_trainable": True, "line_length": 70}
    models["two"].summary(**options)
    table = capsys.readouterr().out
    main(["summary", "two.fnn", "--expand-nested", "--show-trainable", "--line-length", "70"])
    found = capsys.readouterr().out
    assert found.startswith(table)
    assert found.removeprefix(table).splitlines() == [
        " Input left: float32 (any, 3)",
        " Input right: float32 (any, 2)",
        " Output p: float32 (any, 2)",
        " Output q: bfloat16 (any, 1)",
    ]


# -- predict ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", ["", " --batch-size 16"])
def test_predict_writes_the_outputs_of_an_array(folder, models, capsys, options):
    main(f"predict one.fnn x.npy out.npy{options}".split())
    assert capsys.readouterr().out == "out.npy: float32 (70, 2)\n"
    np.testing.assert_array_equal(np.load("out.npy"), models["one"].predict(LEFT, verbose=0))


def test_predict_takes_inputs_and_writes_outputs_by_name(folder, models, capsys):
    main(["predict", "two.fnn", "two.npz", "out.npz"])
    shown = "out.npz: p: float32 (70, 2)\nout.npz: q: float32 (70, 1)\n"
    assert capsys.readouterr().out == shown
    p, q = models["two"].predict([LEFT, RIGHT], verbose=0)
    with np.load("out.npz") as found:
        np.testing.assert_array_equal(found["p"], p)
        np.testing.assert_array_equal(found["q"], q)


def test_predict_takes_dicts(folder, models):
    main(["predict", "dict.fnn", "dict.npz", "out.npz"])
    expected = models["dict"].predict({"a": LEFT, "b": RIGHT}, verbose=0)
    with np.load("out.npz") as found:
        assert found.files == ["p"]
        np.testing.assert_array_equal(found["p"], expected["p"])


def test_predict_replaces_a_file_only_if_forced(folder, capsys):
    Path("out.npy").write_text("mine")
    status, line = failed("predict one.fnn x.npy out.npy", capsys)
    assert (status, line) == (
        1, "python -m fnn predict: out.npy exists; pass --force to replace it\n",
    )  # fmt: skip
    assert Path("out.npy").read_text() == "mine"
    main(["predict", "one.fnn", "x.npy", "out.npy", "--force"])
    assert np.load("out.npy").shape == (70, 2)


# -- errors ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("summary none.fnn", "expected a file, received none.fnn, where there is none"),
        ("summary text.npy", "damaged or not a saved model"),
        ("predict text.npy x.npy out.npy", "damaged or not a saved model"),
        ("predict one.fnn none.npy out.npy", "No such file or directory: 'none.npy'"),
        ("predict one.fnn text.npy out.npy", "expected a whole .npy or .npz file of NumPy"),
        ("predict one.fnn objects.npy out.npy", "with numbers, received objects.npy"),
        ("predict two.fnn cut.npz out.npz", "received cut.npz"),
        ("predict one.fnn wide.npy out.npy", "expected inputs of 3 features, received 7"),
        ("predict one.fnn x.npy out.csv", "expected an output file .npy or .npz"),
        ("predict one.fnn x.npy none/out.npy", "the folder of none/out.npy does not exist"),
        ("predict one.fnn x.npy out.npy --batch-size 0", "expected batch_size"),
        ("predict one.fnn two.npz out.npy", r"received left \(70, 3\), right \(70, 2\)"),
        ("predict two.fnn x.npy out.npz", "expected the inputs left: float32.*without a name"),
        ("predict two.fnn two.npz out.npy", "has 2 outputs.*write them into out.npz"),
    ],
)
def test_an_error_is_one_line_and_writes_nothing(folder, capsys, arguments, message):
    before = sorted(os.listdir())
    status, line = failed(arguments, capsys)
    assert status == 1
    command = arguments.split()[0]
    assert re.fullmatch(rf"python -m fnn {command}: .*{message}.*\n", line)
    assert sorted(os.listdir()) == before


def test_every_command_has_help(capsys):
    for command in COMMANDS:
        if command != "run":
            with pytest.raises(SystemExit) as exit:
                main([command, "--help"])
            assert exit.value.code == 0
            assert f"usage: python -m fnn {command}" in capsys.readouterr().out
    main(["run", "--help"])
    usage = capsys.readouterr().out
    main(["--help"])
    assert capsys.readouterr().out == usage
    assert re.findall(r"^(\w+)  ", usage, re.M) == list(COMMANDS)


def test_wrong_arguments_are_status_2(capsys):
    for arguments in ("predict one.fnn", "summary", "info now", "summary m.fnn --line-length x"):
        status, text = failed(arguments, capsys)
        assert status == 2
        assert "usage: python -m fnn" in text


# Imports fnn once, and runs each command in a process forked from that, into what reads it.
THROUGH = """
import json, os, runpy, subprocess, sys
import fnn.command_line, fnn.serving
commands = [("summary two.fnn --line-length 80", "cat"), ("predict one.fnn x.npy out.npy", "cat")]
found = []
for command, reader in [*commands, ("summary two.fnn", "true")]:
    errors = os.open("errors", os.O_CREAT | os.O_TRUNC | os.O_RDWR)
    given = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    reading = subprocess.Popen([reader], **given)
    if reader == "true":
        reading.wait()
    child = os.fork()
    if not child:
        os.dup2(reading.stdin.fileno(), 1)
        os.dup2(errors, 2)
        os.close(reading.stdin.fileno())
        sys.argv = ["fnn", *command.split()]
        runpy.run_module("fnn", run_name="__main__", alter_sys=True)
        sys.exit()
    reading.stdin.close()
    shown = reading.stdout.read().decode()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with open("errors") as file:
        found.append((status, shown, file.read()))
print(json.dumps(found))
"""


@pytest.mark.slow
def test_output_into_a_pipe_is_plain(folder):
    """No colour, no progress bar, no error when the reader stops or the encoding is ASCII."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-c", THROUGH]
    ran = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert ran.stderr == ""
    (status, summary, error), predicted, (_, _, stopped) = json.loads(ran.stdout)
    assert (status, error) == (0, "")
    assert "? left (Input) " in summary
    assert predicted == [0, "out.npy: float32 (70, 2)\n", ""]
    assert stopped == ""
