"""Which pixels of a mask file count as anomalous."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from captum_vae.data import ImageFile, ImageFileDataset, UndecidedMaskError
from captum_vae.data.decode import UnreadableImageError
from captum_vae.data.mask_values import described, read_mask, read_states

BOX = np.zeros((48, 64), dtype=np.uint8)
BOX[10:20, 10:30] = 1
WHITE, BLACK = np.full_like(BOX, 255), np.zeros_like(BOX)
SCENE = np.outer(np.sin(np.arange(48) / 9), np.cos(np.arange(64) / 11))
SCENE = np.rint((SCENE - SCENE.min()) / np.ptp(SCENE) * 255).astype(np.uint8)
RED = np.dstack([BOX * 255, BLACK, BLACK])


def palette(indices: np.ndarray, colours: list[tuple[int, int, int]], **save: Any) -> Image.Image:
    image = Image.frombytes("P", indices.shape[::-1], indices.astype(np.uint8).tobytes())
    image.putpalette([part for colour in colours for part in colour])
    image.info.update(save)
    return image


def soft(values: np.ndarray, factor: int = 3) -> np.ndarray:
    """Shrink a mask by a filter, as editors do, which leaves soft edges."""
    image = Image.fromarray(values * 255)
    size = (image.width // factor, image.height // factor)
    return np.asarray(image.resize(size, Image.Resampling.BICUBIC))


def save(folder: Path, image: object, ending: str = "png") -> Path:
    path = folder / f"m.{ending}"
    made = image if isinstance(image, Image.Image) else Image.fromarray(np.asarray(image))
    made.save(path, **({"transparency": 0} if "transparency" in made.info else {}))
    return path


DECIDED: dict[str, Callable[[], tuple[object, str]]] = {
    "0 and 1": lambda: (BOX, "png"),
    "0 and 255": lambda: (BOX * 255, "png"),
    "0 and 254, as MVTec LOCO numbers its defects": lambda: (BOX * 254, "png"),
    "one bit": lambda: (BOX.astype(bool), "png"),
    "one bit tiff": lambda: (BOX.astype(bool), "tif"),
    "bmp": lambda: (BOX * 255, "bmp"),
    "gif": lambda: (BOX * 255, "gif"),
    "16 bits, 0 and 1": lambda: (BOX.astype(np.uint16), "png"),
    "16 bits, 0 and 255": lambda: (BOX.astype(np.uint16) * 255, "png"),
    "16 bits, 0 and 65535": lambda: (BOX.astype(np.uint16) * 65535, "tif"),
    "32 bits, 0 and 255": lambda: (BOX.astype(np.int32) * 255, "tif"),
    "floats, 0 and 1": lambda: (BOX.astype(np.float32), "tif"),
    "floats, 0 and 255": lambda: (BOX.astype(np.float32) * 255, "tif"),
    "grey in three channels": lambda: (np.dstack([BOX * 255] * 3), "png"),
    "red on black": lambda: (RED, "png"),
    "yellow on black": lambda: (np.dstack([BOX * 255, BOX * 240, BLACK]), "png"),
    "white, drawn in alpha": lambda: (np.dstack([WHITE] * 3 + [BOX * 255]), "png"),
    "black, drawn in alpha": lambda: (np.dstack([BLACK] * 3 + [BOX * 255]), "png"),
    "white LA, drawn in alpha": lambda: (np.dstack([WHITE, BOX * 255]), "png"),
    "opaque RGBA": lambda: (np.dstack([BOX * 255] * 3 + [WHITE]), "png"),
    "red on transparent": lambda: (np.dstack([RED, BOX * 255]), "png"),
    "palette black and blue": lambda: (palette(BOX, [(0, 0, 0), (0, 0, 255)]), "png"),
    "palette white at index 7": lambda: (
        palette(BOX * 7, [(0, 0, 0)] * 7 + [(255, 255, 255)]),
        "png",
    ),
    "palette index 0 transparent": lambda: (
        palette(BOX, [(255, 255, 255), (255, 255, 255)], transparency=0),
        "png",
    ),
    "lossy": lambda: (BOX * 255, "jpg"),
}


@pytest.mark.parametrize("kind", DECIDED)
def test_the_marked_box_is_what_counts(kind: str, tmp_path: Path) -> None:
    image, ending = DECIDED[kind]()
    found = read_mask(save(tmp_path, image, ending))
    if ending == "jpg":  # compression moves the odd pixel at the border
        assert (found != (BOX > 0)).sum() <= 4
    else:
        assert np.array_equal(found, BOX > 0)


LEVELS = np.repeat(np.arange(6, dtype=np.uint8)[:, None] * 10, 8, axis=0).repeat(64, axis=1)
TRIMAP = np.where(np.pad(BOX[4:-4, 4:-4], 4) > 0, 255, 0).astype(np.uint8)
TRIMAP[8:10, 8:32] = 127

UNDECIDED: dict[str, Callable[[], tuple[object, str]]] = {
    "class numbers 0, 1, 2": lambda: (BOX * 2 + (LEVELS > 40), "png"),
    "class number 3 alone": lambda: (BOX * 3, "png"),
    "class numbers spread over the range": lambda: (LEVELS // 10 * 51, "png"),
    "an ignored border of 255 beside 0 and 1": lambda: (BOX + (LEVELS > 40) * np.uint8(254), "png"),
    "an ignored border of 127 beside 0 and 255": lambda: (TRIMAP, "png"),
    "127 alone": lambda: (BOX * 127, "png"),
    "128 alone": lambda: (BOX * 128, "png"),
    "four classes spread over the range": lambda: (
        np.choose(LEVELS // 10 % 4, [0, 85, 170, 255]).astype(np.uint8),
        "png",
    ),
    "palette of classes": lambda: (
        palette(BOX * 2, [(0, 0, 0), (128, 0, 0), (0, 128, 0)]),
        "png",
    ),
    "palette with white first": lambda: (palette(BOX, [(255, 255, 255), (0, 0, 0)]), "png"),
    "two colours": lambda: (RED + np.dstack([BLACK, (LEVELS > 40) * np.uint8(255), BLACK]), "png"),
    "red on white": lambda: (255 - np.dstack([BLACK, BOX * 255, BOX * 255]), "png"),
    "dark colour of a class": lambda: (np.dstack([BOX * 128, BLACK, BLACK]), "png"),
    "colours and alpha that disagree": lambda: (
        np.dstack([RED, np.roll(BOX, 5, axis=0) * 255]),
        "png",
    ),
    "half transparent": lambda: (np.dstack([WHITE] * 3 + [BOX * 100]), "png"),
    "floats up to .4": lambda: ((BOX * 0.4).astype(np.float32), "tif"),
    "a NaN": lambda: (np.where(BOX > 0, np.nan, 0).astype(np.float32), "tif"),
    "an infinite float": lambda: (np.where(BOX > 0, np.inf, 0).astype(np.float32), "tif"),
    "signed 0 and -1": lambda: (-BOX.astype(np.int32), "tif"),
    "signed -1 and 1": lambda: (BOX.astype(np.int32) * 2 - 1, "tif"),
    "32 bits beyond 16": lambda: (BOX.astype(np.int32) * 100_000, "tif"),
    "12 bits": lambda: (BOX.astype(np.uint16) * 4095, "png"),
    "class numbers with 16 bits": lambda: (LEVELS.astype(np.uint16) * 100, "png"),
    "class numbers saved as jpeg": lambda: (LEVELS, "jpg"),
    "a ramp over the whole range": lambda: (
        np.tile(np.linspace(0, 255, 64).astype(np.uint8), (48, 1)),
        "png",
    ),
    "a photograph": lambda: (SCENE, "png"),
    "a photograph saved as jpeg": lambda: (SCENE, "jpg"),
    "noise": lambda: (np.random.default_rng(0).integers(0, 256, (48, 64)).astype(np.uint8), "png"),
    "a map of scores": lambda: (SCENE.astype(np.float32) / 255, "tif"),
    "a faint patch beside a full one": lambda: (
        np.asarray(Image.fromarray(soft(np.kron(BOX, np.ones((3, 3), np.uint8)))))
        + np.pad(soft(np.kron(BOX, np.ones((3, 3), np.uint8))) // 3, ((25, 0), (0, 0)))[:-25],
        "png",
    ),
}


@pytest.mark.parametrize("kind", UNDECIDED)
def test_what_the_values_do_not_say_is_refused_with_the_option_to_write(
    kind: str, tmp_path: Path
) -> None:
    image, ending = UNDECIDED[kind]()
    path = save(tmp_path, image, ending)
    with pytest.raises(UndecidedMaskError, match=rf"m\.{ending} holds .*(mask_values=|#ff0000)"):
        read_mask(path)


@pytest.mark.parametrize("kind", ["antialiased", "gaussian", "jpeg", "16 bits", "float", "tiny"])
def test_soft_edges_split_at_half_of_the_range(kind: str, tmp_path: Path) -> None:
    large = np.zeros((240, 320), dtype=np.uint8)
    y, x = np.mgrid[:240, :320]
    large[(y - 100) ** 2 + (x - 150) ** 2 < 70**2] = 1
    values: Any = soft(large)
    if kind == "gaussian":
        from scipy.ndimage import gaussian_filter

        values = np.rint(gaussian_filter(large * 255.0, 4)).astype(np.uint8)
    if kind == "16 bits":
        values = values.astype(np.uint16) * 257
    if kind == "float":
        values = (values / 255).astype(np.float32)
    if kind == "tiny":
        values = soft(large, 20)
    ending = {"jpeg": "jpg", "float": "tif"}.get(kind, "png")
    path = save(tmp_path, values, ending)
    found = np.asarray(Image.open(path)).astype(float)
    half = {"16 bits": 32767.5, "float": 0.5}.get(kind, 127.5)
    assert np.array_equal(read_mask(path), found >= half)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    classes=st.lists(st.integers(0, 255), min_size=1, max_size=6, unique=True),
    bits=st.sampled_from([np.uint8, np.uint16, np.int32]),
)
def test_areas_of_any_values_are_read_exactly_or_refused(
    tmp_path: Path, classes: list[int], bits: type
) -> None:
    values = np.choose(LEVELS // 10 % len(classes), sorted(classes)).astype(bits)
    path = save(tmp_path, values, "tif")
    marked = {1, max(classes)} if set(classes) <= {0, 1} else {max(classes)}
    try:
        found = read_mask(path)
    except UndecidedMaskError as error:
        assert set(classes) - {0, 1} and (
            len(classes) > 2 or max(classes) < 192 or 0 not in classes
        )
        assert all(str(value) in str(error) for value in classes)
    else:
        assert set(classes) <= {0, max(classes)} or set(classes) <= {0, 1}
        assert np.array_equal(found, np.isin(values, list(marked - {0})))


@pytest.mark.parametrize(
    ("mask_values", "anomalous", "ignored"),
    [
        ({0: "normal", 1: "anomalous", 2: "anomalous", 255: "ignore"}, {1, 2}, {255}),
        ({0: "normal", 1: "normal", 2: "anomalous", 255: "normal"}, {2}, set()),
        ({0: "anomalous", 1: "normal", 2: "normal", 255: "ignore"}, {0}, {255}),
        ({"0": "normal", "1": "anomalous", "2": "normal", "255": "normal"}, {1}, set()),
        (2, {2, 255}, set()),
        (1.5, {2, 255}, set()),
    ],
)
def test_values_mean_what_the_user_says(
    tmp_path: Path, mask_values: Any, anomalous: set[int], ignored: set[int]
) -> None:
    values = np.array([[0, 1], [2, 255]], dtype=np.uint8)
    path = save(tmp_path, values)
    file = ImageFile(save(tmp_path, values, "bmp"), "a", "g", 1, path)
    sample = ImageFileDataset([file], mask_values=mask_values)[0]
    assert sample.mask is not None
    assert np.array_equal(sample.mask.numpy(), np.isin(values, list(anomalous)))
    if ignored:
        assert sample.ignored is not None
        assert np.array_equal(sample.ignored.numpy(), np.isin(values, list(ignored)))
    else:
        assert sample.ignored is None


def test_colours_and_palette_indices_mean_what_the_user_says(tmp_path: Path) -> None:
    red = save(tmp_path, RED)
    told: Any = {"#000000": "anomalous", "#FF0000": "normal"}
    from captum_vae.data.mask_values import checked_mask_values

    assert np.array_equal(read_mask(red, checked_mask_values(told)), BOX == 0)
    classes = save(tmp_path, palette(BOX * 2, [(0, 0, 0), (9, 9, 9), (0, 128, 0)]))
    assert np.array_equal(read_mask(classes, {0: "normal", 2: "anomalous"}), BOX > 0)


def test_a_value_that_the_user_left_out_is_named(tmp_path: Path) -> None:
    path = save(tmp_path, np.array([[0, 1, 7]], dtype=np.uint8))
    with pytest.raises(UndecidedMaskError, match="only the value 7, not among those"):
        read_mask(path, {0: "normal", 1: "anomalous"})


@pytest.mark.parametrize(("threshold", "marks"), [(0, "every"), (-1, "every"), (256, "no")])
def test_a_threshold_that_separates_nothing_is_refused(
    tmp_path: Path, threshold: float, marks: str
) -> None:
    path = save(tmp_path, BOX * 255)
    with pytest.raises(UndecidedMaskError, match=f"mask_values={threshold} marks {marks} one"):
        read_mask(path, threshold)


def test_the_threshold_advised_separates_the_values(tmp_path: Path) -> None:
    for values in (BOX + 1, BOX + 254, BOX * 7 + 90):
        path = save(tmp_path, values)
        with pytest.raises(UndecidedMaskError) as refusal:
            read_mask(path)
        advised = float(str(refusal.value).rsplit("mask_values=", 1)[1])
        assert np.array_equal(read_mask(path, advised), BOX > 0)


def test_a_mask_of_several_frames_is_refused(tmp_path: Path) -> None:
    first, second = (Image.fromarray(BOX * value) for value in (255, 0))
    first.save(tmp_path / "m.tif", save_all=True, append_images=[second])
    with pytest.raises(UndecidedMaskError, match="2 frames"):
        read_mask(tmp_path / "m.tif")


def test_masks_turn_with_their_exif_orientation(tmp_path: Path) -> None:
    image = Image.fromarray(BOX * 255)
    exif = image.getexif()
    exif[274] = 3
    image.save(tmp_path / "m.png", exif=exif)
    assert np.array_equal(read_mask(tmp_path / "m.png"), (BOX > 0)[::-1, ::-1])


def test_a_damaged_mask_names_its_file(tmp_path: Path) -> None:
    path = save(tmp_path, BOX)
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(UnreadableImageError, match="m.png"):
        read_states(path)


def test_the_rule_is_said_with_the_data_set(tmp_path: Path) -> None:
    image, mask = save(tmp_path, BOX * 255, "bmp"), save(tmp_path, BOX * 255)
    data = ImageFileDataset([ImageFile(image, "a", "g", 1, mask)])
    assert "values 0 and 1: 1" in data.describe()["masks"]
    told = ImageFileDataset(
        [ImageFile(image, "a", "g", 1, mask)], mask_values={0: "normal", 255: "anomalous"}
    )
    assert told.describe()["masks"] == "values of mask pixels: 0 normal, 255 anomalous"
    assert described(128.0) == "a mask pixel is anomalous from the value 128"
