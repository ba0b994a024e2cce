"""Reliability: every test that docs/reliability.md names exists."""

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs" / "reliability.md"
ROW = re.compile(r"\| (.+?) \| (.+?) \|")


def names_in(path):
    tree = ast.parse(path.read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_promise_names_tests_that_exist():
    rows = [ROW.fullmatch(line) for line in PAGE.read_text().splitlines() if line[:1] == "|"]
    promises = {
        row[1]: re.findall("`([^`]+)`", row[2]) for row in rows if row and "-" * 3 not in row[1]
    }
    del promises["promise"]
    assert len(promises) > 30
    for promise, named in promises.items():
        assert named, f"no test shows: {promise}"
        for one in named:
            file, _, name = one.partition("::")
            assert name in names_in(TESTS / file), f"{promise}: no test {one}"
