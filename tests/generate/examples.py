"""The page of the examples, made from their docstrings."""

import ast

from tests.generate.documents import ROOT

FILES = sorted(set((ROOT / "examples").glob("*.py")) - {ROOT / "examples" / "common.py"})


def section():
    """The examples as a part of the page: what each shows, on which data, and what it reaches."""
    lines = [""]
    for file in FILES:
        title, _, text = ast.get_docstring(ast.parse(file.read_text())).partition("\n")
        lines += [f"## {file.stem}", "", f"**{title}**", "", text.strip(), ""]
        lines += ["```", f"python -m examples.{file.stem}", "```", ""]
    return "\n".join(lines)
