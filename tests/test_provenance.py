"""What a report says was run: by hand, from a shell and from a program."""

import subprocess
import sys

import pytest
import torch

from captum_vae.provenance import command, run_record, running


def test_a_command_is_in_a_shells_words():
    with running(["explain", "--out", "my maps"]):
        assert command() == "captum-vae explain --out 'my maps'"


def test_after_a_command_the_process_speaks_for_itself(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/usr/bin/train.py", "--lr", "1e-3"])
    with pytest.raises(KeyError), running(["fit"]):
        raise KeyError
    assert command() == "train.py --lr 1e-3"


def test_the_record_names_the_command_in_which_it_is_made():
    with running(["fit", "--out", "x"]):
        record = run_record(torch.device("cpu"), seed=3)
    assert record["command"] == "captum-vae fit --out x"
    assert record["seed"] == 3
    assert record["machine"]["device"] == "cpu"


def test_a_run_without_a_seed_has_none_in_its_record():
    assert "seed" not in run_record(torch.device("cpu"))


@pytest.mark.parametrize("run", [["-m", "tool"], ["-m", "package"], ["tool.py"]])
def test_a_module_that_python_runs_is_told_as_it_was_run(run, tmp_path):
    told = "from captum_vae.provenance import command\nprint(command())\n"
    (tmp_path / "package").mkdir()
    for name in ("tool.py", "package/__init__.py", "package/__main__.py"):
        (tmp_path / name).write_text("" if "__init__" in name else told)
    command = [sys.executable, *run, "--out", "a b"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    expected = {"tool": "python -m tool", "package": "python -m package", "tool.py": "tool.py"}
    assert done.stdout == f"{expected[run[-1]]} --out 'a b'\n"
