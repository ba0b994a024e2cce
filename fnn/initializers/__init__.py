"""Initializers: the initial values of weights, with Keras's names."""

from __future__ import annotations

from collections.abc import Callable

from jax import Array

from fnn.core.config import serializers
from fnn.core.registry import register, snake_case
from fnn.core.value import resolve
from fnn.initializers.drawn import (
    Orthogonal,
    RandomNormal,
    RandomUniform,
    TruncatedNormal,
)
from fnn.initializers.fixed import STFT, Constant, Identity, Ones, Zeros
from fnn.initializers.initializer import Initializer as Initializer
from fnn.initializers.scaling import (
    GlorotNormal,
    GlorotUniform,
    HeNormal,
    HeUniform,
    LecunNormal,
    LecunUniform,
    VarianceScaling,
)
from fnn.initializers.scaling import compute_fans as compute_fans

serialize, deserialize = serializers("initializer", __name__, "HeNormal(seed=1)")


def get(identifier: object) -> Callable[..., Array] | None:
    """The initializer of a name; an initializer, a function or None is returned as it is.

    Raises ValueError for an unknown name and TypeError for anything but a name or a callable.

    >>> get("he_normal")
    HeNormal()
    """
    found: Callable[..., Array] | None = resolve("initializer", identifier)
    return found


# Keras's other names for the same classes.
zeros = Zeros
ones = Ones
constant = Constant
identity = IdentityInitializer = Identity
random_normal = RandomNormal
random_uniform = RandomUniform
truncated_normal = TruncatedNormal
variance_scaling = VarianceScaling
glorot_uniform = GlorotUniform
glorot_normal = GlorotNormal
he_uniform = HeUniform
he_normal = HeNormal
lecun_uniform = LecunUniform
lecun_normal = LecunNormal
orthogonal = OrthogonalInitializer = Orthogonal
stft = STFTInitializer = STFT

for _class in (
    Zeros,
    Ones,
    Constant,
    Identity,
    RandomNormal,
    RandomUniform,
    TruncatedNormal,
    VarianceScaling,
    GlorotUniform,
    GlorotNormal,
    HeUniform,
    HeNormal,
    LecunUniform,
    LecunNormal,
    Orthogonal,
    STFT,
):
    register(_class, snake_case(_class.__name__))
register(Zeros, "zero")
register(Ones, "one")
register(RandomNormal, "normal")
register(RandomUniform, "uniform")
register(Identity, "IdentityInitializer")
register(Orthogonal, "OrthogonalInitializer")
register(STFT, "STFTInitializer")
