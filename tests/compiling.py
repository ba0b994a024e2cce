"""How the tests compile: by XLA's older emitters, which are fast at it, or by its usual ones."""

import jax

# Later versions may know the flag no more, and an unknown flag ends the process.
HAS_OLDER_EMITTERS = jax.__version_info__ < (0, 11)
# They compile a small program in 0.4 of the time, and compiling is most of what the tests do.
OLDER_EMITTERS = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"


def usual_jit(function):
    """`jax.jit` as users have it: two programs of the same arithmetic agree in every bit."""
    usual = {"xla_cpu_use_fusion_emitters": True} if HAS_OLDER_EMITTERS else None
    return jax.jit(function, compiler_options=usual)
