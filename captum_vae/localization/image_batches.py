"""Normal and test images as batches, whatever holds them: data sets, loaders, tensors, lists."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, DistributedSampler, RandomSampler

from captum_vae.data.loading import loaded
from captum_vae.data.sample import SampleBatch, collate_samples
from captum_vae.data.value_range import UNIT, ValueRange, to_value_range
from captum_vae.localization.samples import (
    WANTED,
    SampleSubset,
    TensorSamples,
    dataset_of,
    described,
)
from captum_vae.processes import process_count, rank
from captum_vae.progress import ProgressBar


class ImageBatches:
    """Batches of images and what is known about them, to be gone through several times.

    Attributes:
        argument: What messages call the data.
        shape: (C, H, W) of the images read last; None before any was.

    Args:
        data: A data set whose items are :class:`~captum_vae.data.Sample`, images, or tuples (image,
            mask) or (image, mask, label); a DataLoader or a list of batches of such; one tensor of
            images (N, C, H, W); or a tuple of tensors (images, masks) or (images, masks, labels).
            A mask (H, W) or (1, H, W) holds True or 1 on anomalous pixels, False or 0 elsewhere,
            and is None where the truth is unknown.
        argument: What messages call the data.
        batch_size: Images per batch; a DataLoader and a list have their own batches.
        workers: Processes that load the images of a data set.
        device: Where images go; None leaves them where they are.
        bar: Wraps the batches for a progress bar.
        truth: Whether masks are wanted. Without, a second item that is no mask, such as the class
            of a labelled image, is passed over.
        shared: Under torch.distributed, take this process's share of the images only. Every
            process is given the same data.
        value_range: The range that images in [0, 1] are brought to, see
            :func:`captum_vae.data.value_range.to_value_range`.

    Raises:
        TypeError: The data is of another type, or can be gone through once only.
        ValueError: The data cannot be shared; or, when it is read, it is empty or malformed, or
            holds an anomalous image where no truth is wanted.
    """

    def __init__(
        self,
        data: Any,
        argument: str,
        *,
        batch_size: int = 32,
        workers: int = 0,
        device: torch.device | None = None,
        bar: ProgressBar = lambda batches, title: batches,
        truth: bool = True,
        shared: bool = False,
        value_range: ValueRange = UNIT,
    ) -> None:
        """Find out what the data is; nothing is read yet."""
        self.argument = argument
        self.device = device
        self.bar = bar
        self.shape: tuple[int, ...] | None = None
        self._truth = truth
        self._range = value_range
        self._rank, self._processes = (rank(), process_count()) if shared else (0, 1)
        self._batches: Iterable[Any]
        self._share: list[int] | None = None
        samples = dataset_of(data, argument, truth)
        if samples is None:
            _check_batches(data, argument, self._processes)
            self._batches = data
        else:
            if not len(samples):
                raise ValueError(f"{argument} is empty; wanted at least one image")
            self._share = list(range(self._rank, len(samples), self._processes))
            self._batches = DataLoader(
                SampleSubset(samples, self._share) if self._processes > 1 else samples,
                batch_size=batch_size,
                collate_fn=collate_samples,
                num_workers=workers,
            )

    def numbered(self, title: str) -> Iterator[tuple[list[int], SampleBatch]]:
        """Go through the batches, each with the places of its images in the whole data.

        Args:
            title: Title of the progress bar.

        Raises:
            ValueError: There is no image, or a batch is malformed.
            TypeError: A batch holds something else than images and masks.
            RuntimeError: A process that loads images died.
        """
        seen = 0
        for number, found in enumerate(loaded(self.bar(self._batches, title))):
            if isinstance(found, Tensor) and not len(found):
                continue
            batch = _as_sample_batch(found, self.argument, seen, self._truth)
            places = list(range(seen, seen + len(batch.image)))
            seen += len(batch.image)
            if self._share is not None:
                places = [self._share[place] for place in places]
            elif number % self._processes != self._rank:
                continue
            if len(batch.image):
                if not self._truth:
                    _check_normal(batch, self.argument)
                self.shape = tuple(batch.image.shape[1:])
                images = batch.image if self.device is None else batch.image.to(self.device)
                yield places, batch._replace(image=to_value_range(images, self._range))
        if not seen and self._share != []:
            raise ValueError(f"{self.argument} is empty; wanted at least one image")

    def images(self, title: str) -> ImagesOnly:
        """The images alone, batch by batch, for scorers to fit on."""
        return ImagesOnly(self, title)


class ImagesOnly:
    """Batches of images (B, C, H, W), to be gone through several times."""

    def __init__(self, batches: ImageBatches, title: str) -> None:
        """Name the batches and the title of their progress bar."""
        self._batches = batches
        self._title = title

    def __iter__(self) -> Iterator[Tensor]:
        """Go through them once more."""
        for _, batch in self._batches.numbered(self._title):
            yield batch.image


def _check_batches(data: object, argument: str, processes: int) -> None:
    """Refuse data in batches that cannot be gone through several times, or be shared."""
    if isinstance(data, Iterator):
        raise TypeError(
            f"{argument} is a {type(data).__name__}, which can be gone through once only; wanted "
            f"{WANTED}"
        )
    if isinstance(data, (str, bytes, dict)) or not isinstance(data, Iterable):
        raise TypeError(f"{argument} is {described(data)}; wanted {WANTED}")
    if type(data).__module__.startswith("numpy"):
        raise TypeError(f"{argument} is a NumPy array; pass torch.from_numpy of it")
    if isinstance(data, Sized) and not len(data):
        raise ValueError(f"{argument} is empty; wanted at least one image")
    if processes > 1 and isinstance(data, DataLoader):
        if isinstance(data.sampler, DistributedSampler):
            raise ValueError(
                f"{argument} is a DataLoader with a DistributedSampler, which repeats images to "
                "fill up; pass the data set itself, whose images are shared among the processes"
            )
        if isinstance(data.sampler, RandomSampler):
            raise ValueError(
                f"{argument} is a DataLoader that shuffles, so that images come in another order "
                "in every process and cannot be shared; pass the data set itself"
            )


def _as_sample_batch(found: Any, argument: str, seen: int, truth: bool) -> SampleBatch:
    """A batch in the form in which it is measured.

    Args:
        found: What the data gave.
        argument: What messages call it.
        seen: How many images came before.
        truth: Whether masks are wanted.
    """
    if isinstance(found, SampleBatch):
        batch = found
    else:
        parts = list(found) if isinstance(found, (tuple, list)) else [found]
        if not 1 <= len(parts) <= 3 or not isinstance(parts[0], Tensor) or parts[0].dim() != 4:
            raise TypeError(
                f"a batch of {argument} is {described(found)}; wanted images (B, C, H, W), or a "
                "tuple that begins with them: (images, masks) or (images, masks, labels)"
            )
        samples = TensorSamples(parts, argument, truth)
        batch = collate_samples([samples[place] for place in range(len(samples))])
        batch = batch._replace(name=[str(seen + place) for place in range(len(samples))])
    if not isinstance(batch.image, Tensor) or batch.image.dim() != 4:
        raise ValueError(f"images of {argument} are {described(batch.image)}; wanted (B, C, H, W)")
    if not batch.image.is_floating_point():
        raise TypeError(f"images of {argument} have dtype {batch.image.dtype}; wanted floats")
    if not batch.image.isfinite().all():
        bad = [n for n, image in zip(batch.name, batch.image, strict=True) if not _finite(image)]
        raise ValueError(f"image {bad[0]!r} of {argument} holds NaN or infinite pixels")
    for name, mask in zip(batch.name, batch.mask, strict=True):
        if mask is not None and (not isinstance(mask, Tensor) or mask.dim() != 2):
            raise ValueError(
                f"the mask of {name!r} in {argument} is {described(mask)}; wanted (H, W)"
            )
        if mask is not None and mask.dtype != torch.bool:
            raise TypeError(
                f"the mask of {name!r} in {argument} has dtype {mask.dtype}; wanted torch.bool"
            )
    return batch


def _check_normal(batch: SampleBatch, argument: str) -> None:
    """Refuse images known to be anomalous where scorers and thresholds learn what is normal."""
    for name, mask, label in zip(batch.name, batch.mask, batch.label, strict=True):
        if label == 1 or (mask is not None and mask.any()):
            raise ValueError(
                f"{argument} holds {name!r}, which is anomalous; wanted normal images only (a "
                "study of impure ones passes images alone, without masks and labels)"
            )


def _finite(image: Tensor) -> bool:
    return bool(image.isfinite().all())
