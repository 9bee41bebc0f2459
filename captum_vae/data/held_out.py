"""Images that a model's training leaves out, so that a detector can calibrate on them."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from pathlib import Path

from captum_vae.checks import real_number
from captum_vae.data.image_dataset import ImageFileDataset
from captum_vae.data.sample import Sample, SampleDataset, digest_of
from captum_vae.data.sources import ImageSources
from captum_vae.files import replacing

FILE = "held_out.txt"
"""Where a run lists them: a text file with a path a line, which captum-vae detect reads."""


class ImagesKept(SampleDataset):
    """The images of a data set that are not held out, and the paths of those that are.

    Whole clips are held out where the data set's groups are clips, whose frames resemble each
    other. Which they are depends on their number alone, so that every run holds out the same.

    Args:
        dataset: Images that lie in files.
        share: Share of the images, or clips, to hold out.
        argument: What messages call the share.

    Attributes:
        dataset: The data set.
        held_out: Files of the images that are held out, in order.

    Raises:
        TypeError: The share is no number.
        ValueError: It is not between 0 and 1, it leaves nothing on a side, or the images do not
            lie in a file each.
    """

    def __init__(self, dataset: object, share: float, argument: str) -> None:
        """Choose the images; none is read."""
        if not 0 < real_number(argument, share) < 1:
            raise ValueError(f"{argument}={share:g} must lie between 0 and 1")
        if not isinstance(dataset, ImageFileDataset | ImageSources):
            raise ValueError(
                f"{argument} is for images that lie in files, so that their paths can be listed, "
                f"and the data are {type(dataset).__name__}; keep some of them apart yourself"
            )
        self.dataset = dataset
        self.groups_are_clips = dataset.groups_are_clips
        units = [str(place) for place in range(len(dataset))]
        if dataset.groups_are_clips:
            units = list(dataset.groups)
        names = list(dict.fromkeys(units))
        count = round(share * len(names))
        if not 0 < count < len(names):
            kind = "clips" if dataset.groups_are_clips else "images"
            raise ValueError(
                f"{argument}={share:g} of {len(names)} {kind} holds out {count}; wanted at least "
                "one, and one to train on"
            )
        chosen = set(random.Random(0).sample(names, count))
        self._places = [place for place, unit in enumerate(units) if unit not in chosen]
        self.held_out = [_path(dataset, at) for at, unit in enumerate(units) if unit in chosen]
        if len(set(self.held_out)) < len(self.held_out):
            raise ValueError(
                f"{argument} is for images in a file each, and {self.held_out[0]} holds several; "
                "keep some of them apart yourself"
            )

    def __len__(self) -> int:
        """Count the images kept."""
        return len(self._places)

    def __getitem__(self, index: int) -> Sample:
        """Read an image that was kept."""
        return self.dataset[self._places[index]]

    @property
    def groups(self) -> list[str]:
        """The group of every image kept, in order."""
        groups = self.dataset.groups
        return [groups[place] for place in self._places]

    @property
    def digest(self) -> str | None:
        """SHA-256 over the data set's digest and the numbers kept; None where it has none."""
        below = self.dataset.digest
        return None if below is None else digest_of("ImagesKept", below, tuple(self._places))

    def describe(self) -> dict[str, str]:
        """What the data set says about itself, and how many images are held out."""
        return {**self.dataset.describe(), "held out": f"{len(self.held_out)} images"}


def write_held_out(folder: str | Path, paths: Sequence[Path]) -> Path:
    """List held-out images in a run's folder.

    Args:
        folder: The run's folder.
        paths: The images' files.

    Returns:
        The list's path.
    """
    place = Path(folder) / FILE
    with replacing(place) as file:
        file.write(b"# images that this run was not trained on, for captum-vae detect\n")
        file.writelines(os.fsencode(os.path.abspath(path)) + b"\n" for path in paths)
    return place


def held_out_list(model: str | Path) -> Path | None:
    """The list of held-out images of a run.

    Args:
        model: The run's folder, or one of its checkpoints.

    Returns:
        Its path; None where the run held none out.
    """
    path = Path(model)
    folder = path.parent.parent if path.is_file() else path
    return folder / FILE if (folder / FILE).is_file() else None


def _path(dataset: ImageFileDataset | ImageSources, place: int) -> Path:
    if isinstance(dataset, ImageSources):
        return dataset.path(place)
    return dataset.files[place].path
