"""The words of the demo's report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from captum_vae.report import Picture, Section, Table, write_page

DATA_NAMES = {"digits": "scikit-learn's handwritten digits", "mnist": "MNIST"}


def write_demo_page(path: Path, report: Mapping[str, Any], pictures: Mapping[str, Picture]) -> Path:
    """Write the page.

    Args:
        path: of the page, in a folder above the pictures.
        report: as written to report.json.
        pictures: by the names that :func:`captum_vae.experiments.demo_figures.draw_demo` gives.
    """
    demo = report["protocol"]["demo"]
    others = _listed(sorted(set(demo["others"])))
    sections = [section for section in _sections(demo, pictures) if section.pictures]
    sections.append(_settings(report))
    return write_page(
        path,
        title=f"What a VAE of the digit {demo['normal']} looks at",
        lead=f"A variational autoencoder saw {report['protocol']['training_images']} images of "
        f"the digit {demo['normal']} and nothing else. Here it is shown {others}, and every "
        "latent dimension is asked which pixels it reads.",
        sections=sections,
        footer=f"Made by captum_vae {report['version']} with Captum "
        f"{report['packages']['captum']}. Methods 1 and 2: Liu et al., Towards Visually "
        "Explaining Variational Autoencoders, CVPR 2020.",
    )


def _sections(demo: Mapping[str, Any], pictures: Mapping[str, Picture]) -> list[Section]:
    def only(name: str) -> list[Picture]:
        return [pictures[name]] if name in pictures else []

    return [
        Section(
            "What is unusual about each digit",
            [
                "Attention as published lights up the strokes of any digit, normal or not: it "
                "says what the latent space reads. Taken relative to the VAE's own "
                "reconstruction it says where the digit differs from a normal one, and stays "
                "dark where nothing does.",
            ],
            only("reconstruction_baseline"),
        ),
        Section(
            "What single dimensions read",
            [
                "Method 1 gives one map per latent dimension, all of them from one forward "
                "pass. Bright are the places whose features push the dimension's mean up; one "
                "scale for all shows which dimensions a digit drives hard and which it leaves "
                "alone.",
            ],
            only("latent_dimensions"),
        ),
        Section(
            "Two methods, three rectifiers",
            [
                "Method 1 averages the maps of all dimensions. Method 2 is the map of the "
                "dimensions' sum, in which dimensions of opposite sign cancel. The paper "
                "rectifies with ReLU, its authors' code takes the absolute value, and the second "
                "replication study also tried the sigmoid; this is the layout of its Figure 1.",
            ],
            only("rectifiers"),
        ),
        Section(
            "How much each dimension is used",
            [f"Measured on the images of the digit {demo['normal']} that the VAE was trained on."],
            only("active_dimensions"),
        ),
    ]


def _settings(report: Mapping[str, Any]) -> Section:
    protocol, machine = report["protocol"], report["machine"]
    demo, trainer = protocol["demo"], protocol["trainer"]
    active = report["active_dimensions"]
    rows = [
        ("data", f"{DATA_NAMES[demo['dataset']]}, 28 x 28 pixels"),
        ("layer", demo["layer"]),
        ("posterior, as read", report["posterior_read_by"]),
        (
            "training",
            f"{report['steps']} steps of {trainer['batch_size']} images, "
            f"{report['seconds']:.0f} s on {machine['device']}, seed {demo['seed']}",
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


def _listed(digits: list[int]) -> str:
    words = [str(digit) for digit in digits]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
