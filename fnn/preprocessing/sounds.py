"""Sounds: spectrograms of signals, as layers."""

from __future__ import annotations

import math

import jax.numpy as jnp
from jax import Array, lax, random

from fnn.core import arguments
from fnn.core.arguments import Rule
from fnn.core.context import INFERENCE, Context, leading
from fnn.core.fields import not_negative, one_of, positive
from fnn.core.layer import Layer, Params, State
from fnn.core.tree import SpecTree, Tree
from fnn.initializers.fixed import STFT
from fnn.layers.shared.spatial import DATA_FORMATS
from fnn.ops.signal import stft
from fnn.ops.spatial import is_last
from fnn.runtime.arithmetic import float_dtype
from fnn.runtime.settings import settings
from fnn.runtime.warning import warn

MODES = ("log", "magnitude", "psd", "real", "imag", "angle", "stft")
# The mel scale of HTK: 1127 ln(1 + frequency / 700 Hz).
_MEL_FACTOR, _MEL_BREAK = 1127.0, 700.0
LONGEST = 2**20  # samples of a transform


def _is_computed(layer: MelSpectrogram) -> bool:
    return layer.fft_length <= LONGEST


def _frames_fit(layer: MelSpectrogram) -> bool:
    return layer.frame <= layer.fft_length


class MelSpectrogram(Layer):
    """Power of a signal by mel bands and time.   (..., time) -> (..., num_mel_bins, frames)

    Frames of `sequence_length` samples (by default `fft_length`), a new one every
    `sequence_stride`, under a `window`; magnitudes to the power of `mag_exp`, added up in
    `num_mel_bins` bands from `min_freq` to `max_freq` Hz (by default half of `sampling_rate`).
    With `power_to_db` decibels relative to `ref_power`, none below `min_power`, and none more than
    `top_db` below the largest of the whole batch, as in Keras.
    Raises ValueError for frames longer than `fft_length`.

    >>> layer = MelSpectrogram(fft_length=64, sequence_stride=16, num_mel_bins=8)
    >>> layer(jnp.ones((2, 160))).shape
    (2, 8, 11)
    """

    field_rules = (
        Rule(
            "sequence_length",
            _frames_fit,
            "to be at most fft_length={self.fft_length}",
            "make fft_length larger",
        ),
        Rule(
            "fft_length",
            _is_computed,
            f"to be at most {LONGEST}",
            "a second of sound has some 16000 samples",
        ),
    )

    fft_length: int = positive(default=2048)
    sequence_stride: int = positive(default=512)
    sequence_length: int | None = positive(default=None)
    window: str | tuple[float, ...] | None = "hann"
    sampling_rate: float = positive(default=16000)
    num_mel_bins: int = positive(default=128)
    min_freq: float = not_negative(default=20.0)
    max_freq: float | None = positive(default=None)
    power_to_db: bool = True
    top_db: float = not_negative(default=80.0)
    mag_exp: float = not_negative(default=2.0)
    min_power: float = positive(default=1e-10)
    ref_power: float = 1.0

    @property
    def frame(self) -> int:
        """The number of samples in a frame."""
        return self.sequence_length or self.fft_length

    def is_example(self, params: Params, x: Tree) -> bool:
        return arguments.is_vector(x)

    def apply(
        self, params: Params, state: State, x: Array, ctx: Context = INFERENCE
    ) -> tuple[Array, State]:
        dtype = self.dtype or float_dtype(x)
        exact = "float32"
        if dtype == "float64":
            exact = "float64"
        real, imaginary = stft(
            x.astype(exact),
            self.frame,
            self.sequence_stride,
            self.fft_length,
            self.window,
        )
        # The magnitude of complex numbers, whose gradient is finite at 0.
        magnitudes = jnp.abs(lax.complex(real, imaginary))  # (..., frames, frequencies)
        weights = self._weights(magnitudes.shape[-1])
        bands = jnp.tensordot(magnitudes**self.mag_exp, weights, 1)
        if self.power_to_db:
            bands = self._decibels(bands, ctx.rows)
        return jnp.swapaxes(bands, -1, -2).astype(dtype), state

    def _decibels(self, power: Array, rows: Array | None) -> Array:
        reference = jnp.maximum(abs(self.ref_power), self.min_power)
        level = 10.0 * jnp.log10(jnp.maximum(power, self.min_power))
        level -= 10.0 * jnp.log10(reference)
        loudest = level.max()
        if rows is not None:
            # Examples that pad the batch do not count.
            valid = leading(rows.astype(bool), level.ndim)
            loudest = jnp.where(valid, level, -jnp.inf).max()
        return jnp.maximum(level, loudest - self.top_db)

    def _weights(self, frequencies: int) -> Array:
        """How much each frequency counts in each band.   (frequencies, num_mel_bins)"""
        highest = self.max_freq or int(self.sampling_rate / 2)
        # In float32 as in Keras: differences of large numbers show how they are rounded.
        hertz = jnp.linspace(0.0, jnp.float32(self.sampling_rate) / 2.0, frequencies)
        own = _mel(hertz[1:])[:, None]
        ends = _mel(jnp.asarray([self.min_freq, highest], "float32"))
        edges = jnp.linspace(ends[0], ends[1], self.num_mel_bins + 2)[None]
        low, center, high = edges[:, :-2], edges[:, 1:-1], edges[:, 2:]
        rising = (own - low) / (center - low)
        falling = (high - own) / (high - center)
        weights = jnp.maximum(0.0, jnp.minimum(rising, falling))
        return jnp.pad(weights, [(1, 0), (0, 0)])  # none of the constant


