"""``captum-vae disentangle``: the disentanglement scores of a checkpoint on dSprites."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from captum_vae.data import DSprites
from captum_vae.data.dsprites_factors import FACTOR_NAMES
from captum_vae.losses import bernoulli_nll
from captum_vae.metrics.activity import ActiveDimensions
from captum_vae.metrics.disentanglement import (
    METRICS,
    DisentanglementReport,
    evaluate_disentanglement,
)
from captum_vae.models import GaussianVAE
from captum_vae.posterior import as_adapter
from captum_vae.provenance import run_record
from captum_vae.training.active_report import measure_active_dimensions
from captum_vae.training.checkpoint import find_checkpoint, read_checkpoint
from captum_vae.training.load import load_vae
from captum_vae.training.logs import say

Metric = Literal["factor_vae", "beta_vae", "mig", "dci", "sap", "modularity"]
Protocol = Literal["paper", "publish", "dlib"]
Prune = Literal["std", "kl"]

_RECONSTRUCTED = 2000
_BATCH = 500


@dataclass(frozen=True)
class ModelScores:
    """What a trained VAE scores on a data set with known factors.

    Attributes:
        disentanglement: every metric asked for.
        active: KL and spread of its dimensions over 2000 images.
        posterior: how it was read, in words.
        reconstruction: binary cross-entropy of the image decoded from the posterior mean, nats per
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


def disentangle(
    checkpoint: str,
    *,
    npz: str | None = None,
    metrics: Sequence[Metric] = METRICS,  # type: ignore[assignment]
    protocol: Protocol = "paper",
    samples: int = 50_000,
    prune: Prune = "std",
    seed: int = 0,
    device: str = "cpu",
    report_json: str | None = None,
    figure: str | None = None,
    layer: str | None = None,
) -> None:
    """Score how disentangled a trained VAE is, on dSprites, and show its latent dimensions.

    Args:
        checkpoint: a checkpoint, or a run's folder, whose newest one is taken.
        npz: the original dSprites file, or a part of it; by default the images are drawn.
        metrics: factor_vae, beta_vae, mig, dci, sap, modularity.
        protocol: votes of factor_vae and beta_vae: paper (100 samples, 800 and 800 votes),
            publish (5000 evaluation votes), dlib (64 samples, 10000 and 5000 votes).
        samples: random images to encode.
        prune: tell collapsed dimensions by the std of their mean (below 0.05) or by KL (below
            0.01 nats).
        seed: of images and votes.
        device: cpu, or a CUDA device.
        report_json: file for the report; by default disentanglement.json beside the checkpoint.
        figure: PNG file for latent traversals beside attention maps; none by default.
        layer: encoder layer of these maps; by default its last convolution.

    Raises:
        FileNotFoundError: no checkpoint, or no npz file, there.
        ValueError: a checkpoint of another kind, a layer that is not there, an option out of range.
    """
    path = find_checkpoint(checkpoint)
    state = read_checkpoint(path)
    model = cast(GaussianVAE, load_vae(path, device=device))
    data = DSprites() if npz is None else DSprites.from_npz(npz)
    scores = score_model(
        model,
        data,
        metrics=metrics,
        protocol=protocol,
        samples=samples,
        prune=prune,
        seed=seed,
        device=device,
    )
    report = {
        **run_record(torch.device(device)),
        "checkpoint": path.name,
        "posterior_read_by": scores.posterior,
        "step": state["step"],
        "model": {"name": state["model"]["name"], "config": state["model"]["config"]},
        "training": state["settings"],
        "data": {"name": "dsprites", "images": len(data), "drawn": npz is None},
        "factors": list(FACTOR_NAMES),
        "protocol": {"votes": protocol, "samples": samples, "prune": prune, "seed": seed},
        **scores.to_dict(),
    }
    target = Path(report_json) if report_json else path.with_name("disentanglement.json")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    say(scores.table())
    if figure is not None:
        _draw(model, data, scores, figure, layer, device)
    say(f"report in {target}" + (f", figure in {figure}" if figure else ""))


def score_model(
    model: GaussianVAE,
    data: DSprites,
    *,
    metrics: Sequence[str] = METRICS,
    protocol: str = "paper",
    samples: int = 50_000,
    prune: Prune = "std",
    seed: int = 0,
    device: str = "cpu",
) -> ModelScores:
    """Score a VAE on ``data``: disentanglement, reconstruction, active dimensions.

    Args:
        model: in eval mode, on ``device``.
        data: images with their factor classes.
        metrics: as for :func:`evaluate_disentanglement`.
        protocol: likewise.
        samples: likewise.
        prune: what tells a collapsed dimension: the std of its mean, or its KL.
        seed: as for :func:`evaluate_disentanglement`.
        device: likewise.
    """
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
        ),
        active=active,
        posterior=repr(posterior.prepare(data.images(torch.tensor([0])).to(device))),
        reconstruction=_reconstruction(model, data, seed, device),
    )


def last_convolution(model: nn.Module) -> str:
    """Dotted name of the last convolution of ``model.encoder``.

    Raises:
        ValueError: the encoder has none.
    """
    kinds = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
    names = [
        name
        for name, module in model.named_modules()
        if name.startswith("encoder.") and isinstance(module, kinds)
    ]
    if not names:
        raise ValueError(f"{type(model).__name__}.encoder has no convolution; name a layer")
    last: str = names[-1]
    return last


def _reconstruction(model: GaussianVAE, data: DSprites, seed: int, device: str) -> float:
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))
    total, chosen = 0.0, order[:_RECONSTRUCTED]
    with torch.no_grad():
        for rows in chosen.chunk(-(-len(chosen) // _BATCH)):
            images = data.images(rows).to(device)
            total += float(bernoulli_nll(model.reconstruct(images), images).sum())
    return total / len(chosen)


def _draw(
    model: GaussianVAE,
    data: DSprites,
    scores: ModelScores,
    figure: str,
    layer: str | None,
    device: str,
) -> None:
    # matplotlib is an extra, which scores alone do not need.
    from captum_vae.report.pictures import save_picture
    from captum_vae.training.traversal_figure import draw_traversals

    images: Tensor = data.images(torch.linspace(0, len(data) - 1, 7).long()[1:-1]).to(device)
    dims = scores.active.kl.argsort(descending=True)[: max(2, min(10, scores.active.count))]
    labels = {
        dim: f"dimension {dim}\nKL {float(scores.active.kl[dim]):.2f}" for dim in dims.tolist()
    }
    drawn = draw_traversals(model, layer or last_convolution(model), images, labels)
    save_picture(drawn, figure)
