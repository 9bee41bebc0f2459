"""What is written of an explanation: maps as numbers, overlays, and the page that shows them."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from captum_vae.checks import check_choice, whole_number
from captum_vae.explain.decoded import VALUES
from captum_vae.explain.drawing import Drawing
from captum_vae.explain.explanation import Explanation
from captum_vae.files import holding, write_json
from captum_vae.progress import Progress, ProgressBar, progress_bar
from captum_vae.provenance import run_record
from captum_vae.report import Section, Table
from captum_vae.report.estimate import Estimate
from captum_vae.report.explorer import Explorer

PACKAGES = ("captum-vae", "torch", "captum", "numpy", "matplotlib")
"""Distributions whose versions are written down with the maps."""

_BATCH = 16
"""Images whose reconstructions are made at once."""

_OURS = re.compile(r"(overlays/[^/]+|figures)/[^/]+\.png")
"""The files of an earlier run that a later one may remove, relative to its folder."""


def write_explanation(
    explanation: Explanation,
    folder: str | Path,
    *,
    shown_dims: int = 10,
    shown_images: int = 16,
    traversed_images: int = 8,
    scale: Literal["common", "own"] = "common",
    progress: Progress = "off",
) -> Path:
    """Write an explanation as numbers and pictures: maps.npz, explain.json, overlays/, index.html.

    The page is an explorer of all images and dimensions, see
    :class:`~captum_vae.report.explorer.Explorer`; still pictures of some stand for readers without
    JavaScript, and in print. Files of an earlier explanation in the folder are replaced, and those
    of its pictures that this one does not have are removed; nothing else there is touched.

    Args:
        explanation: The maps with their images.
        folder: The folder to write to; it is created.
        shown_dims: Columns of the still pictures at most, those of the highest KL; maps.npz and the
            explorer hold all.
        shown_images: Rows of the still pictures at most.
        traversed_images: The first so many images get traversals of the decoder, one per
            dimension; others show those of the first.
        scale: ``"common"`` puts all maps under one colour scale; ``"own"`` each under its own, from
            0 (or its lowest value) to its highest, which shows faint maps and compares none.
        progress: Whether a bar is shown; ``"auto"`` shows it on a terminal only.

    Returns:
        The page.

    Raises:
        ValueError: An argument is out of range, or another run writes to the folder.
        OSError: The disk is full or refuses; the message names the file.
    """
    shown_dims = whole_number("shown_dims", shown_dims, least=1)
    shown_images = whole_number("shown_images", shown_images, least=1)
    traversed_images = whole_number("traversed_images", traversed_images, least=0)
    check_choice("scale", scale, ("common", "own"))
    bar = progress_bar(progress)
    drawings = [
        Drawing(explanation, layer, shown_dims=shown_dims, shown_images=shown_images, scale=scale)
        for layer in explanation.layers
    ]
    with holding(folder):
        folder = Path(folder)
        files = [
            file
            for drawing in drawings
            for file in (*drawing.overlay_files(), *drawing.grid_files())
        ]
        _remove_pictures(folder, keep=files)
        report = {
            **run_record(explanation.device),
            "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
            **explanation.to_dict(),
            "files": files,
        }
        explanation.save(folder / "maps.npz")
        write_json(folder / "explain.json", report)
        for drawing in drawings:
            drawing.write_overlays(folder)
        page = Explorer(
            folder,
            title="Where each latent dimension is at work",
            lead=_lead(explanation, report),
            sections=[
                *(_maps(drawing, folder) for drawing in drawings),
                *_faithfulness(explanation),
                _settings(report),
            ],
            footer=f"Made by captum_vae {report['version']} with Captum "
            f"{report['packages']['captum']}.",
            dims=explanation.dims,
            traversed=[f"z = {value:g}" for value in VALUES],
            own_scale=scale == "own",
            stills=0,
        )
        with page:
            _add_images(page, explanation, traversed_images, bar)
        return folder / "index.html"


def _add_images(page: Explorer, explanation: Explanation, traversed: int, bar: ProgressBar) -> None:
    """Every image with its maps, reconstruction and, for the first ones, traversals."""
    settings, decoded = explanation.settings, explanation.decoded
    starts = range(0, len(explanation.names), _BATCH)
    for start in bar(starts, "page"):
        places = range(start, min(start + _BATCH, len(explanation.names)))
        samples = [explanation.images[place] for place in places]
        images = torch.stack([sample.image for sample in samples])
        made = None if decoded is None else decoded.reconstructions(images)
        for at, (place, sample) in enumerate(zip(places, samples, strict=True)):
            reconstruction = None if made is None else made[at]
            traversal = None
            if decoded is not None and made is not None and place < traversed:
                traversal = decoded.traversals(sample.image, explanation.dims)
            error = None
            if reconstruction is not None:
                error = float((reconstruction - sample.image).square().mean())
            page.add(
                sample.image,
                name=explanation.names[place],
                maps={
                    (settings["attribution"], layer): maps[place]
                    if explanation.per_dimension
                    else maps[place, 0]
                    for layer, maps in explanation.layer_maps.items()
                },
                reconstruction=reconstruction,
                traversal=traversal if explanation.per_dimension else None,
                kind=sample.group,
                error=error,
                kl=None if explanation.kl is None else explanation.kl[place],
            )


def _remove_pictures(folder: Path, keep: Sequence[str]) -> None:
    """Remove the pictures of an earlier run, which its explain.json lists, and empty folders."""
    try:
        listed = json.loads((folder / "explain.json").read_text(encoding="utf-8"))["files"]
        names = [name for name in listed if _OURS.fullmatch(name) and ".." not in name]
    # No earlier run, one of a version that kept no list, or a file of somebody else.
    except (OSError, ValueError, KeyError, TypeError):
        return
    for name in set(names) - set(keep):
        (folder / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # not empty, or gone with another picture
            (folder / name).parent.rmdir()


def _lead(explanation: Explanation, report: Mapping[str, Any]) -> str:
    """What was explained, and what is to be known before a map is looked at."""
    model = report["model"]
    layer = _layers_in_words(explanation)
    whose = f"{model['class']} from {model['source']}" if "source" in model else model["class"]
    if explanation.meaningless:
        return (
            f"The posterior of {whose} is collapsed on these images: no dimension depends on what "
            "it sees, and the maps below are noise."
        )
    sentences = [f"{whose}, by {report['attribution']}{layer}."]
    gone = explanation.collapsed & set(explanation.dims)
    if gone:
        sentences.append(
            f"{len(gone)} of {len(explanation.dims)} dimensions are collapsed on these images "
            f"(active means {explanation.rule}): they ignore what they see, and their maps are "
            f"noise: {', '.join(map(str, sorted(gone)))}."
        )
    return " ".join(sentences)


def _notes(drawing: Drawing) -> list[str]:
    """How to read the maps, and what is not shown."""
    explanation, scale = drawing.explanation, drawing.common_scale
    rows, columns = len(drawing.rows), len(drawing.places)
    measure, order = "KL", "by their KL to the prior, averaged over these images"
    if explanation.kl is None:
        measure = "spread"
        order = "by the spread of their mean, since the posterior's log-variance is unknown"
    sentences = [f"One row per image, {_of(rows, len(explanation.names))}."]
    if explanation.per_dimension:
        counted = _of(columns, len(explanation.dims))
        sentences.append(f"One column per latent dimension, {counted}, ordered {order}.")
    else:
        sentences.append(f"One map of {len(explanation.dims)} latent dimensions together.")
    sentences.append(
        f"All maps are under one colour scale, from {scale.low:.4g} to {scale.high:.4g}."
        if scale
        else "Each map is under a colour scale of its own, up to its largest value: brightness "
        "does not compare between maps."
    )
    notes = [" ".join(sentences)]
    left_out = len(explanation.dims) - columns if explanation.per_dimension else 0
    if left_out:
        notes.append(
            f"{left_out} dimensions of lower {measure} are not shown here (shown_dims shows "
            "more); maps.npz holds all of them."
        )
    hidden = drawing.hidden
    if hidden:
        notes.append(
            "The common scale hides "
            + ", ".join(f"dimension {dim} ({share:.0%})" for dim, share in hidden)
            + ": their highest value is that share of the scale's end. scale=own shows them."
        )
    return notes


def _maps(drawing: Drawing, folder: Path) -> Section:
    """The still pictures of a layer's maps."""
    several = len(drawing.explanation.layers) > 1
    title = f"Maps at {drawing.layer}" if several else "Maps"
    return Section(title, _notes(drawing), drawing.grids(folder), still=True)


