"""Settings of the process with Keras's names."""

from __future__ import annotations

import os
from typing import NoReturn

import jax
from jax.experimental.compilation_cache import (
    compilation_cache as compilation_cache_of_jax,
)

from fnn.core.layer import Layer
from fnn.dtype_policies import DTypePolicy, get
from fnn.runtime.settings import epsilon, settings
from fnn.runtime.tracebacks import is_filtering

__all__ = [
    "backend",
    "compilation_cache",
    "disable_flash_attention",
    "disable_interactive_logging",
    "disable_traceback_filtering",
    "dtype_policy",
    "enable_flash_attention",
    "enable_interactive_logging",
    "enable_traceback_filtering",
    "enable_unsafe_deserialization",
    "epsilon",
    "floatx",
    "image_data_format",
    "is_flash_attention_enabled",
    "is_interactive_logging_enabled",
    "is_nnx_enabled",
    "is_traceback_filtering_enabled",
    "max_epochs",
    "max_steps_per_epoch",
    "set_backend",
    "set_compilation_cache",
    "set_dtype_policy",
    "set_epsilon",
    "set_floatx",
    "set_image_data_format",
    "set_max_epochs",
    "set_max_steps_per_epoch",
]

Layer.settings = settings
POLICIES = ("float32", "mixed_bfloat16", "mixed_float16", "float64")


def backend() -> str:
    """The name of the backend, always "jax".

    >>> backend()
    'jax'
    """
    return "jax"


def set_backend(backend: str) -> None:
    """Accepts "jax", the only backend. Raises ValueError for other names.

    >>> set_backend("jax")
    """
    if backend != "jax":
        raise ValueError(
            f'expected the backend "jax", received {backend!r}; fnn has no other, leave it out'
        )


# -- numbers -------------------------------------------------------------------------------------


def set_epsilon(value: float) -> None:
    """Sets the small number that losses and metrics add or clip at; the default is 1e-7.

    >>> set_epsilon(1e-5)
    >>> epsilon()
    1e-05
    >>> set_epsilon(1e-7)
    """
    settings.change(epsilon=value)


def floatx() -> str:
    """The dtype of weights, and of an `Input` without a dtype: "float32" unless set.

    >>> floatx()
    'float32'
    """
    return settings.floatx


def set_floatx(value: str) -> None:
    """Sets the dtype of new weights and inputs: "float32", or "float64".

    float64 needs JAX with `jax_enable_x64`. Raises ValueError without it, and
    for half precision: weights keep full precision.

    >>> set_floatx("float32")
    """
    if value not in ("float32", "float64"):
        raise ValueError(
            f'expected floatx to be "float32" or "float64", received {value!r}; weights keep '
            'full precision, compute in half precision by dtype="bfloat16" in a layer'
        )
    if value == "float64" and not _jax_setting("jax_enable_x64"):
        raise ValueError(
            'expected JAX with float64 enabled for set_floatx("float64"), received JAX without; '
            "start Python with the environment variable JAX_ENABLE_X64=1"
        )
    settings.change(floatx=value)
    if settings.policy_dtype is None:
        settings.dtype_policy = value


def dtype_policy() -> DTypePolicy:
    """The policy of layers that have none.

    >>> dtype_policy()
    DTypePolicy()
    """
    return DTypePolicy(settings.dtype_policy)


def set_dtype_policy(policy: str | DTypePolicy) -> None:
    """Sets the policy of new layers that have no dtype of their own.

    "float32"; "mixed_bfloat16" or "mixed_float16": layers compute in half precision, with weights,
    statistics, softmax and losses in float32; "float64" (see `set_floatx`). Layers keep the policy
    they were made under. With "mixed_float16" `compile` adds a `LossScaleOptimizer`.
    Raises ValueError for others: weights keep full precision, and layers are quantized after
    training, by `model.quantize`.

    >>> set_dtype_policy("mixed_bfloat16")
    >>> layer = fnn.layers.Dense(3)
    >>> layer.compute_dtype, layer.variable_dtype
    ('bfloat16', 'float32')
    >>> set_dtype_policy("float32")
    """
    found = get(policy)
    if found.name not in POLICIES:
        raise ValueError(
            f"expected one of the policies {list(POLICIES)}, received {found.name!r}; weights "
            "keep full precision, compute in half precision by "
            'fnn.config.set_dtype_policy("mixed_bfloat16")'
        )
    set_floatx(found.variable_dtype)
    mixed = found.compute_dtype if found.name.startswith("mixed") else None
    settings.dtype_policy, settings.policy_dtype = found.name, mixed


# -- images --------------------------------------------------------------------------------------


def image_data_format() -> str:
    """Where the channels of images are: "channels_last" unless set.

    >>> image_data_format()
    'channels_last'
    """
    return settings.image_data_format


def set_image_data_format(data_format: str) -> None:
    """Sets the `data_format` of new layers and of `fnn.ops` where none is given.

    Raises ValueError unless it is "channels_last" or "channels_first".

    >>> set_image_data_format("channels_first")
    >>> fnn.layers.MaxPooling2D().data_format
    'channels_first'
    >>> set_image_data_format("channels_last")
    """
    if data_format not in ("channels_last", "channels_first"):
        raise ValueError(
            'expected data_format to be "channels_last" or "channels_first", received '
            f"{data_format!r}"
        )
    settings.change(image_data_format=data_format)


# -- attention -----------------------------------------------------------------------------------


def enable_flash_attention() -> None:
    """Lets attention layers use the fused kernel of a GPU where it fits, as at first.

    >>> enable_flash_attention()
    """
    settings.change(flash_attention=None)


