"""The demo: a VAE that knows one digit, and where it looks on the others."""

from __future__ import annotations

import importlib.metadata
import os
import tempfile
import time
import warnings
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from captum_vae.attr import LatentGradCAM
from captum_vae.checks import check_choice, checked_seed, whole_number
from captum_vae.data import MNIST, Digits, OneClassDigits
from captum_vae.data.digits import Split
from captum_vae.experiments.demo_figures import DemoImages, draw_demo
from captum_vae.experiments.demo_page import write_demo_page
from captum_vae.files import holding, write_json
from captum_vae.losses import ELBO
from captum_vae.models import MNISTVAE
from captum_vae.posterior import CollapsedPosteriorWarning, as_adapter
from captum_vae.progress import stage
from captum_vae.training import Trainer, TrainingResult, VAEObjective
from captum_vae.training.configuration import Accelerator
from captum_vae.training.logs import say
from captum_vae.training.random_state import seed_everything

BATCH_SIZE = 32
WARMUP_SHARE = 0.3
"""Share of the steps over which the KL's weight climbs; it keeps the dimensions active."""

COLUMNS = 4
"""How many images of other digits a figure shows at least."""

PACKAGES = ("torch", "captum", "timm", "numpy", "scikit-learn", "lightning", "matplotlib")


@dataclass(frozen=True)
class DemoSettings:
    """What changes the demo's outcome, checked.

    Attributes:
        dataset: ``digits``, which come with scikit-learn, or ``mnist``.
        root: The folder of MNIST's IDX files; None for ``digits``.
        normal: The digit to train on.
        others: The digits to explain.
        layer: The layer whose features are explained.
        latent_dims: D, the number of latent dimensions.
        steps: Optimizer steps of the training.
        seed: The seed of weights, batches, sampling noise and the choice of images.

    Raises:
        TypeError: An option is of the wrong type.
        ValueError: An option is out of range, or contradicts another.
    """

    dataset: Literal["digits", "mnist"]
    root: str | None
    normal: int
    others: tuple[int, ...]
    layer: str
    latent_dims: int
    steps: int
    seed: int

    def __post_init__(self) -> None:
        """Check before anything is trained."""
        check_choice("dataset", self.dataset, ("digits", "mnist"))
        if self.dataset == "mnist" and self.root is None:
            raise ValueError("dataset='mnist' needs root, the folder of MNIST's IDX files")
        if self.dataset == "digits" and self.root is not None:
            raise ValueError(
                f"root is {self.root!r}, but the digits come with scikit-learn; "
                "leave root out or choose dataset='mnist'"
            )
        whole_number("normal", self.normal, least=0, most=9, hint="wanted a digit")
        for digit in self.others:
            whole_number("others", digit, least=0, most=9, hint="wanted digits")
        if not self.others or len({self.normal, *self.others}) <= len(self.others):
            raise ValueError(
                f"others is {list(self.others)}; wanted at least one digit, none twice and none "
                f"of them the normal {self.normal}"
            )
        whole_number("latent_dims", self.latent_dims, least=1)
        checked_seed(self.seed)


def run_demo(settings: DemoSettings, folder: Path, device: Accelerator) -> None:
    """Train a VAE on one digit, draw where it looks on others, and write the report.

    Args:
        settings: What to train and to explain.
        folder: The folder of report.html, report.json and the figures; no other run may be writing
            there.
        device: Where to run: auto, cpu or cuda.

    Raises:
        ValueError: The layer cannot be explained, or another run writes to the folder.
        FileNotFoundError: The root does not hold MNIST.
    """
    started = time.perf_counter()
    images = choose_images(settings)
    trainer = Trainer(
        steps=settings.steps,
        batch_size=BATCH_SIZE,
        seed=settings.seed,
        accelerator=device,
        save_every=settings.steps,
    )
    # Under torchrun the first process alone writes.
    with holding(folder) if os.environ.get("RANK", "0") == "0" else nullcontext():
        vae, result, count = train_demo_vae(settings, trainer)
        if not result.is_first_process:
            return
        trained = time.perf_counter()
        stage("explaining")
        pictures = draw_demo(
            vae, settings.layer, images.to(result.device), result.active, folder / "figures"
        )
        report = result.report(
            {"demo": asdict(settings), "training_images": count, "trainer": asdict(trainer)},
            seconds=trained - started,
        )
        reading = as_adapter(vae).prepare(images.normal[:1].to(result.device))
        report["posterior_read_by"] = repr(reading)
        report["packages"] = {name: importlib.metadata.version(name) for name in PACKAGES}
        report["pictures"] = [f"figures/{picture.path.name}" for picture in pictures.values()]
        write_json(folder / "report.json", report)
        page = write_demo_page(folder / "report.html", report, pictures)
    result.active.warn_if_collapsed(result.step)
    say(f"done in {time.perf_counter() - started:.0f} s: open {page}")


def choose_images(settings: DemoSettings) -> DemoImages:
    """Random test images: of the normal digit and, in turns, of the others."""
    generator = torch.Generator().manual_seed(settings.seed)
    digits = list(islice(cycle(settings.others), max(COLUMNS, len(settings.others))))
    chosen: dict[int, list[Tensor]] = {}
    for digit in (settings.normal, *settings.others):
        data = read_digits(settings, "test", digit)
        order = torch.randperm(len(data), generator=generator).tolist()
        chosen[digit] = [data[index].image for index in islice(cycle(order), COLUMNS)]
    return DemoImages(
        normal_digit=settings.normal,
        normal=torch.stack(chosen[settings.normal][:2]),
        other_digits=tuple(digits),
        others=torch.stack(
            [chosen[digit][digits[:place].count(digit)] for place, digit in enumerate(digits)]
        ),
    )


def read_digits(settings: DemoSettings, split: Split, digit: int) -> Digits:
    """All images of one digit, 28 x 28.

    Raises:
        FileNotFoundError: The root does not hold MNIST.
    """
    if settings.dataset == "digits":
        return OneClassDigits(split, digits=[digit])
    assert settings.root is not None
    return MNIST(settings.root, split, digits=[digit])


def train_demo_vae(
    settings: DemoSettings, trainer: Trainer
) -> tuple[MNISTVAE, TrainingResult, int]:
    """The trained VAE in eval mode, what training tells, and the number of training images."""
    data = read_digits(settings, "train", settings.normal)
    seed_everything(settings.seed)
    vae = MNISTVAE(settings.latent_dims).eval()
    # A layer that cannot be explained should fail now, not after the training.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapsedPosteriorWarning)
        LatentGradCAM(vae, settings.layer).explain_plan(data[0].image[None])
    objective = VAEObjective(
        ELBO("optimal_gaussian", warmup_steps=round(WARMUP_SHARE * settings.steps))
    )
    stage(f"training on {len(data)} images of the digit {settings.normal}")
    with tempfile.TemporaryDirectory() as run:
        result = trainer.fit(vae, data, objective, out=run, resume="never")
    return vae, result, len(data)
