"""Window functions of scipy.signal, computed by JAX."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

# (distance from the middle in half steps, size of the symmetric window) -> values
Formula: TypeAlias = Callable[[Array, int], Array]

# Each window's name, and its other names in scipy.signal.get_window.
_NAMES = {
    "barthann": "brthan bth",
    "bartlett": "bart brt",
    "blackman": "black blk",
    "blackmanharris": "blackharr bkh",
    "bohman": "bman bmn",
    "boxcar": "box ones rect rectangular",
    "cosine": "halfcosine",
    "exponential": "poisson",
    "flattop": "flat flt",
    "hamming": "hamm ham",
    "hann": "han",
    "lanczos": "sinc",
    "nuttall": "nutl nut",
    "parzen": "parz par",
    "taylor": "taylorwin",
    "triang": "triangle tri",
    "tukey": "tuk",
}
# Every name of a window -> the name of its formula.
WINDOWS = {name: name for name in _NAMES}
for _name, _others in _NAMES.items():
    WINDOWS |= dict.fromkeys(_others.split(), _name)


def window(
    name: str,
    length: int,
    periodic: bool,
    dtype: DTypeLike = jnp.float32,
) -> Array:
    """The window of this name in `scipy.signal.get_window`, of shape (length,).

    It is symmetric or, if `periodic`, a symmetric window of length + 1 without its last value.

    >>> [round(value, 6) for value in window("hann", 5, periodic=False).tolist()]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    if length < 2:
        return jnp.ones(length, dtype)
    size = length + periodic
    # The distance from the middle in half steps, an integer also for even sizes.
    steps = 2 * jnp.arange(length) - (size - 1)
    distance = jnp.abs(steps)
    formula = _FORMULAS[WINDOWS[name]]
    return jnp.asarray(formula(distance.astype(dtype), size), dtype)


def _cosines(*terms: float) -> Formula:
    """The sum of terms[k] * cos(k angle), where the angle is 0 in the middle and pi at the ends."""

    def formula(distance: Array, size: int) -> Array:
        angle = math.pi * distance / (size - 1)
        total = jnp.zeros_like(angle)
        for k, term in enumerate(terms):
            total = total + term * jnp.cos(k * angle)
        return total

    return formula


def _barthann(distance: Array, size: int) -> Array:
    part = distance / (size - 1)
    return 0.62 - 0.24 * part + 0.38 * jnp.cos(math.pi * part)


def _bohman(distance: Array, size: int) -> Array:
    part = distance / (size - 1)
    angle = math.pi * part
    inside = (1 - part) * jnp.cos(angle) + jnp.sin(angle) / math.pi
    return jnp.where(part < 1, inside, 0)  # exactly 0 at the ends


def _parzen(distance: Array, size: int) -> Array:
    part = distance / size
    inner = 1 - 6 * part**2 + 6 * part**3
    outer = 2 * (1 - part) ** 3
    return jnp.where(distance <= (size - 1) / 2, inner, outer)


def _taylor(
    distance: Array,
    size: int,
    number: int = 4,
    level: float = 30,
) -> Array:
    """The first `number` side lobes are equal, `level` dB below the main lobe (Carrara 1995)."""
    # In Carrara's notation: A, sigma squared, and the coefficients F_m of the cosines.
    a = math.acosh(10 ** (level / 20)) / math.pi
    a2 = a**2
    stretch = number**2 / (a2 + (number - 0.5) ** 2)
    orders = range(1, number)
    total = jnp.ones_like(distance)
    peak = 1.0
    for m in orders:
        numerator = math.prod(
            1 - m**2 / stretch / (a2 + (k - 0.5) ** 2) for k in orders
        )
        denominator = 2 * math.prod(1 - m**2 / k**2 for k in orders if k != m)
        term = -2 * (-1) ** m * numerator / denominator
        angle = math.pi * m * distance / size
        total = total + term * jnp.cos(angle)
        peak = peak + term  # the value in the middle
    return total / peak


def _tukey(
    distance: Array,
    size: int,
    tapered: float = 0.5,
) -> Array:
    # 0 at the ends, 1 where the flat part begins.
    from_end = (1 - distance / (size - 1)) / tapered
    taper = (1 - jnp.cos(math.pi * from_end)) / 2
    return jnp.where(from_end < 1, taper, 1)


def _bartlett(distance: Array, size: int) -> Array:
    return 1 - distance / (size - 1)


def _boxcar(distance: Array, size: int) -> Array:
    return jnp.ones_like(distance)


def _cosine(distance: Array, size: int) -> Array:
    return jnp.cos(math.pi / 2 * distance / size)


def _exponential(distance: Array, size: int) -> Array:
    return jnp.exp(-distance / 2)


def _lanczos(distance: Array, size: int) -> Array:
    return jnp.sinc(distance / (size - 1))


def _triang(distance: Array, size: int) -> Array:
    return 1 - distance / (size + size % 2)


_FORMULAS: dict[str, Formula] = {
    "barthann": _barthann,
    "bartlett": _bartlett,
    "blackman": _cosines(0.42, 0.5, 0.08),
    "blackmanharris": _cosines(0.35875, 0.48829, 0.14128, 0.01168),
    "bohman": _bohman,
    "boxcar": _boxcar,
    "cosine": _cosine,
    "exponential": _exponential,
    "flattop": _cosines(0.21557895, 0.41663158, 0.277263158, 0.083578947, 0.006947368),
    "hamming": _cosines(0.54, 0.46),
    "hann": _cosines(0.5, 0.5),
    "lanczos": _lanczos,
    "nuttall": _cosines(0.3635819, 0.4891775, 0.1365995, 0.0106411),
    "parzen": _parzen,
    "taylor": _taylor,
    "triang": _triang,
    "tukey": _tukey,
}
