"""What a model states about the images it takes, and images in the range it was trained on."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from captum_vae.models import GaussianVAE


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


def to_range(images: Tensor, value_range: Sequence[float]) -> Tensor:
    """Images from [0, 1] to what the model was trained on, such as [-1, 1].

    Raises:
        ValueError: not two numbers, low before high.
    """
    if len(value_range) != 2 or not value_range[0] < value_range[1]:
        raise ValueError(f"value_range is {list(value_range)}; wanted [low, high], such as [-1, 1]")
    low, high = value_range
    return images if (low, high) == (0, 1) else images * (high - low) + low
