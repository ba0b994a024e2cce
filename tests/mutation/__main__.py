"""Puts each fault into a copy of fnn, runs the tests that should find it, prints what they found.

`python -m tests.mutation`            all of them, in minutes
`python -m tests.mutation --only 3 7` these alone
`python -m tests.mutation --list`     what they are; nothing runs
`python -m tests.mutation --clean`    the same tests on the code as it is: all must pass
"""

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.mutation.faults import FAULTS, Fault

ROOT = Path(__file__).parents[2]
COPIED = ("fnn", "tests", "examples", "docs", "pyproject.toml", "README.md")
PYTEST = ("-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--tb=no", "-rfE")
TESTS_FAILED, NO_TESTS = 1, 5  # exit statuses of pytest


def main() -> int:
    """The exit status: 0 if every fault was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--only", nargs="+", type=int, metavar="N", help="these faults alone")
    parser.add_argument("--list", action="store_true", help="what they are; nothing runs")
    parser.add_argument("--clean", action="store_true", help="run the tests without the faults")
    options = parser.parse_args()
    numbers = options.only or range(1, len(FAULTS) + 1)
    if not set(numbers) <= set(range(1, len(FAULTS) + 1)):
        parser.error(f"expected numbers from 1 to {len(FAULTS)}, received {options.only}")
    if options.list:
        for number in numbers:
            print(row(number, FAULTS[number - 1], f"pytest {FAULTS[number - 1].tests}"))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        copy(Path(folder))
        right = [report(number, Path(folder), options.clean) for number in numbers]
    print(f"{sum(right)} of {len(right)} {'passed' if options.clean else 'found'}")
    return 0 if all(right) else 1


def copy(folder: Path) -> None:
    """Copies what the tests need; faults go into the copy alone."""
    for name in COPIED:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, folder / name, ignore=ignored)
        else:
            shutil.copy2(ROOT / name, folder / name)


def report(number: int, folder: Path, clean: bool) -> bool:
    """Prints the row of a fault; whether its tests found it (or pass without it, if `clean`)."""
    start, fault = time.monotonic(), FAULTS[number - 1]
    run = check if clean else find
    right, said = run(fault, folder)
    print(row(number, fault, said, time.monotonic() - start), flush=True)
    return right


def row(number: int, fault: Fault, said: str, seconds: float | None = None) -> str:
    """A row of the table: number, file, what was changed; seconds, what found it."""
    spent = "" if seconds is None else f"{seconds:.1f} s"
    return f"{number:>2}  {fault.file}: {fault.what}\n    {spent:>6}  {said}"


def find(fault: Fault, folder: Path) -> tuple[bool, str]:
    """(whether the tests find this fault, the first test that fails or why there is none)."""
    path = folder / fault.file
    before = path.read_text()
    if before.count(fault.old) != 1:
        return False, f"STALE: the text to be changed occurs {before.count(fault.old)} times"
    path.write_text(before.replace(fault.old, fault.new))
    try:
        status, output = run_tests(fault, folder)
    finally:
        path.write_text(before)
    failed = re.search(r"^(?:FAILED|ERROR) (.*?)(?: - |$)", output, re.MULTILINE)
    if status == TESTS_FAILED and failed:
        return True, failed.group(1)
    return False, "SURVIVED" if status == 0 else trouble(status, output)


def check(fault: Fault, folder: Path) -> tuple[bool, str]:
    """(whether the tests pass on the code as it is, what is wrong if not)."""
    status, output = run_tests(fault, folder)
    return status == 0, "passes" if status == 0 else trouble(status, output)


def trouble(status: int, output: str) -> str:
    """What is wrong with tests that say nothing about a fault."""
    if status == NO_TESTS:
        return "NO TESTS: none are of these names"
    said = "FAIL WITHOUT IT" if status == TESTS_FAILED else "DID NOT RUN"
    return f"{said}: {output.strip()[-300:]}"


def run_tests(fault: Fault, folder: Path) -> tuple[int, str]:
    """(the exit status of pytest on the copy, what it printed)."""
    done = subprocess.run(
        [sys.executable, *PYTEST, *shlex.split(fault.tests)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout + done.stderr


if __name__ == "__main__":
    sys.exit(main())
