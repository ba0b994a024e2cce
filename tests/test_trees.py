"""The weights of every row of the catalogue by path, shape and dtype, compared with `trees.txt`.

Saved files hold weights by these paths, so a renamed or reshaped weight is to be a visible change
in a diff. `python -m tests.test_trees` prints it, with `--write` it writes it anew.
"""

import difflib
import sys
from pathlib import Path

import jax

from fnn.core.calling import weight_spec
from fnn.core.layer import Layer
from fnn.core.tree import flatten
from tests.catalogue import CATALOGUE, Case

FILE = Path(__file__).with_name("trees.txt")
ADVICE = "; if that is meant, run python -m tests.test_trees --write"


def tree(case):
    """A line for the row, and one for each weight, in the order in which the layers make them."""
    yield case.id
    for kind, part in zip(("params", "state"), weight_spec(case.layer, case.x), strict=True):
        for path, leaf in flatten(part):
            yield f"    {kind} {'/'.join(path)} {leaf.dtype}{list(leaf.shape)}"


def trees():
    return [line for case in CATALOGUE for line in tree(case)]


def test_the_weights_are_those_of_the_file():
    before = FILE.read_text().splitlines()
    change = "\n".join(difflib.unified_diff(before, trees(), "trees.txt", "now", lineterm="", n=1))
    assert not change, change + ADVICE


def test_a_line_says_path_shape_and_dtype():
    class Counted(Layer):
        def init(self, key, x):
            weights = {"inner": {"w": jax.numpy.zeros((2, 3))}}
            return weights, {"steps": jax.numpy.zeros((), "int32")}

    assert list(tree(Case(Counted(), (1,), id="row"))) == [
        "row",
        "    params inner/w float32[2, 3]",
        "    state steps int32[]",
    ]


if __name__ == "__main__":
    jax.config.update("jax_numpy_rank_promotion", "raise")
    text = "\n".join([*trees(), ""])
    print(text, end="") if "--write" not in sys.argv else FILE.write_text(text)
