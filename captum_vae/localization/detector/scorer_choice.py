"""Which scorers a detector uses: named, given, or chosen without labels."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from captum_vae.data.sample import SampleDataset
from captum_vae.localization.candidates import Candidates
from captum_vae.localization.choosing import candidate_scorers, choose, split_held_out
from captum_vae.localization.detector.default_layers import default_layers
from captum_vae.localization.detector.normal_images import Joined
from captum_vae.localization.detector.scorer_record import ScorerRecord
from captum_vae.localization.model_pass import device_of
from captum_vae.localization.protocol import Protocol
from captum_vae.localization.scorer import AnomalyScorer
from captum_vae.plugins import Registry
from captum_vae.posterior import as_adapter
from captum_vae.progress import Progress

AUTO = "auto"


@dataclass(frozen=True)
class ScorerChoice:
    """What a person says about the scorers.

    Attributes:
        scorers: "auto" alone, or names of registered scorers and scorers.
        layers: Names of layers; empty where the encoder's own are taken.
        options: Arguments of a scorer that is given by name.
    """

    scorers: tuple[Any, ...]
    layers: tuple[str, ...]
    options: dict[str, Any]

    @classmethod
    def of(
        cls,
        scorer: Any,
        layers: str | Sequence[str] | None,
        options: Mapping[str, Any] | None,
    ) -> ScorerChoice:
        """Check what a person says.

        Raises:
            TypeError: Something is no scorer and no name.
            ValueError: There is no such scorer.
        """
        several = tuple(scorer) if isinstance(scorer, list | tuple) else (scorer,)
        if not several:
            raise ValueError("scorer is empty; wanted 'auto', a name, a scorer, or several")
        if AUTO in [one for one in several if isinstance(one, str)] and len(several) > 1:
            raise ValueError("scorer holds 'auto' beside others; wanted 'auto' alone, or others")
        for one in several:
            if isinstance(one, str):
                if one != AUTO:
                    Registry("scorers").plugin(one)
            elif isinstance(one, type) or not isinstance(one, AnomalyScorer):
                raise TypeError(
                    f"scorer is {one!r}; wanted 'auto', the name of a registered scorer, a scorer "
                    "with fit(normal) and score(images), or a list of these"
                )
        named = (layers,) if isinstance(layers, str) else tuple(layers or ())
        if not all(isinstance(name, str) for name in named):
            raise TypeError(f"layers={layers!r} names no layers; wanted dotted names")
        return cls(several, named, dict(options or {}))

    @property
    def held_out(self) -> bool:
        """Whether images are needed that scorers are neither fitted nor calibrated on."""
        return self.scorers == (AUTO,) or len(self.scorers) > 1

    @property
    def words(self) -> str:
        """The scorers in words."""
        return " + ".join(
            one if isinstance(one, str) else type(one).__name__ for one in self.scorers
        )


def chosen_scorers(
    asked: ScorerChoice,
    model: Any,
    posterior: Any,
    fitting: SampleDataset,
    choosing: SampleDataset,
    protocol: Protocol,
    *,
    smoothing_given: bool,
    seed: int,
    passes: Mapping[str, Any],
    progress: Progress,
) -> tuple[list[AnomalyScorer], Protocol, dict[str, Any] | None]:
    """The scorers that a person asked for, not fitted; with "auto" the choice and its reasons.

    Args:
        asked: What the person says.
        model: The VAE.
        posterior: How to read its posterior.
        fitting: Images to fit candidates on.
        choosing: Images to paint defects on.
        protocol: How maps are smoothed; a choice among candidates replaces its smoothing.
        smoothing_given: Whether the person stated the smoothing, which is then kept.
        seed: Seed of the painted defects.
        passes: Batch size, workers and device of the passes.
        progress: Whether bars are shown.
    """
    adapter = as_adapter(model, posterior)

    def layers() -> tuple[str, ...]:
        """Those that the person names, or the encoder's own."""
        if asked.layers:
            return asked.layers
        image = fitting[0].image[None]
        device = device_of(model)
        return default_layers(adapter, image if device is None else image.to(device))

    if asked.scorers != (AUTO,):
        built = [_built(one, asked, layers, model, adapter) for one in asked.scorers]
        return built, protocol, None
    named = layers()
    smoothing = [protocol.smoothing] if smoothing_given else [0.0, protocol.smoothing]
    candidates = Candidates(list(named), fused=len(named) > 1, smoothing=smoothing, seed=seed)
    variants = candidate_scorers(candidates, model, posterior=adapter, protocol=protocol)
    normal, share = _interleaved(fitting, choosing)
    found = choose(
        variants,
        normal,
        replace(candidates, held_out=share),
        normal_images=len(fitting),
        batch_size=passes["batch_size"],
        workers=passes["workers"],
        device=passes["device"],
        value_range=passes["value_range"],
        progress=progress,
    )
    scorer, chosen_protocol = variants[found.name]
    return [scorer], chosen_protocol, {**found.to_dict(), "reasons": found.lines()}


def _built(
    one: Any,
    asked: ScorerChoice,
    layers: Callable[[], tuple[str, ...]],
    model: Any,
    posterior: Any,
) -> AnomalyScorer:
    if not isinstance(one, str):
        scorer: AnomalyScorer = one
        return scorer
    options = dict(asked.options)
    takes = inspect.signature(Registry("scorers").load(one)).parameters
    if "layers" in takes and "layers" not in options:
        options["layers"] = list(layers())
    return ScorerRecord(one, options).build(model, posterior)


def _interleaved(fitting: SampleDataset, choosing: SampleDataset) -> tuple[SampleDataset, float]:
    """Both parts as one, ordered so that ``choose`` paints on the second and fits on the first."""
    count = len(fitting) + len(choosing)
    share = len(choosing) / count
    kept, held_out = split_held_out(count, share)
    parts: list[tuple[SampleDataset, int]] = [(fitting, 0)] * count
    for number, place in enumerate(kept):
        parts[place] = (fitting, number)
    for number, place in enumerate(held_out):
        parts[place] = (choosing, number)
    return Joined(parts), share
