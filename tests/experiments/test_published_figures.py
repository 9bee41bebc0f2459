"""Published figures, against values looked up in the reports."""

import pytest

from captum_vae.experiments.published_figures import published_number, published_rows


def test_numbers_are_those_of_the_reports() -> None:
    ucsd = {"source": "paper", "layer": "conv2"}
    assert published_number("ucsd_ped1_auroc", "pixel_auroc", **ucsd) == 0.92
    hazelnut = {"category": "hazelnut", "source": "replication-b", "rectifier": "abs"}
    assert published_number("mvtec_ad", "pixel_auroc", **hazelnut) == 0.75
    leather = {"category": "leather", "source": "paper", "rectifier": ""}
    assert published_number("mvtec_ad", "best_iou", **leather) == 0.24
    seeds = {"source": "replication-a", "model": "factorvae"}
    assert published_number("dsprites_factorvae", "factor_vae_score", **seeds) == 0.805


def test_what_a_source_does_not_say_is_none() -> None:
    paper = {"source": "paper", "model": "factorvae", "gamma": "40"}
    assert published_number("dsprites_factorvae", "seeds", **paper) is None
    assert published_number("mvtec_ad", "best_iou", category="zipper") is None


def test_an_ambiguous_question_is_refused() -> None:
    with pytest.raises(ValueError, match="17 rows of ucsd_ped1_auroc fit"):
        published_number("ucsd_ped1_auroc", "pixel_auroc")


@pytest.mark.parametrize("name", ["ucsd_ped1_auroc", "mvtec_ad", "dsprites_factorvae"])
def test_every_row_names_a_known_source(name: str) -> None:
    assert {row["source"] for row in published_rows(name)} <= {
        "paper",
        "replication-a",
        "replication-b",
    }
