"""``captum-vae demo``: a VAE that knows one digit, and where it looks on the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from captum_vae.training.configuration import Accelerator


def demo(
    out: str = "captum-vae-demo",
    *,
    dataset: Literal["digits", "mnist"] = "digits",
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
        out: Folder to write to; made if needed, files of an earlier demo are replaced.
        dataset: Data to train on: digits, which come with scikit-learn, or mnist from root.
        root: Folder of MNIST's IDX files, plain or gzipped.
        normal: The digit to train on.
        others: The digits to explain.
        layer: Layer whose features are explained: encoder.conv1, encoder.relu1, encoder.conv2, ...
        latent_dims: Number of latent dimensions of the VAE.
        steps: Optimizer steps of the training.
        seed: Seed of weights, batches, sampling noise and the choice of images.
        device: Where to run: auto, cpu or cuda.

    Raises:
        TypeError: An option is of the wrong type.
        ValueError: An option is out of range, or another run writes to the folder.
        FileNotFoundError: The folder root does not hold MNIST.
    """
    from captum_vae.data.listing import as_path
    from captum_vae.experiments.demo import DemoSettings, run_demo

    if isinstance(others, str) or not isinstance(others, Sequence):
        raise TypeError(f"others is {others!r}; wanted a list of digits")
    settings = DemoSettings(dataset, root, normal, tuple(others), layer, latent_dims, steps, seed)
    run_demo(settings, as_path("out", out), device)
