"""What training minimises: the ELBO, FactorVAE's total correlation on top, and extra terms."""

import typing
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from captum_vae.checks import real_number
from captum_vae.losses.density_ratio import (
    discriminator_loss,
    permute_dims,
    total_correlation,
)
from captum_vae.losses.elbo import ELBO
from captum_vae.training.contract import check_posterior, describe_outputs


class VAEOutputs(NamedTuple):
    """What the model returned for a batch.

    Attributes:
        reconstruction: The decoded images, (B, C, H, W).
        mean: Means of q(z|x), (B, D) or (B, D, h, w).
        log_variance: Log-variances of q(z|x), of the same shape as ``mean``.
        target: What the reconstruction is compared with: the images, or the features of a frozen
            encoder for a model that decodes those.
    """

    reconstruction: Tensor
    mean: Tensor
    log_variance: Tensor
    target: Tensor


ExtraTerm = Callable[[nn.Module, Tensor, VAEOutputs], Tensor]
"""``term(model, batch, outputs)`` -> a scalar added to the loss."""


@typing.runtime_checkable
class WatchingTerm(typing.Protocol):
    """An extra term that looks at the forward whose outputs it is then called with."""

    def watching(self, model: nn.Module) -> AbstractContextManager[object]:
        """A context around that forward alone."""


_NAMES_TAKEN = ("loss", "nll", "kl", "beta", "total_correlation", "discriminator_loss")


class VAEObjective(nn.Module):
    """The negative ELBO plus any extra terms, minimised with Adam.

    This is also the interface of every objective that the trainer takes: a module with

    - ``forward(model, batch, step)`` -> scalars by name, those with an optimizer minimised and
      the others logged;
    - ``optimizers(model)`` -> one optimizer per loss, by the loss's name, stepped in that order;
    - ``config``: plain data that tells two objectives apart;
    - ``batches_per_step``: how many independent batches ``batch`` is the concatenation of.

    Example::

        objective = VAEObjective(ELBO("optimal_gaussian"), extra_terms={"overlap": overlap})
    """

    batches_per_step = 1

    def __init__(
        self,
        elbo: ELBO,
        *,
        learning_rate: float = 1e-3,
        extra_terms: Mapping[str, ExtraTerm] | None = None,
    ) -> None:
        """Choose the loss.

        Args:
            elbo: Likelihood and weight of the KL with its schedule.
            learning_rate: Learning rate of Adam.
            extra_terms: Callables (model, batch, outputs) -> scalar, already weighted, added to
                the loss and logged by name. Those that are modules travel in the checkpoint; those
                with ``watching`` are asked to watch the forward (:class:`WatchingTerm`); a
                ``config`` of plain data is part of the objective's.

        Raises:
            TypeError: An argument is of another kind.
            ValueError: The learning rate is not positive and finite, or a name is taken.
        """
        super().__init__()
        if not isinstance(elbo, nn.Module) or not hasattr(elbo, "config"):
            raise TypeError(f"elbo is a {type(elbo).__name__}; wanted a captum_vae.losses.ELBO")
        if extra_terms is not None and not isinstance(extra_terms, Mapping):
            raise TypeError(f"extra_terms must be a dict of callables by name, got {extra_terms!r}")
        self.elbo = elbo
        self.learning_rate = real_number("learning_rate", learning_rate, above=0)
        self.extra_terms = dict(extra_terms or {})
        for name, term in self.extra_terms.items():
            if not isinstance(name, str) or not name.isidentifier() or not callable(term):
                raise TypeError(
                    f"extra_terms must be callables by name, got {name!r}: {type(term).__name__}"
                )
            if name in _NAMES_TAKEN:
                raise ValueError(f"extra_terms: {name!r} is the name of a term of the loss")
            if isinstance(term, nn.Module):
                self.add_module(f"extra_term_{name}", term)

    @property
    def config(self) -> dict[str, Any]:
        """Plain data for the checkpoint, compared when a run is resumed."""
        return {
            "name": type(self).__name__,
            "elbo": self.elbo.config,
            "learning_rate": self.learning_rate,
            "extra_terms": {
                name: getattr(term, "config", {}) for name, term in sorted(self.extra_terms.items())
            },
        }

    def optimizers(self, model: nn.Module) -> dict[str, Optimizer]:
        """Adam for the model and for the parameters that extra terms own."""
        owned = [
            parameter
            for term in self.extra_terms.values()
            if isinstance(term, nn.Module)
            for parameter in term.parameters()
        ]
        return {"loss": Adam([*model.parameters(), *owned], lr=self.learning_rate, fused=True)}

    def forward(self, model: nn.Module, batch: Tensor, step: int) -> dict[str, Tensor]:
        """The loss of a batch (B, C, H, W) in [0, 1] and its parts."""
        return self._losses(model, batch, self._outputs(model, batch), step)

    def _outputs(self, model: nn.Module, batch: Tensor) -> VAEOutputs:
        with ExitStack() as stack:
            for term in self.extra_terms.values():
                if isinstance(term, WatchingTerm):
                    stack.enter_context(term.watching(model))
            return _outputs_of(model, batch)

    def _losses(
        self, model: nn.Module, batch: Tensor, outputs: VAEOutputs, step: int
    ) -> dict[str, Tensor]:
        reconstruction, mean, log_variance, target = outputs
        terms = self.elbo(reconstruction, target, mean, log_variance, step=step)
        extra = {name: term(model, batch, outputs) for name, term in self.extra_terms.items()}
        for name, value in extra.items():
            if not isinstance(value, Tensor) or value.ndim:
                given = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
                raise ValueError(f"extra_terms: {name!r} gave {given}; wanted a scalar tensor")
        return {**terms, **extra, "loss": sum(extra.values(), start=terms["loss"])}


