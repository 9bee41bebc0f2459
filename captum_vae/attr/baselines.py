"""What features are compared with: weights times A(x) - A(baseline), not A(x).

Grad-CAM on a normal scene lights up the scene. What localizes an anomaly is how far the features
are from what the VAE takes for normal, in the directions that the latent reads. Captum's word for
the reference is ``baselines``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from captum_vae.attr.layer_pass import LayerPass, find_layers, look_at_layers
from captum_vae.posterior import Posterior, PosteriorAdapter
from captum_vae.posterior.calling import owner_of

if TYPE_CHECKING:
    from captum_vae.attr.latent_grad_cam import LatentGradCAM

_IMAGE_NAMES = ("sample", "reconstruction", "recon_x", "recon", "x_hat")


class MeanActivation:
    """The mean features of normal images at each location, as ``baselines``.

    Example::

        >>> normal = MeanActivation().fit(cam, loader_of_normal_images)
        >>> maps = cam.attribute(x, baselines=normal, rectifier="abs", order="channelwise")
    """

    def __init__(self) -> None:
        """Empty until fitted."""
        self.features: tuple[Tensor, ...] = ()

    def fit(
        self,
        cam: LatentGradCAM,
        batches: Iterable[Any],
        *,
        attribute_to_layer_input: bool = False,
    ) -> MeanActivation:
        """Average the features of ``cam``'s layers over normal images, in float64.

        Args:
            cam: any latent attribution; its model must be in eval mode.
            batches: images (B, C, h, w), or tuples that begin with them, as a DataLoader gives.
            attribute_to_layer_input: as it will be given to ``attribute``.

        Raises:
            ValueError: no batches.
        """
        layers = find_layers(cam.forward_func, cam.layer)
        sums: list[Tensor] = []
        count = 0
        for batch in batches:
            images = batch if isinstance(batch, Tensor) else batch[0]
            found = look_at_layers(
                cam.posterior.prepare(images),
                layers,
                (images,),
                side="input" if attribute_to_layer_input else "output",
            )
            totals = [features.double().sum(0, keepdim=True) for features in found]
            sums = [a + b for a, b in zip(sums, totals, strict=True)] if sums else totals
            count += len(images)
            dtypes = [features.dtype for features in found]
        if not count:
            raise ValueError("batches is empty: MeanActivation needs at least one normal image")
        self.features = tuple(
            (total / count).to(dtype) for total, dtype in zip(sums, dtypes, strict=True)
        )
        return self

    def __repr__(self) -> str:
        """The shapes of the mean features."""
        shapes = ", ".join(str(tuple(f.shape[1:])) for f in self.features)
        return f"MeanActivation({shapes or 'not fitted'})"


Baselines = (
    Tensor
    | tuple[Tensor | float, ...]
    | float
    | str
    | MeanActivation
    | Callable[..., Tensor | tuple[Tensor, ...]]
    | None
)


def baseline_features(
    baselines: Baselines, adapter: PosteriorAdapter, run: LayerPass
) -> tuple[Tensor | None, ...]:
    """The baselines' features, detached: one per layer, (B or 1, ...) as the layer gives them.

    Args:
        baselines: as given to ``attribute``.
        adapter: reads the posterior.
        run: the pass over the inputs.

    Raises:
        ValueError: baselines of another shape, an unknown word, or a MeanActivation of other
            layers or not fitted.
        TypeError: baselines of another kind.
    """
    if baselines is None:
        return (None,) * len(run.layers)
    if isinstance(baselines, MeanActivation):
        return _fitted_features(baselines, run)
    with torch.no_grad():
        if isinstance(baselines, str):
            if baselines != "reconstruction":
                raise ValueError(
                    f"baselines={baselines!r} is not known; choose 'reconstruction', a tensor, a "
                    "number, a callable of the inputs, or a fitted MeanActivation"
                )
            given: Any = reconstruct(adapter, run.args, run.posterior)
        else:
            given = baselines(*run.inputs) if callable(baselines) else baselines
        values = given if isinstance(given, tuple) else (given,)
        if len(values) != len(run.inputs):
            raise ValueError(
                f"baselines has {len(values)} entries for {len(run.inputs)} inputs; give one each"
            )
        reference = tuple(_like(v, x) for v, x in zip(values, run.inputs, strict=True))
        return look_at_layers(adapter, run.layers, (*reference, *run.extra), side=run.side)


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
    latent = _latent_of(posterior)
    model: Any = owner_of(adapter.model) or adapter.model
    decode = getattr(model, "decode", None) or getattr(model, "decoder", None)
    with torch.no_grad(), torch.random.fork_rng(devices=_cuda_devices(image)):
        torch.manual_seed(0)
        if hasattr(model, "decode") and callable(getattr(model, "reconstruct", None)):
            found = _images_like(image, model.reconstruct(image))
            if found:
                return found[0]
        if callable(decode) and latent is not None:
            found = _images_like(image, decode(latent))
            if found:
                return found[0]
        found = _images_like(image, model(*args))
    if not found:
        raise ValueError(
            "baselines='reconstruction': the model gives no reconstruction of the input's shape "
            f"{tuple(image.shape)}; pass a callable of the inputs instead"
        )
    return found[0]


def _fitted_features(baselines: MeanActivation, run: LayerPass) -> tuple[Tensor, ...]:
    wanted = [tuple(f.shape[1:]) for f in run.features]
    fitted = [tuple(f.shape[1:]) for f in baselines.features]
    if wanted != fitted:
        raise ValueError(
            f"baselines holds features {fitted or 'of nothing'}, the layers give {wanted}; fit the "
            "MeanActivation on this attribution's layers and on images of this size"
        )
    return tuple(
        b.to(f.device, f.dtype) for b, f in zip(baselines.features, run.features, strict=True)
    )


def _like(value: Any, image: Tensor) -> Tensor:
    if isinstance(value, Real):
        return torch.full_like(image, float(value))
    if not isinstance(value, Tensor):
        raise TypeError(
            f"baselines holds a {type(value).__name__}; give a tensor, a number, 'reconstruction', "
            "a callable of the inputs, or a fitted MeanActivation"
        )
    if value.shape[1:] != image.shape[1:] or value.shape[0] not in (1, image.shape[0]):
        raise ValueError(
            f"baselines has shape {tuple(value.shape)}, the inputs {tuple(image.shape)}; give one "
            "baseline per image, or one for all with a leading 1"
        )
    return value.to(image).expand_as(image)


def _latent_of(posterior: Posterior) -> Tensor | None:
    """The mean in the latent's own shape, or None where it was read at one position only."""
    if posterior.unpooled is not None:
        return posterior.unpooled[0].detach()
    mean = posterior.mean.detach()
    if mean[0].numel() == torch.Size(posterior.latent_shape).numel():
        return mean.reshape(-1, *posterior.latent_shape)
    return None


def _images_like(image: Tensor, output: Any) -> list[Tensor]:
    """Tensors in a model's output that are such images, those of the very shape before flat ones.

    The image itself, which some models return beside its reconstruction, is none of them.
    """
    found = [
        tensor.detach()
        for tensor in _tensors(output)
        if tensor.is_floating_point()
        and tensor.shape[:1] == image.shape[:1]
        and tensor.numel() == image.numel()
    ]
    found.sort(key=lambda tensor: tensor.shape != image.shape)
    images = [tensor.reshape(image.shape) for tensor in found]
    return [tensor for tensor in images if not torch.equal(tensor, image)]


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
