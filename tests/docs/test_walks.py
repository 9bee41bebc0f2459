"""A newcomer's walks: pages whose Python and commands belong together, followed to the letter."""

import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from captum_vae.commands.main import main
from tests.docs.blocks import DOCS, blocks_of, forget_modules, run_block

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest needs it there

# The continuous integration installs and runs the demo as the README prints it.
RUN_ELSEWHERE = ("pip ", "captum-vae demo")


def follow(page: Path, folder: Path) -> None:
    """Do what the page says in an empty folder."""
    names: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks_of(page):
        if block.language != "bash":
            run_block(block, page, names)
            if block.file == "pyproject.toml":
                install(folder)
            continue
        for line in block.body.strip().splitlines():
            if line.startswith(RUN_ELSEWHERE):
                continue
            command, *words = shlex.split(line)
            assert command == "captum-vae", line
            assert main(words) == 0, line


def install(folder: Path) -> None:
    """What ``pip install .`` leaves of a distribution: its metadata on the path."""
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    name, version = project["name"], project["version"]
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = []
    for group, entries in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{entry} = {found}" for entry, found in entries.items())]
    (info / "entry_points.txt").write_text("\n".join(lines))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    forget_modules(tmp_path)


@pytest.mark.slow
def test_the_quickstart_leads_to_maps_and_tables(folder: Path) -> None:
    follow(DOCS / "quickstart.md", folder)
    left = ("maps.png", "maps/index.html", "evaluation/index.html", "maps_of_run/index.html")
    assert [name for name in left if not (folder / name).is_file()] == []


@pytest.mark.slow
def test_the_plugins_of_the_manual_work_by_name(folder: Path) -> None:
    follow(DOCS / "plugins.md", folder)
    assert "edges" in (folder / "stripes_evaluation" / "table.csv").read_text()
