"""How maps are compared with masks: a value, printed and stored with each result.

Published evaluations of this method differ in these choices, mostly without saying so, by more than
the methods they compare. None of the choices looks at other images, so a map never depends on its
batch. A command's help reads this module, so it imports no torch, not even for annotations: the
command line's parser runs what stands under ``TYPE_CHECKING``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, get_args

from captum_vae.checks import check_choice, real_number
from captum_vae.localization.options import ComparisonSize, Frames, ThresholdSource

_FRAMES = {
    "all": "all frames with known truth",
    "anomalous": "frames with an anomalous pixel only",
    "with_masks": "frames of clips with masks only",
}
_SIZES = {"mask": "maps resized to the mask's size", "map": "masks resized to the map's size"}
_LARGEST_SIGMA = 500.0
"""A Gaussian reaches 4 sigma to each side of the map, so more would fill the memory."""


@dataclass(frozen=True)
class Protocol:
    """How maps are compared with masks.

    An image whose truth is unknown is left out always: it is neither normal nor anomalous.

    Attributes:
        frames: Which images count. "all" takes those with known truth: those with a mask, and those
            labelled normal, whose mask is empty. "with_masks" leaves out images without a mask even
            when they are labelled normal, as all those of UCSD Ped1's 26 clips without masks.
            "anomalous" takes images with an anomalous pixel only.
        size: "mask" resizes maps to each mask's size; "map" resizes masks down to the map's size,
            where a pixel is anomalous when at least half of its area was; (H, W) resizes both.
        smoothing: Standard deviation of a Gaussian over the resized map, in its pixels; 0 for none.
        threshold: "train_quantile" takes a quantile of the scores of normal training images;
            "oracle" is the best on the test labels, and results label it so.
        quantile: Share of the normal pixels below the threshold of "train_quantile".

    Raises:
        ValueError: A choice is unknown, or a number is out of its range.
        TypeError: A number is none.
    """

    frames: Frames = "all"
    size: ComparisonSize = "mask"
    smoothing: float = 0.0
    threshold: ThresholdSource = "train_quantile"
    quantile: float = 0.995

    def __post_init__(self) -> None:
        """Check every choice."""
        check_choice("frames", self.frames, get_args(Frames))
        check_choice("threshold", self.threshold, get_args(ThresholdSource))
        if not isinstance(self.size, str) or self.size not in _SIZES:
            object.__setattr__(self, "size", _height_width(self.size))
        check_smoothing("smoothing", self.smoothing)
        if not 0 < real_number("quantile", self.quantile) <= 1:
            raise ValueError(f"quantile is {self.quantile}; wanted a share in (0, 1], as 0.995")

    def __str__(self) -> str:
        """One line for a table's caption."""
        size = _SIZES[self.size] if isinstance(self.size, str) else "maps and masks at {}x{}"
        source = "oracle, best on the test labels"
        if self.threshold == "train_quantile":
            source = f"quantile {self.quantile:g} of normal training maps"
        smoothing = f"Gaussian smoothing sigma {self.smoothing:g} px" if self.smoothing else ""
        parts = [
            _FRAMES[self.frames],
            "unknown masks excluded",
            size.format(*self.size),
            smoothing or "no smoothing",
            f"threshold: {source}",
        ]
        return "; ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """Every choice, for JSON."""
        size = self.size if isinstance(self.size, str) else list(self.size)
        return asdict(self) | {"size": size, "unknown_masks": "excluded"}

    def transform(self, maps: Any, size: tuple[int, int]) -> Any:
        """Do what happens to every map, also to those of normal training images: resize, smooth.

        Args:
            maps: (B, h, w) floats. float64 stays so; less than float32 becomes float32.
            size: (H, W) of the mask, or of the images where there is none.

        Returns:
            (B, H, W), or (B, h, w) with size="map".
        """
        from captum_vae.localization.preparation import transform_maps

        return transform_maps(maps, size, compared=self.size, smoothing=self.smoothing)

    def prepare(
        self,
        maps: Any,
        masks: Sequence[Any],
        labels: Sequence[int | None] | None = None,
    ) -> tuple[list[Any], list[Any]]:
        """Bring maps and masks of a batch to the same size and leave out what does not count.

        Args:
            maps: (B, h, w) floats.
            masks: B masks (H, W) of bool, of any sizes, or None where the truth is unknown.
            labels: B labels: 0 normal, 1 anomalous, None unknown.

        Returns:
            B maps (H, W) and B masks of the same size, for ``PixelMetrics.update``. The mask of an
            image that is left out is None, and its map is as it was.

        Raises:
            TypeError: The maps are no floats, or a mask is not bool.
            ValueError: Shapes or numbers do not fit.
        """
        from captum_vae.localization.preparation import prepare_maps

        return prepare_maps(
            maps,
            masks,
            labels,
            frames=self.frames,
            compared=self.size,
            smoothing=self.smoothing,
        )


def check_smoothing(name: str, sigma: object) -> None:
    """Raise unless ``sigma`` is the standard deviation of a Gaussian in pixels, or 0.

    Args:
        name: What the message calls it.
        sigma: The value.

    Raises:
        TypeError: It is no number.
        ValueError: It is negative, not finite, or too large to be meant.
    """
    if not 0 <= real_number(name, sigma) <= _LARGEST_SIGMA:
        raise ValueError(
            f"{name} is {sigma}; wanted a sigma from 0 to {_LARGEST_SIGMA:g} pixels, 0 for none"
        )


def _height_width(size: object) -> tuple[int, int]:
    sides = tuple(size) if isinstance(size, (tuple, list)) else ()
    if len(sides) != 2 or any(type(side) is not int or side < 1 for side in sides):
        raise ValueError(f"size is {size!r}; wanted mask, map or (H, W), two positive integers")
    return sides[0], sides[1]
