"""What every anomaly data set yields: one sample, and how samples make a batch."""

from collections.abc import Sequence
from typing import NamedTuple

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
        name: where the image came from, a path relative to the data set's root.
        group: what belongs together: the clip of a frame, the kind of a defect, the digit.
    """

    image: Tensor
    mask: Tensor | None
    label: int | None
    name: str
    group: str


class SampleDataset(Dataset[Sample]):
    """What every data set of this package is: samples by number, and how many there are.

    A class of its own, not ``Dataset[Sample]``, because jsonargparse builds arguments of a
    parametrised generic type without their options.
    """

    def __len__(self) -> int:
        """Count the samples."""
        raise NotImplementedError(f"{type(self).__name__} has no __len__")

    def __getitem__(self, index: int) -> Sample:
        """Return sample ``index``; IndexError when there is none."""
        raise NotImplementedError(f"{type(self).__name__} has no __getitem__")


class SampleBatch(NamedTuple):
    """B samples: the images stacked, the rest as lists because masks vary in size or are unknown.

    Attributes:
        image: (B, C, h, w) float32 in [0, 1].
        mask: B times (H, W) bool or None.
        label: B times 0, 1 or None.
        name: B names.
        group: B groups.
    """

    image: Tensor
    mask: list[Tensor | None]
    label: list[int | None]
    name: list[str]
    group: list[str]


def collate_samples(samples: Sequence[Sample]) -> SampleBatch:
    """Make a batch; pass it to a ``DataLoader`` as ``collate_fn``.

    Raises:
        ValueError: when the images differ in shape.
    """
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
    )
