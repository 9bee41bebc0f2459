"""``captum-vae detect``: a detector from normal images, fitted, calibrated and saved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from captum_vae.localization.detector.options import ScoreRule, Units
from captum_vae.training.configuration import Accelerator


def detect(
    images: Sequence[str],
    out: str,
    *,
    backbone: str | None = None,
    model: str | None = None,
    model_options: dict[str, Any] | None = None,
    posterior: str | None = None,
    layers: Sequence[str] | None = None,
    scorer: Sequence[str] | None = None,
    options: dict[str, Any] | None = None,
    weights: str | None = None,
    pretrained: bool | None = None,
    latent_dim: int | None = None,
    smoothing: float | None = None,
    image_size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    value_range: Sequence[float] | None = None,
    every: int = 1,
    alpha: float = 0.05,
    pixel_rate: float = 0.005,
    score: ScoreRule = "top",
    top: float = 0.01,
    units: Units = "auto",
    choosing: float = 0.2,
    calibrating: float = 0.25,
    fitted: int = 500,
    calibrated: int = 1000,
    seed: int = 0,
    calibration: Sequence[str] | None = None,
    unseen: Sequence[str] | None = None,
    batch_size: int = 16,
    workers: int = 0,
    device: Accelerator = "auto",
    report: Literal["html", "none"] = "html",
) -> None:
    """Make a detector of normal images: fit it, choose its scorer, calibrate it, save it.

    Writes detector.json and the tensors beside it, which captum-vae predict takes, and index.html
    with what is promised. Give either a backbone or a model.

    Args:
        images: Normal images alone: folders, files, patterns such as 'good/*.png', text files with
            a path a line, arrays (.npy, .npz) or videos.
        out: Folder of the detector.
        backbone: A timm model such as resnet18, or a package.module:function that returns a frozen
            encoder; a linear VAE of its features is fitted in closed form.
        model: A trained VAE: a run's folder or checkpoint of captum-vae fit, or a
            package.module:function of your own that returns it.
        model_options: Arguments of the model's function.
        posterior: How to read the posterior of the model, in the words of PosteriorAdapter.
        layers: Dotted names of the layers whose features are compared, such as layer1,layer2; by
            default those at strides 4 to 16.
        scorer: With auto, one is chosen without labels; else names of registered scorers
            (captum-vae plugins lists them), whose maps are averaged. By default auto for a model,
            and what the latent leaves unexplained for a backbone.
        options: Arguments of a scorer that is named.
        weights: A local file of weights for a timm backbone.
        pretrained: Whether timm downloads the backbone's published weights; by default where no
            weights are given.
        latent_dim: Dimensions of the linear VAE; by default those that explain images left out.
        smoothing: Sigma of a Gaussian over the maps, in pixels; by default the chosen one's, or a
            64th of the image's shorter side.
        image_size: Height and width, or one number; by default what the model states, 256 for a
            backbone.
        channels: 1 or 3; by default what the model states, 3 for a backbone.
        value_range: Lowest and highest value the model was trained on, such as [-1, 1]; 0 to 1 by
            default, unless its reconstructions show that it is another, which is refused.
        every: Every how many-th frame of a video is read.
        alpha: A new normal image is called anomalous with at most this probability, and breaks
            what pixel_rate promises with at most this probability.
        pixel_rate: Share of a new normal image's pixels at or above the threshold, at most.
        score: An image's score; the mean of its highest pixels (top), the highest (max), or the
            share above the threshold (area).
        top: Share of the pixels that top takes.
        units: What is independent; images, or clips where frames of one video (or images of one
            folder) resemble each other; auto takes clips for videos.
        choosing: Share of the images that the scorer is chosen on.
        calibrating: Share of the images that calibrate, and at least as many as alpha takes.
        fitted: Images that are fitted on at most.
        calibrated: Images that calibrate at most.
        seed: Seed of the split and of painted defects.
        calibration: Normal images that calibrate instead of a part of the images; give those that a
            model of your own was not trained on. They may lie among the images, and do not fit. By
            default those that the model's run held out (captum-vae fit --data.held_out).
        unseen: Normal images kept apart, on which promised is compared with seen.
        batch_size: Images per pass.
        workers: Processes that load images.
        device: Where to compute; auto takes a CUDA device where there is one.
        report: With html, a page is written; with none, the detector alone.

    Raises:
        ValueError: An option does not fit, or there are too few images.
        FileNotFoundError: There are no such images or no such model.
    """
    from pathlib import Path

    from captum_vae.checks import whole_number
    from captum_vae.commands.model_source import source_model, source_of
    from captum_vae.data.held_out import held_out_list
    from captum_vae.data.loading import naming_dead_loaders
    from captum_vae.data.sources import ImageSources
    from captum_vae.files import holding, write_json
    from captum_vae.localization.detector.detector import AnomalyDetector
    from captum_vae.localization.detector.prediction_page import write_detector_page
    from captum_vae.plugins import import_object
    from captum_vae.provenance import run_record
    from captum_vae.training.devices import chosen_device
    from captum_vae.training.logs import say

    if (backbone is None) == (model is None):
        raise ValueError("give either a backbone, such as backbone=resnet18, or a model")
    whole_number("batch_size", batch_size, least=1)
    whole_number("workers", workers, least=0)
    place = chosen_device(device)
    settings: dict[str, Any] = {
        "smoothing": "auto" if smoothing is None else smoothing,
        "alpha": alpha,
        "pixel_rate": pixel_rate,
        "score": score,
        "top": top,
        "units": units,
        "choosing": choosing,
        "calibrating": calibrating,
        "fitted": fitted,
        "calibrated": calibrated,
        "seed": seed,
    }
    if options is not None:
        settings["options"] = options
    named = None if scorer is None else (scorer[0] if len(scorer) == 1 else list(scorer))
    if backbone is not None:
        if value_range is not None:
            raise ValueError(
                "value_range is for a model; a backbone takes images as its authors did, by mean "
                "and std of its configuration"
            )
        encoder: Any = backbone
        if ":" in backbone:
            encoder = import_object(backbone, "backbone")()
        detector = AnomalyDetector.from_backbone(
            encoder,
            layers,
            scorer=named,
            latent_dim="auto" if latent_dim is None else latent_dim,
            image_size=256 if image_size is None else image_size,
            channels=3 if channels is None else channels,
            pretrained=pretrained,
            weights=weights,
            **settings,
        )
        detector.model.to(place)
    else:
        for name, value in (
            ("weights", weights),
            ("pretrained", pretrained),
            ("latent_dim", latent_dim),
        ):
            if value is not None:
                raise ValueError(f"{name} is for a backbone, and a model is given")
        assert model is not None
        vae = source_model(source_of(model, model_options or {}), argument="model")
        detector = AnomalyDetector(
            vae.to(place).eval(),
            "auto" if named is None else named,
            layers=layers,
            image_size=image_size,
            channels=channels,
            posterior=posterior,
            value_range=value_range,
            **settings,
        )
    with naming_dead_loaders(), holding(out):
        size, wanted = detector.wanted_images
        normal = ImageSources(list(images), image_size=size, channels=wanted, every=every)
        apart = None
        if calibration is None and model is not None and (kept := held_out_list(model)):
            calibration = [str(kept)]
            say(f"calibrating on the images that the model's run held out: {kept}")
        if calibration is not None:
            apart = ImageSources(list(calibration), image_size=size, channels=wanted, every=every)
        detector.fit(
            normal, calibration=apart, batch_size=batch_size, workers=workers, progress="auto"
        )
        check = None
        if unseen is not None:
            size, wanted = detector.wanted_images
            new = ImageSources(list(unseen), image_size=size, channels=wanted, every=every)
            check = detector.check(new, batch_size=batch_size, progress="auto")
        folder = detector.save(out)
        facts = run_record(place, seed=seed)
        if check is not None:
            write_json(Path(out) / "check.json", {**facts, **check.to_dict()})
        say(repr(detector))
        if check is not None:
            say(f"on unseen normal images\n{check}")
        if report == "html":
            told = [(name, str(facts[name])) for name in ("command", "version", "commit", "seed")]
            told.append(("normal images", normal.describe()["images"]))
            page = write_detector_page(detector, Path(out), check=check, facts=told)
            say(f"report: {page}")
    say(f"detector: {folder}; use it with: captum-vae predict {folder} IMAGES")
