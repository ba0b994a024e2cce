"""What a notebook shows: models, layers and weights as trees, summaries, curves, one bar."""

import re
import sys
from html.parser import HTMLParser
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn.core import tree
from fnn.layers import (
    BatchNormalization,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    Input,
    Residual,
    Sequential,
)
from fnn.summaries import size
from fnn.training.history import History
from fnn.training.progress import Progress


class Reader(HTMLParser):
    """The lines of a folding tree: (how deep, cells), and whether all tags are closed."""

    VOID = ("br",)

    def __init__(self, html):
        super().__init__()
        self.open, self.lines, self.cells, self.tags = [], [], None, []
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        kind = dict(attributes).get("class", "")
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "summary" or kind == "fnn-line":
            depth = self.open.count("details") - (tag == "summary")
            self.cells = []
            self.lines.append((depth, self.cells))
        elif tag == "span" and self.cells is not None:
            self.cells.append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        if tag in ("summary", "div"):
            self.cells = None

    def handle_data(self, data):
        if self.open and self.open[-1] == "span":
            self.cells[-1] += data


def lines(html):
    return [(depth, *cells) for depth, cells in Reader(html).lines]


def model():
    x = Input((6, 6, 1), name="image")
    encoder = fnn.Sequential([Conv2D(2, 3), BatchNormalization()], name="encoder")
    y = Dense(3, "softmax", name="classes")(Dropout(0.5)(Flatten()(encoder(x))))
    return fnn.Model(x, y, name="digits")


def test_a_model_is_a_tree_with_shapes_parameters_and_bytes():
    assert lines(model()._repr_html_()) == [
        (0, "digits (Model)", "123 trainable", "127", "508.00 B"),
        (1, "image (Input)", "(None, 6, 6, 1)", "0", ""),
        (1, "encoder (Sequential)", "(None, 4, 4, 2)", "28", "112.00 B"),
        (2, "conv2d (Conv2D)", "(None, 4, 4, 2)", "20", "80.00 B"),
        (3, "kernel", "float32[3, 3, 1, 2]", "18", "72.00 B"),
        (3, "bias", "float32[2]", "2", "8.00 B"),
        (2, "batch_normalization (BatchNormalization)", "(None, 4, 4, 2)", "8", "32.00 B"),
        (3, "gamma", "float32[2]", "2", "8.00 B"),
        (3, "beta", "float32[2]", "2", "8.00 B"),
        (3, "moving_mean", "float32[2]", "2", "8.00 B"),
        (3, "moving_variance", "float32[2]", "2", "8.00 B"),
        (1, "flatten (Flatten)", "(None, 32)", "0", ""),
        (1, "dropout (Dropout)", "(None, 32)", "0", ""),
        (1, "classes (Dense)", "(None, 3)", "99", "396.00 B"),
        (2, "kernel", "float32[32, 3]", "96", "384.00 B"),
        (2, "bias", "float32[3]", "3", "12.00 B"),
    ]


@pytest.mark.slow
def test_names_are_escaped_and_no_file_is_loaded():
    evil = "<script>alert(1)</script>"
    evil = evil.replace("/", "&")  # a name has no slash
    made = fnn.Sequential([Dense(2, input_shape=(3,), name=evil)], name='"><img src=x>')
    history = History()
    for epoch in range(3):
        history.record(epoch, {evil: 0.5})
    shown = [made._repr_html_(), made.layers[0]._repr_html_(), fnn.show(made.params)._repr_html_()]
    for html in (*shown, history._repr_html_()):
        tags = Reader(html).tags if "<svg" not in html else re.findall(r"<(\w+)", html)
        names = {tag if isinstance(tag, str) else tag[0] for tag in tags}
        assert not names & {"script", "img", "link", "iframe", "image"}
        assert "&lt;script&gt;" in html
        assert not re.search(r"""(src|href)=["'](?!#)|url\((?!#)|@import""", html)


