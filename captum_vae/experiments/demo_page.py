"""The words of the demo's report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from captum_vae.report import Picture, Section, Table, write_page

_DATA_NAMES = {"digits": "scikit-learn's handwritten digits", "mnist": "MNIST"}

_SECTIONS = {
    "reconstruction_baseline": (
        "What is unusual about each digit",
        "Attention as published lights up the strokes of any digit, normal or not: it says what "
        "the latent space reads. Taken relative to the VAE's own reconstruction it says where the "
        "digit differs from a normal one, and stays dark where nothing does.",
    ),
    "latent_dimensions": (
        "What single dimensions read",
        "Method 1 gives one map per latent dimension, all of them from one forward pass. Bright "
        "are the places whose features push the dimension's mean up; one scale for all shows "
        "which dimensions a digit drives hard and which it leaves alone.",
    ),
    "rectifiers": (
        "Two methods, three rectifiers",
        "Method 1 averages the maps of all dimensions. Method 2 is the map of the dimensions' "
        "sum, in which dimensions of opposite sign cancel. The paper rectifies with ReLU, its "
        "authors' code takes the absolute value, and the second replication study also tried the "
        "sigmoid; this is the layout of its Figure 1.",
    ),
    "active_dimensions": (
        "How much each dimension is used",
        "Measured on the images of the digit {normal} that the VAE was trained on.",
    ),
}
"""Title and text of each section, by its picture."""


def write_demo_page(path: Path, report: Mapping[str, Any], pictures: Mapping[str, Picture]) -> Path:
    """Write the page.

    Args:
        path: The page's file, in a folder above the pictures.
        report: What report.json holds.
        pictures: The pictures by the names that
            :func:`captum_vae.experiments.demo_figures.draw_demo` gives them.
    """
    demo = report["protocol"]["demo"]
    sections = [
        Section(title, [text.format(normal=demo["normal"])], [pictures[name]])
        for name, (title, text) in _SECTIONS.items()
        if name in pictures
    ]
    others = [str(digit) for digit in sorted(set(demo["others"]))]
    listed = " and ".join(filter(None, (", ".join(others[:-1]), others[-1])))
    return write_page(
        path,
        title=f"What a VAE of the digit {demo['normal']} looks at",
        lead=f"A variational autoencoder saw {report['protocol']['training_images']} images of "
        f"the digit {demo['normal']} and nothing else. Here it is shown {listed}, and every "
        "latent dimension is asked which pixels it reads.",
        sections=[*sections, _settings(report)],
        footer=f"Made by captum_vae {report['version']} with Captum "
        f"{report['packages']['captum']}. Methods 1 and 2: Liu et al., Towards Visually "
        "Explaining Variational Autoencoders, CVPR 2020.",
    )


def _settings(report: Mapping[str, Any]) -> Section:
    demo, active = report["protocol"]["demo"], report["active_dimensions"]
    rows = [
        ("data", f"{_DATA_NAMES[demo['dataset']]}, 28 x 28 pixels"),
        ("layer", demo["layer"]),
        ("posterior, as read", report["posterior_read_by"]),
        (
            "training",
            f"{report['steps']} steps of {report['protocol']['trainer']['batch_size']} images, "
            f"{report['seconds']:.0f} s on {report['machine']['device']}, seed {demo['seed']}",
        ),
        ("likelihood", "Gaussian, its variance learned (sigma-VAE), the KL warmed up"),
        ("active dimensions", f"{active['active']} of {active['dimensions']}"),
        ("versions", ", ".join(f"{name} {v}" for name, v in report["packages"].items())),
    ]
    return Section(
        "Settings",
        ["All of them, with the statistics of every dimension, are in report.json."],
        tables=[Table(("setting", "value"), rows)],
        code=report["command"],
    )
