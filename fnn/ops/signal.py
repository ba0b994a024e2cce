"""Fourier transforms, as pairs of real and imaginary parts, and frames of signals."""

from __future__ import annotations

import jax.numpy as jnp
import jax.scipy.signal
from jax import Array, lax

from fnn.core.tree import Tree
from fnn.ops.reordering import check_repeats
from fnn.ops.table import keeps_lists

Pair = tuple[Array, Array]


def _complex(name: str, x: Tree) -> Array:
    """The complex numbers of a pair of real and imaginary parts."""
    if not isinstance(x, (tuple, list)) or len(x) != 2:
        raise ValueError(
            f"{name}: expected a pair of arrays, real and imaginary parts, received "
            f"{type(x).__name__}"
        )
    real, imaginary = map(jnp.asarray, x)
    if real.shape != imaginary.shape:
        raise ValueError(
            f"{name}: expected real and imaginary parts of one shape, received "
            f"{real.shape} and {imaginary.shape}"
        )
    is_float = jnp.issubdtype(real.dtype, jnp.floating)
    if not is_float or real.dtype != imaginary.dtype:
        raise ValueError(
            f"{name}: expected parts of floats, received {real.dtype} and "
            f"{imaginary.dtype}; use cast"
        )
    return lax.complex(real, imaginary)


def _parts(x: Array) -> Pair:
    return jnp.real(x), jnp.imag(x)


@keeps_lists
def fft(x: Tree) -> Pair:
    """The Fourier transform along the last axis."""
    return _parts(jnp.fft.fft(_complex("fft", x)))


@keeps_lists
def fft2(x: Tree) -> Pair:
    """The Fourier transform along the last two axes."""
    return _parts(jnp.fft.fft2(_complex("fft2", x)))


@keeps_lists
def ifft2(x: Tree) -> Pair:
    """The inverse Fourier transform along the last two axes."""
    return _parts(jnp.fft.ifft2(_complex("ifft2", x)))


def rfft(x: Array, fft_length: int | None = None) -> Pair:
    """The Fourier transform of real numbers along the last axis."""
    return _parts(jnp.fft.rfft(x, n=fft_length))


@keeps_lists
def irfft(x: Tree, fft_length: int | None = None) -> Array:
    """The real numbers whose Fourier transform this is, along the last axis."""
    return jnp.fft.irfft(_complex("irfft", x), n=fft_length)


def extract_sequences(
    x: Array,
    sequence_length: int,
    sequence_stride: int,
) -> Array:
    """Frames along the last axis.   (..., time) -> (..., frames, sequence_length)"""
    count = (x.shape[-1] - sequence_length) // sequence_stride + 1
    starts = jnp.arange(max(count, 0)) * sequence_stride
    places = starts[:, None] + jnp.arange(sequence_length)[None, :]
    return jnp.take(x, places, axis=-1)


# A window is a - (1 - a) * cos(...), of these a.
_WINDOWS = {"hann": 0.5, "hamming": 0.54}


def _window(
    window: Tree,
    length: int,
    fft_length: int,
    dtype: Tree,
) -> Tree:
    """The window of one frame, with zeros around it up to the length of the transform."""
    if window is None:
        return jnp.ones(fft_length, dtype)
    if isinstance(window, str):
        if window not in _WINDOWS:
            raise ValueError(
                f"expected window to be 'hann', 'hamming', an array or None, received "
                f"{window!r}"
            )
        level = _WINDOWS[window]
        angles = 2 * jnp.pi * jnp.arange(length, dtype=dtype) / length
        window = level - (1 - level) * jnp.cos(angles)
    values = jnp.asarray(window, dtype)
    if values.shape != (length,):
        raise ValueError(
            f"expected a window of shape ({length},), received {values.shape}"
        )
    front = (fft_length - length) // 2
    return jnp.pad(values, (front, fft_length - length - front))


def _check_stride(name: str, stride: Tree) -> None:
    if not isinstance(stride, int) or stride <= 0:
        raise ValueError(
            f"{name}: expected sequence_stride to be a positive integer, received {stride!r}"
        )


def stft(
    x: Array,
    sequence_length: int,
    sequence_stride: int,
    fft_length: int,
    window: Tree = "hann",
    center: bool = True,
) -> Pair:
    """Fourier transforms of overlapping frames.   (..., time) -> (..., frames, frequencies)"""
    _check_stride("stft", sequence_stride)
    if x.dtype not in (jnp.float32, jnp.float64):
        raise TypeError(
            f"stft: expected float32 or float64, received {x.dtype}; use cast"
        )
    if fft_length < sequence_length:
        raise ValueError(
            f"stft: expected fft_length of at least {sequence_length}, the sequence_length, "
            f"received {fft_length}"
        )
    if center:
        ends = (fft_length // 2, fft_length // 2)
        pads = [(0, 0)] * (x.ndim - 1) + [ends]
        check_repeats("stft", x, pads, "reflect")
        x = jnp.pad(x, pads, mode="reflect")
    values = _window(window, sequence_length, fft_length, x.dtype)
    found = jax.scipy.signal.stft(
        x,
        window=values,
        nperseg=fft_length,
        noverlap=fft_length - sequence_stride,
        nfft=fft_length,
        boundary=None,
        padded=False,
    )[-1]
    # JAX divides by the sum of the window; (..., frequencies, frames) -> (..., frames, ...)
    scale = jnp.sqrt(1.0 / values.sum() ** 2)
    return _parts(jnp.swapaxes(found / scale, -2, -1))


@keeps_lists
def istft(
    x: Tree,
    sequence_length: int,
    sequence_stride: int,
    fft_length: int,
    length: int | None = None,
    window: Tree = "hann",
    center: bool = True,
) -> Array:
    """The signal whose frames have these Fourier transforms."""
    _check_stride("istft", sequence_stride)
    frames = _complex("istft", x)
    if frames.ndim < 2:
        raise ValueError(
            f"istft: expected arrays (..., frames, frequencies), received {frames.shape}"
        )
    dtype = jnp.real(frames).dtype
    values = _window(window, sequence_length, fft_length, dtype)
    signal = jax.scipy.signal.istft(
        frames,
        window=values,
        nperseg=fft_length,
        noverlap=fft_length - sequence_stride,
        nfft=fft_length,
        boundary=False,
        time_axis=-2,
        freq_axis=-1,
    )[-1]
    scale = sequence_stride
    if window is not None:
        scale = values.sum()
    signal = signal / scale
    start = 0
    end = fft_length + sequence_stride * (frames.shape[-2] - 1)
    if center:
        start = fft_length // 2
        end = -start
    if length is not None:
        end = start + length
    return signal[..., start:end]
