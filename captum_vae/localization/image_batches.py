"""Normal and test images as batches, whatever holds them: data sets, loaders, tensors, lists."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence, Sized
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler, IterableDataset

from captum_vae.data.sample import Sample, SampleBatch, SampleDataset, collate_samples
from captum_vae.progress import ProgressBar

WANTED = (
    "a data set of Samples or of (image, mask) pairs, a DataLoader or list of batches of them, "
    "or tensors (images, masks)"
)


class SampleSubset(SampleDataset):
    """Some samples of a data set, by their indices there, as ``torch.utils.data.Subset`` does."""

    def __init__(self, dataset: SampleDataset, indices: Sequence[int]) -> None:
        """Keep the data set and the indices; nothing is read yet."""
        self.dataset = dataset
        self.indices = list(indices)

    def __len__(self) -> int:
        """Count the samples."""
        return len(self.indices)

    def __getitem__(self, index: int) -> Sample:
        """Return the sample at a place of the subset."""
        return self.dataset[self.indices[index]]


def evenly_spaced(indices: Sequence[int], count: int) -> list[int]:
    """Pick ``count`` of the indices, evenly spaced, or all when there are no more."""
    if len(indices) <= count:
        return list(indices)
    return [indices[(2 * place + 1) * len(indices) // (2 * count)] for place in range(count)]


def as_samples(data: Any, argument: str, *, truth: bool = True) -> SampleDataset:
    """A user's data as samples that can be read by number.

    Args:
        data: A data set or tensors, as of :class:`ImageBatches`.
        argument: What messages call it.
        truth: Whether masks are wanted, as there.

    Raises:
        TypeError: It comes in batches, or is no data at all.
    """
    samples = _as_dataset(data, argument, truth)
    if samples is None:
        raise TypeError(
            f"{argument} is {_described(data)}; wanted a data set of Samples, or tensors"
        )
    return samples


class ImageBatches:
    """Batches of images and what is known about them, to be gone through several times.

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

    Raises:
        TypeError: The data is of another type, or can be gone through once only.
        ValueError: The data cannot be shared, or is found to be empty or malformed when it is read.
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
    ) -> None:
        """Find out what the data is; nothing is read yet."""
        self.argument = argument
        self.device = device
        self.bar = bar
        self._truth = truth
        parallel = shared and dist.is_initialized()
        self._rank = dist.get_rank() if parallel else 0
        self._processes = dist.get_world_size() if parallel else 1
        self._batches: Iterable[Any]
        self._share: list[int] | None = None
        samples = _as_dataset(data, argument, truth)
        if samples is None:
            _check_batches(data, argument, self._processes)
            self._batches = data
        else:
            if not len(samples):
                raise ValueError(f"{argument} is empty; wanted at least one image")
            self._share = list(range(self._rank, len(samples), self._processes))
            self._batches = DataLoader(
                SampleSubset(samples, self._share) if parallel else samples,
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
            ChildProcessError: A process that loads images died.
        """
        seen = 0
        for number, found in enumerate(loaded(self.bar(self._batches, title), self.argument)):
            batch = _as_sample_batch(found, self.argument, seen, self._truth)
            places = list(range(seen, seen + len(batch.image)))
            seen += len(batch.image)
            if self._share is not None:
                places = [self._share[place] for place in places]
            elif number % self._processes != self._rank:
                continue
            if len(batch.image):
                images = batch.image if self.device is None else batch.image.to(self.device)
                yield places, batch._replace(image=images)
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


def loaded(batches: Iterable[Any], argument: str) -> Iterator[Any]:
    """Go through batches; what goes wrong in a loader's own process is said in one line.

    Args:
        batches: A DataLoader or any other batches.
        argument: What messages call the data.

    Raises:
        ChildProcessError: A process that loads images died.
        Exception: Whatever the data set raised there, without the traceback that PyTorch puts into
            the message.
    """
    try:
        yield from batches
    except RuntimeError as error:
        if "DataLoader worker" not in str(error) or "Caught " in str(error):
            raise _unwrapped(error) from error
        raise ChildProcessError(
            f"a process that loads the images of {argument} died ({_first_line(error)}); the "
            "machine may have run out of memory: try workers=0, or a smaller batch_size"
        ) from error
    except Exception as error:
        raise _unwrapped(error) from error


def _unwrapped(error: Exception) -> Exception:
    """The error as raised in the loader's process, where PyTorch has made it a traceback."""
    text = str(error)
    caught = re.match(r"Caught (\w+) in DataLoader worker process", text)
    if caught is None:
        return error
    last = re.split(r"\n(?=[\w.]+(?:Error|Exception)\b)", text)[-1]
    words = last.partition(": ")[2].strip() or last.strip()
    # An error whose constructor wants more than a message arrives as a RuntimeError.
    kind = type(error) if type(error).__name__ == caught[1] else ValueError
    return kind(words)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0].rstrip(".")


