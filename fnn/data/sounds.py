"""Sounds: audio files as arrays, and other sampling rates."""

from __future__ import annotations

import numpy as np

from fnn.runtime.optional import optional


def read_sound(path: str) -> tuple[np.ndarray, int]:
    """A sound as float32 from -1 to 1, (samples, channels), and its samples per second.

    Raises ImportError without soundfile, and its error for a file that is no sound.

    >>> import soundfile
    >>> soundfile.write("beep.wav", np.array([0.0, 0.5, -0.5]), 8000)
    >>> sound, rate = read_sound("beep.wav")
    >>> sound[:, 0].tolist(), rate
    ([0.0, 0.5, -0.5], 8000)
    """
    with optional("soundfile", extra="sound"):
        import soundfile

    sound, rate = soundfile.read(path, dtype="float32", always_2d=True)
    return sound, rate


def resampled(sound: np.ndarray, before: int, after: int) -> np.ndarray:
    """A sound with another number of samples per second, low-passed first."""
    # Imported here, since it takes time and is rarely needed.
    from scipy.signal import resample_poly  # type: ignore[import-untyped]

    divisor = int(np.gcd(before, after))
    found = resample_poly(sound, after // divisor, before // divisor, axis=0)
    return np.asarray(found, np.float32)
