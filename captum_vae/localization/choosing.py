"""Choosing an anomaly map without test labels, on synthetic defects.

Defects are painted on normal images that the candidates were not fitted on: of four kinds and many
sizes, several on each image one after another, fading in and out, outlined as annotators do it, and
at least 80% of each where normal images vary most. That is where real defects lie, on the object;
on defects painted anywhere, most of which lie on an empty background, maps win that see nothing
else. (Found on MVTec AD bottle, UCSD Ped2, magnetic tile, hazelnut, transistor and three kinds of
rendered images; docs/results/choice.json measures what it costs.)

Painted defects tell bad maps from good ones, and do not order the good ones as real ones do. So
there is a default, robust on all sets, and another candidate is chosen only where it is better by
more than a margin and the noise of the images, of which the best of many candidates has more than
one named beforehand. A report also measures every candidate on the test
set and says which one an oracle would have chosen.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import torch
from scipy.special import stdtrit
from torch import Tensor

from captum_vae.checks import whole_number
from captum_vae.data.defect_places import varying_places
from captum_vae.data.defects import SyntheticDefects
from captum_vae.data.loading import naming_dead_loaders
from captum_vae.data.sample import Sample, SampleDataset
from captum_vae.data.value_range import UNIT, ValueRange
from captum_vae.localization.candidate_maps import Variants, candidate_scorers
from captum_vae.localization.candidates import Candidates
from captum_vae.localization.choice import Choice, Margin, ranking
from captum_vae.localization.counting import count_in_turn, score_batches
from captum_vae.localization.entries import Entry, entries_of
from captum_vae.localization.explained import FOLDS
from captum_vae.localization.image_batches import ImageBatches
from captum_vae.localization.map_store import MapStore
from captum_vae.localization.measuring import naming_the_images, pass_options
from captum_vae.localization.painted_areas import PaintedCounter
from captum_vae.localization.samples import SampleSubset, as_samples, evenly_spaced
from captum_vae.localization.scorer import AnomalyScorer
from captum_vae.localization.scoring import fit_scorers
from captum_vae.metrics.localization.bootstrap import draw_units
from captum_vae.progress import Progress

__all__ = ["Choice", "Variants", "candidate_scorers", "choose", "split_held_out"]

_RESAMPLES = 500

_TWO_SIDED = 1.96
"""Standard deviations of a normal distribution that 95% of it lie within."""

_MOST_TURNS = 1000
"""More turns of painting than anybody asks for."""


def choose(
    variants: Variants,
    normal: Any,
    candidates: Candidates,
    *,
    normal_images: int = 500,
    batch_size: int = 32,
    workers: int = 0,
    device: torch.device | str | None = None,
    value_range: ValueRange = UNIT,
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
        value_range: The range that images, painted in [0, 1], are then brought to.
        progress: Whether bars are shown.

    Raises:
        ValueError: There are too few normal images to hold some out, or no defect shows on them.
        TypeError: ``normal`` cannot be read by number.
    """
    samples = as_samples(normal, "normal", truth=False)
    whole_number("normal_images", normal_images, least=1)
    kept, held_out = split_held_out(len(samples), candidates.held_out)
    # At the size of the masks, so that a sigma means the same here and on the test set.
    size = _mask_size(samples[0])
    eligible, left_out = comparable(variants, candidates.varying)
    fitted_on = SampleSubset(samples, evenly_spaced(kept, normal_images))
    if len(fitted_on) < 3 * FOLDS:  # too few to fit a latent on parts of them
        of_others = {n: v for n, v in eligible.items() if not _explained(v[0])}
        eligible = of_others or eligible
    entries = entries_of(without_thresholds(eligible, size=size), None)
    options = pass_options(
        entries, batch_size=batch_size, workers=workers, device=device, progress=progress
    ) | {"value_range": value_range}
    fitting = ImageBatches(fitted_on, "normal", truth=False, **options)
    with naming_dead_loaders():
        with naming_the_images(fitting):
            fit_scorers([entry.scorer for entry in entries], fitting, "fitting candidates")
        places = None
        if candidates.varying < 1 and len(fitted_on) > 1:
            places = varying_places(fitting.images("where images vary"), candidates.varying)
        on = SampleSubset(samples, evenly_spaced(held_out, candidates.images))
        return choose_among_fitted(entries, on, candidates, places, left_out, options)


def comparable(variants: Variants, varying: float) -> tuple[Variants, tuple[str, ...]]:
    """The candidates that painted defects can compare, and the names of the others.

    Maps that are scaled by location are small where normal images vary. Defects painted there
    compare them with one another, and not with maps of another scale: those of the default's scale
    are compared, if that is no division by the location's own scale alone.

    Args:
        variants: The candidates, the default first.
        varying: Share of the places, where normal images vary most, that defects are painted in;
            1 paints anywhere, which compares all.

    Raises:
        ValueError: Every candidate is scaled by location.
    """
    scales = {name: getattr(scorer, "scale", "none") for name, (scorer, _) in variants.items()}
    compared = next((scale for scale in scales.values() if scale != "location"), None)
    if varying == 1:
        return variants, ()
    if compared is None:
        raise ValueError(
            "every candidate is scaled by location, which defects painted where images vary cannot "
            "judge; add unscaled or shrunk ones, or name the scorer yourself"
        )
    left_out = tuple(name for name, scale in scales.items() if scale != compared)
    return {name: variants[name] for name in variants if name not in left_out}, left_out


