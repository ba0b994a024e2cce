"""Visualization: what the figures show, read back from them."""

import builtins
from types import SimpleNamespace

import numpy as np
import pytest

import fnn
import fnn.visualization as visualization
from fnn.visualization import figures, images

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
    assert panels["Accuracy"].get_ylabel() == ""  # the title says it


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
    given = rng.random((3, 5, 4))
    probabilities = np.array([[0.9, 0.1], [0.3, 0.7], [0.6, 0.4]])
    figure = visualization.plot_predictions(given[..., None], [0, 1, 1], probabilities)
    axes = figure.axes
    assert [a.get_title() for a in axes] == ["0", "1", "0, is 1"]
    assert [a.get_xlabel() for a in axes] == ["90%", "70%", "60%"]
    assert [a.title.get_color() for a in axes] == ["black", "black", figures.WRONG_COLOR]
    assert "2 of 3 right" in figure.get_suptitle()
    drawn = np.squeeze(axes[2].images[0].get_array())
    np.testing.assert_allclose(drawn, (given[2] - given.min()) / np.ptp(given), atol=1e-6)


@pytest.mark.slow
def test_many_images_are_counted_but_not_all_drawn():
    figure = visualization.plot_predictions(np.zeros((50, 4, 4)), np.eye(50), np.arange(50))
    assert len(figure.axes) == images.MOST_IMAGES
    assert "50 of 50 right" in figure.get_suptitle()


@pytest.mark.parametrize(
    ("shape", "labels"), [((3, 4, 4), 2), ((0, 4, 4), 0), ((3, 16), 3), ((3, 4, 4), 3)]
)
def test_images_that_do_not_fit_their_labels_are_an_error(shape, labels):
    predicted = labels if shape == (3, 16) or not labels else labels - 1
    with pytest.raises(ValueError, match=r"expected images .n, height, width. with n labels"):
        visualization.plot_predictions(np.zeros(shape), np.zeros(labels), np.zeros(predicted))


def test_a_model_among_the_arrays_is_an_error_with_the_call_to_make():
    model = fnn.Sequential([fnn.layers.Flatten(input_shape=(4, 4)), fnn.layers.Dense(2)], name="m")
    x, labels = np.zeros((3, 4, 4)), np.zeros(3)
    for given in ((model, x, labels), (x, labels, model), (x, model, labels)):
        with pytest.raises(TypeError, match=r"the model 'm' as .*\(images, labels, model\.predict"):
            visualization.plot_predictions(*given)


@pytest.mark.parametrize("classes", [2, 10, 30])
def test_a_confusion_matrix_counts_as_scikit_learn_does(classes):
    rng = np.random.default_rng(0)
    labels, predicted = rng.integers(0, classes, 300), rng.integers(0, classes, 300)
    metrics = pytest.importorskip("sklearn.metrics")
    expected = metrics.confusion_matrix(labels, predicted, labels=range(classes))
    one_hot = np.eye(classes)[predicted]
    for given in (predicted, one_hot):
        (axes,) = visualization.plot_confusion_matrix(labels, given).axes
        fractions = expected / expected.sum(1, keepdims=True)
        np.testing.assert_allclose(np.asarray(axes.images[0].get_array()), fractions)
        written = [int(text.get_text()) for text in axes.texts]
        assert written == (expected.ravel().tolist() if classes <= 20 else [])
        assert axes.get_title() == f"{np.trace(expected)} of 300 right"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted class", "true class")


def test_a_confusion_matrix_shows_names_of_classes_without_examples_too():
    names = ["cat", "dog", "bird"]
    (axes,) = visualization.plot_confusion_matrix([0, 1], [0, 1], names).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == names
    assert len(axes.texts) == 9


@pytest.mark.parametrize(
    ("labels", "predicted"), [([], []), ([0, 1], [0]), ([0.5], [1]), ([-1], [0])]
)
def test_no_classes_are_an_error(labels, predicted):
    with pytest.raises(ValueError, match="expected n classes from 0 and n predictions"):
        visualization.plot_confusion_matrix(labels, predicted)


def test_a_model_in_a_confusion_matrix_is_an_error():
    model = fnn.Sequential([fnn.layers.Dense(2)], name="m")
    with pytest.raises(TypeError, match=r"call plot_confusion_matrix\(labels, model.predict"):
        visualization.plot_confusion_matrix([0], model)


