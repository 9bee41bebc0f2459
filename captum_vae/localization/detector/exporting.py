"""A whole detector as one file that runs without this package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from captum_vae.attr.export import ExportedFile, export_function
from captum_vae.attr.export.options import Format
from captum_vae.data.value_range import to_value_range
from captum_vae.localization.detector.fitted import Fitted
from captum_vae.localization.detector.fused_maps import mean_map
from captum_vae.localization.detector.image_scores import image_scores
from captum_vae.localization.detector.options import Promise
from captum_vae.localization.model_pass import ModelPass
from captum_vae.localization.scorer import Scorer


def export_detector(
    fitted: Fitted, promise: Promise, path: str | Path, format: Format
) -> ExportedFile:
    """Write encoder, maps, smoothing, threshold and calibration; see :class:`AnomalyDetector`."""
    for scorer in fitted.scorers:
        if not isinstance(scorer, Scorer):
            raise TypeError(
                f"{type(scorer).__name__} is a scorer of another package, which cannot be recorded"
            )
    compute = _Detection(fitted, promise)
    example = torch.rand(2, fitted.channels, *fitted.size)
    if isinstance(fitted.model, nn.Module):
        for tensor in (*fitted.model.parameters(), *fitted.model.buffers()):
            example = example.to(tensor.device)
            break
    about: dict[str, Any] = {
        "kind": "captum_vae detector",
        "pixel_threshold": fitted.pixel.threshold,
        "pixel_rate": fitted.pixel.rate,
        "alpha": fitted.image.alpha,
        "score": promise.score,
        "image_size": list(fitted.size),
        "channels": fitted.channels,
        "pixels": "float32 from 0 (black) to 1 (white)",
    }
    return export_function(
        compute, example, path, format=format, input_names=("image",), metadata=about
    )


class _Detection:
    """What a detector computes of a batch, in tensors alone."""

    def __init__(self, fitted: Fitted, promise: Promise) -> None:
        self.fitted = fitted
        self.promise = promise
        self.table = fitted.image.p_value_table()

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """Map (B, H, W), mask, score, p-value, verdict and area (B,) of images (B, C, H, W)."""
        fitted = self.fitted
        images = to_value_range(images, fitted.value_range)
        threshold = fitted.pixel.threshold
        size = (int(images.shape[2]), int(images.shape[3]))
        scaled = []
        for scorer, scale in zip(fitted.scorers, fitted.scales, strict=True):
            assert isinstance(scorer, Scorer)
            shared = ModelPass(images, scorer.model, scorer.adapter, scorer.layers)
            scaled.append((scorer.score_pass(shared), scale))
        smoothing = fitted.protocol.smoothing
        maps = mean_map(scaled, size, smoothing, count=len(scaled)).detach()
        scores = image_scores(maps, self.promise.score, top=self.promise.top, threshold=threshold)
        above = (torch.as_tensor(fitted.image.scores).to(scores) >= scores[:, None]).double()
        table = torch.as_tensor(self.table).to(scores)
        p_values = table[0] + above @ (table[1:] - table[:-1])
        masks = (maps >= threshold).to(maps.dtype)
        return {
            "map": maps,
            "mask": masks,
            "score": scores,
            "p_value": p_values,
            # P-values differ by far more than this, which only takes up rounding.
            "anomalous": (p_values <= fitted.image.alpha + 1e-7).to(scores.dtype),
            "area": masks.double().mean((1, 2)),
        }
