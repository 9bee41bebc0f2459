"""What a package index shows."""

from __future__ import annotations

import re
import runpy
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest
import setuptools

ROOT = Path(__file__).parent.parent


@pytest.fixture
def described(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What setup.py hands to setuptools, once the repository's address is filled in."""

    def describe(repository: str) -> dict[str, Any]:
        config = ConfigParser()
        config.read(ROOT / "setup.cfg", encoding="utf-8")
        config["captum_vae"]["repository"] = repository
        with open(tmp_path / "setup.cfg", "w", encoding="utf-8") as file:
            config.write(file)
        for name in ("README.md", "setup.py"):
            (tmp_path / name).write_text((ROOT / name).read_text(encoding="utf-8"), "utf-8")
        given: dict[str, Any] = {}
        monkeypatch.setattr(setuptools, "setup", lambda **metadata: given.update(metadata))
        runpy.run_path(str(tmp_path / "setup.py"))
        return given

    return describe


def test_the_readme_of_an_index_has_whole_addresses(described: Any) -> None:
    readme = described("https://example.org/o/captum_vae/")["long_description"]
    links = re.findall(r"\]\(([^)]*)\)", readme)
    assert links and all(link.startswith(("https://", "#")) for link in links)
    pictures = re.findall(r"!\[[^]]*\]\(([^)]*)\)", readme)
    assert pictures[0].startswith("https://example.org/o/captum_vae/raw/main/docs/images/")


def test_without_an_address_nothing_is_made_up(described: Any) -> None:
    assert described("") == {}
