"""The weights of every row of the catalogue by path, shape and dtype, compared with `trees.txt`.

Saved files hold weights by these paths, so a renamed or reshaped weight is to be a visible change
in a diff. `python -m tests.generate` writes it anew.
"""

import difflib

import jax

from fnn.core.layer import Layer
from tests.generate.documents import ADVICE
from tests.generate.trees import FILE, text, tree
from tests.helpers.catalogue import Case


def test_the_weights_are_those_of_the_file():
    before, now = FILE.read_text().splitlines(), text().splitlines()
    change = "\n".join(difflib.unified_diff(before, now, "trees.txt", "now", lineterm="", n=1))
    assert not change, f"{change}; if that is meant, {ADVICE}"


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
