"""Words and options of a detector, which a command lists without loading torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from captum_vae.checks import check_choice, real_number, whole_number

ScoreRule = Literal["top", "max", "area"]
"""What makes one number of an image's map: the mean of its highest pixels, the highest, or the
share of its pixels above the pixel threshold."""

Units = Literal["auto", "images", "clips"]
"""What is exchangeable: single images, or whole clips of frames that resemble each other."""


@dataclass(frozen=True)
class Promise:
    """What a detector promises about new normal images, and how it is calibrated.

    Attributes:
        alpha: A new normal image is called anomalous with at most this probability, and breaks
            what is promised about pixels with at most this probability.
        pixel_rate: Share of the pixels of a new normal image at or above the pixel threshold, at
            most.
        score: What makes an image's score of its map: "top", the mean of its highest pixels,
            "max", the highest pixel, or "area", the share of pixels above the pixel threshold.
        top: Share of the pixels that "top" takes.
        units: "images" where normal images are independent of each other, "clips" where frames of
            one video are not; "auto" takes clips where the data set says that its groups are
            clips.
        choosing: Share of the normal images on which a scorer is chosen.
        calibrating: Share of the normal images on which thresholds and p-values are calibrated, and
            at least as many as ``alpha`` takes, up to half of all.
        fitted: Images that scorers are fitted on, at most.
        calibrated: Images that the calibration reads, at most.
        seed: Seed of the split of the normal images.

    Raises:
        TypeError: An option is of another kind.
        ValueError: A word is unknown, or a number out of its range.
    """

    alpha: float = 0.05
    pixel_rate: float = 0.005
    score: ScoreRule = "top"
    top: float = 0.01
    units: Units = "auto"
    choosing: float = 0.2
    calibrating: float = 0.25
    fitted: int = 500
    calibrated: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        """Check every option."""
        for name in ("alpha", "pixel_rate", "choosing", "calibrating"):
            value = real_number(name, getattr(self, name))
            if not 0 < value < 1:
                raise ValueError(f"{name}={value:g} must lie between 0 and 1")
        if self.choosing + self.calibrating >= 0.95:
            raise ValueError(
                f"choosing={self.choosing:g} and calibrating={self.calibrating:g} leave too few "
                "images to fit on; wanted shares that sum to less than 0.95"
            )
        if not 0 < real_number("top", self.top) <= 1:
            raise ValueError(f"top={self.top:g} must be a share above 0, at most 1")
        check_choice("score", self.score, get_args(ScoreRule))
        check_choice("units", self.units, get_args(Units))
        whole_number("fitted", self.fitted, least=2)
        whole_number("calibrated", self.calibrated, least=2)
        whole_number("seed", self.seed, least=0, most=2**63 - 1)

    def to_dict(self) -> dict[str, Any]:
        """Every option, for JSON."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}
