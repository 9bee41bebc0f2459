"""Choosing a variant of latent attention without test labels, on synthetic defects.

Defects are painted on normal training images that the candidates were not fitted on. What localizes
them best is chosen. They fade in and out, and their masks are outlined as annotators do it: on
defects that show everywhere and masks exact to the pixel the sharpest map wins, which loses on real
defects. (MVTec AD bottle showed that, where smoothed maps did far better than the variant so
chosen. So bottle is no test of this remedy; the other data sets are.)

Synthetic defects are not the real ones, so the choice can be wrong: a report also measures every
candidate on the test set and says which one an oracle would have chosen.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch

from captum_vae.checks import whole_number
from captum_vae.data.defects import SyntheticDefects
from captum_vae.data.loading import naming_dead_loaders
from captum_vae.data.sample import Sample
from captum_vae.localization.candidates import Candidates
from captum_vae.localization.entries import entries_of
from captum_vae.localization.image_batches import ImageBatches
from captum_vae.localization.layer_scorers import LatentAttention
from captum_vae.localization.measuring import naming_the_images, pass_options, pixel_areas
from captum_vae.localization.protocol import Protocol
from captum_vae.localization.samples import SampleSubset, as_samples, evenly_spaced
from captum_vae.localization.scoring import fit_scorers
from captum_vae.metrics.localization.curves import LocalizationScore
from captum_vae.posterior import as_adapter
from captum_vae.progress import Progress

Variants = Mapping[str, tuple[LatentAttention, Protocol]]
"""Candidates by their options in words, each with its scorer and its protocol."""


def candidate_scorers(
    candidates: Candidates, model: Any, *, posterior: Any = None, protocol: Protocol | None = None
) -> dict[str, tuple[LatentAttention, Protocol]]:
    """Build the scorer of every candidate; those that differ in smoothing alone share one.

    Args:
        candidates: The options to combine.
        model: The VAE.
        posterior: How to read its posterior, see :class:`~captum_vae.posterior.PosteriorAdapter`.
        protocol: How maps are compared with masks, its smoothing replaced by the candidate's.

    Returns:
        Scorer and protocol by the candidate's options in words, as :func:`benchmark` takes them.

    Raises:
        ValueError: The model has no such layer, or a candidate is named twice.
    """
    adapter = as_adapter(model, posterior)
    layers: list[str | list[str]] = [*candidates.layers]
    if candidates.fused and len(candidates.layers) > 1:
        layers.append(list(candidates.layers))
    found: dict[str, tuple[LatentAttention, Protocol]] = {}
    for layer, rectifier, weighting, baseline, scale in itertools.product(
        layers,
        candidates.rectifiers,
        candidates.weightings,
        candidates.baselines,
        candidates.scales,
    ):
        scorer = LatentAttention(
            model,
            layer,
            rectifier=rectifier,
            order="channelwise",
            weighting=weighting,
            baselines=baseline,
            scale=scale,
            posterior=adapter,
        )
        where = layer if isinstance(layer, str) else "+".join(layer)
        for sigma in candidates.smoothing:
            name = f"{where}, {rectifier}, {weighting}, {baseline}, scale {scale}, sigma {sigma:g}"
            if name in found:
                raise ValueError(f"choose_among gives the variant {name!r} twice")
            found[name] = (scorer, replace(protocol or Protocol(), smoothing=sigma))
    return found


@dataclass(frozen=True)
class Choice:
    """What was chosen, on what grounds, and what an oracle would have chosen.

    Attributes:
        name: Name of the candidate with the highest pixel AUROC on synthetic defects.
        synthetic: Pixel AUROC of every candidate on them, best first.
        painted: How many images they were painted on.
        on_test: Pixel AUROC of every candidate on test images, best first; empty if not measured.
        test_images: How many test images those are of.
    """

    name: str
    synthetic: dict[str, float]
    painted: int
    on_test: dict[str, float] = field(default_factory=dict)
    test_images: int = 0

    @property
    def oracle(self) -> str:
        """Name of the best candidate on the test images."""
        return next(iter(self.on_test))

    def beside_oracle(self, on_test: Mapping[str, LocalizationScore], test_images: int) -> Choice:
        """The same choice, with what the test labels say about all candidates."""
        return replace(self, on_test=ranking(on_test), test_images=test_images)

    def to_dict(self) -> dict[str, Any]:
        """Everything for JSON; an undefined AUROC is None."""
        entries = asdict(self)
        for name in ("synthetic", "on_test"):
            entries[name] = {k: None if v != v else v for k, v in entries[name].items()}
        return {**entries, "oracle": self.oracle if self.on_test else None}

    def lines(self) -> list[str]:
        """What was chosen and what that cost, in sentences."""
        lines = [
            f"Chosen among {len(self.synthetic)} variants without test labels, by pixel AUROC on "
            f"synthetic defects painted on {self.painted} held-out normal images: {self.name} "
            f"({self.synthetic[self.name]:.3f} on the synthetic defects)."
        ]
        if self.on_test and math.isnan(self.on_test[self.oracle]):
            lines.append(
                "What an oracle would have chosen is undefined: the test images looked at do not "
                "hold both anomalous and normal pixels."
            )
        elif self.on_test:
            best, own = self.on_test[self.oracle], self.on_test[self.name]
            lines.append(
                f"An oracle, which reads the test labels, would have chosen {self.oracle}: pixel "
                f"AUROC {best:.3f} on {self.test_images} test images, where the chosen one has "
                f"{own:.3f}."
            )
        return lines


def choose(
    variants: Variants,
    normal: Any,
    candidates: Candidates,
    *,
    normal_images: int = 500,
    batch_size: int = 32,
    workers: int = 0,
    device: torch.device | str | None = None,
    progress: Progress = "auto",
) -> Choice:
    """Choose among variants by synthetic defects on held-out normal images; no test image is read.

    The scorers come back fitted on the other normal images; fit them again before use.

    Args:
        variants: The variants, as :func:`candidate_scorers` builds them.
        normal: Normal training images: a data set of :class:`~captum_vae.data.Sample` or of
            tensors, or a tensor (N, C, H, W).
        candidates: Says how many images are held out, and how defects are painted on them.
        normal_images: How many images the scorers are fitted on at most.
        batch_size: Images per pass.
        workers: Processes that load the images.
        device: Where images go; None takes the device of the model.
        progress: Whether bars are shown.

    Raises:
        ValueError: There are too few normal images to hold some out, or no defect shows on them.
        TypeError: ``normal`` cannot be read by number.
    """
    samples = as_samples(normal, "normal", truth=False)
    whole_number("normal_images", normal_images, least=1)
    kept, held_out = split_held_out(len(samples), candidates.held_out)
    painted = SyntheticDefects(
        SampleSubset(samples, evenly_spaced(held_out, candidates.images)),
        area=candidates.area,
        contrast=candidates.contrast,
        visibility=candidates.visibility,
        masks=candidates.masks,
        seed=candidates.seed,
    )
    # At the size of the masks, so that a sigma means the same here and on the test set.
    size = _mask_size(samples[0])
    fitted_on = SampleSubset(samples, evenly_spaced(kept, normal_images))
    entries = entries_of(variants, None)
    options = pass_options(
        entries, batch_size=batch_size, workers=workers, device=device, progress=progress
    )
    fitting = ImageBatches(fitted_on, "normal", truth=False, **options)
    with naming_dead_loaders():
        with naming_the_images(fitting):
            fit_scorers([entry.scorer for entry in entries], fitting, "fitting candidates")
        areas = pixel_areas(
            without_thresholds(variants, size=size),
            ImageBatches(painted, "normal", shared=True, **options),
            "scoring painted defects",
        )
    ranked = ranking(areas)
    if math.isnan(next(iter(ranked.values()))):
        reason = next(iter(areas.values())).reason
        raise ValueError(
            f"nothing can be chosen on the defects painted on {len(painted)} normal images: "
            f"{reason}"
        )
    return Choice(next(iter(ranked)), ranked, len(painted))


def without_thresholds(variants: Variants, **changes: Any) -> Variants:
    """The variants under protocols that need no pass over normal images for a threshold.

    Args:
        variants: Scorers and protocols.
        changes: Further choices of the protocols to be replaced.
    """
    return {
        name: (scorer, replace(protocol, threshold="oracle", **changes))
        for name, (scorer, protocol) in variants.items()
    }


def split_held_out(count: int, share: float) -> tuple[list[int], list[int]]:
    """Split the numbers below ``count`` into those to fit on and those held out, evenly spaced.

    Raises:
        ValueError: One of the two would be empty.
    """
    wanted = round(count * share)
    held_out = evenly_spaced(range(count), wanted) if wanted else []
    kept = sorted(set(range(count)) - set(held_out))
    if not kept or not held_out:
        raise ValueError(
            f"{count} normal images with held_out={share} leave {len(kept)} to fit on and "
            f"{len(held_out)} to paint on; wanted some of each"
        )
    return kept, held_out


def ranking(areas: Mapping[str, LocalizationScore]) -> dict[str, float]:
    """Pixel AUROC by name, best first; of equals the first comes first."""
    scores = {name: area.value for name, area in areas.items()}
    return dict(sorted(scores.items(), key=lambda item: -item[1]))


def _mask_size(sample: Sample) -> tuple[int, int]:
    found: Sequence[int] = sample.image.shape[1:] if sample.mask is None else sample.mask.shape
    return found[0], found[1]
