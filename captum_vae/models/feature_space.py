"""What VAEs of a frozen encoder's features have in common."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.utils.data import Dataset

from captum_vae.checks import whole_number
from captum_vae.data.loading import loaded
from captum_vae.models.base import GaussianVAE
from captum_vae.models.frozen_features import FrozenFeatures
from captum_vae.progress import Progress, progress_bar


class FeatureSpaceVAE(GaussianVAE):
    """A VAE whose data are features of a frozen encoder: images go in, features come out.

    Subclasses say how features are encoded and what shape their latent has. The layer ``features``
    gives the features, (B, K, h, w), and is the one to explain.

    Args:
        features: The frozen encoder with its layers.
        latent_dims: D, the number of latent dimensions.
        latent: Shape of z, ``"vector"`` or ``"spatial"``.
    """

    DECODES: ClassVar[Literal["images", "features"]] = "features"

    features: FrozenFeatures

    def __init__(self, features: FrozenFeatures, latent_dims: int, *, latent: str) -> None:
        """Keep the features; the layers behind them are the subclass's."""
        super().__init__(
            latent_dims,
            image_size=features.image_size,
            in_channels=features.in_channels,
            output="linear",
            latent=latent,
        )
        self.features = features

    def encode_features(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of q(z|x) from features (B, K, h, w)."""
        hidden = self.encoder(features)
        return self.mean(hidden), self.log_variance(hidden)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Posterior of a batch of images.

        Args:
            x: Images (B, C, H, W) in [0, 1], of the size the model was built for.

        Returns:
            Mean and log-variance of q(z|x), each (B, D) or (B, D, h, w).

        Raises:
            TypeError: The images are no floating-point tensor.
            ValueError: They have other channels or another size than the model was built for.
        """
        self._check_images(x)
        return self.encode_features(self.features(x))

    def explained(self, features: Tensor) -> Tensor:
        """What the latent explains of features: those decoded from their posterior mean.

        Args:
            features: Features of images, (B, K, h, w), as the layer ``features`` gives them.

        Returns:
            Features (B, K, h, w).
        """
        return self.decode(self.encode_features(features)[0])

    def target(self, x: Tensor) -> Tensor:
        """The features (B, K, h, w) of images, which the reconstruction is compared with."""
        target: Tensor = self.features(x)
        return target

    def reconstruct(self, x: Tensor) -> Tensor:
        """The features decoded from the posterior mean of images, (B, K, h, w)."""
        return self.decode(self.encode(x)[0])


_WANTED = (
    "a tensor (N, C, H, W), a data set whose items are images or begin with one, or a DataLoader "
    "or list of batches of such"
)


def image_batches(
    images: Any, features: FrozenFeatures, *, batch_size: int, progress: Progress, title: str
) -> Iterator[Tensor]:
    """Batches of images on the encoder's device, from whatever holds them.

    Args:
        images: One tensor (N, C, H, W); a data set whose items are images, samples, or tuples that
            begin with an image; or a DataLoader or list of batches of such.
        features: What the images are for.
        batch_size: Images per batch of a tensor or a data set.
        progress: Whether a bar shows.
        title: Title of the bar.

    Raises:
        TypeError: It is something else, or a batch does not begin with images.
    """
    size = whole_number("batch_size", batch_size, least=1)
    batches: Any
    if isinstance(images, Tensor):
        batches = torch.split(images, size) if images.ndim == 4 else [images]
    elif _is_dataset(images):
        batches = _of_dataset(images, size)
    elif isinstance(images, str | bytes | dict) or not hasattr(images, "__iter__"):
        raise TypeError(f"images is {_described(images)}; wanted {_WANTED}")
    else:
        batches = images
    like = features.channel_mean
    for batch in loaded(progress_bar(progress)(batches, title)):
        found = _first(batch)
        if not isinstance(found, Tensor) or found.ndim != 4:
            shown = tuple(found.shape) if isinstance(found, Tensor) else type(batch).__name__
            raise TypeError(
                f"images holds {shown}; wanted batches (B, C, H, W), or tuples that begin with one"
            )
        yield found.to(like.device, like.dtype) if found.is_floating_point() else found


def first_image_shape(images: Any) -> tuple[int, int, int]:
    """(C, H, W) of the images that :func:`image_batches` would give.

    Raises:
        TypeError: They are something else.
        ValueError: There are none.
    """
    indexed = isinstance(images, Tensor) or _is_dataset(images)
    if indexed and not len(images):
        raise ValueError("images is empty; wanted normal images")
    if isinstance(images, Tensor):
        shape = tuple(images.shape[1:])
    elif indexed:
        shape = tuple(getattr(_first(images[0]), "shape", ()))
    elif isinstance(images, str | bytes | dict) or not hasattr(images, "__iter__"):
        shape = ()
    else:
        for batch in images:
            shape = tuple(getattr(_first(batch), "shape", (0,))[1:])
            break
        else:
            raise ValueError("images is empty; wanted normal images")
    if len(shape) != 3:
        raise TypeError(f"images is {_described(images)}; wanted {_WANTED}")
    return shape


def _is_dataset(images: Any) -> bool:
    """Whether items come by number: a data set of PyTorch, or anything else with length and items.

    Lists and other things that are gone through hold batches.
    """
    by_number = hasattr(images, "__len__") and hasattr(images, "__getitem__")
    in_turn = hasattr(images, "__iter__")
    return by_number and (isinstance(images, Dataset) or not in_turn)


def _of_dataset(images: Any, size: int) -> Iterator[Tensor]:
    for start in range(0, len(images), size):
        items = [_first(images[place]) for place in range(start, min(start + size, len(images)))]
        strangers = [item for item in items if not isinstance(item, Tensor) or item.ndim != 3]
        if strangers:
            raise TypeError(
                f"images holds {type(strangers[0]).__name__}; wanted items that are images (C, H, "
                "W), or tuples that begin with one"
            )
        yield torch.stack(items)


def _described(images: Any) -> str:
    shape = f" of shape {tuple(images.shape)}" if isinstance(images, Tensor) else ""
    return f"a {type(images).__name__}{shape}"


def _first(item: Any) -> Any:
    return item[0] if isinstance(item, tuple | list) and len(item) else item
