"""Summarizing: the table of layers of a saved model."""

from __future__ import annotations

import argparse

from fnn.command_line.errors import one_line_errors
from fnn.export.signature import outputs_of, signature_of, specs_in
from fnn.models import load

DESCRIPTION = """\
Prints the layers of a saved model with their output shapes and numbers of parameters, and the
names, dtypes and shapes of its inputs and outputs."""

EXAMPLE = """\
example:
  python -m fnn summary digits.fnn --expand-nested"""


def summary(arguments: list[str]) -> None:
    """Runs `python -m fnn summary` with these arguments.

    Exits with status 1 and one line on standard error for a file that holds no model, 2 for wrong
    arguments.

    >>> model = fnn.Sequential([fnn.layers.Dense(2, input_shape=(3,))], name="small")
    >>> model.save("small.fnn")
    >>> summary(["small.fnn"])
    Model: "small"
    ┌───────────────┬──────────────┬─────────┐
    │ Layer (type)  │ Output Shape │ Param # │
    ├───────────────┼──────────────┼─────────┤
    │ dense (Dense) │ (None, 2)    │       8 │
    └───────────────┴──────────────┴─────────┘
     Total params: 8 (32.00 B)
     Trainable params: 8 (32.00 B)
     Non-trainable params: 0 (0.00 B)
     Input input_0: float32 (any, 3)
     Output output: float32 (any, 2)
    """
    given = _parser().parse_args(arguments)
    with one_line_errors("summary"):
        model = load(given.model, compile=False)
        model.summary(
            line_length=given.line_length,
            expand_nested=given.expand_nested,
            show_trainable=given.show_trainable,
        )
        for spec in specs_in(signature_of((model.input,))[0]):
            print(f" Input {spec}")
        for spec in outputs_of(model.output, model.output_names):
            print(f" Output {spec}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m fnn summary",
        description=DESCRIPTION,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", help="a file that model.save wrote, such as m.fnn")
    parser.add_argument(
        "--expand-nested",
        action="store_true",
        help="show the layers inside of layers",
    )
    parser.add_argument(
        "--show-trainable",
        action="store_true",
        help="show which layers have weights that learn",
    )
    parser.add_argument(
        "--line-length",
        type=int,
        metavar="N",
        help="the most characters in a line (default: the width of the terminal)",
    )
    return parser
