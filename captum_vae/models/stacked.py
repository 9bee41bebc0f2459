"""Several copies of a VAE, or of a discriminator, with weights of their own, run as one.

The weights of K copies are stacked along a first axis of length K. Linear layers of all copies are
one batched product. Convolutions have no batched form: on the CPU each copy's runs by itself, in
the layout that is fastest there, and on a GPU they run as one grouped convolution, so that K small
models take as many kernels as one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import stack_module_state
from torch.nn import functional as F

from captum_vae.checks import check_choice
from captum_vae.models.base import GaussianVAE
from captum_vae.models.factor import FactorDiscriminator
from captum_vae.models.grey_output import DoubledToGrey, doubles_to_grey
from captum_vae.precision import at_least_float32

Convolutions = Literal["auto", "each", "grouped"]
"""How the convolutions of K copies run: one after another, or as one with K groups."""

_ELEMENTWISE = (nn.ReLU, nn.Sigmoid, nn.Identity)
_CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)
_KNOWN = (*_ELEMENTWISE, *_CONVOLUTIONS, nn.Linear, nn.Flatten, nn.Unflatten)


class StackedCodes(NamedTuple):
    """What the encoders of K copies gave.

    Attributes:
        mean: Posterior means, (K, B, D).
        log_variance: Logarithms of the posterior variances, (K, B, D).
        features: Features of the layer asked for, (K, B, C, h, w), or None.
        hidden: What the heads for mean and log-variance were given, (K, B, J).
    """

    mean: Tensor
    log_variance: Tensor
    features: Tensor | None
    hidden: Tensor


class StackedVAE:
    """K copies of a convolutional VAE with a vector latent, such as ``FactorVAE``.

    Args:
        models: The copies, of one architecture and on one device. Their weights are copied;
            :meth:`write_back` copies them back.
        convolutions: ``"each"`` runs the convolutions of one copy after another, ``"grouped"``
            those of all copies as one; ``"auto"`` chooses the first on the CPU and the second on a
            GPU.

    Attributes:
        parameters: The stacked weights by name, (K, ...) each.

    Raises:
        ValueError: There is no copy, they differ in architecture, or hold a layer that cannot be
            stacked (batch normalisation, or a spatial latent).

    Example::

        stack = StackedVAE([FactorVAE(10) for _ in range(8)])
        codes = stack.encode(torch.rand(8, 64, 1, 64, 64))  # mean (8, 64, 10)
        images = stack.decode(codes.mean)  # (8, 64, 1, 64, 64)
    """

    def __init__(
        self, models: Sequence[GaussianVAE], *, convolutions: Convolutions = "auto"
    ) -> None:
        """Stack the copies' weights."""
        check_choice("convolutions", convolutions, ("auto", "each", "grouped"))
        self.models = list(models)
        _check_alike(self.models)
        template = self.models[0]
        if len(template.latent_shape) != 1:
            raise ValueError("stacked models need a vector latent, latent='vector'")
        for part in ("encoder", "decoder", "mean", "log_variance"):
            _check_layers(part, getattr(template, part))
        self.parameters = _stacked(self.models)
        on_cpu = next(iter(self.parameters.values())).device.type == "cpu"
        self.grouped = convolutions == "grouped" or (convolutions == "auto" and not on_cpu)

    def encode(self, images: Tensor, keep: str | None = None) -> StackedCodes:
        """Posteriors of each copy's own images.

        Args:
            images: Images (K, B, C, H, W), those of copy k first index k.
            keep: Name of a layer of the encoder whose features are wanted too, such as ``"conv4"``.
        """
        hidden, features = self._run("encoder", images, keep)
        return StackedCodes(
            self._linear("mean", hidden), self._linear("log_variance", hidden), features, hidden
        )

    def decode(self, z: Tensor) -> Tensor:
        """Images (K, B, C, H, W) of each copy's own latents (K, B, D)."""
        return self._run("decoder", z, None)[0]

    def last_features(self) -> tuple[str, str]:
        """Names within the encoder of its last convolution and the ReLU after it."""
        names = [name for name, layer in self._layers("encoder") if isinstance(layer, nn.Conv2d)]
        return names[-1], names[-1].replace("conv", "relu")

    def channel_weights(self, codes: StackedCodes, layer: str) -> Tensor:
        """Pooled gradients of the means with respect to the last features, in closed form.

        With features A (C, P positions), f = flatten(relu(A)), h = relu(W1 f + b1), mu = Wm h + bm:

            alpha[d, c] = mean_p d mu_d / d A[c, p]
                        = 1/P sum_j Wm[d, j] [h_j > 0] sum_p W1[j, (c, p)] [A[c, p] > 0],

        where the inner bracket falls away for the ReLU's own output, and without a hidden layer the
        heads take the place of W1. The brackets have no gradient.

        Args:
            codes: What :meth:`encode` gave with ``keep=layer``.
            layer: One of :meth:`last_features`.

        Returns:
            The channel weights alpha, (K, B, D, C), in float32 or wider.
        """
        assert codes.features is not None
        features = at_least_float32(codes.features)
        copies, images, channels = features.shape[:3]
        positions = features[0, 0, 0].numel()
        heads = at_least_float32(self.parameters["mean.weight"])
        first = at_least_float32(self.parameters.get("encoder.fc1.weight", heads))
        by_place = first.reshape(copies, -1, channels, positions)
        if layer == self.last_features()[1]:
            answers = (by_place.sum(3) / positions)[:, None].expand(-1, images, -1, -1)
        else:
            open_ = (features.detach().flatten(3) > 0).to(features.dtype)
            # (K, C, B, P) @ (K, C, P, J): how each unit answers channel c of image b.
            answers = open_.transpose(1, 2) @ by_place.permute(0, 2, 3, 1)
            answers = answers.permute(0, 2, 3, 1) / positions
        if first is heads:
            return answers
        return heads[:, None] * (codes.hidden.detach() > 0)[:, :, None] @ answers

    def write_back(self) -> None:
        """Copy the stacked weights into the models they came from."""
        _write_back(self.parameters, self.models)

    def _layers(self, part: str) -> list[tuple[str, nn.Module]]:
        return list(getattr(self.models[0], part).named_children())

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return _linear(x, self.parameters[f"{name}.weight"], self.parameters[f"{name}.bias"])

    def _run(self, part: str, x: Tensor, keep: str | None) -> tuple[Tensor, Tensor | None]:
        """Run a part; images travel between convolutions as ``_Images`` and elsewhere stacked."""
        kept: Tensor | None = None
        images = _Images(x, self.grouped) if x.dim() == 5 else None
        for name, layer in self._layers(part):
            if isinstance(layer, _CONVOLUTIONS):
                if images is None:
                    images = _Images(x, self.grouped)
                images.convolve(
                    layer,
                    self.parameters[f"{part}.{name}.weight"],
                    self.parameters.get(f"{part}.{name}.bias"),
                )
            elif isinstance(layer, nn.Linear):
                x = self._linear(f"{part}.{name}", x)
            elif isinstance(layer, nn.Flatten):
                x = x if images is None else images.stacked()
                x, images = x.flatten(2), None
            elif isinstance(layer, nn.Unflatten):
                x = x.reshape(*x.shape[:2], *layer.unflattened_size)
            elif images is not None:
                images.apply(layer, in_place=name != keep)
            else:
                x = layer(x)
            if name == keep:
                assert images is not None
                kept = x = images.stacked()
                images = _Images(x, self.grouped, owned=False)
        return (x if images is None else images.stacked()), kept


