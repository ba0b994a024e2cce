"""fnn with a device for each core of the CPU."""

import fnn

fnn.use_cpu_cores()

from benchmarks.peers.fnn import RUNNERS  # noqa: E402

__all__ = ["RUNNERS"]
