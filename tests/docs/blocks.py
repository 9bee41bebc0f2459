"""The code blocks of a page of the manual, and how they are run."""

import ast
import doctest
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"

_FENCE = re.compile(r"^```(?P<words>[^\n`]*)\n(?P<body>.*?)^```$", re.DOTALL | re.MULTILINE)
_CAPTION = re.compile(r"\A:caption: (?P<name>\S+)\n\n?")


class Block(NamedTuple):
    """A fenced block.

    Attributes:
        language: as after the fence.
        body: the code.
        file: name of the file that the reader is told to save it as, or "".
        line: of the fence, from 1.
    """

    language: str
    body: str
    file: str
    line: int


def blocks_of(page: Path) -> list[Block]:
    """All code blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    found = []
    for fence in _FENCE.finditer(text):
        language, body, name = fence["words"].strip(), fence["body"], ""
        if language.startswith("{"):
            directive, _, language = language.partition(" ")
            if directive != "{code-block}":
                continue
            caption = _CAPTION.match(body)
            if caption:
                name, body = caption["name"], body[caption.end() :]
        found.append(Block(language, body, name, text[: fence.start()].count("\n") + 1))
    return found


def run_block(block: Block, page: Path, names: dict[str, Any]) -> None:
    """Run a block in the session ``names``, or save it in the current folder if it is a file."""
    where = f"{page.name}, line {block.line}"
    if block.file:
        Path(block.file).write_text(block.body, encoding="utf-8")
    elif block.language == "python":
        tree = ast.parse(block.body, filename=where)
        ast.increment_lineno(tree, block.line)
        exec(compile(tree, str(page), "exec"), names)
    elif block.language == "pycon":
        test = doctest.DocTestParser().get_doctest(block.body, names, where, str(page), block.line)
        runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
        said: list[str] = []
        runner.run(test, out=said.append, clear_globs=False)
        names.update(test.globs)
        assert not runner.failures, "".join(said)


def forget_modules(folder: Path) -> None:
    """Forget modules that were imported from a folder, since the next test has another one."""
    for name, module in list(sys.modules.items()):
        origin = getattr(module, "__file__", None)
        if origin and Path(origin).parent == folder:
            del sys.modules[name]
