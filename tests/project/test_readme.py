"""The README's programs run as they stand, and its claims about them hold."""

import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.optimized]

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
TITLES = [block.strip().splitlines()[-1][:40] for block in BLOCKS]


@pytest.mark.parametrize("block", BLOCKS, ids=TITLES)
def test_a_program_of_the_readme_runs(block, tmp_path, monkeypatch):
    if "use_cpu_cores" in block:  # before JAX starts, as here it has
        subprocess.run([sys.executable, "-W", "error", "-c", block], cwd=ROOT, check=True)
        return
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "readme"}
    with jax.numpy_rank_promotion("allow"):  # as a user has it
        exec(compile(block, "README.md", "exec"), names)
    if "adam.init(j)" in block:
        assert len([line for line in block.splitlines() if line.strip()]) <= 25
        assert len(names["history"].epoch) == 5
        assert np.isfinite(list(names["history"].history.values())).all()


def test_the_readme_opens_with_its_two_commands():
    first = re.search(r"```\n(.*?)```", README, re.DOTALL)[1]
    assert [line.split("#")[0].strip() for line in first.splitlines()] == ["make demo", "make test"]
