"""What a detector learns from normal images: split, model fitted, scorer chosen, calibrated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from captum_vae.data.sample import SampleDataset, digest_of
from captum_vae.data.value_range import UNIT, ValueRange
from captum_vae.localization.detector.calibrating import calibrate
from captum_vae.localization.detector.fitted import Fitted
from captum_vae.localization.detector.fused_maps import common_scales
from captum_vae.localization.detector.normal_images import (
    Joined,
    Unlabelled,
    clips_of,
    digest_of_images,
    numbers_without,
    segments_of,
)
from captum_vae.localization.detector.options import Promise
from captum_vae.localization.detector.range_check import refuse_another_range
from captum_vae.localization.detector.scorer_choice import ScorerChoice, chosen_scorers
from captum_vae.localization.detector.splitting import split_apart, split_normal
from captum_vae.localization.image_batches import ImageBatches
from captum_vae.localization.model_pass import device_of
from captum_vae.localization.protocol import Protocol
from captum_vae.localization.scoring import fit_scorers
from captum_vae.posterior import as_adapter
from captum_vae.posterior.calling import owner_of, unwrap
from captum_vae.progress import Progress, progress_bar

_TRAINED = (
    "whether the model was trained on the images that calibrate is not known: if it was, it scores "
    "them lower than new ones, and false alarms are more than promised; keep normal images apart "
    "from its training, and give them as calibration"
)


def fit_detector(
    samples: SampleDataset,
    model: Any,
    *,
    clips: Sequence[str] | None,
    apart: SampleDataset | None,
    promise: Promise,
    choice: ScorerChoice,
    posterior: Any,
    smoothing: float | str,
    value_range: ValueRange | None,
    closed_form: bool,
    batch_size: int,
    workers: int,
    progress: Progress,
) -> Fitted:
    """Fit, choose and calibrate on normal images; see :meth:`AnomalyDetector.fit`.

    Args:
        samples: Normal images alone.
        model: The VAE.
        clips: The clip of each image, where a person names them.
        apart: Normal images that calibrate instead of a part of the samples; None where a part of
            them does.
        promise: What is promised about new normal images.
        choice: What a person says about the scorers.
        posterior: How to read the model's posterior.
        smoothing: Standard deviation of a Gaussian over the maps, in pixels, or "auto".
        value_range: The range of the model's images; None where a person does not state it.
        closed_form: Whether the model is a linear VAE of features, which is fitted as well.
        batch_size: Images per pass.
        workers: Processes that load the images.
        progress: Whether bars are shown.

    Raises:
        ValueError: There are too few images, one is known to be anomalous, the model is in training
            mode or reconstructs images of another range, or the scorer cannot be fitted.
    """
    digest, read = digest_of_images(samples), samples.describe()
    names = clips_of(samples, clips, promise.units)
    segments = ""
    if apart is None:
        if names is not None:
            names, segments = segments_of(names)
        split = split_normal(len(samples), names, promise, choose=choice.held_out)
    else:
        kept = numbers_without(samples, apart)
        if not kept:
            raise ValueError("calibration holds all images of normal; wanted others to fit on")
        names = None if names is None else [names[index] for index in kept]
        apart_clips = clips_of(apart, None, "images" if names is None else "clips")
        if apart_clips is not None:
            apart_clips, segments = segments_of(apart_clips)
        split = split_apart(
            len(kept), names, len(apart), apart_clips, promise, choose=choice.held_out
        )
        told = digest_of_images(apart)
        digest = None if digest is None or told is None else digest_of(digest, told)
        samples = Joined(
            [(samples, index) for index in kept] + [(apart, index) for index in range(len(apart))]
        )
    first = samples[split.fitting[0]].image
    fitting, choosing, calibrating = (
        Unlabelled(samples, part, normal="normal")
        for part in (split.fitting, split.choosing, split.calibrating)
    )
    bar = progress_bar(progress)
    if closed_form:
        model.fit_closed_form(fitting, batch_size=batch_size, progress=progress)
    else:
        _refuse_training(model)
        if value_range is None:
            refuse_another_range(as_adapter(model, posterior), fitting, device_of(model))
    passes: dict[str, Any] = {
        "batch_size": batch_size,
        "workers": workers,
        "bar": bar,
        "device": device_of(model),
        "value_range": UNIT if value_range is None else value_range,
    }
    size = (int(first.shape[1]), int(first.shape[2]))
    sigma = min(size) / 64 if isinstance(smoothing, str) else float(smoothing)
    scorers, protocol, chosen = chosen_scorers(
        choice,
        model,
        posterior,
        fitting,
        choosing,
        Protocol(size="map", smoothing=sigma),
        smoothing_given=smoothing != "auto",
        seed=promise.seed,
        passes=passes,
        progress=progress,
    )
    fit_scorers(scorers, ImageBatches(fitting, "normal", truth=False, **passes), "fitting")
    scales = common_scales(scorers, choosing, protocol, passes)
    pixel, image = calibrate(promise, calibrating, split, scorers, scales, protocol, passes)
    facts = {
        "normal": {
            "images": len(samples),
            "fitted": len(split.fitting),
            "chosen_on": len(split.choosing),
            "calibrated": len(split.calibrating),
            "unit": split.unit,
            "segments": segments,
            "trained": "" if closed_form or apart is not None else _TRAINED,
            "digest": digest,
            "read": read,
        }
    }
    return Fitted(
        model,
        tuple(scorers),
        scales,
        protocol,
        chosen,
        size,
        int(first.shape[0]),
        pixel,
        image,
        facts,
        passes["value_range"],
    )


def _refuse_training(model: Any) -> None:
    module = owner_of(unwrap(model))
    if isinstance(module, nn.Module) and module.training:
        raise ValueError(
            "model is in training mode, in which dropout and batch statistics change its maps; "
            "call model.eval() first"
        )
