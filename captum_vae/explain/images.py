"""The images to explain: a folder, one file, or an array, as the model wants them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum_vae.data.decode import probe_image
from captum_vae.data.files import UNKNOWN, ImageFile, ImageFileDataset, image_files
from captum_vae.data.resize import ImageSize, height_width
from captum_vae.data.sample import Sample, SampleDataset
from captum_vae.models import GaussianVAE

ARRAYS = (".npy", ".npz", ".pt", ".pth")
_GREY = (0.299, 0.587, 0.114)
"""Weights of red, green and blue, as Pillow converts files."""


class ArrayImages(SampleDataset):
    """Images out of one array.

    Args:
        images: (N, C, h, w) in [0, 1].
        name: of the array; images are ``name[0]``, ``name[1]``, ...
    """

    def __init__(self, images: Tensor, name: str) -> None:
        """Keep them."""
        self.images = images
        self.name = name

    def __len__(self) -> int:
        """Count them."""
        return len(self.images)

    def __getitem__(self, index: int) -> Sample:
        """Return image ``index``."""
        return Sample(self.images[index], None, None, f"{self.name}[{index}]", "")


def read_images(
    path: str | Path, *, image_size: ImageSize = None, channels: int | None = None
) -> SampleDataset:
    """The images at ``path``, brought to one size and number of channels.

    Args:
        path: a folder (searched with its subfolders), an image file, or an array in .npy, .npz
            (the array ``images``, or the only one) or .pt: (h, w), (N, h, w), (N, C, h, w) or
            (N, h, w, C) with C of 1 or 3, as bytes or as floats in [0, 1].
        image_size: (h, w), or one number for a square; None keeps their own.
        channels: 1 for grey, 3 for colour; None keeps their own.

    Raises:
        FileNotFoundError: nothing there.
        ValueError: no images, or an array of another shape or range.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"images: {path} does not exist; wanted a folder or a file")
    if path.is_file() and path.suffix.lower() in ARRAYS:
        images = _as_images(_array(path), path)
        return ArrayImages(_fitted(images, height_width(image_size), channels), path.stem)
    files = image_files(path, recursive=True) if path.is_dir() else [path]
    if not files:
        raise ValueError(f"images: no images in {path} or its subfolders")
    folder = path if path.is_dir() else path.parent
    named = [ImageFile(f, f.relative_to(folder).as_posix(), "", None, UNKNOWN) for f in files]
    wanted: Any = channels or (1 if {probe_image(f).channels for f in files} == {1} else 3)
    if wanted not in (1, 3):
        raise ValueError(
            f"the model takes {wanted} channels, and image files have 1 or 3; give the images as "
            "an array (.npy, .npz, .pt) of shape (N, C, h, w)"
        )
    return ImageFileDataset(named, image_size=image_size, image_channels=wanted, cache="none")


def expected_images(model: nn.Module) -> tuple[int | None, tuple[int, int] | None]:
    """Channels and (h, w) that a model states it was built for; None where it does not say."""
    if isinstance(model, GaussianVAE):
        height, width = model.image_size
        return model.in_channels, (height, width)
    # pythae and torchvision-like models keep (C, h, w).
    stated = getattr(model, "input_dim", None)
    if isinstance(stated, Sequence) and len(stated) == 3:
        channels, height, width = (int(side) for side in stated)
        return channels, (height, width)
    return None, None


def _array(path: Path) -> Tensor:
    if path.suffix.lower() in (".pt", ".pth"):
        loaded: Any = torch.load(path, map_location="cpu", weights_only=True)
    else:
        try:
            loaded = np.load(path, allow_pickle=False)
        except ValueError as error:
            raise ValueError(f"images: {path} does not load without pickle: {error}") from error
    if not isinstance(loaded, np.ndarray | Tensor):
        names = list(loaded)
        if "images" not in names and len(names) != 1:
            raise ValueError(
                f"images: {path} holds {', '.join(map(str, names))}; wanted an array named images, "
                "or one alone"
            )
        loaded = loaded["images" if "images" in names else names[0]]
    return loaded if isinstance(loaded, Tensor) else torch.from_numpy(np.ascontiguousarray(loaded))


def _as_images(array: Tensor, path: Path) -> Tensor:
    """(N, C, h, w) float32 in [0, 1]."""
    shape = tuple(array.shape)
    if array.dim() == 2:
        array = array[None, None]
    elif array.dim() == 3:
        array = array[:, None]
    elif array.dim() == 4 and shape[1] not in (1, 3) and shape[3] in (1, 3):
        array = array.permute(0, 3, 1, 2)
    if array.dim() != 4 or 0 in shape:
        raise ValueError(
            f"images: {path} holds an array of shape {shape}; wanted (h, w), (N, h, w), "
            "(N, C, h, w) or (N, h, w, C)"
        )
    images = array.float()
    if array.dtype == torch.uint8:
        return images / 255
    low, high = float(images.min()), float(images.max())
    if not (low >= 0 and high <= 1):
        raise ValueError(
            f"images: the values of {path} run from {low:.4g} to {high:.4g}; wanted bytes, or "
            "numbers from 0 to 1 (value_range then brings them to the model's own range)"
        )
    return images


def _fitted(images: Tensor, size: tuple[int, int] | None, channels: int | None) -> Tensor:
    if size is not None and tuple(images.shape[2:]) != size:
        images = F.interpolate(images, size, mode="bilinear", antialias=True).clamp(0, 1)
    own = images.shape[1]
    if channels is None or channels == own:
        return images
    if own == 1:
        return images.expand(-1, channels, -1, -1)
    if (own, channels) == (3, 1):
        return (images * torch.tensor(_GREY)[:, None, None]).sum(1, keepdim=True)
    raise ValueError(f"images have {own} channels and the model takes {channels}; give it those")


def to_range(images: Tensor, value_range: Sequence[float]) -> Tensor:
    """Images from [0, 1] to what the model was trained on, such as [-1, 1].

    Raises:
        ValueError: not two numbers, low before high.
    """
    if len(value_range) != 2 or not value_range[0] < value_range[1]:
        raise ValueError(f"value_range is {list(value_range)}; wanted [low, high], such as [-1, 1]")
    low, high = value_range
    return images if (low, high) == (0, 1) else images * (high - low) + low
