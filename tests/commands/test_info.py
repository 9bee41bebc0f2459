"""``captum-vae info``: it works without extras and tells what is there."""

import importlib.metadata
import sys

import captum
import torch

from captum_vae.commands import info
from captum_vae.commands.main import main


def test_versions_devices_and_plugins_are_printed(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("CAPTUM_VAE_DATA", str(tmp_path))
    assert main(["info"]) == 0
    shown = capsys.readouterr().out
    assert f"torch {importlib.metadata.version('torch')}" in shown
    assert f"captum {captum.__version__}" in shown
    assert f"{torch.get_num_threads()} threads" in shown
    assert "models: 8 registered\n" in shown
    assert f"CAPTUM_VAE_DATA: {tmp_path}" in shown


def test_it_runs_without_the_package_that_parses_options(monkeypatch):
    monkeypatch.setitem(sys.modules, "jsonargparse", None)
    monkeypatch.setattr(info, "info_text", lambda: "")
    assert main(["info"]) == 0


def test_options_are_refused(capsys):
    assert main(["info", "--all"]) == 2
    assert "captum-vae info takes no options; got --all" in capsys.readouterr().err


def test_a_missing_package_is_named_under_its_extra(monkeypatch):
    version = info.installed_version
    monkeypatch.setattr(
        info, "installed_version", lambda name: None if name == "lightning" else version(name)
    )
    line = next(line for line in info.info_text().splitlines() if line.startswith("  train:"))
    assert line == "  train: missing lightning"


def test_a_data_folder_that_is_not_there_is_said_so(monkeypatch, tmp_path):
    monkeypatch.setenv("CAPTUM_VAE_DATA", str(tmp_path / "gone"))
    assert info.info_text().endswith("gone, which is no folder")
