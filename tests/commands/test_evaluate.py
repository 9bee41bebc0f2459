"""``captum-vae evaluate`` from configuration to files, on images written to disk."""

import csv
import html
import io
import json
import os
import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from captum_vae.commands.main import main
from captum_vae.commands.scorer_option import CHOSEN, CONTROL, FLOOR, ORACLE, ScorerConfig
from captum_vae.files import holding
from captum_vae.models import ConvVAE, LinearFeatureVAE

SIDE = 24


def own_model(hidden: int = 8) -> ConvVAE:
    """A user's factory, found as tests.commands.test_evaluate:own_model."""
    torch.manual_seed(7)
    return ConvVAE(4, image_size=SIDE, channels=(4, 6), hidden=hidden)


def not_a_model() -> str:
    return "weights"


def write_images(folder: Path) -> None:
    """Grey squares on a darker ground; abnormal ones have a bright spot and its mask."""
    random = np.random.default_rng(0)
    for kind, count in (("masks", 0), ("normal", 12), ("abnormal", 6)):
        (folder / kind).mkdir()
        for index in range(count):
            pixels = random.integers(60, 80, (SIDE, SIDE), dtype=np.uint8)
            if kind == "abnormal":
                mask = np.zeros_like(pixels)
                mask[4 : 4 + index + 2, 8:14] = 255
                pixels[mask > 0] = 130
                Image.fromarray(mask).save(folder / "masks" / f"{index}.png")
            Image.fromarray(pixels).save(folder / kind / f"{index}.png")


