"""Images that training leaves out: which, that no clip is cut, and the list that names them."""

from pathlib import Path

import numpy as np
import pytest

from captum_vae.data import Augmented, ImageFolder, OneClassDigits
from captum_vae.data.held_out import ImagesKept, held_out_list, write_held_out
from captum_vae.data.sources import ImageSources
from tests.data.conftest import WriteImage


@pytest.fixture
def good(tmp_path: Path, write_image: WriteImage) -> Path:
    for number in range(20):
        write_image(tmp_path / "good" / f"{number}.png", np.full((8, 10), number, np.uint8))
    return tmp_path / "good"


def test_a_share_is_held_out_and_listed_and_the_rest_trains(good: Path, tmp_path: Path) -> None:
    data = ImageFolder(good)
    kept = ImagesKept(data, 0.2, "data.held_out")
    assert (len(kept), len(kept.held_out)) == (16, 4)
    names = {kept[place].name for place in range(16)}
    assert len(names) == 16 and not names & {f"good/{path.name}" for path in kept.held_out}
    assert kept.digest != data.digest and kept.digest == ImagesKept(data, 0.2, "x").digest
    assert len(kept.groups) == 16 and "held out" in kept.describe()
    listed = ImageSources(write_held_out(tmp_path / "run", kept.held_out))
    assert [listed.path(place) for place in range(4)] == kept.held_out
    assert held_out_list(tmp_path / "run") == tmp_path / "run" / "held_out.txt"
    assert held_out_list(good) is None
    assert len(Augmented(kept, length=50)) == 50


def test_whole_clips_are_held_out(good: Path) -> None:
    class Clips(ImageFolder):
        groups_are_clips = True

        @property
        def groups(self) -> list[str]:
            return [str(place // 4) for place in range(len(self))]

    kept = ImagesKept(Clips(good), 0.4, "data.held_out")
    numbers = [int(path.stem) // 4 for path in kept.held_out]
    assert len(numbers) == 8 and len(set(numbers)) == 2
    assert not set(kept.groups) & set(map(str, numbers))


@pytest.mark.parametrize(
    ("share", "words"),
    [(1.0, "must lie between 0 and 1"), (0.01, "of 20 images holds out 0"), (0.99, "holds out 20")],
)
def test_shares_that_leave_nothing_are_refused(good: Path, share: float, words: str) -> None:
    with pytest.raises(ValueError, match=rf"data.held_out={share:g}.*{words}"):
        ImagesKept(ImageFolder(good), share, "data.held_out")


def test_images_without_files_of_their_own_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="lie in files.*the data are OneClassDigits"):
        ImagesKept(OneClassDigits(digits=[1]), 0.2, "data.held_out")
    np.save(tmp_path / "many.npy", np.zeros((9, 8, 8), np.uint8))
    with pytest.raises(ValueError, match="many.npy holds several"):
        ImagesKept(ImageSources(tmp_path / "many.npy"), 0.5, "data.held_out")
