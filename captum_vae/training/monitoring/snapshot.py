"""One look at a latent during training, with its numbers and its picture."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn.functional import interpolate

from captum_vae.posterior.usage import is_active, std_over_images
from captum_vae.report.color_scale import ColorScale, grey_image, overlay
from captum_vae.report.map_grid import format_range

CELL = 68
"""Side in pixels of an image in the picture, with its margin; drawing costs the same however large
images are."""
_GAP = 2
_TITLE = 16
_LETTERS = 12


@dataclass(frozen=True)
class LatentSnapshot:
    """What a VAE's latent does with a few images after a step of training.

    Attributes:
        step: The step after which it was taken.
        images: (N, C, H, W), the images looked at, on the CPU.
        reconstruction: (N, C, H, W), or None where the model gives none.
        maps: (n, T, h, w) attention of the first n images on the layer's own grid.
        dims: The T latent dimensions of the maps.
        mean: (N, D) posterior means.
        kl: (D,) mean KL to the prior in nats over these images; None where the log-variance is
            unknown.
    """

    step: int
    images: Tensor
    reconstruction: Tensor | None
    maps: Tensor
    dims: tuple[int, ...]
    mean: Tensor
    kl: Tensor | None

    @property
    def active(self) -> int | None:
        """How many dimensions are active on these images; None where the KL is unknown."""
        if self.kl is None:
            return None
        return int(is_active(self.kl, std_over_images(self.mean)).sum())

    def scalars(self, prefix: str = "latent") -> dict[str, float]:
        """The numbers for a logger, by name: active dimensions, KL in all and per dimension.

        Args:
            prefix: What the names begin with.
        """
        if self.kl is None:
            spread = self.mean.std(0, correction=0)
            return {f"{prefix}/std_of_mean/{d}": float(v) for d, v in enumerate(spread)}
        found: dict[str, float] = {
            f"{prefix}/active_dimensions": float(self.active or 0),
            f"{prefix}/kl": float(self.kl.sum()),
        }
        found.update({f"{prefix}/kl/{d}": float(value) for d, value in enumerate(self.kl)})
        if self.reconstruction is not None:
            error = (self.reconstruction - self.images).square().mean()
            found[f"{prefix}/reconstruction_mse"] = float(error)
        return found

    def _repr_png_(self) -> bytes:
        """The picture, for a notebook."""
        content = io.BytesIO()
        Image.fromarray(self.picture().permute(1, 2, 0).numpy()).save(content, format="png")
        return content.getvalue()

    def picture(self) -> Tensor:
        """A row per image: the image, its reconstruction, and its map of every dimension.

        All maps of a picture share one colour scale, whose ends stand in the title.

        Returns:
            (3, H, W) uint8.
        """
        scale = ColorScale.of(list(self.maps.flatten(0, 1)))
        images = _resized(self.images[: len(self.maps)])
        shown, titles = [images], ["image"]
        if self.reconstruction is not None:
            shown.append(_resized(self.reconstruction[: len(self.maps)]))
            titles.append("recon")
        # One overlay of all cells: a call for each would cost more than the colours.
        under = images.mean(1, keepdim=True).expand(-1, len(self.dims), -1, -1)
        cells = [
            np.repeat(grey_image(_sheet(x.mean(1, keepdim=True)))[..., None], 3, 2) for x in shown
        ]
        cells.append(overlay(_sheet(under), _sheet(_resized(self.maps)), scale))
        sheet = (255 * np.concatenate(cells, axis=1)).round().astype(np.uint8)
        canvas = np.full((sheet.shape[0] + 2 * _TITLE, sheet.shape[1], 3), 255, np.uint8)
        canvas[2 * _TITLE :] = sheet
        for edge in range(2 * _TITLE, canvas.shape[0], CELL):
            canvas[edge : edge + _GAP] = 255
        for edge in range(0, canvas.shape[1], CELL):
            canvas[:, edge : edge + _GAP] = 255
        picture = Image.fromarray(canvas)
        pen, font = ImageDraw.Draw(picture), _font()
        heading = f"step {self.step:,}; attention {format_range(scale)}"
        pen.text((_GAP, 1), heading, fill="black", font=font)
        for column, title in enumerate([*titles, *(f"z{dim}" for dim in self.dims)]):
            pen.text((_GAP + column * CELL, _TITLE), title, fill="black", font=font)
        return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


def _resized(images: Tensor) -> Tensor:
    """Images or maps (N, C, h, w) at the size of a cell; small images keep their pixels."""
    if max(images.shape[-2:]) < CELL and images.shape[1] in (1, 3):
        return interpolate(images.float(), (CELL, CELL), mode="nearest-exact")
    return interpolate(
        images.float(), (CELL, CELL), mode="bilinear", antialias=True, align_corners=False
    )


def _sheet(cells: Tensor) -> Tensor:
    """(n * CELL, T * CELL): cells (n, T, CELL, CELL) beside and below each other."""
    return cells.permute(0, 2, 1, 3).reshape(cells.shape[0] * CELL, cells.shape[1] * CELL)


def _font() -> ImageFont.FreeTypeFont:
    """The sans-serif letters that matplotlib brings along."""
    return ImageFont.truetype(font_manager.findfont("DejaVu Sans"), _LETTERS)
