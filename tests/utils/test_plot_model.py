"""Pictures of models: the same boxes and arrows as Keras's, placed without overlaps."""

import itertools
import re
import xml.etree.ElementTree as ElementTree

import keras
import numpy as np
import pytest
from keras.src.utils import model_visualization

import fnn
from fnn.utils import model_to_dot, plot_model
from fnn.utils.plots.graph import ENTRY, EXIT, Box, End, Group
from fnn.utils.plots.layout import Frame, Sizes, layout_of
from fnn.utils.plots.spots import Link, Spot, _count_of_crossings, crossing_pairs, places_in
from tests.helpers.oracle import keras_rules

SHOWN = {
    "show_shapes": True,
    "show_dtype": True,
    "show_layer_names": True,
    "show_layer_activations": True,
    "show_trainable": True,
}


def chain(k):
    layers = k.layers
    return k.Sequential(
        [
            k.Input((6, 6, 1)),
            layers.Conv2D(2, 3, activation="relu", name="convolution"),
            layers.Flatten(name="flat"),
            layers.Dense(3, activation="softmax", name="classes"),
        ]
    )


def branches(k):
    layers = k.layers
    x, tags = k.Input((8,), name="x"), k.Input((3,), name="tags")
    hidden = layers.Dense(8, activation="relu", name="hidden")(x)
    shared = layers.Dense(8, name="shared")
    total = layers.Add(name="total")([x, shared(hidden), shared(x)])
    joined = layers.Concatenate(name="joined")([total, tags])
    first = layers.Dense(1, activation="sigmoid", name="first")(joined)
    return k.Model([x, tags], [first, layers.Dense(2, name="second")(joined)])


def nested(k):
    layers = k.layers
    encoder = k.Sequential([k.Input((4,)), layers.Dense(3, name="inner")], name="encoder")
    a, b = k.Input((3,), name="a"), k.Input((3,), name="b")
    mixed = layers.Multiply(name="product")([a, b])
    mixer = k.Model([a, b], [layers.Add(name="sum")([a, mixed]), mixed], name="mixer")
    x, y = k.Input((4,), name="x"), k.Input((4,), name="y")
    first, second = mixer([encoder(x), encoder(y)])
    last = layers.Dense(1, name="last")(first)
    return k.Model([x, y], [last, layers.Dense(2, name="other")(second)])


class FakePydot:
    """What Keras needs of pydot, which may not be installed: it records nodes and edges."""

    class Dot:
        def __init__(self, **_):
            self.nodes, self.edges, self.parts = {}, set(), []

        def set(self, *_):
            pass

        set_node_defaults = set_label = lambda self, **_: None

        def add_node(self, node):
            self.nodes[node.name] = node.label

        def get_edge(self, start, end):
            return (start, end) in self.edges

        def add_edge(self, edge):
            self.edges.add(edge.ends)

        def add_subgraph(self, part):
            self.parts.append(part)

        def all(self):
            nodes, edges = dict(self.nodes), set(self.edges)
            for part in self.parts:
                more, others = part.all()
                nodes |= more
                edges |= others
            return nodes, edges

    Cluster = Dot

    class Node:
        def __init__(self, name, label):
            self.name, self.label = name, label

        def set(self, *_):
            pass

    class Edge(Node):
        def __init__(self, start, end):
            self.ends = (start, end)


def cells(label):
    """The texts of a label, without what only places them."""
    rows = re.findall(r"<td.*?>(.*?)</td>", label)
    return tuple(re.sub("<.*?>", "", row) for row in rows)


def of_keras(build, monkeypatch, **shown):
    """(the cells of each box, the arrows between titles), as Keras has them."""
    monkeypatch.setattr(model_visualization, "pydot", FakePydot)
    with keras_rules():
        dot = model_visualization.model_to_dot(build(keras), **shown)
    nodes, edges = dot.all()
    labels = {name: cells(label) for name, label in nodes.items()}
    return sorted(labels.values()), {(labels[a][0], labels[b][0]) for a, b in edges}


def of_fnn(build, **shown):
    source = str(model_to_dot(build(fnn), **shown))
    labels = {name: cells(label) for name, label in re.findall(r"(n\d+) \[label=<(.*)>\];", source)}
    edges = re.findall(r"(n\d+) -> (n\d+);", source)
    return sorted(labels.values()), {(labels[a][0], labels[b][0]) for a, b in edges}


@pytest.mark.slow
@pytest.mark.parametrize("build", [chain, branches, nested])
def test_boxes_and_arrows_are_those_of_keras(build, monkeypatch):
    shown = {**SHOWN, "expand_nested": True}
    boxes, arrows = of_fnn(build, **shown)
    expected, expected_arrows = of_keras(build, monkeypatch, **shown)
    assert boxes == expected
    assert arrows == expected_arrows


