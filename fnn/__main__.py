"""The command line: `python -m fnn run`, `info`, `summary`, `predict` and `serve`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from fnn import command_line, serving
from fnn.run_script import from_script_on, run_script

USAGE = """usage: python -m fnn run script.py [arguments]
       python -m fnn info
       python -m fnn summary m.fnn [options]
       python -m fnn predict m.fnn data.npy out.npy [options]
       python -m fnn serve m.fnn [options]

run      runs a program that imports keras (or tensorflow.keras) with fnn in its place
info     prints versions, devices, the compilation cache and the dtype policy
summary  prints the layers of a saved model
predict  writes the outputs of a saved model for the arrays of a file
serve    answers HTTP requests with predictions of a saved model

python -m fnn COMMAND --help shows the options of a command."""


def main(arguments: list[str]) -> None:
    """Runs the command of these arguments; exits with status 2 if there is none."""
    if arguments and arguments[0] in COMMANDS:
        return COMMANDS[arguments[0]](arguments[1:])
    if arguments in (["--help"], ["-h"]):
        return print(USAGE)
    _refuse()


def _refuse() -> None:
    print(USAGE, file=sys.stderr)
    sys.exit(2)


def _run(arguments: list[str]) -> None:
    if arguments in (["--help"], ["-h"]):
        return print(USAGE)
    if not arguments:
        _refuse()
    script = arguments[0]
    try:
        run_script(script, *arguments[1:])
    except (Exception, KeyboardInterrupt):
        _show_from_script_on(script)
        raise


COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "run": _run,
    "info": command_line.info,
    "summary": command_line.summary,
    "predict": command_line.predict,
    "serve": serving.main,
}


def _show_from_script_on(script: str) -> None:
    """Lets Python show an error with the frames of the script alone, as without fnn."""
    show = sys.excepthook  # the script may have set one

    def hook(kind: type[BaseException], error: BaseException, traceback: Any) -> None:
        error.__traceback__ = from_script_on(traceback, script)
        show(kind, error, error.__traceback__)

    sys.excepthook = hook


if __name__ == "__main__":
    main(sys.argv[1:])
