"""Archive: functions and the weights that they use, to be written as programs."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import jax

from fnn.core.context import strip_masks
from fnn.core.tree import Tree
from fnn.export.signature import shapes_for_jax, signature_of, specs_in
from fnn.runtime.settings import settings
from fnn.training.cost import equations
from fnn.variables import StatelessScope

SERVE = "serve"  # the endpoint of a model, as in Keras
# Of add_endpoint, as in Keras; each format reads its own.
OPTIONS = ("is_static", "jax2tf_kwargs", "opset_version")


# What draws random numbers in a traced program.
RANDOM = {
    "random_bits",
    "random_split",
    "random_seed",
    "threefry2x32",
    "rng_bit_generator",
}


class RandomnessError(ValueError):
    """A function to export draws random numbers."""


class Variable(Protocol):
    """A weight of a model or layer."""

    path: str

    @property
    def value(self) -> Any: ...


class Endpoint(NamedTuple):
    """A function of a tuple of arguments, and their signature."""

    name: str
    function: Callable[..., Tree]
    signature: tuple[Tree, ...]
    output_names: tuple[str, ...]
    options: dict[str, Any]


class ExportArchive:
    """Functions to export together, with one set of weights, as in Keras.

    `track(model)` makes the weights of a model or layer the archive's; those of a model whose
    `call` is an endpoint are tracked by themselves. Other arrays that a function uses become
    constants of its program. `write_out(path)` writes a format of `model.export`.

    >>> model = fnn.Sequential([fnn.layers.Dense(1, input_shape=(3,))])
    >>> archive = fnn.export.ExportArchive()
    >>> archive.track(model)
    >>> double = lambda x: 2 * model(x)
    >>> archive.add_endpoint("double", double, [fnn.InputSpec(shape=(None, 3), dtype="float32")])
    >>> archive.write_out("doubled", verbose=False)
    >>> fnn.export.load("doubled").double(np.ones((2, 3), "float32")).shape
    (2, 1)
    """

    def __init__(self, format: str = "stablehlo") -> None:
        self.format = format
        self.endpoints: dict[str, Endpoint] = {}
        self.collections: dict[str, list[str]] = {}
        self._variables: dict[str, Variable] = {}
        self._names: dict[int, str] = {}

    def track(self, resource: Any) -> None:
        """Makes the weights of a model or layer weights of the archive."""
        weights = getattr(resource, "weights", None)
        if weights is None:
            raise TypeError(
                f"expected a model or layer that has weights, received {resource!r}; build it first"
            )
        for variable in weights:
            self._name_of(variable)

    def _name_of(self, variable: Variable) -> str:
        """The name of a weight in the archive, to which it is added."""
        known = self._names.get(id(variable))
        if known is not None:
            return known
        name, number = variable.path, 0
        while name in self._variables:  # of another model of that name
            number += 1
            name = f"{variable.path}_{number}"
        self._variables[name] = variable
        self._names[id(variable)] = name
        return name

    def add_endpoint(
        self,
        name: str,
        fn: Callable[..., Tree],
        input_signature: Tree = None,
        *,
        output_names: Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        """Adds `fn` under `name`; `input_signature` lists what its arguments are like.

        None as the first size is a free number of examples; other sizes may be free too.
        """
        _check_options(kwargs)
        if not name.isidentifier() or hasattr(type(self), name):
            raise ValueError(
                f"expected the name of an endpoint to be a Python name, received {name!r}; "
                "e.g. 'serve'"
            )
        if name in self.endpoints:
            raise ValueError(
                f"the archive has an endpoint {name!r} already; choose another name"
            )
        resource = getattr(fn, "__self__", fn)
        if hasattr(resource, "weights"):
            self.track(resource)
        if input_signature is None:
            input_signature = _own_signature(resource)
        if not isinstance(input_signature, (list, tuple)):
            input_signature = [input_signature]
        signature = signature_of(tuple(input_signature))
        for spec in specs_in(signature):
            if spec.dtype == "string":
                raise TypeError(
                    f"expected inputs that are numbers, since a program takes no strings, received "
                    f"{spec}; export a model of the layers after those that take strings, and run "
                    "these on the data before"
                )
        called = _as_called(fn)
        self.endpoints[name] = Endpoint(
            name, called, signature, tuple(output_names), kwargs
        )

    def track_and_add_endpoint(
        self, name: str, resource: Any, input_signature: Tree = None, **kwargs: Any
    ) -> None:
        """Tracks a model or layer and adds its call as an endpoint."""
        self.track(resource)
        self.add_endpoint(name, resource, input_signature, **kwargs)

    def add_variable_collection(self, name: str, variables: Any) -> None:
        """Names a list of variables; a SavedModel has it as an attribute."""
        self.collections[name] = [self._name_of(variable) for variable in variables]

    def write_out(
        self,
        filepath: str | os.PathLike[str],
        options: Any = None,
        verbose: bool = True,
    ) -> None:
        """Writes the archive. Raises ValueError without an endpoint or for an unknown format."""
        writer = ExportArchive.writers.get(self.format)
        if writer is None:
            raise ValueError(
                f"expected a format of {sorted(self.writers)}, received {self.format!r}; "
                "stablehlo programs are run by JAX"
            )
        if not self.endpoints:
            raise ValueError(
                "the archive has no endpoint; add one by its method add_endpoint first"
            )
        writer(self, filepath, options)
        if verbose:
            print(f"Saved artifact at '{os.fspath(filepath)}'.")

    # By format: what writes an archive; set by `fnn.export`.
    writers: dict[str, Callable[[ExportArchive, Any, Any], None]] = {}

    # -- what the formats write ------------------------------------------------------------------

    @property
    def weights(self) -> dict[str, jax.Array]:
        """The weights of the archive by name."""
        return {name: one.value for name, one in self._variables.items()}

    def run(
        self, endpoint: Endpoint, weights: dict[str, Any], *arguments: Tree
    ) -> Tree:
        """The outputs of an endpoint with these weights."""
        scope = StatelessScope()
        for name, variable in self._variables.items():
            scope.add_update((variable, weights[name]))
        with scope, _portable():
            return strip_masks(endpoint.function(*arguments))

    def traced(self, endpoint: Endpoint, export: Callable[[Tree], Any]) -> Any:
        """`export(shapes)` of an endpoint, for shapes with as many free sizes as it allows."""
        specs = specs_in(endpoint.signature)
        free = [n for spec in specs for n in spec.shape[1:] if n is None]
        try:
            return self._checked(endpoint, export, shapes_for_jax(endpoint.signature))
        except RandomnessError:
            raise
        except Exception as error:
            if len(free) > 1:
                # Inputs of sequences are often equally long.
                with contextlib.suppress(Exception):
                    shapes = shapes_for_jax(endpoint.signature, shared=True)
                    return self._checked(endpoint, export, shapes)
            raise _failed(endpoint, error) from error

    def _checked(
        self, endpoint: Endpoint, export: Callable[[Tree], Any], shapes: Tree
    ) -> Any:
        def run(weights: dict[str, Any], *arguments: Tree) -> Tree:
            return self.run(endpoint, weights, *arguments)

        program = jax.make_jaxpr(run)(self.weights, *shapes).jaxpr
        drawing = {one.primitive.name for one in equations(program)} & RANDOM
        if drawing:
            raise RandomnessError(
                f"{endpoint.name} draws random numbers, for which a program has no key: it would "
                "return the same ones each time; export inference without layers that draw there"
            )
        return export(shapes)


def _own_signature(resource: Any) -> Tree:
    if not hasattr(resource, "input"):
        raise ValueError(
            f"expected input_signature, since the inputs of {resource!r} are not known; pass a "
            "list with one entry for each argument"
        )
    return [resource.input]


def _as_called(fn: Callable[..., Tree]) -> Callable[..., Tree]:
    """A model called in inference; other functions as they are."""
    if not hasattr(fn, "predict"):
        return fn

    def call(*arguments: Tree) -> Tree:
        x = arguments[0] if len(arguments) == 1 else arguments
        return fn(x, training=False)

    return call


def _check_options(options: dict[str, Any]) -> None:
    for name, value in options.items():
        if name not in OPTIONS:
            raise TypeError(
                f"expected options among {OPTIONS}, received {name}={value!r}; leave it out"
            )


@contextlib.contextmanager
def _portable() -> Iterator[None]:
    """Inside, no kernel of the device at hand is chosen: the program runs on others too."""
    before = settings.flash_attention
    settings.flash_attention = False
    try:
        yield
    finally:
        settings.flash_attention = before


def _failed(endpoint: Endpoint, error: Exception) -> ValueError:
    specs = "; ".join(map(str, specs_in(endpoint.signature)))
    reason = str(error).partition("\n")[0]
    advice = (
        "where a layer needs a size that is free, pass input_signature with that size, e.g. "
        "[fnn.InputSpec(shape=(8, 28, 28), dtype='float32')]"
    )
    if isinstance(error, NotImplementedError):
        advice = "this format lacks an operation; format='stablehlo' has them all"
    return ValueError(
        f"{endpoint.name} cannot be exported for inputs ({specs}): {type(error).__name__}: "
        f"{reason}; {advice}"
    )