def test_frozen_layers_are_marked():
    model = chain(fnn)
    model.freeze("convolution")
    boxes = {box[0]: box[-1] for box in of_fnn(lambda _: model, **SHOWN)[0]}
    assert boxes["convolution (Conv2D)"] == "Non-trainable"
    assert boxes["classes (Dense)"] == "Trainable"
    assert boxes["flat (Flatten)"] == "Output dtype: float32"


# -- the layout ----------------------------------------------------------------------------------


class Fixed(Sizes):
    def box(self, box):
        return (40.0 + 7 * len(box.name), 20.0)

    def frame(self, group):
        return Frame(before=16, left=8, right=8, title=60)


def box(name):
    return Box(name, "Dense", (None, 1), (None, 1), "float32")


def random_group(rng, nested=True):
    """A graph of some layers, each with inputs among those before it."""
    group = Group("random")
    count = int(rng.integers(3, 14))
    for i in range(count):
        is_group = nested and i and rng.random() < 0.25
        name = f"m{i}" * int(rng.integers(1, 5))
        group.members[f"{i}"] = random_group(rng, False) if is_group else box(name)
    for i in range(count):
        for j in rng.choice(i, min(i, int(rng.integers(1, 4))), replace=False) if i else ():
            group.add_arrow(End(str(j)), End(str(i)))
    if not nested:
        group.add_arrow(End(ENTRY), End("0"))
        group.add_arrow(End(str(count - 1)), End(EXIT))
    return group


def rectangle(place):
    return place.across, place.along, place.across + place.width, place.along + place.height


def overlap(one, other):
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def contains(outer, inner):
    return (
        outer[0] <= inner[0]
        and outer[1] <= inner[1]
        and inner[2] <= outer[2]
        and inner[3] <= outer[3]
    )


