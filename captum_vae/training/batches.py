"""Batches whose content depends on the seed and the step alone.

Which images step s sees, and every random number drawn while reading them, are functions of
(seed, s, process): not of how many workers load, nor of what happened before. So a resumed run
starts at its step without replaying the ones before.
"""

import signal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from captum_vae.training.random_state import isolated_randomness

Key = tuple[int, int]
"""(step, index): the index of an image and the step that it is read for."""


class BatchOrder(Sampler[list[Key]]):
    """Indices of each step's batch: the data in a new order every epoch, without gaps.

    A batch that reaches the end of an epoch takes its remainder from the next, so every batch is
    full and a data set smaller than a batch works.
    """

    def __init__(
        self,
        images: int,
        *,
        batch_size: int,
        seed: int,
        start: int,
        stop: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        """Order ``images`` indices into batches for the steps ``start`` to ``stop`` - 1.

        Args:
            images: Length of the data set.
            batch_size: Images per step over all processes, a multiple of ``world_size``.
            seed: Seed of the order.
            start: First step.
            stop: One past the last step.
            rank: Number of this process, which gets every ``world_size``-th image of each batch.
            world_size: Number of processes.
        """
        self.images = images
        self.batch_size = batch_size
        self.seed = seed
        self.steps = range(start, stop)
        self.rank = rank
        self.world_size = world_size

    def __len__(self) -> int:
        """Number of batches."""
        return len(self.steps)

    def __iter__(self) -> Iterator[list[Key]]:
        """Yield this process's share of each step's batch."""
        for step in self.steps:
            places = range(step * self.batch_size, (step + 1) * self.batch_size)
            yield [(step, self._index(place)) for place in places[self.rank :: self.world_size]]

    def _index(self, place: int) -> int:
        epoch, offset = divmod(place, self.images)
        return int(_kept_order(self.images, self.seed, epoch)[offset])


@lru_cache(maxsize=2)
def _kept_order(images: int, seed: int, epoch: int) -> Tensor:
    return epoch_order(images, seed, epoch)


def epoch_order(images: int, seed: int, epoch: int) -> Tensor:
    """The order of ``images`` indices in an epoch, (images,)."""
    with isolated_randomness(seed, epoch):
        return torch.randperm(images)


class SeededImages(Dataset[Tensor]):
    """The images of a data set, read under random numbers fixed by (seed, step, process)."""

    def __init__(self, dataset: Dataset[Any], *, seed: int, rank: int = 0) -> None:
        """Wrap ``dataset``; see :func:`image_of` for what its items may be."""
        self.dataset = dataset
        self.seed = seed
        self.rank = rank

    def __getitems__(self, keys: Sequence[Key]) -> list[Tensor]:
        """The images of one batch, drawn at once where the data set can (``__getitems__``)."""
        step = keys[0][0]
        with isolated_randomness(self.seed, step, self.rank):
            fetch = getattr(self.dataset, "__getitems__", None)
            indices = [index for _, index in keys]
            try:
                items = fetch(indices) if fetch else [self.dataset[index] for index in indices]
            except (ValueError, TypeError, OSError):
                raise
            # A data set of the user's can raise anything at all.
            except Exception as error:
                raise ValueError(
                    f"the data set cannot give the items {indices[:4]} and on: "
                    f"{type(error).__name__}: {error}"
                ) from error
            return [image_of(item) for item in items]

    def __getitem__(self, key: Key) -> Tensor:
        """The image of one key."""
        return self.__getitems__([key])[0]

    def batch(self, keys: Sequence[Key]) -> Tensor:
        """The images of one batch as one tensor, (B, C, H, W).

        Raises:
            ValueError: The images have several shapes, or one holds NaN or infinite pixels.
            TypeError: An item holds no image; see :func:`image_of`.
        """
        images = self.__getitems__(keys)
        shapes = {tuple(image.shape) for image in images}
        if len(shapes) > 1:
            raise ValueError(
                f"images of one batch have the shapes {sorted(shapes)}; give the data set an "
                "image_size, or use batch_size=1"
            )
        batch = torch.stack(images)
        # A sum is NaN or infinite if a pixel is, and is a fifth of the work.
        if not batch.sum().isfinite() and not batch.isfinite().all():
            broken = [
                index
                for (_, index), image in zip(keys, images, strict=True)
                if not image.isfinite().all()
            ]
            raise ValueError(
                f"item {broken[0]} of the data set has pixels that are NaN or infinite; mend or "
                "remove that image"
            )
        return batch


def image_of(item: Any) -> Tensor:
    """The image of a data set's item.

    Args:
        item: A tensor, an object or mapping with ``image``, or a tuple or list whose first
            element is the image.

    Returns:
        The image, (C, H, W), floating point.

    Raises:
        TypeError: There is no such tensor, or it is not of floating point.
        ValueError: The image has no pixels.
    """
    image = item
    if hasattr(item, "image"):
        image = item.image
    elif isinstance(item, Mapping):
        image = item.get("image")
    elif isinstance(item, (tuple, list)):
        image = item[0] if item else None
    if not isinstance(image, Tensor):
        raise TypeError(
            "the data set must yield a tensor, something with an `image`, or a tuple that starts "
            f"with the image tensor; got {type(item).__name__}"
        )
    if not image.is_floating_point():
        advice = "" if image.is_complex() else ": divide by 255"
        raise TypeError(f"images must be floating point in [0, 1], got {image.dtype}{advice}")
    if image.ndim == 0 or image.numel() == 0:
        raise ValueError(
            f"images must have the shape (C, H, W), got one of shape {tuple(image.shape)}"
        )
    return image


def load_batches(
    images: SeededImages, order: Iterable[list[Key]], *, workers: int, device: torch.device
) -> Iterator[Tensor]:
    """Batches (B, C, H, W), one per list of keys, in the given order.

    Args:
        images: What to read.
        order: The keys of each batch.
        workers: Processes that read; 0 reads in this one.
        device: Where the batches will go; their memory is pinned for CUDA.

    Raises:
        ValueError: The images do not make a batch; see :meth:`SeededImages.batch`.
        TypeError: An item holds no image.
        OSError: A file cannot be read.
        RuntimeError: A process that reads died; see
            :func:`captum_vae.data.loading.naming_dead_loaders`.
    """
    loader: DataLoader[Any] = DataLoader(
        _Batches(images),
        batch_sampler=order,
        collate_fn=_as_it_is,
        num_workers=workers,
        worker_init_fn=_leave_signals_to_the_parent,
        pin_memory=device.type == "cuda",
        # Without its own generator the loader would draw from the global one when it starts,
        # and a resumed run starts it once more than an uninterrupted run.
        generator=torch.Generator().manual_seed(images.seed),
    )
    for batch in loader:
        if isinstance(batch, _Failure):
            raise batch.kind(batch.message)
        yield batch


class _Failure(NamedTuple):
    """What went wrong in a process that reads, for the one that trains to raise.

    PyTorch would put the other process's traceback in the message, and cannot carry every error.
    """

    kind: type[Exception]
    message: str


class _Batches(Dataset[Any]):
    """Whole batches by their keys, or in a process of its own the failure to read one."""

    def __init__(self, images: SeededImages) -> None:
        self.images = images

    def __getitems__(self, keys: list[Key]) -> Tensor | _Failure:
        try:
            return self.images.batch(keys)
        except Exception as error:
            if get_worker_info() is None:
                raise
            kinds = (FileNotFoundError, OSError, TypeError, ValueError)
            kind = next((kind for kind in kinds if isinstance(error, kind)), RuntimeError)
            return _Failure(kind, str(error))


def _as_it_is(batch: Any) -> Any:
    return batch


def _leave_signals_to_the_parent(worker: int) -> None:
    # Ctrl-C reaches the whole process group; the parent finishes its step and saves, for which
    # it may still need a batch.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
