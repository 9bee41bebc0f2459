"""The decoder's side: how every latent dimension changes the reconstruction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.autograd.graph import get_gradient_edge
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _BatchNorm

from captum_vae.attr._captum import GradientAttribution, log_usage
from captum_vae.attr.arguments import Target, check_passes, checked_location, latent_dims
from captum_vae.attr.decoding import Decoder, decoded_images, find_decoder, latent_of
from captum_vae.attr.elementary import WrittenOut, check_thrice_differentiable
from captum_vae.attr.engine.gradients import in_passes, pass_budget
from captum_vae.attr.engine.graph import AutogradPath
from captum_vae.attr.engine.inputs import forward_arguments
from captum_vae.attr.engine.maps import MapSize, combine_elementwise, finish_maps, spatial_size
from captum_vae.attr.engine.operations import largest_value
from captum_vae.attr.options import (
    Aggregate,
    MapOptions,
    Order,
    Rectifier,
    Reduction,
)
from captum_vae.checks import check_choice, check_flag, real_number
from captum_vae.posterior import Posterior, as_adapter
from captum_vae.posterior.calling import owner_of
from captum_vae.posterior.probe import undisturbed

Change = Literal["derivative", "traversal"]
StepScale = Literal["prior", "posterior"] | float | Tensor


class DecoderAttribution(GradientAttribution):  # type: ignore[misc]
    r"""Where and how strongly each latent dimension changes the reconstruction, per image.

    With z = mu(x), a step of s standard deviations sigma_d in dimension d changes it by

        derivative:  M[b, d] = s sigma_d * d decoder(z)[b] / d z[b, d]
        traversal:   M[b, d] = decoder(z + s sigma_d e_d)[b] - decoder(z)[b]

    the first being the second's linear part. ``LatentGradCAM`` tells what a dimension reads; this,
    what it writes (Captum issue 585). The derivative is an exact Jacobian-vector product by
    forward-mode differentiation, or by two backward passes where a loss is to train through it. For
    a spatial latent a dimension is a channel, moved at all positions alike, or at one ``location``.

    Example::

        >>> from captum_vae import DecoderAttribution
        >>> from captum_vae.models import MNISTVAE
        >>> vae = MNISTVAE().eval()
        >>> DecoderAttribution(vae).attribute(torch.rand(8, 1, 28, 28)).shape
        torch.Size([8, 32, 28, 28])
    """

    def __init__(
        self,
        forward_func: Callable[..., Any],
        decoder: Decoder = None,
        *,
        posterior: Any = None,
        location: Sequence[int] | None = None,
        dims_per_pass: int | None = None,
        memory_budget: int | None = None,
    ) -> None:
        """Name the model and its decoder; nothing runs yet.

        Args:
            forward_func: The VAE, or any callable that gives its posterior.
            decoder: Module or callable z -> image, or its dotted name in the model; None takes the
                model's ``decode``, or else its ``decoder``. It is called with latents of several
                dimensions' steps stacked on the batch, (t B, ...), unless ``dims_per_pass=1``.
            posterior: How to read the posterior, see ``captum_vae.posterior.PosteriorAdapter``.
            location: Position of a spatial latent (B, C, h, w): change its channels there only.
            dims_per_pass: Latent dimensions in one call of the decoder; None chooses by
                ``memory_budget``.
            memory_budget: Bytes for one call's values; None takes 64 MiB on the CPU, half of the
                free memory on a CUDA device.

        Raises:
            ValueError: No decoder in the model, or a number below 1.
            TypeError: A decoder that is neither a name nor a callable.
        """
        super().__init__(forward_func)
        check_passes(None, dims_per_pass, memory_budget)
        self.posterior = as_adapter(forward_func, posterior)
        self.decoder = find_decoder(self.posterior, decoder)
        self.location = checked_location(location)
        self.dims_per_pass = dims_per_pass
        self.memory_budget = memory_budget

    def __repr__(self) -> str:
        """Class, decoder and the reading of the posterior."""
        name = getattr(self.decoder, "__qualname__", type(self.decoder).__name__)
        where = "" if self.location is None else f", location={self.location}"
        return f"{type(self).__name__}(decoder={name}{where}, posterior={self.posterior!r})"

    @log_usage(part_of_slo=True)  # type: ignore[untyped-decorator]
    def attribute(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        target: Target = None,
        additional_forward_args: Any = None,
        *,
        change: Change = "derivative",
        step: float = 1.0,
        scale: StepScale = "prior",
        rectifier: Rectifier = "none",
        order: Order = "channelwise",
        reduction: Reduction = "mean",
        aggregate: Aggregate = "none",
        size: MapSize = None,
        create_graph: bool = False,
    ) -> Tensor:
        """How a step in each latent dimension changes the reconstruction of the inputs.

        Args:
            inputs: The model's input (B, ...), or a tuple of inputs, the image first.
            target: Latent dimensions: None for all D, an int, or several.
            additional_forward_args: Further positional arguments of the model.
            change: ``derivative``, the exact directional derivative; or ``traversal``, the finite
                difference.
            step: Length of the step in standard deviations; its sign is its direction.
            scale: What a standard deviation is: the ``prior``'s, 1; the ``posterior``'s own, per
                image and dimension; or numbers, one, (D,) or (B, D), such as the standard deviation
                of the means over a data set.
            rectifier: What becomes of a pixel's change: ``none`` keeps its sign; ``abs``, ``relu``
                or ``sigmoid``.
            order: Rectify ``channelwise``, before the image's channels are reduced, or
                ``after_sum``, or ``after_upsampling``.
            reduction: What becomes of the image's channels: their ``mean``, their ``sum``, or
                ``none`` to keep them.
            aggregate: What becomes of the latent dimensions' maps: ``none`` keeps them; ``mean``,
                ``max`` or ``sum`` makes one of them.
            size: ``"input"``, an int or a tuple resizes the maps; None keeps the decoder's size.
            create_graph: Keep the graph, so that a loss on the maps trains encoder and decoder.

        Returns:
            Maps (B, T, H, W) of T latent dimensions on the scale of what the decoder puts out, T =
            1 when aggregated; with ``reduction="none"``, (B, T, C, H, W). float32, or float64 for a
            float64 model.

        Raises:
            ValueError: An empty batch, a target out of range, an unknown option, no image from the
                decoder, a posterior without the variance that ``scale`` needs, a decoder whose
                batch norm takes the batch's own statistics, that does not depend on z, or that
                torch cannot differentiate as often as is needed.
            RuntimeError: Under ``torch.inference_mode``.
        """
        check_choice("change", change, ("derivative", "traversal"))
        check_flag("create_graph", create_graph)
        step = real_number("step", step)
        options = MapOptions(rectifier, order, reduction, aggregate=aggregate)
        images, extra = forward_arguments(inputs, additional_forward_args)
        self._check_batch_norm()
        args = (*images, *extra)
        self.posterior.prepare(*args)
        with torch.set_grad_enabled(create_graph):
            posterior = self.posterior.look(*args)
            steps = self._steps(posterior, target, step, scale)
        latent = latent_of(posterior)
        assert latent is not None  # checked by _steps
        changed = _differences if change == "traversal" else _derivatives
        with undisturbed(owner_of(self.decoder)), sdpa_kernel(SDPBackend.MATH):

            def decode(z: Tensor) -> Tensor:
                torch.manual_seed(0)  # a decoder that draws noise draws the same at every call
                return decoded_images(self.decoder(z), (len(z), *images[0].shape[1:]))

            with torch.set_grad_enabled(create_graph):
                start, largest = _decoded_once(decode, latent, create_graph)
                chunk = self.dims_per_pass or self._dims_within_budget(start, largest)
                changes = torch.cat(
                    [
                        part.to(torch.promote_types(part.dtype, torch.float32))
                        for part in in_passes(
                            lambda s: changed(decode, latent, s, start, create_graph), steps, chunk
                        )
                    ],
                    dim=1,
                )
        wanted = spatial_size(size, images, 1, changes[:, 0])
        with (
            torch.set_grad_enabled(create_graph),
            torch.autocast(latent.device.type, enabled=False),
        ):
            ones = changes.new_ones(1, changes.shape[2], *[1] * (changes.dim() - 3))
            return finish_maps(combine_elementwise(changes, ones, options), options, wanted)

    def _steps(self, posterior: Posterior, target: Target, step: float, scale: StepScale) -> Tensor:
        """The latent's moves, (T, B, *latent shape)."""
        whole = latent_of(posterior)
        if whole is None:
            raise ValueError(
                "the posterior was read at one position of a spatial latent, from which nothing "
                "can be decoded; read it whole and pass location= instead"
            )
        moved = posterior if self.location is None else posterior.at(self.location)
        batch, count = moved.mean.shape
        dims = list(latent_dims(target, count))
        length = step * _scale(moved, scale)[:, dims]
        direction = whole.new_zeros(len(dims), *whole.shape[1:])
        moves: Any = (torch.arange(len(dims)), dims)
        if self.location is not None:
            direction[moves + self.location] = 1
        elif posterior.unpooled is not None:
            direction[moves] = 1
        else:
            direction.flatten(1)[moves] = 1
        trailing = (1,) * (whole.dim() - 1)
        return direction[:, None] * length.t().reshape(len(dims), batch, *trailing)

    def _dims_within_budget(self, image: Tensor, largest: int) -> int:
        # Value and derivative of what goes into the largest operation, and of what comes out.
        per_dim = 4 * largest * image.element_size()
        return max(1, (self.memory_budget or pass_budget(image)) // max(1, per_dim))

    def _check_batch_norm(self) -> None:
        owner = owner_of(self.decoder) or owner_of(self.posterior.model)
        for module in owner.modules() if owner is not None else ():
            if isinstance(module, _BatchNorm) and (module.training or module.running_mean is None):
                raise ValueError(
                    "a batch-norm layer takes the batch's own statistics, so that one image's "
                    "latent changes the others' reconstructions; call model.eval() first, and keep "
                    "running statistics"
                )


def _scale(posterior: Posterior, scale: StepScale) -> Tensor:
    """Standard deviations, (B, D)."""
    batch, count = posterior.mean.shape
    if isinstance(scale, str):
        check_choice("scale", scale, ("prior", "posterior"))
        if scale == "prior":
            return torch.ones_like(posterior.mean)
        if posterior.log_variance is None:
            raise ValueError(
                "scale='posterior' needs the posterior's log-variance, and none was read: name it, "
                "as in posterior='MEAN,LOGVAR', or take scale='prior' or numbers of your own"
            )
        return posterior.std()
    numbers = _numbers(scale).to(posterior.mean)
    if tuple(numbers.shape) not in ((), (count,), (1, count), (batch, count)):
        raise ValueError(
            f"scale has shape {tuple(numbers.shape)}; wanted one number, ({count},), or "
            f"({batch}, {count}), one per latent dimension"
        )
    return numbers.expand(batch, count)


def _numbers(scale: Any) -> Tensor:
    wanted = "'prior', 'posterior', one number, (D,) or (B, D) of them"
    if isinstance(scale, (bool, dict)) or scale is None:
        raise TypeError(f"scale={scale!r} is no standard deviation; give {wanted}")
    try:
        numbers = torch.as_tensor(scale)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"scale is a {type(scale).__name__}; give {wanted}") from error
    if numbers.is_complex() or numbers.dtype == torch.bool:
        raise TypeError(f"scale holds {numbers.dtype}; give {wanted}")
    if not numbers.isfinite().all():
        raise ValueError(f"scale holds NaN or infinite values; give {wanted}")
    return numbers


