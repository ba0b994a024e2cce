"""Application: what the networks share: arguments, inputs, classifier, published weights."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Concatenate, NamedTuple, ParamSpec, Protocol, TypeAlias, TypeVar

from fnn import activations
from fnn.applications.imagenet_utils import CLASSES
from fnn.applications.published import Published
from fnn.core import arguments
from fnn.core.layer import Activation
from fnn.datasets.finding import file_of
from fnn.layers import (
    BatchNormalization,
    Dense,
    GlobalAveragePooling2D,
    GlobalMaxPooling2D,
)
from fnn.models import Model
from fnn.runtime.keras_objects import refuse_keras
from fnn.runtime.settings import settings
from fnn.runtime.warning import warn
from fnn.symbolic.node import Input, Node
from fnn.utils import get_source_inputs

Shape: TypeAlias = Sequence[int | None]
Weights: TypeAlias = str | os.PathLike[str] | None


class Arguments(NamedTuple):
    """The arguments of Keras that all networks have."""

    include_top: bool = True
    weights: Weights = "imagenet"
    input_tensor: Node | None = None
    input_shape: Shape | None = None
    pooling: str | None = None
    classes: int = CLASSES
    classifier_activation: Activation = "softmax"
    name: str | None = None

    @classmethod
    def among(cls, values: Mapping[str, Any]) -> Arguments:
        """Those among the arguments of a function, its `locals()`.

        >>> Arguments.among({"alpha": 0.5, "classes": 10}).classes
        10
        """
        return cls(**{name: values[name] for name in cls._fields if name in values})


class Application(Protocol):
    """A function that returns a network, with Keras's arguments."""

    def __call__(
        self,
        include_top: bool = True,
        weights: Weights = "imagenet",
        input_tensor: Node | None = None,
        input_shape: Shape | None = None,
        pooling: str | None = None,
        classes: int = CLASSES,
        classifier_activation: Activation = "softmax",
        name: str | None = ...,
    ) -> Model: ...


# Adds the layers between images and classifier, or a classifier.
Body: TypeAlias = Callable[[Node], Node]
Top: TypeAlias = Callable[[Node, Arguments], Node]


def channel_axis() -> int:
    """The axis of the channels of a batch of images, as `fnn.config` says.

    >>> channel_axis()
    3
    """
    return 1 if settings.channels_first else 3


def normalization(name: str | None = None, **given: Any) -> BatchNormalization:
    """A batch normalization of the channels.

    >>> normalization(epsilon=1e-5).axis
    3
    """
    return BatchNormalization(axis=channel_axis(), name=name, **given)


def classifier(x: Node, given: Arguments) -> Node:
    """The mean over the image and a dense layer, as most networks have it."""
    x = GlobalAveragePooling2D(name="avg_pool")(x)
    return predictions(x, given)


def predictions(x: Node, given: Arguments) -> Node:
    """The last dense layer of a classifier."""
    activation = given.classifier_activation
    y: Node = Dense(given.classes, activation=activation, name="predictions")(x)
    return y


def pooled(x: Node, given: Arguments) -> Node:
    """Without a classifier: one vector an image, or the features as they are."""
    return _pooled(x, given.pooling, None)


def pooled_by_name(x: Node, given: Arguments) -> Node:
    """As `pooled`, by layers with the names "avg_pool" and "max_pool"."""
    return _pooled(x, given.pooling, f"{given.pooling}_pool")


def _pooled(x: Node, pooling: str | None, name: str | None) -> Node:
    if pooling is None:
        return x
    kinds = {"avg": GlobalAveragePooling2D, "max": GlobalMaxPooling2D}
    y: Node = kinds[pooling](name=name)(x)
    return y


