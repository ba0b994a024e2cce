"""Mixed precision with Keras's names: policies, and the optimizer that scales the loss."""

from fnn.config import dtype_policy, set_dtype_policy
from fnn.dtype_policies import DTypePolicy
from fnn.optimizers import LossScaleOptimizer

__all__ = [
    "DTypePolicy",
    "LossScaleOptimizer",
    "Policy",
    "dtype_policy",
    "global_policy",
    "set_dtype_policy",
    "set_global_policy",
]

Policy = DTypePolicy
global_policy = dtype_policy
set_global_policy = set_dtype_policy
