"""Keras's functions of arrays; on symbolic nodes each makes a layer.

>>> fnn.ops.concatenate([[1, 2], [3]]).tolist()
[1, 2, 3]
>>> x = fnn.Input((4,))
>>> fnn.ops.concatenate([x, fnn.ops.square(x)], axis=-1).shape
(None, 8)
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from fnn.core.tree import Tree
from fnn.ops import core, image, linalg, nn, numpy

for _module in (core, linalg, nn, numpy):
    globals().update({name: getattr(_module, name) for name in _module.__all__})

__all__ = ["image", "linalg", "nn", "numpy"]
__all__ += [*core.__all__, *linalg.__all__, *nn.__all__, *numpy.__all__]

if TYPE_CHECKING:  # the tables' functions, which a type checker does not see

    def __getattr__(name: str) -> Callable[..., Tree]: ...
