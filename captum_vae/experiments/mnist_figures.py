"""The figures of the MNIST experiment: methods x rectifiers per layer, and changed strokes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from captum_vae.data import StrokeDefects, collate_samples
from captum_vae.experiments.demo import DemoSettings, choose_images, read_digits
from captum_vae.experiments.demo_figures import (
    draw_reconstruction_baseline,
    draw_rectifiers,
    method_1_rows,
    row_from_zero,
)
from captum_vae.experiments.explorers import DECODED, EXPLORED, explore_dimensions, explore_maps
from captum_vae.experiments.mnist_rows import (
    EXPLORED_SCORERS,
    HEADLINE_LAYER,
    LAYERS,
    PROTOCOL,
    attention_scorers,
)
from captum_vae.experiments.results import Illustration
from captum_vae.experiments.work import Work
from captum_vae.localization.detector.normal_images import Joined
from captum_vae.localization.image_batches import ImageBatches
from captum_vae.localization.samples import SampleSubset, evenly_spaced
from captum_vae.localization.scoring import fit_scorers
from captum_vae.models import GaussianVAE
from captum_vae.report import GridRow, Picture, Strip, draw_map_grid, save_picture

SHOWN = 8


def draw_figures(vae: GaussianVAE, demo: DemoSettings, work: Work) -> list[Illustration]:
    """Draw and save the figures of one VAE.

    Args:
        vae: The VAE of the digit ``demo.normal``, in eval mode on the work's device.
        demo: It says which digits to show.
        work: It says where to save.
    """
    images = choose_images(demo).to(work.device)
    folder = work.out / "figures" / f"digit_{demo.normal}"
    pictures = {
        f"trained on {demo.normal}, {layer}": draw_rectifiers(
            vae, layer, images, folder / layer.removeprefix("encoder.")
        )
        for layer in LAYERS
    }
    headline = f"trained on {demo.normal}, {HEADLINE_LAYER}, maps relative to the reconstruction"
    pictures[headline] = draw_reconstruction_baseline(vae, HEADLINE_LAYER, images, folder)
    strokes = f"trained on {demo.normal}, {HEADLINE_LAYER}, changed strokes"
    pictures[strokes] = draw_strokes(vae, demo, work, folder)
    explorers = {
        headline: _explore_digits(vae, demo, work),
        strokes: _explore_strokes(vae, demo, work),
    }
    return [
        replace(
            Illustration.of(picture, work.out),
            alt=f"VAE {title}: {picture.alt}",
            caption=f"VAE {title}. {picture.caption}",
            **explorers.get(title, {}),
        )
        for title, picture in pictures.items()
    ]


def _explore_digits(vae: GaussianVAE, demo: DemoSettings, work: Work) -> dict[str, str]:
    """The page of test images of every digit that is shown, with the map of each dimension."""
    digits = (demo.normal, *demo.others)
    shares = [
        (data, place)
        for data in (read_digits(demo, "test", digit) for digit in digits)
        for place in evenly_spaced(range(len(data)), DECODED // len(digits))
    ]
    page = explore_dimensions(
        work,
        vae,
        Joined(shares),
        LAYERS,
        name=f"digit_{demo.normal}_dimensions",
        source=f"the training on the digit {demo.normal}",
    )
    return {
        "explorer": page,
        "browses": f"the latent dimensions of the VAE trained on {demo.normal}",
    }


def _explore_strokes(vae: GaussianVAE, demo: DemoSettings, work: Work) -> dict[str, str]:
    """The page of digits with changed strokes, with their masks and the maps of some scorers."""
    train, test = (read_digits(demo, split, demo.normal) for split in ("train", "test"))
    scorers = attention_scorers(vae)
    chosen = {name: scorers[name] for name in EXPLORED_SCORERS}
    normal = SampleSubset(train, evenly_spaced(range(len(train)), EXPLORED))
    fit_scorers(
        [*chosen.values()], ImageBatches(normal, "normal", batch_size=16, device=work.device), ""
    )
    where = f"strokes pasted into or erased from the digit {demo.normal}"
    page = explore_maps(
        work,
        {name: (scorer, PROTOCOL) for name, scorer in chosen.items()},
        StrokeDefects(test, seed=work.seed),
        name=f"digit_{demo.normal}_strokes",
        where=where,
    )
    return {"explorer": page, "browses": f"test images: {where}"}


def draw_strokes(vae: GaussianVAE, demo: DemoSettings, work: Work, folder: Path) -> Picture:
    """Digits with a stroke pasted or erased, their masks, and three maps of each."""
    test = read_digits(demo, "test", demo.normal)
    changed = StrokeDefects(
        SampleSubset(test, evenly_spaced(range(len(test)), SHOWN)), seed=work.seed
    )
    batch = collate_samples([changed[index] for index in range(len(changed))])
    inputs = batch.image.to(work.device)
    with torch.no_grad():
        error = (inputs - vae.reconstruct(inputs)).square()
    masks = [mask.to(inputs.dtype) for mask in batch.mask if mask is not None]
    rows = [
        GridRow("image", [Strip(list(inputs))]),
        GridRow("truth", [Strip(masks)]),
        row_from_zero("reconstruction\nerror", inputs, error),
        *method_1_rows(vae, HEADLINE_LAYER, inputs),
    ]
    figure = draw_map_grid(rows, column_titles=[batch.group], bar_label="score, within each row")
    return Picture(
        save_picture(figure, folder / "strokes.png"),
        alt=f"{len(inputs)} digits with a stroke pasted or erased, the truth, and three score "
        "maps.",
        caption="Pen strokes pasted and erased in turn. Colours run from 0 to the row's highest "
        "value, printed under the row.",
    )
