"""The UCSD experiment: its claims, its protocols, and a run on rendered scenes."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from captum_vae.data import MovingPedestrians
from captum_vae.experiments.anomaly_maps import (
    CHOSEN,
    CONTROL,
    MEAN_IMAGE,
    OURS,
    RECONSTRUCTION,
    SMOOTHED,
    ChosenMaps,
    baseline_maps,
    choose_maps,
    pixel_maps,
    published_maps,
    published_name,
    row_name,
    smoothed,
)
from captum_vae.experiments.reproduce import reproduce
from captum_vae.experiments.results import ResultTable
from captum_vae.experiments.ucsd import (
    EXPERIMENT,
    SETTINGS,
    find_scene,
    one_frame_per_clip,
    rows_by_protocol,
)
from captum_vae.experiments.ucsd_findings import (
    ALL_FRAMES,
    ANOMALOUS,
    LAYERS,
    MASKS_DOWN,
    PAIRS,
    PRIMARY,
    UNSCALED,
    label,
    result_tables,
    verdicts,
)
from captum_vae.experiments.work import Work
from captum_vae.localization import LatentAttention, ReconstructionError
from captum_vae.localization.choosing import Candidates
from captum_vae.models import ConvVAE
from captum_vae.training.building import build_dataset
from tests.data.layouts import write_ucsd

PUBLISHED = [
    published_name(layer, method, rectifier)
    for layer in LAYERS
    for method in ("1", "2")
    for rectifier in ("relu", "abs")
]
OTHERS = [
    RECONSTRUCTION,
    MEAN_IMAGE,
    RECONSTRUCTION + SMOOTHED,
    MEAN_IMAGE + SMOOTHED,
    *(f"{layer}, method 1, abs, baseline mean activation" for layer in LAYERS),
    *(name + UNSCALED.smoothed for name in (RECONSTRUCTION, MEAN_IMAGE)),
    CHOSEN,
    CONTROL,
    UNSCALED.ours,
    UNSCALED.control,
]


def _cell(values: dict[str, float], *, spread: float = 0.01) -> dict[str, Any]:
    """Every map has 0.5 unless told; intervals reach ``spread`` to both sides."""

    def around(value: float) -> dict[str, Any]:
        return {"value": value, "low": value - spread, "high": value + spread}

    found = {
        row_name(name, label(frames, size)): values.get(name, 0.5) + (size == MASKS_DOWN) * 0.1
        for name in [*PUBLISHED, *OTHERS]
        for frames in (ALL_FRAMES, ANOMALOUS)
        for size in ("maps up", MASKS_DOWN)
    }
    metrics = ("auroc", "aupro", "average_precision", "best_iou")
    return {
        "rows": {name: {m: around(value) for m in metrics} for name, value in found.items()},
        "differences": {f"{a} - {b}": around(found[a] - found[b]) for a, b in PAIRS},
    }


@pytest.fixture
def vae() -> ConvVAE:
    return ConvVAE(4, image_size=(32, 48), channels=(4, 6, 8), hidden=12).eval()


@pytest.fixture
def chosen(vae: ConvVAE) -> list[ChosenMaps]:
    scorer = LatentAttention(vae, "encoder.conv1")
    return [ChosenMaps(OURS, scorer, 2.0, "conv1, sigma 2", 0.9, 48, 40)]


def _table(tables: list[ResultTable], name: str) -> dict[Any, Any]:
    """Cells by the first cell of their row and their column's title."""
    (table,) = (table for table in tables if table.name == name)
    return {
        (row[0], column): cell
        for row in table.rows
        for column, cell in zip(table.columns, row, strict=True)
    }


def test_attention_above_the_reconstruction_confirms_the_paper_and_refutes_the_replications():
    found = verdicts(_cell({RECONSTRUCTION: 0.8, "conv3, method 2, abs": 0.85}), "Ped1")
    assert found["attention_beats_reconstruction"].outcome == "confirmed"
    assert found["attention_below_reconstruction"].outcome == "refuted"
    assert "+0.050 [+0.040, +0.060]" in found["attention_beats_reconstruction"].because


def test_attention_below_the_reconstruction_refutes_the_paper_and_confirms_the_replications():
    found = verdicts(_cell({RECONSTRUCTION: 0.8}), "Ped2")
    assert found["attention_beats_reconstruction"].outcome == "refuted"
    assert found["attention_below_reconstruction"].outcome == "confirmed"


def test_a_difference_within_its_interval_decides_nothing():
    found = verdicts(_cell({RECONSTRUCTION: 0.505}), "Ped2")
    assert found["attention_beats_reconstruction"].outcome == "undecided"
    assert found["attention_below_reconstruction"].outcome == "undecided"


def test_the_best_layer_is_found_among_the_best_map_of_each():
    values = {
        "conv1, method 1, abs": 0.6,
        "conv2, method 2, relu": 0.7,
        "conv3, method 1, relu": 0.65,
    }
    assert verdicts(_cell(values), "Ped2")["conv2_is_best"].outcome == "confirmed"
    values["conv3, method 1, relu"] = 0.75
    assert verdicts(_cell(values), "Ped2")["conv2_is_best"].outcome == "refuted"


