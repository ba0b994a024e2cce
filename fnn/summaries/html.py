"""HTML: folding trees and tables for notebooks, in the colors of the page around them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from html import escape

from fnn.runtime.tables import COUNT, NAME, Row

# Colors are those of the page, light or dark, at some opacity. No file is loaded.
STYLE = """<style>
.fnn {font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: 13px;
line-height: 1.6; max-width: 62em; overflow-x: auto; color: inherit}
.fnn details > :not(summary) {margin-left: 1.2em}
.fnn summary, .fnn .fnn-line {display: grid; column-gap: 1em; min-width: 30em;
grid-template-columns: minmax(12em, 1fr) minmax(9em, 14em) 7em 6em; padding: 0 2px}
.fnn summary {cursor: pointer}
.fnn summary > :first-child::before {content: "\\25B8"; display: inline-block; width: 1.2em}
.fnn details[open] > summary > :first-child::before {content: "\\25BE"}
.fnn summary::-webkit-details-marker {display: none}
.fnn summary:hover, .fnn .fnn-line:hover {background: rgba(127, 127, 127, .15)}
.fnn .fnn-line > :first-child {padding-left: 1.2em}
.fnn .fnn-number {text-align: right; white-space: nowrap}
.fnn .fnn-quiet {opacity: .65; overflow-wrap: anywhere}
.fnn .fnn-note {padding-left: 1.2em; opacity: .65; overflow-wrap: anywhere}
.fnn table {border-collapse: collapse; color: inherit}
.fnn th, .fnn td {text-align: left; padding: 2px 12px; border-bottom: 1px solid
rgba(127, 127, 127, .35); background: transparent; color: inherit}
.fnn td.fnn-number, .fnn th.fnn-number {text-align: right}
</style>"""


@dataclasses.dataclass
class Branch:
    """A line of a folding tree: its title, three columns, a note, and the lines inside."""

    title: str
    shape: str = ""
    count: str = ""
    bytes: str = ""
    note: str = ""
    inside: list[Branch] = dataclasses.field(default_factory=list)
    open: bool = False


def html_tree(branches: Iterable[Branch]) -> str:
    """A folding tree.

    >>> page = html_tree([Branch("a < b", inside=[Branch("kernel", "(3, 4)")])])
    >>> "a &lt; b" in page, "<details>" in page
    (True, True)
    """
    lines = "".join(map(_branch, branches))
    return f'{STYLE}<div class="fnn">{lines}</div>'


def _branch(branch: Branch) -> str:
    cells = (
        f"<span>{escape(branch.title)}</span>"
        f'<span class="fnn-quiet">{escape(branch.shape)}</span>'
        f'<span class="fnn-number">{escape(branch.count)}</span>'
        f'<span class="fnn-number fnn-quiet">{escape(branch.bytes)}</span>'
    )
    if not branch.inside and not branch.note:
        return f'<div class="fnn-line">{cells}</div>'
    note = ""
    if branch.note:
        note = f'<div class="fnn-note">{escape(branch.note)}</div>'
    inside = "".join(map(_branch, branch.inside))
    start = "<details open>" if branch.open else "<details>"
    return f"{start}<summary>{cells}</summary>{note}{inside}</details>"


def html_table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Row],
    lines: Sequence[str],
) -> str:
    """A summary as a table, with a title above and some lines below."""
    head = "".join(_cell("th", name, name) for name in columns)
    body = ""
    for row in rows:
        cells = []
        for name in columns:
            indent = 1.5 * row.depth if name == NAME else 0
            cells.append(_cell("td", name, row.cells[name], indent))
        body += f"<tr>{''.join(cells)}</tr>"
    below = "<br>".join(escape(line.strip()) for line in lines)
    return (
        f'{STYLE}<div class="fnn"><b>{escape(title)}</b><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table>{below}</div>"
    )


def _cell(
    tag: str,
    column: str,
    text: str,
    indent: float = 0,
) -> str:
    kind = ' class="fnn-number"' if column == COUNT else ""
    style = f' style="padding-left: calc(12px + {indent}em)"' if indent else ""
    return f"<{tag}{kind}{style}>{escape(text)}</{tag}>"