def points_of(curve):
    """Points on an arrow as it is drawn: curved where it goes across, straight elsewhere."""
    for (x0, y0), (x1, y1) in itertools.pairwise(curve.points):
        for t in np.linspace(0, 1, 9):
            middle = (y0 + y1) / 2
            controls = np.array([[x0, y0], [x0, middle], [x1, middle], [x1, y1]])
            weights = [(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3]
            yield weights @ controls


@pytest.mark.parametrize("seed", range(12))
def test_nothing_overlaps(seed):
    layout = layout_of(random_group(np.random.default_rng(seed)), Fixed())
    whole = (-1e-6, -1e-6, layout.width + 1e-6, layout.height + 1e-6)
    rectangles = [rectangle(place) for place in layout.places]
    assert all(contains(whole, r) for r in rectangles)
    is_box = [isinstance(place.content, Box) for place in layout.places]
    for (i, one), (j, other) in itertools.combinations(enumerate(rectangles), 2):
        inside = contains(one, other) or contains(other, one)
        if inside and not (is_box[i] and is_box[j]):
            continue
        assert not overlap(one, other), (one, other)
    boxes = [r for r, is_one in zip(rectangles, is_box, strict=True) if is_one]
    for curve in layout.curves:
        for x, y in points_of(curve):
            assert -1e-6 <= x <= layout.width + 1e-6
            for left, top, right, bottom in boxes:
                inside = left + 0.1 < x < right - 0.1 and top + 0.1 < y < bottom - 0.1
                assert not inside, f"an arrow crosses a box at {x}, {y}"


def test_the_main_path_of_a_residual_block_is_straight():
    group = Group("residual", {name: box(name) for name in ("input", "a", "bb", "sum", "end")})
    for ends in (("input", "a"), ("a", "bb"), ("bb", "sum"), ("input", "sum"), ("sum", "end")):
        group.add_arrow(*map(End, ends))
    layout = layout_of(group, Fixed())
    centers = {place.across + place.width / 2 for place in layout.places}
    assert len(centers) == 1, "the boxes are in one column"
    tops = [place.along for place in layout.places]
    assert tops == sorted(tops)
    assert len(set(tops)) == 5


def test_branches_are_symmetric_and_do_not_cross():
    group = Group("tree", {name: box(name) for name in ("x", "a", "b", "c", "y")})
    for name in "abc":
        group.add_arrow(End("x"), End(name))
        group.add_arrow(End(name), End("y"))
    places = {p.content.name: p.across + p.width / 2 for p in layout_of(group, Fixed()).places}
    assert places["x"] == places["b"] == places["y"] == (places["a"] + places["c"]) / 2


def test_an_input_stands_next_to_its_use():
    group = Group("late", {name: box(name) for name in ("x", "late", "a", "b", "c")})
    for ends in (("x", "a"), ("a", "b"), ("b", "c"), ("late", "c")):
        group.add_arrow(*map(End, ends))
    tops = {place.content.name: place.along for place in layout_of(group, Fixed()).places}
    assert tops["late"] == tops["b"]


def test_a_layer_on_its_own_outputs_has_arrows_to_itself_and_back():
    x = fnn.Input((4,))
    one, other = fnn.layers.Dense(4, name="one"), fnn.layers.Dense(4, name="other")
    model = fnn.Model(x, one(other(one(one(x)))))
    boxes, arrows = of_fnn(lambda _: model, show_layer_names=True)
    one, other = "one (Dense)", "other (Dense)"
    assert len(boxes) == 3
    assert {(one, one), (one, other), (other, one)} < arrows
    assert plot_model(model, None).svg.count("<path") == 4


def test_crossings_are_counted():
    rng = np.random.default_rng(0)
    layers = [[Spot(4.0, 0.0) for _ in range(6)] for _ in range(3)]
    for first, last in itertools.pairwise(layers):
        for start, end in itertools.product(first, last):
            if rng.random() < 0.4:
                link = Link(start, end)
                start.after.append(link)
                end.before.append(link)
    expected = sum(
        (first.index(a.start) - first.index(b.start)) * (last.index(a.end) - last.index(b.end)) < 0
        for first, last in itertools.pairwise(layers)
        for a, b in itertools.combinations([k for spot in first for k in spot.after], 2)
    )
    assert _count_of_crossings(layers) == expected > 0
    places = places_in(layers)
    assert sum(len(list(crossing_pairs(layer, places))) for layer in layers) == expected


# -- files ---------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("rankdir", ["TB", "LR", "BT", "RL"])
def test_an_svg_holds_every_text_inside_its_page(rankdir, tmp_path):
    path = tmp_path / "model.svg"
    picture = plot_model(nested(fnn), path, rankdir=rankdir, expand_nested=True, **SHOWN)
    assert path.read_text() == picture.svg == picture._repr_svg_()
    root = ElementTree.fromstring(picture.svg)
    width, height = map(float, root.get("viewBox").split()[2:])
    texts = root.findall("{*}text")
    assert {"encoder", "mixer", "sum (Add)", "Trainable"} <= {text.text for text in texts}
    rectangles = root.findall("{*}rect")[1:]
    for rect in rectangles:
        x, y, wide, high = (float(rect.get(name)) for name in ("x", "y", "width", "height"))
        assert 0 <= x <= x + wide <= width
        assert 0 <= y <= y + high <= height
    frames = [rect for rect in rectangles if rect.get("stroke-dasharray")]
    assert len(frames) == 2


def test_text_fits_into_its_cell():
    """Widths as a drawing measures them, against those of the font."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    from fnn.utils.plots.drawing import text_width

    for text in ("Input shape: (None, 28, 28, 1)", "multi_head_attention (MultiHeadAttention)"):
        for weight in ("normal", "bold"):
            font = FontProperties(family="DejaVu Sans", weight=weight)
            real = TextPath((0, 0), text, size=10, prop=font).get_extents().width
            assert real <= text_width(text, 10, weight == "bold") + 2 <= 1.08 * real + 4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "start"), [("m.png", b"\x89PNG"), ("m.pdf", b"%PDF"), ("m", b"\x89PNG")]
)
def test_images_are_drawn_by_matplotlib(name, start, tmp_path):
    plot_model(chain(fnn), tmp_path / name, dpi=50)
    assert (tmp_path / name).read_bytes().startswith(start)


def test_dpi_is_the_resolution(tmp_path):
    from PIL import Image

    sizes = []
    for dpi in (50, 100):
        picture = plot_model(chain(fnn), tmp_path / "m.png", dpi=dpi)
        with Image.open(tmp_path / "m.png") as image:
            sizes.append(np.array(image.size))
    np.testing.assert_allclose(sizes[1], 2 * sizes[0], atol=2)
    np.testing.assert_allclose(
        sizes[1] / 100 * 72, [picture.drawing.width, picture.drawing.height], atol=2
    )


def test_dot_is_written_and_has_a_form_for_other_graphs(tmp_path):
    model = nested(fnn)
    plot_model(model, tmp_path / "m.dot", rankdir="LR", splines="curved", expand_nested=True)
    source = (tmp_path / "m.dot").read_text()
    assert source.startswith('digraph model {\nrankdir="LR"')
    assert source.count("subgraph cluster_") == 2
    assert source.count("{") == source.count("}")
    dot = model_to_dot(model, subgraph=True)
    assert dot.to_string() == str(dot)
    assert str(dot).startswith("subgraph cluster_0 {")
    dot.write(tmp_path / "part.gv")
    assert (tmp_path / "part.gv").read_text() == str(dot)


def test_errors_say_what_to_do():
    with pytest.raises(ValueError, match=r"know its input shape.*give input_shape"):
        plot_model(fnn.Sequential([fnn.layers.Dense(2)]), None)
    with pytest.raises(ValueError, match="rankdir among TB, LR, BT, RL, received 'UP'"):
        plot_model(chain(fnn), None, rankdir="UP")
    with pytest.raises(ValueError, match=r"splines among ortho, .*'zigzag'"):
        model_to_dot(chain(fnn), splines="zigzag")
