"""Pages: models, layers and trees of weights as folding trees, for notebooks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import jax

from fnn.core import tree
from fnn.core.layer import Layer
from fnn.core.tree import Tree
from fnn.runtime.notebook import Page
from fnn.runtime.tables import COUNT, NAME, SHAPE, Row
from fnn.summaries.html import Branch, html_tree
from fnn.summaries.sizes import size
from fnn.summaries.table import ListedNetwork

LONGEST_NOTE = 300  # characters


def model_html(model: Any) -> str:
    """The `_repr_html_` of a model: its layers as a tree, with shapes, parameters and bytes.

    >>> model = fnn.Sequential([fnn.layers.Dense(2, input_shape=(3,))], name="small")
    >>> "dense (Dense)" in model_html(model)
    True
    """
    inputs = model._network.inputs
    title = f"{model.name} ({type(model).__name__})"
    if inputs is None:
        branches = _without_shapes(model.layer)
        root = Branch(title, "?", "not built", inside=branches, open=True)
        return html_tree([root])
    return _network_html(title, model.layer, inputs)


def layer_html(layer: Layer, inputs: Tree = None) -> str:
    """The `_repr_html_` of a layer; with shapes if its inputs are known, as nodes.

    >>> "units=2" in layer_html(fnn.layers.Dense(2))
    True
    """
    name = layer.name or ""
    title = f"{name} ({_kind(layer)})"
    if inputs is None:
        inside = _without_shapes(layer)
        root = Branch(title, note=_note(layer), inside=inside, open=True)
        return html_tree([root])
    return _network_html(title, layer, inputs)


def show(thing: Tree) -> Page:
    """A tree of arrays as its shapes, parameters and bytes; a notebook shows a tree that folds.

    `thing` is a pytree: params, state, gradients, the state of an optimizer, a `TrainState`; or a
    model or layer, shown as by itself. Numbers alone (a loss, a step) are shown with their value.
    Nothing is computed and no array is copied to the host, except those numbers.

    >>> dense = {"kernel": jnp.zeros((3, 2)), "bias": jnp.zeros(2)}
    >>> fnn.show({"dense": dense, "step": jnp.array(7)})
    tree                          9  36.00 B
      dense                       8  32.00 B
        kernel  float32[3, 2]     6  24.00 B
        bias    float32[2]        2   8.00 B
      step      int32[] = 7       1   4.00 B
    """
    if hasattr(thing, "_repr_html_"):
        return Page(repr(thing), thing._repr_html_())
    name = "tree"
    if hasattr(thing, "shape"):
        name = "array"
    elif not isinstance(thing, (dict, list, tuple)):
        name = type(thing).__name__
    branch = _branch_of(name, thing)
    branch.open = True
    return Page(_text(branch), html_tree([branch]))


def _text(branch: Branch) -> str:
    """The lines of a tree, in columns."""
    rows = list(_cells(branch, 0))
    names, shapes, counts, sizes = (
        max(map(len, column)) for column in zip(*rows, strict=True)
    )
    return "\n".join(
        f"{name:<{names}}  {shape:<{shapes}}  {count:>{counts}}  {used:>{sizes}}".rstrip()
        for name, shape, count, used in rows
    )


def _cells(branch: Branch, depth: int) -> Iterator[tuple[str, str, str, str]]:
    name = "  " * depth + branch.title
    yield name, branch.shape, branch.count, branch.bytes
    for inner in branch.inside:
        yield from _cells(inner, depth + 1)


def _branch_of(name: str, thing: Tree) -> Branch:
    """The branch of a pytree: dicts in their own order, other nodes in that of JAX."""
    if isinstance(thing, dict):
        parts = [(str(key), value) for key, value in thing.items()]
    else:
        found, _ = jax.tree_util.tree_flatten_with_path(
            thing, is_leaf=lambda inner: inner is not thing
        )
        if [path for path, _ in found] == [()]:
            return _leaf(name, thing)
        parts = [(tree.path_name(path).lstrip("."), value) for path, value in found]
    inside = [_branch_of(*part) for part in parts]
    count = f"{_count(thing):,}"
    return Branch(name, "", count, size(_nbytes(thing)), inside=inside)


def _arrays(thing: Tree) -> list[Any]:
    return [leaf for leaf in jax.tree.leaves(thing) if hasattr(leaf, "shape")]


def _count(thing: Tree) -> int:
    return tree.count(_arrays(thing))


def _nbytes(thing: Tree) -> int:
    return tree.nbytes(_arrays(thing))


def _leaf(name: str, leaf: Any) -> Branch:
    if not hasattr(leaf, "shape") or not hasattr(leaf, "dtype"):
        return Branch(name, repr(leaf)[:60])
    shown = tree.describe(leaf)
    kind = getattr(leaf.dtype, "kind", "")  # a random key has none
    if leaf.shape == () and kind and getattr(leaf, "is_fully_addressable", False):
        value = f"{leaf:.6g}" if kind == "f" else f"{leaf}"
        shown += f" = {value}"
    return Branch(name, shown, f"{_count(leaf):,}", size(_nbytes(leaf)))


def _network_html(title: str, layer: Layer, inputs: Tree) -> str:
    network = ListedNetwork(layer, inputs, nested=True)
    everything = network.params, network.state
    branches = _nested(network.rows)
    if len(branches) == 1 and branches[0].title.endswith(f"({_kind(layer)})"):
        (branch,) = branches  # a layer that is no combinator
        branch.title, branch.open = title, True
        return html_tree([branch])
    learning = f"{tree.count(network.learning):,} trainable"
    top = Branch(
        title,
        learning,
        f"{tree.count(everything):,}",
        size(tree.nbytes(everything)),
        inside=branches,
        open=True,
    )
    return html_tree([top])


def _nested(rows: Iterable[Row]) -> list[Branch]:
    """The rows of a table as branches: those that are deeper are inside of the one before."""
    top: list[Branch] = []
    around: list[Branch] = []  # the last branch of each depth
    made = []
    for row in rows:
        used = ""
        if tree.count(row.weights):
            used = size(tree.nbytes(row.weights))
        cells = row.cells
        note = _note(row.layer)
        branch = Branch(cells[NAME], cells[SHAPE], cells[COUNT], used, note)
        del around[row.depth :]
        siblings = around[-1].inside if around else top
        siblings.append(branch)
        around.append(branch)
        made.append((branch, row.weights))
    for branch, weights in made:
        if not branch.inside:
            branch.inside = _weight_lines(weights)
    return top


def _weight_lines(weights: Tree) -> list[Branch]:
    """A line for each weight of a layer."""
    lines = []
    for part in weights:
        for path, spec in tree.flatten(part):
            if hasattr(spec, "shape"):
                lines.append(_leaf("/".join(path), spec))
    return lines


def _without_shapes(layer: Layer) -> list[Branch]:
    """The layers inside, as far as they are known without inputs."""
    branches = []
    for name, child in layer.children():
        if name is None:
            branches += _without_shapes(child)
            continue
        inside = _without_shapes(child)
        branches.append(
            Branch(f"{name} ({_kind(child)})", note=_note(child), inside=inside)
        )
    return branches


def _kind(layer: Layer) -> str:
    return str(getattr(layer, "class_name", type(layer).__name__))


def _note(layer: object) -> str:
    """The layer as it is written, cut short; an input has none."""
    if layer is None:
        return ""
    shown = repr(layer)
    if len(shown) > LONGEST_NOTE:
        shown = shown[:LONGEST_NOTE] + " ..."
    return shown
