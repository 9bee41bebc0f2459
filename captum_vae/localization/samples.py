"""Anybody's images and masks as samples: data sets of samples or of pairs, and tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from captum_vae.data.sample import Sample, SampleDataset

Item = TypeVar("Item")

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


def evenly_spaced(items: Sequence[Item], count: int) -> list[Item]:
    """Pick ``count`` of the items, evenly spaced, or all when there are no more."""
    if len(items) <= count:
        return list(items)
    return [items[(2 * place + 1) * len(items) // (2 * count)] for place in range(count)]


def as_samples(data: Any, argument: str, *, truth: bool = True) -> SampleDataset:
    """A user's data as samples that can be read by number.

    Args:
        data: A data set or tensors, as of :class:`ImageBatches`.
        argument: What messages call it.
        truth: Whether masks are wanted, as there.

    Raises:
        TypeError: It comes in batches, or is no data at all.
    """
    samples = dataset_of(data, argument, truth)
    if samples is None:
        raise TypeError(
            f"{argument} is {described(data)}; wanted a data set of Samples, or tensors"
        )
    return samples


def dataset_of(data: Any, argument: str, truth: bool) -> SampleDataset | None:
    """The data as samples by number, or None where it comes in batches of its own."""
    if isinstance(data, Tensor):
        if truth:
            raise TypeError(
                f"{argument} has no masks; wanted tensors (images, masks), with None for a mask "
                "that is unknown"
            )
        return TensorSamples([data], argument, truth)
    if isinstance(data, tuple) and not hasattr(data, "_fields"):
        if len(data) not in (2, 3):
            raise TypeError(f"{argument} is a tuple of {len(data)}; wanted {WANTED}")
        return TensorSamples(data, argument, truth)
    if isinstance(data, Dataset) and not isinstance(data, IterableDataset):
        if not hasattr(data, "__len__"):
            raise TypeError(f"{argument} is a {type(data).__name__} without __len__; add one")
        return OwnSamples(data, argument, truth)
    return None


class OwnSamples(SampleDataset):
    """The items of anybody's data set as samples."""

    def __init__(self, dataset: Dataset[Any], argument: str, truth: bool) -> None:
        """Keep the data set; ``argument`` and ``truth`` are those of ImageBatches."""
        self.dataset = dataset
        self.argument = argument
        self.truth = truth
        self.groups_are_clips = bool(getattr(dataset, "groups_are_clips", False))

    def __len__(self) -> int:
        """Count the items."""
        return len(self.dataset)  # type: ignore[arg-type]

    @property
    def digest(self) -> str | None:
        """The data set's own digest; None where it has none."""
        found = getattr(self.dataset, "digest", None)
        return found if isinstance(found, str) else None

    @property
    def groups(self) -> Sequence[str] | None:
        """The group of every item, in order; None where the data set does not list them."""
        return getattr(self.dataset, "groups", None) or None

    def describe(self) -> dict[str, str]:
        """What the data set says about itself."""
        describe = getattr(self.dataset, "describe", super().describe)
        return dict(describe())

    def __getitem__(self, index: int) -> Sample:
        """Return an item as a sample; TypeError where it is none."""
        item: Any = self.dataset[index]
        if isinstance(item, Sample) and isinstance(item.image, Tensor):
            return item
        parts = list(item) if isinstance(item, (tuple, list)) else [item]
        if not 1 <= len(parts) <= 3 or not isinstance(parts[0], Tensor):
            raise TypeError(
                f"item {index} of {self.argument} is {described(item)}; wanted a Sample, an image "
                "(C, H, W), or a tuple (image, mask) or (image, mask, label)"
            )
        return _sample(*_parts(parts, 2, self.truth), str(index), self.argument)


class TensorSamples(SampleDataset):
    """Images with their masks and labels in memory."""

    def __init__(self, parts: Sequence[Any], argument: str, truth: bool) -> None:
        """Check images (N, C, H, W) and, where given, N masks and N labels."""
        images, masks, labels = _parts(parts, 3, truth)
        if not isinstance(images, Tensor) or images.dim() != 4:
            raise TypeError(
                f"images of {argument} are {described(images)}; wanted a tensor (N, C, H, W)"
            )
        for name, values in (("masks", masks), ("labels", labels)):
            if values is None:
                continue
            if isinstance(values, str) or not hasattr(values, "__getitem__"):
                raise TypeError(
                    f"{name} of {argument} are {described(values)}; wanted a tensor or list of "
                    f"{len(images)}, or None"
                )
            if len(values) != len(images):
                raise ValueError(f"{argument} has {len(images)} images and {len(values)} {name}")
        self.images, self.masks, self.labels = images, masks, labels
        self.argument = argument

    def __len__(self) -> int:
        """Count the images."""
        return len(self.images)

    def __getitem__(self, index: int) -> Sample:
        """Return an image with its mask and label; the mask's values are checked here."""
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
        raise TypeError(f"{what} is {described(mask)}; wanted a tensor (H, W) of bool, or None")
    if mask.dim() == 3 and len(mask) == 1:
        mask = mask[0]
    if mask.is_complex():
        raise TypeError(f"{what} has dtype {mask.dtype}; wanted bool")
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


def described(value: Any) -> str:
    """A value in few words: the shape of a tensor, the types in a tuple."""
    if isinstance(value, Tensor):
        return f"a tensor {tuple(value.shape)} of {value.dtype}"
    if isinstance(value, (tuple, list)):
        kinds = ", ".join(type(item).__name__ for item in value[:4])
        return f"a {type(value).__name__} of {len(value)} ({kinds})"
    words = repr(value)
    return f"{words} ({type(value).__name__})" if len(words) < 60 else f"a {type(value).__name__}"
