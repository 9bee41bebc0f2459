"""``captum-vae predict``: what a detector says about images, in a table, masks and a page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from captum_vae.training.configuration import Accelerator


def predict(
    detector: str,
    images: Sequence[str],
    *,
    out: str = "captum-vae-predictions",
    model: str | None = None,
    model_options: dict[str, Any] | None = None,
    masks: bool = True,
    maps: Literal["none", "tiff", "npz"] = "none",
    coco: bool = False,
    report: Literal["html", "none"] = "html",
    shown: int = 200,
    every: int = 1,
    watch: float | None = None,
    resume: Literal["auto", "never"] = "auto",
    on_error: Literal["skip", "raise"] = "skip",
    exit_status: bool = False,
    batch_size: int = 16,
    workers: int = 0,
    device: Accelerator = "auto",
) -> None:
    """Say of images whether they are anomalous, and where.

    Writes predictions.csv as it goes, and from it predictions.json: per image its score, p-value,
    verdict, the share of its pixels above the threshold, and boxes around them (x, y, width,
    height, highest score, in the image's pixels). A run that was killed goes on where it stopped
    when the same command is given again; images that are in the table are not predicted again.
    Under torchrun every process takes a share.

    Args:
        detector: Folder of a detector that captum-vae detect wrote.
        images: Folders (searched with their subfolders), files, patterns such as 'new/*.png', text
            files with a path a line, arrays (.npy, .npz) or videos.
        out: Folder to write to.
        model: Your own model, where the detector was made of one: a package.module:function that
            returns it, or a run's folder or checkpoint.
        model_options: Arguments of the model's function.
        masks: Write masks/NAME.png, 255 where anomalous, at the size of the image.
        maps: Write maps/NAME.tiff (floats) or .npz, at the size that the detector works at.
        coco: Write annotations.json in COCO's format.
        report: With html, a page of the most anomalous images is written.
        shown: Images on the page at most.
        every: Every how many-th frame of a video is read.
        watch: Look for new images again every so many seconds, until interrupted (Ctrl-C).
        resume: With auto, go on with what the folder holds; with never, begin anew.
        on_error: With skip, list an image that cannot be read as unreadable, with the reason; with
            raise, stop there.
        exit_status: End with status 1 if any image is called anomalous.
        batch_size: Images per pass.
        workers: Processes that read images.
        device: Where to compute; auto takes a CUDA device where there is one.

    Raises:
        ValueError: An option does not fit, or the folder holds other predictions.
        FileNotFoundError: There is no such detector, or there are no images.
    """
    import contextlib
    import time
    from pathlib import Path

    import torch.distributed as dist

    from captum_vae.checks import real_number, whole_number
    from captum_vae.commands.model_source import source_model, source_of
    from captum_vae.data.sources import ImageSources
    from captum_vae.files import holding
    from captum_vae.localization.detector.detector import AnomalyDetector
    from captum_vae.localization.detector.journal import TABLE, rows_of
    from captum_vae.localization.detector.prediction_page import write_prediction_page
    from captum_vae.localization.detector.prediction_run import (
        Outputs,
        check_settings,
        count_rows,
        finish,
        predict_into,
    )
    from captum_vae.localization.detector.promise_check import unlike_where_normal
    from captum_vae.localization.detector.saving import read_record
    from captum_vae.processes import rank
    from captum_vae.progress import progress_bar
    from captum_vae.provenance import run_record
    from captum_vae.training.devices import join_processes
    from captum_vae.training.logs import say

    for name, number, least in (("batch_size", batch_size, 1), ("workers", workers, 0)):
        whole_number(name, number, least=least)
    whole_number("shown", shown, least=1)
    if watch is not None:
        real_number("watch", watch, above=0)
    place = join_processes(device, "device")
    first = rank() == 0
    record = read_record(detector)
    own = None
    if model is not None:
        own = source_model(source_of(model, model_options or {}), argument="model").eval()
    ready = AnomalyDetector.load(detector, own, device=place)
    outputs = Outputs(masks=masks, maps=maps, coco=coco)
    settings = {
        "detector": record["tensors"]["sha256"],
        "masks": masks or coco,
        "maps": maps,
        "batch_size": batch_size,
        "every": every,
    }
    folder = Path(out)

    size, channels = ready.wanted_images

    def listed() -> ImageSources:
        return ImageSources(list(images), image_size=size, channels=channels, every=every)

    sources = None
    with holding(out) if first else contextlib.nullcontext():
        if first:
            check_settings(folder, settings, resume=resume == "auto")
        if dist.is_initialized():
            dist.barrier()
        passes: dict[str, Any] = {"batch_size": batch_size, "workers": workers}
        passes |= {"on_error": on_error, "bar": progress_bar("auto")}
        facts = run_record(place)
        about = {**facts, "detector": detector, "alpha": ready.promise.alpha}
        with contextlib.suppress(KeyboardInterrupt) if watch else contextlib.nullcontext():
            while True:
                # A watched folder may be empty at first.
                waits = (ValueError, FileNotFoundError) if watch else ()
                with contextlib.suppress(*waits):
                    sources = listed()
                new = 0
                if sources is not None:
                    settled = min(watch, 2.0) if watch else 0.0
                    new = predict_into(ready, sources, folder, outputs, settled=settled, **passes)
                if watch is None:
                    break
                if new:
                    found = count_rows(folder)
                    say(f"{new} new images; {found.anomalous} of {found.images} anomalous")
                time.sleep(watch)
        if dist.is_initialized():
            dist.barrier()
        if not first:
            return
        if sources is None:
            say("no images came")
            return
        finish(folder, sources, outputs, about)
        found = count_rows(folder)
        say(
            f"{found.images} images, {found.anomalous} called anomalous at p-values of at most "
            f"{ready.promise.alpha:g}: {folder / TABLE}"
        )
        if found.unreadable:
            say(f"{found.unreadable} could not be read, such as: {found.first_reason}")
        fitted = ready.fitted
        assert fitted is not None
        scores = [float(row["score"]) for row in rows_of(folder / TABLE) if row["score"]]
        if warning := unlike_where_normal(scores, fitted.image):
            say(f"note: {warning}")
        if report == "html":
            told = [(name, str(facts[name])) for name in ("command", "version", "commit")]
            told += [("detector", detector), ("images", sources.describe()["images"])]
            page = write_prediction_page(
                ready,
                sources,
                folder,
                shown=shown,
                batch_size=batch_size,
                facts=told,
                progress="auto",
            )
            if page is not None:
                say(f"open {page}")
    if exit_status and found.anomalous:
        raise SystemExit(1)
