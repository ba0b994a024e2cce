"""NASNet-A: cells that a search found (Zoph et al. 2018)."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple, TypeAlias, Unpack

from fnn import layers
from fnn.applications.application import assembled, family
from fnn.applications.blocks import (
    Names,
    conv,
    normalization,
    padded_to_halve,
    relu,
    through,
)
from fnn.applications.heads import classifier
from fnn.applications.imagenet_utils import decode_predictions, preprocessing
from fnn.applications.keras_arguments import Arguments, Given
from fnn.applications.published import Published, files
from fnn.core import arguments
from fnn.core.layer import Layer
from fnn.models import Model
from fnn.symbolic.node import Node

__all__ = ["NASNetLarge", "NASNetMobile", "decode_predictions", "preprocess_input"]

preprocess_input = preprocessing("tf")


class _Design(NamedTuple):
    filters: int  # of a cell of the first stage, doubled in each later one
    blocks: int  # cells of each stage that keep the size
    stem_filters: int
    skip_reduction: bool  # whether the cell after a reduction skips over it


# A term of a sum: (operation, window, inputs, name). The inputs are "x", the outputs of the cell
# before ("before"), "padded" x, or the sum of that number.
Term: TypeAlias = tuple[str, int, str | int, str]

# The sums of both kinds of cells, with Keras's names (figure 4 of the paper).
CELLS: dict[str, tuple[tuple[Term, Term, str | None], ...]] = {
    "normal": (
        (("conv", 5, "x", "left1"), ("conv", 3, "before", "right1"), "add_1"),
        (("conv", 5, "before", "left2"), ("conv", 3, "before", "right2"), "add_2"),
        (("mean", 3, "x", "left3"), ("same", 1, "before", ""), "add_3"),
        (("mean", 3, "before", "left4"), ("mean", 3, "before", "right4"), "add_4"),
        (("conv", 3, "x", "left5"), ("same", 1, "x", ""), "add_5"),
    ),
    "reduction": (  # halves the size
        (("conv/2", 5, "x", "left1"), ("conv/2", 7, "before", "right1"), "add_1"),
        (("max/2", 3, "padded", "left2"), ("conv/2", 7, "before", "right2"), "add_2"),
        (("mean/2", 3, "padded", "left3"), ("conv/2", 5, "before", "right3"), "add3"),
        (("same", 1, 2, ""), ("mean", 3, 1, "left4"), None),
        (("conv", 3, 1, "left4"), ("max/2", 3, "padded", "right5"), "add4"),
    ),
}
OUTPUTS = {"normal": ("before", 1, 2, 3, 4, 5), "reduction": (2, 3, 4, 5)}
_conv = partial(conv, kernel_initializer="he_normal")
POOLINGS = {
    "mean": layers.AveragePooling2D(3, 1, "same"),
    "mean/2": layers.AveragePooling2D(3, 2),
    "max/2": layers.MaxPooling2D(3, 2),
}


@family("input_shape")
def _nasnet(
    facts: Published, design: _Design, *args: Any, **named: Unpack[Given]
) -> Model:
    given = Arguments(**named)
    shape = given.input_shape
    if shape is None and given.input_tensor is None:
        given = given._replace(input_shape=(facts.size, facts.size, 3))
    elif shape is not None and None in shape:
        # Where two cells of different size meet, the sizes decide which layers there are.
        expected = "to have a known height and width"
        raise arguments.wrong(facts.title, "input_shape", expected, shape)
    top = partial(classifier, name=None)
    return assembled(given, facts, partial(_features, design=design), top)


def _features(x: Node, design: _Design) -> Node:
    stem = _conv(design.stem_filters, "stem_conv1", 3, 2, "valid")
    x = through(x, stem, _norm("stem_bn1"))
    before = None
    names = Names()
    for number in (1, 2):
        width = design.filters * number // 4
        cell = _Cell("reduction", width, f"stem_{number}", names)
        x, before = cell.outputs(x, before), x
    for level in range(3):
        width = design.filters * 2**level
        first = level * design.blocks
        if level > 0:
            cell = _Cell("reduction", width, f"reduce_{first}", names)
            inputs, x = x, cell.outputs(x, before)
            first += 1
            if not design.skip_reduction:
                before = inputs
        for number in range(first, first + design.blocks):
            cell = _Cell("normal", width, str(number), names)
            x, before = cell.outputs(x, before), x
    return through(x, _relu(names))


class _Cell(NamedTuple):
    kind: str
    filters: int
    block: str  # the end of the names of its layers
    names: Names  # of the activations in all cells

    def outputs(self, x: Node, before: Node | None) -> Node:
        """Sums of values of `x` and of the inputs of the cell before, joined."""
        kind, block = self.kind, self.block
        values: dict[str | int, Node] = {"before": _adjusted(before, x, self)}
        conv, norm = (f"{kind}_{layer}_1_{block}" for layer in ("conv", "bn"))
        x = through(x, _relu(self.names), _conv(self.filters, conv), _norm(norm))
        values["x"] = x
        if kind == "reduction":
            values["padded"] = padded_to_halve(x, 3, f"reduction_pad_1_{block}")
        for number, (left, right, name) in enumerate(CELLS[kind], 1):
            terms = [self.term(values, left), self.term(values, right)]
            add = layers.Add(name=name and f"{kind}_{name}_{block}")
            values[number] = add(terms)
        outputs = [values[key] for key in OUTPUTS[kind]]
        return through(outputs, layers.Concatenate(name=f"{kind}_concat_{block}"))

    def term(self, values: dict[str | int, Node], term: Term) -> Node:
        operation, window, inputs, name = term
        x, name = values[inputs], f"{self.kind}_{name}_{self.block}"
        if operation == "same":
            return x
        if operation in POOLINGS:
            return through(x, POOLINGS[operation].replace(name=name))
        return _separable(x, window, name, self, strides=1 + operation.endswith("/2"))


def _relu(names: Names) -> Layer:
    return relu(names.new("activation"))


def _norm(name: str) -> Layer:
    return normalization(name, momentum=0.9997)


def _separable(x: Node, window: int, name: str, cell: _Cell, strides: int) -> Node:
    """Two separable convolutions, each after relu and before batch normalization."""
    x = through(x, _relu(cell.names))
    padding = "same"
    if strides == 2:
        padding = "valid"
        x = padded_to_halve(x, window, f"separable_conv_1_pad_{name}")
    for number in (1, 2):
        prefix = f"separable_conv_{number}_"
        conv = layers.SeparableConv2D(
            cell.filters, window, strides, padding, use_bias=False, name=prefix + name
        )
        x = through(x, conv, _norm(f"{prefix}bn_{name}"))
        if number == 1:
            x = through(x, _relu(cell.names))
        strides, padding = 1, "same"
    return x


def _adjusted(before: Node | None, x: Node, cell: _Cell) -> Node:
    """The inputs of the cell before, in the size of `x` and with the channels of the cell."""
    block = cell.block
    if before is None:
        return x
    if before.shape[-2] != x.shape[-2]:
        before = through(before, relu(f"adjust_relu_1_{block}"))
        pad = layers.ZeroPadding2D(((0, 1), (0, 1)))
        shifted = through(before, pad, layers.Cropping2D(((1, 0), (1, 0))))
        halves = []
        for number, y in enumerate((before, shifted), 1):
            name = f"adjust_avg_pool_{number}_{block}"
            conv = _conv(cell.filters // 2, f"adjust_conv_{number}_{block}")
            halves.append(through(y, layers.AveragePooling2D(1, 2, name=name), conv))
        before = layers.Concatenate()(halves)
    elif before.shape[-1] != cell.filters:
        conv = _conv(cell.filters, f"adjust_conv_projection_{block}")
        before = through(before, _relu(cell.names), conv)
    else:
        return before
    return through(before, _norm(f"adjust_bn_{block}"))


def _published(size: str, pixels: int) -> Published:
    name = f"nasnet_{size.lower()}"
    remotes = files("nasnet", name, "_no_top", f"NASNet-{size.lower()}")
    return Published(f"NASNet{size}", name, *remotes, pixels, channels_first=False)


NASNetLarge = _nasnet(_published("Large", 331), _Design(168, 6, 96, True))
NASNetMobile = _nasnet(_published("Mobile", 224), _Design(44, 4, 32, False))
