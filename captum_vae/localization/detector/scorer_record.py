"""Scorers by name, built, taken apart into plain options and tensors, and put together again."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from captum_vae.localization.scorer import AnomalyScorer
from captum_vae.plugins import Registry


@dataclass(frozen=True)
class ScorerRecord:
    """What rebuilds a scorer: its registered name and its arguments beside the model."""

    name: str
    options: dict[str, Any]

    @classmethod
    def of(cls, scorer: AnomalyScorer) -> ScorerRecord:
        """Describe a scorer.

        Raises:
            TypeError: Its class is not registered, so that nothing could build it again.
        """
        registry = Registry("scorers")
        reference = f"{type(scorer).__module__}:{type(scorer).__qualname__}"
        for name in registry.names:
            found = registry.plugin(name).reference
            if found.rpartition(":")[2] == type(scorer).__name__ and isinstance(
                scorer, registry.load(name)
            ):
                return cls(name, _arguments(scorer))
        raise TypeError(
            f"scorer is a {reference}, which is not registered; register it under the entry-point "
            "group captum_vae.scorers, so that a saved detector finds it again"
        )

    def build(self, model: Any, posterior: Any) -> AnomalyScorer:
        """The scorer of a model, not fitted.

        Raises:
            ValueError: There is no such scorer, or it does not take the options.
        """
        factory = Registry("scorers").load(self.name)
        try:
            inspect.signature(factory).bind(model, posterior=posterior, **self.options)
        except TypeError as error:
            raise ValueError(
                f"the options of the scorer {self.name!r} do not fit: {error}"
            ) from error
        scorer: AnomalyScorer = factory(model, posterior=posterior, **self.options)
        return scorer


def fitted_state(scorer: AnomalyScorer) -> dict[str, Tensor]:
    """What a scorer has learned from normal images, as tensors by name.

    Raises:
        TypeError: A scorer of another package does not say.
    """
    if not hasattr(scorer, "state_dict") or not hasattr(scorer, "load_state_dict"):
        raise TypeError(
            f"{type(scorer).__name__} has no state_dict() and load_state_dict(state), which a "
            "detector is saved by; add them"
        )
    return dict(scorer.state_dict())


def load_fitted_state(scorer: AnomalyScorer, state: Mapping[str, Tensor]) -> None:
    """Give a scorer of the same options what another one has learned."""
    scorer.load_state_dict(dict(state))  # type: ignore[attr-defined]


def _arguments(scorer: AnomalyScorer) -> dict[str, Any]:
    """The arguments that a scorer was built with, read from attributes of the same name."""
    config = getattr(scorer, "config", None)
    if isinstance(config, Mapping):
        return dict(config)
    places = [scorer, getattr(scorer, "options", None), getattr(scorer, "_cam", None)]
    found: dict[str, Any] = {}
    for name, parameter in inspect.signature(type(scorer).__init__).parameters.items():
        if name in ("self", "model", "posterior") or parameter.kind is parameter.VAR_KEYWORD:
            continue
        for place in places:
            if hasattr(place, name):
                value = getattr(place, name)
                found[name] = list(value) if isinstance(value, tuple) else value
                break
    return found
