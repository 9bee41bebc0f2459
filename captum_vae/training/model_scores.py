"""What a trained VAE scores on a data set whose factors are known."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

import torch

from captum_vae.checks import check_choice, checked_seed, whole_number
from captum_vae.data import DSprites
from captum_vae.losses import bernoulli_nll
from captum_vae.metrics.activity import ActiveDimensions
from captum_vae.metrics.disentanglement import (
    METRICS,
    DisentanglementReport,
    evaluate_disentanglement,
)
from captum_vae.models import GaussianVAE
from captum_vae.posterior import as_adapter
from captum_vae.progress import Progress
from captum_vae.training.active_report import measure_active_dimensions
from captum_vae.training.configuration import PruneRule

_RECONSTRUCTED = 2000
_BATCH = 500


@dataclass(frozen=True)
class ModelScores:
    """What a trained VAE scores on a data set with known factors.

    Attributes:
        disentanglement: The scores asked for.
        active: KL and spread of the model's dimensions over 2000 images.
        posterior: How the posterior was read, in words.
        reconstruction: Binary cross-entropy of the image decoded from the posterior mean, nats per
            image, over 2000 random images.
    """

    disentanglement: DisentanglementReport
    active: ActiveDimensions
    posterior: str
    reconstruction: float

    def to_dict(self) -> dict[str, Any]:
        """Everything for JSON."""
        return {
            "disentanglement": self.disentanglement.to_dict(),
            "reconstruction_nats": round(self.reconstruction, 4),
            "kl_nats": round(float(self.active.kl.sum()), 4),
            "active_dimensions": self.active.to_dict(),
        }

    def table(self) -> str:
        """The scores as a Markdown table, and a line on reconstruction and KL."""
        return (
            f"{self.disentanglement.table()}\n\n"
            f"reconstruction {self.reconstruction:.2f} nats per image (from the posterior mean), "
            f"KL {float(self.active.kl.sum()):.2f} nats, "
            f"{self.active.count} of {self.active.kl.numel()} latent dimensions active"
        )


def score_model(
    model: GaussianVAE,
    data: DSprites,
    *,
    metrics: Sequence[str] = METRICS,
    protocol: str = "paper",
    samples: int = 50_000,
    prune: PruneRule = "std",
    seed: int = 0,
    device: str = "cpu",
    progress: Progress = "off",
) -> ModelScores:
    """Score a VAE on ``data``: disentanglement, reconstruction, active dimensions.

    Args:
        model: A VAE in eval mode, on ``device``.
        data: Images with their factor classes.
        metrics: Names of the scores, of :data:`captum_vae.metrics.disentanglement.METRICS`.
        protocol: How many votes factor_vae and beta_vae take: paper, publish, dlib
            or replication_b.
        samples: Number of random images to encode.
        prune: By what a dimension is left out of the vote: the standard deviation of its mean, as
            published, or its KL.
        seed: Seed of the images drawn and of the votes.
        device: Where to compute.
        progress: Whether a bar is shown while images are encoded.

    Raises:
        ValueError: A name is unknown or a number out of range.
        TypeError: A number is no whole number.
    """
    check_choice("prune", prune, get_args(PruneRule))
    samples = whole_number("samples", samples, least=1)
    seed = checked_seed(seed)
    active = measure_active_dimensions(model, data, device=torch.device(device), batch_size=_BATCH)
    posterior = as_adapter(model)
    return ModelScores(
        disentanglement=evaluate_disentanglement(
            lambda images: posterior(images).mean,
            data,
            samples=samples,
            device=device,
            seed=seed,
            metrics=metrics,
            protocol=protocol,
            kl=active.kl if prune == "kl" else None,
            progress=progress,
        ),
        active=active,
        posterior=repr(posterior.prepare(data.images(torch.tensor([0])).to(device))),
        reconstruction=_reconstruction(model, data, seed, device),
    )


def _reconstruction(model: GaussianVAE, data: DSprites, seed: int, device: str) -> float:
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))
    total, chosen = 0.0, order[:_RECONSTRUCTED]
    with torch.no_grad():
        for rows in chosen.chunk(-(-len(chosen) // _BATCH)):
            images = data.images(rows).to(device)
            total += float(bernoulli_nll(model.reconstruct(images), images).sum())
    return total / len(chosen)
