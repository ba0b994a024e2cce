"""The documentation builds without a warning, its links lead somewhere, and every name is in it."""

import importlib
import inspect
import os
import re
import subprocess
import sys
from urllib.parse import unquote

import pytest

from tests.generate.documents import DOCS, ROOT
from tests.helpers.public import reference_pages

pytestmark = pytest.mark.slow
pytest.importorskip("sphinx")
pytest.importorskip("myst_nb")

# As `python -m sphinx`, without a search for dead objects while the trees of the pages grow.
BUILD = "import gc, sys; from sphinx.cmd.build import main; gc.disable(); sys.exit(main())"


def test_the_documentation_builds_and_is_whole(tmp_path):
    """One test, since building takes long."""
    site = built(tmp_path)
    every_link_leads_to_a_place_of_the_site(site)
    every_public_name_is_in_the_reference(site)
    search_finds_names_and_guides(site)
    docstrings_are_not_taken_for_markup(site)


def built(folder):
    """The folder of the pages, without the outputs of notebooks, which have tests of their own.

    Nor has a page all names of its module beside it: furo copies them for each of the other pages.
    """
    command = [sys.executable, "-c", BUILD, "-W", "--keep-going", "-q", "-b", "html"]
    done = subprocess.run(
        [*command, "-D", "toc_object_entries=0", "-d", folder / "trees", DOCS, folder / "html"],
        env={**os.environ, "FNN_DOCS_NOTEBOOKS": "off", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder / "html"


def every_link_leads_to_a_place_of_the_site(site):
    texts = {page: page.read_text() for page in site.rglob("*.html")}
    anchors = {page: set(re.findall(r'\sid="([^"]+)"', text)) for page, text in texts.items()}
    broken = []
    for page, text in texts.items():
        for link in re.findall(r'<a [^>]*href="([^"]+)"', text):
            path, _, anchor = unquote(link).partition("#")
            if re.match(r"[a-z]+:", path):
                continue
            target = (page.parent / path).resolve() if path else page
            if not target.exists() or (anchor and anchor not in anchors.get(target, {anchor})):
                broken.append(f"{page.relative_to(site)}: {link}")
    assert len(texts) > 50
    assert not broken, broken


def every_public_name_is_in_the_reference(site):
    api = site / "reference" / "api"
    ids = {
        anchor
        for page in api.glob("*.html")
        for anchor in re.findall(r'id="(fnn\.[\w.]+)"', page.read_text())
    }
    missing, pages = [], reference_pages()
    for name in pages.modules():
        module = importlib.import_module(name)
        page = (api / f"{name}.html").read_text()
        for public in pages.names(module):
            described = f"{name}.{public}" in ids or f">{public}<" in page
            if not described:
                missing.append(f"{name}.{public}")
    assert len(ids) > 900
    assert not missing, missing


def search_finds_names_and_guides(site):
    index = (site / "searchindex.js").read_text()
    for word in ("fnn.layers", "earlystopping", "ensemble"):
        assert word in index.lower()


def docstrings_are_not_taken_for_markup(site):
    page = (site / "reference" / "api" / "fnn.layers.html").read_text()
    assert inspect.getdoc(importlib.import_module("fnn").layers.Dense).split("\n")[0][:12] in page
    assert "problematic" not in page  # the class that docutils gives to what it cannot read
