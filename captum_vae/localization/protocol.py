"""How maps are compared with masks: a value, printed and stored with each result.

Published evaluations of this method differ in these choices, mostly without saying so, by more than
the methods they compare. None of the choices looks at other images, so a map never depends on its
batch.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import conv2d, interpolate, pad

from captum_vae.data.resize import resize_mask
from captum_vae.metrics.localization.counts import ScoreCounts

Frames = Literal["all", "anomalous", "with_masks"]
Size = Literal["mask", "map"] | tuple[int, int]
ThresholdSource = Literal["train_quantile", "oracle"]

_FRAMES = {
    "all": "all frames with known truth",
    "anomalous": "frames with an anomalous pixel only",
    "with_masks": "frames of clips with masks only",
}
_SIZES = {"mask": "maps resized to the mask's size", "map": "masks resized to the map's size"}
_TRUNCATE = 4.0


@dataclass(frozen=True)
class Protocol:
    """How maps are compared with masks.

    Args:
        frames: "all" with known truth: those with a mask, and those labelled normal, whose mask is
            empty; "with_masks" leaves out frames without a mask even when labelled normal, as all
            those of UCSD Ped1's 26 clips without masks; "anomalous" keeps frames with an anomalous
            pixel.
        size: "mask" resizes maps to each mask's size; "map" resizes masks down to the map's size,
            where a pixel is anomalous when at least half of its area was; (H, W) resizes both.
        smoothing: standard deviation of a Gaussian over the resized map, in its pixels; 0 for none.
        threshold: "train_quantile" of the scores of normal training images; "oracle" is the best on
            the test labels and is labelled so.
        quantile: of "train_quantile".
        unknown_masks: always "excluded": a frame without known truth is neither normal nor
            anomalous. Stored, so that a result says it.

    Raises:
        ValueError: a choice is unknown or a number out of its range.
    """

    frames: Frames = "all"
    size: Size = "mask"
    smoothing: float = 0.0
    threshold: ThresholdSource = "train_quantile"
    quantile: float = 0.995
    unknown_masks: Literal["excluded"] = "excluded"

    def __post_init__(self) -> None:
        """Check every choice."""
        _check_choice("frames", self.frames, get_args(Frames))
        _check_choice("threshold", self.threshold, get_args(ThresholdSource))
        _check_choice("unknown_masks", self.unknown_masks, ("excluded",))
        if not isinstance(self.size, str):
            object.__setattr__(self, "size", _height_width(self.size))
        elif self.size not in _SIZES:
            raise ValueError(f"size={self.size!r} is not known; choose mask, map or (H, W)")
        if not 0 <= self.smoothing < float("inf"):
            raise ValueError(f"smoothing is {self.smoothing}; wanted a sigma >= 0 in pixels")
        if not 0 < self.quantile <= 1:
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
            f"unknown masks {self.unknown_masks}",
            size.format(*self.size),
            smoothing or "no smoothing",
            f"threshold: {source}",
        ]
        return "; ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """Every choice, for JSON."""
        size = self.size if isinstance(self.size, str) else list(self.size)
        return asdict(self) | {"size": size}

    @classmethod
    def from_dict(cls, choices: dict[str, Any]) -> "Protocol":
        """The protocol of :meth:`to_dict`.

        Raises:
            ValueError: a choice is unknown.
        """
        names = [field.name for field in fields(cls)]
        unknown = sorted(set(choices) - set(names))
        if unknown:
            raise ValueError(f"a protocol has no {unknown}; its choices are {', '.join(names)}")
        return cls(**choices)

    def to_json(self) -> str:
        """:meth:`to_dict` as text."""
        return json.dumps(self.to_dict())

    @classmethod
    def from_json(cls, text: str) -> "Protocol":
        """The protocol of :meth:`to_json`."""
        return cls.from_dict(json.loads(text))

    def truth(self, mask: Tensor | None, label: int | None, size: tuple[int, int]) -> Tensor | None:
        """The mask that a frame is measured against, None to leave it out.

        Args:
            mask: (H, W) bool, or None where unknown.
            label: 0 normal, 1 anomalous, None unknown.
            size: (h, w) of the empty mask of a frame that is labelled normal and has none.
        """
        if mask is None:
            known_normal = self.frames == "all" and label == 0
            return torch.zeros(size, dtype=torch.bool) if known_normal else None
        return None if self.frames == "anomalous" and not mask.any() else mask

    def transform(self, maps: Tensor, size: tuple[int, int]) -> Tensor:
        """What happens to every map, also to those of normal training images: resize, smooth.

        Args:
            maps: (B, h, w) floats.
            size: (H, W) of the mask, or of the images where there is none.

        Returns:
            (B, H, W), or (B, h, w) with size="map".
        """
        target = self._target(maps, size)
        return smooth_maps(resize_maps(maps, target), self.smoothing)

    def prepare(
        self,
        maps: Tensor,
        masks: Sequence[Tensor | None],
        labels: Sequence[int | None] | None = None,
    ) -> tuple[list[Tensor], list[Tensor | None]]:
        """Bring maps and masks of a batch to the same size and leave out what does not count.

        Args:
            maps: (B, h, w) floats.
            masks: B times (H, W) bool or None, of any sizes.
            labels: B times 0, 1 or None.

        Returns:
            B maps (H, W) and B masks of the same size, for ``PixelMetrics.update``. The mask of an
            image that is left out is None, and its map is as it was.

        Raises:
            TypeError: a mask is not bool.
            ValueError: shapes or numbers do not fit.
        """
        if maps.dim() != 3 or len(maps) != len(masks):
            raise ValueError(
                f"maps has shape {tuple(maps.shape)} for {len(masks)} masks; wanted (B, h, w) and "
                "one mask or None per map"
            )
        labels = [None] * len(masks) if labels is None else labels
        if len(labels) != len(masks):
            raise ValueError(f"{len(labels)} labels for {len(masks)} masks; wanted one per mask")
        own = (maps.shape[1], maps.shape[2])
        known = [self.truth(mask, label, own) for mask, label in zip(masks, labels, strict=True)]
        prepared, resized = list(maps), list(known)
        of_size: dict[tuple[int, int], list[int]] = {}
        for index, mask in enumerate(known):
            if mask is not None:
                target = self._target(maps, (mask.shape[0], mask.shape[1]))
                of_size.setdefault(target, []).append(index)
                resized[index] = resize_mask(mask, target)
        for target, indices in of_size.items():
            of_target = smooth_maps(resize_maps(maps[indices], target), self.smoothing)
            for index, scores in zip(indices, of_target, strict=True):
                prepared[index] = scores
        return prepared, resized

    def fit_threshold(self, normal: ScoreCounts) -> float | None:
        """The threshold from normal training maps that went through :meth:`transform`.

        Returns:
            The quantile, or None for an oracle threshold, which only test labels give.

        Raises:
            ValueError: no normal score was counted.
        """
        return None if self.threshold == "oracle" else normal.quantile(self.quantile)

    def _target(self, maps: Tensor, mask_size: tuple[int, int]) -> tuple[int, int]:
        if self.size == "map":
            return maps.shape[1], maps.shape[2]
        return mask_size if isinstance(self.size, str) else self.size


def resize_maps(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize (B, h, w) maps to (B, H, W), bilinear, antialiased when shrinking."""
    if (maps.shape[1], maps.shape[2]) == size:
        return maps
    resized = interpolate(
        maps.unsqueeze(1), size, mode="bilinear", align_corners=False, antialias=True
    )
    return resized.squeeze(1)


def smooth_maps(maps: Tensor, sigma: float) -> Tensor:
    """Gaussian filter of (B, H, W) maps, cut off at 4 sigma, edges repeated outwards.

    Equal to ``scipy.ndimage.gaussian_filter(map, sigma, mode="nearest")`` of each map.
    """
    radius = int(_TRUNCATE * sigma + 0.5)
    if radius == 0:
        return maps
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float64, device=maps.device)
    weights = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = (weights / weights.sum()).to(maps.dtype).view(1, 1, 1, -1)
    padded = pad(maps.unsqueeze(1), (radius, radius, radius, radius), mode="replicate")
    return conv2d(conv2d(padded, kernel), kernel.transpose(2, 3)).squeeze(1)


def _check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name}={value!r} is not known; choose one of {', '.join(choices)}")


def _height_width(size: Sequence[int]) -> tuple[int, int]:
    sides = tuple(size)
    if len(sides) != 2 or any(not isinstance(side, int) or side < 1 for side in sides):
        raise ValueError(f"size is {size!r}; wanted mask, map or (H, W), two positive integers")
    return sides[0], sides[1]
