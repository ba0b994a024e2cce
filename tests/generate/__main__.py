"""Writes anew what is made from the code: parts of the documentation, and the file of weights.

`python -m tests.generate` does it, and a test fails where it is due; `git diff` shows what changed.
"""

import os

os.environ["KERAS_BACKEND"] = "jax"

import jax

from tests.generate import examples, floors, layer_table, modules, names, speed, trees
from tests.generate.documents import show

jax.config.update("jax_numpy_rank_promotion", "raise")

show("examples", examples.section())
show("files", modules.section())
show("speed", speed.section())
show("keras", names.summary())
show("names", names.section())
show("layers", layer_table.section())
floors.PICTURE.write_text(floors.picture())
trees.FILE.write_text(trees.text())
