"""Maps over images in one line."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from captum_vae.report import show


def test_a_notebook_shows_the_picture_and_a_terminal_the_caption(tmp_path: Path) -> None:
    shown = show(torch.rand(3, 4, 7, 7), torch.rand(3, 1, 28, 28))
    assert shown.caption == "3 images, 4 maps each"
    assert "data:image/png;base64," in shown._repr_html_() and "3 images" in str(shown)
    path = shown.save(tmp_path / "maps.png")
    picture = np.asarray(Image.open(path).convert("RGB"))
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 100


def test_what_is_left_out_is_said() -> None:
    shown = show(torch.rand(20, 32, 7, 7), torch.rand(20, 3, 8, 8), max_images=2, max_maps=3)
    assert shown.caption == "2 of 20 images, 3 of 32 maps each"


@pytest.mark.parametrize(
    ("maps", "images", "caption"),
    [
        ((7, 7), (28, 28), "1 image, 1 map each"),
        ((2, 7, 7), (2, 3, 28, 28), "2 images, 1 map each"),
        ((1, 5, 7, 7), (3, 28, 28), "1 image, 5 maps each"),
    ],
)
def test_single_images_and_maps_do(maps: Any, images: Any, caption: str) -> None:
    assert show(torch.rand(maps), torch.rand(images)).caption == caption


@pytest.mark.parametrize("scale", ["common", "image", "map"])
def test_each_choice_of_scale_states_its_numbers(scale: Any) -> None:
    maps = torch.rand(2, 3, 4, 4) * torch.tensor([1.0, 10.0])[:, None, None, None]
    texts = [
        text.get_text() for text in show(maps, torch.rand(2, 1, 8, 8), scale=scale).figure.texts
    ]
    ranges = [text for text in texts if "…" in text]
    assert len(ranges) == {"common": 0, "image": 2, "map": 6}[scale]
    assert {"image 0", "image 1", "z0", "z1", "z2"} <= set(texts)


def test_names_are_shown_as_they_are() -> None:
    shown = show(
        torch.rand(1, 2, 4, 4),
        torch.rand(1, 1, 8, 8),
        names=["<b>$x$</b>"],
        titles=["z3", "z7"],
        label="KL",
    )
    texts = [text.get_text() for text in shown.figure.texts]
    assert any("<b>" in text for text in texts) and "z7" in texts


def test_an_image_beyond_0_and_1_is_stretched() -> None:
    image = torch.linspace(-2, 3, 64).reshape(1, 1, 8, 8)
    show(torch.zeros(1, 1, 8, 8), image)
    show(torch.zeros(1, 1, 8, 8), torch.full((1, 1, 8, 8), 7.0))


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"maps": torch.rand(2, 3, 4, 4)}, ValueError, r"wanted maps \(B, T, h, w\) of images"),
        ({"maps": torch.rand(4)}, ValueError, "maps has shape"),
        ({"maps": torch.rand(1, 0, 4, 4)}, ValueError, "none of them 0"),
        ({"maps": torch.full((1, 3, 4, 4), float("nan"))}, ValueError, "NaN"),
        ({"maps": [1]}, TypeError, "maps"),
        ({"images": torch.zeros(1, 1, 8, 8, dtype=torch.uint8)}, TypeError, "images"),
        ({"scale": "own"}, ValueError, "scale='own'"),
        ({"titles": ["a"]}, ValueError, "titles is .*wanted 3 of them"),
        ({"names": "ab"}, ValueError, "names is 'ab'"),
        ({"max_maps": 0}, ValueError, "max_maps"),
        ({"colormap": "nowhere"}, ValueError, "colormap"),
    ],
)
def test_bad_arguments_are_refused_by_name(
    changes: dict[str, Any], error: type[Exception], words: str
) -> None:
    arguments: dict[str, Any] = {"maps": torch.rand(1, 3, 4, 4), "images": torch.rand(1, 1, 8, 8)}
    with pytest.raises(error, match=words):
        show(**{**arguments, **changes})