def _mel(hertz: Array) -> Array:
    return _MEL_FACTOR * jnp.log(1.0 + hertz / _MEL_BREAK)


class STFTSpectrogram(Layer):
    """Short-time Fourier transforms, as convolutions with kernels that are weights.

    (batch, time, channels) -> (batch, frames, frequencies * channels), or with `expand_dims`
    (batch, frames, frequencies, channels). `mode` is "log", "magnitude", "psd" (power), "real",
    "imag", "angle", or "stft" (real parts, then imaginary ones). Frames have `frame_length`
    samples, a new one every `frame_step` (by default half a frame), in transforms of `fft_length`
    (by default the next power of 2).
    Weights: `real_kernel`, `imag_kernel (frame_length, 1, frequencies)`; pass `trainable=False` to
    keep them.
    Raises ValueError for wrong arguments, TypeError for inputs that are not floats.

    >>> STFTSpectrogram("magnitude", frame_length=8)(jnp.ones((2, 32, 1))).shape
    (2, 7, 5)
    """

    input_layout = "(batch, time, channels)"
    automatic_axes = True
    field_rules = (
        Rule(
            "frame_step",
            lambda layer: 1 <= layer.step <= layer.frame_length,
            "to be from 1 to frame_length={self.frame_length}",
        ),
        Rule(
            "fft_length",
            lambda layer: layer.length >= layer.frame_length,
            "to be at least frame_length={self.frame_length}",
        ),
    )

    mode: str = one_of(MODES, default="log")
    frame_length: int = positive(default=256)
    frame_step: int | None = positive(default=None)
    fft_length: int | None = positive(default=None)
    window: str | tuple[float, ...] | None = "hann"
    periodic: bool = False
    scaling: str | None = one_of(("density", "spectrum", None), default="density")
    padding: str = one_of(("valid", "same"), default="valid")
    expand_dims: bool = False
    data_format: str | None = one_of(DATA_FORMATS, default=None)

    def validate(self) -> None:
        for part in self._parts:
            self._kernel(part)
        if self.length & (self.length - 1):
            warn(
                f"STFTSpectrogram: fft_length={self.length} is no power of 2; transforms of a "
                "power of 2 are faster"
            )

    @property
    def step(self) -> int:
        """The number of samples between the starts of two frames."""
        return self.frame_step or self.frame_length // 2

    @property
    def length(self) -> int:
        """The number of samples that are transformed."""
        return self.fft_length or 2 ** math.ceil(math.log2(self.frame_length))

    @property
    def _parts(self) -> tuple[str, ...]:
        if self.mode in ("real", "imag"):
            return (self.mode,)
        return ("real", "imag")

    def _kernel(self, part: str) -> STFT:
        return STFT(part, self.window, self.scaling, self.periodic)

    def init(self, key: Array, x: SpecTree) -> tuple[Params, State]:
        shape = (self.frame_length, 1, self.length // 2 + 1)
        params = {}
        for part in self._parts:
            kernel = self._kernel(part)
            params[f"{part}_kernel"] = kernel(random.key(0), shape, self.weight_dtype)
        return params, {}

    def apply(
        self, params: Params, state: State, x: Array, ctx: Context = INFERENCE
    ) -> tuple[Array, State]:
        if not jnp.issubdtype(x.dtype, jnp.floating):
            raise TypeError(
                f"STFTSpectrogram: expected inputs of floats, received {x.dtype}; use "
                "x.astype('float32')"
            )
        last = is_last(self.data_format)
        signals = x
        if last:
            signals = jnp.swapaxes(x, 1, 2)  # (batch, channels, time)
        parts = [self._transformed(signals, params[f"{p}_kernel"]) for p in self._parts]
        y = self._combined(parts)  # (batch, channels, frequencies, frames)
        if self.expand_dims and last:
            y = jnp.transpose(y, (0, 3, 2, 1))
        elif self.expand_dims:
            y = jnp.swapaxes(y, 2, 3)
        else:
            y = y.reshape(len(y), -1, y.shape[-1])
            if last:
                y = jnp.swapaxes(y, 1, 2)
        return y, state

    def _transformed(self, signals: Array, kernel: Array) -> Array:
        """(batch, channels, time) -> (batch, channels, frequencies, frames)"""
        batch, channels, time = signals.shape
        y = lax.conv_general_dilated(
            signals.reshape(batch * channels, 1, time),
            kernel.astype(signals.dtype),
            (self.step,),
            self.padding.upper(),
            dimension_numbers=("NCH", "HIO", "NCH"),
        )
        return y.reshape(batch, channels, *y.shape[1:])

    def _combined(self, parts: list[Array]) -> Array:
        """The outputs of the mode, of the real and the imaginary parts."""
        if self.mode in ("real", "imag"):
            return parts[0]
        real, imaginary = parts
        if self.mode == "angle":
            return jnp.arctan2(imaginary, real)
        if self.mode == "stft":
            return jnp.concatenate(parts, axis=2)
        power = real**2 + imaginary**2
        if self.mode == "psd":
            # Each frequency between the ends stands for its negative too.
            return power.at[:, :, 1:-1].multiply(2)
        magnitude = jnp.sqrt(jnp.maximum(power, settings.epsilon))
        if self.mode == "magnitude":
            return magnitude
        return jnp.log(jnp.maximum(magnitude, settings.epsilon))
