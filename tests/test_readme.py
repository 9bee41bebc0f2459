import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def example() -> Any:
    spec = importlib.util.spec_from_file_location("own_vae", ROOT / "examples" / "own_vae.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# Untrained.
@pytest.mark.filterwarnings("ignore:the posterior carries no information")
def test_the_python_block_runs_on_somebodys_vae() -> None:
    (code,) = blocks("python")
    names = {"vae": example().MyVAE(latent_dims=6).eval(), "images": torch.rand(3, 1, 16, 16)}
    exec(code, names)
    shapes = [tuple(names[name].shape) for name in ("maps", "unusual")]
    assert shapes == [(3, 6, 16, 16), (3, 1, 4, 4)]


def test_the_example_has_six_lines() -> None:
    (code,) = blocks("python")
    assert len(code.splitlines()) <= 6


def test_the_ci_script_runs_every_command_of_the_readme() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    commands = [part for block in blocks("bash") for part in block.strip().split(" && ")]
    assert len(commands) == 6
    for command in commands:
        assert re.search(rf"(^|&& ){re.escape(command)}\)?$", script, re.MULTILINE), command


def test_everything_the_readme_links_to_exists() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert len(links) >= 5
    assert [link for link in links if not (ROOT / link).is_file()] == []


def test_pictures_are_small() -> None:
    sizes = {path.name: path.stat().st_size for path in (ROOT / "docs" / "images").glob("*.png")}
    assert sizes
    assert max(sizes.values()) < 300_000


def test_the_speed_table_has_its_place() -> None:
    assert README.index("<!-- speed:begin -->") < README.index("<!-- speed:end -->")


@pytest.mark.slow
def test_the_example_draws_its_figure(tmp_path: Path) -> None:
    figure = tmp_path / "figure.png"
    program = [sys.executable, str(ROOT / "examples" / "own_vae.py"), str(figure)]
    subprocess.run(program, check=True, cwd=ROOT, timeout=300)
    assert figure.stat().st_size > 10_000
