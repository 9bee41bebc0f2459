"""What a person gives as images: paths, arrays, tensors or data sets, as samples without labels."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader

from captum_vae.data.image_bytes import as_batch
from captum_vae.data.sample import Sample, SampleDataset
from captum_vae.data.sources import ImageSources
from captum_vae.data.value_range import check_unit_range
from captum_vae.localization.samples import SampleSubset, dataset_of, described

_WANTED = (
    "a folder or another path (or a list of them), an array or tensor of images, or a data set of "
    "images or Samples"
)
_FEWEST_CLIPS = 4
_SEGMENTS = 40
"""Segments that fewer clips are cut into: enough for alpha = .05 when half of them calibrate."""


class Unlabelled(SampleSubset):
    """The images of a data set by their numbers, their labels and masks left out.

    Args:
        samples: The data set.
        indices: The numbers.
        normal: What messages call the images where none may be known to be anomalous; None lets
            everything pass.
    """

    def __init__(
        self, samples: SampleDataset, indices: Sequence[int], *, normal: str | None = None
    ) -> None:
        """Keep the data set and the numbers."""
        super().__init__(samples, indices)
        self.normal = normal

    def __getitem__(self, index: int) -> Sample:
        """Return an image without what is known about it."""
        sample = super().__getitem__(index)
        known = sample.label == 1 or (sample.mask is not None and bool(sample.mask.any()))
        if known and self.normal is not None:
            raise ValueError(
                f"{self.normal} holds {sample.name!r}, which is anomalous; wanted normal images "
                "only"
            )
        check_unit_range(sample.image, f"image {sample.name!r}")
        return sample._replace(mask=None, label=None, ignored=None)


class Joined(SampleDataset):
    """Images of several data sets as one, in a given order.

    Args:
        parts: A data set and the number of one of its images, for each image.
    """

    def __init__(self, parts: Sequence[tuple[SampleDataset, int]]) -> None:
        """Keep the parts."""
        self.parts = list(parts)

    def __len__(self) -> int:
        """Count the images."""
        return len(self.parts)

    def __getitem__(self, index: int) -> Sample:
        """Read an image of the data set that holds it."""
        samples, place = self.parts[index]
        return samples[place]


def numbers_without(samples: SampleDataset, others: SampleDataset) -> list[int]:
    """Numbers of the images that are no file of the others; without paths, all.

    Images of one array or video are told apart by their numbers.
    """
    if not (isinstance(samples, ImageSources) and isinstance(others, ImageSources)):
        return list(range(len(samples)))
    known = {
        (os.path.realpath(others.path(index)), _frame(others.name(index)))
        for index in range(len(others))
    }
    return [
        index
        for index in range(len(samples))
        if (os.path.realpath(samples.path(index)), _frame(samples.name(index))) not in known
    ]


def samples_of(
    images: Any, argument: str, *, size: tuple[int, int] | None, channels: int | None
) -> SampleDataset:
    """A person's images as samples that can be read by number.

    Args:
        images: Paths, an array, a tensor, or a data set.
        argument: What messages call them.
        size: (h, w) that files and arrays are brought to; None keeps their own.
        channels: 1 or 3, which they are converted to; None takes what they have.

    Raises:
        TypeError: They are something else, or can be gone through once only.
        ValueError: There are none.
        FileNotFoundError: There is no such path.
    """
    if isinstance(images, str | os.PathLike) or _is_paths(images):
        return ImageSources(images, image_size=size, channels=channels)
    if isinstance(images, np.ndarray) or _is_arrays(images):
        found = channels or (3 if _colour(images) else 1)
        images = as_batch(images, found, size)
    if isinstance(images, DataLoader):
        raise TypeError(f"{argument} is a DataLoader; pass its data set")
    # One of this package knows its files, which a wrapper around anybody's data set hides.
    own = isinstance(images, SampleDataset)
    samples = images if own else dataset_of(images, argument, truth=False)
    if samples is None:
        raise TypeError(f"{argument} is {described(images)}; wanted {_WANTED}")
    if not len(samples):
        raise ValueError(f"{argument} is empty; wanted at least one image")
    return samples


def clips_of(samples: SampleDataset, clips: Sequence[str] | None, units: str) -> list[str] | None:
    """The clip of every normal image where frames of one clip resemble each other, else None.

    Args:
        samples: The images.
        clips: A name per image, given by the person; None takes the groups of the data.
        units: "auto", "images" or "clips".

    Raises:
        ValueError: Clips are asked for and unknown, or there are not as many names as images.
    """
    if clips is not None:
        if len(clips) != len(samples):
            raise ValueError(f"clips has {len(clips)} names for {len(samples)} images")
        return [str(name) for name in clips]
    if units == "images" or (units == "auto" and not samples.groups_are_clips):
        return None
    groups = getattr(samples, "groups", None)
    if groups is None:
        groups = [samples[index].group for index in range(len(samples))]
    if not all(groups) and len(set(groups)) < 2:
        raise ValueError(
            "units='clips' needs to know which clip each image is of; put each clip into its own "
            "folder, give Samples with a group, or pass clips=[...], a name per image"
        )
    return list(groups)


def segments_of(clips: Sequence[str]) -> tuple[list[str], str]:
    """Too few clips to leave whole ones out, cut into segments of consecutive frames.

    Args:
        clips: The clip of every frame, in order.

    Returns:
        The segment of every frame, and what a person should know about it; the clips themselves
        and nothing where there are enough.
    """
    count = len(set(clips))
    length = max(1, -(-len(clips) // _SEGMENTS))
    if count >= _FEWEST_CLIPS or len(clips) <= _SEGMENTS:
        return list(clips), ""
    seen: dict[str, int] = {}
    segments = []
    for clip in clips:
        seen[clip] = seen.get(clip, -1) + 1
        segments.append(f"{clip} {seen[clip] // length}")
    return segments, (
        f"{count} {'clip is' if count == 1 else 'clips are'} too few to leave whole ones out: cut "
        f"into {len(set(segments))} segments of up to {length} frames, which are taken as clips; "
        "neighbouring segments resemble each other, so that new videos may pass less well than "
        "promised"
    )


def digest_of_images(samples: SampleDataset) -> str | None:
    """A text that is equal for equal images only; None where there is no quick way to it."""
    known = samples.digest
    if known is not None:
        return known
    if isinstance(samples, ImageSources):
        total = hashlib.sha256()
        for index in range(len(samples)):
            total.update(samples.name(index).encode("utf-8", "surrogatepass"))
        for path in sorted({samples.path(index) for index in range(len(samples))}):
            total.update(hashlib.sha256(path.read_bytes()).digest())
        return total.hexdigest()
    images = getattr(samples, "images", None)
    if isinstance(images, Tensor):
        return hashlib.sha256(images.detach().cpu().contiguous().numpy().tobytes()).hexdigest()
    return None


def _frame(name: str) -> str:
    """The number of an image within its array or video; nothing for a file of its own."""
    last = name.rpartition("/")[2]
    return last if last.isdecimal() else ""


def _is_paths(images: object) -> bool:
    return (
        isinstance(images, list | tuple)
        and bool(images)
        and all(isinstance(item, str | Path) for item in images)
    )


def _is_arrays(images: object) -> bool:
    return (
        isinstance(images, list | tuple)
        and bool(images)
        and all(isinstance(item, np.ndarray) and item.ndim in (2, 3) for item in images)
    )


def _colour(images: Any) -> bool:
    shape = np.asarray(images[0]).shape
    return len(shape) == 3 and 3 in (shape[0], shape[2])