def test_weights_have_a_histogram_each():
    rng = np.random.default_rng(0)
    kernel = rng.normal(1, 2, (30, 20))
    tree = {"dense": {"kernel": kernel, "bias": np.array([np.nan, 1.0, 2.0])}}
    first, second = visualization.plot_weights(tree).axes
    assert first.get_title() == "dense/kernel"
    assert second.get_title() == "dense/bias\n1 not finite"
    heights = [bar.get_height() for bar in first.patches]
    np.testing.assert_array_equal(heights, np.histogram(kernel, len(heights))[0])
    assert first.get_xlabel() == f"{kernel.mean():.3g} ± {kernel.std():.3g}"
    model = fnn.Sequential([fnn.layers.Dense(2, input_shape=(3,))])
    drawn = visualization.plot_weights(model)
    assert [axes.get_title() for axes in drawn.axes] == ["dense/kernel", "dense/bias"]
    with pytest.raises(ValueError, match="expected a model or a tree of arrays"):
        visualization.plot_weights({})


def test_a_map_lies_over_its_image():
    pictures, maps = np.random.default_rng(0).random((2, 2, 6, 8))
    figure = visualization.plot_heatmaps(pictures, maps[:, :3, :4], ["a", "b"])
    assert [axes.get_title() for axes in figure.axes] == ["a", "b"]
    picture, over = figure.axes[1].images
    assert over.get_extent() == picture.get_extent() == [-0.5, 7.5, 5.5, -0.5]
    np.testing.assert_allclose(np.asarray(over.get_array()), maps[1, :3, :4])
    signed = np.stack([maps[..., :] - 2, maps * 0], axis=-1)  # the entry of the largest size
    over = visualization.plot_heatmaps(pictures[..., None], signed).axes[0].images[1]
    np.testing.assert_allclose(np.asarray(over.get_array()), maps[0] - 2)
    assert over.get_clim() == (-abs(maps[0] - 2).max(), abs(maps[0] - 2).max())
    with pytest.raises(ValueError, match=r"expected images .* with n maps"):
        visualization.plot_heatmaps(pictures, maps[:1])


LONG = ["a class with a very long name", "T-shirt/top"]


def drawings():
    """Each plot, with labels as long as may be."""
    rng = np.random.default_rng(0)
    pictures = rng.random((9, 8, 8))
    names = np.array(LONG)[rng.integers(0, 2, 9)]
    labels = rng.integers(0, 2, 50)
    curves = {"loss": [1.0, 0.5], "top_k_categorical_accuracy_of_a_head": [0.1, 0.2], "mae": [1, 2]}
    weights = {"encoder_block_7": {"multi_head_attention": {"query": {"kernel": rng.random(99)}}}}
    return {
        "history": lambda: visualization.plot_history(curves),
        "predictions": lambda: visualization.plot_predictions(pictures, names, names[::-1]),
        "heatmaps": lambda: visualization.plot_heatmaps(pictures, pictures, list(names)),
        "confusion": lambda: visualization.plot_confusion_matrix(labels, labels[::-1], LONG),
        "weights": lambda: visualization.plot_weights(dict.fromkeys("abcd", weights)),
    }


@pytest.mark.slow
@pytest.mark.parametrize("style", ["default", "dark_background"])
@pytest.mark.parametrize("name", drawings())
def test_nothing_is_clipped_and_all_can_be_read_in_light_and_dark(name, style):
    from matplotlib import pyplot
    from matplotlib.colors import to_rgb
    from matplotlib.text import Text

    with pyplot.style.context(style):
        figure = drawings()[name]()
        figure.draw_without_rendering()
        assert figure.get_size_inches()[0] <= figures.WIDEST
        drawn, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
        assert min(drawn.x0, drawn.y0) > -0.02
        assert max(drawn.x1 - width, drawn.y1 - height) < 0.02
        paper = np.mean(to_rgb(figure.get_facecolor()))
        for text in figure.findobj(Text):
            inside = any(text in axes.texts for axes in figure.axes)  # on a cell of a matrix
            assert inside or abs(np.mean(to_rgb(text.get_color())) - paper) > 0.35, text


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_without_matplotlib_the_error_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def without(name, *rest, **named):
        if name.partition(".")[0] == "matplotlib":
            raise ImportError(f"No module named {name!r}")
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r'pip install "matplotlib", or pip install "\.\[plot\]"'):
        visualization.plot_history({"loss": [1.0]})
