"""fnn: neural networks for JAX. Layers are pure init/apply pairs; Model has Keras's verbs."""

import fnn.layers as _layers  # noqa: F401 - the layers come before what makes nodes of them
from fnn import (
    activations,
    applications,
    backend,
    callbacks,
    config,
    constraints,
    data,
    datasets,
    distillation,
    distribution,
    dtype_policies,
    explain,
    export,
    initializers,
    layers,
    losses,
    metrics,
    mixed_precision,
    models,
    networks,
    ops,
    optimizers,
    preprocessing,
    quantizers,
    random,
    regularizers,
    saving,
    schedules,
    training,
    tree,
    utils,
    visualization,
)
from fnn.core.context import INFERENCE, Context, Masked
from fnn.core.layer import Layer
from fnn.core.registry import register
from fnn.distribution import use_cpu_cores
from fnn.dtype_policies import DTypePolicy, FloatDTypePolicy
from fnn.initializers import Initializer
from fnn.keras_names import install as _install_keras_names
from fnn.layers import InputSpec
from fnn.losses import Loss
from fnn.metrics import Metric
from fnn.models import Function, Model, Sequential, cross_validate, fit_many, load
from fnn.optimizers import Optimizer
from fnn.preprocessing import image as _image  # noqa: F401 - Keras's names
from fnn.preprocessing import sequence as _sequence  # noqa: F401
from fnn.quantizers import Quantizer
from fnn.regularizers import Regularizer
from fnn.runtime.memory import keep_some_freed_memory as _keep_some_freed_memory
from fnn.runtime.seed import set_seed
from fnn.runtime.tracebacks import install as _shorten_tracebacks
from fnn.runtime.version import VERSION
from fnn.scopes import device, name_scope
from fnn.summaries import show
from fnn.symbolic.inputs import KerasTensor
from fnn.symbolic.node import Input
from fnn.symbolic.rematerializing import RematScope, remat
from fnn.variables import StatelessScope, Variable

__version__ = VERSION

# A step of a graph is a layer, also one that a function of `fnn.ops` makes.
Operation = Layer


def version() -> str:
    """The version of fnn.

    >>> version() == fnn.__version__
    True
    """
    return __version__


__all__ = [
    "INFERENCE",
    "Context",
    "DTypePolicy",
    "FloatDTypePolicy",
    "Function",
    "Initializer",
    "Input",
    "InputSpec",
    "KerasTensor",
    "Layer",
    "Loss",
    "Masked",
    "Metric",
    "Model",
    "Operation",
    "Optimizer",
    "Quantizer",
    "Regularizer",
    "RematScope",
    "Sequential",
    "StatelessScope",
    "Variable",
    "activations",
    "applications",
    "backend",
    "callbacks",
    "config",
    "constraints",
    "cross_validate",
    "data",
    "datasets",
    "device",
    "distillation",
    "distribution",
    "dtype_policies",
    "explain",
    "export",
    "fit_many",
    "initializers",
    "layers",
    "load",
    "losses",
    "metrics",
    "mixed_precision",
    "models",
    "name_scope",
    "networks",
    "ops",
    "optimizers",
    "preprocessing",
    "quantizers",
    "random",
    "register",
    "regularizers",
    "remat",
    "saving",
    "schedules",
    "set_seed",
    "show",
    "training",
    "tree",
    "use_cpu_cores",
    "utils",
    "version",
    "visualization",
]

_install_keras_names()
_keep_some_freed_memory()
_shorten_tracebacks()
