"""Images without a data set's layout: a folder, one file, or an array."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from captum_vae.checks import warn_caller, whole_number
from captum_vae.data.array_files import array_names, read_npy, read_npz
from captum_vae.data.companions import set_aside
from captum_vae.data.decode import probe_image
from captum_vae.data.image_dataset import ImageFileDataset
from captum_vae.data.image_file import UNKNOWN, ImageFile
from captum_vae.data.listing import Listing, as_path, counted_reasons, list_images, readable_name
from captum_vae.data.resize import ImageSize, height_width
from captum_vae.data.sample import Sample, SampleDataset, digest_of
from captum_vae.files import reading

ARRAY_SUFFIXES = (".npy", ".npz", ".pt", ".pth")
_GREY = (0.299, 0.587, 0.114)
"""Weights of red, green and blue, as Pillow converts files."""


class ArrayImages(SampleDataset):
    """Images out of one array.

    Args:
        images: (N, C, h, w) floats in [0, 1].
        name: Name of the array; its images are ``name[0]``, ``name[1]``, ...
    """

    def __init__(self, images: Tensor, name: str) -> None:
        """Keep the images."""
        self.images = images
        self.name = name

    def __len__(self) -> int:
        """Count the images."""
        return len(self.images)

    @property
    def digest(self) -> str:
        """SHA-256 over the pixels and the name."""
        pixels = hashlib.sha256(self.images.contiguous().numpy().tobytes()).hexdigest()
        return digest_of(self.name, tuple(self.images.shape), pixels)

    def __getitem__(self, index: int) -> Sample:
        """Return image ``index``."""
        return Sample(self.images[index], None, None, f"{self.name}[{index}]", "")


class _GivenFiles(ImageFileDataset):
    """Image files that a person pointed at, without options for how to read them."""

    _has_options: ClassVar[bool] = False


def read_images(
    path: str | Path, *, image_size: ImageSize = None, channels: int | None = None
) -> SampleDataset:
    """The images at ``path``, brought to one size and number of channels.

    An array is (h, w), (N, h, w), (N, C, h, w) or (N, h, w, C) with C of 1 or 3 (or of
    ``channels``), as bytes from 0 to 255 or as numbers from 0 to 1. Where the shape fits two of
    these, or bytes hold only 0 and 1, it is refused.

    Args:
        path: A folder (searched with its subfolders), an image file, or an array in .npy, .npz
            (the array ``images``, or the only one) or .pt.
        image_size: (h, w), or one number for a square; None keeps their own.
        channels: 1 for grey, 3 for colour; None keeps their own.

    Returns:
        A data set of samples without masks and labels.

    Raises:
        FileNotFoundError: Nothing is there.
        ValueError: There are no images, or an array of another shape or range, or a damaged file.
    """
    path = as_path("images", path)
    size = height_width(image_size)
    if channels is not None:
        channels = whole_number("channels", channels, least=1)
    with reading(path, "a folder or a file of images"):
        path.stat()
    if path.is_file() and path.suffix.lower() in ARRAY_SUFFIXES:
        images = _as_images(_array(path), path, channels)
        return ArrayImages(_fitted(images, size, channels), readable_name(Path(path.stem)))
    found = Listing(images=[path])
    if path.is_dir():
        told = set_aside(path, list_images(path))
        found = Listing(told.images, told.passed_over)
    if not found.images:
        others = counted_reasons(found.passed_over)
        raise ValueError(
            f"images: no images in {path} or its subfolders{f', only {others}' if others else ''}"
        )
    folder = path if path.is_dir() else path.parent
    named = [
        ImageFile(file, readable_name(file.relative_to(folder)), "", None, UNKNOWN)
        for file in found.images
    ]
    wanted: Any = channels or (3 if any(probe_image(f).channels == 3 for f in found.images) else 1)
    if wanted not in (1, 3):
        raise ValueError(
            f"the model takes {wanted} channels, and image files have 1 or 3; give the images as "
            "an array (.npy, .npz, .pt) of shape (N, C, h, w)"
        )
    return _GivenFiles(
        named,
        passed_over=found.passed_over,
        image_size=size,
        image_channels=wanted,
        cache="none",
    )


def _array(path: Path) -> np.ndarray[Any, Any]:
    if path.suffix.lower() == ".npy":
        return read_npy(path)
    if path.suffix.lower() == ".npz":
        return read_npz(path, [_chosen(array_names(path), path)])[0]
    wanted = "an array, or several of which one is named images"
    with reading(path, wanted, remedy="save one tensor with torch.save"):
        try:
            loaded: Any = torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            # PyTorch's own words advise to switch the protection off.
            raise ValueError("it holds more than tensors, or is damaged") from error
        if isinstance(loaded, dict):
            loaded = loaded[_chosen([str(name) for name in loaded], path)]
        if not isinstance(loaded, Tensor):
            raise ValueError(f"it holds a {type(loaded).__name__}")
        loaded = loaded.detach().to_dense() if loaded.layout != torch.strided else loaded.detach()
        if loaded.dtype == torch.bfloat16:
            loaded = loaded.float()
        return np.asarray(loaded.resolve_conj().resolve_neg().numpy())


def _chosen(names: list[str], path: Path) -> str:
    if "images" not in names and len(names) != 1:
        raise ValueError(
            f"images: {path} holds {', '.join(names) or 'nothing'}; wanted an array named images, "
            "or one alone"
        )
    return "images" if "images" in names else names[0]


def _as_images(array: np.ndarray[Any, Any], path: Path, channels: int | None) -> Tensor:
    """(N, C, h, w) float32 in [0, 1]."""
    if array.dtype.kind not in "buif":
        raise ValueError(f"images: {path} holds {array.dtype}; wanted real numbers or bytes")
    array = _with_channels_first(array, path, channels)
    if array.dtype == np.uint8:
        top = int(array.max())
        if top == 1:
            raise ValueError(
                f"images: {path} holds bytes of 0 and 1 only, which may be black and white or "
                "nearly black; save them as booleans, as numbers from 0 to 1, or as 0 and 255"
            )
        if 1 < top < 64:
            warn_caller(
                f"{path} holds bytes up to {top}, which read nearly black, since 255 is white; "
                "save numbers from 0 to 1 if they are not meant so"
            )
        return torch.from_numpy(array.astype(np.float32) / 255)
    images = array.astype(np.float32)
    low, high = float(images.min()), float(images.max())
    if not (low >= 0 and high <= 1):
        finite = bool(np.isfinite(images).all())
        found = f"run from {low:.4g} to {high:.4g}" if finite else "are not finite"
        raise ValueError(
            f"images: the values of {path} {found}; wanted bytes, or numbers from 0 (black) to 1"
        )
    return torch.from_numpy(images)


def _with_channels_first(
    array: np.ndarray[Any, Any], path: Path, channels: int | None
) -> np.ndarray[Any, Any]:
    shape = array.shape
    known = (1, 3) if channels is None else tuple({1, 3, channels})
    if 0 in shape or array.ndim not in (2, 3, 4):
        raise ValueError(
            f"images: {path} holds an array of shape {shape}; wanted (h, w), (N, h, w), "
            "(N, C, h, w) or (N, h, w, C), none of them 0. Signals and volumes are explained from "
            "Python: LatentGradCAM(model, layer).attribute(signals)"
        )
    if array.ndim == 2:
        return array[None, None]
    if array.ndim == 3:
        if shape[0] == 3 or (shape[2] in (1, 3, 4) and shape[0] != 1):
            raise ValueError(
                f"images: {path} holds an array of shape {shape}, which may be one colour image "
                "or several grey ones; save it as (N, C, h, w)"
            )
        return array[:, None]
    first, last = shape[1] in known, shape[3] in known
    if first and last and shape[1] != shape[3] and channels in (shape[1], shape[3]):
        first, last = shape[1] == channels, shape[3] == channels
    if first == last:
        raise ValueError(
            f"images: {path} holds an array of shape {shape}, of which neither or both of the "
            f"second and the last side can be channels; wanted (N, C, h, w) with C of "
            f"{' or '.join(str(count) for count in sorted(known))}"
        )
    return array if first else array.transpose(0, 3, 1, 2)


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
