"""What features are compared with: weights times A(x) - A(baseline), not A(x).

Grad-CAM on a normal scene lights up the scene. What localizes an anomaly is how far the features
are from what the VAE takes for normal, in the directions that the latent reads. Captum's word for
the reference is ``baselines``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import torch
from torch import Tensor

from captum_vae.attr.arguments import image_batches
from captum_vae.attr.engine.forward_pass import ForwardPass, look_at_layers
from captum_vae.attr.engine.layers import Layers, find_layers
from captum_vae.attr.reconstruction import reconstruct
from captum_vae.checks import check_flag, real_number
from captum_vae.posterior import PosteriorAdapter
from captum_vae.posterior.read_back import may_read_back


class LayerAttributionOfAVAE(Protocol):
    """What a latent attribution says of itself: the model, its layers, how it is read."""

    forward_func: Callable[..., Any]
    layer: Layers | None
    posterior: PosteriorAdapter


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
        cam: LayerAttributionOfAVAE,
        batches: Iterable[Any],
        *,
        attribute_to_layer_input: bool = False,
    ) -> MeanActivation:
        """Average the features of ``cam``'s layers over normal images, in float64.

        Args:
            cam: Any latent attribution; its model must be in eval mode.
            batches: Images (B, C, h, w), or tuples that begin with them, as a DataLoader gives.
            attribute_to_layer_input: Whether ``attribute`` will explain what the layer takes in.

        Raises:
            ValueError: There are no batches.
        """
        missing = [x for x in ("forward_func", "layer", "posterior") if not hasattr(cam, x)]
        if missing:
            raise TypeError(
                f"cam is a {type(cam).__name__}, which has no {missing[0]}; wanted a latent "
                "attribution such as LatentGradCAM(model, layer)"
            )
        check_flag("attribute_to_layer_input", attribute_to_layer_input)
        layers = find_layers(cam.forward_func, cam.layer)
        sums: list[Tensor] = []
        count = 0
        for images in image_batches("batches", batches):
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


def baseline_features(baselines: Baselines, run: ForwardPass) -> tuple[Tensor | None, ...]:
    """The baselines' features, detached: one per layer, (B or 1, ...) as the layer gives them.

    Args:
        baselines: What the user gave to ``attribute``.
        run: The pass over the inputs.

    Raises:
        ValueError: Baselines of another shape, an unknown word, or a MeanActivation of other
            layers or not fitted.
        TypeError: Baselines of another kind.
    """
    if baselines is None:
        return (None,) * len(run.layers)
    if isinstance(baselines, MeanActivation):
        return _fitted_features(baselines, run)
    if isinstance(baselines, type):
        raise TypeError(f"baselines is the class {baselines.__name__}; give an object of it")
    assert run.adapter is not None
    with torch.no_grad():
        if isinstance(baselines, str):
            if baselines != "reconstruction":
                raise ValueError(
                    f"baselines={baselines!r} is not known; choose 'reconstruction', a tensor, a "
                    "number, a callable of the inputs, or a fitted MeanActivation"
                )
            given: Any = reconstruct(run.adapter, run.args, run.posterior)
        else:
            given = _called(baselines, run.inputs) if callable(baselines) else baselines
        values = given if isinstance(given, tuple) else (given,)
        if isinstance(baselines, str):
            # What the model was given beside the image, such as a condition, it is given again.
            values = (*values, *run.inputs[1:])
        if len(values) != len(run.inputs):
            raise ValueError(
                f"baselines has {len(values)} entries for {len(run.inputs)} inputs; give one each"
            )
        reference = tuple(_like(v, x) for v, x in zip(values, run.inputs, strict=True))
        return look_at_layers(run.adapter, run.layers, (*reference, *run.extra), side=run.side)


def _called(baselines: Callable[..., Any], inputs: tuple[Any, ...]) -> Any:
    try:
        inspect.signature(baselines).bind(*inputs)
    except TypeError as error:
        raise TypeError(
            f"baselines is a callable that does not take the model's {len(inputs)} input(s) "
            f"({error}); give a function of them"
        ) from None
    except ValueError:
        pass  # Some built-in functions tell no signature.
    return baselines(*inputs)


def _fitted_features(baselines: MeanActivation, run: ForwardPass) -> tuple[Tensor, ...]:
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


def baseline_inputs(baselines: tuple[Any, ...], inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Baselines that are inputs or numbers as a batch like the model's inputs.

    Raises:
        ValueError: A baseline has another shape, or holds NaN or infinite values.
        TypeError: It is something else.
    """
    pairs = zip(baselines, inputs, strict=True)
    return tuple(_like(value, x) for value, x in pairs)


def _like(value: Any, image: Tensor) -> Tensor:
    wanted = (
        "a tensor, a number, 'reconstruction', a callable of the inputs, or a fitted MeanActivation"
    )
    if not isinstance(value, Tensor):
        return torch.full_like(image, real_number("baselines", value, hint=f"give {wanted}"))
    if value.is_complex() or value.dtype == torch.bool:
        raise TypeError(f"baselines holds {value.dtype}; give {wanted}")
    if value.dim() != image.dim() or (
        value.shape[1:] != image.shape[1:] or value.shape[0] not in (1, image.shape[0])
    ):
        raise ValueError(
            f"baselines has shape {tuple(value.shape)}, the inputs {tuple(image.shape)}; give one "
            "baseline per image, or one for all with a leading 1"
        )
    if may_read_back(value) and not value.isfinite().all():
        raise ValueError(f"baselines holds NaN or infinite values; give {wanted}")
    return value.to(image).expand_as(image)
