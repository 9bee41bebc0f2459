"""From an encoder and a data set to a report."""

import json

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from captum_vae.data.dsprites import DSprites
from captum_vae.metrics.disentanglement import (
    DisentanglementReport,
    VoteProtocol,
    encode_samples,
    evaluate_disentanglement,
    score_disentanglement,
)

FEW = VoteProtocol(samples=50, training_votes=200, evaluation_votes=200)


def factor_images(count: int) -> TensorDataset:
    """Images that show their factors: pixel f is factor f."""
    factors = torch.randint(0, 5, (count, 3))
    return TensorDataset(factors.float()[:, None, None, :], factors)


def read_factors(images: Tensor) -> Tensor:
    return images.flatten(1)


def test_an_encoder_that_reads_the_factors_scores_one() -> None:
    report = evaluate_disentanglement(read_factors, factor_images(10_000), protocol=FEW)
    for name in ("factor_vae", "beta_vae", "mig", "dci_disentanglement", "modularity"):
        assert report[name].value == pytest.approx(1, abs=0.02), name
    assert report.used == (0, 1, 2)


def test_every_image_is_encoded_once_in_batches_without_gradients() -> None:
    data, sizes = factor_images(70), []

    def encode(images: Tensor) -> Tensor:
        sizes.append(len(images))
        assert not torch.is_grad_enabled()
        return read_factors(images)

    codes, factors = encode_samples(encode, data, samples=None, batch_size=32)
    assert sizes == [32, 32, 6]
    assert torch.equal(codes, factors.float())
    assert torch.equal(factors.sort(0).values, data.tensors[1].sort(0).values)


def test_samples_are_drawn_without_repeats_by_the_seed() -> None:
    data = TensorDataset(torch.arange(100.0)[:, None], torch.arange(100)[:, None])
    draws = [encode_samples(read_factors, data, samples=60, seed=s)[1] for s in (1, 1, 2)]
    assert len(set(draws[0].flatten().tolist())) == 60
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])


def test_scoring_leaves_the_global_random_state_alone() -> None:
    data = factor_images(10_000)
    before = torch.get_rng_state()
    evaluate_disentanglement(read_factors, data, protocol=FEW)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_metric_does_not_depend_on_which_others_are_asked_for() -> None:
    factors, codes = torch.randint(0, 4, (1000, 3)), torch.randn(1000, 4)
    both = score_disentanglement(codes, factors, metrics=("beta_vae", "factor_vae"), protocol=FEW)
    alone = score_disentanglement(codes, factors, metrics=("factor_vae",), protocol=FEW)
    assert both["factor_vae"] == alone["factor_vae"]


def test_dsprites_scores_the_encoder_that_reads_position_better_than_a_random_one() -> None:
    grid = torch.arange(64) + 0.5

    def centre(images: Tensor) -> Tensor:
        image = images[:, 0] / images.sum((1, 2, 3))[:, None, None]
        return torch.stack([image.sum(1) @ grid, image.sum(2) @ grid], dim=1)

    random = nn.Sequential(nn.Flatten(), nn.Linear(4096, 2))
    scores = [
        evaluate_disentanglement(
            encode, DSprites(), samples=10_000, metrics=("factor_vae", "mig"), protocol=FEW
        )
        for encode in (centre, random)
    ]
    # Two dimensions can name two of five factors: at best 0.4, and the rest by chance.
    assert scores[0]["factor_vae"].value == pytest.approx(0.4, abs=0.15)
    assert scores[0]["mig"].details["gaps"][3] > 0.4 > scores[1]["mig"].details["gaps"][3]


def test_a_report_is_json_with_none_for_undefined_scores() -> None:
    factors = torch.randint(0, 4, (500, 2))
    report = score_disentanglement(torch.zeros(500, 3), factors, metrics=("modularity", "mig"))
    loaded = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert loaded["scores"]["modularity"]["value"] is None
    assert "no dimension" in loaded["scores"]["modularity"]["reason"]
    assert loaded["used_dimensions"] == [] and loaded["dimensions"] == 3


def test_a_table_shows_scores_reasons_and_the_used_dimensions() -> None:
    factors = torch.randint(0, 4, (500, 2))
    report = score_disentanglement(
        torch.zeros(500, 3), factors, metrics=("factor_vae", "modularity")
    )
    table = report.table()
    assert table.startswith("500 samples, 0 of 3 dimensions used, seed 0")
    assert "| factor_vae | 0.000 | 0.000 | no latent dimension is used |" in table
    assert "| modularity | - |  | no dimension has information on any factor |" in table


def test_few_samples_are_warned_about() -> None:
    with pytest.warns(UserWarning, match="200 codes; below 10000"):
        evaluate_disentanglement(read_factors, factor_images(200), metrics=("mig",))


def test_encoders_and_options_of_the_wrong_kind_are_refused() -> None:
    data = factor_images(20)
    with pytest.raises(TypeError, match="tuple; wanted the posterior means"):
        evaluate_disentanglement(lambda x: (x, x), data)
    with pytest.raises(ValueError, match=r"\(20, 1, 1, 3\) for 20 images"):
        evaluate_disentanglement(lambda x: x, data)
    with pytest.raises(ValueError, match=r"\['migg'\].*mig"):
        evaluate_disentanglement(read_factors, data, metrics=("migg",))
    report = DisentanglementReport((), samples=0, seed=0, std=(), used=())
    with pytest.raises(KeyError, match="no score 'sap'"):
        report["sap"]
