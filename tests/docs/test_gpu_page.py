"""The commands of the page for a GPU, which nobody wants to find mistyped once one is at hand."""

import importlib
import shlex
from pathlib import Path

import pytest

from captum_vae.commands.main import command_function, main, parsed_as
from captum_vae.commands.options import parse
from tests.docs.blocks import DOCS, ROOT, blocks_of

LINES = [
    line
    for block in blocks_of(DOCS / "gpu.md")
    if block.language == "bash"
    for line in block.body.strip().splitlines()
]
OF_THE_PACKAGE = [shlex.split(line)[1:] for line in LINES if line.startswith("captum-vae ")]
WITH_OPTIONS = [words for words in OF_THE_PACKAGE if len(words) > 1]
SEEDS = [words for words in WITH_OPTIONS if words[0] == "disentangle-seeds"]


def test_the_page_names_each_kind_of_command() -> None:
    assert {words[0] for words in OF_THE_PACKAGE} == {"info", "disentangle-seeds", "reproduce"}
    assert any("benchmarks.throughput" in line for line in LINES)
    assert any(line.startswith("pytest ") for line in LINES)


@pytest.mark.parametrize("words", WITH_OPTIONS, ids=lambda words: " ".join(words)[:60])
def test_every_option_is_one_of_the_command(words: list[str]) -> None:
    options, _ = parse(command_function(words[0]), words[1:], **parsed_as(words[0]))
    assert options["device"] == "cuda"


@pytest.mark.parametrize("line", [line for line in LINES if not line.startswith("captum-vae ")])
def test_what_is_run_is_there(line: str) -> None:
    words = shlex.split(line)
    if words[:2] == ["python", "-m"]:
        importlib.import_module(words[2])
        (out,) = [word for word in words if word.endswith(".json")]
        assert (ROOT / out).parent.is_dir()
    elif words[0] == "pytest":
        assert all((ROOT / word).exists() for word in words if word.endswith(".py"))


@pytest.mark.slow
@pytest.mark.parametrize("words", [SEEDS[0], SEEDS[-1]], ids=["trial", "published length"])
def test_seeds_train_on_the_cpu_at_a_tiny_size(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny = ["--device", "cpu", "--cuda_graph", "off", "--seeds", "2", "--steps", "2"]
    tiny += [
        "--variants",
        "[normalised,paper,replication]",
        "--batch_size",
        "4",
        "--samples",
        "300",
    ]
    assert main([*words, *tiny, "--metrics", "[factor_vae]", "--protocol", "paper"]) == 0
    assert (tmp_path / words[words.index("--out") + 1] / "results.json").is_file()
    if "--report_json" in words:
        assert (tmp_path / words[words.index("--report_json") + 1]).is_file()
