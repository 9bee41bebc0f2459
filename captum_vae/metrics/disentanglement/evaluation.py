"""Score an encoder: encode images once, run the metrics on the codes, report."""

import math
import warnings
from collections.abc import Callable, Sequence, Sized
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from captum_vae.checks import checked_seed, whole_number
from captum_vae.metrics.disentanglement.information import mig_score, modularity_score
from captum_vae.metrics.disentanglement.prediction import Trees, dci_scores, sap_score
from captum_vae.metrics.disentanglement.score import DisentanglementScore, checked
from captum_vae.metrics.disentanglement.votes import (
    VoteProtocol,
    beta_vae_score,
    factor_vae_score,
    used_dimensions,
)
from captum_vae.progress import Progress, progress_bar

METRICS = ("factor_vae", "beta_vae", "mig", "dci", "sap", "modularity")
_ENOUGH_SAMPLES = 10_000


@dataclass(frozen=True)
class DisentanglementReport:
    """Scores of one encoder.

    Attributes:
        scores: The scores in the order asked for; ``dci`` gives three.
        samples: The number N of codes.
        seed: Seed of the votes, splits and classifiers.
        std: The D standard deviations of the posterior means.
        used: The dimensions that take part in the votes, see
            :func:`~captum_vae.metrics.disentanglement.votes.used_dimensions`.
    """

    scores: tuple[DisentanglementScore, ...]
    samples: int
    seed: int
    std: tuple[float, ...]
    used: tuple[int, ...]

    def __getitem__(self, name: str) -> DisentanglementScore:
        """The score called ``name``."""
        for score in self.scores:
            if score.name == name:
                return score
        raise KeyError(f"no score {name!r}; there are {[score.name for score in self.scores]}")

    def to_dict(self) -> dict[str, Any]:
        """The fields for JSON."""
        return {
            "samples": self.samples,
            "seed": self.seed,
            "dimensions": len(self.std),
            "used_dimensions": list(self.used),
            "std": list(self.std),
            "scores": {score.name: score.to_dict() for score in self.scores},
        }

    def table(self) -> str:
        """The scores as a Markdown table, under a line on samples and used dimensions."""
        lines = [
            f"{self.samples} samples, {len(self.used)} of {len(self.std)} dimensions used, "
            f"seed {self.seed}",
            "",
            "| metric | score | training accuracy | remark |",
            "|---|---|---|---|",
        ]
        for score in self.scores:
            value = "-" if math.isnan(score.value) else f"{score.value:.3f}"
            training = score.details.get("training_accuracy")
            accuracy = "" if training is None else f"{training:.3f}"
            lines.append(f"| {score.name} | {value} | {accuracy} | {score.reason} |")
        return "\n".join(lines)


def evaluate_disentanglement(
    encode: Callable[[Tensor], Tensor],
    data: Dataset[Any],
    *,
    samples: int | None = 50_000,
    batch_size: int = 512,
    device: torch.device | str = "cpu",
    seed: int = 0,
    metrics: Sequence[str] = METRICS,
    protocol: str | VoteProtocol = "paper",
    kl: Tensor | None = None,
    trees: Trees = "random_forest",
    progress: Progress = "off",
) -> DisentanglementReport:
    """Encode random images once and score the codes.

    Args:
        encode: Turns images (B, ...) on ``device`` into posterior means (B, D); gradients are off,
            and the model belongs in eval mode.
        data: A data set whose samples start with an image and its (F,) integer factor classes, as
            those of :class:`~captum_vae.data.dsprites.DSprites` do.
        samples: Number of images to draw without repeats; None, or more than there are, for all.
            With all images of a complete grid, votes are draws from the data set itself; with
            fewer, from the images drawn.
        batch_size: Images per call of ``encode``.
        device: Where the images go.
        seed: Seed of all draws; a metric's draws do not depend on which others are asked for.
        metrics: Names in ``METRICS``.
        protocol: How many votes factor_vae and beta_vae take: a name in ``VOTE_PROTOCOLS`` or a
            protocol of one's own.
        kl: (D,) mean KL in nats; where given, it decides which dimensions are used.
        trees: The classifier of dci, as in :func:`dci_scores`.
        progress: Whether a bar is shown while the images are encoded.

    Returns:
        The report.

    Raises:
        TypeError: ``encode`` returns no tensor of floats, the classes are no integers, or a number
            is no whole number.
        ValueError: Codes or classes have the wrong shape, or an option is unknown.
    """
    _check_metrics(metrics)
    codes, factors = encode_samples(
        encode,
        data,
        samples=samples,
        batch_size=batch_size,
        device=device,
        seed=seed,
        progress=progress,
    )
    if len(codes) < _ENOUGH_SAMPLES:
        warnings.warn(
            f"scores from {len(codes)} codes; below {_ENOUGH_SAMPLES} they are biased, because "
            "few images share a factor value",
            stacklevel=2,
        )
    return score_disentanglement(
        codes, factors, seed=seed, metrics=metrics, protocol=protocol, kl=kl, trees=trees
    )


