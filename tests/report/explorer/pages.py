"""Pages to try the explorer on, and the numbers that Python has for them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from captum_vae.report import Section, Table
from captum_vae.report.explorer import Explorer

SIDE = 48
KINDS = ("good", "scratch", "hole")


@dataclass
class Written:
    """A page with what went into it."""

    page: Path
    names: list[str] = field(default_factory=list)
    maps: dict[str, list[Tensor]] = field(default_factory=dict)
    masks: list[Tensor | None] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)


def blob(seed: int, *, side: int = SIDE, width: float = 5.0) -> Tensor:
    """A soft spot somewhere on a square, at most 1."""
    generator = torch.Generator().manual_seed(seed)
    y, x = torch.rand(2, generator=generator) * side * 0.6 + side * 0.2
    line = torch.arange(side)
    distance = (line[:, None] - y) ** 2 + (line[None] - x) ** 2
    return torch.exp(-distance / (2 * width**2))


def spot(number: int, dim: int, layer: int) -> Tensor:
    """A coarse map, coarser at later layers."""
    return blob(50 * number + dim, side=14 - 6 * layer, width=3)


def photograph(seed: int, *, side: int = SIDE, bright: float = 0.9) -> Tensor:
    """A colour picture of soft spots on a bright ground."""
    ground = torch.linspace(bright, bright * 0.6, side)[None, :, None].expand(3, side, side)
    spots = torch.stack([blob(3 * seed + channel, side=side, width=9) for channel in range(3)])
    return (ground - 0.5 * spots).clamp(0, 1)


def defects(
    folder: Path,
    *,
    count: int = 40,
    names: Mapping[int, str] | None = None,
    kinds: tuple[str, ...] = KINDS,
    title: str = "Where the anomalies are",
) -> Written:
    """Images with masks, two kinds of anomaly maps at their size, scores, errors and KL."""
    written = Written(folder / "index.html")
    thresholds = {"latent attention": {"calibrated: 1 in 100": 0.37, "oracle": 0.5}}
    with Explorer(
        folder,
        title=title,
        lead="Synthetic images with painted defects.",
        thresholds=thresholds,
        sections=[
            Section("Table", ["Metrics."], tables=[Table(("scorer", "AUROC"), [("a", "0.9")])])
        ],
    ) as page:
        for number in range(count):
            kind = kinds[number % len(kinds)]
            found = blob(number)
            mask = (found > 0.6) if kind != kinds[0] else torch.zeros(SIDE, SIDE, dtype=torch.bool)
            generator = torch.Generator().manual_seed(number)
            noise = torch.rand(SIDE, SIDE, generator=generator)
            attention = (0.8 * found * float(mask.any()) + 0.25 * noise).float()
            error = (0.3 * blob(number + 7) + 0.2 * noise).double()
            name = (names or {}).get(number, f"{kind}/{number:03d}.png")
            page.add(
                photograph(number),
                name=name,
                maps={"latent attention": attention, "reconstruction error": error},
                mask=mask,
                reconstruction=photograph(number + 1),
                kind=kind,
                score=float(attention.max()),
                error=float(error.mean()),
                kl=torch.rand(4, generator=generator),
            )
            written.names.append(name)
            written.kinds.append(kind)
            written.masks.append(mask)
            written.maps.setdefault("latent attention", []).append(attention)
            written.maps.setdefault("reconstruction error", []).append(error)
    return written


def dimensions(folder: Path, *, count: int = 12, dims: int = 8, layers: int = 2) -> Written:
    """Images with a map per latent dimension at two layers, traversals and KL per dimension."""
    written = Written(folder / "index.html")
    steps = (-3, -1.5, 0, 1.5, 3)
    with Explorer(
        folder,
        title="Where each latent dimension is at work",
        lead="A VAE of synthetic pictures.",
        traversed=[f"z = {step:g}" for step in steps],
    ) as page:
        for number in range(count):
            generator = torch.Generator().manual_seed(number)
            kl = torch.rand(dims, generator=generator) * torch.linspace(2, 0, dims)
            maps = {
                ("latent Grad-CAM", f"encoder.conv{layer + 1}"): torch.stack(
                    [
                        blob(number * 50 + d, side=14 - 6 * layer, width=3) * kl[d]
                        for d in range(dims)
                    ]
                )
                for layer in range(layers)
            }
            base = photograph(number)
            change = torch.stack([blob(d, width=7) for d in range(dims)])
            traversal = torch.stack(
                [torch.stack([(base + 0.12 * s * c).clamp(0, 1) for s in steps]) for c in change]
            )
            page.add(
                base,
                name=f"digit_{number}.png",
                maps=maps,
                reconstruction=photograph(number + 1),
                traversal=traversal,
                error=0.1 + 0.01 * number,
                kl=kl,
            )
            written.names.append(f"digit_{number}.png")
    return written
