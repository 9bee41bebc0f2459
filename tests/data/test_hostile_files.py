"""Damaged files and files made to harm: one clear error, at once and in little memory."""

import gzip
import io
import resource
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from captum_vae.data import MNIST, DSprites, ImageFolder, UnreadableImageError, read_images
from captum_vae.data.dsprites_factors import factor_values, sample_classes
from captum_vae.data.idx import read_idx

JUNK = {
    "empty": b"",
    "a page": b"<html>404 not found</html>",
    "zeros": bytes(1000),
    "text": b"hello" * 100,
    "a zip with nothing in it": b"PK\x05\x06" + bytes(18),
    "the start of a zip": b"PK\x03\x04" + bytes(30),
    "the start of a gzip": b"\x1f\x8b\x08\x00" + bytes(6),
    "the start of an array": b"\x93NUMPY\x01\x00",
    "the start of a PNG": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
    "the start of a JPEG": b"\xff\xd8\xff\xe0\0\x10JFIF",
    "a pickle": b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94.",
    "random": np.random.default_rng(0).bytes(500),
}


@contextmanager
def in_little_memory(most: int = 64 * 2**20) -> Iterator[None]:
    """Fail if the block allocates more than ``most`` bytes at once, or takes 5 CPU seconds."""
    tracemalloc.start()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < most
        assert resource.getrusage(resource.RUSAGE_SELF).ru_utime - before < 5
    finally:
        tracemalloc.stop()


READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "a .npy": ("a.npy", read_images),
    "a .npz": ("a.npz", read_images),
    "a .pt": ("a.pt", read_images),
    "an image": ("a.png", lambda path: read_images(path)[0]),
    "a folder's image": ("d/a.jpg", lambda path: ImageFolder(path.parent)[0]),
    "dSprites": ("a.npz", DSprites.from_npz),
    "IDX": ("train-images-idx3-ubyte", lambda path: MNIST(path.parent)),
    "IDX in gzip": ("train-images-idx3-ubyte.gz", lambda path: MNIST(path.parent)),
}


@pytest.mark.parametrize("junk", JUNK)
@pytest.mark.parametrize("reader", READERS)
def test_junk_is_one_error_that_names_the_file(tmp_path: Path, reader: str, junk: str) -> None:
    name, read = READERS[reader]
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(JUNK[junk])
    with in_little_memory(), pytest.raises(ValueError, match=path.name):
        read(path)


def idx(shape: tuple[int, ...], content: bytes) -> bytes:
    return struct.pack(f">I{len(shape)}I", 0x800 + len(shape), *shape) + content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (idx((60_000, 28, 28), b""), "announces"),
        (idx((2**32 - 1,) * 3, bytes(100)), "announces"),
        (idx((2, 2, 2), bytes(7)), r"\(2, 2, 2\)"),
        (idx((2, 2, 2), bytes(9)), "more bytes follow"),
        (idx((8,), bytes(8)), "holds 1 dimensions"),
        (idx((2, 2, 2, 1), bytes(8)), "holds 4 dimensions"),
        (idx((0,) * 255, b""), "holds 255 dimensions"),
        (b"\0\0\x0d\x03" + bytes(12), "starts"),
        (idx((1, 1, 1), bytes(100 * 2**20)), "more bytes follow"),
        (idx((1, 1, 100 * 2**20 + 1), bytes(10 * 2**20)), "truncated"),
    ],
)
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_an_idx_file_is_read_no_further_than_its_header_announces(
    tmp_path: Path, content: bytes, message: str, ending: str
) -> None:
    path = tmp_path / f"images{ending}"
    path.write_bytes(gzip.compress(content, 1) if ending else content)
    with (
        in_little_memory(),
        pytest.raises(ValueError, match=rf"images.* cannot be read: .*{message}"),
    ):
        read_idx(path, 3)


def test_a_gzip_whose_checksum_fails_is_refused(tmp_path: Path) -> None:
    content = bytearray(gzip.compress(idx((2, 2, 2), bytes(range(8)))))
    content[-6] ^= 1
    (tmp_path / "images.gz").write_bytes(content)
    with pytest.raises(ValueError, match="images.gz cannot be read"):
        read_idx(tmp_path / "images.gz", 3)


def npy(header: str, content: bytes = b"") -> bytes:
    text = header.encode().ljust(118) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + content


LYING = {
    "a shape beyond the file": "{'descr': '|u1', 'fortran_order': False, 'shape': (10**12,)}",
    "a huge shape": "{'descr': '<f8', 'fortran_order': False, 'shape': (1000000, 64, 64)}",
    "a shape beyond any machine": (
        "{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999, 9999999999)}"
    ),
    "a negative shape": "{'descr': '|u1', 'fortran_order': False, 'shape': (-1, 4)}",
    "objects": "{'descr': '|O', 'fortran_order': False, 'shape': (1,)}",
    "an unknown type": "{'descr': '|zz', 'fortran_order': False, 'shape': (1,)}",
    "a wide type": "{'descr': '|V2000000000', 'fortran_order': False, 'shape': (1,)}",
    "no header": "nothing",
    "a call": "__import__('os').system('true')",
    "deep brackets": "(" * 100,
}


