"""`python -m fnn run`: Keras's programs with fnn in its place, in every other way as `python`."""

import re
import subprocess
import sys

import pytest

import fnn
from fnn.__main__ import main
from fnn.run_script import from_script_on, run_script

IMPORTS = """
import sys

import keras
import keras.utils as u
import keras.datasets.mnist
import keras.ops.image
import tensorflow as tf
from keras import layers
from keras.datasets import mnist
from keras.layers import Dense
from keras.optimizers.schedules import ExponentialDecay
from tensorflow import keras as again
from tensorflow.keras.models import Sequential

model = Sequential([Dense(1, input_shape=(2,))])
seen = dict(globals())
inside = {name for name in sys.modules if name.startswith(("keras", "tensorflow"))}
names = __name__, __file__, sys.argv, sys.path[0], sys.modules["__main__"].__dict__ is globals()
import builtins

builtins.seen_by_test = seen, inside, names
"""


@pytest.fixture
def script(tmp_path):
    """A function that writes a script and returns its path."""

    def write(text):
        path = tmp_path / "script.py"
        path.write_text(text)
        return str(path)

    return write


def test_every_form_of_import_gives_fnn(script, capsys):
    import builtins

    import keras

    before = sys.modules["__main__"], sys.argv, sys.path[:], sys.meta_path[:]
    tensorflow = sys.modules.get("tensorflow")  # which other tests need
    path = script(IMPORTS)
    run_script(path, "--epochs", "3")
    seen, inside, names = builtins.seen_by_test
    del builtins.seen_by_test
    assert seen["keras"] is seen["again"] is seen["tf"].keras is fnn
    assert seen["layers"] is fnn.layers
    assert seen["Dense"] is fnn.layers.Dense
    assert seen["ExponentialDecay"] is fnn.schedules.ExponentialDecay
    assert seen["u"] is fnn.utils
    assert seen["mnist"] is fnn.datasets.mnist
    assert type(seen["model"]) is fnn.Sequential
    assert not [name for name in inside if name.startswith("keras.src")], "Keras was imported"
    folder = path.rpartition("/")[0]
    assert names == ("__main__", path, [path, "--epochs", "3"], folder, True)
    captured = capsys.readouterr()
    assert captured.err == f"fnn: {path} runs with fnn in place of Keras\n"
    assert captured.out == ""
    # Afterwards everything is as it was, and Keras is itself.
    after = sys.modules["__main__"], sys.argv, sys.path[:], sys.meta_path[:]
    assert after == before
    assert sys.modules["keras"] is keras is not fnn
    assert sys.modules.get("tensorflow") is tensorflow
    assert not hasattr(fnn.regularizers, "__path__")


@pytest.mark.parametrize(
    ("line", "error", "message"),
    [
        ("from keras.layers import TFSMLayer", ImportError, "is not available: .*"),
        ("from keras.layers import Foo", ImportError, "cannot import name 'Foo' from 'fnn.layers'"),
        ("import keras.foo", ImportError, "No module named 'keras.foo': fnn, .* no module foo"),
        ("import keras.layers.Dense", ImportError, "no module layers.Dense"),
        ("import keras.src.layers", ImportError, "script.py, line 2: keras.src is Keras's private"),
        ("from keras import src", ImportError, "keras.src is Keras's private"),
        ("from tensorflow import data", ImportError, "line 2 uses tensorflow.data.*pass NumPy"),
        ("import tensorflow.io.gfile", ImportError, "line 2 uses tensorflow.io, but fnn"),
        (
            "import tensorflow as tf; tf.constant(3)",
            AttributeError,
            "script.py, line 2 uses tensorflow.constant, but fnn stands for tensorflow.keras only",
        ),
    ],
)
def test_what_fnn_lacks_gets_its_advice(script, line, error, message):
    with pytest.raises(error, match=message):
        run_script(script(f"\n{line}\n"))


def test_the_exit_status_is_the_script_s(script, capsys):
    with pytest.raises(SystemExit) as exit:
        main(["run", script("import sys; sys.exit(3)")])
    assert exit.value.code == 3
    with pytest.raises(SystemExit) as exit:
        main(["run", script("") + ".missing"])
    assert exit.value.code == 2
    assert "can't open file" in capsys.readouterr().err
    with pytest.raises(SystemExit) as exit:
        main(["train"])
    assert exit.value.code == 2
    assert "usage: python -m fnn run script.py" in capsys.readouterr().err


def test_a_script_that_is_no_python_has_no_frames(script):
    path = script("x = (")
    with pytest.raises(SyntaxError) as raised:
        run_script(path)
    assert from_script_on(raised.value.__traceback__, path) is None


FAILING = """
def fail():
    try:
        {}["key"]
    except KeyError as error:
        raise ValueError("no such thing") from error

if __name__ == "__main__":
    fail()
"""


@pytest.mark.slow
def test_a_traceback_is_that_of_python(script):
    path = script(FAILING)
    runs = [
        subprocess.run([sys.executable, *before, path], capture_output=True, text=True)
        for before in ([], ["-m", "fnn", "run"])
    ]
    plain, own = runs
    assert plain.returncode == own.returncode == 1
    first, _, rest = own.stderr.partition("\n")
    assert re.fullmatch(f"fnn: {path} runs with fnn in place of Keras", first)
    assert rest == plain.stderr
