"""Tracebacks: what Python and Jupyter show of an uncaught error is short, and ends with it."""

import re
import subprocess
import sys
import textwrap
import traceback
from pathlib import Path

import numpy as np
import pytest

import fnn
from fnn.layers import Dense
from fnn.runtime.tracebacks import HINT

ROOT = Path(__file__).parents[2]
X, Y = np.ones((8, 3), "float32"), np.ones((8, 1), "float32")
PRIVATE = re.compile(r'File ".*/(?:fnn|jax|jaxlib|optax)/')


class Wrong(fnn.layers.Layer):
    def __init__(self, size):
        super().__init__()
        self.size = size

    def call(self, x):
        return x.reshape(self.size, 17)  # the mistake


class Pure(fnn.Layer):
    def init(self, key, x):
        return {}, {}

    def apply(self, params, state, x, ctx=fnn.INFERENCE):
        return x @ np.ones((7, 2), "float32"), state  # the mistake


def model(*layers, loss="mse"):
    net = fnn.Sequential([*layers, Dense(1)], seed=0)
    net.compile("sgd", loss)
    return net


def stream():
    yield X, Y
    raise OSError("the disk is gone")  # the mistake


class Callback(fnn.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        raise KeyError("my metric")  # the mistake


ERRORS = {  # an error of the user: (what raises it, in the line shown last, in the message)
    "inputs": (
        lambda: model(Dense(2, input_shape=(3,))).fit(X[:, :2], Y, verbose=0),
        r"\.fit\(X\[:, :2\], Y", "expected inputs of 3 features, received 2",
    ),
    "targets": (
        lambda: model().fit(X, np.ones((8, 4)), verbose=0),
        r"\.fit\(X, np\.ones", r"expected targets of shape \(8, 1\)",
    ),
    "a layer in Keras's way": (
        lambda: model(Wrong(2)).fit(X, Y, verbose=0),
        r"return x\.reshape\(self\.size, 17\)", r"(?s)cannot reshape.*\nin layer wrong: Wrong\(2\)",
    ),
    "a pure layer": (
        lambda: model(Pure()).fit(X, Y, verbose=0),
        r"return x @ np\.ones", r"(?s)dot_general.*\nin layer pure: Pure\(\)",
    ),
    "a dtype": (
        lambda: model().fit(np.full((8, 3), "a"), Y, verbose=0),
        r"\.fit\(np\.full", "expected x to hold numbers",
    ),
    "an argument": (lambda: Dense(-1), r"Dense\(-1\)", "expected units to be an integer above 0"),
    "compile": (
        lambda: model().compile("sgdd"), r"compile\(\"sgdd\"\)", "did you mean 'sgd'",
    ),
    "a loss": (
        lambda: model(loss=lambda y, p: y.shout()).fit(X, Y, verbose=0),
        r"y\.shout\(\)", "no attribute '?shout",
    ),
    "a generator": (
        lambda: model().fit(stream(), verbose=0), "raise OSError", "the disk is gone",
    ),
    "a callback": (
        lambda: model().fit(X, Y, callbacks=[Callback()], verbose=0),
        "raise KeyError", "my metric",
    ),
    "a graph": (
        lambda: fnn.layers.Conv2D(3, 3)(fnn.Input((3,))),
        r"Conv2D\(3, 3\)\(fnn\.Input", "expected inputs of 4 axes",
    ),
}  # fmt: skip


def raised(cause):
    try:
        cause()
    except Exception as error:
        return error
    raise AssertionError("no error")


def shown(error, capsys):
    """What Python prints of an error that nothing catches."""
    capsys.readouterr()
    sys.excepthook(type(error), error, error.__traceback__)
    return capsys.readouterr().err


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_shows_the_line_of_the_user_and_ends_with_its_message(name, capsys):
    cause, line, message = ERRORS[name]
    error = raised(cause)
    text = shown(error, capsys)
    hint, found = text.split("\n", 1)
    assert re.fullmatch(HINT.format(r"\d+").replace("()", r"\(\)"), hint)
    assert not PRIVATE.search(found)
    assert found.count('  File "') <= 15
    last = found.rsplit('  File "', 1)[1]
    assert re.search(line, last)
    assert re.search(message, last[last.index(f"\n{type(error).__name__}: ") :])
    assert "JAX" not in last


def test_an_error_is_as_it_was_after_it_was_shown(capsys):
    """For `pdb.pm`, and for what logs it."""
    error = raised(ERRORS["a pure layer"][0])
    before = traceback.format_exception(error), error.__traceback__, error.__cause__
    shown(error, capsys)
    assert (traceback.format_exception(error), error.__traceback__, error.__cause__) == before
    files = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    assert any("fnn/models/model.py" in file for file in files)


def test_causes_are_shown_without_their_frames(capsys):
    def cause():
        try:
            Dense(-1)
        except ValueError as error:
            raise RuntimeError("no layer") from error

    error = raised(cause)
    text = shown(error, capsys)
    assert not PRIVATE.search(text)
    assert text.index("expected units") < text.index("direct cause") < text.index("no layer")
    assert isinstance(error.__cause__, ValueError)
    error.__cause__ = None  # and __suppress_context__ stays True
    assert "expected units" not in shown(error, capsys)


def test_one_setting_shows_all_frames(capsys):
    error = raised(ERRORS["an argument"][0])
    fnn.config.disable_traceback_filtering()
    try:
        text = shown(error, capsys)
    finally:
        fnn.config.enable_traceback_filtering()
    assert text == "".join(traceback.format_exception(error))
    assert PRIVATE.search(text)


def test_errors_without_frames_of_fnn_are_left_alone(capsys):
    import jax

    def with_jax():
        jax.jit(lambda x: x.reshape(7))(X)

    for cause in (lambda: 1 / 0, with_jax, lambda: np.stack([X, Y])):
        error = raised(cause)
        assert shown(error, capsys) == "".join(traceback.format_exception(error))


def test_an_error_inside_of_fnn_alone_is_left_alone(capsys):
    error = raised(ERRORS["an argument"][0])
    error.__traceback__ = error.__traceback__.tb_next.tb_next
    assert shown(error, capsys) == "".join(traceback.format_exception(error))


SCRIPT = """
import {hook}
import numpy as np, fnn

model = fnn.Sequential([fnn.layers.Dense(1, input_shape=(3,))])
model.compile("sgd", "mse")
{setting}
model.fit(np.ones((8, 2)), np.ones((8, 1)), verbose=0)
"""


# A hook that was set before fnn gets the short traceback.
HOOK = """sys
def hook(kind, error, trace):
    print(kind.__name__, trace is error.__traceback__)
    sys.__excepthook__(kind, error, trace)

sys.excepthook = hook"""


@pytest.mark.parametrize(
    ("command", "hook", "setting", "private"),
    [
        (["script.py"], HOOK, "", 0),
        (["-m", "fnn", "run", "script.py"], "sys", "", 0),
        pytest.param(
            ["script.py"],
            "sys",
            "fnn.config.disable_traceback_filtering()",
            10,
            marks=pytest.mark.thorough,  # of the setting `test_one_setting_shows_all_frames`
        ),
    ],
)
@pytest.mark.slow
def test_in_a_script(tmp_path, command, hook, setting, private):
    (tmp_path / "script.py").write_text(SCRIPT.format(hook=hook, setting=setting))
    ran = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "PATH": ""},
    )  # fmt: skip
    assert ran.returncode == 1
    assert ran.stdout == ("ValueError True\n" if hook == HOOK else "")
    if hook == HOOK:
        assert ran.stderr.startswith("fnn: the traceback leaves out ")
    *_, before, message, note = ran.stderr.strip().splitlines()
    assert len(PRIVATE.findall(ran.stderr)) >= private
    assert bool(PRIVATE.search(ran.stderr)) == bool(private)
    assert message.startswith("ValueError: Dense: expected inputs of 3 features, received 2")
    assert note.startswith("in layer dense: Dense(")
    if not private:
        assert before.strip("^ ") in ("", "model.fit(np.ones((8, 2)), np.ones((8, 1)), verbose=0)")