def _decoded_once(
    decode: Callable[[Tensor], Tensor], latent: Tensor, create_graph: bool
) -> tuple[Tensor, int]:
    """The reconstruction, and how many values the largest step between latent and image has."""
    with torch.enable_grad():
        z = latent if create_graph and latent.requires_grad else latent.detach().requires_grad_()
        image = decode(z)
        largest = largest_value(AutogradPath(image, get_gradient_edge(z)).nodes)
    return (image if create_graph else image.detach()), max(largest, image.numel())


def _differences(
    decode: Callable[[Tensor], Tensor],
    latent: Tensor,
    steps: Tensor,
    start: Tensor,
    create_graph: bool,
) -> Tensor:
    """The finite differences decoder(z + step) - decoder(z), (B, t, C, *spatial)."""
    moved = decode((latent + steps).flatten(0, 1))
    return moved.reshape(*steps.shape[:2], *moved.shape[1:]).transpose(0, 1) - start[:, None]


def _derivatives(
    decode: Callable[[Tensor], Tensor],
    latent: Tensor,
    steps: Tensor,
    start: Tensor,
    create_graph: bool,
) -> Tensor:
    """The decoder's Jacobian times the steps, (B, t, C, *spatial)."""
    z = latent.expand_as(steps).flatten(0, 1)
    tangent = steps.flatten(0, 1)
    if create_graph:  # behind norms the gradient of a forward-mode derivative is wrong
        product = _twice_backward(decode, z, tangent, create_graph)
    else:
        try:
            product = _forward_mode(decode, z, tangent)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:  # an operation without a forward-mode formula: differentiate twice
            product = _twice_backward(decode, z, tangent, create_graph)
    if product is None:
        raise ValueError(
            "the reconstruction does not depend on the latent (or a detach in the decoder hides "
            "that it does); pass the right decoder=, or take change='traversal'"
        )
    return product.reshape(*steps.shape[:2], *product.shape[1:]).transpose(0, 1)


