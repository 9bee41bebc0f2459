"""One training step of K stacked VAEs: what K objectives compute, without work that is in vain.

The losses are those of :mod:`captum_vae.training.objectives`. Three things are not computed, since
nothing depends on them: the reconstruction of FactorVAE's second batch, of which the codes alone
are used; the discriminator's gradients of the total correlation, which its optimizer discards; and
a second pass of the discriminator over the same codes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.optim import Adam, Optimizer

from captum_vae.losses.attention_disentanglement import MAP_OPTIONS, NonFiniteMapsError
from captum_vae.losses.elbo import ELBO, free_bits, kl_per_dimension
from captum_vae.models import FactorDiscriminator
from captum_vae.models.base import GaussianVAE
from captum_vae.models.stacked import (
    Convolutions,
    StackedCodes,
    StackedDiscriminator,
    StackedVAE,
)
from captum_vae.precision import at_least_float32
from captum_vae.training.attention_term import AttentionTerm
from captum_vae.training.objectives import FactorVAEObjective, VAEObjective


class Noise(NamedTuple):
    """The random numbers of one step, in the order in which an objective draws them.

    Attributes:
        decoded: Standard normal numbers of the latents that are decoded, (K, B, D).
        joint: Those of the codes that the discriminator sees, (K, B, D), or None for a plain VAE.
        second: Those of the second batch's codes, (K, B, D), or None.
        order: Uniform numbers that permute those, (K, B, D), or None.
    """

    decoded: Tensor
    joint: Tensor | None = None
    second: Tensor | None = None
    order: Tensor | None = None


class StackedStep:
    """The losses and gradients of K models on a batch each.

    Args:
        models: The VAEs, of one architecture.
        objectives: One for each, of one configuration: a ``VAEObjective`` or a
            ``FactorVAEObjective``, with no extra term or one ``AttentionTerm`` at the last
            convolution of the encoder or the ReLU after it.
        convolutions: How convolutions run; see :class:`~captum_vae.models.stacked.StackedVAE`.
        capturable: Whether a CUDA graph will record the step.

    Attributes:
        optimizers: Adam over the stacked weights, by the loss's name.
        batches_per_step: How many independent batches a step takes.

    Raises:
        ValueError: Models or objectives cannot be stacked; the message says why.
    """

    def __init__(
        self,
        models: Sequence[GaussianVAE],
        objectives: Sequence[VAEObjective],
        *,
        convolutions: Convolutions = "auto",
        capturable: bool = False,
    ) -> None:
        """Stack the weights."""
        if len(models) != len(objectives):
            raise ValueError(f"there are {len(models)} models and {len(objectives)} objectives")
        self.vae = StackedVAE(models, convolutions=convolutions)
        check_objectives_alike(objectives)
        first = objectives[0]
        if type(first) not in (VAEObjective, FactorVAEObjective):
            raise ValueError(
                f"the objective is a {type(first).__name__}; wanted a VAEObjective or a "
                "FactorVAEObjective"
            )
        self.elbo: ELBO = first.elbo
        self.batches_per_step = first.batches_per_step
        self.term = _attention_term(first, self.vae)
        self.optimizers: dict[str, Optimizer] = {
            "loss": Adam(
                [*self.vae.parameters.values()],
                lr=first.learning_rate,
                fused=True,
                capturable=capturable,
            )
        }
        self.discriminator: StackedDiscriminator | None = None
        if isinstance(first, FactorVAEObjective):
            self.gamma = first.gamma
            found = [o.discriminator for o in objectives if isinstance(o, FactorVAEObjective)]
            discriminators = [d for d in found if isinstance(d, FactorDiscriminator)]
            if len(discriminators) < len(found):
                raise ValueError("the discriminators of stacked runs must be FactorDiscriminators")
            self.discriminator = StackedDiscriminator(discriminators)
            self.optimizers["discriminator_loss"] = Adam(
                [*self.discriminator.parameters.values()],
                lr=first.discriminator_learning_rate,
                betas=(0.5, 0.9),
                fused=True,
                capturable=capturable,
            )

    def gradients(self, images: Tensor, noise: Noise, beta: Tensor) -> dict[str, Tensor]:
        """Put the gradients into the stacked weights and return the losses.

        Args:
            images: Each copy's images, (K, B, C, H, W) in [0, 1]; (K, 2 B, C, H, W) for FactorVAE.
            noise: The step's random numbers.
            beta: Weight of the KL, a scalar.

        Returns:
            The losses by name, (K,) each.
        """
        first, second = images.chunk(2, 1) if self.discriminator is not None else (images, None)
        keep = None if self.term is None else self.term.layer.removeprefix("encoder.")
        codes = self.vae.encode(first, keep)
        spread = (0.5 * codes.log_variance).exp()
        reconstruction = self.vae.decode(codes.mean + spread * noise.decoded)
        nll = torch.stack(
            [
                self.elbo.negative_log_likelihood(r, x).mean()
                for r, x in zip(reconstruction, first, strict=True)
            ]
        )
        kl = torch.stack(
            [
                kl_per_dimension(mean, log_variance)
                for mean, log_variance in zip(codes.mean, codes.log_variance, strict=True)
            ]
        )
        penalty = torch.stack([free_bits(one, self.elbo.free_bits).sum() for one in kl])
        loss = nll + beta * penalty
        losses = {"nll": nll, "kl": kl.sum(2).mean(1), "beta": beta.expand(len(nll))}
        if self.term is not None:
            losses["attention_overlap"] = self._overlaps(codes)
            loss = loss + losses["attention_overlap"]
        if second is not None:
            assert self.discriminator is not None and noise.joint is not None
            assert noise.second is not None and noise.order is not None
            z = codes.mean + spread * noise.joint
            with torch.no_grad():
                of_second = self.vae.encode(second)
                deviation = (0.5 * of_second.log_variance).exp()
                permuted = (of_second.mean + deviation * noise.second).gather(
                    1, noise.order.argsort(dim=1)
                )
                correlation, learned, gradient = self.discriminator.learn(z.detach(), permuted)
            # Its value adds nothing, its gradient is that of gamma times the total correlation.
            linear = (gradient.to(z.dtype) * (z - z.detach())).sum((1, 2))
            loss = loss + self.gamma * (linear + correlation)
            losses |= {"total_correlation": correlation, "discriminator_loss": learned}
        self.optimizers["loss"].zero_grad(set_to_none=True)
        # No loss depends on another copy's weights: the gradient of the sum is each one's own.
        torch.autograd.backward(loss.sum())
        return {"loss": loss.detach(), **{name: value.detach() for name, value in losses.items()}}

    def update(self) -> None:
        """Step the optimizers along the gradients."""
        for optimizer in self.optimizers.values():
            optimizer.step()

    def write_back(self) -> None:
        """Copy the stacked weights into the models and discriminators they came from."""
        self.vae.write_back()
        if self.discriminator is not None:
            self.discriminator.write_back()

    def _overlaps(self, codes: StackedCodes) -> Tensor:
        """The weighted overlap of each copy's attention maps, (K,)."""
        assert self.term is not None and codes.features is not None
        loss = self.term.loss
        options = dict(MAP_OPTIONS[loss.mode])
        options.update({k: v for k in ("rectifier", "order") if (v := getattr(loss, k))})
        with torch.autocast(codes.mean.device.type, enabled=False):
            weights = self.vae.channel_weights(codes, self.term.layer.removeprefix("encoder."))
            if options.pop("channel_weights") == "detached":
                weights = weights.detach()
            features = at_least_float32(codes.features).flatten(3)
            maps = _maps(weights, features, **options)
            overlaps = []
            for mean, log_variance, of_copy in zip(
                codes.mean, codes.log_variance, maps, strict=True
            ):
                kl = None
                if loss.gate == "kl":
                    kl = kl_per_dimension(mean.detach(), log_variance.detach())
                try:
                    overlaps.append(loss(of_copy, kl=kl))
                except NonFiniteMapsError:  # the loop stops at a loss of NaN, and says at which
                    overlaps.append(mean.sum() * math.nan)
        return self.term.weight * torch.stack(overlaps)


