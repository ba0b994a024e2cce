"""Distribution: the devices over which training and prediction divide batches."""

from fnn.distribution.cores import use_cpu_cores
from fnn.distribution.processes import get_device_count, initialize, list_devices

__all__ = ["get_device_count", "initialize", "list_devices", "use_cpu_cores"]
