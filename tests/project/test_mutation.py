"""The faults of tests/mutation fit the code as it is, and the script tells found from missed."""

import ast
import re
from pathlib import Path

import pytest

from tests.mutation.__main__ import find
from tests.mutation.faults import FAULTS, Fault

ROOT = Path(__file__).parents[2]


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


DOUBLED = "def double(number):\n    return 2 * number\n"
TEST = "from doubled import double\n\n\ndef test_double():\n    assert double(3) == 6\n"
OUTCOMES = {  # what is changed into what, the options of pytest, whether it is found, what is said
    "found": ("2 *", "3 *", "", True, "test_it.py::test_double"),
    "survives": ("2 *", "2.0 *", "", False, "SURVIVED"),
    "its text is gone": ("4 *", "3 *", "", False, "STALE: the text to be changed occurs 0 times"),
    "its text is twice": ("number", "n", "", False, "STALE: the text to be changed occurs 2 times"),
    "its tests are gone": ("2 *", "3 *", "-k other", False, "NO TESTS: none are of these names"),
    "its tests do not run": ("double", "triple", "", False, "DID NOT RUN: "),
}


@pytest.mark.slow
@pytest.mark.parametrize("outcome", OUTCOMES)
def test_the_script_says_what_becomes_of_a_fault(outcome, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # they take most of its start
    old, new, options, found, said = OUTCOMES[outcome]
    (tmp_path / "doubled.py").write_text(DOUBLED)
    (tmp_path / "test_it.py").write_text(TEST)
    received = find(Fault("doubled.py", "", old, new, f"test_it.py {options}"), tmp_path)
    assert received[0] is found
    assert received[1].startswith(said)
    assert (tmp_path / "doubled.py").read_text() == DOUBLED
