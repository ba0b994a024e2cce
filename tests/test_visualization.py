"""Visualization: what the figures show, read back from them."""

import builtins
from types import SimpleNamespace

import numpy as np
import pytest

import fnn
import fnn.visualization as visualization

CURVES = {
    "accuracy": [0.5, 0.8, 0.9, 0.92],
    "loss": [1.0, 0.5, 0.3, 0.2],
    "val_accuracy": [0.6, 0.85],
    "val_loss": [0.9, 0.6],
    "learning_rate": [1e-3, 1e-3, 1e-4, 1e-4],
}


def lines(axes):
    return {line.get_label(): line.get_xydata().tolist() for line in axes.lines}


def test_each_metric_has_a_panel_with_both_curves():
    figure = visualization.plot_history(SimpleNamespace(history=CURVES, epoch=[0, 1, 2, 3]))
    panels = {axes.get_title(): axes for axes in figure.axes}
    assert list(panels) == ["Loss", "Accuracy", "Learning rate"]
    assert lines(panels["Loss"]) == {
        "training": [[1, 1.0], [2, 0.5], [3, 0.3], [4, 0.2]],
        "validation": [[2, 0.9], [4, 0.6]],  # validation_freq=2
    }
    assert list(lines(panels["Learning rate"])) == ["training"]
    assert panels["Accuracy"].get_xlabel() == "epoch"
    assert panels["Accuracy"].get_ylabel() == "accuracy"


def test_a_fit_that_went_on_keeps_its_epochs():
    history = SimpleNamespace(history={"loss": [0.5, 0.4]}, epoch=[7, 8])
    (axes,) = visualization.plot_history(history).axes
    assert lines(axes)["training"] == [[8, 0.5], [9, 0.4]]


def test_validation_without_training_has_its_own_panel():
    (axes,) = visualization.plot_history({"val_f1": [0.5]}).axes
    assert lines(axes) == {"validation": [[1, 0.5]]}


@pytest.mark.parametrize("history", [{}, {"loss": []}, SimpleNamespace(history={})])
def test_no_epoch_is_an_error(history):
    with pytest.raises(ValueError, match="expected a history with at least one epoch"):
        visualization.plot_history(history)


def test_wrong_predictions_are_marked_and_counted():
    rng = np.random.default_rng(0)
    images = rng.random((3, 5, 4))
    probabilities = np.array([[0.9, 0.1], [0.3, 0.7], [0.6, 0.4]])
    figure = visualization.plot_predictions(images[..., None], [0, 1, 1], probabilities)
    axes = figure.axes
    assert [a.get_title() for a in axes] == ["0", "1", "0, is 1"]
    assert [a.get_xlabel() for a in axes] == ["90%", "70%", "60%"]
    assert [a.title.get_color() for a in axes] == ["black", "black", visualization.WRONG_COLOR]
    assert "2 of 3 right" in figure.get_suptitle()
    drawn = np.squeeze(axes[2].images[0].get_array())
    np.testing.assert_allclose(drawn, (images[2] - images.min()) / np.ptp(images), atol=1e-6)


def test_many_images_are_counted_but_not_all_drawn():
    figure = visualization.plot_predictions(np.zeros((50, 4, 4)), np.eye(50), np.arange(50))
    assert len(figure.axes) == visualization.MOST_IMAGES
    assert "50 of 50 right" in figure.get_suptitle()


@pytest.mark.parametrize(
    ("images", "labels"), [((3, 4, 4), 2), ((0, 4, 4), 0), ((3, 16), 3), ((3, 4, 4), 3)]
)
def test_images_that_do_not_fit_their_labels_are_an_error(images, labels):
    predicted = labels if images == (3, 16) or not labels else labels - 1
    with pytest.raises(ValueError, match=r"expected images .n, height, width. with n labels"):
        visualization.plot_predictions(np.zeros(images), np.zeros(labels), np.zeros(predicted))


def test_a_model_among_the_arrays_is_an_error_with_the_call_to_make():
    model = fnn.Sequential([fnn.layers.Flatten(input_shape=(4, 4)), fnn.layers.Dense(2)], name="m")
    images, labels = np.zeros((3, 4, 4)), np.zeros(3)
    for given in ((model, images, labels), (images, labels, model), (images, model, labels)):
        with pytest.raises(TypeError, match=r"the model 'm' as .*\(images, labels, model\.predict"):
            visualization.plot_predictions(*given)


def test_figures_are_saved_and_do_not_pile_up(tmp_path):
    from matplotlib import pyplot
    from matplotlib.image import imread

    for name, draw in {
        "history": lambda path: visualization.plot_history(CURVES, path),
        "digits": lambda path: visualization.plot_predictions(
            np.zeros((9, 8, 8)), [1] * 9, [1] * 9, path
        ),
    }.items():
        draw(tmp_path / f"{name}.png")
        picture = imread(tmp_path / f"{name}.png")
        assert min(picture.shape[:2]) > 300
        assert picture[..., :3].std() > 0.01  # something is drawn
    assert pyplot.get_fignums() == []


def test_both_draw_into_one_picture(tmp_path):
    from matplotlib.figure import Figure

    whole = Figure(figsize=(6, 6), layout="constrained")
    top, bottom = whole.subfigures(2, 1)
    assert visualization.plot_history(CURVES, figure=top) is top
    visualization.plot_predictions(
        np.zeros((9, 8, 8)), [1] * 9, [1] * 9, tmp_path / "both.png", figure=bottom
    )
    assert (len(top.axes), len(bottom.axes)) == (3, 9)
    assert (tmp_path / "both.png").exists()


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def without(name, *rest, **named):
        if name.partition(".")[0] == "matplotlib":
            raise ImportError(f"No module named {name!r}")
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r'pip install "matplotlib", or pip install "\.\[plot\]"'):
        visualization.plot_history({"loss": [1.0]})
