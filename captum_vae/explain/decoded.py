"""What the model's decoder makes of images: reconstructions, and traversals of its dimensions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from captum_vae.attr.decoding import decoded_images, find_decoder, latent_of
from captum_vae.attr.reconstruction import reconstruct
from captum_vae.explain.subject import Subject
from captum_vae.posterior.probe import seeded

VALUES = (-3.0, -1.5, 0.0, 1.5, 3.0)
"""What a dimension is set to in a traversal, in standard deviations of the prior."""

_TOLERANCE = 1e-3


class Decoded:
    """Decodes images of a subject, where its model has a decoder.

    Args:
        subject: The model.
    """

    def __init__(self, subject: Subject) -> None:
        """Nothing is run yet."""
        self._subject = subject

    def reconstructions(self, images: Tensor) -> Tensor | None:
        """Reconstructions of images, or None where the model gives none.

        Args:
            images: (B, C, H, W) in [0, 1].

        Returns:
            (B, C, H, W) in [0, 1], on the CPU.
        """
        with torch.no_grad():
            try:
                found = reconstruct(self._subject.adapter, [self._subject.for_model(images)])
            except ValueError:
                return None
        return self._in_unit_range(found)

    def traversals(self, image: Tensor, dims: Sequence[int]) -> Tensor | None:
        """The decoder's images when one dimension at a time takes each of ``VALUES``.

        Args:
            image: (C, H, W) in [0, 1]; the other dimensions keep its posterior mean.
            dims: T latent dimensions.

        Returns:
            (T, len(VALUES), C, H, W) in [0, 1], on the CPU; None where the model has no decoder of
            its own, or what it decodes is no image like its reconstructions.
        """
        subject, adapter = self._subject, self._subject.adapter
        one = subject.for_model(image[None])
        with torch.no_grad(), seeded(), adapter.without_updates():
            latent = latent_of(adapter.prepare(one)(one))
            decode = None if latent is None else self._image_decoder(one, latent)
            if latent is None or decode is None:
                return None
            rows = []
            for dim in dims:
                codes = latent.repeat(len(VALUES), *[1] * (latent.dim() - 1))
                shape = (-1, *[1] * (latent.dim() - 2))
                codes[:, dim] = torch.tensor(VALUES).to(codes).reshape(shape)
                rows.append(self._in_unit_range(decode(codes)))
        return torch.stack(rows)

    def _image_decoder(self, image: Tensor, latent: Tensor) -> Callable[[Tensor], Tensor] | None:
        """Codes to images: the model's decoder, with a sigmoid where its reconstructions have it.

        What a decoder gives may be logits, which nothing says; decoding the posterior mean and
        comparing it with the model's own reconstruction tells.
        """
        adapter = self._subject.adapter
        try:
            decoder: Callable[..., Any] = find_decoder(adapter)
            expected = reconstruct(adapter, [image])
            plain = decoded_images(decoder(latent), image.shape)
        # A model that is not ours raises anything at all.
        except Exception:
            return None
        for finish in (lambda images: images, torch.sigmoid):
            if plain.shape == expected.shape and torch.allclose(
                finish(plain), expected, atol=_TOLERANCE
            ):
                return lambda codes: finish(
                    decoded_images(decoder(codes), (len(codes), *image.shape[1:]))
                )
        return None

    def _in_unit_range(self, images: Tensor) -> Tensor:
        """Images from the model's own range in [0, 1]."""
        low, high = self._subject.value_range
        return ((images.detach().float().cpu() - low) / (high - low)).clamp(0, 1)
