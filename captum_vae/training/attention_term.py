"""Attention disentanglement as an extra term of the training objective."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from torch import Tensor, nn

from captum_vae.attr.during_training import WatchedForward, watch_forward
from captum_vae.checks import real_number
from captum_vae.losses.attention_disentanglement import (
    AttentionDisentanglementLoss,
    NonFiniteMapsError,
)
from captum_vae.training.configuration import AttentionConfig
from captum_vae.training.objectives import VAEOutputs


class AttentionTerm(nn.Module):
    """The overlap of the attention maps times lambda (Liu et al. 2020, Eq. 6).

    The maps come from the forward that the objective makes anyway.

    Example::

        term = AttentionTerm(AttentionDisentanglementLoss(), layer="encoder.conv4")
        objective = FactorVAEObjective(elbo, ..., extra_terms={"attention_overlap": term})
    """

    def __init__(
        self, loss: AttentionDisentanglementLoss, *, layer: str, weight: float = 1.0
    ) -> None:
        """Choose the loss.

        Args:
            loss: Overlap of the maps: its mode, pairs, aggregation and gate.
            layer: Dotted name of the encoder layer whose features the maps weigh.
            weight: Factor of the overlap in the objective, lambda in the paper, which does not
                state its value; 1 in Table 1 of replication b.

        Raises:
            TypeError: An argument is of another kind.
            ValueError: The weight is negative or not finite.
        """
        super().__init__()
        if not isinstance(loss, AttentionDisentanglementLoss):
            raise TypeError(
                f"loss is a {type(loss).__name__}; wanted an AttentionDisentanglementLoss"
            )
        if not isinstance(layer, str) or not layer:
            raise TypeError(f"layer={layer!r} must be the dotted name of a layer")
        self.loss = loss
        self.layer = layer
        self.weight = real_number("weight", weight, least=0)
        self._watched: WatchedForward | None = None

    @classmethod
    def of(cls, config: AttentionConfig) -> "AttentionTerm":
        """The term that a configuration describes."""
        options = asdict(config)
        layer, weight = options.pop("layer"), options.pop("weight")
        return cls(AttentionDisentanglementLoss(**options), layer=layer, weight=weight)

    @property
    def config(self) -> dict[str, Any]:
        """Plain data for the checkpoint, compared when a run is resumed."""
        return {**self.loss.config, "layer": self.layer, "weight": self.weight}

    @contextmanager
    def watching(self, model: nn.Module) -> Iterator[None]:
        """Watch the forward of ``model`` made inside the ``with`` block."""
        with watch_forward(model, self.layer) as self._watched:
            yield

    def forward(self, model: nn.Module, batch: Tensor, outputs: VAEOutputs) -> Tensor:
        """The weighted overlap of the last watched forward, a scalar.

        Args:
            model: The VAE; extra terms are called with it, and this one does not use it.
            batch: The images, which this term does not use either.
            outputs: What the watched forward returned.

        Raises:
            RuntimeError: No forward was watched since the last call.
        """
        watched, self._watched = self._watched, None
        if watched is None:
            raise RuntimeError(
                "AttentionTerm saw no forward: run the model inside `with term.watching(model)`"
            )
        try:
            overlap = self.loss.of_forward(watched, outputs.mean, outputs.log_variance)
        except NonFiniteMapsError:  # the trainer stops at a loss of NaN, and says at which step
            overlap = outputs.mean.sum() * math.nan
        return self.weight * overlap
