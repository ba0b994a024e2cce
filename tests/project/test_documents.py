"""README and docs: their programs run and print what they show, their links lead somewhere."""

import contextlib
import io
import re

import jax
import numpy as np
import pytest

import fnn
from tests.generate import speed
from tests.generate.documents import ADVICE, DOCS, README, ROOT, shown

PAGES = [README, *sorted(DOCS.rglob("*.md"))]
PAGES = [page for page in PAGES if not {"_build", "api"} & set(page.parts)]
# A program, and what it prints, if the page shows that.
BLOCK = re.compile(r"```python\n(.*?)```(?:\n+```text\n(.*?)```)?", re.DOTALL)
NUMBER = re.compile(r"-?\d+\.\d+(?:e-?\d+)?|\d+")
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")


def name_of(page):
    return str(page.relative_to(ROOT))


def programs(page):
    return BLOCK.findall(page.read_text())


@pytest.mark.slow
@pytest.mark.parametrize("page", [p for p in PAGES if programs(p)], ids=name_of)
def test_the_programs_of_a_page_run(page, tmp_path, monkeypatch):
    """One after another with the names of those before, as a reader runs them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")  # of processes that a page starts
    text = page.read_text()
    monkeypatch.setattr(fnn.config, "set_compilation_cache", print)  # that of the tests stays
    names = {"__name__": "page"}
    with jax.numpy_rank_promotion("allow"):  # as a user has it
        for code, output in programs(page):
            lines = text[: text.index(code)].count("\n")
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(compile("\n" * lines + code, page, "exec"), names)
            if output:
                assert_printed(printed.getvalue(), output)


def assert_printed(printed, expected):
    """Equal words, and numbers as near as another machine computes them."""
    words, numbers = NUMBER.sub("#", printed).split(), NUMBER.findall(printed)
    wanted, values = NUMBER.sub("#", expected).split(), NUMBER.findall(expected)
    assert words == wanted, printed
    np.testing.assert_allclose(
        [float(n) for n in numbers], [float(n) for n in values], rtol=0.05, atol=0.011
    )


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_links_of_a_page_lead_to_files(page):
    for target in LINK.findall(re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)):
        assert (page.parent / target).exists(), target


def test_the_readme_opens_with_its_two_commands():
    first = re.search(r"```\n(.*?)```", README.read_text(), re.DOTALL)[1]
    assert [line.split("#")[0].strip() for line in first.splitlines()] == ["make demo", "make test"]


def test_the_readme_is_short():
    lines = README.read_text().splitlines()
    assert len(lines) <= 200
    assert max(map(len, lines)) <= 120
    for code, _ in programs(README):
        assert len([line for line in code.splitlines() if line.strip()]) <= 20


def test_the_readme_has_the_times_that_were_measured():
    assert shown("speed") == speed.section(), ADVICE
