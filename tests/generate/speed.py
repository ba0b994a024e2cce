"""The README's table of speed, from what `make benchmark` measured."""

import json
from statistics import median

from tests.generate.documents import ROOT

PEERS = {"fnn": "fnn", "keras": "Keras on JAX", "flax": "Flax NNX", "torch": "PyTorch"}
WORKLOADS = {
    "mlp": "mlp, 10-16-1, batch 32",
    "cnn": "cnn, 28x28, batch 32",
    "lstm": "LSTM, 128 units, 64 steps, batch 64",
    "gpt": "GPT, 4 blocks of 128, context 128, batch 16",
    "resnet": "ResNet-50, 64x64, batch 8",
}


def milliseconds(workload, peer):
    """The median wall time of a training step."""
    times = [turn["wall"] for turn in workload["peers"][peer]["rounds"]]
    return 1000 * median(times) / workload["steps"]


def section():
    """The table as a part of the README: one row for each network."""
    measured = json.loads((ROOT / "benchmarks" / "training.json").read_text())
    lines = ["", f"| ms a training step, 2 cores | {' | '.join(PEERS.values())} |"]
    lines += ["|---" + "|--:" * len(PEERS) + "|"]
    for name, title in WORKLOADS.items():
        known = measured[name]["peers"]
        cells = [f"{milliseconds(measured[name], p):.3g}" if p in known else "" for p in PEERS]
        lines += [f"| {title} | {' | '.join(cells)} |"]
    return "\n".join([*lines, "", ""])
