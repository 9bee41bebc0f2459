"""The choices that losses offer by name. Needs no torch, so that a command's help can list them."""

from typing import Literal

Likelihood = Literal["bernoulli", "gaussian", "optimal_gaussian"]
"""What the decoder's output means; see :class:`captum_vae.losses.ELBO`."""

OutputScale = Literal["probabilities", "logits"]
"""What a decoder puts out under a Bernoulli likelihood."""

Mode = Literal["paper", "replication", "normalised"]
"""What overlap means; see :mod:`captum_vae.losses.attention_disentanglement`."""

Aggregation = Literal["mean", "sum"]
"""How the overlaps of pairs of latent dimensions become one number."""

Gate = Literal["none", "kl"]
"""Whether collapsed dimensions count less in the overlap."""
