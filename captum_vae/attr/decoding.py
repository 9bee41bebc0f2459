"""From a latent back to an image: which of a model's calls decodes, and where the image is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from captum_vae.posterior import Posterior, PosteriorAdapter
from captum_vae.posterior.calling import owner_of, unwrap

Decoder = Callable[..., Any] | str | None
"""A module or callable z -> image, its dotted name in the model, or None to find it."""

_WORDS = ("decode", "decoder")
_IMAGE_NAMES = ("sample", "reconstruction", "recon_x", "recon", "x_hat")


def find_decoder(adapter: PosteriorAdapter, decoder: Decoder = None) -> Callable[..., Any]:
    """What turns a latent into an image.

    Args:
        adapter: knows the model.
        decoder: a callable, the dotted name of a method or submodule, or None for the model's
            ``decode``, or else its ``decoder``.

    Raises:
        ValueError: the model has none by that name.
        TypeError: neither a name nor a callable.
    """
    if callable(decoder):
        found: Callable[..., Any] = unwrap(decoder)
        return found
    model = owner_of(adapter.model) or adapter.model
    if decoder is None:
        named = [getattr(model, word) for word in _WORDS if callable(getattr(model, word, None))]
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


def decoded_images(output: Any, shape: Sequence[int]) -> Tensor:
    """The images in what a decoder returned.

    Args:
        output: a tensor, or a tuple, mapping or object that holds it, as pythae's
            ``.reconstruction`` and diffusers' ``.sample``.
        shape: of the images expected, (B, C, *spatial): a flat tensor of as many values is
            brought to it, and a single tensor of another size is taken as it is.

    Raises:
        ValueError: no image, or several tensors that may be one; the message lists them.
    """
    found = images_like(shape, output)
    if not found:
        found = [t for t in _tensors(output) if len(t) == shape[0] and 3 <= t.dim() <= 5]
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


def reconstruct(adapter: PosteriorAdapter, args: Sequence[Any], posterior: Posterior) -> Tensor:
    """The VAE's own reconstruction of its first input, from the posterior mean where it can be.

    A model with ``decode`` and ``reconstruct`` is asked to ``reconstruct`` (it may have to turn
    decoded logits into pixels); else ``decode`` (or ``decoder``) is given the mean; a model without
    one is run as a whole. If it draws noise, then from a fixed seed; the user's random state is
    left as it was.

    Args:
        adapter: knows the model.
        args: the model's positional arguments; the first is the image (B, C, h, w).
        posterior: of those arguments.

    Returns:
        (B, C, h, w), detached.

    Raises:
        ValueError: no tensor of the input's shape comes out.
    """
    image: Tensor = args[0]
    latent = latent_of(posterior)
    model: Any = owner_of(adapter.model) or adapter.model
    decode = getattr(model, "decode", None) or getattr(model, "decoder", None)

    def first_image(output: Any) -> Tensor | None:
        # Some models return the image itself beside its reconstruction.
        others = (t for t in images_like(image.shape, output) if not torch.equal(t, image))
        return next((tensor.detach() for tensor in others), None)

    found = None
    with torch.no_grad(), torch.random.fork_rng(devices=_cuda_devices(image)):
        torch.manual_seed(0)
        if hasattr(model, "decode") and callable(getattr(model, "reconstruct", None)):
            found = first_image(model.reconstruct(image))
        if found is None and callable(decode) and latent is not None:
            found = first_image(decode(latent.detach()))
        if found is None:
            found = first_image(model(*args))
    if found is None:
        raise ValueError(
            "baselines='reconstruction': the model gives no reconstruction of the input's shape "
            f"{tuple(image.shape)}; pass a callable of the inputs instead"
        )
    return found


def images_like(shape: Sequence[int], output: Any) -> list[Tensor]:
    """Tensors in an output that are images of ``shape``, those of the very shape before flat ones.

    Args:
        shape: (B, C, *spatial).
        output: of a model or a decoder.
    """
    size = torch.Size(shape)
    found = [
        tensor
        for tensor in _tensors(output)
        if tensor.is_floating_point()
        and tensor.shape[:1] == size[:1]
        and tensor.numel() == size.numel()
    ]
    found.sort(key=lambda tensor: tensor.shape != size)
    return [tensor.reshape(size) for tensor in found]


def _tensors(output: Any) -> list[Tensor]:
    if isinstance(output, Tensor):
        return [output]
    if isinstance(output, dict):
        output = list(output.values())
    elif not isinstance(output, (tuple, list)):
        output = [getattr(output, name) for name in _IMAGE_NAMES if hasattr(output, name)]
    return [found for item in output for found in _tensors(item)]


def _cuda_devices(tensor: Tensor) -> list[int]:
    return [tensor.device.index or 0] if tensor.is_cuda else []