def configuration(folder: Path) -> dict:
    size = {"image_size": SIDE, "image_channels": 1}
    normal = str(folder / "normal")
    return {
        "model": {"factory": "tests.commands.test_evaluate:own_model"},
        "normal": {"name": "folder", "options": {"normal": normal, **size}},
        "test": {
            "name": "folder",
            "options": {
                "normal": normal,
                "abnormal": str(folder / "abnormal"),
                "masks": str(folder / "masks"),
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
            "margin": 0.5,
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


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    write_images(folder)
    return folder


@pytest.fixture
def config(images) -> dict:
    return configuration(images)


@pytest.fixture
def plain(config) -> dict:
    """The quickest configuration: one scorer, nothing chosen, no page."""
    del config["choose_among"]
    config["scorers"] = {"mean": config["scorers"]["mean"]}
    return {**config, "report": "none"}


@pytest.fixture(scope="module")
def whole(images, tmp_path_factory) -> Path:
    """The folder of a run with everything."""
    folder = tmp_path_factory.mktemp("whole")
    assert run(configuration(images), folder) == 0
    return folder


def test_a_users_own_model_is_scored_chosen_for_and_reported(whole):
    found = results(whole)
    names = [row["name"] for row in found["rows"]]
    assert names == [CHOSEN, CONTROL, "reconstruction", "mean", "paper", FLOOR, ORACLE]
    assert all(row["scores"]["auroc"]["value"] is not None for row in found["rows"])
    assert list(found["differences"]) == [f"{CHOSEN} - {name}" for name in names[1:-1]]
    assert found["choice"]["oracle"] in found["choice"]["synthetic"]
    # Half of an AUROC is out of reach, so the default stays.
    assert found["choice"]["name"].startswith("explained residual l2_or_mahalanobis")
    assert set(found["floor"]["differences"]) == set(names) - {FLOOR}
    assert found["active_dimensions"]["dimensions"] == 4
    assert found["seed"] == 0 and found["commit"]
    assert found["command"].startswith("captum-vae evaluate --config ")


def test_rows_without_a_smoothing_of_their_own_take_the_chosen_one(whole):
    sigma = {r["name"]: r["protocol"]["smoothing"] for r in results(whole)["rows"]}
    assert sigma["mean"] == 1.0
    assert sigma["reconstruction"] == sigma["paper"] == sigma[CHOSEN] == sigma[CONTROL]


def test_the_report_shows_images_table_curves_and_protocol(whole):
    page = (whole / "out" / "index.html").read_text()
    for picture in ("worst.png", "best.png", "normal.png", "curves.png"):
        assert picture in page and (whole / "out" / picture).stat().st_size > 1000
    assert "all frames with known truth" in page
    read = results(whole)["test"]["read"]
    assert read["images"] == "18 images; 6 with a mask; 12 known to be normal"
    assert read["masks"].startswith("a mask pixel is anomalous by the first of these")
    assert read["masks"] in html.unescape(page)
    reading = results(whole)["model"]["posterior_read_by"]
    assert reading.startswith("PosteriorAdapter(call='encode'") and reading in html.unescape(page)
    assert "An oracle, which reads the test labels, would have chosen" in page
    lines = (whole / "out" / "table.csv").read_text().splitlines()
    assert len(lines) == 8


def test_threshold_and_choice_stand_in_csv_and_markdown(whole):
    rows = list(csv.DictReader(io.StringIO((whole / "out" / "table.csv").read_text())))
    assert rows[0]["candidate"] == results(whole)["choice"]["name"]
    assert all(0 <= float(row["false_positive_rate_at_threshold"]) <= 1 for row in rows)
    assert all(float(row["threshold"]) > 0 for row in rows if row["scorer"] != FLOOR)
    text = (whole / "out" / "table.md").read_text()
    assert text.startswith("| scorer |")
    assert "| threshold |" in text and "Chosen among" in text


def test_a_row_that_does_not_beat_the_constant_map_is_said_so_in_words(plain, tmp_path, capsys):
    plain["scorers"] = {"constant too": {"name": "constant_map"}}
    assert run(plain, tmp_path) == 0
    assert f"Not shown to be better than {FLOOR}" in capsys.readouterr().out
    assert "constant too" in results(tmp_path)["floor"]["words"][0]
    assert "constant too" in (tmp_path / "out" / "table.md").read_text().split("Not shown")[1]


def test_the_oracle_looks_at_no_more_test_images_than_allowed_and_0_skips_it(
    config, tmp_path, capsys
):
    assert run(config, tmp_path, "--report", "none", "--oracle_images", "5") == 0
    assert results(tmp_path)["choice"]["test_images"] == 5
    text = capsys.readouterr().out
    assert "candidates without test labels" in text
    assert "resamples choose the same" in text
    assert "An oracle, which reads the test labels" in text
    assert run(config, tmp_path, "--report", "none", "--oracle_images", "0") == 0
    found = results(tmp_path)
    assert found["choice"]["oracle"] is None
    assert ORACLE not in [row["name"] for row in found["rows"]]


def test_without_a_choice_the_first_scorer_leads_and_no_report_is_written_on_request(
    config, tmp_path
):
    del config["choose_among"]
    config["test"]["options"]["mask_values"] = {0: "normal", 255: "anomalous"}
    assert run(config, tmp_path, "--report", "none") == 0
    told = "values of mask pixels: 0 normal, 255 anomalous"
    assert results(tmp_path)["test"]["read"]["masks"] == told
    assert [row["name"] for row in results(tmp_path)["rows"]] == [
        *("reconstruction", "mean", "paper"),
        FLOOR,
    ]
    assert not (tmp_path / "out" / "index.html").exists()


def test_two_runs_of_the_same_command_give_the_same_results(plain, tmp_path):
    found = []
    for _ in range(2):
        assert run(plain, tmp_path) == 0
        result = results(tmp_path)
        for row in result["rows"]:
            del row["seconds"]
        found.append(result)
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        # Every image is known to be normal.
        ({"abnormal": None, "masks": None}, "no pixel of the 12 test images that count is anomal"),
        # Only those of the defects, all without masks.
        ({"masks": None}, "no pixel of the 12 test images that count is anomalous. Add images"),
    ],
)
def test_a_set_without_defects_says_so_on_the_terminal_the_table_and_the_page(
    plain, tmp_path, capsys, options, words
):
    plain["test"]["options"] |= options
    plain["report"] = "html"
    assert run(plain, tmp_path) == 0
    out = tmp_path / "out"
    printed = capsys.readouterr().out
    assert "undefined" in printed and "Undefined for every scorer: all pixel metrics" in printed
    page, table = (out / "index.html").read_text(), (out / "table.md").read_text()
    for text in (printed, page, table):
        assert words in text and "Add images with defects and their masks" in text
    assert "pixel AUROC undefined over 12 images" in page and "nan" not in page.lower()
    assert (
        (out / "table.csv")
        .read_text()
        .splitlines()[1]
        .endswith("no anomalous pixel or image in the set")
    )


@pytest.mark.parametrize("progress", [True, False, "on", "off", "auto"])
def test_progress_is_what_yaml_makes_of_on_and_off(plain, tmp_path, progress, capsys):
    assert run({**plain, "progress": progress}, tmp_path) == 0
    bar = "it/s" in (said := capsys.readouterr().err)
    assert bar == (progress in (True, "on"))
    # A line per stage, with or without a terminal.
    assert ("captum-vae: scoring: " in said) == (progress not in (False, "off"))


NAMES = {
    "mathematics": "cost_$5_$x^",
    "a broken fraction": r"a$\frac0$",
    "hidden": "_hidden",
    "marks": "a b#c%d",
    "other planes": "𝛼" * 60,
    "the longest": "a" * 251,
    "no UTF-8": os.fsdecode(b"caf\xe9"),
}


@pytest.mark.parametrize("kind", NAMES)
def test_names_of_files_and_scorers_are_words_whatever_they_hold(plain, tmp_path, kind):
    name, folder = NAMES[kind], tmp_path / "odd"
    folder.mkdir()
    write_images(folder)
    for part in ("abnormal", "masks"):
        (folder / part / "0.png").rename(folder / part / f"{name}.png")
    plain["test"], plain["report"] = configuration(folder)["test"], "html"
    if kind != "no UTF-8":  # which a YAML file cannot hold
        plain["scorers"] = {name: plain["scorers"]["mean"]}
    assert run(plain, tmp_path) == 0
    assert (tmp_path / "out" / "worst.png").stat().st_size > 1000


def test_two_runs_in_one_folder_are_refused_by_name(plain, tmp_path, capsys):
    with holding(tmp_path / "out"):
        assert run(plain, tmp_path) == 2
    assert "out is being written by" in capsys.readouterr().err


def changed(config: dict, path: str, value) -> dict:
    """The configuration with one value changed, ``-`` for a part that is left out."""
    config = deepcopy(config)
    *parents, last = path.split("/")
    inner = config
    for parent in parents:
        inner = inner.setdefault(parent, {})
    inner[last] = value
    return config


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("model", {}, "either a checkpoint or a factory"),
        ("model", {"factory": "no.such:thing"}, "does not import"),
        ("model/factory", "tests.commands.test_evaluate:not_a_model", "returned str; wanted"),
        ("model", {"checkpoint": "/no/such/run"}, "/no/such/run"),
        ("model/options", {"hidden": "x", "depth": 3}, "do not fit"),
        ("model/posterior", "encode:nothing", "cannot read 'nothing'"),
        ("normal", {"name": "foldr"}, "'foldr' is not among the datasets"),
        ("normal/options/normal", "/no/such/folder", "/no/such/folder"),
        ("normal/options/colour", 3, "colour"),
        ("test", {"name": "digits"}, "images of test, of shape (1, 28, 28)"),
        ("test/options/masks", "/no/such/masks", "/no/such/masks"),
        ("scorers", {}, "name at least one scorer"),
        ("scorers", {"x": {"name": "latent_atention"}}, "did you mean 'latent_attention'"),
        ("scorers", {"x": {"name": "mean_image", "options": {"colour": 1}}}, "scorers.x"),
        ("scorers", {"x": {"name": "mean_image", "options": {"distance": 5}}}, "distance"),
        ("scorers", {"x": {"name": "mean_image", "options": {"model": 5}}}, "scorers.x"),
        ("scorers", {"x": {"name": "latent_attention"}}, "scorers.x"),
        ("scorers/x", {"name": "latent_attention", "options": {"layers": "conv9"}}, "conv9"),
        ("scorers/mean/smoothing", -1, "scorers.mean.smoothing is -1"),
        ("scorers/mean/smoothing", float("nan"), "scorers.mean.smoothing"),
        ("scorers/mean/sigma", 1, "sigma"),
        ("scorers", ["mean_image"], "--scorers"),
        ("protocol", {"smoothing": -1}, "smoothing is -1"),
        ("protocol", {"frames": "some"}, "some"),
        ("protocol", {"size": [0, 5]}, "size is (0, 5)"),
        ("protocol", {"size": "both"}, "both"),
        ("protocol", {"quantile": 2}, "quantile is 2"),
        ("protocol", {"speed": 1}, "speed"),
        ("choose_among", {"layers": []}, "choose_among.layers is empty"),
        ("choose_among", {"layers": ["conv9"]}, "conv9"),
        (
            "choose_among",
            {"layers": ["encoder.conv1"], "held_out": 1},
            "choose_among.held_out is 1",
        ),
        ("choose_among", {"layers": ["encoder.conv1"], "held_out": 0.01}, "12 normal images"),
        ("choose_among", {"layers": ["encoder.conv1"], "smoothing": [0, 0]}, "twice"),
        ("choose_among", {"layers": ["encoder.conv1"], "area": [0.5, 0.1]}, "area"),
        ("choose_among", {"layers": ["encoder.conv1"], "speed": 1}, "speed"),
        ("oracle_images", -1, "--oracle_images -1 must be at least"),
        ("normal_images", 0, "--normal_images 0 must be at least"),
        ("batch_size", 0, "--batch_size 0 must be at least"),
        ("batch_size", 1.5, "--batch_size is 1.5; wanted a whole number"),
        ("batch_size", True, "batch_size"),
        ("workers", -2, "--workers -2 must be at least"),
        ("units", "pixels", "--units is pixels; wanted one of images, groups"),
        ("resamples", 0, "--resamples 0 must be at least"),
        ("seed", -1, "seed=-1 must be at least"),
        ("seed", 2**70, f"seed={2**70} must be at most"),
        ("accelerator", "tpu", "--accelerator is tpu"),
        ("report", "pdf", "--report is pdf"),
        ("shown", -1, "--shown -1 must be at least"),
        ("progress", "sometimes", "--progress is sometimes"),
        ("speed", 1, "speed"),
    ],
)
def test_a_wrong_configuration_is_one_line_that_names_the_fix(
    plain, tmp_path, capsys, path, value, words
):
    assert run(changed(plain, path, value), tmp_path) == 2
    error = capsys.readouterr().err.strip()
    assert words.replace("_", "-") in error.replace("_", "-")
    assert error.splitlines()[-1].startswith("captum-vae: error:")
    assert "Traceback" not in error


def test_a_title_that_the_choice_takes_is_refused(config, tmp_path, capsys):
    config["scorers"][CONTROL] = config["scorers"].pop("mean")
    assert run(config, tmp_path) == 2
    assert "the title of a line that evaluate adds" in capsys.readouterr().err


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
    from captum_vae.commands.evaluation_steps import build_scorer
    from captum_vae.localization.choosing import Candidates
    from captum_vae.posterior import as_adapter

    vae = ConvVAE(4, image_size=16, channels=(4, 6, 8), hidden=8)
    of_features = LinearFeatureVAE(
        "test_resnet", ["layer1", "layer2"], latent_dims=4, image_size=64, in_channels=3
    )
    folder = Path(__file__).parents[2] / "captum_vae" / "commands" / "configs" / "evaluate"
    paths = sorted(folder.glob("*.yaml"))
    assert {path.stem for path in paths} >= {"bottle", "ped2", "hazelnut", "transistor"}
    for path in paths:
        config = yaml.safe_load(path.read_text())
        model = of_features if path.stem.endswith("_features") else vae
        for scorer in config["scorers"].values():
            build_scorer("a title", ScorerConfig(**scorer), model, as_adapter(model))
        Candidates(**config["choose_among"])
