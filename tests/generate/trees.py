"""The weights of every row of the catalogue by path, shape and dtype, as `trees.txt` has them."""

import functools
from pathlib import Path

from fnn.core.calling import weight_spec
from fnn.core.tree import flatten
from tests.helpers.catalogue import CATALOGUE

FILE = Path(__file__).parents[1] / "layers" / "trees.txt"


def tree(case):
    """A line for the row, and one for each weight, in the order in which the layers make them."""
    yield case.id
    for kind, part in zip(("params", "state"), weight_spec(case.layer, case.x), strict=True):
        for path, leaf in flatten(part):
            yield f"    {kind} {'/'.join(path)} {leaf.dtype}{list(leaf.shape)}"


def text():
    """What the file holds."""
    return "\n".join([*(line for case in CATALOGUE for line in tree(case)), ""])


@functools.cache
def paths():
    """What the file says of each row by its id: the paths of its weights by their kind."""
    found, row = {}, None
    for line in FILE.read_text().splitlines():
        if line.startswith(" "):
            kind, path = line.split()[:2]
            found[row][kind].append(tuple(path.split("/")))
        else:
            row = line
            found[row] = {"params": [], "state": []}
    return found
