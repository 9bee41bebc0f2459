"""The manual's code runs: every block of Python, in order, one session a page."""

import ast
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from captum_vae.commands.main import COMMANDS
from tests.docs.blocks import DOCS, Block, blocks_of, forget_modules, run_block

PAGES = sorted(page for page in DOCS.glob("*.md") if blocks_of(page))
# Its Python stands between commands, so the walk runs both.
IN_ONE_SESSION = [page for page in PAGES if page.stem not in ("quickstart", "plugins")]
OPTIONAL = ("diffusers", "disent", "lightning", "monai", "multivae", "pythae", "timm")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    forget_modules(tmp_path)


# Untrained models.
@pytest.mark.filterwarnings("ignore:the posterior carries no information")
@pytest.mark.filterwarnings("ignore:none of the")
@pytest.mark.slow
@pytest.mark.parametrize("page", IN_ONE_SESSION, ids=lambda page: page.stem)
def test_every_block_of_python_runs(page: Path, folder: Path) -> None:
    names: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks_of(page):
        try:
            run_block(block, page, names)
        except ModuleNotFoundError as error:
            if error.name not in OPTIONAL:
                raise


def blocks_in(*languages: str) -> list[Any]:
    return [
        pytest.param(block, id=f"{page.stem}-{block.line}")
        for page in PAGES
        for block in blocks_of(page)
        if block.language in languages
    ]


@pytest.mark.parametrize("block", blocks_in("python"))
def test_python_is_python(block: Block) -> None:
    ast.parse(block.body)


@pytest.mark.parametrize("block", blocks_in("yaml"))
def test_yaml_is_a_mapping(block: Block) -> None:
    assert isinstance(yaml.safe_load(block.body), dict)


@pytest.mark.parametrize("block", blocks_in("bash"))
def test_commands_exist(block: Block) -> None:
    for line in block.body.strip().splitlines():
        words = shlex.split(line)
        assert words[0] in ("pip", "captum-vae", "torchrun", "pytest", "python"), line
        if words[0] == "captum-vae":
            assert words[1] in COMMANDS, line


def test_the_pages_have_code_to_run() -> None:
    assert len(IN_ONE_SESSION) >= 7


def test_blocks_are_told_apart(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# Title\n\n```python\nx = 2\n```\n\n```pycon\n>>> x + 1\n3\n```\n\n"
        "```{code-block} python\n:caption: my.py\n\ny = 1\n```\n\n```{toctree}\nx\n```\n"
    )
    assert blocks_of(page) == [
        Block("python", "x = 2\n", "", 3),
        Block("pycon", ">>> x + 1\n3\n", "", 7),
        Block("python", "y = 1\n", "my.py", 12),
    ]


def test_a_wrong_output_fails(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    with pytest.raises(AssertionError, match="Expected:\n    4\nGot:\n    3"):
        run_block(Block("pycon", ">>> 1 + 2\n4\n", "", 1), page, {})