def choose_among_fitted(
    entries: Sequence[Entry],
    on: SampleDataset,
    candidates: Candidates,
    places: Tensor | None,
    left_out: tuple[str, ...] = (),
    options: Mapping[str, Any] = MappingProxyType({}),
    *,
    besides: Sequence[AnomalyScorer] = (),
    store: MapStore | None = None,
) -> Choice:
    """Choose among fitted candidates.

    Args:
        entries: The candidates, the default first.
        on: Normal images to paint on, which nothing was fitted on.
        candidates: Says how defects are painted.
        places: Where defects lie, (h, w) bool; None paints anywhere.
        left_out: Names of candidates that are not chosen among, for the report.
        options: How images are passed, as :class:`ImageBatches` takes it.
        besides: Fitted scorers whose maps are made in the same pass for the store alone.
        store: Where the maps are kept for other choices on the same defects; None keeps none.
    """
    painted = _Painted(on, candidates, places)
    images = ImageBatches(painted, "normal", shared=True, **options)
    every = [*(entry.scorer for entry in entries), *besides]
    scored = score_batches(every, images, "scoring painted defects", store)
    weights = draw_units(len(on), _RESAMPLES, candidates.seed)
    counters = [PaintedCounter(entry, len(on)) for entry in entries]
    areas = {c.entry.name: c.areas(weights) for c in count_in_turn(counters, scored)}
    return _chosen(areas, candidates, painted, left_out)


class _Painted(SampleDataset):
    """Every image once for each seed, with another defect each time."""

    def __init__(self, on: SampleDataset, candidates: Candidates, places: Tensor | None) -> None:
        self._turns = [
            SyntheticDefects(
                on,
                area=candidates.area,
                contrast=candidates.contrast,
                visibility=candidates.visibility,
                masks=candidates.masks,
                places=places,
                # Not seed + turn, which would paint the defects of the next seed again.
                seed=candidates.seed * _MOST_TURNS + turn,
            )
            for turn in range(candidates.seeds)
        ]
        self.images = len(on)
        self.kinds = self._turns[0].kinds

    def __len__(self) -> int:
        return self.images * len(self._turns)

    def __getitem__(self, index: int) -> Sample:
        turn, image = divmod(index, self.images)
        sample = self._turns[turn][image]
        return sample._replace(name=f"{sample.name}#{turn}")


def _chosen(
    areas: Mapping[str, tuple[float, Tensor]],
    candidates: Candidates,
    painted: _Painted,
    left_out: tuple[str, ...],
) -> Choice:
    """The default, unless another candidate beats it by more than the margin and its noise."""
    ranked = ranking({name: area for name, (area, _) in areas.items()})
    if any(math.isnan(area) for area in ranked.values()):
        raise ValueError(
            f"nothing can be chosen on the defects painted on {len(painted)} normal images: they "
            "leave no normal or no anomalous pixel"
        )
    default, *others = areas
    margin = None
    name, sure = default, 1.0
    if others:
        best = max(others, key=lambda other: areas[other][0])
        difference = areas[best][0] - areas[default][0]
        drawn = torch.stack([areas[other][1] - areas[default][1] for other in (best, *others)])
        reach = _reach(drawn.nan_to_num(0.0), painted.images)
        low, high = difference - reach, difference + reach
        margin = Margin(best, difference, low, high, candidates.margin)
        name = best if margin.enough else default
        sure = _share_alike(areas, default, name, candidates.margin)
    return Choice(
        name,
        ranked,
        len(painted),
        default=default,
        margin=margin,
        sure=sure,
        families=painted.kinds,
        seeds=candidates.seeds,
        varying=candidates.varying,
        left_out=left_out,
    )


def _reach(differences: Tensor, images: int) -> float:
    """Half the width of the first row's 95% interval, which holds for all rows at once.

    Of many candidates the best is the luckiest as well. So the interval reaches as many standard
    deviations as the row that is farthest off does, in 95% of the resamples. Few images vary less
    among themselves than new ones do, which Student's distribution makes up for.

    Args:
        differences: (K, R) of K candidates on R resamples of the images.
        images: How many images were resampled.

    Returns:
        NaN for a single image, which says nothing of how images differ.
    """
    if images < 2:
        return math.nan
    deviations = differences.std(1, correction=0)
    off = (differences - differences.mean(1, keepdim=True)).abs() / deviations[:, None]
    farthest = float(off.nan_to_num(0.0).amax(0).quantile(0.95))
    few = math.sqrt(images / (images - 1)) * float(stdtrit(images - 1, 0.975)) / _TWO_SIDED
    return farthest * few * float(deviations[0])


def _share_alike(
    areas: Mapping[str, tuple[float, Tensor]], default: str, chosen: str, margin: float
) -> float:
    """The share of resamples whose best candidate, or default within the margin, is the chosen."""
    names = list(areas)
    drawn = torch.stack([resampled for _, resampled in areas.values()])
    best = drawn.argmax(0)
    own = drawn[names.index(default)]
    best[drawn.amax(0) - own <= margin] = names.index(default)
    return float((best == names.index(chosen)).double().mean())


def _explained(scorer: AnomalyScorer) -> bool:
    return getattr(scorer, "baselines", "none") == "explained"


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


def _mask_size(sample: Sample) -> tuple[int, int]:
    found: Sequence[int] = sample.image.shape[1:] if sample.mask is None else sample.mask.shape
    return found[0], found[1]