def application(
    facts: Published,
    body: Body,
    module: str,
    top: Top = classifier,
    without_top: Top = pooled,
    body_of_published: Body | None = None,
) -> Application:
    """The function of a network that has no other arguments than those of all.

    `module` is where users find it; `body` and the rest are as in `assembled`.
    `body_of_published` takes the place of `body` for Keras's published weights.

    >>> facts = fnn.applications.published.published("Tiny", "tiny", "tiny")
    >>> Tiny = application(facts, fnn.layers.Conv2D(4, 3, name="conv"), __name__)
    >>> model = Tiny(weights=None, classes=2, input_shape=(32, 32, 3))
    >>> model.name, [layer.name for layer in model.layers][1:]
    ('tiny', ['conv', 'avg_pool', 'predictions'])
    """

    def build(
        include_top: bool = True,
        weights: Weights = "imagenet",
        input_tensor: Node | None = None,
        input_shape: Shape | None = None,
        pooling: str | None = None,
        classes: int = CLASSES,
        classifier_activation: Activation = "softmax",
        name: str | None = facts.name,
    ) -> Model:
        given = Arguments.among(locals())
        chosen = body
        if weights == "imagenet" and body_of_published:
            chosen = body_of_published
        return assembled(given, facts, chosen, top, without_top)

    return introduced(build, facts, module)


Build = TypeVar("Build", bound=Callable[..., Model])
Given = ParamSpec("Given")
Design = TypeVar("Design")


def introduced(build: Build, facts: Published, module: str) -> Build:
    """`build` with the name and the docstring of a network of `module`.

    >>> facts = fnn.applications.published.published("Tiny", "tiny", "tiny")
    >>> introduced(lambda: fnn.Sequential([]), facts, __name__).__name__
    'Tiny'
    """
    build.__name__ = build.__qualname__ = facts.title
    build.__module__ = module
    build.__doc__ = documentation(facts)
    return build


def member(
    family: Callable[Concatenate[Published, Design, Given], Model],
    facts: Published,
    design: Design,
) -> Callable[Given, Model]:
    """The function of one network of a family: `family(facts, design, ...)`.

    `family` takes the arguments of Keras after these two; the default of its `name` is that of the
    network.

    >>> def family(facts, design, name=None): return fnn.Sequential([design], name=name)
    >>> facts = fnn.applications.published.published("Tiny", "tiny", "tiny")
    >>> Tiny = member(family, facts, fnn.layers.Dense(3))
    >>> inspect.signature(Tiny), Tiny().name
    (<Signature (name='tiny')>, 'tiny')
    """

    def build(*args: Given.args, **named: Given.kwargs) -> Model:
        bound = signature.bind(*args, **named)
        bound.apply_defaults()
        return family(facts, design, *bound.args, **bound.kwargs)

    own = list(inspect.signature(family).parameters.values())[2:]
    own[-1] = own[-1].replace(default=facts.name)
    signature = inspect.Signature(own)
    build.__signature__ = signature  # type: ignore[attr-defined]
    return introduced(build, facts, family.__module__)


def documentation(facts: Published) -> str:
    """The docstring of a network."""
    return f"""{facts.title}, with Keras's arguments, layers and weights.

    (batch, {facts.size}, {facts.size}, 3) -> (batch, 1000) with all defaults.
    `weights` is "imagenet" (Keras's published file, downloaded once and checked), the path of a
    file, or None for random ones. `include_top=False` leaves out the classifier; the outputs are
    then those of the last block, or with `pooling` "avg" or "max" one vector an image.
    `input_tensor` is a node to start from. Images are at least {facts.least} pixels wide and high;
    prepare them by `preprocess_input` of the same module.
    Raises ValueError for arguments that do not fit together or to the weights.
    """


def assembled(
    given: Arguments,
    facts: Published,
    body: Body,
    top: Top = classifier,
    without_top: Top = pooled,
) -> Model:
    """The model of images, `body`, and `top` or `without_top`, with the weights that are given.

    Raises ValueError for arguments that do not fit together.
    """
    check(given, facts)
    shape = image_shape(given, facts)
    path = path_of_weights(given, facts)
    images = given.input_tensor
    if images is None:
        images = Input(shape)
    if not given.include_top:
        top = without_top
    outputs = top(body(images), given)
    inputs = images
    if given.input_tensor is not None:
        inputs = get_source_inputs(images)  # a list
    model = Model(inputs, outputs, name=given.name)
    if path is not None:
        model.load_weights(path)
    return model


