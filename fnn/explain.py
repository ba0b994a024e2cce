"""Explain: what a network looks at (saliency, Grad-CAM), and the activations inside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax import Array, lax, random

from fnn.core import tree
from fnn.core.calling import call, walk
from fnn.core.context import Context, strip_masks
from fnn.core.layer import Layer
from fnn.core.tree import Path, Tree
from fnn.last_activation import without_last_activation
from fnn.runtime.recording import OFFSET, OUTPUT

__all__ = [
    "activation_statistics",
    "activations",
    "grad_cam",
    "integrated_gradients",
    "saliency",
    "smooth_grad",
]

# A model, a tuple (layer, params, state), or a function from a batch to its outputs.
Explained: TypeAlias = Any
# A class, one for each example (n,), None for the class with the largest output, or a function
# from outputs (n, ...) to a number for each example (n,).
Target: TypeAlias = Any
Outputs: TypeAlias = Callable[[Tree], Array]
Scores: TypeAlias = Callable[[Tree], Array]


def saliency(
    model: Explained, x: Tree, target: Target = None, *, logits: bool = False
) -> Tree:
    """How much the score of the target changes with each input: |d score / d x|, shaped like x.

    `model` is a model, a tuple `(layer, params, state)`, or a function from a batch to outputs
    `(n, classes)`, `(n, 1)` or `(n,)`; it runs as in inference. `target` is a class, an array of
    one class for each example, or None for the class with the largest output; for outputs of other
    shapes it is a function from outputs to `(n,)` scores. `logits=True` takes the scores before a
    final softmax or sigmoid, as the paper does: probabilities that are almost 0 or 1 have almost
    no gradient. For color images, take the maximum over the channels.
    Raises TypeError for what is no model, ValueError for `x` without floating-point numbers and
    for outputs without a clear score.

    Source: Simonyan, Vedaldi, Zisserman, "Deep Inside Convolutional Networks" (2013), section 3.

    >>> layer = fnn.layers.Dense(2)
    >>> params = {"kernel": jnp.array([[1.0, -2.0], [3.0, 0.0]]), "bias": jnp.zeros(2)}
    >>> fnn.explain.saliency((layer, params, {}), jnp.ones((1, 2)), target=1).tolist()
    [[2.0, 0.0]]
    """
    x = _floats(x)
    scores = _scores(_outputs(model, x, logits), x, target)
    return jax.tree.map(jnp.abs, _gradient(scores, x))


def integrated_gradients(
    model: Explained,
    x: Tree,
    target: Target = None,
    *,
    baseline: Tree = None,
    steps: int = 50,
    logits: bool = False,
) -> Tree:
    """The part of each input in the score: (x - baseline) times the mean gradient between them.

    The parts of an example add up to score(x) - score(baseline) (completeness), up to the error
    of the midpoint rule with `steps` gradients along the straight line. `baseline` is an input
    without information, with the shape of `x` or one that broadcasts to it; zeros by default, which
    for images is black. `model`, `target` and `logits` are those of `saliency`, and so are the
    errors; the target is that of `x` on the whole line.

    Source: Sundararajan, Taly, Yan, "Axiomatic Attribution for Deep Networks" (2017).

    >>> cube = lambda x: (x**3).sum(axis=1)
    >>> parts = fnn.explain.integrated_gradients(cube, jnp.array([[1.0, 2.0]]), steps=200)
    >>> parts.round(3).tolist()
    [[1.0, 8.0]]
    """
    x = _floats(x)
    scores = _scores(_outputs(model, x, logits), x, target)
    if baseline is None:
        baseline = jax.tree.map(jnp.zeros_like, x)
    difference = jax.tree.map(jnp.subtract, x, baseline)

    def add(step: Array, total: Tree) -> Tree:
        at = (step + 0.5) / steps

        def between(start: Array, distance: Array) -> Array:
            return (start + at * distance).astype(distance.dtype)

        point = jax.tree.map(between, baseline, difference)
        return jax.tree.map(jnp.add, total, _gradient(scores, point))

    zeros = jax.tree.map(jnp.zeros_like, difference)
    total = lax.fori_loop(0, steps, add, zeros)
    return jax.tree.map(lambda d, gradient: d * gradient / steps, difference, total)


def smooth_grad(
    model: Explained,
    x: Tree,
    target: Target = None,
    *,
    key: Array | None = None,
    samples: int = 50,
    noise: float = 0.15,
    logits: bool = False,
) -> Tree:
    """The mean gradient of the score over noisy copies of `x`; less grainy than one gradient.

    The noise is normal; its standard deviation is `noise` times the range of the values of each
    example. `key` is that of the noise, `jax.random.key(0)` by default. The gradients have signs;
    `jnp.abs` gives a map like that of `saliency`. The other arguments and the errors are those of
    `saliency`; the target is that of `x`.

    Source: Smilkov, Thorat, Kim, Viegas, Wattenberg, "SmoothGrad" (2017).

    >>> layer = fnn.layers.Dense(1, kernel_initializer="ones")
    >>> init, apply = layer
    >>> model = layer, *init(jax.random.key(0), jnp.ones((1, 2)))
    >>> fnn.explain.smooth_grad(model, jnp.array([[1.0, 2.0]]), samples=4).tolist()
    [[1.0, 1.0]]
    """
    x = _floats(x)
    scores = _scores(_outputs(model, x, logits), x, target)
    treedef: Any
    leaves, treedef = jax.tree.flatten(x)
    widths = [noise * (_largest(leaf) + _largest(-leaf)) for leaf in leaves]

    def add(total: Tree, key: Array) -> tuple[Tree, None]:
        noisy = []
        for number, (leaf, width) in enumerate(zip(leaves, widths, strict=True)):
            own = random.fold_in(key, number)
            drawn = random.normal(own, leaf.shape, leaf.dtype)
            noisy.append(leaf + width * drawn)
        gradient = _gradient(scores, treedef.unflatten(noisy))
        return jax.tree.map(jnp.add, total, gradient), None

    if key is None:
        key = random.key(0)
    start = jax.tree.map(jnp.zeros_like, x)
    total, _ = lax.scan(add, start, random.split(key, samples))
    return jax.tree.map(lambda gradient: gradient / samples, total)


def grad_cam(
    model: Explained,
    x: Tree,
    layer: str,
    target: Target = None,
    *,
    logits: bool = False,
) -> Array:
    """Where a convolution finds evidence for the target: relu(sum_c mean(d score / d A_c) A_c).

    A_c `(n, height, width)` are the channels of the outputs of `layer`, named as in the summary or
    by its path (`"encoder/conv2d"`); the map has their height and width, smaller than those of the
    images. Layers of series and volumes work too; channels come last. `model` is a model or a tuple
    `(layer, params, state)`; the other arguments and errors are those of `saliency`. A layer used
    several times is read at its last use. Raises ValueError for an unknown layer, with the names
    there are.

    Source: Selvaraju et al., "Grad-CAM" (2017), section 3; the paper takes logits.

    >>> net = fnn.layers.Sequential(
    ...     [fnn.layers.Conv2D(2, 3, name="conv"), fnn.layers.GlobalAveragePooling2D()])
    >>> images = jnp.ones((1, 8, 8, 1))
    >>> model = net, *net.init(jax.random.key(0), images)
    >>> heat = jax.jit(lambda images: fnn.explain.grad_cam(model, images, "conv", target=0))
    >>> heat(images).shape
    (1, 6, 6)
    """
    x = _floats(x)
    network = _network(model, x, logits)
    path = tuple(layer.split("/"))
    found = dict(_recorded(network.run(x, {})[1]))
    if path not in found:
        names = sorted("/".join(place) for place in found if place)
        raise ValueError(
            f"grad_cam: expected the name of a layer inside the model, received {layer!r}; use one "
            f"of {names}"
        )
    features = found[path]  # (n, *space, channels)
    if getattr(features, "ndim", 0) < 3:
        raise ValueError(
            f"grad_cam: expected a layer with outputs (n, ..., channels) that have axes of space, "
            f"received {layer!r} with {tree.describe(features)}; use a convolution before the "
            "pooling"
        )
    score_of = _score_of(network.run(x, {})[0], target)

    def total(offset: Array) -> Array:
        state = tree.put({}, path, {OFFSET: offset})
        outputs, _ = network.run(x, state)
        return score_of(outputs).sum()

    gradient = jax.grad(total)(jnp.zeros_like(features))
    space = tuple(range(1, features.ndim - 1))
    weights = gradient.mean(space, keepdims=True)  # (n, 1, ..., channels)
    return jax.nn.relu((weights * features).sum(-1))


def activations(
    model: Explained, x: Tree, layers: Sequence[str] | None = None
) -> dict[str, Tree]:
    """The outputs of the layers inside a network for `x`, as in inference, by path.

    `model` is a model or a tuple `(layer, params, state)`. `layers` are the paths to return, all
    by default, in the order in which the network holds them. A layer used several times is there
    with its last outputs; those of `Repeat`, `Ensemble` and other stacked layers have a further
    axis. Layers inside a recurrent or attention layer are not seen. Raises TypeError for a
    function, ValueError for an unknown path.

    >>> net = fnn.layers.Sequential([fnn.layers.Dense(3, "relu"), fnn.layers.Dense(1)])
    >>> model = net, *net.init(jax.random.key(0), jnp.ones((2, 4)))
    >>> {path: y.shape for path, y in fnn.explain.activations(model, jnp.ones((2, 4))).items()}
    {'dense': (2, 3), 'dense_1': (2, 1)}
    """
    network = _network(model, x, False)
    found = dict(_recorded(network.run(x, {})[1]))
    places = dict.fromkeys(path for path, _, _ in walk(network.layer))
    in_order = [path for path in (*places, *found) if path and path in found]
    named = {"/".join(path): found[path] for path in in_order}
    unknown = [name for name in layers or () if name not in named]
    if unknown:
        raise ValueError(
            f"activations: expected paths of layers inside the model, received {unknown}; use some "
            f"of {list(named)}"
        )
    if layers is None:
        return named
    return {name: named[name] for name in layers}


def activation_statistics(model: Explained, x: Tree) -> dict[str, dict[str, Array]]:
    """Numbers on the outputs of each layer inside a network for `x`, by path.

    `mean`, `std`, `min`, `max` over all values, `zeros` the fraction of values that are 0, `dead`
    the fraction of channels (last axis) that are 0 for all of `x`: after a relu these do not learn.
    Integer outputs are left out. Arguments and errors are those of `activations`.

    >>> net = fnn.layers.Sequential([fnn.layers.Activation("relu")])
    >>> x = jnp.array([[-1.0, 2.0], [-3.0, 4.0]])
    >>> found = fnn.explain.activation_statistics((net, {}, {}), x)["activation"]
    >>> {name: float(value) for name, value in found.items() if name != "std"}
    {'mean': 1.5, 'min': 0.0, 'max': 4.0, 'zeros': 0.5, 'dead': 0.5}
    """
    found = {}
    for path, outputs in activations(model, x).items():
        if _is_floating(outputs) and outputs.size:
            found[path] = _statistics(outputs)
    return found


def _statistics(y: Array) -> dict[str, Array]:
    is_zero = y == 0
    return {
        "mean": y.mean(),
        "std": y.std(),
        "min": y.min(),
        "max": y.max(),
        "zeros": is_zero.mean(),
        "dead": is_zero.all(tuple(range(y.ndim - 1))).mean(),
    }


class _Network(NamedTuple):
    """A layer with its weights."""

    layer: Layer
    params: Tree
    state: Tree

    def run(self, x: Tree, offsets: Tree) -> tuple[Tree, Tree]:
        """(outputs, state with the outputs of all layers); `offsets` are added to these."""
        state = tree.union(self.state, offsets)
        ctx = Context(record=True)
        y, recorded = call(self.layer, self.params, state, x, ctx)
        return strip_masks(y), recorded


def _network(model: Explained, x: Tree, logits: bool) -> _Network:
    parts = model
    if not isinstance(model, tuple) and hasattr(model, "train_state"):
        if not model.built:
            model.build(jax.tree.map(jnp.shape, x))
        parts = model.layer, model.params, model.state
    if not isinstance(parts, tuple) or not isinstance(parts[0], Layer):
        raise TypeError(
            f"expected a model or a tuple (layer, params, state), received {model!r}; the layers "
            "inside a function cannot be seen"
        )
    layer, params, state = parts
    if logits:
        layer, _ = without_last_activation(layer, x)
    return _Network(layer, params, state)


def _outputs(model: Explained, x: Tree, logits: bool) -> Outputs:
    """The function from a batch to its outputs."""
    if isinstance(model, tuple) or hasattr(model, "train_state"):
        network = _network(model, x, logits)

        def run(x: Tree) -> Array:
            y, _ = call(network.layer, network.params, network.state, x, Context())
            outputs: Array = strip_masks(y)
            return outputs

        return run
    if not callable(model) or isinstance(model, Layer):
        raise TypeError(
            f"expected a model, a tuple (layer, params, state) or a function from a batch to its "
            f"outputs, received {model!r}"
        )
    if logits:
        raise ValueError(
            "logits=True needs a model or a tuple (layer, params, state), received a function; "
            "return logits from it"
        )
    return model  # type: ignore[no-any-return]


def _scores(outputs: Outputs, x: Tree, target: Target) -> Scores:
    """The function from a batch to a number for each example; the class is chosen at `x`."""
    score_of = _score_of(outputs(x), target)
    return lambda x: score_of(outputs(x))


def _score_of(outputs: Array, target: Target) -> Callable[[Array], Array]:
    """The function from outputs to a number for each example, chosen by these `outputs`."""
    if callable(target):
        function: Callable[[Array], Array] = target
        return function
    shape = getattr(outputs, "shape", ())
    if len(shape) == 1 and target is None:
        return lambda outputs: outputs
    if len(shape) != 2:
        raise ValueError(
            f"expected outputs (n, classes), received {tree.describe(outputs)}; pass target as a "
            "function from outputs to a number for each example, such as lambda y: y[:, 0].sum(-1)"
        )
    if target is None:
        target = lax.stop_gradient(outputs).argmax(axis=1)
    classes = jnp.broadcast_to(jnp.asarray(target), shape[:1])
    return lambda outputs: jnp.take_along_axis(outputs, classes[:, None], axis=1)[:, 0]


def _gradient(scores: Scores, x: Tree) -> Tree:
    """The gradient of the score of each example; examples do not depend on each other."""
    return jax.grad(lambda x: scores(x).sum())(x)


def _largest(leaf: Array) -> Array:
    """The largest value of each example, `(n, 1, ...)`."""
    axes = tuple(range(1, leaf.ndim))
    return leaf.max(axis=axes, keepdims=True)


def _is_floating(leaf: object) -> bool:
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)


def _floats(x: Tree) -> Tree:
    """`x` as arrays of JAX. Raises ValueError unless they hold floating-point numbers."""
    leaves = jax.tree.leaves(x)
    if not leaves or not all(map(_is_floating, leaves)):
        raise ValueError(
            f"expected x of floating-point numbers, received {tree.describe(x)}; pass "
            'x.astype("float32"), or for tokens a function of their embeddings'
        )
    return jax.tree.map(jnp.asarray, x)


def _recorded(state: Tree, path: Path = ()) -> Iterator[tuple[Path, Tree]]:
    """(path of a layer, its outputs) for each layer that a call has recorded."""
    for name, branch in state.items():
        if name == OUTPUT:
            yield path, branch
        elif isinstance(branch, dict) and name != OFFSET:
            yield from _recorded(branch, (*path, name))
