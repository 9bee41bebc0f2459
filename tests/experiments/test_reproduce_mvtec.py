"""The MVTec AD experiment: its claims, its categories, and a run on rendered textures."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from captum_vae.data import SyntheticDefects
from captum_vae.experiments.anomaly_maps import (
    CHOSEN,
    CONTROL,
    MEAN_IMAGE,
    OURS,
    RECONSTRUCTION,
    SMOOTHED,
    ChosenMaps,
    published_name,
    row_name,
)
from captum_vae.experiments.mvtec import (
    EXPERIMENT,
    SETTINGS,
    find_categories,
    one_image_per_defect,
)
from captum_vae.experiments.mvtec_findings import (
    ALL_IMAGES,
    ANOMALOUS,
    LAYERS,
    PAIRS,
    PUBLISHED_LAYERS,
    CategoryFindings,
    published,
    result_tables,
    verdicts,
)
from captum_vae.experiments.mvtec_rendered import RenderedTexture
from captum_vae.experiments.reproduce import reproduce
from captum_vae.localization import LatentAttention
from captum_vae.models import ConvVAE, ResNet18VAE
from captum_vae.training.building import build_dataset
from tests.data.layouts import write_mvtec

PUBLISHED = [
    published_name(layer, method, rectifier)
    for layer in PUBLISHED_LAYERS
    for method in ("1", "2")
    for rectifier in ("relu", "abs")
]
NAMES = (
    RECONSTRUCTION,
    MEAN_IMAGE,
    RECONSTRUCTION + SMOOTHED,
    MEAN_IMAGE + SMOOTHED,
    *PUBLISHED,
    CHOSEN,
    CONTROL,
)
LAST_ABS = published_name("layer4.1.conv2", "2", "abs")


def _findings(
    name: str, values: dict[str, float], *, padding: str = "black", spread: float = 0.01
) -> CategoryFindings:
    """Every map has AUROC 0.5 unless told, and half as much best IoU."""

    def around(value: float) -> dict[str, Any]:
        return {"value": value, "low": value - spread, "high": value + spread}

    found = {
        row_name(n, images): values.get(n, 0.5) for n in NAMES for images in (ALL_IMAGES, ANOMALOUS)
    }
    rows = {
        key: {
            "auroc": around(value),
            "aupro": around(value),
            "average_precision": {"value": value, "low": None, "high": None},
            "best_iou": {"value": value / 2, "low": None, "high": None},
        }
        for key, value in found.items()
    }
    differences = {f"{a} - {b}": around(found[a] - found[b]) for a, b in PAIRS}
    vae = ConvVAE(2, image_size=16, channels=(2,), hidden=4)
    scorer = LatentAttention(vae, "encoder.conv1")
    chosen = ChosenMaps(OURS, scorer, 4.0, "layer3, sigma 4", 0.9, 36, 32)
    cell = {"rows": rows, "differences": differences}
    return CategoryFindings(name, padding, cell, chosen, NAMES, 50, 10)


def _cells(found: list[CategoryFindings], table_name: str, padded: Any = None) -> dict[Any, Any]:
    (table,) = (t for t in result_tables(found, padded) if t.name == table_name)
    return {
        (row[0], column): cell
        for row in table.rows
        for column, cell in zip(table.columns, row, strict=True)
    }


def test_below_the_papers_figure_the_paper_is_refuted_and_replication_b_confirmed():
    found = verdicts([_findings("bottle", {LAST_ABS: 0.6})], None)
    assert found["paper_auroc"].outcome == "refuted"
    assert "0.270 below the paper (0.870)" in found["paper_auroc"].because
    assert found["below_paper"].outcome == "confirmed"
    assert "+0.270 [+0.260, +0.280]" in found["below_paper"].because


def test_one_category_below_the_paper_refutes_the_claim_for_all():
    found = verdicts(
        [_findings("bottle", {LAST_ABS: 0.95}), _findings("hazelnut", {LAST_ABS: 0.9})], None
    )
    assert found["paper_auroc"].outcome == "refuted"
    assert found["below_paper"].outcome == "refuted"


def test_wide_intervals_decide_nothing():
    found = verdicts([_findings("bottle", {LAST_ABS: 0.8}, spread=0.1)], None)
    assert found["paper_auroc"].outcome == "undecided"
    assert found["below_paper"].outcome == "undecided"


def test_a_category_without_published_figure_says_nothing_about_the_paper():
    found = verdicts([_findings("zipper", {})], None)
    assert found["paper_auroc"].outcome == "not testable here"
    assert found["attention_beats_reconstruction"].outcome == "undecided"


def test_the_published_map_is_chosen_in_the_papers_favour():
    category = _findings("bottle", {LAST_ABS: 0.7, RECONSTRUCTION: 0.6})
    assert category.best() == LAST_ABS
    found = verdicts([category], None)
    assert found["attention_beats_reconstruction"].outcome == "confirmed"


def test_leather_is_compared_between_its_two_paddings():
    black = _findings("leather", {LAST_ABS: 0.6})
    corner = _findings("leather", {LAST_ABS: 0.7}, padding="corner")
    assert verdicts([black], corner)["corner_beats_black"].outcome == "confirmed"
    assert verdicts([black], None)["corner_beats_black"].outcome == "not testable here"
    cells = _cells([black], "padding", corner)
    assert cells[LAST_ABS, "pixel AUROC, black"].value == 0.6
    assert cells[LAST_ABS, "pixel AUROC, corner"].value == 0.7


def test_ours_must_lead_in_every_category():
    good = _findings("bottle", {CHOSEN: 0.9, MEAN_IMAGE + SMOOTHED: 0.8})
    worse = _findings("hazelnut", {CHOSEN: 0.9, MEAN_IMAGE + SMOOTHED: 0.95})
    assert verdicts([good], None)["ours_beats_mean_image"].outcome == "confirmed"
    assert verdicts([good, worse], None)["ours_beats_mean_image"].outcome == "refuted"
    assert verdicts([good, worse], None)["weights_beat_control"].outcome == "confirmed"


def test_every_claim_has_a_verdict():
    found = verdicts([_findings("bottle", {})], None)
    assert set(found) == {claim.name for claim in EXPERIMENT.claims}


def test_published_figures_stand_beside_ours_with_the_shortfall():
    found = [_findings("bottle", {LAST_ABS: 0.6, CHOSEN: 0.9}), _findings("zipper", {})]
    cells = _cells(found, "auroc")
    assert cells["bottle", "paper"] == 0.87
    assert cells["bottle", "replication b, relu"] == 0.53
    assert cells["bottle", "replication b, abs"] == 0.46
    assert cells["bottle", "minus paper"] == pytest.approx(-0.27)
    assert cells["bottle", "minus paper (chosen)"] == pytest.approx(0.03)
    assert cells["zipper", "paper"] is None
    assert cells["zipper", "minus paper"] is None
    ious = _cells(found, "best_iou")
    assert ious["bottle", "paper"] == 0.27
    assert ious["bottle", "minus paper"] == pytest.approx(0.03)


def test_the_papers_figures_carry_no_rectifier():
    assert published("paper", "leather", "auroc") == 0.95
    assert published("replication-b", "leather", "best_iou", "abs") == 0.18
    assert published("replication-a", "leather", "auroc") is None


def test_the_published_layers_are_convolutions_of_the_resnet():
    vae = ResNet18VAE(image_size=64)
    for name, layer in PUBLISHED_LAYERS.items():
        assert isinstance(vae.get_submodule(layer), torch.nn.Conv2d), name
    assert set(PUBLISHED_LAYERS) < set(LAYERS)
    convolutions = [n for n, m in vae.encoder.named_modules() if isinstance(m, torch.nn.Conv2d)]
    assert PUBLISHED_LAYERS["layer4.1.conv2"] == f"encoder.{convolutions[-1]}"


def test_the_paper_scale_has_the_published_settings():
    paper = SETTINGS["paper"]
    assert (paper.model, paper.image_size, paper.augmented) == ("resnet18", 256, 10_000)
    assert (paper.batch_size, paper.learning_rate, paper.rotation) == (8, 1e-4, 30.0)
    assert (paper.mirror, paper.padding, paper.twice) == (0.5, "black", "leather")
    assert paper.steps * paper.batch_size == 100 * paper.augmented


def test_every_category_below_the_folder_is_found(tmp_path: Path):
    normal = RenderedTexture("weave", length=2)
    test = SyntheticDefects(RenderedTexture("weave", "test", length=2))
    for name in ("leather", "made_up"):
        write_mvtec(tmp_path / "mvtec_ad", name, normal, test)
    found = find_categories(SETTINGS["cpu"], tmp_path, 0)
    assert [category.name for category in found] == ["leather", "made_up"]
    assert build_dataset(found[0].training)[0].image.shape == (3, 128, 128)
    assert found[0].test[0].mask.any()


def test_a_folder_without_categories_is_an_error(tmp_path: Path):
    (tmp_path / "mvtec_ad").mkdir()
    with pytest.raises(FileNotFoundError, match="no category"):
        find_categories(SETTINGS["cpu"], tmp_path, 0)


def test_the_real_categories_are_found(data_root: Path):
    found = find_categories(SETTINGS["cpu"], data_root, 0)
    assert {"bottle", "hazelnut", "transistor"} <= {category.name for category in found}
    assert all(len(category.test) > 0 for category in found)


def test_rendered_textures_stand_in_without_a_folder():
    found = find_categories(SETTINGS["smoke"], None, 0)
    assert [category.name for category in found] == ["grain", "weave"]
    masks = [sample.mask for sample in found[0].test]
    assert any(mask.any() for mask in masks)
    assert not all(mask.any() for mask in masks)


def test_shown_images_have_different_defects():
    images = SyntheticDefects(RenderedTexture("grain", "test", length=8))
    shown = one_image_per_defect(images, 3)
    assert [images[index].group for index in shown] == ["perlin", "cutpaste", "scratch"]


def test_a_rendered_texture_depends_on_its_options_alone():
    first = RenderedTexture("grain", length=3)[2].image
    assert torch.equal(first, RenderedTexture("grain", length=5)[2].image)
    for other in (
        RenderedTexture("weave", length=3),
        RenderedTexture("grain", "test", length=3),
        RenderedTexture("grain", length=3, seed=1),
    ):
        assert not torch.equal(first, other[2].image)
    assert first.shape == (3, 64, 64)
    assert first.std() > 0.05


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"texture": "wood"}, "texture"),
        ({"texture": "grain", "split": "all"}, "split"),
        ({"texture": "grain", "length": 0}, "length"),
        ({"texture": "grain", "image_size": 16}, "image_size"),
    ],
)
def test_a_rendered_texture_names_an_option_out_of_range(options, words):
    with pytest.raises(ValueError, match=words):
        RenderedTexture(**options)


@pytest.mark.slow
def test_smoke_runs_on_rendered_textures_with_both_paddings(tmp_path, monkeypatch):
    monkeypatch.delenv("CAPTUM_VAE_DATA", raising=False)
    reproduce("mvtec", scale="smoke", out=str(tmp_path), device="cpu")
    results = json.loads((tmp_path / "results.json").read_text())
    assert {claim["verdict"] for claim in results["claims"]} == {"not testable here"}
    assert [training["name"] for training in results["trainings"]] == [
        "grain, corners black",
        "weave, corners black",
        "grain, corners corner",
    ]
    assert "padding" in {table["name"] for table in results["tables"]}
