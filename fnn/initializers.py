"""Initializers: fresh weights, by Keras's names."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jax import Array, random

from fnn.core import arguments
from fnn.core.arithmetic import along
from fnn.core.calling import snake_case
from fnn.core.config import Value, register, resolve

Shape = tuple[int, ...]


def get(identifier: Any) -> Any:
    """The initializer behind a name; an initializer or function stays as it is, None too.

    Raises ValueError for an unknown name and TypeError for what is neither name nor callable.

    >>> get("he_normal")
    HeNormal()
    """
    return resolve("initializer", identifier)


class Initializer(Value):
    """How fresh weights are drawn: a value, called as `initializer(key, shape, dtype)`.

    Any function of these three is an initializer too. Those with a `seed` draw from the seed alone
    and not from the key: equal seeds and shapes give equal weights, in every layer that they are
    used in.

    >>> first, second = (GlorotUniform(seed=1)(jax.random.key(k), (2, 2)) for k in (0, 1))
    >>> bool((first == second).all())
    True
    """

    kind = "initializer"

    def validate(self) -> None:
        seed = getattr(self, "seed", None)
        if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int) or seed < 0):
            expected = "to be a whole number not below 0, or None to draw from the key"
            raise arguments.wrong(self, "seed", expected, seed)
        axes = getattr(self, "input_axes", None), getattr(self, "output_axes", None)
        if (axes[0] is None) != (axes[1] is None):
            expected = "to be both given or both None"
            raise arguments.wrong(self, "(input_axes, output_axes)", expected, axes)


class Zeros(Initializer):
    """0 everywhere."""

    def __call__(self, key: Array, shape: Shape, dtype: Any = jnp.float32) -> Array:
        return jnp.zeros(shape, dtype)


class Ones(Initializer):
    """1 everywhere."""

    def __call__(self, key: Array, shape: Shape, dtype: Any = jnp.float32) -> Array:
        return jnp.ones(shape, dtype)


class Constant(Initializer):
    """`value` everywhere; nested lists of numbers are spread to the shape.

    A large array belongs into the params after `init`, not in here: a value holds plain numbers.
    Raises ValueError if `value` is not made of numbers.
    """

    value: Any = 0.0

    def validate(self) -> None:
        if np.asarray(self.value).dtype.kind not in "biufc":
            raise arguments.wrong(self, "value", "to be a number", self.value)

    def __call__(self, key: Array, shape: Shape, dtype: Any = jnp.float32) -> Array:
        return jnp.broadcast_to(jnp.asarray(self.value, dtype), shape)


class Identity(Initializer):
    """gain * the identity matrix. Raises ValueError unless the weight has two axes."""

    gain: float = 1.0

    def __call__(self, key: Array, shape: Shape, dtype: Any = jnp.float32) -> Array:
        _require_rank(self, len(shape) == 2, "2 axes", shape)
        return self.gain * jnp.eye(shape[0], shape[1], dtype=dtype)


class RandomNormal(Initializer):
    """Normal numbers of this mean and standard deviation."""

    mean: float = 0.0
    stddev: float = 0.05
    seed: int | None = None

    def __call__(self, key: Array, shape: Shape, dtype: Any = jnp.float32) -> Array:
        return self.mean + self.stddev * random.normal(_seeded(self, key), shape, dtype)


class RandomUniform(Initializer):
    """Numbers from [minval, maxval), each equally likely."""

    minval: float = -0.05
    maxval: float = 0.05
    seed: int | None = None

    def __call__(self, key: Array, shape: Shape, dtype: Any = jnp.float32) -> Array:
        return random.uniform(_seeded(self, key), shape, dtype, self.minval, self.maxval)


class TruncatedNormal(Initializer):
    """Normal numbers, drawn again where they are over two `stddev` from the mean.

    `stddev` is that of the whole normal curve; what comes out spreads 0.88 times as far.
    """

    mean: float = 0.0
    stddev: float = 0.05
    seed: int | None = None

    def __call__(self, key: Array, shape: Shape, dtype: Any = jnp.float32) -> Array:
        drawn = random.truncated_normal(_seeded(self, key), -2.0, 2.0, shape, dtype)
        return self.mean + self.stddev * drawn


MODES = ("fan_in", "fan_out", "fan_avg")
DISTRIBUTIONS = ("truncated_normal", "untruncated_normal", "uniform", "normal")
TRUNCATED_STDDEV = 0.87962566103423978  # of the standard normal, cut at -2 and 2


class VarianceScaling(Initializer):
    """Numbers around 0 of variance scale / fan, the fan being that of `mode`.

    `fan_in` counts the inputs that one output sums, `fan_out` the outputs that one input feeds:
    for a kernel `(*spatial, inputs, outputs)` both are times the spatial size. Kernels of another
    layout name their axes in `input_axes` and `output_axes`. "normal" is "truncated_normal".
    Raises ValueError for wrong arguments.

    >>> VarianceScaling(2.0, "fan_in", "uniform", seed=0)(None, (3, 4)).shape
    (3, 4)
    """

    scale: float = 1.0
    mode: str = "fan_in"
    distribution: str = "truncated_normal"
    seed: int | None = None
    input_axes: tuple[int, ...] | None = None
    output_axes: tuple[int, ...] | None = None

    def validate(self) -> None:
        if not self.scale > 0:
            raise arguments.wrong(self, "scale", "to be above 0", self.scale)
        arguments.one_of(self, "mode", MODES)
        arguments.one_of(self, "distribution", DISTRIBUTIONS)
        super().validate()

    def __call__(self, key: Array, shape: Shape, dtype: Any = jnp.float32) -> Array:
        fan_in, fan_out = compute_fans(shape, self.input_axes, self.output_axes)
        fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[self.mode]
        stddev = math.sqrt(self.scale / max(1.0, fan))
        key = _seeded(self, key)
        if self.distribution == "uniform":
            limit = math.sqrt(3.0) * stddev
            return random.uniform(key, shape, dtype, -limit, limit)
        if self.distribution == "untruncated_normal":
            return stddev * random.normal(key, shape, dtype)
        return stddev / TRUNCATED_STDDEV * random.truncated_normal(key, -2.0, 2.0, shape, dtype)


class _Scaled(Initializer):
    """`VarianceScaling` of a fixed scale, mode and distribution."""

    fixed: ClassVar[tuple[float, str, str]]

    seed: int | None = None
    input_axes: tuple[int, ...] | None = None
    output_axes: tuple[int, ...] | None = None

    def __call__(self, key: Array, shape: Shape, dtype: Any = jnp.float32) -> Array:
        rule = VarianceScaling(*self.fixed, self.seed, self.input_axes, self.output_axes)
        return rule(key, shape, dtype)


class GlorotUniform(_Scaled):
    """Uniform within sqrt(6 / (fan_in + fan_out)) of 0 (Glorot and Bengio 2010, eq. 16)."""

    fixed = 1.0, "fan_avg", "uniform"


class GlorotNormal(_Scaled):
    """Truncated normal of variance 2 / (fan_in + fan_out) (Glorot and Bengio 2010, eq. 12)."""

    fixed = 1.0, "fan_avg", "truncated_normal"


class HeUniform(_Scaled):
    """Uniform within sqrt(6 / fan_in) of 0, for relu (He et al. 2015)."""

    fixed = 2.0, "fan_in", "uniform"


class HeNormal(_Scaled):
    """Truncated normal of variance 2 / fan_in, for relu (He et al. 2015, eq. 10)."""

    fixed = 2.0, "fan_in", "truncated_normal"


class LecunUniform(_Scaled):
    """Uniform within sqrt(3 / fan_in) of 0 (LeCun et al. 1998, section 4.6)."""

    fixed = 1.0, "fan_in", "uniform"


class LecunNormal(_Scaled):
    """Truncated normal of variance 1 / fan_in, for selu (Klambauer et al. 2017)."""

    fixed = 1.0, "fan_in", "truncated_normal"


class Orthogonal(Initializer):
    """gain * a random matrix of orthonormal columns, or of rows where these are fewer.

    All axes but the last are taken together as rows (Saxe et al. 2014).
    Raises ValueError if the weight has fewer than two axes.
    """

    gain: float = 1.0
    seed: int | None = None

    def __call__(self, key: Array, shape: Shape, dtype: Any = jnp.float32) -> Array:
        _require_rank(self, len(shape) >= 2, "at least 2 axes", shape)
        rows, columns = math.prod(shape[:-1]), shape[-1]
        full = jnp.promote_types(dtype, jnp.float32)  # no QR in half precision
        drawn = random.normal(_seeded(self, key), (max(rows, columns), min(rows, columns)), full)
        q, r = jnp.linalg.qr(drawn)
        q = q * along(jnp.sign(jnp.diagonal(r)), 2)  # else not every rotation is equally likely
        return (self.gain * (q if rows >= columns else q.T)).reshape(shape).astype(dtype)


class STFT(Initializer):
    """A `Conv1D` kernel that computes a short-time Fourier transform.

    (frame, 1, frequencies), of a transform of length 2 * (frequencies - 1). `side` chooses "real"
    or "imag"; `window` is a name in `scipy.signal.windows`, its values, or None; `scaling`
    divides by the norm of the window, in L2 ("density") or L1 ("spectrum").
    Raises ValueError for wrong arguments, and for a weight that is not of this shape.
    """

    side: str = "real"
    window: Any = "hann"
    scaling: str | None = "density"
    periodic: bool = False

    def validate(self) -> None:
        arguments.one_of(self, "side", ("real", "imag"))
        arguments.one_of(self, "scaling", ("density", "spectrum", None))
        if isinstance(self.window, str):
            self._window(2)

    def _window(self, frame: int) -> np.ndarray:
        if not isinstance(self.window, str):
            return np.asarray(self.window, float)
        from scipy.signal import get_window  # type: ignore[import-untyped]  # comes with JAX

        try:
            return get_window(self.window, frame, self.periodic)
        except ValueError as error:
            expected = "to be a window of scipy.signal.windows without parameters"
            raise arguments.wrong(self, "window", expected, self.window) from error

    def __call__(self, key: Array, shape: Shape, dtype: Any = jnp.float32) -> Array:
        _require_rank(self, len(shape) == 3, "3 axes (frame, 1, frequencies)", shape)
        frame, _, frequencies = shape
        turns = np.outer(np.arange(frame), np.arange(frequencies)) / (2 * (frequencies - 1))
        kernel = np.cos(2 * np.pi * turns) if self.side == "real" else -np.sin(2 * np.pi * turns)
        if self.window is not None:
            window = self._window(frame)
            if window.shape != (frame,):
                raise ValueError(
                    f"STFT: expected a window of {frame} values, as long as the frame, received "
                    f"shape {window.shape}; do give a name or {frame} values"
                )
            order = {"density": 2, "spectrum": 1, None: None}[self.scaling]
            kernel *= (window / (np.linalg.norm(window, order) if order else 1.0))[:, None]
        return jnp.broadcast_to(jnp.asarray(kernel[:, None, :], dtype), shape)


def compute_fans(
    shape: Shape,
    input_axes: tuple[int, ...] | None = None,
    output_axes: tuple[int, ...] | None = None,
) -> tuple[int, int]:
    """How many inputs an output of a weight sums, and how many outputs an input feeds.

    >>> compute_fans((3, 3, 16, 32))
    (144, 288)
    """
    if input_axes is not None and output_axes is not None:
        return math.prod(shape[i] for i in input_axes), math.prod(shape[i] for i in output_axes)
    if len(shape) < 2:
        return math.prod(shape), math.prod(shape)
    *spatial, inputs, outputs = shape
    return math.prod(spatial) * inputs, math.prod(spatial) * outputs


def _seeded(initializer: Any, key: Array) -> Array:
    return key if initializer.seed is None else random.key(initializer.seed)


def _require_rank(initializer: Any, right: bool, expected: str, shape: Shape) -> None:
    if not right:
        raise ValueError(
            f"{type(initializer).__name__}: expected a weight of {expected}, received shape "
            f"{tuple(shape)}; do use another initializer for it"
        )


zeros, ones, constant, identity = Zeros, Ones, Constant, Identity
random_normal, random_uniform, truncated_normal = RandomNormal, RandomUniform, TruncatedNormal
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
