"""Attention disentanglement in the training objective."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset

from captum_vae.attr import LatentGradCAM
from captum_vae.losses import ELBO, AttentionDisentanglementLoss
from captum_vae.models import FactorDiscriminator, build_model
from captum_vae.training import AttentionTerm, FactorVAEObjective, Trainer, VAEObjective
from captum_vae.training.building import build_objective
from captum_vae.training.checkpoint import read_checkpoint
from captum_vae.training.configuration import AttentionConfig, ObjectiveConfig


class Blobs(Dataset[Tensor]):
    """Thirty random images."""

    def __init__(self) -> None:
        self.images = torch.rand(30, 1, 16, 16, generator=torch.Generator().manual_seed(0))

    def __len__(self) -> int:
        return 30

    def __getitem__(self, index: int) -> Tensor:
        return self.images[index]


def small_vae():
    torch.manual_seed(0)
    return build_model(
        "conv", image_size=16, in_channels=1, channels=[4, 6], hidden=8, latent_dims=5
    )


def objective(**options) -> FactorVAEObjective:
    torch.manual_seed(1)
    term = AttentionTerm(AttentionDisentanglementLoss(**options), layer="encoder.conv2", weight=3.0)
    discriminator = FactorDiscriminator(5, hidden=8, layers=1)
    return FactorVAEObjective(
        ELBO(), gamma=2.0, discriminator=discriminator, extra_terms={"attention_overlap": term}
    )


def train(out: Path, steps: int, **options) -> dict[str, Tensor]:
    vae = small_vae()
    trainer = Trainer(steps=steps, batch_size=4, save_every=2, accelerator="cpu")
    trainer.fit(vae, Blobs(), objective(**options), out=out)
    return vae.state_dict()


def test_the_logged_term_is_lambda_times_the_overlap_and_part_of_the_loss():
    vae, images = small_vae(), torch.rand(8, 1, 16, 16)
    losses = objective()(vae, images, 0)
    cam = LatentGradCAM(vae, "encoder.conv2")
    overlap = AttentionDisentanglementLoss().of_images(cam, images[:4]).item()
    assert losses["attention_overlap"].item() == pytest.approx(3 * overlap, rel=1e-5)
    parts = losses["nll"] + losses["kl"] + 2 * losses["total_correlation"] + 3 * overlap
    assert losses["loss"].item() == pytest.approx(parts.item(), rel=1e-5)


def test_the_term_costs_no_forward_of_the_encoder():
    vae, images = small_vae(), torch.rand(8, 1, 16, 16)
    calls = []
    vae.encoder.conv1.register_forward_hook(lambda *_: calls.append(1))
    objective()(vae, images, 0)
    assert len(calls) == 2  # the batch itself, and FactorVAE's second batch


def test_a_plain_vae_takes_the_term_too():
    vae, images = small_vae(), torch.rand(4, 1, 16, 16)
    term = AttentionTerm(AttentionDisentanglementLoss(gate="kl"), layer="encoder.conv1")
    losses = VAEObjective(ELBO(), extra_terms={"overlap": term})(vae, images, 0)
    losses["loss"].backward()
    assert losses["loss"].item() == pytest.approx(
        (losses["nll"] + losses["kl"] + losses["overlap"]).item(), rel=1e-5
    )


def test_a_term_that_watched_nothing_says_so():
    term = AttentionTerm(AttentionDisentanglementLoss(), layer="encoder.conv1")
    with pytest.raises(RuntimeError, match="saw no forward"):
        term(small_vae(), torch.rand(1), None)


def test_a_resumed_run_with_random_pairs_ends_with_the_same_weights(tmp_path):
    whole = train(tmp_path / "whole", 4, pairs=2, mode="paper")
    train(tmp_path / "parts", 2, pairs=2, mode="paper")
    resumed = train(tmp_path / "parts", 4, pairs=2, mode="paper")
    assert all(torch.equal(resumed[name], weight) for name, weight in whole.items())


def test_a_run_cannot_be_resumed_in_another_mode(tmp_path):
    train(tmp_path, 2, mode="paper")
    stored = read_checkpoint(tmp_path)["settings"]["objective"]["extra_terms"]
    assert stored["attention_overlap"]["mode"] == "paper"
    assert stored["attention_overlap"]["weight"] == 3.0
    with pytest.raises(ValueError, match="objective was .*'mode': 'paper'"):
        train(tmp_path, 4, mode="normalised")


def test_a_configuration_becomes_the_term_it_describes():
    attention = AttentionConfig(
        layer="encoder.conv1", weight=20.0, mode="paper", rectifier="abs", pairs=[(0, 1)]
    )
    built = build_objective(ObjectiveConfig(attention=attention), small_vae())
    term = built.extra_terms["attention_overlap"]
    assert term.config == {
        "mode": "paper",
        "pairs": [(0, 1)],
        "aggregation": "mean",
        "gate": "none",
        "rectifier": "abs",
        "order": None,
        "seed": 0,
        "layer": "encoder.conv1",
        "weight": 20.0,
    }