@pytest.mark.parametrize("lie", LYING)
@pytest.mark.parametrize("ending", ["npy", "npz"])
def test_a_lying_header_takes_no_memory(tmp_path: Path, lie: str, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    content = npy(LYING[lie], bytes(100))
    if ending == "npz":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("images.npy", content)
    else:
        path.write_bytes(content)
    with in_little_memory(), pytest.raises(ValueError, match=f"a.{ending} cannot be read"):
        read_images(path)


def test_a_zip_that_unpacks_beyond_what_it_says_is_refused(tmp_path: Path) -> None:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        header = "{'descr': '|u1', 'fortran_order': False, 'shape': (4, 4)}"
        archive.writestr("images.npy", npy(header, bytes(100 * 2**20)))
    (tmp_path / "a.npz").write_bytes(made.getvalue())
    del made
    with in_little_memory(), pytest.raises(ValueError, match="longer than its header announces"):
        read_images(tmp_path / "a.npz")


@pytest.mark.parametrize("side", [20_000, 60_000])
def test_an_image_that_would_decode_to_gigabytes_is_refused(tmp_path: Path, side: int) -> None:
    Image.new("1", (8, 8)).save(tmp_path / "a.png")
    content = bytearray((tmp_path / "a.png").read_bytes())
    content[16:24] = struct.pack(">II", side, side)
    content[29:33] = struct.pack(">I", zlib.crc32(bytes(content[12:29])))
    (tmp_path / "a.png").write_bytes(content)
    with in_little_memory(), pytest.raises(UnreadableImageError, match="a.png"):
        read_images(tmp_path)[0]


@pytest.mark.parametrize(
    "saved",
    [
        [torch.zeros(2, 2)],
        (torch.zeros(2, 1, 4, 4), torch.zeros(2)),
        torch.utils.data.TensorDataset(torch.zeros(1, 4, 4)),
        {"a": torch.zeros(1, 4, 4), "b": torch.zeros(1, 4, 4)},
        {},
        {"images": 3},
        7,
        "text",
        None,
        torch.zeros(1, 4, 4, dtype=torch.complex64),
        torch.empty(2, 4, 4, device="meta"),
        torch.full((2, 4, 4), float("nan")),
        torch.full((2, 4, 4), 2.0),
        torch.zeros(4),
        torch.zeros(0, 4, 4),
        torch.zeros(1, 2, 3, 4, 5),
    ],
    ids=lambda value: type(value).__name__,
)
def test_tensors_that_are_no_images_are_refused_by_file(tmp_path: Path, saved: Any) -> None:
    torch.save(saved, tmp_path / "a.pt")
    with pytest.raises(ValueError, match="a.pt"):
        read_images(tmp_path / "a.pt")


@pytest.fixture(scope="module")
def sprites(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sprites") / "part.npz"
    classes = sample_classes(40, generator=torch.Generator().manual_seed(1))
    images = DSprites()[0].image.new_zeros((40, 64, 64), dtype=torch.uint8)
    images[:, 20:40, 20:40] = 1
    np.savez_compressed(path, imgs=images.numpy(), latents_values=factor_values(classes).numpy())
    return path


@pytest.mark.parametrize("flips", [30, pytest.param(300, marks=pytest.mark.slow)])
def test_a_flipped_bit_is_noticed_or_changes_nothing(
    sprites: Path, tmp_path: Path, flips: int
) -> None:
    content, right = sprites.read_bytes(), DSprites.from_npz(sprites)
    random = np.random.default_rng(2)
    for _ in range(flips):
        damaged = bytearray(content)
        damaged[random.integers(len(content))] ^= 1 << random.integers(8)
        path = tmp_path / "damaged.npz"
        path.write_bytes(damaged)
        try:
            found = DSprites.from_npz(path)
        except ValueError as error:
            assert "damaged.npz" in str(error) and "\n" not in str(error)
        else:
            assert found.digest == right.digest


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"imgs": np.full((2, 64, 64), 7)}, "other values than 0 and 1"),
        ({"imgs": np.full((2, 64, 64), 0.5)}, "other values than 0 and 1"),
        ({"imgs": np.full((2, 64, 64), -1)}, "other values than 0 and 1"),
        ({"imgs": np.full((2, 64, 64), np.nan)}, "other values than 0 and 1"),
        ({"imgs": np.full((2, 64, 64), 2j)}, "complex128"),
        ({"imgs": np.full((2, 64, 64), "a")}, "not numbers"),
        ({"imgs": np.zeros((2, 32, 32))}, r"not \(2, 64, 64\)"),
        ({"imgs": np.zeros((3, 64, 64))}, r"not \(2, 64, 64\)"),
        ({"latents_values": np.zeros((2, 4))}, r"wanted \(N, 5\)"),
        ({"latents_values": np.zeros(2)}, r"wanted \(N, 5\)"),
        ({"latents_values": np.full((2, 5), np.nan)}, "shape has the value nan"),
        ({"latents_values": np.full((2, 5), 9)}, "shape has the value 9"),
        ({"latents_values": np.full((2, 5), "a")}, "not numbers"),
        ({"latents_values": None}, "lacks latents_values"),
        ({"imgs": None}, "lacks imgs"),
    ],
)
def test_a_dsprites_file_of_other_content_says_what_is_wrong(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    arrays = {"imgs": np.zeros((2, 64, 64)), "latents_values": np.tile([1, 0.5, 0, 0, 0], (2, 1))}
    arrays |= change
    named = {name: array for name, array in arrays.items() if array is not None}
    np.savez(tmp_path / "x.npz", **named)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=f"x.npz cannot be read: .*{message}"):
        DSprites.from_npz(tmp_path / "x.npz")


@pytest.mark.parametrize("kind", [np.uint8, np.bool_, np.int64, np.float32, np.float64])
@pytest.mark.parametrize("white", [1, 255])
def test_stored_sprites_become_zeros_and_ones(tmp_path: Path, kind: type, white: int) -> None:
    images = np.zeros((2, 64, 64), kind)
    images[:, 20:40] = white
    np.savez(tmp_path / "x.npz", imgs=images, latents_values=np.tile([1, 0.5, 0, 0, 0], (2, 1)))
    image = DSprites.from_npz(tmp_path / "x.npz")[1].image
    assert image.unique().tolist() == [0, 1] and image.sum() == 20 * 64
