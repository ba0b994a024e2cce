"""PyTorch on one thread, which costs it the least CPU time."""

import torch

from benchmarks.peers.torch import RUNNERS

torch.set_num_threads(1)

__all__ = ["RUNNERS"]
