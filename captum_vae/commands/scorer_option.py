"""The option that names a line of the table of ``evaluate``, and titles of the lines it adds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

CHOSEN = "chosen without labels"
CONTROL = "control: the chosen, without the latent"
RANDOM = "control: the chosen, with shuffled latent weights"
ORACLE = "oracle choice on test labels"
FLOOR = "floor: constant map"


@dataclass
class ScorerConfig:
    """One line of the table.

    Attributes:
        name: A registered scorer (captum-vae plugins lists them), or package.module:Class of your
            own.
        options: Arguments of the scorer.
        smoothing: Standard deviation of a Gaussian over its maps, in pixels of the mask; left out,
            it is that of the chosen variant, or of the protocol when none is chosen.
    """

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    smoothing: float | None = None
