"""The references: Grad-CAM and Jacobians by plain autograd, one scalar after the other."""

import torch
from torch import Tensor, nn


def grad_cam(codes_of, layer: nn.Module, x: Tensor, reshape=lambda features: features) -> Tensor:
    """ReLU of the channels weighted by the mean gradient of each code, (B, D, *spatial).

    Args:
        codes_of: x -> the scalars to explain, (B, D).
        layer: whose output is explained.
        x: images, float64.
        reshape: the layer's output to (B, K, *spatial).
    """
    kept = []
    handle = layer.register_forward_hook(lambda _module, _inputs, output: kept.append(output))
    codes = codes_of(x)
    handle.remove()
    (features,) = kept
    maps = []
    for d in range(codes.shape[1]):
        (gradient,) = torch.autograd.grad(codes[:, d].sum(), features, retain_graph=True)
        alpha = reshape(gradient).flatten(2).mean(2)
        activation = reshape(features).detach()
        weighted = alpha.reshape(*alpha.shape, *[1] * (activation.dim() - 2)) * activation
        maps.append(weighted.sum(1).clamp(min=0))
    return torch.stack(maps, 1)


def jacobian(decode, z: Tensor) -> Tensor:
    """d decode(z)[b] / d z[b], (B, *image, *latent), one image after the other."""
    return torch.stack(
        [torch.autograd.functional.jacobian(lambda one: decode(one[None])[0], one) for one in z]
    )


def random_batch_norms(model: nn.Module) -> nn.Module:
    """Give batch norms statistics and weights that are not the trivial ones."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    return model
