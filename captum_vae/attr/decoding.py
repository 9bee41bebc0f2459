"""From a latent to an image: which of a model's calls decodes, and where the image is."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from captum_vae.posterior import Posterior, PosteriorAdapter
from captum_vae.posterior.calling import unwrap

Decoder = Callable[..., Any] | str | None
"""A module or callable z -> image, its dotted name in the model, or None to find it."""

_WORDS = ("decode", "decoder")
_IMAGE_NAMES = ("sample", "reconstruction", "recon_x", "recon", "x_hat")


def find_decoder(adapter: PosteriorAdapter, decoder: Decoder = None) -> Callable[..., Any]:
    """What turns a latent into an image.

    Args:
        adapter: Knows the model.
        decoder: A callable, the dotted name of a method or submodule, or None for the model's
            ``decode``, or else its ``decoder``.

    Raises:
        ValueError: The model has none by that name.
        TypeError: Neither a name nor a callable.
    """
    if callable(decoder):
        found: Callable[..., Any] = unwrap(decoder)
        return found
    model = adapter.owner or adapter.model
    if decoder is None:
        named = named_decoders(model)
    elif isinstance(decoder, str):
        attribute = reduce(lambda at, name: getattr(at, name, None), decoder.split("."), model)
        named = [attribute] if callable(attribute) else []
    else:
        raise TypeError(
            f"decoder={decoder!r} must be a callable z -> image, the name of one in the model, or "
            "None to find it"
        )
    if not named:
        children = (
            ", ".join(name for name, _ in model.named_children())
            if isinstance(model, Module)
            else ""
        )
        wanted = f"no {decoder!r}" if decoder else "neither decode nor decoder"
        raise ValueError(
            f"the model {getattr(model, '__name__', type(model).__name__)} has {wanted}; pass "
            "decoder=, a callable z -> image or the name of one of its methods or submodules "
            f"({children or 'it is a plain function'})"
        )
    return unwrap(named[0])  # type: ignore[no-any-return]


def named_decoders(model: Any) -> list[Callable[..., Any]]:
    """What a model has by the name of ``decode``, and then of ``decoder``."""
    return [found for word in _WORDS if callable(found := getattr(model, word, None))]


def decoded_images(output: Any, shape: Sequence[int]) -> Tensor:
    """The images in what a decoder returned.

    Args:
        output: A tensor, or a tuple, mapping or object that holds it, as pythae's
            ``.reconstruction`` and diffusers' ``.sample``.
        shape: Shape of the images expected, (B, C, *spatial): a flat tensor of as many values is
            brought to it, and a single tensor of another size is taken as it is.

    Raises:
        ValueError: No image, or several tensors that may be one; the message lists them.
    """
    found = images_like(shape, output)
    if not found:
        found = [t for t in _tensors(output) if t.shape[0] == shape[0] and 3 <= t.dim() <= 5]
        if len(found) != 1:
            held = ", ".join(str(tuple(t.shape)) for t in _tensors(output)) or "none"
            raise ValueError(
                f"the decoder gave {type(output).__name__} with the tensors {held}; wanted one "
                f"image like {tuple(shape)}: pass decoder=lambda z: ..., which returns it"
            )
    return found[0]


def latent_of(posterior: Posterior) -> Tensor | None:
    """The mean in the latent's own shape, or None where it was read at one position only."""
    if posterior.unpooled is not None:
        return posterior.unpooled[0]
    if posterior.mean[0].numel() == torch.Size(posterior.latent_shape).numel():
        return posterior.mean.reshape(-1, *posterior.latent_shape)
    return None


def images_like(shape: Sequence[int], output: Any) -> list[Tensor]:
    """Tensors in an output that are images of ``shape``, those of the very shape before flat ones.

    Args:
        shape: (B, C, *spatial).
        output: What a model or a decoder returned.
    """
    size, count = tuple(shape), math.prod(shape)
    found = [
        tensor
        for tensor in _tensors(output)
        if tensor.is_floating_point()
        and tensor.dim()
        and tensor.shape[0] == size[0]
        and tensor.numel() == count
    ]
    found.sort(key=lambda tensor: tuple(tensor.shape) != size)
    return [tensor.reshape(size) for tensor in found]


def _tensors(output: Any) -> list[Tensor]:
    if isinstance(output, Tensor):
        return [output]
    if isinstance(output, dict):
        output = list(output.values())
    elif not isinstance(output, (tuple, list)):
        output = [getattr(output, name) for name in _IMAGE_NAMES if hasattr(output, name)]
    return [found for item in output for found in _tensors(item)]
