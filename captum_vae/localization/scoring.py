"""Several scorers fitted and applied together: those of one model and reading share its calls."""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterable, Iterator, Sequence

from torch import Tensor

from captum_vae.localization.image_batches import ImageBatches
from captum_vae.localization.map_store import MapStore
from captum_vae.localization.model_pass import KeptWeights, ModelPass, NormalImages
from captum_vae.localization.scorer import AnomalyScorer, Scorer, fit_together


def fit_scorers(
    scorers: Sequence[AnomalyScorer],
    normal: ImageBatches,
    title: str,
    weights: KeptWeights | None = None,
) -> None:
    """Fit each scorer once on normal images; the built-in ones of a model share its means.

    Args:
        scorers: Scorers, perhaps of several models; repeats are fitted once.
        normal: The normal images.
        title: Title of the progress bar.
        weights: Where channel weights are kept for later passes over these images; None keeps none.
    """
    distinct = distinct_scorers(scorers)
    own = [scorer for scorer in distinct if isinstance(scorer, Scorer)]
    images = normal.images(title)
    for key, sharing in sharing_a_pass(own).items():
        first = sharing[0]
        kept = None if weights is None else weights.setdefault(key, {})
        fit_together(
            sharing,
            NormalImages(images, first.model, first.adapter, layers_of(sharing), weights=kept),
        )
    for scorer in distinct:
        if not isinstance(scorer, Scorer):
            scorer.fit(images)


def score_batch(
    scorers: Sequence[AnomalyScorer],
    images: Tensor,
    first: int = 0,
    weights: KeptWeights | None = None,
) -> Iterator[tuple[AnomalyScorer, Tensor, float]]:
    """Score one batch with several scorers; those of one model and reading share its calls.

    Args:
        scorers: Fitted scorers; repeats score once.
        images: (B, C, H, W).
        first: Place of the first of them in the whole data.
        weights: Channel weights of earlier passes over the same batches; None for none.

    Yields:
        The scorer, its maps (B, h, w), and the seconds it took beyond what was shared before.

    Raises:
        TypeError: A scorer gives something else than a tensor of floats.
        ValueError: Its maps have another shape or number, or hold NaN.
    """
    distinct = distinct_scorers(scorers)
    sharing = sharing_a_pass(scorer for scorer in distinct if isinstance(scorer, Scorer))
    passes = {
        key: ModelPass(
            images,
            group[0].model,
            group[0].adapter,
            layers_of(group),
            weights=None if weights is None else weights.get(key, {}).get(first),
        )
        for key, group in sharing.items()
    }
    # What reads no layer first: its memory is free again before the layers' graphs are made.
    for scorer in sorted(distinct, key=lambda each: bool(getattr(each, "layers", ()))):
        start = time.perf_counter()
        if isinstance(scorer, Scorer):
            maps = scorer.score_pass(passes[_pass_key(scorer)])
        else:
            maps = scorer.score(images)
        yield scorer, _checked(maps, scorer, images), time.perf_counter() - start


def score_places(
    scorers: Sequence[AnomalyScorer],
    images: Tensor,
    places: Sequence[int],
    store: MapStore | None,
    weights: KeptWeights | None = None,
) -> Iterator[tuple[AnomalyScorer, Tensor, float]]:
    """Score one batch as :func:`score_batch` does, with the maps that a store has.

    Args:
        scorers: Fitted scorers; repeats score once.
        images: (B, C, H, W).
        places: Places of the images in the whole data, by which the store knows them.
        store: Maps made before, to which those made now are added; None for none.
        weights: Channel weights of earlier passes over the same batches; None for none.

    Yields:
        The scorer, its maps (B, h, w), and the seconds it took now or then.
    """
    missing = []
    for scorer in distinct_scorers(scorers):
        found = None if store is None else store.get(scorer, places)
        if found is None:
            missing.append(scorer)
        else:
            yield scorer, *found
    for scorer, maps, seconds in score_batch(missing, images, places[0], weights):
        if store is not None:
            store.put(scorer, places, maps, seconds)
        yield scorer, maps, seconds


def sharing_a_pass(scorers: Iterable[Scorer]) -> dict[Hashable, list[Scorer]]:
    """Scorers by what they can share a call of: one model whose posterior is read in one way."""
    groups: dict[Hashable, list[Scorer]] = {}
    for scorer in scorers:
        groups.setdefault(_pass_key(scorer), []).append(scorer)
    return groups


def _pass_key(scorer: Scorer) -> Hashable:
    return id(scorer.model), scorer.adapter.asked


def layers_of(scorers: Iterable[AnomalyScorer]) -> tuple[str, ...]:
    """The layers that scorers read, without repeats."""
    names = [name for scorer in scorers for name in getattr(scorer, "layers", ())]
    return tuple(dict.fromkeys(names))


def distinct_scorers(scorers: Iterable[AnomalyScorer]) -> list[AnomalyScorer]:
    """The scorers without repeats, in order."""
    return list({id(scorer): scorer for scorer in scorers}.values())


def _checked(maps: object, scorer: AnomalyScorer, images: Tensor) -> Tensor:
    """Maps (B, h, w) without gradients, checked since anybody may have written the scorer."""
    name = type(scorer).__name__
    if not isinstance(maps, Tensor):
        raise TypeError(f"{name}.score gives a {type(maps).__name__}; wanted a tensor (B, H, W)")
    if maps.dim() == 4 and maps.shape[1] == 1:
        maps = maps[:, 0]
    if maps.dim() != 3 or len(maps) != len(images) or not maps.numel():
        wanted = (len(images), *images.shape[2:])
        raise ValueError(
            f"{name}.score gives {tuple(maps.shape)} for images {tuple(images.shape)}; wanted "
            f"maps {wanted}"
        )
    if not maps.is_floating_point():
        raise TypeError(
            f"{name}.score gives dtype {maps.dtype}; wanted floats, higher is more anomalous"
        )
    if not maps.isfinite().all():
        found = "NaN" if maps.isnan().any() else "infinite scores"
        raise ValueError(f"{name}.score gives {found}; wanted finite floats, higher more anomalous")
    return maps.detach()