CELLS = [
    textwrap.dedent(SCRIPT.format(hook="sys", setting="")).rpartition("model.fit")[0],
    "model.fit(np.ones((8, 2)), np.ones((8, 1)), verbose=0)",
    "import traceback\nprint(len(traceback.extract_tb(sys.last_value.__traceback__)), "
    "len(traceback.extract_tb(sys.last_traceback)))",
    "1 / 0",
    "fnn.config.disable_traceback_filtering()\nfnn.layers.Dense(-1)",
]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # those of the kernel's own machinery
def test_in_jupyter(monkeypatch):
    from nbclient import NotebookClient
    from nbformat import v4

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = v4.new_notebook(cells=list(map(v4.new_code_cell, CELLS)))
    NotebookClient(notebook, timeout=300, allow_errors=True).execute()
    wrong, frames, plain, whole = ([*cell.outputs] for cell in notebook.cells[1:])
    (error,) = wrong
    text = re.sub(r"\x1b\[[\d;]*m", "", "\n".join(error["traceback"]))
    assert len(re.findall(r"^(?:File|Cell) ", text, re.M)) == 1
    assert "----> 1 model.fit(" in text
    message, note = text.strip().splitlines()[-2:]
    assert message.startswith("ValueError: Dense: expected inputs of 3 features, received 2")
    assert note.startswith("in layer dense: Dense(")
    assert error["evalue"].startswith("Dense: expected inputs of 3 features")
    # What debuggers read is whole.
    assert all(int(count) > 10 for count in frames[0]["text"].split())
    assert "----> 1 1 / 0" in re.sub(r"\x1b\[[\d;]*m", "", "\n".join(plain[0]["traceback"]))
    assert "fnn/core/" in "\n".join(whole[0]["traceback"])