def disable_flash_attention() -> None:
    """Keeps attention layers from the fused kernel of a GPU.

    >>> disable_flash_attention()
    >>> is_flash_attention_enabled()
    False
    >>> enable_flash_attention()
    """
    settings.change(flash_attention=False)


def is_flash_attention_enabled() -> bool | None:
    """False after `disable_flash_attention`, else None: where the kernel fits.

    >>> is_flash_attention_enabled() is None
    True
    """
    return settings.flash_attention


# -- output --------------------------------------------------------------------------------------


def enable_interactive_logging() -> None:
    """Prints the progress of `fit`, `evaluate` and `predict`, as at first.

    >>> enable_interactive_logging()
    """
    settings.interactive_logging = True


def disable_interactive_logging() -> None:
    """Sends the progress of `fit`, `evaluate` and `predict` to the logger `fnn`, by lines.

    >>> disable_interactive_logging()
    >>> is_interactive_logging_enabled()
    False
    >>> enable_interactive_logging()
    """
    settings.interactive_logging = False


def is_interactive_logging_enabled() -> bool:
    """Whether progress is printed.

    >>> is_interactive_logging_enabled()
    True
    """
    return settings.interactive_logging


def enable_traceback_filtering() -> None:
    """Shows uncaught errors without the frames of fnn and JAX, as at first.

    >>> enable_traceback_filtering()
    """
    _filter_tracebacks("auto")


def disable_traceback_filtering() -> None:
    """Shows uncaught errors with all frames, those of fnn and JAX included.

    While they are left out, what a program catches still has all frames of fnn; they are left
    out of what Python and IPython show at the end. JAX_TRACEBACK_FILTERING=off in the
    environment does the same from the start.

    >>> disable_traceback_filtering()
    >>> is_traceback_filtering_enabled()
    False
    >>> enable_traceback_filtering()
    """
    _filter_tracebacks("off")


def _filter_tracebacks(mode: str) -> None:
    _set_jax("jax_traceback_filtering", mode)


def _set_jax(name: str, value: object) -> None:
    jax.config.update(name, value)  # type: ignore[no-untyped-call]


def _jax_setting(name: str) -> object:
    return getattr(jax.config, name)


def is_traceback_filtering_enabled() -> bool:
    """Whether uncaught errors are shown without the frames of fnn and JAX.

    >>> is_traceback_filtering_enabled()
    True
    """
    return is_filtering()


# -- limits of a training ------------------------------------------------------------------------


def max_epochs() -> int | None:
    """The most epochs of a `fit`, None without a limit (`KERAS_MAX_EPOCHS` sets one, too).

    >>> max_epochs() is None
    True
    """
    return settings.max_epochs


def set_max_epochs(max_epochs: int | None) -> None:
    """Limits the epochs of every `fit`, for a trial run; None removes the limit.

    >>> set_max_epochs(2)
    >>> set_max_epochs(None)
    """
    settings.max_epochs = max_epochs


def max_steps_per_epoch() -> int | None:
    """The most batches of an epoch, None without a limit (`KERAS_MAX_STEPS_PER_EPOCH`).

    >>> max_steps_per_epoch() is None
    True
    """
    return settings.max_steps_per_epoch


def set_max_steps_per_epoch(max_steps_per_epoch: int | None) -> None:
    """Limits the batches of `fit`, `evaluate` and `predict`; None removes the limit.

    >>> set_max_steps_per_epoch(2)
    >>> set_max_steps_per_epoch(None)
    """
    settings.max_steps_per_epoch = max_steps_per_epoch


# -- compilations --------------------------------------------------------------------------------


def compilation_cache() -> str | None:
    """The folder in which compiled programs are kept, None if they are not.

    >>> isinstance(compilation_cache(), str | None)
    True
    """
    folder: str | None = _jax_setting("jax_compilation_cache_dir")  # type: ignore[assignment]
    return folder


def set_compilation_cache(folder: str | os.PathLike[str] | None) -> None:
    """Keeps compiled programs in a folder, where later processes find them; None ends that.

    For all programs of this process that take 0.1 s or more to compile, those of JAX alone too
    (JAX keeps those from 1 s on). They are found again on the same kind of device, with the same
    versions of JAX and XLA. The folder grows: remove it when it is too large.

    >>> before = compilation_cache()
    >>> set_compilation_cache("programs")
    >>> compilation_cache().endswith("programs")  # with the folders that it is in
    True
    >>> set_compilation_cache(before)
    """
    if folder is not None:
        folder = os.path.abspath(folder)  # also after a change of the working folder
    _set_jax("jax_compilation_cache_dir", folder)
    _set_jax("jax_persistent_cache_min_compile_time_secs", 0.1)
    # JAX looks at the folder once only.
    compilation_cache_of_jax.reset_cache()


# -- what is not here ----------------------------------------------------------------------------


def is_nnx_enabled() -> bool:
    """Whether variables are those of Flax NNX: never.

    >>> is_nnx_enabled()
    False
    """
    return False


def enable_unsafe_deserialization() -> NoReturn:
    """Raises ValueError: fnn never runs code from a file.

    >>> enable_unsafe_deserialization()
    Traceback (most recent call last):
    ValueError: fnn never runs code from a file, whatever is enabled; register your functions by \
    fnn.register(function, 'name'), so that a file can refer to them
    """
    raise ValueError(
        "fnn never runs code from a file, whatever is enabled; register your functions by "
        "fnn.register(function, 'name'), so that a file can refer to them"
    )
