"""What training minimises: the ELBO, FactorVAE's total correlation on top, and extra terms."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from captum_vae.losses.density_ratio import (
    discriminator_loss,
    permute_dims,
    total_correlation,
)
from captum_vae.losses.elbo import ELBO


class VAEOutputs(NamedTuple):
    """What the model returned for a batch.

    Attributes:
        reconstruction: (B, C, H, W).
        mean: (B, D) or (B, D, h, w).
        log_variance: same shape as ``mean``.
    """

    reconstruction: Tensor
    mean: Tensor
    log_variance: Tensor


ExtraTerm = Callable[[nn.Module, Tensor, VAEOutputs], Tensor]
"""``term(model, batch, outputs)`` -> a scalar added to the loss."""


@runtime_checkable
class WatchingTerm(Protocol):
    """An extra term that looks at the forward whose outputs it is then called with."""

    def watching(self, model: nn.Module) -> AbstractContextManager[object]:
        """A context around that forward alone."""


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
            elbo: likelihood, KL weight and their schedule.
            learning_rate: of Adam.
            extra_terms: callables (model, batch, outputs) -> scalar, already weighted, added to
                the loss and logged by name. Those that are modules travel in the checkpoint; those
                with ``watching`` are asked to watch the forward (:class:`WatchingTerm`); a
                ``config`` of plain data is part of the objective's.

        Raises:
            ValueError: the learning rate is not positive, or a name is taken.
        """
        super().__init__()
        if not learning_rate > 0:
            raise ValueError(f"learning_rate must be positive, got {learning_rate}")
        self.elbo = elbo
        self.learning_rate = learning_rate
        self.extra_terms = dict(extra_terms or {})
        for name, term in self.extra_terms.items():
            if name in ("loss", "nll", "kl", "beta"):
                raise ValueError(f"extra_terms: {name!r} is the name of a term of the ELBO")
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
            return VAEOutputs(*model(batch)[:3])

    def _losses(
        self, model: nn.Module, batch: Tensor, outputs: VAEOutputs, step: int
    ) -> dict[str, Tensor]:
        reconstruction, mean, log_variance = outputs
        terms = self.elbo(reconstruction, batch, mean, log_variance, step=step)
        extra = {name: term(model, batch, outputs) for name, term in self.extra_terms.items()}
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
            elbo: likelihood and KL.
            gamma: weight of the total correlation.
            discriminator: (B, D) codes -> (B, 2) logits, class 0 for codes of q(z).
            learning_rate: of the VAE's Adam.
            discriminator_learning_rate: of the discriminator's Adam, betas (0.5, 0.9) as
                published.
            extra_terms: as in :class:`VAEObjective`.

        Raises:
            ValueError: a number out of range.
        """
        super().__init__(elbo, learning_rate=learning_rate, extra_terms=extra_terms)
        for name, value in {
            "gamma": gamma,
            "discriminator_learning_rate": discriminator_learning_rate,
        }.items():
            if not value > 0:
                raise ValueError(f"{name} must be positive, got {value}")
        self.gamma = gamma
        self.discriminator = discriminator
        self.discriminator_learning_rate = discriminator_learning_rate

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
            permuted = permute_dims(_sample(VAEOutputs(*model(second)[:3])))
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


def _sample(outputs: VAEOutputs) -> Tensor:
    mean, log_variance = outputs.mean.flatten(1), outputs.log_variance.flatten(1)
    return mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
