"""What every anomaly data set yields: one sample, and how samples make a batch."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset


class Sample(NamedTuple):
    """One image and what is known about it.

    Attributes:
        image: (C, h, w) float32 in [0, 1].
        mask: (H, W) bool, True on anomalous pixels, at the mask's own size, which is that of the
            image before any resizing; None where the ground truth does not exist. All False means
            that the image is known to be normal everywhere, which None does not.
        label: 0 normal, 1 anomalous, None unknown.
        name: Where the image came from, a path relative to the data set's root.
        group: What belongs together: the clip of a frame, the kind of a defect, the digit.
        ignored: (H, W) bool, True on pixels whose truth is not to be counted; None where there
            are none. The mask is False there.
    """

    image: Tensor
    mask: Tensor | None
    label: int | None
    name: str
    group: str
    ignored: Tensor | None = None


class SampleDataset(Dataset[Sample]):
    """What every data set of this package is: samples by number, and how many there are.

    A class of its own, not ``Dataset[Sample]``, because jsonargparse builds arguments of a
    parametrised generic type without their options.

    Attributes:
        groups_are_clips: Whether samples of one group are frames of one video, which resemble each
            other, so that they are no independent images.
    """

    groups_are_clips: bool = False

    def __len__(self) -> int:
        """Count the samples."""
        raise NotImplementedError(f"{type(self).__name__} has no __len__")

    def __getitem__(self, index: int) -> Sample:
        """Return sample ``index``; IndexError when there is none."""
        raise NotImplementedError(f"{type(self).__name__} has no __getitem__")

    @property
    def digest(self) -> str | None:
        """A text that is equal for equal samples only; None where there is no quick way to it."""
        return None

    def describe(self) -> dict[str, str]:
        """What a report should say about the data, by keyword."""
        return {"images": f"{len(self)} images"}


class SampleBatch(NamedTuple):
    """B samples: the images stacked, the rest as lists because masks vary in size or are unknown.

    Attributes:
        image: (B, C, h, w) float32 in [0, 1].
        mask: B times (H, W) bool or None.
        label: B times 0, 1 or None.
        name: B names.
        group: B groups.
        ignored: B times (H, W) bool or None; empty where no data set ignores pixels.
    """

    image: Tensor
    mask: list[Tensor | None]
    label: list[int | None]
    name: list[str]
    group: list[str]
    ignored: Sequence[Tensor | None] = ()


def check_samples(argument: str, dataset: Any) -> int:
    """Refuse anything but a data set with samples, and count them.

    Args:
        argument: Name of the argument.
        dataset: What was given for it.

    Raises:
        TypeError: It has no length or no items.
        ValueError: It is empty.
    """
    if isinstance(dataset, str | Mapping) or not (
        hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")
    ):
        raise TypeError(
            f"{argument} is a {type(dataset).__name__}; wanted a data set of samples, as "
            "captum_vae.data.ImageFolder"
        )
    size = len(dataset)
    if size == 0:
        raise ValueError(f"{argument} is empty; wanted at least one sample")
    return size


def digest_of(*parts: object) -> str:
    """SHA-256 of the parts' texts, for data sets that follow from options and other data sets."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def collate_samples(samples: Sequence[Sample]) -> SampleBatch:
    """Make a batch; pass it to a ``DataLoader`` as ``collate_fn``.

    Raises:
        TypeError: Something other than a :class:`Sample` is among them.
        ValueError: The images differ in shape, or there are none.
    """
    if not samples:
        raise ValueError("samples is empty; wanted at least one to make a batch")
    for sample in samples:
        if not isinstance(sample, Sample):
            raise TypeError(
                f"samples holds a {type(sample).__name__}; wanted captum_vae.data.Sample, as every "
                "SampleDataset gives"
            )
    shapes = {tuple(sample.image.shape) for sample in samples}
    if len(shapes) > 1:
        raise ValueError(
            f"images of one batch have the shapes {sorted(shapes)}; give the data set an "
            "image_size, or use batch_size=1"
        )
    return SampleBatch(
        torch.stack([sample.image for sample in samples]),
        [sample.mask for sample in samples],
        [sample.label for sample in samples],
        [sample.name for sample in samples],
        [sample.group for sample in samples],
        [sample.ignored for sample in samples],
    )