class FactorVAEObjective(VAEObjective):
    """The negative ELBO plus gamma x total correlation, and the discriminator that estimates it.

    Kim & Mnih, Disentangling by factorising, ICML 2018, algorithm 2. The discriminator sees codes
    detached from the VAE, and permutes those of a second, independent batch.
    """

    batches_per_step = 2

    def __init__(
        self,
        elbo: ELBO,
        *,
        gamma: float,
        discriminator: nn.Module,
        learning_rate: float = 1e-4,
        discriminator_learning_rate: float = 1e-4,
        extra_terms: Mapping[str, ExtraTerm] | None = None,
    ) -> None:
        """Choose the loss.

        Args:
            elbo: Likelihood and weight of the KL.
            gamma: Weight of the total correlation.
            discriminator: A module from codes (B, D) to logits (B, 2), class 0 for codes of q(z).
            learning_rate: Learning rate of the VAE's Adam.
            discriminator_learning_rate: Learning rate of the discriminator's Adam, whose betas
                are (0.5, 0.9) as published.
            extra_terms: Further terms of the VAE's loss, as in :class:`VAEObjective`.

        Raises:
            TypeError: An argument is of another kind.
            ValueError: A number is out of range.
        """
        super().__init__(elbo, learning_rate=learning_rate, extra_terms=extra_terms)
        if not isinstance(discriminator, nn.Module):
            raise TypeError(
                f"discriminator is a {type(discriminator).__name__}; wanted a torch.nn.Module from "
                "codes (B, D) to logits (B, 2)"
            )
        self.gamma = real_number("gamma", gamma, above=0)
        self.discriminator = discriminator
        self.discriminator_learning_rate = real_number(
            "discriminator_learning_rate", discriminator_learning_rate, above=0
        )

    @property
    def config(self) -> dict[str, Any]:
        """Plain data for the checkpoint, compared when a run is resumed."""
        return {
            **super().config,
            "gamma": self.gamma,
            "discriminator": dict(getattr(self.discriminator, "config", {})),
            "discriminator_learning_rate": self.discriminator_learning_rate,
        }

    def optimizers(self, model: nn.Module) -> dict[str, Optimizer]:
        """One Adam for the VAE and one for the discriminator."""
        discriminator = Adam(
            self.discriminator.parameters(),
            lr=self.discriminator_learning_rate,
            betas=(0.5, 0.9),
            fused=True,
        )
        return {**super().optimizers(model), "discriminator_loss": discriminator}

    def forward(self, model: nn.Module, batch: Tensor, step: int) -> dict[str, Tensor]:
        """Losses of the VAE and the discriminator on two batches, (2B, C, H, W)."""
        first, second = batch.chunk(2)
        outputs = self._outputs(model, first)
        z = _sample(outputs)
        with torch.no_grad():
            permuted = permute_dims(_sample(_outputs_of(model, second)))
        losses = self._losses(model, first, outputs, step)
        correlation = total_correlation(self.discriminator(z))
        return {
            **losses,
            "loss": losses["loss"] + self.gamma * correlation,
            "total_correlation": correlation,
            "discriminator_loss": discriminator_loss(
                self.discriminator(z.detach()), self.discriminator(permuted)
            ),
        }


def _outputs_of(model: nn.Module, batch: Tensor) -> VAEOutputs:
    outputs = model(batch)
    if not isinstance(outputs, (tuple, list)) or len(outputs) < 3:
        raise ValueError(
            f"model(images) gave {describe_outputs(outputs)}; wanted (reconstruction, mean, "
            "log-variance, ...)"
        )
    check_posterior("model(images)[1:]", outputs[1:], images=len(batch))
    decodes_features = getattr(model, "DECODES", "images") == "features"
    reconstruction, mean, log_variance = outputs[:3]
    return VAEOutputs(reconstruction, mean, log_variance, outputs[3] if decodes_features else batch)


def _sample(outputs: VAEOutputs) -> Tensor:
    mean, log_variance = outputs.mean.flatten(1), outputs.log_variance.flatten(1)
    return mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
