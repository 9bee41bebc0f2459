"""Latent traversals beside attention maps: what a dimension draws, and where it looks."""

from collections.abc import Sequence

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from captum_vae.attr import LatentGradCAM
from captum_vae.data import DSprites
from captum_vae.metrics.activity import ActiveDimensions
from captum_vae.models import GaussianVAE
from captum_vae.report.map_grid import GridRow, Strip, draw_map_grid

VALUES = (-2.0, -4 / 3, -2 / 3, 0.0, 2 / 3, 4 / 3, 2.0)
"""What the dimension is set to, in standard deviations of the prior."""


def draw_informative_dimensions(
    model: GaussianVAE, data: DSprites, active: ActiveDimensions, *, layer: str | None = None
) -> Figure:
    """Draw the dimensions of the largest KL: a traversal, then attention maps of five images.

    All active dimensions are drawn, but at least two and at most ten.

    Args:
        model: A VAE in eval mode with a vector latent.
        data: Images, of which five evenly spaced ones are shown.
        active: KL per dimension over that data.
        layer: Dotted name of the encoder layer of the maps; None takes the last convolution.

    Raises:
        ValueError: The layer is not there, or none is given and the encoder has no convolution.
    """
    layer = layer or last_convolution(model)
    device = next(model.parameters()).device
    images = data.images(torch.linspace(0, len(data) - 1, 7).long()[1:-1]).to(device)
    dims = active.kl.argsort(descending=True)[: max(2, min(10, active.count))].tolist()
    maps = LatentGradCAM(model, layer).attribute(images, dims, rectifier="abs", size="input")
    drawn = traverse(model, images[:1], dims)
    rows = [
        GridRow(
            f"dimension {dim}\nKL {float(active.kl[dim]):.2f}",
            [
                Strip([*drawn[place].cpu()]),
                Strip([*images.cpu()], maps=[*maps[:, place].cpu()]),
            ],
        )
        for place, dim in enumerate(dims)
    ]
    return draw_map_grid(
        rows,
        strip_titles=["traversal of the first image", f"attention at {layer}"],
        column_titles=[[f"{value:+.1f}" for value in VALUES], [""] * len(images)],
        bar_label="attention",
    )


def traverse(model: GaussianVAE, image: Tensor, dims: Sequence[int]) -> Tensor:
    """Decode one image's posterior mean with one dimension at a time set to ``VALUES``.

    Args:
        model: A VAE in eval mode with a vector latent.
        image: One image, (1, C, H, W), on the model's device.
        dims: Latent dimensions, T of them.

    Returns:
        Intensities, (T, len(VALUES), C, H, W).
    """
    with torch.no_grad():
        mean = model.encode(image)[0]
        codes = mean.repeat(len(dims), len(VALUES), 1)
        for place, dim in enumerate(dims):
            codes[place, :, dim] = torch.tensor(VALUES).to(mean)
        decoded = model.decode(codes.flatten(0, 1))
        if model.output == "logits":
            decoded = decoded.sigmoid()
        return decoded.reshape(len(dims), len(VALUES), *decoded.shape[1:])


def last_convolution(model: nn.Module) -> str:
    """Dotted name of the last convolution of ``model.encoder``.

    Raises:
        ValueError: The encoder has none.
    """
    kinds = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
    names = [
        name
        for name, module in model.named_modules()
        if name.startswith("encoder.") and isinstance(module, kinds)
    ]
    if not names:
        raise ValueError(f"{type(model).__name__}.encoder has no convolution; name a layer")
    last: str = names[-1]
    return last
