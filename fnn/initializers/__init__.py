"""Initializers: fresh weights, by Keras's names."""

from __future__ import annotations

from typing import Any

from fnn.core.calling import snake_case
from fnn.core.registry import register
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


def get(identifier: Any) -> Any:
    """The initializer behind a name; an initializer or function stays as it is, None too.

    Raises ValueError for an unknown name and TypeError for what is neither name nor callable.

    >>> get("he_normal")
    HeNormal()
    """
    return resolve("initializer", identifier)


zeros, ones, constant, identity = Zeros, Ones, Constant, Identity
random_normal, random_uniform, truncated_normal = (
    RandomNormal,
    RandomUniform,
    TruncatedNormal,
)
variance_scaling, orthogonal, stft = VarianceScaling, Orthogonal, STFT
glorot_uniform, glorot_normal = GlorotUniform, GlorotNormal
he_uniform, he_normal = HeUniform, HeNormal
lecun_uniform, lecun_normal = LecunUniform, LecunNormal
IdentityInitializer, OrthogonalInitializer, STFTInitializer = Identity, Orthogonal, STFT

for _class in (
    *(Zeros, Ones, Constant, Identity, RandomNormal, RandomUniform, TruncatedNormal),
    *(VarianceScaling, GlorotUniform, GlorotNormal, HeUniform, HeNormal, LecunUniform),
    *(LecunNormal, Orthogonal, STFT),
):
    register(_class, snake_case(_class.__name__))
register(Zeros, "zero")
register(Ones, "one")
register(RandomNormal, "normal")
register(RandomUniform, "uniform")
register(Identity, "IdentityInitializer")
register(Orthogonal, "OrthogonalInitializer")
register(STFT, "STFTInitializer")
