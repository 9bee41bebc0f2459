"""Augmentation of the published MVTec experiment: rotation, mirror, and what fills the corners."""

import math
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from captum_vae.checks import check_choice, checked_seed, real_number, whole_number
from captum_vae.data.defect_options import checked_share
from captum_vae.data.resize import check_mask
from captum_vae.data.sample import Sample, SampleDataset, check_samples, digest_of

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
        dataset: Where samples come from; sample i is made from ``dataset[i % len(dataset)]``.
        length: How many samples; None for as many as ``dataset`` has.
        rotation: The angle is uniform in [-rotation, rotation] degrees.
        mirror: Probability of a left-right mirror image.
        padding: What appears where nothing was: "black", the "corner" pixel's colour, or the
            image continued by "reflect" or "edge".
        seed: A whole number that is not negative.

    Raises:
        TypeError: An option has the wrong type, or ``dataset`` is no data set.
        ValueError: An option is out of range, or the data set is empty.
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
        check_choice("padding", padding, PADDINGS)
        self._size = check_samples("dataset", dataset)
        self.dataset = dataset
        self._length = self._size if length is None else whole_number("length", length, least=1)
        self._rotation = checked_share("rotation", rotation, most=180)
        self._mirror = checked_share("mirror", mirror)
        self._padding = padding
        self._seed = checked_seed(seed)
        # In shared memory, so that persistent workers see the epoch change.
        self._epoch = torch.zeros((), dtype=torch.int64)
        self._epoch.share_memory_()  # type: ignore[no-untyped-call]

    def __len__(self) -> int:
        """Return ``length``."""
        return self._length

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
        ignored = sample.ignored
        if ignored is not None:
            ignored = ignored.flip(-1) if mirrored else ignored
            ignored = rotate_mask(ignored, degrees) if degrees else ignored
        return sample._replace(image=image, mask=mask, ignored=ignored)

    @property
    def digest(self) -> str | None:
        """SHA-256 over the data set's digest and the options; None where it has none."""
        below = getattr(self.dataset, "digest", None)
        options = (self._length, self._rotation, self._mirror, self._padding, self._seed)
        return None if below is None else digest_of("Augmented", below, options)

    def augmentation(self, index: int) -> Augmentation:
        """Return what is drawn for sample ``index`` in this epoch.

        Raises:
            IndexError: The index is not in [0, length).
        """
        if not 0 <= index < self._length:
            raise IndexError(f"index {index} is not in [0, {self._length})")
        random = np.random.default_rng((self._seed, int(self._epoch), index))
        degrees = random.uniform(-self._rotation, self._rotation)
        return Augmentation(float(degrees), bool(random.random() < self._mirror))

    def set_epoch(self, epoch: int) -> None:
        """Draw anew; call it before iterating, as with ``DistributedSampler``.

        Raises:
            TypeError: ``epoch`` is no whole number.
            ValueError: It is negative.
        """
        self._epoch.fill_(whole_number("epoch", epoch, least=0, most=2**63 - 1))


def rotate_image(image: Tensor, degrees: float, *, padding: Padding = "black") -> Tensor:
    """Rotate about the centre, bilinearly.

    Args:
        image: (C, h, w) floats in [0, 1].
        degrees: Angle counter-clockwise, in degrees, not radians.
        padding: "black", "corner" (the top left pixel's colour), "reflect" or "edge".

    Returns:
        (C, h, w) in [0, 1].

    Raises:
        TypeError: The image is no tensor of floats, or the angle no number.
        ValueError: The padding is unknown, or the image is not (C, h, w) with some pixels.
    """
    check_choice("padding", padding, PADDINGS)
    degrees = real_number("degrees", degrees)
    if not isinstance(image, Tensor) or not image.is_floating_point():
        found = image.dtype if isinstance(image, Tensor) else f"a {type(image).__name__}"
        raise TypeError(f"image is {found}; wanted a tensor of floats (C, h, w)")
    if image.dim() != 3 or not image.numel():
        raise ValueError(f"image has the shape {tuple(image.shape)}; wanted (C, h, w), none 0")
    grid = _rotation_grid(image.shape[-2], image.shape[-1], degrees).to(image)
    # Zero padding of the difference to the corner's colour fills with that colour.
    fill = image[:, :1, :1] if padding == "corner" else None
    mode = {"reflect": "reflection", "edge": "border"}.get(padding, "zeros")
    rotated = F.grid_sample(
        (image if fill is None else image - fill)[None],
        grid,
        mode="bilinear",
        padding_mode=mode,
        align_corners=False,
    )[0]
    return (rotated if fill is None else rotated + fill).clamp_(0, 1)


def rotate_mask(mask: Tensor, degrees: float) -> Tensor:
    """Rotate a mask as its image is rotated, by nearest neighbour; what comes in is False.

    Args:
        mask: (H, W) bool.
        degrees: Angle counter-clockwise, in degrees, not radians.

    Returns:
        (H, W) bool.

    Raises:
        TypeError: The mask is no boolean tensor, or the angle no number.
        ValueError: The mask is not (H, W) with some pixels.
    """
    check_mask("mask", mask)
    degrees = real_number("degrees", degrees)
    if not mask.any():
        # The mask of a normal image, whichever way it is turned.
        return mask.clone()
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