def _forward_mode(decode: Callable[[Tensor], Tensor], z: Tensor, tangent: Tensor) -> Tensor | None:
    with forward_ad.dual_level():
        image = decode(forward_ad.make_dual(z, tangent))  # type: ignore[no-untyped-call]
        product: Tensor | None = forward_ad.unpack_dual(image).tangent  # type: ignore[no-untyped-call]
    return product


def _twice_backward(
    decode: Callable[[Tensor], Tensor], z: Tensor, tangent: Tensor, create_graph: bool
) -> Tensor | None:
    """J v as the derivative of J^T u with respect to u, which is linear in it."""
    with torch.enable_grad():
        if not (create_graph and z.requires_grad):
            z = z.detach().requires_grad_()
        with WrittenOut() if create_graph else nullcontext():
            image = decode(z)
        if not image.requires_grad:
            return None
        if create_graph:
            check_thrice_differentiable(AutogradPath(image, get_gradient_edge(z)))
        cotangent = torch.zeros_like(image, requires_grad=True)
        try:
            (pulled,) = torch.autograd.grad(
                image, z, cotangent, create_graph=True, allow_unused=True
            )
            if pulled is None:
                return None
            (product,) = torch.autograd.grad(pulled, cotangent, tangent, create_graph=create_graph)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise ValueError(
                "the decoder holds an operation that torch differentiates only once, or not by "
                f"itself ({error}); take change='traversal'"
            ) from error
    return product