def check(given: Arguments, facts: Published) -> None:
    """Raises ValueError for arguments that do not fit together, TypeError for another tensor."""
    title = facts.title
    if settings.channels_first and not facts.channels_first:
        raise ValueError(
            f"{title}: expected the data format channels_last, received channels_first; call "
            'fnn.config.set_image_data_format("channels_last")'
        )
    if given.pooling not in (None, "avg", "max"):
        expected = 'to be None, "avg" or "max"'
        raise arguments.wrong(title, "pooling", expected, given.pooling)
    if given.input_tensor is not None and not isinstance(given.input_tensor, Node):
        refuse_keras(given.input_tensor)
        raise TypeError(
            f"{title}: expected input_tensor to be a node such as fnn.Input((224, 224, 3)), "
            f"received {arguments.shown(given.input_tensor)}; call the model on arrays"
        )
    if given.include_top and given.weights is not None:
        _check_classifier(given, title)


def _check_classifier(given: Arguments, title: str) -> None:
    """Raises ValueError unless published weights fit the classifier."""
    if given.weights == "imagenet" and given.classes != CLASSES:
        advice = "pass include_top=False and a Dense layer of your own, or weights=None"
        expected = f'to be {CLASSES} with weights="imagenet"'
        raise arguments.wrong(title, "classes", expected, given.classes, advice)
    activation = given.classifier_activation
    allowed = (activations.get(None), activations.get("softmax"))
    if activations.get(activation) not in allowed:
        expected = 'to be None or "softmax" with given weights'
        advice = "pass None and apply another function to the outputs"
        raise arguments.wrong(
            title, "classifier_activation", expected, activation, advice
        )


def path_of_weights(given: Arguments, facts: Published) -> Path | None:
    """The file of the weights, downloaded if it is Keras's and not there yet."""
    if given.weights is None:
        return None
    if given.weights == "imagenet":
        remote = facts.with_top if given.include_top else facts.without_top
        return file_of("models", remote, remote.name, kind="models")
    path = Path(given.weights).expanduser()
    if not path.is_file():
        raise ValueError(
            f'{facts.title}: expected weights to be None, "imagenet" or the path of a file, '
            f"received {given.weights!r}; no such file is there"
        )
    return path


def image_shape(given: Arguments, facts: Published) -> tuple[int | None, ...]:
    """The shape of an image: the given one, checked, else the published one.

    Without classifier, sizes are unknown if not given.
    """
    default = _with_channels(3, facts.size, facts.size)
    fixed = given.include_top and not facts.any_size
    if given.input_shape is None:
        if fixed:
            return default
        return _with_channels(3, None, None)
    if not isinstance(given.input_shape, Sequence):
        expected = f"to be like {default}"
        raise arguments.wrong(facts.title, "input_shape", expected, given.input_shape)
    shape = tuple(given.input_shape)
    is_published = given.weights == "imagenet"
    expected = _fault(shape, is_published, fixed, default, facts.least)
    if expected:
        raise arguments.wrong(facts.title, "input_shape", expected, shape)
    channels = shape[channel_axis() - 1]
    if not is_published and channels not in (1, 3):
        warn(
            f"{facts.title}: images have 1 or 3 channels as a rule, these have {channels} (shape "
            f"{shape}); ignore this if it is what you mean"
        )
    return shape


def _with_channels(
    channels: int, height: int | None, width: int | None
) -> tuple[int | None, ...]:
    if settings.channels_first:
        return channels, height, width
    return height, width, channels


def _fault(
    shape: tuple[int | None, ...],
    is_published: bool,
    fixed: bool,
    default: tuple[int | None, ...],
    least: int,
) -> str:
    """What is expected of a shape that does not have it; empty for a right one."""
    if len(shape) != 3:
        return "to have three numbers"
    axis = channel_axis() - 1
    sides = shape[:axis] + shape[axis + 1 :]
    if is_published and fixed and shape != default:
        return f'to be {default} with include_top=True and weights="imagenet"'
    if is_published and shape[axis] != 3:
        return 'to have 3 channels with weights="imagenet"'
    if any(side is not None and side < least for side in sides):
        return f"to have at least {least} x {least} pixels"
    if fixed and None in shape:
        return "without None with include_top=True"
    return ""
