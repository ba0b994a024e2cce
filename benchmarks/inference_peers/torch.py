"""PyTorch: a loop over batches in inference mode."""

from typing import Any, NamedTuple

import numpy as np
import torch

from benchmarks.peers.torch import DEVICE, LOSSES, channels_first, targets
from benchmarks.peers.torch import network as module_of


class Module(NamedTuple):
    model: torch.nn.Module
    loss: Any
    binary: bool
    steps: bool  # logits are (batch, classes, time), as PyTorch's loss takes them

    def probabilities(self, x):
        logits = self.model(torch.from_numpy(x).to(DEVICE))
        if self.steps:
            return logits.softmax(1).transpose(1, 2)
        return logits.sigmoid() if self.binary else logits.softmax(1)


def network(workload):
    model = module_of(workload).eval()
    return Module(
        model, LOSSES[workload], workload == "mlp", workload.startswith("gpt")
    )


def inferring(verb):
    """The verb on images as PyTorch's users keep them, without gradients."""

    def make(module, x, y, batch):
        call = verb(module, channels_first(x), y, batch)
        return torch.inference_mode()(call)

    return make


def predict(module, x, y, batch):
    def call():
        batches = range(0, len(x), batch)
        parts = [module.probabilities(x[first : first + batch]) for first in batches]
        return torch.cat(parts).cpu().numpy()

    return call


def evaluate(module, x, y, batch):
    x, y = torch.from_numpy(x).to(DEVICE), targets(y).to(DEVICE)

    def call():
        loss, hits = 0.0, 0
        for part, target in zip(x.split(batch), y.split(batch), strict=True):
            logits = module.model(part)
            loss += module.loss(logits, target) * len(part)
            right = (
                (logits > 0) == (target > 0)
                if module.binary
                else logits.argmax(1) == target
            )
            hits += right.sum()
        return np.array([float(loss) / len(x), float(hits) / y.numel()])

    return call


def call(module, x, y, batch):
    return lambda: module.probabilities(x)


VERBS = {
    "predict": inferring(predict),
    "evaluate": inferring(evaluate),
    "call": inferring(call),
}
