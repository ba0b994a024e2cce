"""The floors of fnn, from the ground up, and their picture for the page about the design."""

import textwrap
from xml.sax.saxutils import escape

from tests.generate.documents import DOCS

# A floor a line, as DESIGN.md draws it: a module imports from lower floors, or from its own
# package. Lines with # are the captions of the picture.
HOUSE = """
# Below: files, processes, memory
runtime
# What a layer is
core
# Values and functions without layers
variables
dtype_policies schedules scopes tree
activations config initializers regularizers constraints quantizers losses optimizers
metrics mixed_precision
random visualization
# Layers, graphs of them, classes in Keras's way
layers
symbolic
ops
preprocessing
backend subclassing
last_activation
# From a layer to a trained one
training summaries testing explain
saving
data export
callbacks distribution
# Model: compile, fit, evaluate, predict
models
# Built on models
networks utils distillation wrappers
datasets
applications
keras_names
__init__
# Programs
run_script serving command_line
__main__
"""
FLOORS = {
    unit: number
    for number, floor in enumerate(HOUSE.strip().splitlines())
    if not floor.startswith("#")
    for unit in floor.split()
}
PICTURE = DOCS / "_static" / "floors.svg"
WIDTH, LINE, CHARACTERS = 400, 19, 56


def picture():
    """An SVG: a box for each caption, the lowest floor at the bottom. It fits a phone."""
    parts, top = [], 1
    for group in reversed(HOUSE.strip().removeprefix("#").split("\n#")):
        caption, *floors = group.strip().splitlines()
        units = [unit for floor in floors for unit in floor.split() if "__" not in unit]
        lines = textwrap.wrap(", ".join(units), CHARACTERS)
        height = LINE * (len(lines) + 1) + 14
        parts.append(
            f'<rect x="1" y="{top}" width="{WIDTH - 2}" height="{height}" rx="6"/>\n'
            f'<text class="caption" x="14" y="{top + 22}">{escape(caption)}</text>'
        )
        for number, line in enumerate(lines, 1):
            y = top + 22 + LINE * number
            parts.append(f'<text x="14" y="{y}">{escape(line)}</text>')
        top += height + 6
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" width="{WIDTH}">\n'
        "<style>rect { fill: #e9eff8; stroke: #7d93b8; } text { font: 14px sans-serif; "
        "fill: #1b2636; } .caption { font-weight: bold; }</style>\n"
        f"{body}\n</svg>\n"
    )
