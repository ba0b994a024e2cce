"""The pages of the documentation with parts that are made from the code, each between two marks."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
README, DOCS = ROOT / "README.md", ROOT / "docs"
PAGES = {
    "keras": README,
    "speed": README,
    "examples": DOCS / "examples.md",
    "files": DOCS / "files.md",
    "layers": DOCS / "reference" / "layers.md",
    "names": DOCS / "moving" / "keras_names.md",
}
ADVICE = "run python -m tests.generate"


def _split(name):
    """(what stands before the part, the part, what stands after it) of its page."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, _, rest = PAGES[name].read_text().partition(begin)
    part, _, after = rest.partition(end)
    assert part, f"{PAGES[name]} has no part between marks of {name!r}"
    return before + begin, part, end + after


def shown(name):
    """What stands between the marks of a part."""
    return _split(name)[1]


def show(name, text):
    """Puts a text between the marks of a part."""
    before, _, after = _split(name)
    PAGES[name].write_text(before + text + after)
