"""PyTorch on one thread, which costs it the least CPU time."""

import torch

from benchmarks.inference_peers.torch import VERBS, network

torch.set_num_threads(1)

__all__ = ["VERBS", "network"]
