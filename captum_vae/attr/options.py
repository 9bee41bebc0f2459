"""How channel weights and features become a map: every choice by name, and the sources' presets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from captum_vae.checks import check_choice

Rectifier = Literal["relu", "abs", "sigmoid", "none"]
Order = Literal["after_sum", "channelwise", "after_upsampling"]
Reduction = Literal["sum", "mean", "none"]
Weighting = Literal["pooled", "elementwise", "integrated"]
Aggregate = Literal["none", "mean", "max", "sum"]
Preset = Literal["paper", "authors", "replication_a", "replication_b"]

_CHOICES = {
    "rectifier": get_args(Rectifier),
    "order": get_args(Order),
    "reduction": get_args(Reduction),
    "weighting": get_args(Weighting),
    "aggregate": get_args(Aggregate),
}


@dataclass(frozen=True)
class MapOptions:
    """The choices in which the paper, its authors' code and two replications differ.

    Args:
        rectifier: ``relu`` (the paper), ``abs`` (the authors' code), ``sigmoid`` (replication b),
            ``none`` (Captum's habit).
        order: Rectify ``after_sum`` over channels (the paper), ``channelwise`` before it (both
            replications), or ``after_upsampling`` to the input size (the authors' code; the same
            as ``after_sum`` when no size is asked for).
        reduction: What becomes of the channels: ``sum`` (the paper), ``mean`` (replication a), or
            ``none``, which keeps the channel axis: (B, D, K, h, w).
        weighting: ``pooled`` gradients (Grad-CAM), ``elementwise`` gradient times activation
            (HiResCAM), or ``integrated``: gradients averaged along the straight path from the
            baseline's features to the input's; it is complete (see Captum's convergence delta).
        aggregate: What becomes of the latent dimensions' maps: ``none`` keeps them; ``mean`` (the
            paper), ``max`` or ``sum`` makes one of them.

    Raises:
        ValueError: An option is not one of its names.
    """

    rectifier: Rectifier = "relu"
    order: Order = "after_sum"
    reduction: Reduction = "sum"
    weighting: Weighting = "pooled"
    aggregate: Aggregate = "none"

    def __post_init__(self) -> None:
        """Check every option against its names."""
        for name, choices in _CHOICES.items():
            check_choice(name, getattr(self, name), choices)


PRESETS: dict[str, MapOptions] = {
    "paper": MapOptions(),
    "authors": MapOptions(rectifier="abs", order="after_upsampling"),
    "replication_a": MapOptions(rectifier="abs", order="channelwise", reduction="mean"),
    "replication_b": MapOptions(rectifier="relu", order="channelwise"),
}


def resolve_options(preset: str, **overrides: Any) -> MapOptions:
    """The preset's options with every override that is not None put in its place.

    Raises:
        ValueError: The preset or an option is not one of its names.
    """
    check_choice("preset", preset, tuple(PRESETS))
    given = {name: value for name, value in overrides.items() if value is not None}
    return replace(PRESETS[preset], **given) if given else PRESETS[preset]
