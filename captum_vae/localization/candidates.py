"""Anomaly maps to choose from, as plain options that need no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from captum_vae.attr.options import Rectifier, Weighting
from captum_vae.checks import check_choice, checked_seed, real_number, whole_number
from captum_vae.data.options import DefectMasks, Visibility
from captum_vae.localization.options import Baseline, ScoreScale
from captum_vae.localization.protocol import check_smoothing

Family = Literal[
    "explained_residual",
    "feature_difference",
    "mahalanobis",
    "latent_attention",
    "mean_image",
    "reconstruction_error",
]
"""Kinds of anomaly maps."""

FAMILIES: tuple[Family, ...] = get_args(Family)


@dataclass(frozen=True)
class Candidates:
    """The maps to choose from: all families, and of latent attention every combination of options.

    The first family's first is the default, which stays unless another beats it by more than
    ``margin`` and noise. The families but latent attention read all layers fused, or each layer
    without ``fused``.

    Painted defects do not tell whether maps should be scaled by location, since scaled maps are
    small where normal images vary, which is where the defects are painted. So maps of one scale
    are chosen among: those that are not scaled beside the explained residual, which needs no
    scale, and the ``shrunk`` ones without it.

    Attributes:
        layers: Dotted names of layers; each is a candidate.
        fused: Try all layers fused as well.
        families: Kinds of maps: explained_residual (what a linear latent does not explain of the
            features, by its L2 and L1 norms, its Mahalanobis distance, and the larger of L2 and
            Mahalanobis), feature_difference, mahalanobis, latent_attention, mean_image,
            reconstruction_error. Those that the model has no use for are passed over: a VAE of
            features reconstructs no image.
        rectifiers: Rectifiers of the maps: relu, abs, sigmoid, none.
        weightings: How channels are weighted: pooled, elementwise, integrated.
        baselines: What features are compared with: mean_activation, reconstruction, mean_image,
            none.
        scales: Whether attention maps, and without the explained residual all maps, are divided by
            their normal size at each location: none, location, or shrunk, halfway between these;
            see :class:`captum_vae.localization.Scorer`. Maps of other scales than the one chosen
            among are measured on the test set, unless defects are painted anywhere (``varying``
            1), which judges all. None takes none beside the explained residual, and none and
            shrunk without it; there, none and location bring shrunk with them.
        smoothing: Standard deviations of a Gaussian in pixels of the mask; 0 for none.
        held_out: Share of the normal images that defects are painted on.
        images: How many of them at most, evenly spaced.
        seeds: How often each of them is painted, with another defect each time.
        varying: Share of the places, those where normal images vary most, in which at least 80%
            of each defect lies; 1 paints anywhere.
        margin: Pixel AUROC on painted defects by which a candidate must beat the default at least,
            beyond noise: defects that are painted do not order good maps as real ones do.
        contrast: Least difference between a defect and what was there. Low, since defects that
            every candidate finds leave nothing to choose by.
        area: Smallest and largest share of the image that a defect is drawn on.
        visibility: Whether defects fade in and out (patchy) or show everywhere (whole).
        masks: Whether masks are outlined around the defects or hold the changed pixels.
        seed: Seed of the defects.

    Raises:
        TypeError: An option is of the wrong type.
        ValueError: A list is empty, a word unknown, or a number out of its range.
    """

    layers: list[str]
    fused: bool = False
    families: list[Family] = field(default_factory=lambda: list(FAMILIES))
    rectifiers: list[Rectifier] = field(default_factory=lambda: ["abs"])
    weightings: list[Weighting] = field(default_factory=lambda: ["pooled"])
    baselines: list[Baseline] = field(default_factory=lambda: ["mean_activation", "reconstruction"])
    scales: list[ScoreScale] | None = None
    smoothing: list[float] = field(default_factory=lambda: [0.0, 4.0])
    held_out: float = 0.2
    images: int = 40
    seeds: int = 3
    varying: float = 0.4
    margin: float = 0.02
    contrast: float = 0.02
    area: tuple[float, float] = (0.003, 0.1)
    visibility: Visibility = "patchy"
    masks: DefectMasks = "outlined"
    seed: int = 0

    def __post_init__(self) -> None:
        """Check every option."""
        for layer in _listed("layers", self.layers):
            if not isinstance(layer, str):
                raise TypeError(f"choose_among.layers holds {layer!r}; wanted names of layers")
        if not isinstance(self.fused, bool):
            raise TypeError(f"choose_among.fused is {self.fused!r}; wanted True or False")
        for name, words in (
            ("families", Family),
            ("rectifiers", Rectifier),
            ("weightings", Weighting),
            ("baselines", Baseline),
            ("scales", ScoreScale),
        ):
            values = getattr(self, name)
            for value in () if name == "scales" and values is None else _listed(name, values):
                check_choice(f"choose_among.{name}", value, get_args(words))
        for sigma in _listed("smoothing", self.smoothing):
            check_smoothing("choose_among.smoothing", sigma)
        if not 0 < real_number("choose_among.held_out", self.held_out) < 1:
            raise ValueError(
                f"choose_among.held_out is {self.held_out}; wanted a share between 0 and 1"
            )
        whole_number("choose_among.images", self.images, least=1)
        whole_number("choose_among.seeds", self.seeds, least=1)
        if not 0 < real_number("choose_among.varying", self.varying) <= 1:
            raise ValueError(f"choose_among.varying is {self.varying}; wanted a share in (0, 1]")
        real_number("choose_among.margin", self.margin, least=0)
        real_number("choose_among.contrast", self.contrast)
        if isinstance(self.area, str) or not isinstance(self.area, Sequence) or len(self.area) != 2:
            raise TypeError(
                f"choose_among.area is {self.area!r}; wanted the smallest and largest share"
            )
        for share in self.area:
            real_number("choose_among.area", share)
        check_choice("choose_among.visibility", self.visibility, get_args(Visibility))
        check_choice("choose_among.masks", self.masks, get_args(DefectMasks))
        checked_seed(self.seed, name="choose_among.seed")

    @property
    def offered_scales(self) -> list[ScoreScale]:
        """The scales of the candidates, the one that is chosen among first."""
        unexplained = "explained_residual" not in self.families
        if self.scales is None:
            return ["shrunk", "none"] if unexplained else ["none"]
        offered = list(self.scales)
        if not unexplained or self.varying == 1:
            return offered
        if {"none", "location"} <= set(offered):
            offered.append("shrunk")
        robust: list[ScoreScale] = ["shrunk", "none", "location"]
        return [scale for scale in robust if scale in offered]


def _listed(name: str, values: object) -> Sequence[object]:
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise TypeError(f"choose_among.{name} is {values!r}; wanted a list")
    if not values:
        raise ValueError(f"choose_among.{name} is empty; wanted at least one")
    return values
