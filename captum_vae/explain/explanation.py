"""The maps of one's own images, with what the posterior says about each latent dimension."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from captum_vae.data.sample import SampleDataset
from captum_vae.explain.decoded import Decoded
from captum_vae.files import replacing
from captum_vae.posterior import CollapsedPosteriorWarning
from captum_vae.posterior.usage import is_active, rule_in_words, std_over_images
from captum_vae.report.notebook import show


@dataclass(frozen=True)
class Explanation:
    """Maps of N images, one for each of T latent dimensions or one for all of them together.

    Attributes:
        layer_maps: By the name of each layer, (N, T, h, w) float32 at the size of its features; T
            is the number of ``dims``, or 1 for a map of all of them together. The name is empty for
            an attribution that takes no layer.
        dims: The latent dimensions that were explained.
        mean: (N, D) posterior means.
        kl: (N, D) KL to the prior in nats, or None where the log-variance is unknown.
        names: The names of the N images.
        images: The images themselves, in [0, 1].
        device: Where the maps were computed.
        settings: How the maps were made, for JSON: model, layer, attribution, options, plan and
            images.
        decoded: Decodes images, for the page; None shows neither reconstructions nor traversals.
        faithfulness: Rows of :func:`~captum_vae.explain.faithful.measure_faithfulness`; empty where
            it was not asked for.
    """

    layer_maps: Mapping[str, Tensor]
    dims: tuple[int, ...]
    mean: Tensor
    kl: Tensor | None
    names: tuple[str, ...]
    images: SampleDataset
    device: torch.device
    settings: Mapping[str, Any]
    decoded: Decoded | None = None
    faithfulness: tuple[Mapping[str, Any], ...] = ()

    @property
    def maps(self) -> Tensor:
        """(N, T, h, w) maps of the layer, or of the first where there are several."""
        return next(iter(self.layer_maps.values()))

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of the layers, in the order in which they were asked for."""
        return tuple(self.layer_maps)

    @property
    def per_dimension(self) -> bool:
        """Whether every dimension has a map of its own."""
        return self.maps.shape[1] == len(self.dims)

    @property
    def usage(self) -> Tensor:
        """(D,) by which dimensions are ordered: mean KL, else the spread of the posterior mean."""
        return self.mean.std(0, correction=0) if self.kl is None else self.kl.mean(0)

    @property
    def order(self) -> list[int]:
        """Places in ``dims``, the most used dimension first."""
        ranked: list[int] = self.usage[list(self.dims)].argsort(descending=True).tolist()
        return ranked

    @property
    def collapsed(self) -> set[int]:
        """Dimensions that ignore the images; none where the KL is unknown."""
        if self.kl is None:
            return set()
        active = is_active(self.kl.mean(0), std_over_images(self.mean))
        return set((~active).nonzero().flatten().tolist())

    @property
    def rule(self) -> str:
        """What makes a dimension count as active here, in words."""
        return rule_in_words(std_known=std_over_images(self.mean) is not None)

    @property
    def meaningless(self) -> bool:
        """Whether every dimension that is explained is collapsed."""
        return self.collapsed >= set(self.dims)

    def save(self, path: str | Path) -> None:
        """Write the numbers as .npz, whole or not at all.

        Args:
            path: The file: maps (N, T, h, w), dims (T,), kl (N, D; NaN where it is unknown), mean
                (N, D) and names (N,). Of several layers, the maps of each are under its name, such
                as ``maps_encoder.conv1``.

        Raises:
            OSError: The disk is full or refuses; the message names the file.
        """
        kl = torch.full_like(self.mean, torch.nan) if self.kl is None else self.kl
        arrays: dict[str, Any] = {
            f"maps_{name}" if len(self.layer_maps) > 1 else "maps": maps.numpy()
            for name, maps in self.layer_maps.items()
        }
        with replacing(path) as file:
            np.savez_compressed(
                file,
                **arrays,
                dims=np.asarray(self.dims),
                kl=kl.numpy(),
                mean=self.mean.numpy(),
                names=np.asarray(self.names),
            )

    def _repr_html_(self) -> str:
        """A small grid of the first images and the most used dimensions, for a notebook."""
        count = min(6, len(self.names))
        places = self.order if self.per_dimension else [0]
        titles = [f"z{self.dims[place]}" for place in places] if self.per_dimension else ["all"]
        return show(
            self.maps[:count, places],
            torch.stack([self.images[index].image for index in range(count)]),
            titles=titles,
            names=self.names[:count],
            max_images=count,
        )._repr_html_()

    def to_dict(self) -> dict[str, Any]:
        """How the maps were made and what is known of the dimensions, for JSON."""
        mean_kl = None if self.kl is None else [round(x, 6) for x in self.kl.mean(0).tolist()]
        return {
            **self.settings,
            "dims": list(self.dims),
            "order": [self.dims[place] for place in self.order],
            "mean_kl_nats": mean_kl,
            "collapsed": sorted(self.collapsed),
            **({"faithfulness": list(self.faithfulness)} if self.faithfulness else {}),
        }

    def warn_if_collapsed(self) -> None:
        """Warn when no dimension that is explained says anything about the images."""
        if self.meaningless:
            assert self.kl is not None
            warnings.warn(
                f"the posterior carries no information about these images (largest KL "
                f"{float(self.kl.mean(0).max()):.2g} nats): the VAE is untrained or collapsed, "
                "and its maps are noise",
                CollapsedPosteriorWarning,
                stacklevel=2,
            )