def test_a_layer_shows_what_is_known_of_it():
    assert lines(Dense(3, "relu")._repr_html_()) == [(0, "dense (Dense)", "", "", "")]
    assert "Dense(units=3, activation=&#x27;relu&#x27;)" in Dense(3, "relu")._repr_html_()
    block = Residual(Sequential([Dense(4), Dense(4)]))
    assert [line[:2] for line in lines(block._repr_html_())] == [
        (0, "residual (Residual)"),
        (1, "dense (Dense)"),
        (1, "dense_1 (Dense)"),
    ]
    with_shape = lines(Dense(3, input_shape=(4,))._repr_html_())
    assert with_shape[0] == (0, "dense (Dense)", "(None, 3)", "15", "60.00 B")
    whole = model()
    inside = whole.get_layer("classes")
    assert lines(inside._repr_html_())[0] == (0, "classes (Dense)", "(None, 3)", "99", "396.00 B")


def test_models_that_are_not_built_and_classes_with_call():
    unknown = fnn.Sequential([Dense(3), Dense(1)], name="later")
    assert lines(unknown._repr_html_())[0] == (0, "later (Sequential)", "?", "not built", "")

    class Net(fnn.Model):
        def __init__(self):
            super().__init__()
            self.hidden = Dense(4)

        def call(self, x):
            return self.hidden(x)

    net = Net()
    net.build((None, 3))
    assert lines(net._repr_html_())[:2] == [
        (0, "net (Net)", "16 trainable", "16", "64.00 B"),
        (1, "hidden (Dense)", "(None, 4)", "16", "64.00 B"),
    ]


def test_a_layer_of_the_core_alone_answers_without_html_of_others():
    assert callable(Dense(2)._repr_html_)
    assert getattr(Dense(2), "_repr_png_", None) is None


def test_show_is_a_tree_of_shapes():
    made = model()
    made.compile("adam", "mse")
    for given in (made.params, made.train_state, {"a": [1, jnp.ones(2)], "b": None}):
        page = fnn.show(given)
        arrays = [leaf for leaf in jax.tree.leaves(given) if hasattr(leaf, "shape")]
        top, *rest = lines(page._repr_html_())
        assert top[3:] == (f"{tree.count(arrays):,}", size(tree.nbytes(arrays)))
        assert len(rest) >= len(arrays)
        assert len(repr(page).splitlines()) == len(rest) + 1
    first = lines(fnn.show(made.params)._repr_html_())[1:3]
    assert first == [
        (1, "encoder", "", "24", "96.00 B"),
        (2, "conv2d", "", "20", "80.00 B"),
    ]
    assert repr(fnn.show(made)) == repr(made)
    assert fnn.show(jnp.array(0.5)).text.split() == [
        "array",
        "float32[]",
        "=",
        "0.5",
        "1",
        "4.00",
        "B",
    ]


# -- in a kernel ---------------------------------------------------------------------------------


class Kernel:
    """Stands for IPython with a kernel: notes what is displayed, and its updates."""

    def __init__(self, monkeypatch):
        self.outputs, self.updates = [], 0
        shell = SimpleNamespace(kernel=object())
        display = SimpleNamespace(display=self.display)
        module = SimpleNamespace(get_ipython=lambda: shell, display=display)
        monkeypatch.setitem(sys.modules, "IPython", module)

    def display(self, page, display_id=None):
        place = len(self.outputs)
        self.outputs.append(page)

        def update(page):
            self.updates += 1
            self.outputs[place] = page

        return SimpleNamespace(update=update)


