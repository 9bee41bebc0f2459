"""Data-dependent initialization of a VAE's encoder.

PyTorch's default initialization shrinks the signal layer by layer. Images that resemble each other
(frames of one scene, photographs of one product) then reach the posterior mean with a thousandth
of the sampling noise's size; the decoder settles on the mean image before the encoder says
anything, and dimensions stay inactive for thousands of steps. Scaling each layer to unit variance
on real images removes the trap without changing the architecture.
Salimans & Kingma, Weight normalization, NeurIPS 2016, section 3; Mishkin & Matas, All you need is a
good init, ICLR 2016.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from captum_vae.models import GaussianVAE

SMALLEST_STD = 1e-6
"""An output that varies less over the images is constant: it is centred but not scaled."""


def standardize_encoder(model: GaussianVAE, images: Tensor) -> None:
    """Give every encoder layer and the posterior mean zero mean and unit variance on ``images``.

    Convolutions and Linear layers with a bias are rescaled in place, in the order in which the
    data pass them; those without one are followed by a normalisation and left alone, as are the
    decoder, the log-variance, and a backbone that is frozen or came with weights.

    Args:
        model: A freshly initialized VAE; weights that were trained here would lose their meaning.
        images: A hundred or more of the images to train on, (B, C, H, W).
    """
    came_with_weights = getattr(model, "pretrained", False) or getattr(model, "weights", None)
    backbone = getattr(model.encoder, "backbone", None) if came_with_weights else None
    trained = set(backbone.modules()) if isinstance(backbone, nn.Module) else set()
    handles: list[RemovableHandle] = [
        layer.register_forward_hook(_standardize)
        for part in (model.encoder, model.mean)
        for layer in part.modules()
        if isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear))
        and layer.bias is not None
        and layer.weight.requires_grad
        and layer not in trained
    ]
    try:
        with torch.no_grad():
            model.encode(images)
    finally:
        for handle in handles:
            handle.remove()


def _standardize(layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
    """Fold the output's mean and scale per channel into the layer; return what it gives then."""
    channels = output.movedim(-1 if isinstance(layer, nn.Linear) else 1, 0).flatten(1)
    mean, std = channels.mean(1), channels.std(1)
    std = torch.where(std < SMALLEST_STD, torch.ones_like(std), std)
    weight, bias = layer.get_parameter("weight"), layer.get_parameter("bias")
    weight.div_(std.reshape(-1, *[1] * (weight.ndim - 1)))
    bias.sub_(mean).div_(std)
    standardized: Tensor = layer.forward(*inputs)
    return standardized
