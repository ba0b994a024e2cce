"""The README, and its sections that are made from the code, each between two marks."""

from pathlib import Path

README = Path(__file__).parents[2] / "README.md"
ADVICE = "run python -m tests.generate"


def shown(name):
    """What stands between the marks of a section."""
    return (
        README.read_text()
        .partition(f"<!-- {name}: begin -->")[2]
        .partition(f"<!-- {name}: end -->")[0]
    )


def show(name, text):
    """Puts a text between the marks of a section."""
    before = shown(name)
    assert before, f"the README has no section between marks of {name!r}"
    README.write_text(README.read_text().replace(before, text))
