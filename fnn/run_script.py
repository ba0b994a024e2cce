"""Run script: a program that imports Keras, run with fnn in Keras's place."""

from __future__ import annotations

import contextlib
import importlib.abc
import importlib.machinery
import os
import sys
import tokenize
from collections.abc import Iterator, Sequence
from types import FrameType, ModuleType, TracebackType
from typing import Any

import fnn
from fnn.keras_names import MISSING_NAMES

__all__ = ["fnn_as_keras", "run_script"]

ROOTS = ("keras", "tensorflow")
# Advice for the parts of TensorFlow that programs use most beside `tf.keras`.
INSTEAD = {
    "random": "use keras.utils.set_random_seed and keras.random",
    "data": "pass NumPy arrays to fit, or a function that yields batches",
    "GradientTape": "override train_step, or use jax.grad of a pure function",
}
PATH = list[str]  # of the folders of a package


def run_script(script: str, *arguments: str) -> None:
    """Runs a Python file as `python script.py` does, with fnn wherever it imports Keras.

    `import keras`, `from keras import layers`, `from keras.layers import Dense` and, where
    TensorFlow is not used otherwise, `from tensorflow import keras` give fnn. One line on standard
    error says so. Raises what the script raises, SystemExit if the file cannot be read, and
    ImportError or AttributeError for names that fnn does not have, with the name to use instead.

    >>> with open("program.py", "w") as file:
    ...     _ = file.write("import sys, keras; print(keras.__name__, sys.argv)")
    >>> run_script("program.py", "--epochs", "3")
    fnn ['program.py', '--epochs', '3']
    """
    path = os.path.abspath(script)
    try:
        with tokenize.open(path) as file:
            source = file.read()
    except OSError as error:
        print(f"python -m fnn run: can't open file {path!r}: {error}", file=sys.stderr)
        sys.exit(2)
    print(f"fnn: {script} runs with fnn in place of Keras", file=sys.stderr)
    main = ModuleType("__main__")
    main.__file__ = path
    loader = _Script(path, source)
    main.__loader__ = loader
    with _as_main(main, script, arguments), fnn_as_keras():
        loader.exec_module(main)


@contextlib.contextmanager
def fnn_as_keras() -> Iterator[None]:
    """Inside, `import keras` and `import tensorflow` give fnn, even if they are installed.

    Afterwards these imports are as they were.

    >>> with fnn_as_keras():
    ...     from keras.layers import Dense
    >>> Dense is fnn.layers.Dense
    True
    """
    before = _taken_modules()
    finder = _KerasFinder()
    sys.meta_path.insert(0, finder)
    single = [module for name, module in sys.modules.items() if _is_single_file(name)]
    for module in single:
        module.__path__ = []  # so that Python imports what it lacks through the finder
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for module in single:
            del module.__path__
        _taken_modules()
        sys.modules.update(before)


def _is_single_file(name: str) -> bool:
    """Whether this is a module of fnn that is not a package."""
    return name.startswith("fnn.") and not hasattr(sys.modules[name], "__path__")


def _taken_modules() -> dict[str, ModuleType]:
    """Takes the modules of Keras and TensorFlow out of `sys.modules`."""
    names = [name for name in sys.modules if name.partition(".")[0] in ROOTS]
    return {name: sys.modules.pop(name) for name in names}


@contextlib.contextmanager
def _as_main(
    main: ModuleType,
    script: str,
    arguments: Sequence[str],
) -> Iterator[None]:
    """Inside, `__main__`, `sys.argv` and the first entry of `sys.path` are those of a script."""
    before = sys.modules["__main__"], sys.argv, sys.path[:]
    sys.modules["__main__"] = main
    sys.argv = [script, *arguments]
    if not sys.flags.safe_path:
        sys.path[:1] = [os.path.dirname(str(main.__file__))]
    try:
        yield
    finally:
        sys.modules["__main__"], sys.argv, sys.path[:] = before


