"""The command: data that stand in, refusals, and a smoke run of the experiments."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from captum_vae.commands.main import main
from captum_vae.commands.reproduce import reproduce
from captum_vae.experiments.pages import load_results, write_pages
from captum_vae.experiments.reproduce import data_folder, load_experiment
from captum_vae.files import holding
from tests.report.explorer import browser
from tests.report.page_check import Page


def test_smoke_and_runs_without_a_folder_take_rendered_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CAPTUM_VAE_DATA", raising=False)
    assert data_folder("cpu", None) is None
    assert data_folder("smoke", tmp_path) is None
    assert data_folder("cpu", tmp_path) == tmp_path
    monkeypatch.setenv("CAPTUM_VAE_DATA", str(tmp_path))
    assert data_folder("paper", None) == tmp_path


@pytest.mark.parametrize("name", ["mnist", "ucsd", "mvtec"])
def test_the_published_scale_refuses_to_train_on_stand_ins(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("CAPTUM_VAE_DATA", raising=False)
    assert main(["reproduce", name, "--scale", "paper", "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "data is missing: scale paper measures on the published data" in error
    assert "from --data or the environment variable CAPTUM_VAE_DATA" in error
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="missing is no folder; wanted one that holds"):
        data_folder("cpu", tmp_path / "missing")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["imagenet"], "imagenet"),
        (["mnist", "--scale", "huge"], "huge"),
        (["mnist", "--seed", "-1"], "--seed -1 must be at least 0"),
        (["mnist", "--seed", str(2**70)], "must be at most"),
        (["mnist", "--seed", "1.5"], "seed"),
        (["mnist", "--device", "tpu"], "tpu"),
        (["mnist", "--scale", "cpu", "--data", "nowhere"], "nowhere is no folder; wanted one that"),
        (["mnist", "--scale", "cpu", "--data", "FILE"], "FILE is no folder; wanted one that"),
        (["mnist", "--scale", "smoke", "--models", "FILE"], "models is FILE, a file; wanted a fol"),
        (["mnist", "--scale", "smoke", "--out", "FILE"], "FILE is a file, or lies below one"),
        (["mnist", "--scale", "smoke", "--out", "FILE/x"], "x is a file, or lies below one"),
        (["mnist", "--scale", "smoke", "--report_json", "."], "report_json is ., a folder; wanted"),
        (["mnist", "--scale", "cpu", "--data", "."], "mnist"),
        (["mnist", "--gamma", "40"], "--gamma is [40.0], which mnist does not have"),
        (["dsprites", "--gamma", "forty"], "forty']; wanted numbers"),
        (["dsprites", "--lambda", "-1"], "must be at least 0"),
        (["dsprites", "--seeds", "0"], "--seeds 0 must be at least 1"),
        (["dsprites", "--initialization", "zeros"], "zeros"),
        (["mvtec", "--training", "theirs"], "--training is theirs; wanted one of published, ours"),
        (["ucsd", "--epochs", "0"], "--epochs 0"),
        (["mnist", "--weights", "{1: gone.pth}", "--scale", "smoke"], "gone.pth"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_bad_option_is_one_line_that_names_it(
    options: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("FILE").write_text("no folder")
    assert main(["reproduce", *options]) == 2
    error = capsys.readouterr().err
    assert error.startswith("captum-vae: error: ")
    assert words in error
    assert "Traceback" not in error


@pytest.mark.parametrize("option", ["data", "out", "models", "report_json"])
def test_what_is_no_path_is_named(option: str) -> None:
    with pytest.raises(TypeError, match=f"{option} is 5; wanted a path"):
        reproduce("mnist", **{option: 5})


def test_an_unknown_experiment_is_refused() -> None:
    with pytest.raises(ValueError, match="experiment is 'imagenet'; wanted one of mnist, ucsd"):
        load_experiment("imagenet")


def test_two_runs_in_one_folder_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with holding(tmp_path):
        assert main(["reproduce", "mnist", "--scale", "smoke", "--out", str(tmp_path)]) == 2
        assert main(["demo", "--out", str(tmp_path), "--steps", "1"]) == 2
        assert main(["disentangle-seeds", "--out", str(tmp_path)]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 3
    assert all(f"{tmp_path} is being written by process" in error for error in errors)


def check_explorers(out: Path, results: dict[str, Any]) -> None:
    """The page links explorers; in Chromium, where there is one, each draws without an error."""
    pages = [figure["explorer"] for figure in results["figures"] if figure["explorer"]]
    links = {link for link in Page(out / "index.html").links if link.startswith("explore/")}
    assert pages and set(pages) == links
    assert all((out / page).is_file() for page in pages)
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        return
    with browser.opened() as driver:
        for page in pages:
            browser.show(driver, out / page)
            browser.ready(driver)
            assert browser.errors(driver) == []
            assert all(url.startswith("file:") for url in browser.requests(driver))
            if page.endswith("dimensions/index.html") or results["experiment"] == "dsprites":
                words = driver.find_element("css selector", "#explorer").text
                assert "reconstruction" in words and "z = -3" in words


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
    check_explorers(out, results)
    assert results["command"].startswith(f"captum-vae reproduce {name} --scale smoke")
    assert {claim["verdict"] for claim in results["claims"]} == {"not testable here"}

    pages = [path for path in out.iterdir() if path.suffix in (".html", ".md", ".csv")]
    written = {path: path.read_bytes() for path in pages}
    write_pages(json.loads(copy.read_text()), out)
    assert {path: path.read_bytes() for path in pages} == written

    def nothing(*_: object, **__: object) -> None:
        raise AssertionError("trained or measured again")

    assert results["doubts"]
    assert results["finished"][0] == results["finished"][1]
    page = (out / "results.md").read_text()
    # The reasons stand once, above the claims.
    assert page.count(results["doubts"][-1]) == 1
    monkeypatch.setattr("captum_vae.experiments.work.train", nothing)
    monkeypatch.setattr("captum_vae.experiments.mnist.measured", nothing)
    monkeypatch.setattr("captum_vae.experiments.seed_runs.run_share", nothing)
    assert main(command) == 0
    again = load_results(out / "results.json")
    for part in ("claims", "tables", "trainings"):
        assert again[part] == results[part]


@pytest.mark.slow
def test_a_killed_run_leaves_the_page_of_what_it_has_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from captum_vae.experiments import mnist

    class Killed(BaseException):
        """Stands for a signal."""

    measured, calls = mnist.measured, []

    def killed_at_the_second_digit(*args: object, **options: object) -> object:
        calls.append(1)
        # A digit is measured as a whole, with a stroke pasted and with one erased.
        if len(calls) == 4:
            raise Killed
        return measured(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(mnist, "measured", killed_at_the_second_digit)
    command = ["reproduce", "mnist", "--scale", "smoke", "--out", str(tmp_path), "--device", "cpu"]
    with pytest.raises(Killed):
        main(command)
    results = load_results(tmp_path / "results.json")
    assert results["finished"] == [1, 2]
    assert [table["name"] for table in results["tables"]] == ["strokes_digit_1"]
    assert "Unfinished: 1 of 2 parts are measured" in (tmp_path / "index.html").read_text()
    assert main(command) == 0
    # The first digit was not measured again: three calls for the second one.
    assert len(calls) == 4 + 3
    assert load_results(tmp_path / "results.json")["finished"] == [2, 2]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "trainings"),
    [("ucsd", 1), ("mvtec", 3)],
)
def test_smoke_runs_on_rendered_data(
    name: str, trainings: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CAPTUM_VAE_DATA", raising=False)
    assert main(["reproduce", name, "--scale", "smoke", "--out", str(tmp_path)]) == 0
    results = load_results(tmp_path / "results.json")
    assert {claim["verdict"] for claim in results["claims"]} == {"not testable here"}
    assert len(results["trainings"]) == trainings
    assert all((tmp_path / figure["file"]).is_file() for figure in results["figures"])
    check_explorers(tmp_path, results)
