"""Images out of arrays: which axis is which, and what is black and white."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from captum_vae.data import read_images


def saved(folder: Path, array: np.ndarray) -> Path:
    np.save(folder / "a.npy", array)
    return folder / "a.npy"


@pytest.mark.parametrize(
    ("shape", "channels", "expected"),
    [
        ((8, 9), None, (1, 1, 8, 9)),
        ((5, 8, 9), None, (5, 1, 8, 9)),
        ((4, 8, 9), None, (4, 1, 8, 9)),
        ((1, 8, 9), None, (1, 1, 8, 9)),
        ((5, 1, 8, 9), None, (5, 1, 8, 9)),
        ((5, 3, 8, 9), None, (5, 3, 8, 9)),
        ((5, 8, 9, 1), None, (5, 1, 8, 9)),
        ((5, 8, 9, 3), None, (5, 3, 8, 9)),
        ((5, 6, 8, 9), 6, (5, 6, 8, 9)),
        ((5, 8, 9, 6), 6, (5, 6, 8, 9)),
        ((3, 1, 8, 9), None, (3, 1, 8, 9)),
        ((5, 3, 8, 1), 1, (5, 1, 3, 8)),
    ],
)
def test_axes_that_can_be_told_are(
    tmp_path: Path, shape: tuple[int, ...], channels: int | None, expected: tuple[int, ...]
) -> None:
    values = np.random.default_rng(0).random(shape)
    data = read_images(saved(tmp_path, values), channels=channels)
    assert (len(data), *data[0].image.shape) == expected


@pytest.mark.parametrize(
    "shape",
    [
        (3, 8, 9),
        (8, 9, 3),
        (8, 9, 4),
        (8, 9, 1),
        (5, 3, 8, 3),
        (5, 1, 8, 3),
        (5, 3, 8, 1),
        (5, 2, 8, 9),
        (5, 8, 9, 4),
        (5, 4, 8, 9),
        (9,),
        (2, 2, 2, 2, 2),
        (0, 8, 9),
    ],
)
def test_axes_that_cannot_be_told_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"a\.npy holds an array of shape .*\(N, C, h, w\)"):
        read_images(saved(tmp_path, np.zeros(shape)))


@pytest.mark.parametrize(
    ("values", "top"),
    [
        (np.full((8, 8), 255, np.uint8), 1.0),
        (np.full((8, 8), True), 1.0),
        (np.full((8, 8), 1, np.int64), 1.0),
        (np.full((8, 8), 0.5, np.float16), 0.5),
        (np.full((8, 8), 0.25, ">f8"), 0.25),
        (np.full((8, 8), 1, np.uint16), 1.0),
        (np.asfortranarray(np.full((8, 8), 0.5)), 0.5),
        (np.full((8, 8), 0, np.uint8), 0.0),
    ],
)
def test_what_is_white_is_told_by_the_type(tmp_path: Path, values: np.ndarray, top: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert float(read_images(saved(tmp_path, values))[0].image.max()) == top


def test_a_fortran_array_keeps_its_axes(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((5, 8, 9)).astype(np.float32)
    data = read_images(saved(tmp_path, np.asfortranarray(values)))
    assert torch.equal(data[2].image[0], torch.from_numpy(values[2]))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.eye(8, dtype=np.uint8), "bytes of 0 and 1 only"),
        (np.full((8, 8), 255, np.int64), "run from 255 to 255"),
        (np.full((8, 8), 255, np.uint16), "run from 255 to 255"),
        (np.full((8, 8), -1.0), "run from -1 to -1"),
        (np.full((8, 8), 1.01), "run from 1.01 to 1.01"),
        (np.full((8, 8), np.nan), "not finite"),
        (np.full((8, 8), np.inf), "not finite"),
        (np.full((8, 8), 1j), "complex128"),
        (np.full((8, 8), "a"), "<U1"),
        (np.full((8, 8), np.datetime64("2020-01-01")), "datetime64"),
        (np.zeros((8, 8), [("a", "u1")]), "wanted real numbers"),
    ],
)
def test_values_whose_white_cannot_be_told_are_refused(
    tmp_path: Path, values: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=rf"a\.npy.*{message}"):
        read_images(saved(tmp_path, values))


@pytest.mark.parametrize("top", [2, 16, 63])
def test_bytes_that_read_nearly_black_are_warned_of(tmp_path: Path, top: int) -> None:
    with pytest.warns(UserWarning, match=f"a.npy holds bytes up to {top}, which read nearly black"):
        read_images(saved(tmp_path, np.full((8, 8), top, np.uint8)))


def test_an_archive_of_several_arrays_lists_them(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((5, 5)), y=np.zeros((5, 5)))
    with pytest.raises(ValueError, match="a.npz holds x, y; wanted an array named images"):
        read_images(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", images=np.zeros((2, 5, 5)), y=np.zeros((5, 5)))
    assert len(read_images(tmp_path / "b.npz")) == 2
