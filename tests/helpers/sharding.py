"""How arrays lie on devices, noted inside a program."""

import jax


def note(x, found):
    """Puts into `found` how many examples of `x` each device has."""

    def look(sharding):
        found.append(sharding.shard_shape(x.shape)[0])

    if isinstance(x, jax.core.Tracer):
        jax.debug.inspect_array_sharding(x, callback=look)
