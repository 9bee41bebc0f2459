"""What was chosen without test labels, how sure that is, and what an oracle would have chosen."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from captum_vae.metrics.localization.bootstrap import without_nan
from captum_vae.metrics.localization.curves import LocalizationScore

_SURE = 0.8
"""Share of resamples that choose the same below which a choice is called unsure."""

_FEW = 5
"""Images to paint on below which a choice says little."""

_FOUND = 0.7
"""Pixel AUROC on painted defects below which a map hardly finds them."""


@dataclass(frozen=True)
class Margin:
    """How far a candidate is above the default on painted defects.

    Attributes:
        name: The candidate, the best of those that are not the default.
        difference: Its pixel AUROC minus the default's.
        low: Lower end of the 95% interval over images, which is wide enough to hold for all
            candidates at once, since the best is the luckiest as well; NaN for a single image.
        high: Upper end.
        needed: What the lower end must exceed for the default to be left.
    """

    name: str
    difference: float
    low: float
    high: float
    needed: float

    @property
    def enough(self) -> bool:
        """Whether the candidate is chosen."""
        return self.low > self.needed


@dataclass(frozen=True)
class Choice:
    """What was chosen, on what grounds, how surely, and what an oracle would have chosen.

    Attributes:
        name: Name of the candidate chosen.
        synthetic: Pixel AUROC of every candidate on painted defects, best first.
        painted: How many images with a painted defect those are of.
        default: Name of the candidate that stays unless another beats it.
        margin: The best other candidate against the default; None where there is no other.
        sure: Share of resamples of the images that choose the same.
        families: Kinds of the painted defects.
        seeds: How often each image was painted.
        varying: Share of the places in which defects lie.
        left_out: Candidates that are not chosen among, see ``Candidates.scales``.
        on_test: Pixel AUROC of every candidate on test images, best first; empty if not measured.
        test_images: How many test images those are of.
    """

    name: str
    synthetic: dict[str, float]
    painted: int
    default: str = ""
    margin: Margin | None = None
    sure: float = 1.0
    families: tuple[str, ...] = ()
    seeds: int = 1
    varying: float = 1.0
    left_out: tuple[str, ...] = ()
    on_test: dict[str, float] = field(default_factory=dict)
    test_images: int = 0

    @property
    def oracle(self) -> str:
        """Name of the best candidate on the test images."""
        return next(iter(self.on_test))

    def beside_oracle(self, on_test: Mapping[str, LocalizationScore], test_images: int) -> Choice:
        """The same choice, with what the test labels say about all candidates."""
        areas = {name: area.value for name, area in on_test.items()}
        return replace(self, on_test=ranking(areas), test_images=test_images)

    def to_dict(self) -> dict[str, Any]:
        """Everything for JSON; what is undefined is None."""
        entries = asdict(self)
        for name in ("synthetic", "on_test", "margin"):
            if entries[name] is not None:
                entries[name] = without_nan(entries[name])
        entries["warnings"] = self.warnings
        return {**entries, "oracle": self.oracle if self.on_test else None}

    @property
    def warnings(self) -> list[str]:
        """What there is to doubt about the choice, in sentences; empty when nothing is."""
        found = []
        images = self.painted // self.seeds
        if self.margin is not None and images < _FEW:
            found.append(
                f"Defects were painted on too few normal images ({images}) to tell candidates "
                "apart; give more normal images, or hold more of them out."
            )
        if self.sure < _SURE:
            found.append(
                f"This choice is unsure: only {self.sure:.0%} of resamples of the painted images "
                "choose the same. Compare the candidates on labelled images if you have some."
            )
        if self.synthetic[self.name] < _FOUND:
            found.append(
                f"The chosen map hardly finds the painted defects (pixel AUROC "
                f"{self.synthetic[self.name]:.3f}): train the model longer, choose layers nearer "
                "to the image, or take features of a pretrained encoder."
            )
        return found

    def lines(self) -> list[str]:
        """What was chosen, how surely, and what that cost, in sentences."""
        where = "" if self.varying == 1 else f" where they vary most ({self.varying:.0%} of places)"
        lines = [
            f"Chosen among {len(self.synthetic)} candidates without test labels, by pixel AUROC on "
            f"{self.painted} images with a synthetic defect, painted on held-out normal images"
            f"{where}: {self.name} ({self.synthetic[self.name]:.3f} on the synthetic defects; "
            f"{self.sure:.0%} of resamples choose the same)."
        ]
        if self.margin is not None:
            margin = self.margin
            interval = f"{margin.difference:+.3f}"
            if not math.isnan(margin.low):
                interval += f" [{margin.low:+.3f}, {margin.high:+.3f}]"
            lines.append(
                f"It beats the default, {self.default}, by {interval}; more than "
                f"{margin.needed:g} was needed."
                if margin.enough
                else f"It is the default. The best of the others, {margin.name}, is above it by "
                f"{interval}, and more than {margin.needed:g} is needed, since painted defects "
                "order good maps otherwise than real ones do."
            )
        if self.left_out:
            lines.append(
                f"{len(self.left_out)} candidates of other scales were not chosen among: painted "
                "defects do not tell scales apart, since maps scaled by location are small where "
                "normal images vary, where the defects are painted."
            )
        lines += self.warnings
        if self.on_test and math.isnan(self.on_test[self.oracle]):
            lines.append(
                "What an oracle would have chosen is undefined: the test images looked at do not "
                "hold both anomalous and normal pixels."
            )
        elif self.on_test:
            best, own = self.on_test[self.oracle], self.on_test[self.name]
            lines.append(
                f"An oracle, which reads the test labels, would have chosen {self.oracle}: pixel "
                f"AUROC {best:.3f} on {self.test_images} test images, where the chosen one has "
                f"{own:.3f}."
            )
        return lines


def ranking(areas: Mapping[str, float]) -> dict[str, float]:
    """Pixel AUROC by name, best first; of equals the first comes first."""
    return dict(sorted(areas.items(), key=lambda item: -item[1]))