def test_method_1_must_lead_with_every_layer_and_rectifier():
    values = {name: 0.6 for name in PUBLISHED if "method 1" in name}
    assert verdicts(_cell(values), "Ped2")["method_1_above_method_2"].outcome == "confirmed"
    values["conv2, method 1, abs"] = 0.4
    assert verdicts(_cell(values), "Ped2")["method_1_above_method_2"].outcome == "refuted"


def test_shrunken_masks_are_compared_by_both_intervals():
    found = verdicts(_cell({}), "Ped2")["masks_down_scores_higher"]
    assert found.outcome == "confirmed"
    assert "with 12 of 12 published maps, by +0.100 to +0.100" in found.because
    wide = verdicts(_cell({}, spread=0.06), "Ped2")["masks_down_scores_higher"]
    assert wide.outcome == "undecided"


def test_the_papers_figure_is_tested_on_ped1_alone_and_the_shortfall_is_said():
    cell = _cell({"conv2, method 1, relu": 0.7})
    on_ped1 = verdicts(cell, "Ped1")["paper_figure"]
    assert on_ped1.outcome == "refuted"
    assert "0.220 below the paper on Ped1 (0.920)" in on_ped1.because
    on_ped2 = verdicts(cell, "Ped2")["paper_figure"]
    assert on_ped2.outcome == "not testable here"
    assert "0.220 below" in on_ped2.because


def test_ours_is_compared_with_reconstruction_and_mean_image_under_its_smoothing():
    values = {CHOSEN: 0.9, RECONSTRUCTION + SMOOTHED: 0.8, MEAN_IMAGE + SMOOTHED: 0.95}
    found = verdicts(_cell(values), "Ped2")
    assert found["ours_beats_reconstruction"].outcome == "confirmed"
    assert found["ours_beats_mean_image"].outcome == "refuted"
    assert found["weights_beat_control"].outcome == "confirmed"


def test_the_unscaled_map_is_compared_under_its_own_smoothing():
    values = {UNSCALED.ours: 0.9, RECONSTRUCTION + UNSCALED.smoothed: 0.8, RECONSTRUCTION: 0.95}
    found = verdicts(_cell(values), "Ped2")
    assert found["unscaled_beats_reconstruction"].outcome == "confirmed"
    values[UNSCALED.control] = 0.95
    assert verdicts(_cell(values), "Ped2")["unscaled_beats_control"].outcome == "refuted"


def test_the_unscaled_choice_is_the_best_of_its_kind_in_the_same_ranking(vae, tmp_path):
    work = Work(tmp_path, tmp_path / "models")
    work.trainings.append({"name": "scene", "model": "conv-1"})
    candidates = Candidates(
        ["encoder.conv1", "encoder.conv2"], scales=["none", "location"], smoothing=[0.0], images=4
    )
    normal = MovingPedestrians("train", clips=1, frames=12, image_size=(32, 48))
    options = {"name": "scene", "normal_images": 8, "batch_size": 4}
    blind = choose_maps(vae, candidates, normal, work, **options)
    unscaled = choose_maps(
        vae, candidates, normal, work, scales=["none"], names=UNSCALED, **options
    )
    (cell,) = (tmp_path / "cells").iterdir()
    ranking = json.loads(cell.read_text())["synthetic"]
    assert blind.variant == max(ranking, key=ranking.get)
    assert unscaled.variant == max((v for v in ranking if "scale none" in v), key=ranking.get)
    assert (blind.among, unscaled.among) == (8, 4)
    assert [m.name for m in unscaled.beside(pixel_maps(vae))] == [
        RECONSTRUCTION + UNSCALED.smoothed,
        MEAN_IMAGE + UNSCALED.smoothed,
        UNSCALED.ours,
        UNSCALED.control,
    ]


def test_every_claim_has_a_verdict():
    assert set(verdicts(_cell({}), "Ped2")) == {claim.name for claim in EXPERIMENT.claims}


def test_published_figures_stand_beside_ours_with_the_shortfall(chosen):
    cell = _cell({"conv2, method 1, relu": 0.7, CHOSEN: 0.94, RECONSTRUCTION: 0.85})
    table = _table(result_tables(cell, "Ped2", [*PUBLISHED], chosen), "beside")
    assert table["conv2", "paper, Ped1"] == 0.92
    assert table["conv2", "replication b, Ped1"] == 0.80
    assert table["conv2", "ours as published, Ped2"].value == 0.7
    assert table["conv2", "minus paper"] == pytest.approx(-0.22)
    assert table["VAE reconstruction error", "paper, Ped1"] == 0.86
    assert table["VAE reconstruction error", "minus paper"] == pytest.approx(-0.01)
    last = "best layer; ours, chosen without labels"
    assert table[last, "minus paper (baseline)"] == pytest.approx(0.02)


def test_the_grid_holds_replication_b_by_layer_method_and_rectifier(chosen):
    table = _table(result_tables(_cell({}), "Ped2", PUBLISHED, chosen), "protocols")
    assert table["conv3, method 2, abs", "replication b, Ped1"] == 0.64
    assert table["conv1, method 1, relu", "replication b, Ped1"] == 0.71