def check_objectives_alike(objectives: Sequence[VAEObjective]) -> None:
    """Refuse objectives of different kinds or configurations.

    Raises:
        ValueError: Two differ; the message shows both.
    """
    first = objectives[0]
    for number, objective in enumerate(objectives):
        if _words(objective) != _words(first) or type(objective) is not type(first):
            raise ValueError(
                f"objective {number} is {_words(objective)} and objective 0 {_words(first)}; "
                "stacked runs differ in their seed alone"
            )


def _maps(weights: Tensor, features: Tensor, *, rectifier: str, order: str) -> Tensor:
    """Maps (K, B, D, P) of channel weights (K, B, D, C) and features (K, B, C, P)."""
    if order == "after_sum":
        summed = weights @ features
        return summed.relu() if rectifier == "relu" else summed.abs()
    # relu(a b) = relu(a) relu(b) + relu(-a) relu(-b), and |a b| = |a| |b|: no (K, B, D, C, P).
    if rectifier == "relu":
        return weights.relu() @ features.relu() + (-weights).relu() @ (-features).relu()
    return weights.abs() @ features.abs()


def _attention_term(objective: VAEObjective, vae: StackedVAE) -> AttentionTerm | None:
    terms = list(objective.extra_terms.items())
    if not terms:
        return None
    name, term = terms[0]
    places = [f"encoder.{layer}" for layer in vae.last_features()]
    if len(terms) > 1 or name != "attention_overlap" or type(term) is not AttentionTerm:
        raise ValueError(
            f"stacked runs take one extra term, attention_overlap, got {[n for n, _ in terms]}"
        )
    if term.layer not in places:
        raise ValueError(
            f"stacked runs make maps at {places[0]} or {places[1]}, got {term.layer}; train with "
            "maps of another layer one seed at a time"
        )
    loss = term.loss
    if (loss.rectifier or MAP_OPTIONS[loss.mode]["rectifier"]) not in ("relu", "abs"):
        raise ValueError(f"stacked runs rectify maps by relu or abs, got {loss.rectifier!r}")
    if isinstance(loss.pairs, int):
        raise ValueError("stacked runs take pairs='all' or a list of pairs, not a number of them")
    return term


def _words(objective: VAEObjective) -> str:
    return json.dumps(objective.config, default=str, sort_keys=True)
