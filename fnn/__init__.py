"""fnn: neural networks for JAX. Layers are pure init/apply pairs; Model has Keras's verbs."""

from fnn import (
    activations,
    callbacks,
    constraints,
    datasets,
    distribution,
    initializers,
    layers,
    losses,
    metrics,
    models,
    networks,
    ops,
    optimizers,
    random,
    regularizers,
    saving,
    schedules,
    training,
    utils,
    visualization,
)
from fnn.core.context import INFERENCE, Context
from fnn.core.layer import Layer
from fnn.core.masking import Masked
from fnn.core.registry import register
from fnn.distribution import use_cpu_cores
from fnn.keras_names import install as _install_keras_names
from fnn.models import Model, Sequential, load
from fnn.runtime.memory import keep_some_freed_memory as _keep_some_freed_memory
from fnn.runtime.seed import set_seed
from fnn.symbolic.node import Input

__version__ = "0.1.0"

__all__ = [
    "INFERENCE",
    "Context",
    "Input",
    "Layer",
    "Masked",
    "Model",
    "Sequential",
    "activations",
    "callbacks",
    "constraints",
    "datasets",
    "distribution",
    "initializers",
    "layers",
    "load",
    "losses",
    "metrics",
    "models",
    "networks",
    "ops",
    "optimizers",
    "random",
    "register",
    "regularizers",
    "saving",
    "schedules",
    "set_seed",
    "training",
    "use_cpu_cores",
    "utils",
    "visualization",
]

_install_keras_names()
_keep_some_freed_memory()