def _listed(layers: str | Sequence[str] | None) -> str:
    return layers if isinstance(layers, str) else ", ".join(layers or ("-",))


def _layers_in_words(explanation: Explanation) -> str:
    named = list(filter(None, explanation.layers))
    if not named:
        return ""
    return f", {'layer' if len(named) == 1 else 'layers'} {', '.join(named)}"


def _of(shown: int, count: int) -> str:
    return f"all {count}" if shown == count else f"{shown} of {count}"


def _faithfulness(explanation: Explanation) -> list[Section]:
    """Deletion and insertion of these maps beside others, where they were measured."""
    if not explanation.faithfulness:
        return []
    images = explanation.faithfulness[0]["images"]
    rows = [
        (
            row["layer"],
            row["direction"],
            row["map"],
            _interval(row["area"]),
            _interval(row["difference"]),
        )
        for row in explanation.faithfulness
    ]
    return [
        Section(
            "Are these maps faithful?",
            [
                "Deletion: the pixels that a map calls important are blurred first, and the share "
                "of its dimension's way that is reached early is the area. Insertion: they come "
                "back first into a blurred image. The larger, the more faithful; the last column "
                f"is the area of these maps minus that of the others, over {images} images."
            ],
            tables=[Table(("layer", "direction", "map", "area", "these maps minus it"), rows)],
        )
    ]


def _interval(area: Mapping[str, Any] | None) -> str:
    """An area with its interval, three decimals."""
    if area is None:
        return ""
    return str(Estimate(area["value"], area["low"], area["high"]))


def _settings(report: Mapping[str, Any]) -> Section:
    model, options = report["model"], _words(report["options"])
    machine = report["machine"]
    rows = [
        ("model", _model_in_words(model)),
        ("posterior, as read", model["posterior_read_by"]),
        ("layer", _listed(report["layer"])),
        ("attribution", f"{report['attribution']}{f' with {options}' if options else ''}"),
        ("computed as", report["plan"]),
        ("images", f"{report['images']['count']} from {report['images']['path']}"),
        ("size and range", f"{report['images']['shape']}, values {report['images']['range']}"),
        ("versions", ", ".join(f"{name} {v}" for name, v in report["packages"].items())),
        ("commit", str(report["commit"])),
        ("machine", f"{machine['cpu']}, {machine['device']}, Python {machine['python']}"),
    ]
    return Section(
        "Settings",
        ["All of them are in explain.json, the maps as numbers in maps.npz."],
        tables=[Table(("setting", "value"), rows)],
        code=report["command"],
    )


def _model_in_words(model: Mapping[str, Any]) -> str:
    if "source" not in model:
        return str(model["class"])
    return " ".join([model["source"], _words(model["options"]), f"({model['class']})"])


def _words(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in options.items())