def _as_dataset(data: Any, argument: str, truth: bool) -> SampleDataset | None:
    """The data as samples by number, or None where it comes in batches of its own."""
    if isinstance(data, SampleDataset):
        return data
    if isinstance(data, Tensor):
        return _Tensors([data], argument, truth)
    if isinstance(data, tuple) and not hasattr(data, "_fields"):
        if len(data) not in (2, 3):
            raise TypeError(f"{argument} is a tuple of {len(data)}; wanted {WANTED}")
        return _Tensors(data, argument, truth)
    if isinstance(data, Dataset) and not isinstance(data, IterableDataset):
        if not hasattr(data, "__len__"):
            raise TypeError(f"{argument} is a {type(data).__name__} without __len__; add one")
        return _Samples(data, argument, truth)
    return None


def _check_batches(data: object, argument: str, processes: int) -> None:
    """Refuse data in batches that cannot be gone through several times, or be shared."""
    if isinstance(data, Iterator):
        raise TypeError(
            f"{argument} is a {type(data).__name__}, which can be gone through once only; wanted "
            f"{WANTED}"
        )
    if isinstance(data, (str, bytes, dict)) or not isinstance(data, Iterable):
        raise TypeError(f"{argument} is {_described(data)}; wanted {WANTED}")
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
                f"a batch of {argument} is {_described(found)}; wanted images (B, C, H, W), or a "
                "tuple that begins with them: (images, masks) or (images, masks, labels)"
            )
        samples = _Tensors(parts, argument, truth)
        batch = collate_samples([samples[place] for place in range(len(samples))])
        batch = batch._replace(name=[str(seen + place) for place in range(len(samples))])
    if not isinstance(batch.image, Tensor) or batch.image.dim() != 4:
        raise ValueError(f"images of {argument} are {_described(batch.image)}; wanted (B, C, H, W)")
    if not batch.image.is_floating_point():
        raise TypeError(f"images of {argument} have dtype {batch.image.dtype}; wanted floats")
    if not batch.image.isfinite().all():
        bad = [n for n, image in zip(batch.name, batch.image, strict=True) if not _finite(image)]
        raise ValueError(f"image {bad[0]!r} of {argument} holds NaN or infinite pixels")
    for name, mask in zip(batch.name, batch.mask, strict=True):
        if mask is not None and (not isinstance(mask, Tensor) or mask.dim() != 2):
            raise ValueError(
                f"the mask of {name!r} in {argument} is {_described(mask)}; wanted (H, W)"
            )
        if mask is not None and mask.dtype != torch.bool:
            raise TypeError(
                f"the mask of {name!r} in {argument} has dtype {mask.dtype}; wanted torch.bool"
            )
    return batch


def _finite(image: Tensor) -> bool:
    return bool(image.isfinite().all())


class _Samples(SampleDataset):
    """The items of anybody's data set as samples."""

    def __init__(self, dataset: Dataset[Any], argument: str, truth: bool) -> None:
        self.dataset = dataset
        self.argument = argument
        self.truth = truth

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> Sample:
        item: Any = self.dataset[index]
        if isinstance(item, Sample):
            return item
        parts = list(item) if isinstance(item, (tuple, list)) else [item]
        if not 1 <= len(parts) <= 3 or not isinstance(parts[0], Tensor):
            raise TypeError(
                f"item {index} of {self.argument} is {_described(item)}; wanted a Sample, an image "
                "(C, H, W), or a tuple (image, mask) or (image, mask, label)"
            )
        return _sample(*_parts(parts, 2, self.truth), str(index), self.argument)


