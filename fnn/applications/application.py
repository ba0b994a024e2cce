"""Application: the function that builds a network, from its layers and Keras's arguments."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable
from typing import (
    Any,
    Concatenate,
    NamedTuple,
    ParamSpec,
    Protocol,
    TypeAlias,
    TypeVar,
    Unpack,
)

from fnn.applications.heads import classifier, pooled
from fnn.applications.keras_arguments import (
    Arguments,
    Given,
    check,
    image_shape,
    path_of_weights,
)
from fnn.applications.published import PARAMETERS, Published
from fnn.models import Model
from fnn.symbolic.node import Input, Node
from fnn.utils import get_source_inputs

# Adds the layers between images and classifier, or a classifier.
Body: TypeAlias = Callable[[Node], Node]
Top: TypeAlias = Callable[[Node, Arguments], Node]

Design = TypeVar("Design")
Own = ParamSpec("Own")

Family: TypeAlias = Callable[Concatenate[Published, Design, Own], Model]
Member: TypeAlias = Callable[[Published, Design], Callable[Own, Model]]


def family(first: str = "") -> Callable[[Family[Design, Own]], Member[Design, Own]]:
    """A decorator: the function of a family, called on facts and design, returns that of a network.

    That calls the function of the family on facts, design, and by name the arguments of its own and
    those of `Given`. The arguments whose names are in `first` come first in Keras's order, the
    others of `Given` follow as usual. A network takes them by position too: for that its family has
    `*args`, which is always empty. The default of `name` is that of the network.

    >>> @family("rate name")
    ... def classifier(facts, units, *args, rate=0.5, name=None, **named):
    ...     dropout, dense = fnn.layers.Dropout(rate), fnn.layers.Dense(units)
    ...     return fnn.Sequential([dropout, dense], name=name)
    >>> facts = fnn.applications.published.published("Tiny", "tiny", "tiny")
    >>> Tiny = classifier(facts, 3)
    >>> Tiny.__name__, list(inspect.signature(Tiny).parameters)[:3]
    ('Tiny', ['rate', 'name', 'include_top'])
    >>> Tiny(0.1).name, Tiny(0.1).layers[0].rate
    ('tiny', 0.1)
    """

    def decorated(function: Family[Design, Own]) -> Member[Design, Own]:
        def member(facts: Published, design: Design) -> Callable[Own, Model]:
            return _member(function, facts, design, first)

        return member

    return decorated


def _member(
    function: Family[Design, Own], facts: Published, design: Design, first: str
) -> Callable[Own, Model]:
    signature = _signature(function, facts, first)
    call: Callable[..., Model] = function

    def build(*args: Own.args, **named: Own.kwargs) -> Model:
        try:
            bound = signature.bind(*args, **named)
        except TypeError as error:
            known = ", ".join(signature.parameters)
            message = f"{facts.title}: {error}; its arguments are {known}"
            raise TypeError(message) from None
        bound.apply_defaults()
        return call(facts, design, **bound.arguments)

    build.__name__ = build.__qualname__ = facts.title
    build.__module__ = function.__module__
    build.__doc__ = documentation(facts, inspect.getdoc(function) or "")
    build.__signature__ = signature  # type: ignore[attr-defined]
    return build


def _signature(
    function: Callable[..., Model], facts: Published, first: str
) -> inspect.Signature:
    """The signature of a network: the arguments of all and those of its family, in order."""
    common = inspect.signature(Arguments).parameters
    known = {**common, **inspect.signature(function).parameters}
    known["name"] = known["name"].replace(default=facts.name or None)
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    order = dict.fromkeys([*first.split(), *common])
    return inspect.Signature([known[name].replace(kind=kind) for name in order])


def documentation(facts: Published, own: str) -> str:
    """The docstring of a network; `own` describes what is particular to its family."""
    own = own and textwrap.indent(f"\n{own}", "    ")
    return f"""{facts.title}, with Keras's arguments, layers and weights.

    (batch, {facts.size}, {facts.size}, 3) -> (batch, 1000) with all defaults.
    `weights` is "imagenet" (Keras's published file, downloaded once and checked), the path of a
    file, or None for random ones. `include_top=False` leaves out the classifier; the outputs are
    then those of the last block, or with `pooling` "avg" or "max" one vector an image.
    `input_tensor` is a node to start from. Images are at least {facts.least} pixels wide and high;
    prepare them by `preprocess_input` of the same module.{own}
    Raises ValueError for arguments that do not fit together or to the weights.

    >>> fnn.applications.{facts.title}(weights=None).count_params()
    {PARAMETERS.get(facts.title)}
    """


class Application(Protocol):
    """A function that returns a network, with the arguments that all networks have."""

    def __call__(self, *args: Any, **named: Unpack[Given]) -> Model: ...


class Parts(NamedTuple):
    """What images pass: `body`, then the classifier `top`, or `without_top` in its place."""

    body: Body
    top: Top = classifier
    without_top: Top = pooled


def application(facts: Published, parts: Parts, module: str) -> Application:
    """The function of a network of `module` with no arguments other than those of all.

    >>> facts = fnn.applications.published.published("Tiny", "tiny", "tiny")
    >>> Tiny = application(facts, Parts(fnn.layers.Conv2D(4, 3, name="conv")), __name__)
    >>> model = Tiny(weights=None, classes=2, input_shape=(32, 32, 3))
    >>> model.name, [layer.name for layer in model.layers][1:]
    ('tiny', ['conv', 'avg_pool', 'predictions'])
    """
    network = _of_parts(facts, parts)
    network.__module__ = module
    return network


@family()
def _of_parts(
    facts: Published, parts: Parts, *args: Any, **named: Unpack[Given]
) -> Model:
    return assembled(Arguments(**named), facts, *parts)


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
    sources = get_source_inputs(images)
    inputs = sources[0] if len(sources) == 1 else sources
    model = Model(inputs, outputs, name=given.name)
    if path is not None:
        model.load_weights(path)
    return model
