"""The faults of tests/mutation fit the code as it is, so that the script can be run at any time."""

import ast
import re
from pathlib import Path

import pytest

from tests.mutation.faults import FAULTS

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("fault", FAULTS, ids=[fault.what for fault in FAULTS])
def test_a_fault_can_be_put_in_and_has_tests(fault):
    source = (ROOT / fault.file).read_text()
    assert source.count(fault.old) == 1, f"{fault.file} has another text now than\n{fault.old}"
    ast.parse(source.replace(fault.old, fault.new))
    for name, function in re.findall(r"(tests/\S+?\.py)(?:::(\w+))?", fault.tests):
        assert f"def {function or 'test_'}" in (ROOT / name).read_text()


def test_each_fault_is_another_one():
    assert len(FAULTS) >= 30
    assert len({(fault.file, fault.old, fault.new) for fault in FAULTS}) == len(FAULTS)
