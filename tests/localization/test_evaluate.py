"""``captum-vae evaluate`` from configuration to files, on images written to disk."""

import html
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from captum_vae.commands.evaluate import CHOSEN, CONTROL, ORACLE
from captum_vae.commands.main import main
from captum_vae.models import ConvVAE

SIDE = 24


def own_model(hidden: int = 8) -> ConvVAE:
    """A user's factory, found as tests.localization.test_evaluate:own_model."""
    torch.manual_seed(7)
    return ConvVAE(4, image_size=SIDE, channels=(4, 6), hidden=hidden)


def not_a_model() -> str:
    return "weights"


@pytest.fixture
def folders(tmp_path):
    """Grey squares on a darker ground; abnormal ones have a bright spot and its mask."""
    random = np.random.default_rng(0)
    for kind, count in (("masks", 0), ("normal", 12), ("abnormal", 6)):
        folder = tmp_path / kind
        folder.mkdir()
        for index in range(count):
            pixels = random.integers(60, 80, (SIDE, SIDE), dtype=np.uint8)
            if kind == "abnormal":
                mask = np.zeros_like(pixels)
                mask[4 : 4 + index + 2, 8:14] = 255
                pixels[mask > 0] = 130
                Image.fromarray(mask).save(tmp_path / "masks" / f"{index}.png")
            Image.fromarray(pixels).save(folder / f"{index}.png")
    return tmp_path


@pytest.fixture
def config(folders):
    size = {"image_size": SIDE, "image_channels": 1}
    normal = str(folders / "normal")
    return {
        "model": {"factory": "tests.localization.test_evaluate:own_model"},
        "normal": {"name": "folder", "options": {"normal": normal, **size}},
        "test": {
            "name": "folder",
            "options": {
                "normal": normal,
                "abnormal": str(folders / "abnormal"),
                "masks": str(folders / "masks"),
                **size,
            },
        },
        "scorers": {
            "reconstruction": {"name": "reconstruction_error"},
            "mean": {"name": "mean_image", "smoothing": 1.0},
            "paper": {"name": "latent_attention", "options": {"layers": "encoder.conv2"}},
        },
        "choose_among": {
            "layers": ["encoder.conv1", "encoder.conv2"],
            "smoothing": [0, 1],
            "held_out": 0.25,
        },
        "accelerator": "cpu",
        "resamples": 30,
        "progress": "off",
        "shown": 2,
    }


def run(config: dict, folder: Path, *arguments: str) -> int:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return main(["evaluate", "--config", str(path), "--out", str(folder / "out"), *arguments])


def results(folder: Path) -> dict:
    return json.loads((folder / "out" / "results.json").read_text())


def test_a_users_own_model_is_scored_chosen_for_and_reported(config, tmp_path, capsys):
    assert run(config, tmp_path) == 0
    found = results(tmp_path)
    names = [row["name"] for row in found["rows"]]
    assert names == [CHOSEN, CONTROL, "reconstruction", "mean", "paper", ORACLE]
    assert all(row["scores"]["auroc"]["value"] is not None for row in found["rows"])
    assert found["choice"]["oracle"] in found["choice"]["synthetic"]
    assert found["active_dimensions"]["dimensions"] == 4
    assert found["seed"] == 0 and found["commit"]
    assert found["command"].startswith("captum-vae evaluate --config ")
    text = capsys.readouterr().out
    assert "Chosen among 8 variants without test labels" in text
    assert "An oracle, which reads the test labels" in text


def test_rows_without_a_smoothing_of_their_own_take_the_chosen_one(config, tmp_path):
    assert run(config, tmp_path) == 0
    sigma = {r["name"]: r["protocol"]["smoothing"] for r in results(tmp_path)["rows"]}
    assert sigma["mean"] == 1.0
    assert sigma["reconstruction"] == sigma["paper"] == sigma[CHOSEN] == sigma[CONTROL]


def test_the_oracle_looks_at_no_more_test_images_than_allowed_and_0_skips_it(config, tmp_path):
    assert run(config, tmp_path, "--report", "none", "--oracle_images", "5") == 0
    assert results(tmp_path)["choice"]["test_images"] == 5
    assert run(config, tmp_path, "--report", "none", "--oracle_images", "0") == 0
    found = results(tmp_path)
    assert found["choice"]["oracle"] is None
    assert ORACLE not in [row["name"] for row in found["rows"]]


