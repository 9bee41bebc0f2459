"""Which mask belongs to which image."""

from pathlib import Path

import pytest

from captum_vae.data.pairing import (
    match_masks,
    match_numbers,
    refuse_masks_among_images,
    warn_of_same_names,
)


def named(*names: str) -> list[tuple[str, Path]]:
    return [(name.rpartition(".")[0], Path(name)) for name in names]


@pytest.mark.parametrize(
    ("images", "masks", "expected"),
    [
        (["7.jpg"], ["7.png"], {"7.jpg": ["7.png"]}),
        (["7.jpg"], ["7_mask.png"], {"7.jpg": ["7_mask.png"]}),
        (["7.jpg"], ["7_gt.png"], {"7.jpg": ["7_gt.png"]}),
        (["7.jpg"], ["7_label.bmp"], {"7.jpg": ["7_label.bmp"]}),
        (["a/7.jpg", "b/7.jpg"], ["b/7.png"], {"b/7.jpg": ["b/7.png"]}),
        (["7.jpg"], ["7/000.png"], {"7.jpg": ["7/000.png"]}),
        (["7.jpg"], ["7/000.png", "7/001.png"], {"7.jpg": ["7/000.png", "7/001.png"]}),
        (["x_mask.jpg"], ["x_mask.png"], {"x_mask.jpg": ["x_mask.png"]}),
        (["x.jpg", "y.jpg"], ["y/1.png", "x.png"], {"x.jpg": ["x.png"], "y.jpg": ["y/1.png"]}),
        (["x.jpg"], [], {}),
    ],
)
def test_masks_are_matched_by_name(
    images: list[str], masks: list[str], expected: dict[str, list[str]]
) -> None:
    found = match_masks(named(*images), named(*masks))
    assert found == {Path(k): tuple(map(Path, v)) for k, v in expected.items()}


@pytest.mark.parametrize(
    ("images", "masks", "message"),
    [
        (["7.jpg"], ["8.png"], "8.png matches no image"),
        (["7.jpg"], ["8/000.png"], "8/000.png matches no image"),
        (["7.jpg", "7.png"], ["7.bmp"], "7.bmp matches 7.jpg and 7.png"),
        (["7.jpg"], ["7.png", "7_mask.png"], "7.png and 7_mask.png are both masks of 7.jpg"),
        (["7.jpg"], ["7.png", "7/000.png"], "7.png and 7/000.png are both masks of 7.jpg"),
        (["7.jpg"], ["7/000.png", "7.png"], "7/000.png and 7.png are both masks of 7.jpg"),
        (["a/7.jpg"], ["7.png"], "7.png matches no image"),
        (["7.jpg"], ["07.png"], "07.png matches no image"),
        (["7.jpg"], ["7-mask.png"], "7-mask.png matches no image"),
        (["7.jpg"], ["7.PNG", "7.png"], "both masks of 7.jpg"),
    ],
)
def test_masks_of_no_or_of_several_images_are_refused(
    images: list[str], masks: list[str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        match_masks(named(*images), named(*masks))


@pytest.mark.parametrize("ending", ["_mask", "_gt", "_label"])
def test_masks_among_the_images_are_refused(ending: str) -> None:
    with pytest.raises(ValueError, match=f"7{ending}.png looks like the mask of 7.png"):
        refuse_masks_among_images(named("7.png", f"7{ending}.png"))


def test_two_frames_of_one_number_are_refused() -> None:
    with pytest.raises(ValueError, match=r"1\.tif and frame1\.tif both have the number 1"):
        match_numbers([(1, Path("1.tif")), (1, Path("frame1.tif"))], [])


def test_images_of_one_name_with_two_endings_are_warned_of() -> None:
    with pytest.warns(
        UserWarning, match=r"1 images are called like another .*a\.png beside a\.jpg"
    ):
        warn_of_same_names(named("a.jpg", "a.png", "b.png", "c/a.png"))
