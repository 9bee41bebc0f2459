"""Wrong values of arguments: each is refused by an error that names the argument or the file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from captum_vae.data import (
    MNIST,
    UCSD,
    Augmented,
    Digits,
    DSprites,
    ImageFile,
    ImageFileDataset,
    ImageFolder,
    MovingPedestrians,
    MVTec,
    OneClassDigits,
    StrokeDefects,
    SyntheticDefects,
    collate_samples,
    mvtec_categories,
    paint_defect,
    perlin_noise,
    read_frame_flags,
    read_images,
    render,
    render_classes,
    resize_mask,
    rotate_image,
    rotate_mask,
    sample_classes,
)
from captum_vae.data.dsprites_factors import classes_of_index, classes_of_values, factor_values

ONES = OneClassDigits(digits=[1])
IMAGE = np.zeros((1, 16, 16), np.float32)
RANDOM = np.random.default_rng(0)
MASK = torch.zeros(8, 8, dtype=torch.bool)
VALUES = torch.tensor([[1, 0.5, 0, 0, 0]])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for place in ("train/good", "test/good", "plain"):
        (tmp_path / place).mkdir(parents=True)
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / place / "a.png")
    return tmp_path


def images(**options: Any) -> Callable[[Path], object]:
    return lambda folder: ImageFolder(folder / "plain", **options)


def augmented(**options: Any) -> Callable[[Path], object]:
    return lambda folder: Augmented(**({"dataset": ONES} | options))


def defects(**options: Any) -> Callable[[Path], object]:
    return lambda folder: SyntheticDefects(**({"dataset": ONES} | options))


def strokes(**options: Any) -> Callable[[Path], object]:
    return lambda folder: StrokeDefects(**({"dataset": ONES} | options))


def painted(**options: Any) -> Callable[[Path], object]:
    return lambda folder: paint_defect(
        **({"image": IMAGE, "kind": "blob", "random": RANDOM} | options)
    )


def noise(**options: Any) -> Callable[[Path], object]:
    return lambda folder: perlin_noise(
        **({"height": 4, "width": 4, "cells": (2, 2), "random": RANDOM} | options)
    )


def walkers(**options: Any) -> Callable[[Path], object]:
    return lambda folder: MovingPedestrians(**options)


def digits(**options: Any) -> Callable[[Path], object]:
    return lambda folder: OneClassDigits(**options)


def call(function: Callable[..., object], *arguments: Any, **options: Any) -> Any:
    return lambda folder: function(*arguments, **options)


BAD: list[tuple[str, Callable[[Path], object]]] = [
    *[("image_size", images(image_size=size)) for size in (0, -1, 1.5, "8", (8,), (8, 0), True)],
    *[("image_size", images(image_size=size)) for size in ({}, 2**40, (8, 8, 8), [None, 8], 8j)],
    *[("image_channels", images(image_channels=c)) for c in (0, 2, "grey", 1.5, None, [1], {})],
    *[("mask_size", images(mask_size=size)) for size in (0, "x", (8, -1), float("nan"))],
    *[("mask_values", images(mask_values=v)) for v in ("255", {}, [0, 255], {0: "good"}, True)],
    *[("mask_values", images(mask_values=v)) for v in ({0.5: "normal"}, {None: "normal"}, {1: 1})],
    *[("mask_values", images(mask_values=v)) for v in ({"#ff": "normal"}, float("nan"), 1j)],
    *[("pixel_range", images(pixel_range=r)) for r in (255, "ab", (1,), (0, 0), (5, 1), (0, "a"))],
    *[("pixel_range", images(pixel_range=r)) for r in ((0, float("inf")), (0, None), {}, (0, 1j))],
    *[("on_error", images(on_error=value)) for value in ("ignore", None, True, ["skip"])],
    *[("cache", images(cache=value)) for value in ("disk", None, False, ["memory"])],
    *[("cache_dir", images(cache_dir="x")), ("sizes", images(sizes=3))],
    *[("normal", call(ImageFolder, value)) for value in (3, b"x", ["x"], True, 1.5, "a\0b")],
    *[("normal", call(ImageFolder, value)) for value in (None, "nowhere", "x" * 5000, {})],
    ("abnormal", lambda folder: ImageFolder(None, 3)),  # type: ignore[arg-type]
    ("masks", lambda folder: ImageFolder(folder / "plain", folder / "test", 3)),  # type: ignore[arg-type]
    ("masks", lambda folder: ImageFolder(folder / "plain", masks=folder)),
    *[("root", call(MVTec, value)) for value in (3, None, b"x", "nowhere")],
    *[("root", call(UCSD, value)) for value in (3, None, ["x"], "nowhere")],
    *[("root", call(MNIST, value)) for value in (3, None, 1.5, "nowhere")],
    *[("root", call(mvtec_categories, value)) for value in (3, None, "nowhere")],
    ("category", lambda folder: MVTec(folder, 3)),  # type: ignore[arg-type]
    ("nut", lambda folder: MVTec(folder, "nut")),
    *[
        ("split", lambda folder, value=value: MVTec(folder, split=value))  # type: ignore[misc]
        for value in ("val", None, 1, ["train"], np.array(["train", "test"]))
    ],
    *[
        ("subset", lambda folder, value=value: UCSD(folder, value))  # type: ignore[misc]
        for value in ("ped3", None, 2)
    ],
    *[("split", digits(split=value)) for value in ("val", None, 3)],
    *[("digits", digits(digits=value)) for value in ([], [10], [-1], "17", 7, [1.5], [None])],
    *[("normal_digits", digits(normal_digits=value)) for value in ([], [12], "1", 3, ["a"])],
    *[("image_channels", digits(image_channels=value)) for value in (2, "3", None, 1.0)],
    *[("image_size", digits(image_size=value)) for value in (0, "28", (28, 28, 28))],
    ("images", call(Digits, [[1]], np.zeros(1, int), "x")),
    ("images", call(Digits, np.zeros((1, 8, 8)), np.zeros(1, int), "x")),
    ("classes", call(Digits, np.zeros((1, 8, 8), np.uint8), [1], "x")),
    ("classes", call(Digits, np.zeros((1, 8, 8), np.uint8), np.array([200]), "x")),
    ("classes", call(Digits, np.zeros((2, 8, 8), np.uint8), np.array([1]), "x")),
    *[("dataset", augmented(dataset=value)) for value in (None, 3, "x", [], {}, iter([]))],
    *[("length", augmented(length=value)) for value in (0, -1, 1.5, "3", True, float("nan"))],
    *[("rotation", augmented(rotation=value)) for value in (-1, 181, "30", None, float("nan"), 1j)],
    *[("mirror", augmented(mirror=value)) for value in (-0.1, 1.1, "x", None, float("inf"))],
    *[("padding", augmented(padding=value)) for value in ("white", None, 0, ["black"])],
    *[("seed", augmented(seed=value)) for value in (-1, 1.5, "x", None)],
    *[("epoch", call(Augmented(ONES).set_epoch, value)) for value in (-1, 1.5, "x", None, 2**70)],
    *[("dataset", defects(dataset=value)) for value in (None, 3, [], {})],
    *[("kinds", defects(kinds=value)) for value in ((), "blob", ["hole"], [3], None, 5)],
    *[("defect_rate", defects(defect_rate=value)) for value in (-0.1, 1.1, "x", float("nan"))],
    *[("area", defects(area=value)) for value in (0.1, (0.1,), (0.2, 0.1), (0, 0.1), "ab", None)],
    *[("area", defects(area=value)) for value in ((0.1, 0.9), (0.1, float("nan")), (0.1, "x"))],
    *[("contrast", defects(contrast=value)) for value in (0, 0.6, "x", None, float("nan"))],
    *[("visibility", defects(visibility=value)) for value in ("odd", None, 3)],
    *[("masks", defects(masks=value)) for value in ("odd", None, 3)],
    *[("seed", defects(seed=value)) for value in (-1, 1.5, "x")],
    *[("dataset", strokes(dataset=value)) for value in (None, 3, [])],
    *[("kinds", strokes(kinds=value)) for value in ((), "pasted", ["smeared"], None)],
    *[("length", strokes(length=value)) for value in (0.2, (0.5, 0.2), (0, 0.5), (0.1, 2), None)],
    *[("contrast", strokes(contrast=value)) for value in (0, 0.6, "x")],
    *[("seed", strokes(seed=value)) for value in (-1, 0.5)],
    *[("image", painted(image=value)) for value in (None, [[1.0]], torch.zeros(1, 8, 8))],
    *[("image", painted(image=value)) for value in (IMAGE[0], IMAGE.astype(int), IMAGE[:, :0])],
    *[("kind", painted(kind=value)) for value in ("hole", None, 3)],
    *[("random", painted(random=value)) for value in (None, 3, np.random.RandomState(0))],
    *[("area", painted(area=value)) for value in ((1, 0), None)],
    *[("height", noise(height=value)) for value in (0, -1, 1.5, "4", None)],
    *[("width", noise(width=value)) for value in (0, "4")],
    *[("cells", noise(cells=value)) for value in (2, (2,), (0, 2), (1.5, 2), "ab", None)],
    *[("random", noise(random=value)) for value in (None, 0)],
    *[("clips", walkers(clips=value)) for value in (0, 1.5, "x", None)],
    *[("frames", walkers(frames=value)) for value in (0, -1, 1.5)],
    *[("pedestrians", walkers(pedestrians=value)) for value in (-1, 0.5, "x")],
    *[("noise", walkers(noise=value)) for value in (-1, "x", float("nan"), None)],
    *[("vehicles", walkers(vehicles=value)) for value in ((), "cart", ["boat"], 3)],
    *[("image_size", walkers(image_size=value)) for value in (8, (8, 100), "x", None, 40.5)],
    *[("seed", walkers(seed=value)) for value in (-1, 0.5)],
    *[("split", walkers(split=value)) for value in ("val", None)],
    *[("mask", call(resize_mask, value, 4)) for value in (None, MASK.numpy(), MASK.float())],
    *[("mask", call(resize_mask, value, 4)) for value in (MASK[0], MASK[None], MASK[:0])],
    *[("size", call(resize_mask, MASK, value)) for value in (0, "x", (1, 2, 3), 1.5)],
    *[("image", call(rotate_image, value, 5)) for value in (None, IMAGE, MASK, torch.zeros(8, 8))],
    *[("degrees", call(rotate_image, torch.zeros(1, 8, 8), value)) for value in (None, "5", 1j)],
    *[("degrees", call(rotate_image, torch.zeros(1, 8, 8), value)) for value in (torch.nan, True)],
    ("padding", call(rotate_image, torch.zeros(1, 8, 8), 5, padding="white")),
    *[("mask", call(rotate_mask, value, 5)) for value in (None, MASK.float(), MASK[0])],
    ("degrees", call(rotate_mask, MASK, "5")),
    *[("values", call(render, value)) for value in (None, [[1.0]], VALUES.long(), VALUES[0])],
    *[("values", call(render, value)) for value in (VALUES * 9, VALUES * torch.nan, VALUES[:, 1:])],
    *[("dtype", call(render, VALUES, dtype=value)) for value in ("float32", None, torch.complex64)],
    *[("classes", call(render_classes, value)) for value in (None, VALUES, [[0] * 5])],
    *[("shape", call(render_classes, torch.full((1, 5), value))) for value in (-1, 9)],
    *[("count", call(sample_classes, value)) for value in (-1, 1.5, "x", None)],
    *[("fixed", call(sample_classes, 1, fixed=value)) for value in (3, "shape", {"hue": 1})],
    *[("fixed", call(sample_classes, 1, fixed={"shape": value})) for value in (9, -1, "a", 0.5)],
    *[("generator", call(sample_classes, 1, generator=value)) for value in (0, RANDOM)],
    *[("indices", call(DSprites, value)) for value in ([1], 5, "x", torch.zeros(2), RANDOM)],
    *[("indices", call(DSprites, torch.tensor(value))) for value in ([-1], [737_280], [[1]], 5)],
    ("dtype", call(DSprites, dtype="float32")),
    *[("path", call(DSprites.from_npz, value)) for value in (None, 3, b"x")],
    ("gone.npz", call(DSprites.from_npz, "gone.npz")),
    *[("indices", call(classes_of_index, value)) for value in ([1], torch.zeros(1))],
    *[("values", call(classes_of_values, value)) for value in (None, VALUES[0], VALUES * 1j)],
    *[("classes", call(factor_values, value)) for value in (None, VALUES, torch.zeros(5).long())],
    *[("path", call(read_frame_flags, value)) for value in (None, 3, b"x")],
    *[("images", call(read_images, value)) for value in (None, 3, b"x", ["x"], "a\0b")],
    ("gone", call(read_images, "gone")),
    ("channels", lambda folder: read_images(folder, channels=0)),
    ("channels", lambda folder: read_images(folder, channels="3")),  # type: ignore[arg-type]
    ("channels", lambda folder: read_images(folder, channels=5)),
    ("image_size", lambda folder: read_images(folder, image_size=0)),
    *[("samples", call(collate_samples, value)) for value in ([], [1], [(torch.zeros(1), None)])],
    ("images", lambda folder: ImageFileDataset([])),
    ("gone.png", call(ImageFileDataset, [ImageFile(Path("gone.png"), "a", "g", 0, "empty")])),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "bad"), BAD, ids=[f"{i}-{name}" for i, (name, _) in enumerate(BAD)]
)
def test_a_bad_argument_is_refused_by_name(
    name: str, bad: Callable[[Path], object], folder: Path
) -> None:
    with pytest.raises((ValueError, TypeError, FileNotFoundError)) as caught:
        bad(folder)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)
