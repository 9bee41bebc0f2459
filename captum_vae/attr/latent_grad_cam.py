"""Grad-CAM from the latent space of a VAE: a map per latent dimension, or one of their sum."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import torch
from torch import Tensor
from torch.nn import Module

from captum_vae.attr._captum import (
    GradientAttribution,
    LayerAttribution,
    format_additional_forward_args,
    log_usage,
)
from captum_vae.attr.arguments import (
    Target,
    check_passes,
    checked_location,
    latent_dims,
    warn_of_collapse,
)
from captum_vae.attr.baselines import Baselines, baseline_features, baseline_inputs
from captum_vae.attr.engine.channel_weights import plan_layers
from captum_vae.attr.engine.first_call import checking
from captum_vae.attr.engine.forward_pass import ForwardPass, run_layers
from captum_vae.attr.engine.gradients import PassSettings
from captum_vae.attr.engine.inputs import forward_arguments
from captum_vae.attr.engine.layers import (
    Layers,
    describe,
    find_layers,
    refuse_quantised,
)
from captum_vae.attr.engine.maps import MapSize, compose_maps
from captum_vae.attr.engine.plans import LayerPlan
from captum_vae.attr.export.options import OUTPUTS, Format, Output
from captum_vae.attr.latent_codes import (
    Quantity,
    check_quantity,
    latent_codes,
    quantity_name,
)
from captum_vae.attr.options import (
    Aggregate,
    MapOptions,
    Order,
    Preset,
    Rectifier,
    Reduction,
    Weighting,
    resolve_options,
)
from captum_vae.checks import check_choice, check_flag, checked_seed, whole_number
from captum_vae.posterior import Posterior, as_adapter
from captum_vae.posterior.read_back import Checks, check_checks

if TYPE_CHECKING:
    from captum_vae.attr.export.saving import ExportedFile


class LatentGradCAM(LayerAttribution, GradientAttribution):  # type: ignore[misc]
    r"""Method 1: an attention map for every latent dimension, from one forward pass.

    For features A (B, K, h, w) of a layer and the posterior mean mu (B, D) of the model, or another
    quantity named by ``of``,

        alpha[b, d, k] = mean over positions of d mu[b, d] / d A[b, k]
        M[b, d] = ReLU( sum over k of alpha[b, d, k] A[b, k] )

    (Liu et al., CVPR 2020, section 3.1 and Eq. 2.) All D maps cost about one backward pass where
    the features reach a Linear, and a batched backward pass elsewhere: see ``explain_plan``.

    Example::

        >>> from captum_vae import LatentGradCAM
        >>> from captum_vae.models import MNISTVAE
        >>> vae = MNISTVAE().eval()
        >>> maps = LatentGradCAM(vae, vae.encoder.conv2).attribute(torch.rand(8, 1, 28, 28))
        >>> maps.shape
        torch.Size([8, 32, 7, 7])
    """

    def __init__(
        self,
        forward_func: Callable[..., Any],
        layer: Layers | None,
        device_ids: list[int] | None = None,
        *,
        posterior: Any = None,
        of: Quantity = "mean",
        location: Sequence[int] | None = None,
        seed: int = 0,
        reshape_transform: Callable[[Tensor], Tensor] | None = None,
        dims_per_pass: int | None = None,
        memory_budget: int | None = None,
        checks: Checks = "first",
    ) -> None:
        """Name the model and the layer; nothing runs yet.

        Args:
            forward_func: The VAE, or any callable that gives its posterior.
            layer: Module whose features are explained, its dotted name, or a sequence of either.
            device_ids: Accepted for Captum's signature; a DataParallel model is explained on the
                wrapped module's own device.
            posterior: How to read the posterior, see ``captum_vae.posterior.PosteriorAdapter``;
                None detects it, strictly, at the first call.
            of: What of the posterior is explained, one value per latent dimension: ``mean``,
                ``log_variance`` (or ``logvar``), ``kl`` (to the standard normal), ``sample`` (with
                ``seed``), or a callable ``Posterior -> (B, D)``.
            location: Position of a spatial latent (B, C, h, w): explain its channels there,
                (i, j), not their means over positions.
            seed: Seed of the noise for ``of="sample"``, which is the same for every image.
            reshape_transform: Turns the layer's features into (B, K, *spatial): for tokens of an
                image, and where nothing tells which axis of a sequence holds the channels. It must
                be linear and must not mix images (reshape, transpose, drop a token).
            dims_per_pass: Latent dimensions in one backward pass where backward passes are
                needed; None chooses by ``memory_budget``.
            memory_budget: Bytes for the gradients of one backward pass; None takes 64 MiB on the
                CPU, half of the free memory on a CUDA device.
            checks: When values are looked at, which reads them back from the device and so stalls
                it: NaN and infinite inputs and features, a collapsed posterior, a negative
                variance. ``first`` looks at the first call with these layers, ``every`` at every
                call, ``none`` never.

        Raises:
            ValueError: A layer that is not in the model, a number below 1, or an unknown ``of``.
            TypeError: Something that is neither a layer nor a layer's name.
        """
        LayerAttribution.__init__(self, forward_func, layer, device_ids)
        GradientAttribution.__init__(self, forward_func)
        check_passes(reshape_transform, dims_per_pass, memory_budget)
        self.posterior = as_adapter(forward_func, posterior)
        self.of = check_quantity(of)
        self.location = checked_location(location)
        self.seed = checked_seed(seed)
        self.reshape_transform = reshape_transform
        self.dims_per_pass = dims_per_pass
        self.memory_budget = memory_budget
        self.checks = check_checks(checks)
        if layer is not None:
            find_layers(forward_func, layer)
            refuse_quantised(forward_func)

    def __repr__(self) -> str:
        """Class, layers, what of the posterior is explained, and how it is read."""
        names = (
            [describe(layer) for layer in find_layers(self.forward_func, self.layer)]
            if self.layer is not None
            else []
        )
        explained = f"of={quantity_name(self.of)}"
        if self.of == "sample":
            explained += f", seed={self.seed}"
        if self.location is not None:
            explained += f", location={self.location}"
        return (
            f"{type(self).__name__}(layer={', '.join(names)}, {explained}, "
            f"posterior={self.posterior!r})"
        )

    def quantity(self, posterior: Posterior) -> Tensor:
        """What ``of`` and ``location`` choose of a posterior, (B, D).

        Raises:
            ValueError: The posterior has no variance or no such location, or a callable of the
                user's gave another shape.
        """
        return latent_codes(self._located(posterior), self.of, seed=self.seed)

    def _located(self, posterior: Posterior) -> Posterior:
        return posterior if self.location is None else posterior.at(self.location)

    def codes(self, posterior: Posterior, target: Target) -> tuple[Tensor, tuple[int, ...]]:
        """The scalars (B, D') that are explained, and which of them get a map.

        Args:
            posterior: Posterior of this batch, with its graph.
            target: Latent dimensions, in the words of ``attribute``.
        """
        codes = self.quantity(posterior)
        return codes, latent_dims(target, codes.shape[1])

    @log_usage(part_of_slo=True)  # type: ignore[untyped-decorator]
    def attribute(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        target: Target = None,
        additional_forward_args: Any = None,
        attribute_to_layer_input: bool = False,
        *,
        preset: Preset = "paper",
        rectifier: Rectifier | None = None,
        order: Order | None = None,
        reduction: Reduction | None = None,
        weighting: Weighting | None = None,
        aggregate: Aggregate | None = None,
        baselines: Baselines = None,
        size: MapSize = None,
        n_steps: int = 8,
        create_graph: bool = False,
        checks: Checks | None = None,
        return_convergence_delta: bool = False,
    ) -> Tensor | tuple[Tensor, ...]:
        """Attention maps of the posterior at the layer.

        Args:
            inputs: The model's input (B, ...), or a tuple of inputs.
            target: Latent dimensions: None for all D, an int, or several (repeats are dropped,
                since Captum's NoiseTunnel repeats a list once per sample).
            additional_forward_args: Further positional arguments of the model.
            attribute_to_layer_input: Explain what the layer takes in, not what it puts out.
            preset: ``paper``, ``authors``, ``replication_a`` or ``replication_b``; each option
                below replaces the preset's own.
            rectifier: ``relu``, ``abs``, ``sigmoid`` or ``none``.
            order: Rectify ``after_sum`` over channels, ``channelwise`` before it, or
                ``after_upsampling``.
            reduction: What becomes of the channels: their ``sum``, their ``mean``, or ``none`` to
                keep them.
            weighting: ``pooled``, ``elementwise`` or ``integrated``.
            aggregate: What becomes of the latent dimensions' maps: ``none`` keeps them; ``mean``,
                ``max`` or ``sum`` makes one of them.
            baselines: Weigh A(x) - A(baseline) instead of A(x). One input or a batch of them, a
                number, a callable of the inputs, ``"reconstruction"`` (the VAE's own), or a fitted
                ``MeanActivation``.
            size: ``"input"`` resizes the maps linearly to the sizes of the input's position axes;
                an int or a tuple, to that size; None keeps the features' own.
            n_steps: Points on the path of ``weighting="integrated"`` (Gauss-Legendre).
            create_graph: Keep the graph, so that a loss on the maps trains the model.
            checks: Replaces the attribution's own ``checks`` for this call.
            return_convergence_delta: Return the maps of one layer with their deltas (B, T), see
                :meth:`compute_convergence_delta`; for integrated, unrectified sums of channels.

        Returns:
            Maps (B, T, h, w) of T latent dimensions, T = 1 when summed or aggregated; with
            ``reduction="none"``, (B, T, K, h, w). float32, or float64 for a float64 model. A tuple
            with one entry per layer when the layers were given as a sequence. With
            ``return_convergence_delta``, a pair of maps and deltas.

        Raises:
            ValueError: An empty batch, a target out of range, features without spatial positions,
                baselines of another shape, a layer that is not on the path to the posterior, an
                unknown option, a posterior that cannot be read.
            RuntimeError: Under ``torch.inference_mode``, or for a layer that ran twice.
        """
        options = resolve_options(
            preset,
            rectifier=rectifier,
            order=order,
            reduction=reduction,
            weighting=weighting,
            aggregate=aggregate,
        )
        if return_convergence_delta:
            complete = (options.weighting, options.rectifier, options.reduction, options.aggregate)
            one = isinstance(self.layer, (Module, str)) and size is None
            given = isinstance(baselines, (Tensor, int, float, tuple))
            if complete != ("integrated", "none", "sum", "none") or not one or not given:
                raise ValueError(
                    "return_convergence_delta wants weighting='integrated', rectifier='none', "
                    "reduction='sum', aggregate='none', one layer, size=None, and baselines that "
                    "are an input or a number"
                )
        explained = self.explained
        if torch.compiler.is_dynamo_compiling():  # which follows no graph of autograd
            explained = torch.compiler.disable(explained)  # type: ignore[no-untyped-call]
        _, maps = explained(
            inputs,
            target,
            additional_forward_args,
            attribute_to_layer_input,
            options=options,
            baselines=baselines,
            size=size,
            n_steps=n_steps,
            create_graph=create_graph,
            checks=checks,
        )
        if return_convergence_delta:
            return maps[0], self.compute_convergence_delta(
                maps[0], baselines, inputs, target, additional_forward_args
            )
        return maps[0] if isinstance(self.layer, (Module, str)) else maps

    def explained(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        target: Target = None,
        additional_forward_args: Any = None,
        attribute_to_layer_input: bool = False,
        *,
        options: MapOptions,
        baselines: Baselines = None,
        size: MapSize = None,
        n_steps: int = 8,
        create_graph: bool = False,
        checks: Checks | None = None,
    ) -> tuple[ForwardPass, tuple[Tensor, ...]]:
        """The maps of ``attribute``, one tensor per layer, with the pass that they come from.

        The pass holds the posterior and what else the one call of the model gave. Arguments and
        errors are those of ``attribute``, ``options`` being what the preset and the choices that
        replace its own come to.
        """
        n_steps = whole_number("n_steps", n_steps, least=1)
        check_flag("create_graph", create_graph)
        settings = PassSettings(create_graph, self.dims_per_pass, self.memory_budget, n_steps)
        layers = find_layers(self.forward_func, self.layer)
        call = (layers, inputs, target, additional_forward_args, attribute_to_layer_input)
        with self._checking(layers, inputs, attribute_to_layer_input, checks):
            run = self._run(*call, create_graph)
            origins = baseline_features(baselines, run)
            maps = compose_maps(run, options, settings, origins=origins, size=size)
        return run, maps

    def has_convergence_delta(self) -> bool:
        """True: integrated weights have one, see :meth:`compute_convergence_delta`."""
        return True

    def compute_convergence_delta(
        self,
        attributions: Tensor,
        start_point: Any,
        end_point: Tensor | tuple[Tensor, ...],
        target: Target = None,
        additional_forward_args: Any = None,
    ) -> Tensor:
        """How far integrated maps are from what they should add up to.

        With ``weighting="integrated"``, ``rectifier="none"``, ``reduction="sum"`` and a baseline
        input, the sum of a map over its positions is the dimension's value for the input minus that
        for the baseline, up to the error of the integral, where all that the dimension reads passes
        through the layer. The delta is the sum minus that difference; more ``n_steps`` lessen it.

        Args:
            attributions: Maps (B, T, ...) of one layer, at the features' own size.
            start_point: The baseline: one input or a batch of them, or a number.
            end_point: The model's input (B, ...), or a tuple of inputs.
            target: Latent dimensions, as in ``attribute``.
            additional_forward_args: Further positional arguments of the model.

        Returns:
            Deltas (B, T), in the latent's units.

        Raises:
            TypeError: The maps are no tensor.
            ValueError: The maps are not of these inputs, or the baseline does not fit.
        """
        if not isinstance(attributions, Tensor):
            raise TypeError(
                f"attributions is a {type(attributions).__name__}; wanted the maps of one layer"
            )
        ends = end_point if isinstance(end_point, tuple) else (end_point,)
        starts = start_point if isinstance(start_point, tuple) else (start_point,)
        starts = (*starts, *ends[len(starts) :])
        extra = format_additional_forward_args(additional_forward_args) or ()
        values = []
        with torch.no_grad():
            for point in (ends, baseline_inputs(starts, ends)):
                codes, dims = self.codes(self.posterior.look(*point, *extra), target)
                values.append(codes[:, list(dims)])
        difference = values[0] - values[1]
        if attributions.shape[:2] != difference.shape:
            raise ValueError(
                f"attributions has shape {tuple(attributions.shape)}; wanted maps of "
                f"{tuple(difference.shape)} images and dimensions"
            )
        return attributions.flatten(2).sum(2) - difference

    def export(
        self,
        example: Tensor | tuple[Tensor, ...],
        path: str | Path,
        format: Format = "onnx",
        outputs: Sequence[Output] = OUTPUTS,
        **options: Any,
    ) -> ExportedFile:
        """Write the attribution as a file that runs without this package; as ONNX, without torch.

        The file takes any number of images of the example's size and gives their maps, and beside
        them what ``outputs`` names. It is compared with eager mode at 1 and 7 images before it is
        written; what cannot be exported is refused by the operation's name, and nothing is written.

        Args:
            example: The model's input (B, ...), or a tuple of inputs. It fixes all sizes but B; B
                images are what the memory of a backward pass is planned for, see ``memory_budget``.
            path: The file to write, such as ``maps.onnx`` or ``maps.pt2``.
            format: ``onnx``, for onnxruntime (``pip install 'captum-vae[export]'``), or ``torch``,
                for ``torch.export.load(path).module()``, which ``torch.compile`` takes too.
            outputs: Which of ``maps`` (``maps_0``, ``maps_1`` ... for several layers), ``mean``
                (B, D), ``log_variance`` (B, D) and ``reconstruction`` the file gives.
            **options: The options of ``attribute``, such as ``target``, ``preset``, ``baselines``
                and ``size``; and ``tolerance``, the largest difference from eager mode that is
                allowed, as a fraction of an output's largest value (1e-4, and 0.02 in half
                precision). A tensor among ``additional_forward_args`` with one row an image is an
                input of the file, ``additional_0``.

        Returns:
            What was written: names and shapes of inputs and outputs, the difference from eager
            mode, and the metadata that the file carries.

        Raises:
            NotExportableError: An operation has no form in the file, the model decides something by
                its values, draws random numbers or mixes images, or has no such output.
            ModuleNotFoundError: One of onnx, onnxscript and onnxruntime is not installed.

        Example::

            >>> cam = LatentGradCAM(vae, "encoder.conv2")
            >>> cam.export(torch.rand(2, 1, 28, 28), "maps.onnx", size="input", aggregate="mean")
        """
        from captum_vae.attr.export import export_attribution

        return export_attribution(self, example, path, format=format, outputs=outputs, **options)

    def explain_plan(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        target: Target = None,
        additional_forward_args: Any = None,
        attribute_to_layer_input: bool = False,
        *,
        weighting: Weighting = "pooled",
    ) -> tuple[LayerPlan, ...]:
        """How ``attribute`` would compute each layer's channel weights, and why: one plan a layer.

        Args:
            inputs: The model's input (B, ...), or a tuple of inputs.
            target: Latent dimensions: None for all D, an int, or several.
            additional_forward_args: Further positional arguments of the model.
            attribute_to_layer_input: Explain what the layer takes in, not what it puts out.
            weighting: ``pooled``, ``elementwise`` or ``integrated``.
        """
        check_choice("weighting", weighting, get_args(Weighting))
        layers = find_layers(self.forward_func, self.layer)
        call = (layers, inputs, target, additional_forward_args, attribute_to_layer_input)
        with self._checking(layers, inputs, attribute_to_layer_input, None):
            run = self._run(*call, create_graph=False)
        return tuple(plan_layers(run, pooled=weighting == "pooled"))

    def _checking(
        self,
        layers: Sequence[Module],
        inputs: Any,
        attribute_to_layer_input: bool,
        checks: Checks | None,
    ) -> AbstractContextManager[None]:
        """The block of one call, in which values are looked at or not."""
        checks = self.checks if checks is None else check_checks(checks)
        given = inputs if isinstance(inputs, tuple) else (inputs,)
        return checking(layers, given, checks, of=str(attribute_to_layer_input))

    def _run(
        self,
        layers: Sequence[Module],
        inputs: Tensor | tuple[Tensor, ...],
        target: Target,
        additional_forward_args: Any,
        attribute_to_layer_input: bool,
        create_graph: bool,
    ) -> ForwardPass:
        check_flag("attribute_to_layer_input", attribute_to_layer_input)
        tensors, extra = forward_arguments(inputs, additional_forward_args)
        run = run_layers(
            self.posterior,
            layers,
            tensors,
            extra,
            side="input" if attribute_to_layer_input else "output",
            keep_graph=create_graph,
            reshape=self.reshape_transform,
            explain=lambda posterior: self.codes(posterior, target),
        )
        if not create_graph and run.posterior is not None:
            warn_of_collapse(run.posterior, self.posterior)
        return run


class MeanSumGradCAM(LatentGradCAM):
    r"""Method 2: one attention map of the summed posterior mean.

    The score is s = sum over d of mu[b, d] (the paper's anomaly section and the authors' code), or
    of another quantity named by ``of``; ``target`` says which dimensions enter the sum, None for
    all. Maps are (B, 1, h, w).

    Example::

        >>> from captum_vae import MeanSumGradCAM
        >>> from captum_vae.models import MNISTVAE
        >>> vae = MNISTVAE().eval()
        >>> cam = MeanSumGradCAM(vae, vae.encoder.conv2)
        >>> cam.attribute(torch.rand(8, 1, 28, 28), preset="authors", size="input").shape
        torch.Size([8, 1, 28, 28])
    """

    def codes(self, posterior: Posterior, target: Target) -> tuple[Tensor, tuple[int, ...]]:
        """The sum over the target's dimensions, (B, 1)."""
        codes = self.quantity(posterior)
        if target is not None:
            dims = latent_dims(target, codes.shape[1])
            # No index is sent to the device, which would wait for it.
            codes = torch.stack([codes[:, dim] for dim in dims], 1)
        return codes.sum(1, keepdim=True), (0,)
