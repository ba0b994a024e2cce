"""The report: measured rounds -> medians and ratios, as a table in Markdown and as JSON."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.workloads import WORKLOADS

HAND = (
    "hand",
    "hand_scan",
)  # the hand-written forms; the ratios are to the first and the best
TITLES = {
    "hand": "JAX by hand",
    "hand_scan": "JAX by hand, an epoch in one scan",
    "fnn": "**fnn**",
    "keras": "Keras on JAX",
    "flax": "Flax NNX",
    "equinox": "Equinox",
    "torch": "PyTorch",
    "torch1": "PyTorch, one thread",
}
PACKAGES = ("jax", "fnn", "keras", "flax", "equinox", "torch")


def machine(peers: Iterable[str]) -> dict[str, str]:
    """What the numbers depend on besides the code."""
    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next(
            (li.partition(": ")[2] for li in lines if li.startswith("model name")), cpu
        )
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        if package in ("jax", *peers):
            try:
                versions[package] = importlib.metadata.version(package)
            except importlib.metadata.PackageNotFoundError:
                continue
    return {
        "date": datetime.date.today().isoformat(),
        "cpu": f"{os.cpu_count()} cores of {cpu}",
        "versions": ", ".join(
            f"{name} {version}" for name, version in versions.items()
        ),
    }


def milliseconds(peer: dict[str, Any], clock: str, steps: int) -> float:
    """The median over the rounds of the time a step."""
    return 1e3 * median(r[clock] for r in peer["rounds"]) / steps


def ratios(peer: dict[str, Any], measure: dict[str, Any], clock: str) -> list[float]:
    """Round by round, so that what slowed a whole round down cancels."""
    pairs = zip(peer["rounds"], measure["rounds"], strict=True)
    return [mine[clock] / theirs[clock] for mine, theirs in pairs]


def ratio(peer: dict[str, Any], measure: dict[str, Any] | None, clock: str) -> str:
    """The median of the ratios, or nothing where the measure does not run."""
    if not measure or "rounds" not in measure:
        return ""
    return f"{median(ratios(peer, measure, clock)):.2f}"


def fastest(peers: dict[str, Any], names: Iterable[str], clock: str) -> str | None:
    """Which of the peers by these names takes the least time; None where none of them runs."""
    running = [name for name in names if "rounds" in peers.get(name, {})]
    time = lambda name: median(r[clock] for r in peers[name]["rounds"])
    return min(running, key=time, default=None)


def table(workload: str, result: dict[str, Any]) -> str:
    """One workload as a table in Markdown."""
    peers, steps = result["peers"], result["steps"]
    rounds = max((len(p.get("rounds", ())) for p in peers.values()), default=0)
    where = result["machine"]
    lines = [
        f"### {WORKLOADS[workload].title}",
        "",
        f"{rounds} rounds of {steps} steps, {where['date']}, {where['cpu']}; {where['versions']}.",
        "",
        "| | CPU ms a step | to hand | to best | wall ms a step | to hand | to best "
        "| first epoch s | import s | peak MB | last loss |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, peer in peers.items():
        if "skip" in peer:
            lines.append(f"| {TITLES[name]} | not measured: {peer['skip']} ||||||||||")
            continue
        cells = [TITLES[name]]
        for clock in ("cpu", "wall"):
            cells.append(f"{milliseconds(peer, clock, steps):.3g}")
            best = fastest(peers, HAND, clock)
            cells += [ratio(peer, peers.get(name), clock) for name in (HAND[0], best)]
        cells += [
            f"{peer['first']:.1f}",
            f"{peer['imported']:.1f}",
            f"{peer['memory']:.0f}",
        ]
        cells.append(f"{peer['rounds'][-1]['loss']:.3g}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def write(
    folder: Path,
    workload: str,
    result: dict[str, Any],
    part: str = "training",
    table: Callable[[str, dict[str, Any]], str] = table,
) -> None:
    """Puts a new result beside the older ones: all in a JSON file, their tables in README.md."""
    folder.mkdir(parents=True, exist_ok=True)
    data, readme = folder / f"{part}.json", folder / "README.md"
    known = json.loads(data.read_text()) if data.exists() else {}
    known[workload] = result
    known = {name: known[name] for name in WORKLOADS if name in known}
    data.write_text(json.dumps(known, indent=1) + "\n")
    put(readme, part, "\n".join(table(name, result) for name, result in known.items()))


def put(readme: Path, part: str, text: str) -> None:
    """Replaces what stands between the markers of this part of a file, or appends both."""
    begin, end = f"<!-- {part}: begin -->\n", f"<!-- {part}: end -->\n"
    old = readme.read_text() if readme.exists() else ""
    before, found, rest = old.partition(begin)
    after = rest.partition(end)[2] if found else ""
    gap = "\n" if before and not found else ""
    readme.write_text(f"{before}{gap}{begin}{text}{end}{after}")