class _Tensors(SampleDataset):
    """Images with their masks and labels in memory."""

    def __init__(self, parts: Sequence[Any], argument: str, truth: bool) -> None:
        images, masks, labels = _parts(parts, 3, truth)
        if not isinstance(images, Tensor) or images.dim() != 4:
            raise TypeError(
                f"images of {argument} are {_described(images)}; wanted a tensor (N, C, H, W)"
            )
        for name, values in (("masks", masks), ("labels", labels)):
            if values is None:
                continue
            if isinstance(values, str) or not hasattr(values, "__getitem__"):
                raise TypeError(
                    f"{name} of {argument} are {_described(values)}; wanted a tensor or list of "
                    f"{len(images)}, or None"
                )
            if len(values) != len(images):
                raise ValueError(f"{argument} has {len(images)} images and {len(values)} {name}")
        self.images, self.masks, self.labels = images, masks, labels
        self.argument = argument

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Sample:
        mask = None if self.masks is None else self.masks[index]
        label = None if self.labels is None else self.labels[index]
        return _sample(self.images[index], mask, label, str(index), self.argument)


def _parts(parts: Sequence[Any], mask_axes: int, truth: bool) -> tuple[Any, Any, Any]:
    """Image, mask and label; where no truth is wanted, what is no mask is passed over."""
    image, mask, label = [*parts, None, None][:3]
    if not truth and not (isinstance(mask, Tensor) and mask.dim() >= mask_axes):
        return image, None, None
    return image, mask, label


def _sample(image: Tensor, mask: Any, label: Any, name: str, argument: str) -> Sample:
    """A sample of a user's own image, mask and label; the mask decides where no label is given."""
    truth = _as_mask(mask, name, argument)
    if isinstance(label, Tensor) and label.numel() == 1:
        label = label.item()
    if label not in (None, 0, 1):
        raise ValueError(
            f"the label of image {name} in {argument} is {label!r}; wanted 0 (normal), 1 "
            "(anomalous) or None (unknown)"
        )
    if label is None and truth is not None:
        label = int(truth.any())
    return Sample(image, truth, None if label is None else int(label), name, "")


def _as_mask(mask: Any, name: str, argument: str) -> Tensor | None:
    """The mask (H, W) of bool; what holds other values than 0 and 1 could mean anything."""
    if mask is None:
        return None
    what = f"the mask of image {name} in {argument}"
    if not isinstance(mask, Tensor):
        raise TypeError(f"{what} is {_described(mask)}; wanted a tensor (H, W) of bool, or None")
    if mask.dim() == 3 and len(mask) == 1:
        mask = mask[0]
    if mask.dim() != 2 or not mask.numel():
        raise ValueError(f"{what} has shape {tuple(mask.shape)}; wanted (H, W)")
    values = mask.unique()
    if not ((values == 0) | (values == 1)).all():
        found = ", ".join(f"{value:g}" for value in values[:5].double().tolist())
        raise ValueError(
            f"{what} holds the values {found}{', ...' if len(values) > 5 else ''}; wanted bool, or "
            "0 and 1: compare it with the value that means anomalous, as in mask == 255"
        )
    return torch.eq(mask, 1)


def _described(value: Any) -> str:
    """A value in few words: the shape of a tensor, the types in a tuple."""
    if isinstance(value, Tensor):
        return f"a tensor {tuple(value.shape)} of {value.dtype}"
    if isinstance(value, (tuple, list)):
        kinds = ", ".join(type(item).__name__ for item in value[:4])
        return f"a {type(value).__name__} of {len(value)} ({kinds})"
    words = repr(value)
    return f"{words} ({type(value).__name__})" if len(words) < 60 else f"a {type(value).__name__}"
