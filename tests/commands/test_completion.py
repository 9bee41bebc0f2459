"""The completion of a real bash, whose words are what the commands take."""

import os
import pty
import select
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from captum_vae.commands.completion import bash_script

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("completion") / "captum-vae.bash"
    path.write_text(bash_script())
    return path


def offered(script: Path, *words: str) -> list[str]:
    """What bash offers where the cursor stands after the last word."""
    code = 'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _captum_vae'
    code += '; printf "%s\\n" "${COMPREPLY[@]}"'
    run = subprocess.run(
        ["bash", "--norc", "-c", code, "bash", str(script), "captum-vae", *words],
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stderr == ""
    return run.stdout.split()


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["rep"], ["reproduce"]),
        (["disentangle"], ["disentangle", "disentangle-seeds"]),
        (["demo", "--data"], ["--dataset"]),
        (["demo", "--dataset", ""], ["digits", "mnist"]),
        (["demo", "--dataset", "=", "m"], ["mnist"]),
        (["explain", "--list-l"], ["--list-layers"]),
        (["explain", "--scale", "o"], ["own"]),
        (["reproduce", ""], ["mnist", "ucsd", "mvtec", "dsprites"]),
        (["reproduce", "mnist", "--scale", "c"], ["cpu"]),
        (["disentangle-seeds", "--variants", "norm"], ["normalised"]),
        (["fit", "--trainer.acc"], ["--trainer.accelerator"]),
        (["fit", "--trainer.accelerator", "cu"], ["cuda"]),
        (["fit", "--config", "factor"], ["factorvae"]),
        (["evaluate", "--qui"], ["--quiet"]),
        (["detect", "--pixel-r"], ["--pixel-rate"]),
        (["predict", "folder", "--maps", "t"], ["tiff"]),
        (["explain", "--model", ""], []),
        (["nonsense", "--x"], []),
        (["info", "--"], ["--help"]),
    ],
)
def test_words_are_completed(script: Path, words: list[str], found: list[str]) -> None:
    assert offered(script, *words) == found


def test_a_bash_at_a_terminal_completes_a_command_and_a_file(script: Path, tmp_path: Path) -> None:
    (tmp_path / "my photographs").mkdir()
    environment = {**os.environ, "PS1": "$ ", "TERM": "dumb", "INPUTRC": "/dev/null"}
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(tmp_path)
        os.execvpe("bash", ["bash", "--norc", "--noprofile", "-i"], environment)
    try:
        typed = f"source {script}; echo rea''dy\n"
        assert "ready" in _typed(terminal, typed, until="ready")
        said = _typed(terminal, "captum-vae exp", "\t", until="exp")
        said += _typed(terminal, "l\t", "--images my\t", until="photographs")
        assert "explain --images my\\ photographs" in said.replace("\x07", "")
    finally:
        os.close(terminal)
        os.waitpid(child, 0)


def _typed(terminal: int, *keys: str, until: str, seconds: float = 20) -> str:
    """Type, and read until a word is there."""
    said = ""
    for key in keys:
        os.write(terminal, key.encode())
        time.sleep(0.2)
    end = time.monotonic() + seconds
    while until not in said and time.monotonic() < end:
        if select.select([terminal], [], [], 0.2)[0]:
            said += os.read(terminal, 4096).decode(errors="replace")
    return said