def test_a_summary_is_a_table_in_a_notebook(monkeypatch, capsys):
    printed = []
    model().summary(print_fn=printed.append, show_trainable=True)
    kernel = Kernel(monkeypatch)
    model().summary(show_trainable=True)
    (page,) = kernel.outputs
    assert capsys.readouterr().out == ""
    assert sorted(page.text.split()) == sorted(printed[0].split())
    rows = re.findall(r"<tr>(.*?)</tr>", page.html)
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in rows]
    assert cells[0] == ["Layer (type)", "Output Shape", "Param #", "Trainable"]
    assert cells[2] == ["encoder (Sequential)", "(None, 4, 4, 2)", "28", "Y"]
    assert "Total params: 127 (508.00 B)" in page.html
    model().summary(line_length=80)  # asks for lines of text
    assert len(kernel.outputs) == 1
    assert "┌" in capsys.readouterr().out


@pytest.mark.slow
def test_a_fit_in_a_notebook_is_one_line(monkeypatch, capsys):
    kernel = Kernel(monkeypatch)
    x = np.zeros((64, 3), "float32")
    made = fnn.Sequential([Dense(1, input_shape=(3,))], seed=0)
    made.compile("sgd", "mse")
    made.fit(x, x[:, :1], epochs=30, verbose=1)
    assert capsys.readouterr().out == ""
    (page,) = kernel.outputs
    assert page.text.startswith("Epoch 30/30  2/2 ━━━━━━━━━━━━━━━━━━━━ ")
    assert "loss: 0.0000" in page.text
    made.evaluate(x, x[:, :1], verbose=1)
    made.predict(x, verbose=1)
    assert [page.text[:4] for page in kernel.outputs] == ["Epoc", "2/2 ", "2/2 "]
    made.fit(x, x[:, :1], epochs=2, verbose=2)
    assert capsys.readouterr().out.count("Epoch") == 2
    assert len(kernel.outputs) == 3


def test_an_early_end_leaves_the_last_epoch_shown(monkeypatch):
    kernel = Kernel(monkeypatch)
    x = np.zeros((8, 3), "float32")
    made = fnn.Sequential([Dense(1, input_shape=(3,))], seed=0)
    made.compile("sgd", "mse")

    def stop(epoch, logs):
        made.stop_training = epoch == 4

    callback = fnn.callbacks.LambdaCallback(on_epoch_end=stop)
    made.fit(x, x[:, :1], epochs=50, callbacks=[callback], verbose=1)
    assert [page.text[:12] for page in kernel.outputs] == ["Epoch 5/50  "]


def test_a_front_end_that_is_gone_stops_no_training(monkeypatch):
    kernel = Kernel(monkeypatch)
    monkeypatch.setattr(kernel, "display", lambda *a, **k: 1 / 0)
    sys.modules["IPython"].display.display = kernel.display
    shown = Progress(1, 4)
    shown.begin()
    shown.end(4, {"loss": 0.5})


def test_a_history_shows_its_curves():
    history = History()
    for epoch in range(4):
        history.record(epoch, {"loss": 1 / (epoch + 1), "val_loss": 1.0})
    html = history._repr_html_()
    assert "History of 4 epochs: loss=0.25" in html
    assert html.count("<svg") == 1
    assert "currentColor" in html
    assert "#0a0b0c" not in html
    assert not re.search(r"#000000|#ffffff|fill: ?white", html)  # of no theme of its own
    titles = [axes.get_title() for axes in history.plot().axes]
    assert titles == ["Loss"]


def test_a_history_without_epochs_or_matplotlib_shows_numbers(monkeypatch):
    assert History()._repr_html_() == "<div>History of 0 epochs: </div>"
    history = History()
    for epoch in range(2):
        history.record(epoch, {"loss": 0.5})
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert history._repr_html_() == "<div>History of 2 epochs: loss=0.5</div>"


def test_a_picture_of_a_model_has_shapes_and_names(tmp_path):
    made = model()
    picture = made.plot(tmp_path / "digits.svg")
    assert "classes (Dense)" in picture.svg
    assert "Output shape: (None, 3)" in picture.svg
    assert (tmp_path / "digits.svg").read_text() == picture.svg
    with pytest.raises(ValueError, match="to know its input shape"):
        fnn.Sequential([Dense(2)]).plot()
