"""Settings of JAX that hold in one thread only, applied in another."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import jax

# Settings of JAX's context managers that change how arrays are read or computed with. The settings
# of `jax.config.update` hold in every thread.
_NAMES = (
    "enable_x64",
    "default_device",
    "default_matmul_precision",
    "default_prng_impl",
    "threefry_partitionable",
    "numpy_dtype_promotion",
    "numpy_rank_promotion",
    "debug_nans",
    "debug_infs",
    "disable_jit",
    "transfer_guard_host_to_device",
    "transfer_guard_device_to_device",
    "transfer_guard_device_to_host",
)


class ThreadSettings:
    """The settings of the thread that creates it, with the mesh, for use in another thread.

    >>> from concurrent.futures import ThreadPoolExecutor
    >>> def dtype(settings):
    ...     with settings.applied():
    ...         return jnp.asarray(np.float64(0.1)).dtype.name
    >>> with jax.enable_x64(True), ThreadPoolExecutor() as pool:
    ...     print(pool.submit(dtype, ThreadSettings()).result())
    float64
    """

    def __init__(self) -> None:
        self._values = {name: _value(name) for name in _NAMES}
        self._mesh = jax.sharding.get_mesh()

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """A context in which the settings hold."""
        with contextlib.ExitStack() as stack:
            for name, value in self._values.items():
                if _value(name) != value:
                    stack.enter_context(getattr(jax, name)(value))
            if not self._mesh.empty:
                stack.enter_context(jax.set_mesh(self._mesh))
            yield


def _value(name: str) -> object:
    return getattr(jax.config, f"jax_{name}")
