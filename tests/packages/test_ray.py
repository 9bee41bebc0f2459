"""Ray Data runs a detector over a folder: the numbers of ``captum-vae predict``."""

import csv
import importlib.util
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from captum_vae import AnomalyDetector
from captum_vae.commands.main import main
from captum_vae.data import ImageSources

EXAMPLE = Path(__file__).parents[2] / "examples" / "predict_with_ray.py"
IMAGES = 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A detector, a folder of images of several sizes, one of them cut short, and predictions."""
    place = tmp_path_factory.mktemp("ray")
    torch.manual_seed(0)
    AnomalyDetector.from_backbone("test_resnet", ["layer1"], image_size=32, pretrained=False).fit(
        torch.rand(60, 3, 32, 32)
    ).save(place / "detector")
    random = np.random.default_rng(0)
    for number in range(IMAGES):
        path = place / "new" / str(number % 3) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        side = 24 + number
        pixels = random.integers(0, 256, (side, side, 3) if number % 2 else (side, side))
        Image.fromarray(pixels.astype(np.uint8)).save(path)
    damaged = place / "new" / "0" / "0.png"
    damaged.write_bytes(damaged.read_bytes()[:200])
    out = place / "predictions"
    words = ["predict", str(place / "detector"), str(place / "new"), "--out", str(out)]
    main([*words, "--masks", "false", "--report", "none"])
    return place


@pytest.fixture(scope="module")
def ray():
    """Ray with two processors of this machine, as many as the example has workers."""
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'ray[data]'")
    pytest.importorskip("pyarrow", reason="Ray Data is not installed: pip install 'ray[data]'")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield ray
    ray.shutdown()


@pytest.fixture(scope="module")
def example():
    """The example as a module."""
    spec = importlib.util.spec_from_file_location("predict_with_ray", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def rows_of(path):
    with open(path, newline="", encoding="utf-8") as table:
        return list(csv.DictReader(table))


def assert_same(rows, wanted):
    assert [row["image"] for row in rows] == [row["image"] for row in wanted]
    assert [row["verdict"] for row in rows] == [row["verdict"] for row in wanted]
    assert [row["reason"] for row in rows] == [row["reason"] for row in wanted]
    for row, other in zip(rows, wanted, strict=True):
        if row["verdict"] != "unreadable":
            for name in ("score", "p_value", "area"):
                assert float(row[name]) == pytest.approx(float(other[name]), rel=1e-5, abs=1e-9)


def test_a_worker_finds_what_predict_finds(folder, example):
    detector = folder / "detector"
    size, channels = AnomalyDetector.load(detector).wanted_images
    sources = ImageSources([folder / "new"], image_size=size, channels=channels)
    worker = pickle.loads(pickle.dumps(example.Predict(str(detector), sources)))
    rows = []
    for numbers in np.array_split(np.arange(len(sources)), 9):
        columns = worker({"id": numbers})
        assert columns["id"].tolist() == numbers.tolist()
        rows += [
            dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)
        ]
    wanted = rows_of(folder / "predictions" / "predictions.csv")
    assert len(rows) == IMAGES
    assert_same(rows, wanted)
    assert sum(row["verdict"] == "unreadable" for row in rows) == 1


def test_a_batch_of_unreadable_images_is_told(folder, example):
    sources = ImageSources([folder / "new" / "0" / "0.png"], channels=3)
    columns = example.Predict(str(folder / "detector"), sources)({"id": np.array([0])})
    assert columns["verdict"].tolist() == ["unreadable"]
    assert "cannot decode" in columns["reason"][0]
    assert np.isnan(columns["score"]).all()


@pytest.mark.slow
def test_two_workers_find_what_predict_finds(folder, ray, example):
    ray.cloudpickle.register_pickle_by_value(example)
    found = example.predict(str(folder / "detector"), [str(folder / "new")], batch_size=4)
    rows = sorted(found.take_all(), key=lambda row: row["id"])
    wanted = rows_of(folder / "predictions" / "predictions.csv")
    assert len(rows) == IMAGES
    assert_same(rows, wanted)
    assert sum(row["verdict"] == "unreadable" for row in rows) == 1
    assert len({row["process"] for row in rows}) == 2
    assert os.getpid() not in {row["process"] for row in rows}


@pytest.mark.slow
def test_a_detector_maps_batches_that_ray_has_read(folder, ray):
    detector = AnomalyDetector.load(folder / "detector")
    readable = folder / "new" / "1"
    images = ray.data.read_images(str(readable), mode="RGB", include_paths=True)
    found = images.map_batches(detector, batch_size=4, batch_format="numpy").take_all()
    wanted = {
        Path(row["image"]).name: row
        for row in rows_of(folder / "predictions" / "predictions.csv")
        if row["image"].startswith("1/")
    }
    assert {Path(row["path"]).name for row in found} == set(wanted)
    for row in found:
        other = wanted[Path(row["path"]).name]
        assert row["score"] == pytest.approx(float(other["score"]), rel=1e-5)
        assert row["map"].shape == row["mask"].shape == (32, 32)


@pytest.mark.slow
def test_the_program_writes_the_table(folder, ray, tmp_path):
    program = tmp_path / EXAMPLE.name
    shutil.copy(EXAMPLE, program)
    words = [sys.executable, program, folder / "detector", folder / "new", "--workers", "1"]
    subprocess.run([*words, "--out", "found.csv"], cwd=tmp_path, check=True, timeout=300)
    rows = rows_of(tmp_path / "found.csv")
    assert_same(rows, rows_of(folder / "predictions" / "predictions.csv"))