def score_disentanglement(
    codes: Tensor,
    factors: Tensor,
    *,
    seed: int = 0,
    metrics: Sequence[str] = METRICS,
    protocol: str | VoteProtocol = "paper",
    kl: Tensor | None = None,
    trees: Trees = "random_forest",
) -> DisentanglementReport:
    """Score codes of images with known factors.

    Args:
        codes: (N, D) posterior means.
        factors: (N, F) integer classes.
        seed: Seed of all draws; a metric's draws do not depend on which others are asked for.
        metrics: Names in ``METRICS``.
        protocol: How many votes factor_vae and beta_vae take: a name in ``VOTE_PROTOCOLS`` or a
            protocol of one's own.
        kl: (D,) mean KL in nats; where given, it decides which dimensions are used.
        trees: The classifier of dci, as in :func:`dci_scores`.

    Raises:
        TypeError: The codes are no floats, the factors no integers, or the seed no whole number.
        ValueError: Shapes do not fit, a code is not finite, a factor has only one value, or an
            option is unknown.
    """
    _check_metrics(metrics)
    seed = checked_seed(seed)
    codes, factors = checked(codes, factors)

    def seeded() -> torch.Generator:
        return torch.Generator().manual_seed(seed)

    scorers: dict[str, Callable[[], tuple[DisentanglementScore, ...]]] = {
        "factor_vae": lambda: (
            factor_vae_score(codes, factors, protocol=protocol, kl=kl, generator=seeded()),
        ),
        "beta_vae": lambda: (
            beta_vae_score(codes, factors, protocol=protocol, generator=seeded()),
        ),
        "mig": lambda: (mig_score(codes, factors),),
        "dci": lambda: dci_scores(codes, factors, trees=trees, generator=seeded()),
        "sap": lambda: (sap_score(codes, factors, generator=seeded()),),
        "modularity": lambda: (modularity_score(codes, factors),),
    }
    return DisentanglementReport(
        scores=tuple(score for name in metrics for score in scorers[name]()),
        samples=len(codes),
        seed=seed,
        std=tuple(codes.std(0).tolist()),
        used=tuple(used_dimensions(codes, kl=kl).nonzero().flatten().tolist()),
    )


def encode_samples(
    encode: Callable[[Tensor], Tensor],
    data: Dataset[Any],
    *,
    samples: int | None = 50_000,
    batch_size: int = 512,
    device: torch.device | str = "cpu",
    seed: int = 0,
    progress: Progress = "off",
) -> tuple[Tensor, Tensor]:
    """Encode random images once.

    Args:
        encode: Turns images (B, ...) on ``device`` into posterior means (B, D).
        data: A data set whose samples start with an image and its (F,) integer factor classes.
        samples: Number of images to draw without repeats; None, or more than there are, for all.
        batch_size: Images per call of ``encode``.
        device: Where the images go.
        seed: Seed of the draw.
        progress: Whether a bar is shown.

    Returns:
        Codes (N, D) and factor classes (N, F), both on the CPU.

    Raises:
        TypeError: ``encode`` is not callable or returns no tensor, or a number is no whole number.
        ValueError: The codes have the wrong shape, there is no image, or a number is too small.
    """
    if not callable(encode):
        raise TypeError(f"encode is a {type(encode).__name__}; wanted a function of images")
    if samples is not None:
        samples = whole_number("samples", samples, least=1)
    batch_size = whole_number("batch_size", batch_size, least=1)
    seed = checked_seed(seed)
    if not len(cast(Sized, data)):
        raise ValueError("data is empty; wanted images with factor classes")
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(cast(Sized, data)), generator=generator)
    chosen: Dataset[Any] = Subset(data, order[:samples].tolist())
    codes, factors = [], []
    with torch.no_grad():
        loader = DataLoader(chosen, batch_size=batch_size, generator=generator)
        for batch in progress_bar(progress)(loader, "encoding"):
            images, classes = batch[0], batch[1]
            mean = encode(images.to(device))
            if not isinstance(mean, Tensor):
                raise TypeError(
                    f"encode returned {type(mean).__name__}; wanted the posterior means as one "
                    "tensor (B, D): wrap the encoder, for example lambda x: model.encode(x)[0]"
                )
            if mean.ndim != 2 or len(mean) != len(images):
                raise ValueError(
                    f"encode returned the shape {tuple(mean.shape)} for {len(images)} images; "
                    f"wanted ({len(images)}, D)"
                )
            codes.append(mean.cpu())
            factors.append(classes)
    return torch.cat(codes), torch.cat(factors)


def _check_metrics(metrics: Sequence[str]) -> None:
    if isinstance(metrics, str) or not isinstance(metrics, Sequence):
        raise TypeError(f"metrics is {metrics!r}; wanted a list of some of {METRICS}")
    unknown = [name for name in metrics if name not in METRICS]
    if unknown:
        raise ValueError(f"metrics names {unknown}; wanted some of {METRICS}")