class _Script(importlib.abc.ExecutionLoader):
    """Executes a script; no compiled file is read or written, as for `python script.py`."""

    def __init__(self, path: str, source: str) -> None:
        self.path = path
        self.source = source

    def get_filename(self, name: str) -> str:
        return self.path

    def get_source(self, name: str) -> str:
        return self.source


def from_script_on(
    traceback: TracebackType | None, script: str
) -> TracebackType | None:
    """A traceback from the first frame of a script on; None if it has no frame of it."""
    path = os.path.abspath(script)
    while traceback is not None and traceback.tb_frame.f_code.co_filename != path:
        traceback = traceback.tb_next
    return traceback


def _place() -> str:
    """The line of the program that is importing or reading a name: `file.py, line 3`."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and _is_importing(frame.f_code.co_filename):
        frame = frame.f_back
    if frame is None:
        return "this program"
    return f"{frame.f_code.co_filename}, line {frame.f_lineno}"


def _is_importing(file: str) -> bool:
    return file == __file__ or file.startswith("<frozen importlib")


class _KerasFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds fnn's modules for imports of Keras, and a module with `keras` alone for TensorFlow."""

    def find_spec(
        self,
        name: str,
        path: object = None,
        target: object = None,
    ) -> importlib.machinery.ModuleSpec | None:
        """The spec of a module of Keras or TensorFlow. Raises ImportError where fnn has none."""
        root, _, rest = name.partition(".")
        if root == "fnn":
            # Python asks for a submodule if `from keras.layers import X` finds no attribute.
            _refuse_missing(name)
            return None
        if root not in ROOTS:
            return None
        if root == "tensorflow" and rest and rest.partition(".")[0] != "keras":
            raise ImportError(_other_than_keras(rest), name=name)
        _own_module(name)  # raises at this line
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def exec_module(self, module: ModuleType) -> None:
        """Puts fnn's module in place of the empty one that Python made."""
        sys.modules[module.__name__] = _own_module(module.__name__)


def _own_module(name: str) -> ModuleType:
    """The module that stands for one of Keras or TensorFlow, by its name."""
    parts = name.removeprefix("tensorflow.").split(".")
    if parts == ["tensorflow"]:
        return _TensorFlow("tensorflow")
    found: Any = fnn
    for part in parts[1:]:
        _refuse_missing(f"{found.__name__}.{part}")
        found = getattr(found, part, None)
        is_module = isinstance(found, ModuleType) or hasattr(found, "load_data")
        if not is_module:
            raise ModuleNotFoundError(
                f"No module named {name!r}: fnn, which stands for Keras, has no module "
                f"{'.'.join(parts[1:])}",
                name=name,
            )
    module: ModuleType = found
    return module


def _refuse_missing(name: str) -> None:
    """Raises ImportError for a name of Keras that fnn does not have, with its advice."""
    module, _, last = name.rpartition(".")
    if last == "src":
        raise ImportError(
            f"{_place()}: keras.src is Keras's private code, which fnn does not have; import "
            "public names, such as keras.layers.Dense",
            name=name,
        )
    advice = MISSING_NAMES.get(module, {}).get(last)
    if advice is not None and not hasattr(sys.modules[module], last):
        raise ImportError(f"{name} is not available: {advice}", name=name)


class _TensorFlow(ModuleType):
    """Stands for TensorFlow in programs that use it only as `tf.keras`."""

    keras = fnn
    __path__: PATH = []  # a package, so that Python imports its submodules through the finder

    def __getattr__(self, name: str) -> object:
        raise AttributeError(_other_than_keras(name), name=name)


def _other_than_keras(name: str) -> str:
    first = name.partition(".")[0]
    advice = INSTEAD.get(
        first, "use NumPy, jax.numpy or keras.ops, or run it with TensorFlow"
    )
    return f"{_place()} uses tensorflow.{name}, but fnn stands for tensorflow.keras only; {advice}"
