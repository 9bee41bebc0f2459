"""Augmentation of the published MVTec experiment: rotation, mirror, and what fills the corners."""

import hashlib
import math
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from captum_vae.data.sample import Sample, SampleDataset

Padding: TypeAlias = Literal["black", "corner", "reflect", "edge"]
PADDINGS: tuple[Padding, ...] = ("black", "corner", "reflect", "edge")


class Augmentation(NamedTuple):
    """What was drawn for one sample: ``degrees`` counter-clockwise, after mirroring or not."""

    degrees: float
    mirrored: bool


class Augmented(SampleDataset):
    """``length`` randomly mirrored and rotated versions of a data set's samples.

    What is drawn depends on (seed, epoch, index) alone: not on the number of workers, the order
    of access, or any global random state. Without :meth:`set_epoch` every epoch is the same, a
    fixed enlarged data set as in the published experiment.

    Args:
        dataset: where samples come from; sample i is made from ``dataset[i % len(dataset)]``.
        length: how many samples; None for as many as ``dataset`` has.
        rotation: degrees; the angle is uniform in [-rotation, rotation].
        mirror: probability of a left-right mirror image.
        padding: what appears where nothing was: "black", the "corner" pixel's colour, or the
            image continued by "reflect" or "edge".
        seed: a non-negative number.

    Raises:
        ValueError: for options out of range or an empty data set.
    """

    def __init__(
        self,
        dataset: SampleDataset,
        length: int | None = None,
        *,
        rotation: float = 30.0,
        mirror: float = 0.5,
        padding: Padding = "black",
        seed: int = 0,
    ) -> None:
        """Check the options; nothing is drawn yet."""
        size = len(dataset)
        if size == 0:
            raise ValueError("dataset is empty; wanted at least one sample")
        if length is not None and length < 1:
            raise ValueError(f"length is {length}; wanted at least 1, or None")
        if not 0 <= rotation <= 180:
            raise ValueError(f"rotation is {rotation}; wanted degrees from 0 to 180")
        if not 0 <= mirror <= 1:
            raise ValueError(f"mirror is {mirror}; wanted a probability from 0 to 1")
        if seed < 0:
            raise ValueError(f"seed is {seed}; wanted 0 or more")
        _check_padding(padding)
        self.dataset = dataset
        self._size = size
        self._length = size if length is None else length
        self._rotation, self._mirror, self._padding = rotation, mirror, padding
        self._seed = seed
        # In shared memory, so that persistent workers see the epoch change.
        self._epoch = torch.zeros((), dtype=torch.int64)
        self._epoch.share_memory_()  # type: ignore[no-untyped-call]

    def __len__(self) -> int:
        """Return ``length``."""
        return self._length

    @property
    def digest(self) -> str:
        """SHA-256 over the options and the digest of the data set; nothing is drawn for it."""
        options = (self._length, self._rotation, self._mirror, self._padding, self._seed)
        return hashlib.sha256(repr((self.dataset.digest, options)).encode()).hexdigest()

    def __getitem__(self, index: int) -> Sample:
        """Return augmented sample ``index``."""
        degrees, mirrored = self.augmentation(index)
        sample = self.dataset[index % self._size]
        image, mask = sample.image, sample.mask
        if mirrored:
            image = image.flip(-1)
            mask = None if mask is None else mask.flip(-1)
        if degrees:
            image = rotate_image(image, degrees, padding=self._padding)
            mask = None if mask is None else rotate_mask(mask, degrees)
        return sample._replace(image=image, mask=mask)

    def augmentation(self, index: int) -> Augmentation:
        """Return what is drawn for sample ``index`` in this epoch.

        Raises:
            IndexError: for an index that is not in [0, length).
        """
        if not 0 <= index < self._length:
            raise IndexError(f"index {index} is not in [0, {self._length})")
        random = np.random.default_rng((self._seed, int(self._epoch), index))
        degrees = random.uniform(-self._rotation, self._rotation)
        return Augmentation(float(degrees), bool(random.random() < self._mirror))

    def set_epoch(self, epoch: int) -> None:
        """Draw anew; call it before iterating, as with ``DistributedSampler``."""
        self._epoch.fill_(epoch)


def rotate_image(image: Tensor, degrees: float, *, padding: Padding = "black") -> Tensor:
    """Rotate about the centre, bilinearly.

    Args:
        image: (C, h, w) floating, in [0, 1].
        degrees: counter-clockwise, in degrees, not radians.
        padding: "black", "corner" (the top left pixel's colour), "reflect" or "edge".

    Returns:
        (C, h, w) in [0, 1].

    Raises:
        ValueError: for an unknown padding.
    """
    _check_padding(padding)
    grid = _rotation_grid(image.shape[-2], image.shape[-1], degrees).to(image)
    # Zero padding of the difference to the corner's colour fills with that colour.
    fill = image[:, :1, :1] if padding == "corner" else image.new_zeros(())
    mode = {"reflect": "reflection", "edge": "border"}.get(padding, "zeros")
    rotated = F.grid_sample(
        (image - fill)[None], grid, mode="bilinear", padding_mode=mode, align_corners=False
    )
    return (rotated[0] + fill).clamp(0, 1)


def rotate_mask(mask: Tensor, degrees: float) -> Tensor:
    """Rotate a mask (H, W) bool like its image, by nearest neighbour; what comes in is False."""
    grid = _rotation_grid(mask.shape[0], mask.shape[1], degrees).to(mask.device)
    pixels = mask.to(torch.float32)[None, None]
    rotated = F.grid_sample(pixels, grid, mode="nearest", padding_mode="zeros", align_corners=False)
    return rotated[0, 0] > 0.5


def _rotation_grid(height: int, width: int, degrees: float) -> Tensor:
    """(1, h, w, 2): where each pixel comes from; rigid in pixels also when h differs from w."""
    angle = math.radians(degrees)
    cosine, sine = math.cos(angle), math.sin(angle)
    matrix = [[cosine, -sine * height / width, 0.0], [sine * width / height, cosine, 0.0]]
    return F.affine_grid(torch.tensor([matrix]), [1, 1, height, width], align_corners=False)


def _check_padding(padding: str) -> None:
    if padding not in PADDINGS:
        raise ValueError(f"padding is {padding!r}; wanted one of {', '.join(PADDINGS)}")
