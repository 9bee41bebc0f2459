"""The MNIST experiment: a VAE of one digit, shown others; and strokes pasted or erased."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from captum_vae.checks import whole_number
from captum_vae.data import StrokeDefects
from captum_vae.experiments.authors_weights import load_authors_mnist
from captum_vae.experiments.demo import DemoSettings, read_digits
from captum_vae.experiments.experiment import Experiment
from captum_vae.experiments.judging import compared, judge
from captum_vae.experiments.measured_maps import MeasuredMaps, measured
from captum_vae.experiments.mnist_figures import draw_figures
from captum_vae.experiments.mnist_rows import HEADLINE_LAYER, PROTOCOL, attention_scorers
from captum_vae.experiments.results import Cell, Findings, Illustration, ResultTable
from captum_vae.experiments.specification import Specification
from captum_vae.experiments.verdicts import doubted
from captum_vae.experiments.work import Training, Work, check_epochs, explained_variance, steps_of
from captum_vae.localization.samples import SampleSubset, evenly_spaced
from captum_vae.models import GaussianVAE
from captum_vae.progress import stage
from captum_vae.training import Trainer
from captum_vae.training.active_report import measure_active_dimensions
from captum_vae.training.building import build_dataset, sample_images
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
        workers: Processes that load the training images; they do not change the result.
        weights: Checkpoints of the authors' code by the digit that they were trained on; a digit
            that has one is not trained here.

    Raises:
        TypeError: An option is of the wrong type.
        ValueError: An option is out of range.
    """

    steps: int
    epochs: float
    batch_size: int
    latent_dims: int
    learning_rate: float
    normal_images: int
    test_images: int
    resamples: int
    workers: int = 0
    weights: Mapping[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check what a command line may replace."""
        whole_number("workers", self.workers, least=0)
        check_epochs(self.epochs, self.steps)
        unknown = [str(digit) for digit in self.weights if digit not in DIGITS]
        if unknown:
            raise ValueError(
                f"weights names the digit {', '.join(unknown)}; wanted files for 1 or 3, those "
                "that VAEs are trained on"
            )


def run(settings: MNISTSettings, data: Path | None, work: Work) -> Iterator[Findings]:
    """Train on 1 and on 3, draw the maps of the other digits, and measure on changed strokes."""
    parts: list[MeasuredMaps] = []
    figures: list[Illustration] = []
    demos = {
        normal: DemoSettings(
            dataset="digits" if data is None else "mnist",
            root=None if data is None else str(data / "mnist"),
            normal=normal,
            others=others,
            layer=HEADLINE_LAYER,
            latent_dims=settings.latent_dims,
            steps=settings.steps,
            seed=work.seed,
        )
        for normal, others in DIGITS.items()
    }
    counts = {
        normal: len(read_digits(demo, "train", normal))
        for normal, demo in demos.items()
        if normal not in settings.weights
    }
    trainings = {
        normal: _training(settings, demos[normal], images) for normal, images in counts.items()
    }
    # A file that does not fit is noticed before the other VAE is trained.
    given = {normal: load_authors_mnist(path) for normal, path in settings.weights.items()}
    work.announce([*trainings.values()])
    lengths: list[tuple[int, int]] = []
    for normal, demo in demos.items():
        if normal in given:
            vae: GaussianVAE = given[normal].to(work.device)
            work.trainings.append(_given(settings.weights[normal], vae, demo))
        else:
            vae = work.trained(trainings[normal])
            lengths.append((trainings[normal].trainer.steps, counts[normal]))
        plain = {k: v for k, v in asdict(settings).items() if k not in ("workers", "weights")}
        key = [plain, work.trainings[-1]["model"], compared(SPECIFICATION, ())]
        cell = work.stored(f"digit_{normal}", key, partial(_measure, settings, demo, vae, work))
        parts.append(MeasuredMaps(str(normal), cell))
        stage(f"drawing the VAE of the digit {normal}")
        figures += draw_figures(vae, demo, work)
        yield _findings(settings, data, parts, figures, lengths, work)


def _findings(
    settings: MNISTSettings,
    data: Path | None,
    parts: list[MeasuredMaps],
    figures: list[Illustration],
    lengths: list[tuple[int, int]],
    work: Work,
) -> Findings:
    where = "MNIST, 28 x 28 pixels"
    if data is None:
        where = "scikit-learn's 1,797 digits, 8 x 8 pixels brought to 28 x 28, in place of MNIST"
    paper = EXPERIMENT.settings["paper"]
    trained = "; ".join(
        [
            f"{steps} steps ({steps * settings.batch_size / images:.3g} epochs of {images} images)"
            for steps, images in lengths
        ]
        + [f"the authors' weights for the digit {digit}" for digit in sorted(settings.weights)]
    )
    share = min(
        [steps * settings.batch_size / (paper.epochs * n) for steps, n in lengths], default=1.0
    )
    doubts = work.doubts(rendered=where if data is None else "", share=share)
    return Findings(
        where,
        doubted(judge(SPECIFICATION, parts), doubts),
        [_table(part) for part in parts],
        [chart for part in parts for chart in SPECIFICATION.drawn(digit=part.name)],
        [*figures],
        SPECIFICATION.protocol_words(s=settings, paper=paper, trained=trained),
        share,
        doubts=doubts,
        finished=(len(parts), len(DIGITS)),
    )


def _given(path: str, vae: GaussianVAE, demo: DemoSettings) -> dict[str, Any]:
    """The record of a training that was not done here."""
    dataset = build_dataset(DataConfig(demo.dataset, demo.root, {"digits": [demo.normal]}))
    return {
        "name": f"the digit {demo.normal}, the authors' weights",
        "model": hashlib.sha256(Path(path).read_bytes()).hexdigest()[:12],
        "steps": 0,
        "final_losses": {},
        "active_dimensions": measure_active_dimensions(
            vae, dataset, device=next(vae.parameters()).device
        ).to_dict(),
        "explained_variance": explained_variance(vae, sample_images(dataset)),
        "seconds": 0.0,
    }


def _training(settings: MNISTSettings, demo: DemoSettings, images: int) -> Training:
    return Training(
        f"the digit {demo.normal}",
        ModelConfig("mnist", options={"latent_dims": settings.latent_dims}),
        DataConfig(demo.dataset, root=demo.root, options={"digits": [demo.normal]}),
        ObjectiveConfig(likelihood="bernoulli", learning_rate=settings.learning_rate),
        Trainer(
            steps=steps_of(settings.steps, settings.epochs, settings.batch_size, images),
            batch_size=settings.batch_size,
            save_every=100,
            workers=settings.workers,
        ),
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


EXPERIMENT = Experiment(
    SPECIFICATION,
    SPECIFICATION.settings(MNISTSettings),
    run,
    {"epochs": "epochs", "workers": "workers", "weights": "weights"},
)
