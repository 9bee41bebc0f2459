"""The command: data that stand in, refusals, and a smoke run of the experiments."""

import json
from pathlib import Path

import pytest

from captum_vae.commands.main import main
from captum_vae.experiments.pages import load_results, write_pages
from captum_vae.experiments.reproduce import data_folder, load_experiment
from captum_vae.experiments.work import Work
from tests.report.page_check import Page


def test_smoke_and_runs_without_a_folder_take_rendered_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CAPTUM_VAE_DATA", raising=False)
    assert data_folder("cpu", None) is None
    assert data_folder("smoke", str(tmp_path)) is None
    assert data_folder("cpu", str(tmp_path)) == tmp_path
    monkeypatch.setenv("CAPTUM_VAE_DATA", str(tmp_path))
    assert data_folder("paper", None) == tmp_path


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="missing is no folder; wanted one that holds"):
        data_folder("cpu", str(tmp_path / "missing"))


def test_an_unknown_experiment_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "imagenet"]) == 2
    assert "imagenet" in capsys.readouterr().err
    with pytest.raises(ValueError, match="experiment is 'imagenet'; wanted one of mnist, ucsd"):
        load_experiment("imagenet")


def test_a_negative_seed_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "mnist", "--seed", "-1"]) == 2
    assert "seed is -1; wanted 0 or more" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mnist", "dsprites"])
def test_smoke_writes_every_page_and_a_repeated_command_trains_nothing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / name
    command = ["reproduce", name, "--scale", "smoke", "--out", str(out), "--device", "cpu"]
    copy = tmp_path / "copy.json"
    assert main([*command, "--report_json", str(copy)]) == 0
    assert Page(out / "index.html").faults == []
    results = load_results(copy)
    assert results["command"].startswith(f"captum-vae reproduce {name} --scale smoke")
    assert {claim["verdict"] for claim in results["claims"]} == {"not testable here"}

    pages = [path for path in out.iterdir() if path.suffix in (".html", ".md", ".csv")]
    written = {path: path.read_bytes() for path in pages}
    write_pages(json.loads(copy.read_text()), out)
    assert {path: path.read_bytes() for path in pages} == written

    def nothing(*_: object, **__: object) -> None:
        raise AssertionError("trained or measured again")

    monkeypatch.setattr("captum_vae.experiments.work.train", nothing)
    monkeypatch.setattr("captum_vae.experiments.mnist.measured", nothing)
    monkeypatch.setattr("captum_vae.experiments.disentanglement_seeds.run_experiment", nothing)
    assert main(command) == 0
    again = load_results(out / "results.json")
    for part in ("claims", "tables", "trainings"):
        assert again[part] == results[part]


def test_every_scale_of_every_experiment_is_plain_data() -> None:
    for name in ("mnist", "dsprites"):
        experiment = load_experiment(name)
        assert set(experiment.settings) == {"smoke", "cpu", "paper"}
        assert json.dumps([vars(settings) for settings in experiment.settings.values()])


def test_dsprites_trains_what_does_not_vary_only_once_per_gamma(tmp_path: Path) -> None:
    from captum_vae.experiments.dsprites import EXPERIMENT, grid

    settings = EXPERIMENT.settings["paper"]
    folders = grid(settings, Work(tmp_path, tmp_path, "cpu"))
    runs = [run for experiments in folders.values() for run in experiments]
    # Per gamma and seed: FactorVAE, the normalised overlap, and 2 x 2 of the paper's.
    assert len(runs) == 5 * 8 * (1 + 1 + 4)
    assert sum(run.variant == "factorvae" for run in runs) == 5 * 8
    for experiments in folders.values():
        assert len({(run.variant, run.seed) for run in experiments}) == len(experiments)
