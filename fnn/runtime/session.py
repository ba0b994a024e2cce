"""The session: seeds of a whole script, and the cache of compiled programs."""

from __future__ import annotations

import gc
import random

import numpy as np

from fnn.runtime.program_cache import clear_all, programs
from fnn.runtime.seed import set_seed


def set_random_seed(seed: int) -> None:
    """Sets the seeds of fnn, Python and NumPy, so that a whole script is reproducible.

    Raises ValueError unless `seed` is an integer.

    >>> set_random_seed(0)
    >>> np.random.randint(100)
    44
    """
    set_seed(seed)
    random.seed(seed)
    np.random.seed(seed)


def set_program_cache_size(size: int) -> None:
    """Sets how many compiled programs are kept for later models; the default is 24.

    There is one program of a few MB for each network, kind of step (training, evaluation,
    prediction) and shape of batches. When there are more, the least recently used ones are freed,
    and compiled again when they are needed. With 0, programs are freed when their model is.
    Raises ValueError unless `size` is an integer of at least 0.

    >>> set_program_cache_size(8)  # saves memory if each of many models is used once
    >>> set_program_cache_size(24)
    """
    if isinstance(size, bool) or not isinstance(size, int) or size < 0:
        raise ValueError(
            f"set_program_cache_size: size must be an integer of at least 0, got {size!r}; "
            "pass e.g. 24"
        )
    programs.resize(size)


def clear_session(free_memory: bool = True) -> None:
    """Frees all compiled programs. Models keep their weights and compile again when used.

    `free_memory` also runs the garbage collector. There are no name counters to reset, unlike in
    Keras. (The C library may not return freed memory to the operating system.)

    >>> model = fnn.Sequential([fnn.layers.Dense(1, input_shape=(2,))], seed=0)
    >>> before = model.predict(np.ones((1, 2)), verbose=0)
    >>> clear_session()
    >>> bool((model.predict(np.ones((1, 2)), verbose=0) == before).all())
    True
    """
    clear_all()
    if free_memory:
        gc.collect()
