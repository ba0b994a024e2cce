"""Measured: what a model computes and costs: layers inside, examples, memory, compilations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from fnn.core.tree import Tree
from fnn.models import estimating, looking
from fnn.models.estimating import Estimate
from fnn.models.laid_out import distributed
from fnn.runtime.compilations import Compilation
from fnn.training.interrupt import deferring

if TYPE_CHECKING:  # beside each other in the bases of `Model`
    from fnn.models.attributes import Attributes as _Beside
    from fnn.models.feed import Feed
else:
    _Beside = object


class Measured(_Beside):
    """The methods of a model that look into its computation, or say what it costs."""

    _feed: Feed

    @property
    def compilations(self) -> tuple[Compilation, ...]:
        """Each compilation of the programs of this model: which, why, how many seconds it took.

        The reason says which shape, dtype or value differs from the compilation before of the
        same kind. Equal models share programs, so a second one may compile nothing;
        `compile(max_compiles=n)` raises an error for more than n of a kind.

        >>> model = fnn.Sequential([fnn.layers.Dense(5, input_shape=(3,))])
        >>> for size in (2, 4):
        ...     y = model(jnp.ones((size, 3)))
        >>> [compilation.reason for compilation in model.compilations]
        ['first use', 'x changed from float32[2, 3] to float32[4, 3]']
        """
        return tuple(self._weights.compilations.entries)

    @distributed
    def estimate(
        self,
        batch_size: int = 32,
        memory: float | None = None,
        x: Tree = None,
        y: Tree = None,
    ) -> Estimate:
        """What a training step with batches of this size costs, before any data is there.

        The step is compiled from shapes alone, and `fit` then finds it compiled: `flops` is the
        number of floating-point operations and `peak_bytes` what the compiler reserves at most,
        with weights, optimizer state and one batch; further batches on the device come on top.
        `compile_seconds` is the time it took. With `memory`, in bytes, `largest_batch` is the
        largest batch size that needs no more (0 if none does); the default is the memory of the
        device, where it says how much it has. With a distribution, all but the batch sizes are the
        numbers of each device.

        `x` and `y` are arrays, or shapes, of any number of examples, where the shapes of inputs
        are not known (`None` in `Input`), or targets not those that the loss takes by its outputs.
        Raises RuntimeError before `compile`, ValueError for shapes that are not known.

        >>> model = fnn.Sequential([fnn.layers.Dense(64, input_shape=(100,))])
        >>> model.compile("sgd", "mse")
        >>> 32 * 64 * 100 * 4 < model.estimate(32).flops < 32 * 64 * 100 * 5
        True
        """
        self._program.require("estimate")
        return estimating.estimate(self._feed, batch_size, memory, x, y)

    @deferring
    def intermediates(
        self,
        x: Tree,
        paths: str | Sequence[str],
        batch_size: int | None = None,
    ) -> dict[str, Tree]:
        """The outputs of the layers whose paths match, by path, as NumPy arrays.

        Patterns are those of `freeze`: "encoder/*", "**/dense_1", a name. It computes as `predict`
        does, once for all layers. Of a layer that is called several times they are the outputs of
        the last call; in `Repeat` they have a leading axis, one entry for each copy. Raises
        ValueError for a pattern that matches no layer, or only layers inside an RNN and the like.

        >>> rows = [fnn.layers.Dense(4, name="first", input_shape=(3,)), fnn.layers.ReLU()]
        >>> model = fnn.Sequential(rows)
        >>> model.intermediates(np.ones((2, 3)), "first")["first"].shape
        (2, 4)
        """
        return looking.intermediates(self._feed, x, paths, batch_size)

    @deferring
    def per_example_losses(
        self,
        x: Tree,
        y: Tree = None,
        sample_weight: Tree = None,
        batch_size: int | None = None,
    ) -> np.ndarray:
        """The loss that `evaluate` has for each example alone, penalties included.   (examples,)

        Computed as in inference: no dropout, moving averages. Raises RuntimeError before `compile`.

        >>> model = fnn.Sequential([fnn.layers.Dense(1, "linear", kernel_initializer="zeros")])
        >>> model.compile("sgd", "mse")
        >>> model.per_example_losses(np.ones((2, 3)), np.array([[1.0], [3.0]])).tolist()
        [1.0, 9.0]
        """
        self._program.require("per_example_losses")
        given = (x, y, sample_weight)
        return looking.per_example(self._feed, given, batch_size, gradients=False)

    @deferring
    def per_example_gradient_norms(
        self,
        x: Tree,
        y: Tree = None,
        sample_weight: Tree = None,
        batch_size: int | None = None,
    ) -> np.ndarray:
        """The norm of the gradient of each of `per_example_losses`.   (examples,)

        It is over all weights that learn together. Large ones mark examples that are hard,
        mislabelled or influential. Raises RuntimeError before `compile`.

        >>> dense = fnn.layers.Dense(1, use_bias=False, kernel_initializer="zeros")
        >>> model = fnn.Sequential([dense])
        >>> model.compile("sgd", "mse")
        >>> model.per_example_gradient_norms(np.ones((2, 1)), np.array([[1.0], [3.0]])).tolist()
        [2.0, 6.0]
        """
        self._program.require("per_example_gradient_norms")
        given = (x, y, sample_weight)
        return looking.per_example(self._feed, given, batch_size, gradients=True)
