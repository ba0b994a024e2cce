"""The command line: `python -m fnn run script.py` and `python -m fnn serve m.fnn`."""

from __future__ import annotations

import sys
from typing import Any

from fnn import serving
from fnn.run_script import from_script_on, run_script

USAGE = """usage: python -m fnn run script.py [arguments]
       python -m fnn serve m.fnn [options]

run    runs a program that imports keras (or tensorflow.keras) with fnn in its place
serve  answers HTTP requests with predictions of a saved model; see serve --help"""


def main(arguments: list[str]) -> None:
    """Runs the command of these arguments; exits with status 2 if there is none."""
    if arguments[:1] == ["serve"]:
        return serving.main(arguments[1:])
    if len(arguments) < 2 or arguments[0] != "run":
        print(USAGE, file=sys.stderr)
        sys.exit(2)
    script = arguments[1]
    try:
        run_script(script, *arguments[2:])
    except (Exception, KeyboardInterrupt):
        _show_from_script_on(script)
        raise


def _show_from_script_on(script: str) -> None:
    """Lets Python show an error with the frames of the script alone, as without fnn."""
    show = sys.excepthook  # the script may have set one

    def hook(kind: type[BaseException], error: BaseException, traceback: Any) -> None:
        error.__traceback__ = from_script_on(traceback, script)
        show(kind, error, error.__traceback__)

    sys.excepthook = hook


if __name__ == "__main__":
    main(sys.argv[1:])
