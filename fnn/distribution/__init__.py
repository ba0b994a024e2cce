"""Distribution: the devices over which training and prediction divide batches and weights."""

from fnn.distribution.cores import use_cpu_cores
from fnn.distribution.mesh import (
    DeviceMesh,
    LayoutMap,
    TensorLayout,
    distribute_tensor,
)
from fnn.distribution.pipelining import pipeline
from fnn.distribution.processes import get_device_count, initialize, list_devices
from fnn.distribution.ready_made import (
    FSDP,
    ByPath,
    DataParallel,
    ModelParallel,
    TensorParallel,
    distribution,
    set_distribution,
)

__all__ = [
    "FSDP",
    "ByPath",
    "DataParallel",
    "DeviceMesh",
    "LayoutMap",
    "ModelParallel",
    "TensorLayout",
    "TensorParallel",
    "distribute_tensor",
    "distribution",
    "get_device_count",
    "initialize",
    "list_devices",
    "pipeline",
    "set_distribution",
    "use_cpu_cores",
]
