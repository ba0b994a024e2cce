"""One device: the line by which `fit` says, once a process, that it leaves other devices idle."""

from __future__ import annotations

import jax

from fnn.runtime.layouts import current
from fnn.training.data import ArrayData, is_on_several_devices
from fnn.training.plan import Plan
from fnn.training.progress import Progress


class Mentioned:
    """Whether the line has been written."""

    once = False


def mention(plan: Plan, progress: Progress) -> None:
    """Writes the line if there are several devices and nobody has said which to use."""
    number = jax.local_device_count()
    default = getattr(jax.config, "jax_default_device", None)
    chosen = current() is not None or default is not None
    if number == 1 or chosen or jax.process_count() > 1:
        return
    data = plan.data
    arrays = data.arrays if isinstance(data, ArrayData) else data.first
    if is_on_several_devices((arrays, plan.weights.now)):
        return
    Mentioned.once = True
    progress.note(
        f"fit uses 1 of {number} devices; distribution=fnn.distribution.DataParallel(), in compile "
        "or in fnn.training.fit, uses all of them"
    )
