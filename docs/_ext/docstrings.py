"""Docstrings for Sphinx.

What reads well in plain text and is not reStructuredText: tables of pipes become list tables,
indented formulas become literal blocks, and the star of ``(B, K, *spatial)`` stays a star.
"""

import re
from itertools import groupby
from typing import Any

from sphinx.application import Sphinx

_STAR = re.compile(r"(?<![\\*\w])\*(?=[a-z]+[ ,)])")
_MARKUP = (":", "*", "-", "..", ">>>", "|")


def list_tables(lines: list[str]) -> list[str]:
    """The lines with every table of pipes written as a ``list-table``."""
    found: list[str] = []
    for is_table, group in groupby(lines, key=lambda line: line.lstrip().startswith("|")):
        rows = list(group)
        found += _list_table(rows) if is_table else rows
    return found


def literal_formulas(lines: list[str]) -> list[str]:
    """The lines with ``::`` before every block that is indented under a plain paragraph."""
    found: list[str] = []
    for place, line in enumerate(lines):
        before, after = "".join(lines[place - 1 : place]), "".join(lines[place + 1 : place + 2])
        is_gap = not line.strip() and before.strip() and after.strip()
        if is_gap and _indent(after) > _indent(before) and _is_plain(before):
            found += ["", " " * _indent(before) + "::"]
        found.append(line)
    return found


def escaped_stars(lines: list[str]) -> list[str]:
    """The lines with a backslash before the star of an unpacked name in running text."""
    return [line if "`" in line or ">>>" in line else _STAR.sub(r"\\*", line) for line in lines]


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _is_plain(line: str) -> bool:
    text = line.strip()
    return not text.startswith(_MARKUP) and not text.endswith("::")


def _list_table(rows: list[str]) -> list[str]:
    indent = " " * _indent(rows[0])
    table = [f"{indent}.. list-table::", f"{indent}   :header-rows: 1", ""]
    for row in rows:
        cells = [cell.strip() for cell in row.strip().strip("|").split(" | ")]
        if set("".join(cells)) <= set("-|"):
            continue
        starts = ["* -", *["  -"] * (len(cells) - 1)]
        table += [f"{indent}   {start} {cell}" for start, cell in zip(starts, cells, strict=True)]
    return [*table, ""]


def _process(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    lines[:] = escaped_stars(literal_formulas(list_tables(lines)))


def setup(app: Sphinx) -> dict[str, bool]:
    """Hook in."""
    app.connect("autodoc-process-docstring", _process)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
