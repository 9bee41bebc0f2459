"""The pictures of the dSprites experiment: what dimensions of trained models draw and look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import torch

from captum_vae.data import DSprites
from captum_vae.data.dsprites_factors import IMAGE_COUNT, SHAPE_NAMES, factor_values
from captum_vae.data.sample import Sample, SampleDataset
from captum_vae.experiments.dsprites_findings import BEST, FAITHFUL, HEADLINE_GAMMA, PLAIN, Run
from captum_vae.experiments.explorers import DECODED, explore_dimensions
from captum_vae.experiments.results import Illustration
from captum_vae.experiments.seed_run import SeedRun
from captum_vae.experiments.work import Work
from captum_vae.models import GaussianVAE
from captum_vae.progress import stage
from captum_vae.report import Picture, save_picture
from captum_vae.training import load_vae
from captum_vae.training.active_report import measure_active_dimensions
from captum_vae.training.traversal_figure import draw_informative_dimensions

SHOWN = (PLAIN, FAITHFUL, BEST)
"""The models that are drawn, where they were trained; others take the place of those missing."""

_STEP = 7919
"""A prime: so many images apart, all factors vary from one image to the next."""


class Sprites(SampleDataset):
    """Some images of dSprites, named by their factors and grouped by their shape."""

    def __init__(self, indices: torch.Tensor) -> None:
        """Keep (N,) numbers of images of the original."""
        self.data = DSprites(indices)

    def __len__(self) -> int:
        """Count the images."""
        return len(self.data)

    def __getitem__(self, index: int) -> Sample:
        """Draw a sprite."""
        image, classes = self.data[index]
        _, scale, turned, x, y = factor_values(classes[None])[0].tolist()
        shape = SHAPE_NAMES[int(classes[0])]
        name = f"{shape}, scale {scale:.1f}, turned {turned:.2f} rad, x {x:.2f}, y {y:.2f}"
        return Sample(image, None, None, name, shape)


@dataclass
class TrainedFigures:
    """The figures of trained models, each drawn once.

    Attributes:
        work: It says where to save, and on which device.
        folders: The runs of the grid by the folder that they are in.
    """

    work: Work
    folders: Mapping[Path, Sequence[SeedRun]]
    _drawn: dict[SeedRun, Illustration | None] = field(default_factory=dict)

    def of(self, runs: Sequence[Run]) -> list[Illustration]:
        """The figure of each of up to three models, of the first of its seeds that has finished.

        Models are those of gamma 40, or of the lowest gamma where that was not trained. A run whose
        checkpoint was removed has none.

        Args:
            runs: The runs that have finished.
        """
        gammas = {run.gamma for run in runs}
        gamma = HEADLINE_GAMMA if HEADLINE_GAMMA in gammas else min(gammas)
        first = {
            run.title: run
            for run in sorted(runs, key=lambda run: -run.experiment.seed)
            if run.gamma == gamma
        }
        titles = sorted(first, key=lambda title: (title not in SHOWN, title))[: len(SHOWN)]
        titles.sort(key=lambda title: (title != PLAIN, title))
        found = []
        for run in (first[title] for title in titles):
            if run.experiment not in self._drawn:
                self._drawn[run.experiment] = self._draw(run)
            figure = self._drawn[run.experiment]
            found += [] if figure is None else [figure]
        return found

    def _draw(self, run: Run) -> Illustration | None:
        """The figure of a run and the page beside it; None without its checkpoint."""
        work, experiment = self.work, run.experiment
        place = next(out for out, of_folder in self.folders.items() if experiment in of_folder)
        title = f"{run.title}, gamma {run.gamma:g}, seed {experiment.seed}"
        try:
            vae = cast(GaussianVAE, load_vae(place / experiment.name, device=work.device))
        except FileNotFoundError:
            stage(f"{title}: its checkpoint was removed, and no figure is drawn")
            return None
        stage(f"drawing {title}")
        data = DSprites()
        active = measure_active_dimensions(vae, data, device=work.device)
        name = "".join(c if c.isalnum() else "_" for c in run.title.lower()).strip("_")
        figure = draw_informative_dimensions(vae, data, active, layer=experiment.layer)
        drawn = Picture(
            save_picture(figure, work.out / "figures" / f"{name}.png"),
            alt=f"{title}: latent dimensions as rows; to the left what the decoder draws as the "
            "dimension changes, to the right where the dimension looks in five sprites.",
            caption=f"{title}: the dimensions of the highest KL. The traversal sets one dimension "
            f"to so many standard deviations of the prior; beside it are its maps at "
            f"{experiment.layer} (method 1, absolute value).",
        )
        page = explore_dimensions(
            work,
            vae,
            Sprites(torch.arange(DECODED) * _STEP % IMAGE_COUNT),
            [experiment.layer],
            name=name,
            source=title,
            options={"rectifier": "abs"},
        )
        return replace(
            Illustration.of(drawn, work.out),
            explorer=page,
            browses=f"the latent dimensions of {title}",
        )
