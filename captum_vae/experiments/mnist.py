"""The MNIST experiment: a VAE of one digit, shown others; and strokes pasted or erased."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from captum_vae.data import StrokeDefects
from captum_vae.experiments.demo import DemoSettings, read_digits
from captum_vae.experiments.experiment import Experiment
from captum_vae.experiments.judging import compared, judge
from captum_vae.experiments.measured_maps import MeasuredMaps, measured
from captum_vae.experiments.mnist_figures import draw_figures
from captum_vae.experiments.mnist_rows import HEADLINE_LAYER, PROTOCOL, attention_scorers
from captum_vae.experiments.results import Cell, Findings, Illustration, ResultTable
from captum_vae.experiments.specification import Specification
from captum_vae.experiments.verdicts import doubted
from captum_vae.experiments.work import Work, steps_of
from captum_vae.localization.samples import SampleSubset, evenly_spaced
from captum_vae.models import GaussianVAE
from captum_vae.progress import stage
from captum_vae.training import Trainer
from captum_vae.training.configuration import DataConfig, ModelConfig, ObjectiveConfig

DIGITS: Mapping[int, tuple[int, ...]] = {1: (9, 7, 2, 4), 3: (8, 5)}
"""What each VAE is shown, by the digit that it was trained on."""

SPECIFICATION = Specification.read("mnist")


@dataclass(frozen=True)
class MNISTSettings:
    """Settings of the MNIST experiment.

    Attributes:
        steps: Optimizer steps of each training; 0 trains for ``epochs``.
        epochs: Passes over the training images; 100 as published.
        batch_size: Images per step.
        latent_dims: D, the number of latent dimensions.
        learning_rate: The learning rate of Adam.
        normal_images: How many images scorers are fitted on at most.
        test_images: How many images a stroke is pasted into or erased from, per VAE, at most.
        resamples: Resamples of the bootstrap.
    """

    steps: int
    epochs: int
    batch_size: int
    latent_dims: int
    learning_rate: float
    normal_images: int
    test_images: int
    resamples: int


def run(settings: MNISTSettings, data: Path | None, work: Work) -> Findings:
    """Train on 1 and on 3, draw the maps of the other digits, and measure on changed strokes."""
    parts: list[MeasuredMaps] = []
    figures: list[Illustration] = []
    lengths = []
    for normal, others in DIGITS.items():
        demo = DemoSettings(
            dataset="digits" if data is None else "mnist",
            root=None if data is None else str(data / "mnist"),
            normal=normal,
            others=others,
            layer=HEADLINE_LAYER,
            latent_dims=settings.latent_dims,
            steps=settings.steps,
            seed=work.seed,
        )
        images = len(read_digits(demo, "train", normal))
        lengths.append(
            (steps_of(settings.steps, settings.epochs, settings.batch_size, images), images)
        )
        vae = _trained(settings, demo, lengths[-1][0], work)
        key = [asdict(settings), work.trainings[-1]["model"], compared(SPECIFICATION, ())]
        cell = work.stored(f"digit_{normal}", key, partial(_measure, settings, demo, vae, work))
        parts.append(MeasuredMaps(str(normal), cell))
        stage(f"drawing the VAE of the digit {normal}")
        figures += draw_figures(vae, demo, work)
    where = "MNIST, 28 x 28 pixels"
    if data is None:
        where = "scikit-learn's 1,797 digits, 8 x 8 pixels brought to 28 x 28, in place of MNIST"
    paper = EXPERIMENT.settings["paper"]
    trained = "; ".join(
        f"{steps} steps ({steps * settings.batch_size / images:.3g} epochs of {images} images)"
        for steps, images in lengths
    )
    doubts = work.doubts(rendered=where if data is None else "")
    return Findings(
        where,
        doubted(judge(SPECIFICATION, parts), doubts),
        [_table(part) for part in parts],
        [chart for part in parts for chart in SPECIFICATION.drawn(digit=part.name)],
        figures,
        SPECIFICATION.protocol_words(s=settings, paper=paper, trained=trained),
        min(steps * settings.batch_size / (paper.epochs * n) for steps, n in lengths),
    )


def _trained(settings: MNISTSettings, demo: DemoSettings, steps: int, work: Work) -> GaussianVAE:
    return work.trained(
        f"the digit {demo.normal}",
        ModelConfig("mnist", options={"latent_dims": settings.latent_dims}),
        DataConfig(demo.dataset, root=demo.root, options={"digits": [demo.normal]}),
        ObjectiveConfig(likelihood="bernoulli", learning_rate=settings.learning_rate),
        Trainer(steps=steps, batch_size=settings.batch_size, save_every=100),
    )


def _measure(
    settings: MNISTSettings, demo: DemoSettings, vae: GaussianVAE, work: Work
) -> dict[str, Any]:
    """All changed digits with intervals; pasted and erased strokes by themselves without."""
    stage(f"measuring the VAE of the digit {demo.normal}")
    train, test = (read_digits(demo, split, demo.normal) for split in ("train", "test"))
    normal = SampleSubset(train, evenly_spaced(range(len(train)), settings.normal_images))
    chosen = SampleSubset(test, evenly_spaced(range(len(test)), settings.test_images))
    changed = StrokeDefects(chosen, seed=work.seed)
    scorers = attention_scorers(vae)
    options: dict[str, Any] = {"protocol": PROTOCOL, "device": work.device, "batch_size": 16}
    found = measured(
        scorers,
        normal,
        changed,
        against=compared(SPECIFICATION, ()),
        resamples=settings.resamples,
        seed=work.seed,
        **options,
    )
    for start, kind in enumerate(("pasted", "erased")):
        # The kinds take turns.
        of_kind = SampleSubset(changed, range(start, len(changed), 2))
        single = measured(scorers, normal, of_kind, units="none", **options)
        for name, row in single["rows"].items():
            found["rows"][name][kind] = row["auroc"]["value"]
    return found


def _table(part: MeasuredMaps) -> ResultTable:
    rows = part.cell["rows"]
    cells: dict[str, Callable[[str], Cell]] = {
        "scorer": lambda name: name,
        "pixel AUROC": part.level,
        "pixel AP": lambda name: part.level(name, "average_precision").value,
        "AUROC, pasted": lambda name: rows[name]["pasted"],
        "AUROC, erased": lambda name: rows[name]["erased"],
    }
    table = f"strokes_digit_{part.name}"
    values = {"digit": part.name, "images": part.cell["images"]}
    return SPECIFICATION.table("strokes", rows, cells, name=table, **values)


EXPERIMENT = Experiment(SPECIFICATION, SPECIFICATION.settings(MNISTSettings), run)
