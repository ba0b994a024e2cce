"""Accelerator: step times and the share of the chip's peak, on whatever accelerator is there.

    python -m benchmarks.accelerator                              all, in 8 minutes, into README.md
    python -m benchmarks.accelerator --small --folder /tmp/quick  a trial on CPU: everything tiny
    python -m benchmarks.accelerator --only gpt --peers hand fnn  a part, printed only

On a CPU nothing is written into README.md.

Each peer trains (or predicts) in a process of its own, one after the other, so that each has the
whole memory of the device. What does not fit into the time is listed as not measured. The
measure is a jitted, donating step of plain JAX over data on the device. Floating-point operations
are those of the products and convolutions of the forward pass, times three in training: the same
number for all peers. A share of the peak is left out for a chip that is not in the table.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import jaxprs_in_params

from benchmarks import report, workloads
from benchmarks.processes import ENVIRONMENT, ROOT
from benchmarks.workloads import WORKLOADS, Data, SkipError

PEERS = ("hand", "fnn", "torch", "flax")
# Dense teraflops of a chip by the name that JAX gives it: (float32 as JAX multiplies by default,
# bfloat16). GPUs use TF32 for the first, TPUs bfloat16. From the makers' data sheets.
PEAKS = {
    "A100": (156, 312),
    "H100": (495, 989),
    "H200": (495, 989),
    "TPU v4": (275, 275),
    "TPU v5 lite": (197, 197),
    "TPU v5p": (459, 459),
    "TPU v5": (459, 459),
    "TPU v6 lite": (918, 918),
}
ROUNDS = 3


class Size(NamedTuple):
    """A workload of `workloads.py` at a size: its batch, steps of a round, and what differs."""

    workload: str
    batch: int
    steps: int
    sizes: dict[str, int]


class Case(NamedTuple):
    """What is measured: training or prediction, in float32 or (`half`) in bfloat16."""

    title: str
    verb: str
    half: bool
    full: Size
    small: Size


TEXT = {"width": 768, "heads": 12, "context": 1024, "vocabulary": 50_304}
TINY_TEXT = {"width": 16, "heads": 2, "context": 8, "vocabulary": 65}
TINY_LSTM = {"units": 8, "steps": 4, "features": 12}
CASES = {
    "cnn": Case(
        "cnn, batch 256, float32", "fit", False, Size("cnn", 256, 100, {}), Size("cnn", 4, 2, {})
    ),
    "resnet": Case(
        "ResNet-50, images of 224x224, batch 128, bfloat16",
        "fit",
        True,
        Size("resnet", 128, 8, {"size": 224}),
        Size("resnet", 2, 2, {"size": 32}),
    ),
    "gpt": Case(
        "gpt, 12 blocks of 768, context 1,024, batch 8, bfloat16",
        "fit",
        True,
        Size("gpt12", 8, 8, TEXT),
        Size("gpt", 2, 2, TINY_TEXT),
    ),
    "lstm": Case(
        "LSTM of 128 units over 64 steps, batch 64, float32",
        "fit",
        False,
        Size("lstm", 64, 100, {}),
        Size("lstm", 4, 2, TINY_LSTM),
    ),
    "predict": Case(
        "predict of the cnn, batch 256, float32",
        "predict",
        False,
        Size("cnn", 256, 100, {}),
        Size("cnn", 4, 2, {}),
    ),
}  # fmt: skip


def sized(case: Case, small: bool) -> Size:
    """The size of a case, which the sizes of its workload are set to in this process."""
    size = case.small if small else case.full
    for group in ("GPT", "LSTM", "RESNET"):
        known = getattr(workloads, group)
        if group.lower() == size.workload.rstrip("0123456789"):
            known.update(size.sizes)
    return size


# -- peers: functions (case, size, data) -> an epoch -----------------------------------------------


def hand_network(size: Size) -> Any:
    from benchmarks.peers import hand

    return hand.NETWORKS[size.workload]()


def lower(tree: Any, half: bool) -> Any:
    """Arrays of float32 in the precision that the case computes in."""

    def cast(a: Any) -> Any:
        return a.astype(jnp.bfloat16) if a.dtype == jnp.float32 else a

    return jax.tree.map(cast, tree) if half else tree


def hand(case: Case, size: Size, data: Data) -> Callable[[], None]:
    """A jitted step that donates its state, over data on the device; weights stay float32."""
    from benchmarks.peers import hand

    network = hand_network(size)

    def forward(p: Any, s: Any, x: Any, train: bool) -> Any:
        logits, after = network.forward(
            lower(p, case.half), s, lower(x, case.half), train
        )
        return logits.astype(jnp.float32), after

    computed = network._replace(forward=forward)
    carry = hand.start(network)
    x, y = jax.device_put((data.x, data.y))
    if case.verb == "predict":
        outputs = jax.jit(
            lambda p, s, x: network.probabilities(forward(p, s, x, False)[0])
        )

        def predict() -> None:
            for rows in np.arange(len(x)).reshape(-1, data.batch):
                np.asarray(outputs(*carry[:2], data.x[rows]))

        return predict

    @functools.partial(jax.jit, donate_argnums=0)
    def step(carry: Any, x: Any, y: Any, rows: Any) -> Any:
        return hand.train_step(computed, carry, x[rows], y[rows])

    def epoch() -> None:
        nonlocal carry
        for rows in data.order():
            carry, value = step(carry, x, y, rows)
        float(value)

    return epoch


def fnn(case: Case, size: Size, data: Data) -> Callable[[], None]:
    import fnn
    from benchmarks.peers import fnn as peer

    before = fnn.config.dtype_policy()
    fnn.config.set_dtype_policy("mixed_bfloat16" if case.half else "float32")
    model = peer.NETWORKS[size.workload]()
    fnn.config.set_dtype_policy(before)
    if case.verb == "predict":
        return lambda: model.predict(data.x, batch_size=data.batch, verbose=0)
    return peer.trainer(model, peer.LOSSES[size.workload], data)


def torch(case: Case, size: Size, data: Data) -> Callable[[], None]:
    """`torch.compile`, with autocast to bfloat16 where the case asks for it."""
    import torch

    from benchmarks.peers import torch as peer

    if peer.DEVICE == "cpu" and jax.default_backend() != "cpu":
        raise SkipError("PyTorch sees no accelerator")
    model, loss = peer.network(size.workload), peer.LOSSES[size.workload]
    if peer.DEVICE != "cpu":
        model = torch.compile(model)
    optimizer = torch.optim.Adam(model.parameters(), workloads.LEARNING_RATE)
    x = torch.from_numpy(peer.channels_first(data.x)).to(peer.DEVICE)
    y = peer.targets(data.y).to(peer.DEVICE)
    precision = functools.partial(
        torch.autocast, peer.DEVICE, dtype=torch.bfloat16, enabled=case.half
    )

    def predict() -> None:
        with torch.inference_mode(), precision():
            for rows in x.split(data.batch):
                model(rows).softmax(-1).float().cpu()

    def epoch() -> None:
        for rows in torch.randperm(len(x), device=peer.DEVICE).split(data.batch):
            optimizer.zero_grad()
            with precision():
                value = loss(model(x[rows]), y[rows])
            value.backward()
            optimizer.step()
        value.item()

    return predict if case.verb == "predict" else epoch


def flax(case: Case, size: Size, data: Data) -> Callable[[], None]:
    """Batches come from the host, as in its guides."""
    from benchmarks.peers import flax as peer

    if case.half or case.verb == "predict":
        raise SkipError("written for training in float32 only")
    return peer.RUNNERS[size.workload](data)


RUNNERS = {"hand": hand, "fnn": fnn, "torch": torch, "flax": flax}


# -- measuring -------------------------------------------------------------------------------------


def operations(jaxpr: Any) -> float:
    """The floating-point operations of the products and convolutions of a program."""
    total = 0.0
    for equation in jaxpr.eqns:
        inside = list(jaxprs_in_params(equation.params))
        if inside:
            total += equation.params.get("length", 1) * sum(map(operations, inside))
            continue
        shapes = [getattr(v.aval, "shape", ()) for v in equation.invars]
        size = math.prod(equation.outvars[0].aval.shape)
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            total += 2 * size * math.prod(shapes[0][axis] for axis in contracted)
        elif equation.primitive.name == "conv_general_dilated":
            _, *summed = equation.params["dimension_numbers"].rhs_spec
            total += 2 * size * math.prod(shapes[1][axis] for axis in summed)
    return total


def operations_of(case: Case, size: Size) -> float:
    """Those of a step, as the hand-written network computes it."""
    network = hand_network(size)
    x, _ = WORKLOADS[size.workload].examples(1)
    x = jax.ShapeDtypeStruct((size.batch, *x.shape[1:]), x.dtype)
    params, state = jax.eval_shape(network.init, jax.random.key(0))
    traced = jax.jit(network.forward, static_argnums=3).trace(params, state, x, False)
    forward = operations(traced.jaxpr.jaxpr)
    return forward if case.verb == "predict" else 3 * forward


def peak(kind: str, half: bool) -> float | None:
    """The peak of a chip in operations a second; None if it is not known."""
    for name, teraflops in PEAKS.items():
        if name in kind:
            return 1e12 * teraflops[half]
    return None


def measured(peer: str, name: str, small: bool) -> dict[str, Any]:
    """Seconds a step of a peer in this process, and of its first epoch; or why there are none."""
    case = CASES[name]
    size = sized(case, small)
    workload = WORKLOADS[size.workload]
    data = Data(*workload.examples(size.batch * size.steps), size.batch)
    try:
        start = time.perf_counter()
        epoch = RUNNERS[peer](case, size, data)
        epoch()
        first = time.perf_counter() - start
    except (ImportError, SkipError) as reason:
        return {"skip": str(reason)}
    epoch()  # what settles in the second epoch
    rounds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        epoch()
        rounds.append((time.perf_counter() - start) / size.steps)
    return {
        "step": median(rounds),
        "first": first,
        "operations": operations_of(case, size),
    }


def in_process(peer: str, name: str, small: bool, seconds: float) -> dict[str, Any]:
    """`measured` in a process of its own, which ends when the time is over."""
    if seconds <= 0:
        return {"skip": "no time was left"}
    print(f"{name}: {peer}", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "benchmarks.accelerator", "--one", peer, name]
    environment = {**ENVIRONMENT, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    try:
        done = subprocess.run(
            [*command, *(["--small"] if small else [])],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=environment,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        return {"skip": "no time was left"}
    lines = done.stdout.splitlines()
    return (
        json.loads(lines[-1])
        if done.returncode == 0 and lines
        else {"skip": "it failed"}
    )


def rows(name: str, peers: dict[str, dict[str, Any]], kind: str) -> Iterator[str]:
    """The rows of the table in Markdown for one case."""
    case = CASES[name]
    yield f"| {case.title} ||||||"
    hand = peers.get("hand", {}).get("step")
    for peer, found in peers.items():
        title = report.TITLES[peer]
        if "skip" in found:
            yield f"| {title} | not measured: {found['skip']} |||||"
            continue
        rate = found["operations"] / found["step"]
        known = peak(kind, case.half)
        cells = [
            f"{1e3 * found['step']:.3g}",
            f"{found['step'] / hand:.2f}" if hand else "",
            f"{rate / 1e12:.3g}",
            f"{100 * rate / known:.1f} %" if known else "",
            f"{found['first']:.1f}",
        ]
        yield f"| {title} | {' | '.join(cells)} |"


def table(
    results: dict[str, dict[str, dict[str, Any]]], kind: str, where: dict[str, str]
) -> str:
    """All cases, in Markdown."""
    lines = [
        f"{where['date']}, {kind}; {where['versions']}.",
        "",
        "| | ms a step | to hand | TFLOP/s | of the peak | first epoch s |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, peers in results.items():
        lines += rows(name, peers, kind)
    return "\n".join(lines) + "\n"


def device_kind() -> str:
    """The name of the accelerator, asked in a process of its own, which gives it back."""
    ask = "import jax; print(jax.devices()[0].device_kind)"
    done = subprocess.run(
        [sys.executable, "-c", ask], stdout=subprocess.PIPE, text=True
    )
    return done.stdout.strip() or "no device"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="benchmarks.accelerator", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS))
    parser.add_argument(
        "--minutes", type=float, default=8, help="the limit: %(default)s"
    )
    parser.add_argument(
        "--small", action="store_true", help="a few steps, everything tiny"
    )
    parser.add_argument(
        "--folder", type=Path, default=Path(__file__).parent, help="%(default)s"
    )
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.one:
        print(json.dumps(measured(*options.one, options.small)), flush=True)
        return
    end = time.monotonic() + 60 * options.minutes
    kind = device_kind()
    results: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in options.only}
    # The peer that everything is compared to goes first, in every case.
    for peer in options.peers:
        for name in options.only:
            left = end - time.monotonic()
            results[name][peer] = in_process(peer, name, options.small, left)
    text = table(results, kind, report.machine(options.peers))
    print(text)
    is_trial = options.small or kind == "cpu"
    whole = set(options.only) == set(CASES) and set(options.peers) == set(PEERS)
    if whole and not (is_trial and options.folder == Path(__file__).parent):
        options.folder.mkdir(parents=True, exist_ok=True)
        report.put(options.folder / "README.md", "accelerator", text)


if __name__ == "__main__":
    main()
