"""Sphinx: the guides, the notebooks and the reference, built without a network by `make docs`."""

import os
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]  # this checkout, for the reference

import reference_pages  # noqa: E402

import fnn  # noqa: E402

project = "fnn"
author = "the authors of fnn"
version = release = fnn.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc"]
exclude_patterns = ["_build", "**/.ipynb_checkpoints"]
html_theme = "furo"
html_title = "fnn"
html_static_path = ["_static"]
html_css_files = ["fnn.css"]
html_show_sphinx = html_show_sourcelink = html_show_copyright = False

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = os.environ.get(
    "FNN_DOCS_NOTEBOOKS", "cache"
)  # "off": without their outputs
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_merge_streams = True

default_role = "code"  # docstrings write `code` between single backticks
autodoc_typehints = "none"  # the signature without its types fits a line
autodoc_member_order = "alphabetical"
autodoc_inherit_docstrings = (
    False  # a method that only carries out its base's is not listed
)
autodoc_default_options = {"members": True}
python_use_unqualified_type_names = True

_MARKS = re.compile(r"(`[^`]*`)|([*|\\])|(_)(?=\W|$)")


def _as_restructured_text(app, what, name, obj, options, lines):
    """Docstrings are plain text: stars and bars mean themselves, indented lines are kept as is."""
    written, kind = [], "text"
    for line in lines:
        indented = line.startswith("  ")
        if not line.strip():
            kind = "text"
        elif line.lstrip().startswith(">>>"):
            kind = "example"
        elif line.lstrip().startswith("- "):
            kind = "list"
        elif kind == "text" and indented:
            written += ["", "::", ""]
            kind = "as it is"
        elif kind == "as it is" and not indented:
            written += [""]
            kind = "text"
        if kind in ("text", "list"):
            line = _MARKS.sub(lambda m: m[1] or "\\" + m[0], line)
        written.append(line)
    lines[:] = written


def _only_public(app, what, name, obj, skip, options):
    """Of a class the methods with a docstring of fnn; of a module what `__all__` has."""
    home = getattr(obj, "__module__", None) or ""
    if what == "class" and callable(obj) and not home.startswith("fnn"):
        return True
    return skip


def setup(app):
    reference_pages.write()
    app.connect("autodoc-process-docstring", _as_restructured_text)
    app.connect("autodoc-skip-member", _only_public)
