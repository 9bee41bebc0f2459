"""Which normal images fit, choose and calibrate a detector: no image does two of these."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from captum_vae.localization.detector.options import Promise
from captum_vae.localization.samples import evenly_spaced

UnitKind = Literal["images", "clips"]


@dataclass(frozen=True)
class Split:
    """Numbers of normal images by what they are used for.

    Attributes:
        fitting: Those that models and scorers are fitted on, in order.
        choosing: Those that defects are painted on; empty where nothing is chosen.
        calibrating: Those that thresholds and p-values come from.
        unit: Whether single images were split, or whole clips.
        clip_of: The clip of every calibrating image, numbered from 0; for images, the image's own
            place among them.
    """

    fitting: tuple[int, ...]
    choosing: tuple[int, ...]
    calibrating: tuple[int, ...]
    unit: UnitKind
    clip_of: tuple[int, ...]

    @property
    def calibrating_units(self) -> int:
        """How many images or clips calibrate."""
        return len(set(self.clip_of))


def split_apart(
    count: int,
    clips: Sequence[str] | None,
    apart: int,
    apart_clips: Sequence[str] | None,
    promise: Promise,
    *,
    choose: bool,
) -> Split:
    """Split normal images where others, kept apart, calibrate.

    Args:
        count: How many normal images there are.
        clips: The clip of every one of them; None where images are independent.
        apart: How many images calibrate; they are numbered from ``count`` on.
        apart_clips: The clip of every one of these.
        promise: Says the share to choose on, the most images of each part, and the seed.
        choose: Whether a part is needed to choose on.

    Raises:
        ValueError: There are too few normal images or clips to fit and to choose on.
    """
    units = _units_of(count, clips)
    if len(units) < 1 + choose:
        raise ValueError(
            f"normal holds {len(units)} {'images' if clips is None else 'clips'}; wanted at least "
            "2, since those that fit and choose are not the same"
        )
    order = list(units)
    random.Random(promise.seed).shuffle(order)
    choosing = min(max(round(promise.choosing * len(units)), 1), len(units) - 1) if choose else 0
    fitting = [index for name in _in_order(units, order[choosing:]) for index in units[name]]
    calibrating = evenly_spaced(list(range(apart)), promise.calibrated)
    names: Sequence[object] = range(apart) if apart_clips is None else apart_clips
    numbers: dict[object, int] = {}
    return Split(
        tuple(evenly_spaced(fitting, promise.fitted)),
        tuple(sorted(index for name in order[:choosing] for index in units[name])),
        tuple(count + index for index in calibrating),
        "images" if apart_clips is None else "clips",
        tuple(numbers.setdefault(names[index], len(numbers)) for index in calibrating),
    )


def _in_order(units: Mapping[object, Any], names: Sequence[object]) -> list[object]:
    """The names in the order in which the units stand."""
    wanted = set(names)
    return [name for name in units if name in wanted]


def _units_of(count: int, clips: Sequence[str] | None) -> dict[object, list[int]]:
    """The numbers of the images of each image or clip."""
    names: Sequence[object] = range(count) if clips is None else clips
    units: dict[object, list[int]] = {}
    for index, name in enumerate(names):
        units.setdefault(name, []).append(index)
    return units


def split_normal(
    count: int, clips: Sequence[str] | None, promise: Promise, *, choose: bool
) -> Split:
    """Split normal images, or whole clips of them, at random.

    Args:
        count: How many normal images there are.
        clips: The clip of every image, where frames of one clip resemble each other; None where
            images are independent.
        promise: Says the shares, the most images of each part, and the seed.
        choose: Whether a part is needed to choose on.

    Raises:
        ValueError: There are too few images or clips to have some for each part.
    """
    units = _units_of(count, clips)
    total, kind = len(units), "images" if clips is None else "clips"
    least = 3 if choose else 2
    if total < least:
        raise ValueError(
            f"normal holds {total} {kind}; wanted at least {least}, since those that fit"
            f"{', those that choose' if choose else ''} and those that calibrate are not the same"
        )
    wanted = max(round(promise.calibrating * total), math.ceil(1 / promise.alpha - 1e-9) - 1)
    calibrating = min(max(wanted, 1), total // 2)
    choosing = (
        min(max(round(promise.choosing * total), 1), total - calibrating - 1) if choose else 0
    )
    order = list(units)
    random.Random(promise.seed).shuffle(order)
    parts = order[:calibrating], order[calibrating : calibrating + choosing]
    fitting = order[calibrating + choosing :]
    rest = [index for name in _in_order(units, fitting) for index in units[name]]
    chosen = evenly_spaced(
        [(place, index) for place, name in enumerate(parts[0]) for index in units[name]],
        promise.calibrated,
    )
    chosen.sort(key=lambda pair: pair[1])
    # Clips are numbered in the order in which their first image is read.
    numbers: dict[int, int] = {}
    clip_of = tuple(numbers.setdefault(place, len(numbers)) for place, _ in chosen)
    return Split(
        tuple(evenly_spaced(rest, promise.fitted)),
        tuple(sorted(index for name in parts[1] for index in units[name])),
        tuple(index for _, index in chosen),
        "images" if clips is None else "clips",
        clip_of,
    )