def test_the_published_maps_are_those_of_the_paper(vae):
    maps = {m.name: m.scorer for m in published_maps(vae, LAYERS)}
    assert sorted(maps) == sorted(PUBLISHED)
    options = maps["conv2, method 2, abs"].options
    assert maps["conv2, method 2, abs"].layers == ("encoder.conv2",)
    assert maps["conv2, method 2, abs"].method == "mean_sum"
    assert (options.rectifier, options.order, options.reduction) == ("abs", "after_sum", "sum")
    assert all(scorer.baselines == "none" for scorer in maps.values())


def test_masks_shrink_to_the_size_of_each_layers_features(vae):
    images = MovingPedestrians(clips=1, frames=1, image_size=(32, 48))
    smooth = smoothed(pixel_maps(vae), SMOOTHED, 2.0)
    maps = [*pixel_maps(vae), *smooth, *published_maps(vae, LAYERS), *baseline_maps(vae, LAYERS)]
    rows = {row.name: row.protocol for row in rows_by_protocol(vae, maps, images)}
    down = label(ANOMALOUS, MASKS_DOWN)
    assert rows[row_name("conv1, method 1, relu", down)].size == (16, 24)
    assert rows[row_name("conv3, method 1, relu", down)].size == (4, 6)
    assert rows[row_name(RECONSTRUCTION, down)].size == (32, 48)
    assert rows[row_name("conv3, method 1, relu", down)].frames == "anomalous"
    assert rows[row_name(RECONSTRUCTION + SMOOTHED, PRIMARY)].smoothing == 2.0
    assert row_name(RECONSTRUCTION + SMOOTHED, down) not in rows


def test_the_paper_scale_has_the_published_settings():
    paper = SETTINGS["paper"]
    assert (paper.model, paper.image_size) == ("ucsd", (100, 100))
    assert (paper.learning_rate, paper.batch_size, paper.every) == (1e-4, 32, 1)
    assert (paper.epochs, paper.steps) == (1000, 0)


def test_ped1_is_taken_only_where_its_training_clips_are(tmp_path: Path):
    train = MovingPedestrians(clips=1, frames=2, image_size=(32, 48))
    test = MovingPedestrians("test", clips=1, frames=2, image_size=(32, 48))
    release = tmp_path / "ucsd" / "UCSD_Anomaly_Dataset.v1p2"
    write_ucsd(release, "ped2", train, test)
    write_ucsd(release, "ped1", [], test)
    assert find_scene(SETTINGS["cpu"], tmp_path).name == "Ped2"
    (release / "UCSDped1").rename(release / "incomplete")
    write_ucsd(release, "ped1", train, test)
    found = find_scene(SETTINGS["cpu"], tmp_path)
    assert found.name == "Ped1"
    assert build_dataset(found.training)[0].image.shape == (1, 96, 96)


def test_a_folder_without_ucsd_is_named_in_the_error(tmp_path: Path):
    scene = find_scene(SETTINGS["cpu"], tmp_path)
    with pytest.raises(FileNotFoundError, match="ucsd"):
        build_dataset(scene.training)


def test_shown_frames_come_from_different_clips():
    frames = MovingPedestrians("test", clips=3, frames=12, image_size=(32, 48))
    shown = one_frame_per_clip(frames, 2)
    assert [frames[index].group for index in shown] == ["Test001", "Test002"]
    assert all(frames[index].mask.any() for index in shown)


def test_the_real_clips_are_ped2_since_ped1_is_a_slice(data_root: Path):
    scene = find_scene(SETTINGS["cpu"], data_root)
    assert scene.name == "Ped2"
    assert len(build_dataset(scene.training)) == 2550
    assert len(build_dataset(scene.test)) == 2010


@pytest.mark.slow
def test_smoke_runs_on_rendered_scenes_and_a_second_run_repeats_nothing(tmp_path, monkeypatch):
    monkeypatch.delenv("CAPTUM_VAE_DATA", raising=False)
    reproduce("ucsd", scale="smoke", out=str(tmp_path), device="cpu")
    first = json.loads((tmp_path / "results.json").read_text())
    assert {claim["verdict"] for claim in first["claims"]} == {"not testable here"}
    assert (tmp_path / "ucsd_maps.png").is_file()
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "cells").iterdir()}
    reproduce("ucsd", scale="smoke", out=str(tmp_path), device="cpu")
    second = json.loads((tmp_path / "results.json").read_text())
    assert second["tables"] == first["tables"]
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cells").iterdir()} == written


def test_the_reconstruction_row_is_the_absolute_error(vae):
    (raw, _) = pixel_maps(vae)
    images = torch.rand(2, 1, 32, 48)
    assert isinstance(raw.scorer, ReconstructionError)
    with torch.no_grad():
        decoded = vae.decode(vae.encode(images)[0])
    torch.testing.assert_close(raw.scorer.score(images), (images - decoded).abs()[:, 0])
