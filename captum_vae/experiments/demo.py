"""``captum-vae demo``: a VAE that knows one digit, and where it looks on the others."""

from __future__ import annotations

import importlib.metadata
import json
import tempfile
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor

from captum_vae.attr import LatentGradCAM
from captum_vae.data import MNIST, Digits, OneClassDigits
from captum_vae.data.digits import Split
from captum_vae.experiments.demo_figures import DemoImages, draw_demo
from captum_vae.experiments.demo_page import write_demo_page
from captum_vae.losses import ELBO
from captum_vae.models import MNISTVAE
from captum_vae.posterior import CollapsedPosteriorWarning, as_adapter
from captum_vae.training import Trainer, TrainingResult, VAEObjective
from captum_vae.training.configuration import Accelerator
from captum_vae.training.logs import say
from captum_vae.training.random_state import seed_everything

DemoData = Literal["digits", "mnist"]

BATCH_SIZE = 32
WARMUP_SHARE = 0.3
"""Share of the steps over which the KL's weight climbs; it keeps the dimensions active."""
COLUMNS = 4
"""Images of other digits in a figure, at least."""
PACKAGES = ("torch", "captum", "timm", "numpy", "scikit-learn", "lightning", "matplotlib")


@dataclass(frozen=True)
class DemoSettings:
    """The options of :func:`demo` that change the outcome, checked.

    Raises:
        ValueError: an option out of range, or one that contradicts another.
    """

    dataset: DemoData
    root: str | None
    normal: int
    others: tuple[int, ...]
    layer: str
    latent_dims: int
    steps: int
    seed: int

    def __post_init__(self) -> None:
        """Check before anything is trained."""
        if self.dataset not in get_args(DemoData):
            raise ValueError(f"dataset is {self.dataset!r}; wanted one of {get_args(DemoData)}")
        if self.dataset == "mnist" and self.root is None:
            raise ValueError("dataset='mnist' needs root, the folder of MNIST's IDX files")
        if self.dataset == "digits" and self.root is not None:
            raise ValueError(
                f"root is {self.root!r}, but the digits come with scikit-learn; "
                "leave root out or choose dataset='mnist'"
            )
        if self.normal not in range(10):
            raise ValueError(f"normal is {self.normal!r}; wanted a digit from 0 to 9")
        if not self.others or len({self.normal, *self.others}) <= len(self.others):
            raise ValueError(
                f"others is {list(self.others)}; wanted at least one digit, none twice and none "
                f"of them the normal {self.normal}"
            )


def demo(
    out: str = "captum-vae-demo",
    *,
    dataset: DemoData = "digits",
    root: str | None = None,
    normal: int = 1,
    others: Sequence[int] = (9, 7, 2, 4),
    layer: str = "encoder.conv2",
    latent_dims: int = 32,
    steps: int = 250,
    seed: int = 0,
    device: Accelerator = "auto",
) -> None:
    """Train a VAE on one digit and show where its latent dimensions look on other digits.

    Writes ``report.html`` with its pictures and ``report.json``. The maps are those of Figure 1
    of the second replication study of Liu et al. (CVPR 2020): methods 1 and 2 under three
    rectifiers. The maps relative to the VAE's own reconstruction are this package's.

    Args:
        out: folder to write to; made if needed, files of an earlier demo are replaced.
        dataset: digits, which come with scikit-learn, or mnist from root.
        root: folder of MNIST's IDX files, plain or gzipped.
        normal: the digit to train on.
        others: the digits to explain.
        layer: whose features are explained: encoder.conv1, encoder.relu1, encoder.conv2, ...
        latent_dims: of the VAE.
        steps: of training.
        seed: of weights, batches, sampling noise and the choice of images.
        device: auto, cpu or cuda.

    Raises:
        ValueError: an option out of range.
        FileNotFoundError: root does not hold MNIST.
    """
    started = time.perf_counter()
    settings = DemoSettings(dataset, root, normal, tuple(others), layer, latent_dims, steps, seed)
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    images = choose_images(settings)
    trainer = Trainer(
        steps=steps, batch_size=BATCH_SIZE, seed=seed, accelerator=device, save_every=steps
    )

    vae, result, count = _train(settings, trainer)
    if not result.is_first_process:
        return
    trained = time.perf_counter()
    say("explaining")
    pictures = draw_demo(vae, layer, images.to(result.device), result.active, folder / "figures")
    report = result.report(
        {"demo": asdict(settings), "training_images": count, "trainer": asdict(trainer)},
        seconds=trained - started,
    )
    reading = as_adapter(vae).prepare(images.normal[:1].to(result.device))
    report["posterior_read_by"] = repr(reading)
    report["packages"] = {name: importlib.metadata.version(name) for name in PACKAGES}
    report["pictures"] = [f"figures/{picture.path.name}" for picture in pictures.values()]
    (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    page = write_demo_page(folder / "report.html", report, pictures)
    result.active.warn_if_collapsed()
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
        FileNotFoundError: root does not hold MNIST.
    """
    if settings.dataset == "digits":
        return OneClassDigits(split, digits=[digit])
    assert settings.root is not None
    return MNIST(settings.root, split, digits=[digit])


def _train(settings: DemoSettings, trainer: Trainer) -> tuple[MNISTVAE, TrainingResult, int]:
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
    say(f"training on {len(data)} images of the digit {settings.normal}")
    with tempfile.TemporaryDirectory() as run:
        result = trainer.fit(vae, data, objective, out=run, resume="never")
    return vae, result, len(data)