class StackedDiscriminator:
    """K copies of a ``FactorDiscriminator``, and their training step in closed form.

    Args:
        models: The copies, of one architecture and on one device.

    Attributes:
        parameters: The stacked weights by name, (K, ...) each.

    Raises:
        ValueError: There is no copy, or they differ in architecture.
    """

    def __init__(self, models: Sequence[FactorDiscriminator]) -> None:
        """Stack the copies' weights."""
        self.models = list(models)
        _check_alike(self.models)
        self.parameters = _stacked(self.models)
        self._slope = self.models[0].slope
        self._names = [f"network.fc{i}" for i in range(1, self.models[0].layers + 1)]

    def learn(self, z: Tensor, permuted: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Put the gradients of the discriminators' losses into their weights' ``grad``.

        Both losses see the logits through l = logit_0 - logit_1 alone, and the rows of a batch do
        not meet. So one backward pass of l itself serves the total correlation, mean(l) over rows
        of ``z``, and the cross-entropy (half of the means of softplus(-l) over ``z`` and of
        softplus(l) over ``permuted``), whose gradient is that of l times a number per row.

        Args:
            z: Codes of q(z), (K, B, D), without a graph.
            permuted: Codes with permuted dimensions, (K, B, D).

        Returns:
            Total correlation (K,), the discriminators' losses (K,), and the gradient of the total
            correlation with respect to ``z``, (K, B, D).
        """
        images = z.shape[1]
        weight, bias = self._of("network.logits")
        inputs = [torch.cat([z, permuted], 1)]
        for name in self._names:
            before = _linear(inputs[-1], *self._of(name))
            inputs.append(F.leaky_relu_(before, self._slope))
        logits = at_least_float32(_linear(inputs[-1], weight, bias))
        log_odds = logits[..., 0] - logits[..., 1]
        joint, shuffled = log_odds[:, :images], log_odds[:, images:]
        loss = 0.5 * (F.softplus(-joint).mean(1) + F.softplus(shuffled).mean(1))
        # d loss / d l, row by row.
        scale = torch.cat([-torch.sigmoid(-joint), torch.sigmoid(shuffled)], 1) * (0.5 / images)
        self._set("network.logits", torch.stack([scale, -scale], 2), inputs[-1])
        scale = scale[..., None]
        unit = (weight[:, 0] - weight[:, 1])[:, None].to(inputs[-1].dtype)
        for name, given, output in zip(
            reversed(self._names), reversed(inputs[:-1]), reversed(inputs[1:]), strict=True
        ):
            # Leaky ReLU keeps signs, so that its output tells the slope.
            unit = torch.ops.aten.leaky_relu_backward(
                unit.expand_as(output), output, self._slope, self_is_result=True
            )
            self._set(name, unit * scale.to(unit.dtype), given)
            if name == self._names[0]:
                unit = unit[:, :images]
            unit = torch.bmm(unit, self.parameters[f"{name}.weight"].to(unit.dtype))
        return joint.mean(1), loss, at_least_float32(unit) / images

    def write_back(self) -> None:
        """Copy the stacked weights into the models they came from."""
        _write_back(self.parameters, self.models)

    def _of(self, name: str) -> tuple[Tensor, Tensor]:
        return self.parameters[f"{name}.weight"], self.parameters[f"{name}.bias"]

    def _set(self, name: str, gradient: Tensor, given: Tensor) -> None:
        weight, bias = self._of(name)
        gradient = gradient.to(given.dtype)
        weight.grad = torch.bmm(gradient.mT, given).to(weight.dtype)
        bias.grad = at_least_float32(gradient).sum(1).to(bias.dtype)


class _Images:
    """Images of K copies between convolutions: a list of K batches, or one of K times the channels.

    Args:
        stacked: Images (K, B, C, h, w).
        grouped: Whether convolutions run as one of K groups.
        owned: Whether an element-wise layer may write into these images.
    """

    def __init__(self, stacked: Tensor, grouped: bool, *, owned: bool = False) -> None:
        self.copies = len(stacked)
        self.owned = owned
        if grouped:
            copies, images, channels, *size = stacked.shape
            together = stacked.transpose(0, 1).reshape(images, copies * channels, *size)
            self.parts = [together.contiguous(memory_format=torch.channels_last)]
        else:
            self.parts = list(stacked.unbind())
            if stacked.device.type == "cpu":
                # This layout makes the convolutions of small models a quarter faster on the CPU.
                self.parts = [_channels_last(part) for part in self.parts]
        self.groups = self.copies if grouped else 1

    def convolve(self, layer: Any, weight: Tensor, bias: Tensor | None) -> None:
        biases: list[Tensor | None] = [None] * len(weight)
        if bias is not None:
            biases = list(bias.unbind())
        if self.groups > 1:
            weights, biases = [weight.flatten(0, 1)], [None if bias is None else bias.flatten()]
        else:
            weights = list(weight.unbind())
        self.owned = True
        if self.groups == 1 and weight.device.type == "cpu" and doubles_to_grey(layer):
            self.parts = [
                _plus(DoubledToGrey.apply(part, w.to(part.dtype)), b)
                for part, w, b in zip(self.parts, weights, biases, strict=True)
            ]
            return
        options: dict[str, Any] = {"stride": layer.stride, "padding": layer.padding}
        options |= {"groups": self.groups, "dilation": layer.dilation}
        function: Callable[..., Tensor] = F.conv2d
        if isinstance(layer, nn.ConvTranspose2d):
            function = F.conv_transpose2d
            options["output_padding"] = layer.output_padding
        self.parts = [
            function(part, w, b, **options)
            for part, w, b in zip(self.parts, weights, biases, strict=True)
        ]

    def apply(self, layer: nn.Module, *, in_place: bool) -> None:
        if isinstance(layer, nn.ReLU) and in_place and self.owned:
            self.parts = [F.relu_(part) for part in self.parts]
        else:
            self.parts = [layer(part) for part in self.parts]

    def stacked(self) -> Tensor:
        """(K, B, C, h, w)."""
        if self.groups == 1:
            return torch.stack(self.parts)
        (part,) = self.parts
        images, channels, *size = part.shape
        by_copy = part.reshape(images, self.copies, channels // self.copies, *size)
        return by_copy.transpose(0, 1)


def _plus(images: Tensor, bias: Tensor | None) -> Tensor:
    return images if bias is None else images + bias.view(1, -1, 1, 1)


def _linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """(K, B, I) by K layers of weight (K, O, I) and bias (K, O): (K, B, O)."""
    return torch.baddbmm(bias[:, None], x, weight.mT)


def _stacked(models: Sequence[nn.Module]) -> dict[str, nn.Parameter]:
    parameters, _ = stack_module_state(list(models))
    return {name: nn.Parameter(_in_fast_layout(value)) for name, value in parameters.items()}


def _in_fast_layout(stacked: Tensor) -> Tensor:
    """A copy in which the weights of each convolution lie as ``channels_last`` on the CPU."""
    value = stacked.detach().clone()
    if value.dim() != 5 or value.device.type != "cpu":
        return value
    return torch.stack([_channels_last(of_copy) for of_copy in value])


def _channels_last(images: Tensor) -> Tensor:
    """(B, C, h, w) laid out as (B, h, w, C), and with the strides of that also for one channel.

    With one channel the two layouts are one, and PyTorch takes it for the other, in which it then
    puts out many channels that the next convolution has to copy.
    """
    channels, height, width = images.shape[1:]
    images = images.contiguous(memory_format=torch.channels_last)
    if channels > 1:
        return images
    return images.as_strided(images.shape, (height * width, 1, width, 1))


def _write_back(parameters: dict[str, nn.Parameter], models: Sequence[nn.Module]) -> None:
    with torch.no_grad():
        for copy, model in enumerate(models):
            for name, parameter in model.named_parameters():
                parameter.copy_(parameters[name][copy])


def _check_alike(models: Sequence[Any]) -> None:
    if not models:
        raise ValueError("there is no model to stack")
    first = models[0]
    for number, model in enumerate(models):
        if type(model) is not type(first) or model.config != first.config:
            raise ValueError(
                f"model {number} is a {type(model).__name__}({model.config}) and model 0 a "
                f"{type(first).__name__}({first.config}); stacked models share one architecture"
            )


def _check_layers(part: str, module: nn.Module) -> None:
    layers = dict(module.named_children()) or {"": module}
    for name, layer in layers.items():
        if not isinstance(layer, _KNOWN):
            raise ValueError(
                f"{part}.{name}".rstrip(".") + f" is a {type(layer).__name__}, which cannot be "
                "stacked; train such a model one seed at a time"
            )
