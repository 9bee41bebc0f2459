"""A detector's model on disk: those of this package whole, a person's own by its digest."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from captum_vae.models import LinearFeatureVAE, build_model
from captum_vae.plugins import PluginError

_ENCODER = "features.encoder."


@dataclass(frozen=True)
class ModelRecord:
    """What is kept of a model.

    Attributes:
        kind: "package" where name, configuration and weights rebuild it; "encoder" where they do
            so with an encoder that the person has to give again; "given" where they have to give
            the whole model.
        name: Its class.
        config: Arguments that rebuild a model of the package.
        digest: SHA-256 over class and weights.
    """

    kind: str
    name: str
    config: dict[str, Any]
    digest: str

    @classmethod
    def of(cls, model: Any) -> ModelRecord:
        """Describe a model."""
        name = type(model).__name__
        config = getattr(model, "config", None)
        if isinstance(model, nn.Module) and isinstance(config, Mapping) and _rebuilds(model):
            return cls("package", name, dict(config), digest_of(model))
        if isinstance(model, LinearFeatureVAE):
            settings = {
                k: v for k, v in model.config.items() if k not in ("encoder", "mean", "std")
            }
            return cls("encoder", name, settings, digest_of(model))
        return cls("given", name, {}, digest_of(model))

    def weights_of(self, model: Any) -> dict[str, Tensor]:
        """The weights that are saved: all, those but the encoder's, or none."""
        if self.kind == "given":
            return {}
        left_out = _ENCODER if self.kind == "encoder" else "\0"
        state: dict[str, Tensor] = model.state_dict()
        return {name: value for name, value in state.items() if not name.startswith(left_out)}

    def rebuilt(self, weights: Mapping[str, Tensor]) -> nn.Module:
        """The model of the package with these weights, in eval mode.

        Raises:
            ValueError: It cannot be built, or the weights do not fit.
        """
        model = build_model(self.name, **self.config)
        try:
            model.load_state_dict(dict(weights))
        except RuntimeError as error:
            raise ValueError(" ".join(str(error).split())) from error
        return model.eval()

    def around(self, encoder: Any, weights: Mapping[str, Tensor]) -> nn.Module:
        """The linear VAE of features around the person's own encoder.

        Raises:
            ValueError: It is another encoder than the one that the detector was fitted with.
        """
        if isinstance(encoder, LinearFeatureVAE):
            self.check(encoder)
            return encoder.eval()
        try:
            model = LinearFeatureVAE(encoder, **self.config)
            own = {k: v for k, v in model.state_dict().items() if k.startswith(_ENCODER)}
            model.load_state_dict({**own, **weights})
        except (ValueError, RuntimeError, TypeError) as error:
            raise ValueError(
                f"model does not fit the saved detector: {' '.join(str(error).split())}; give the "
                "encoder that it was fitted with"
            ) from error
        self.check(model)
        return model.eval()

    def check(self, model: Any) -> None:
        """Refuse another model than the one that the detector was fitted with.

        Raises:
            ValueError: Its class or weights differ.
        """
        found = digest_of(model)
        if found != self.digest:
            raise ValueError(
                f"model is a {type(model).__name__} with the digest {found[:12]}; the detector was "
                f"fitted with a {self.name} with the digest {self.digest[:12]}: give the same "
                "model with the same weights, or fit a detector anew"
            )


def digest_of(model: Any) -> str:
    """SHA-256 over a model's class and weights; over the class alone for a plain function."""
    total = hashlib.sha256(type(model).__name__.encode())
    state = model.state_dict() if isinstance(model, nn.Module) else {}
    for name, value in state.items():
        total.update(f"{name} {getattr(value, 'dtype', type(value))}".encode())
        if isinstance(value, Tensor):
            content = value.detach().cpu().contiguous()
            total.update(str(tuple(content.shape)).encode())
            total.update(content.reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def _rebuilds(model: nn.Module) -> bool:
    """Whether the class is a registered one, so that its name and configuration rebuild it."""
    if any(not isinstance(value, Tensor) for value in model.state_dict().values()):
        return False
    try:
        twin = build_model(type(model).__name__, **dict(model.config))  # type: ignore[arg-type]
    except (PluginError, TypeError, ValueError, RuntimeError, ImportError):
        return False
    return type(twin) is type(model)
