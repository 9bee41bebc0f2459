"""What every anomaly data set yields: one sample, and how samples make a batch."""

import hashlib
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
    """

    def __len__(self) -> int:
        """Count the samples."""
        raise NotImplementedError(f"{type(self).__name__} has no __len__")

    def __getitem__(self, index: int) -> Sample:
        """Return sample ``index``; IndexError when there is none."""
        raise NotImplementedError(f"{type(self).__name__} has no __getitem__")

    @property
    def digest(self) -> str:
        """SHA-256 over the names and pixels of all samples: equal for equal data only.

        Reads every sample; data sets that know better what they are made of override it.
        """
        total = hashlib.sha256()
        for index in range(len(self)):
            sample = self[index]
            total.update(repr((sample.name, tuple(sample.image.shape))).encode())
            total.update(sample.image.contiguous().numpy().tobytes())
        return total.hexdigest()

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
