"""The help of every ``captum-vae`` command, asked of the command itself while the page is read.

A page says where with the line ``<!-- commands -->``; new commands appear there by themselves.
"""

import contextlib
import io
import os
import re

from sphinx.application import Sphinx

from captum_vae.commands.main import COMMANDS, main

MARKER = "<!-- commands -->"


def help_of(command: str) -> str:
    """What ``captum-vae COMMAND --help`` prints, 88 columns wide."""
    columns = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "88"
    try:
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            with contextlib.suppress(SystemExit):
                main([command, "--help"])
    finally:
        if columns is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = columns
    # jsonargparse takes back a space by a backspace.
    text = printed.getvalue().replace(" \b", "")
    # Without docstring-parser, it titles options by the object's address.
    return re.sub(r"<(?:function|class) '?([\w.]+)'?(?: at 0x\w+)?>:", r"\1:", text)


def sections() -> str:
    """A section for each command, as Markdown."""
    return "\n".join(
        f"## captum-vae {name}\n\n{command.doc}.\n\n```text\n{help_of(name)}```\n"
        for name, command in sorted(COMMANDS.items())
    )


def _replace(app: Sphinx, document: str, source: list[str]) -> None:
    if MARKER in source[0]:
        source[0] = source[0].replace(MARKER, sections())


def setup(app: Sphinx) -> dict[str, bool]:
    """Hook in."""
    app.connect("source-read", _replace)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
