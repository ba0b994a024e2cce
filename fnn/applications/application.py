"""Application: the function that builds a network, from its layers and Keras's arguments."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeAlias, TypeVar

from fnn.applications.heads import classifier, pooled
from fnn.applications.imagenet_utils import CLASSES
from fnn.applications.keras_arguments import (
    Application,
    Arguments,
    Shape,
    Weights,
    check,
    image_shape,
    path_of_weights,
)
from fnn.applications.published import PARAMETERS, Published
from fnn.core.layer import Activation
from fnn.models import Model
from fnn.symbolic.node import Input, Node
from fnn.utils import get_source_inputs

# Adds the layers between images and classifier, or a classifier.
Body: TypeAlias = Callable[[Node], Node]
Top: TypeAlias = Callable[[Node, Arguments], Node]


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

    >>> fnn.applications.{facts.title}(weights=None).count_params()
    {PARAMETERS.get(facts.title)}
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