def test_the_report_shows_images_table_curves_and_protocol(config, tmp_path):
    assert run(config, tmp_path) == 0
    page = (tmp_path / "out" / "index.html").read_text()
    for picture in ("worst.png", "best.png", "normal.png", "curves.png"):
        assert picture in page and (tmp_path / "out" / picture).stat().st_size > 1000
    assert "all frames with known truth" in page
    reading = results(tmp_path)["model"]["posterior_read_by"]
    assert reading.startswith("PosteriorAdapter(call='encode'") and reading in html.unescape(page)
    assert "An oracle, which reads the test labels, would have chosen" in page
    lines = (tmp_path / "out" / "table.csv").read_text().splitlines()
    assert len(lines) == 7
    assert (tmp_path / "out" / "table.md").read_text().startswith("| scorer |")


def test_without_a_choice_the_first_scorer_leads_and_no_report_is_written_on_request(
    config, tmp_path
):
    del config["choose_among"]
    assert run(config, tmp_path, "--report", "none") == 0
    assert [row["name"] for row in results(tmp_path)["rows"]] == [
        "reconstruction",
        "mean",
        "paper",
    ]
    assert not (tmp_path / "out" / "index.html").exists()


def test_two_runs_of_the_same_command_give_the_same_results(config, tmp_path):
    found = []
    for _ in range(2):
        assert run(config, tmp_path, "--report", "none") == 0
        result = results(tmp_path)
        for row in result["rows"]:
            del row["seconds"]
        found.append(result)
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": {}}, "either a checkpoint or a factory"),
        ({"model": {"factory": "no.such:thing"}}, "does not import"),
        (
            {"model": {"factory": "tests.localization.test_evaluate:not_a_model"}},
            "returned str; wanted a torch.nn.Module",
        ),
        ({"model": {"checkpoint": "/no/such/run"}}, "no checkpoint or run folder"),
        ({"scorers": {"x": {"name": "latent_atention"}}}, "did you mean 'latent_attention'"),
        (
            {"scorers": {"x": {"name": "mean_image", "options": {"colour": 1}}}},
            "options of the scorer 'mean_image' do not fit",
        ),
        ({"scorers": {}, "choose_among": None}, "name at least one scorer"),
        ({"normal": {"name": "foldr"}}, "'foldr' is not among the datasets"),
    ],
)
def test_a_wrong_configuration_is_one_line_that_names_the_fix(
    config, tmp_path, capsys, change, message
):
    assert run({**config, **change}, tmp_path) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert error.splitlines()[-1].startswith("captum-vae: error:")


@pytest.mark.slow
def test_two_processes_count_what_one_counts(config, tmp_path):
    """The same command under torchrun: counts, curves and image scores to the bit."""
    del config["choose_among"]
    found = []
    for processes in (1, 2):
        out = tmp_path / f"out{processes}"
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump(config, sort_keys=False))
        root = Path(__file__).parents[2]
        subprocess.run(
            [
                *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
                *("--nproc-per-node", str(processes), "-m", "captum_vae", "evaluate"),
                *("--config", str(path), "--out", str(out), "--report", "none"),
                *("--batch_size", "1"),
            ],
            check=True,
            cwd=root,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            timeout=300,
        )
        found.append(json.loads((out / "results.json").read_text()))
    assert [result["processes"] for result in found] == [1, 2]
    for one, two in zip(found[0]["rows"], found[1]["rows"], strict=True):
        assert one["anomalous_pixels"] == two["anomalous_pixels"]
        assert one["normal_pixels"] == two["normal_pixels"]
        assert one["scores"] == two["scores"]
        assert one["intervals"] == two["intervals"]


def test_every_shipped_configuration_names_scorers_and_options_that_exist(monkeypatch):
    from captum_vae.commands.evaluate import ScorerConfig, build_scorer
    from captum_vae.localization.choosing import Candidates
    from captum_vae.posterior import as_adapter

    vae = ConvVAE(4, image_size=16, channels=(4, 6, 8), hidden=8)
    folder = Path(__file__).parents[2] / "captum_vae" / "commands" / "configs" / "evaluate"
    paths = sorted(folder.glob("*.yaml"))
    assert {path.stem for path in paths} >= {"bottle", "ped2", "hazelnut", "transistor"}
    for path in paths:
        config = yaml.safe_load(path.read_text())
        for scorer in config["scorers"].values():
            build_scorer("a title", ScorerConfig(**scorer), vae, as_adapter(vae))
        Candidates(**config["choose_among"])
