"""Attention disentanglement as an extra term of the training objective."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from torch import Tensor, nn

from captum_vae.attr.during_training import WatchedForward, watch_forward
from captum_vae.losses.attention_disentanglement import AttentionDisentanglementLoss
from captum_vae.training.configuration import AttentionConfig
from captum_vae.training.objectives import VAEOutputs


class AttentionTerm(nn.Module):
    """lambda x overlap of the attention maps (Liu et al. 2020, Eq. 6).

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
            loss: mode, pairs, aggregation and gate.
            layer: dotted name of the encoder layer whose features the maps weigh.
            weight: lambda; 1 in Table 1 of replication b, which the paper does not state.

        Raises:
            ValueError: the weight is negative.
        """
        super().__init__()
        if not weight >= 0:
            raise ValueError(f"weight must be 0 or more, got {weight}")
        self.loss = loss
        self.layer = layer
        self.weight = weight
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
            model: unused; part of the interface of extra terms.
            batch: likewise.
            outputs: what the watched forward returned.

        Raises:
            RuntimeError: no forward was watched since the last call.
        """
        watched, self._watched = self._watched, None
        if watched is None:
            raise RuntimeError(
                "AttentionTerm saw no forward: run the model inside `with term.watching(model)`"
            )
        overlap = self.loss.of_forward(watched, outputs.mean, outputs.log_variance)
        return self.weight * overlap
