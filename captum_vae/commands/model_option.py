"""The option that says where a command takes its VAE from.

The command line's parser runs what stands under ``TYPE_CHECKING`` in a module whose options it
reads, so it stands apart from what loads the model.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class ModelSource:
    """Where the VAE comes from: either a checkpoint or a factory.

    Attributes:
        checkpoint: A run's folder or checkpoint of captum-vae fit.
        factory: A package.module:function of your own, called with the options; it returns the
            model with its weights.
        options: Arguments of the factory.
        posterior: How to read the model's posterior, in the words of PosteriorAdapter; left out,
            it is detected.
    """

    checkpoint: str | None = None
    factory: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    posterior: str | None = None
