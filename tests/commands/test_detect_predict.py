"""``detect`` then ``predict``: what is written, going on after a kill, and what is refused."""

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from captum_vae import AnomalyDetector
from captum_vae.commands.main import main
from tests.localization.detector.test_detector import SIDE, striped

MODEL = "tests.localization.detector.test_saving:package"
DETECT = ["detect", "--model", MODEL, "--scorer", "mean_image", "--device", "cpu"]
ENVIRONMENT = {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
PREDICT = ["predict", "detector", "new", "--out", "out", "--device", "cpu"]


def save_images(folder, images):
    folder.mkdir(parents=True)
    for number, image in enumerate(images):
        byte = (image[0] * 255).round().byte().numpy()
        Image.fromarray(byte).save(folder / f"{number:04d}.png")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with normal images, a detector of them, and new images with two spots."""
    folder = tmp_path_factory.mktemp("made")
    save_images(folder / "good" / "deep", striped(60))
    save_images(folder / "apart", striped(30, seed=7))
    save_images(folder / "new" / "a", striped(10, seed=1, spots=(3,)))
    save_images(folder / "new" / "b", striped(10, seed=2, spots=(0,)))
    here = Path.cwd()
    os.chdir(folder)
    try:
        assert main([*DETECT, "--images", "good", "--out", "detector", "--unseen", "apart"]) == 0
    finally:
        os.chdir(here)
    return folder


@pytest.fixture
def folder(made, tmp_path, monkeypatch):
    """The same, to be changed."""
    shutil.copytree(made, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def rows(path="out/predictions.csv"):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def files(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_detect_saves_a_detector_its_page_and_promised_against_seen(made):
    detector = AnomalyDetector.load(made / "detector")
    assert detector.fitted.facts["normal"]["images"] == 60
    check = json.loads((made / "detector" / "check.json").read_text())
    assert check["images"]["units"] == 30 and check["pixels"]["kept"]
    page = (made / "detector" / "index.html").read_text()
    assert "promised" in page and "on unseen normal images" in page


def test_images_given_for_calibration_calibrate(folder, capsys):
    command = [*DETECT, "--images", "good", "--calibration", "apart", "--out", "other"]
    assert main([*command, "--report", "none"]) == 0
    facts = AnomalyDetector.load("other").fitted.facts["normal"]
    assert (facts["fitted"], facts["calibrated"], facts["trained"]) == (60, 30, "")
    assert main([*DETECT, "--images", "good", "--calibration", "none", "--out", "third"]) == 2
    assert "none does not exist" in capsys.readouterr().err


def test_predictions_are_those_of_python_in_every_form(folder, capsys):
    assert main([*PREDICT, "--maps", "tiff", "--coco"]) == 0
    said = capsys.readouterr().out
    expected = AnomalyDetector.load("detector").predict("new")
    found = rows()
    assert [row["image"] for row in found] == expected.names
    assert [float(row["score"]) for row in found] == expected.scores.tolist()
    assert [float(row["p_value"]) for row in found] == expected.p_values.tolist()
    assert {row["verdict"] for row in found} == {"normal", "anomalous"}
    entries = json.loads(Path("out/predictions.json").read_text())["images"]
    assert [entry["area"] for entry in entries] == expected.areas.tolist()
    for one in expected:
        assert np.array_equal(np.asarray(Image.open(f"out/masks/{one.name}.png")) > 0, one.mask)
        assert np.array_equal(np.asarray(Image.open(f"out/maps/{one.name}.tiff")), one.map)
    assert entries[3]["boxes"][0][:4] == [
        getattr(expected[3].boxes[0], name) for name in ("x", "y", "width", "height")
    ]
    assert f"{int(expected.anomalous.sum())} called anomalous" in said
    assert "What is unusual" in Path("out/index.html").read_text()
    check_coco(json.loads(Path("out/annotations.json").read_text()), expected)


def check_coco(found, expected):
    assert [image["file_name"] for image in found["images"]] == expected.names
    drawn = {image["id"]: np.zeros((SIDE, SIDE), bool) for image in found["images"]}
    for entry in found["annotations"]:
        counts = entry["segmentation"]["counts"]
        flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
        region = flat.reshape(SIDE, SIDE).T
        assert region.sum() == entry["area"]
        drawn[entry["image_id"]] |= region
        x, y, width, height = entry["bbox"]
        assert np.flatnonzero(region.any(0))[[0, -1]].tolist() == [x, x + width - 1]
        assert np.flatnonzero(region.any(1))[[0, -1]].tolist() == [y, y + height - 1]
    for image, one in zip(found["images"], expected, strict=True):
        assert np.array_equal(drawn[image["id"]], one.mask.numpy())


def test_masks_and_boxes_are_at_the_size_of_the_image(folder):
    large = Image.open("new/a/0003.png").resize((96, 64))
    large.save("large.png")
    assert main(["predict", "detector", "large.png", "--out", "out", "--device", "cpu"]) == 0
    (row,) = rows()
    assert (row["height"], row["width"]) == ("64", "96")
    mask = np.asarray(Image.open("out/masks/large.png.png"))
    assert mask.shape == (64, 96) and mask.any()
    x, y, width, height, score = json.loads(row["boxes"])[0]
    inside = mask[y : y + height, x : x + width]
    assert inside.any() and score > AnomalyDetector.load("detector").threshold
    assert 36 <= x + width / 2 <= 54 and 20 <= y + height / 2 <= 32


def test_an_image_that_cannot_be_read_has_a_row_with_the_reason(folder, capsys):
    Path("new/a/0001.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    assert main(PREDICT) == 0
    assert "1 could not be read" in capsys.readouterr().out
    found = {row["image"]: row for row in rows()}
    assert found["a/0001.png"]["verdict"] == "unreadable"
    assert "cannot decode" in found["a/0001.png"]["reason"] and len(found) == 20
    assert main([*PREDICT, "--resume", "never", "--on_error", "raise"]) == 2
    assert "0001.png" in capsys.readouterr().err


def test_a_second_run_predicts_new_images_alone(folder):
    assert main(PREDICT) == 0
    before = rows()
    masks = {path: path.stat().st_mtime_ns for path in Path("out/masks").rglob("*.png")}
    save_images(Path("new/c"), striped(3, seed=9))
    assert main(PREDICT) == 0
    after = rows()
    assert after[:20] == before and [row["image"] for row in after[20:]] == [
        "c/0000.png",
        "c/0001.png",
        "c/0002.png",
    ]
    assert all(path.stat().st_mtime_ns == time_ for path, time_ in masks.items())


@pytest.mark.parametrize("tail", [b"", b"b/0001.png,0.1", b"b/0001.png,0.1,0.5,normal,0,[],1,1,\n"])
def test_a_run_cut_off_inside_a_batch_ends_as_if_it_was_not(folder, tail, monkeypatch):
    run = [*PREDICT, "--batch_size", "4", "--report", "none"]
    assert main(run) == 0
    whole = files(folder / "out")
    shutil.rmtree("out")
    from captum_vae.localization.detector import prediction_run

    real, calls = prediction_run._rows, []

    def stops(*arguments):
        calls.append(1)
        if len(calls) == 4:
            raise RuntimeError("killed")
        return real(*arguments)

    monkeypatch.setattr(prediction_run, "_rows", stops)
    assert main(run) == 2
    assert len(rows()) == 12
    with open("out/predictions.csv", "ab") as file:
        file.write(tail)
    monkeypatch.undo()
    os.chdir(folder)
    assert main(run) == 0
    assert files(folder / "out") == whole


def test_the_exit_status_says_whether_anything_was_found_when_asked(folder):
    with pytest.raises(SystemExit) as ended:
        main([*PREDICT, "--exit_status", "--report", "none"])
    assert ended.value.code == 1
    assert main([*PREDICT, "--report", "none"]) == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["predict", "nowhere", "new"], "nowhere/detector.json does not exist"),
        (["predict", "detector", "nowhere"], "images: nowhere does not exist"),
        (["predict", "detector"], "required: images"),
        (["predict", "detector", "new", "--maps", "jpeg"], "--maps is jpeg; wanted one of none"),
        (["predict", "detector", "new", "--batch_size", "0"], "--batch_size 0 must be at least 1"),
        (["predict", "detector", "new", "--watch", "-1"], "watch"),
        (["predict", "detector", "new", "--every", "0"], "--every 0 must be at least 1"),
        (["detect", "--images", "good", "--out", "d"], "either a backbone"),
        (["detect", "--out", "d", "--backbone", "resnet18"], "images"),
        ([*DETECT, "--images", "good", "--out", "d", "--alpha", "2"], "--alpha 2 must lie"),
        (
            [*DETECT, "--images", "good", "--out", "d", "--weights", "w"],
            "weights is for a backbone",
        ),
        ([*DETECT, "--images", "nowhere", "--out", "d"], "nowhere does not exist"),
        (["detect", "--images", "good", "--out", "d", "--backbone", "resnet1"], "resnet1"),
        (
            ["detect", "--images", "good", "--out", "d", "--model", MODEL, "--scorer", "none"],
            "not among the scorers",
        ),
    ],
)
def test_a_bad_command_line_is_one_line_with_status_2(folder, capsys, arguments, words):
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1, said


SCRIPT = """
import signal
import sys
# A shell that starts the tests in the background has them, and so this, ignore SIGINT.
signal.signal(signal.SIGINT, signal.default_int_handler)
from captum_vae.commands.main import main
sys.exit(main(sys.argv[1:]))
"""


def started(folder, arguments):
    environment = os.environ | {
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.slow
def test_ten_kills_at_random_moments_leave_no_trace_in_2000_predictions(made, tmp_path):
    """SIGKILL, again and again; afterwards every file is that of a run that was not disturbed."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    shutil.copytree(made, whole)
    shutil.rmtree(whole / "new")
    save_images(whole / "new", striped(2000, seed=4, spots=range(0, 2000, 50)))
    shutil.copytree(whole, killed)
    arguments = [*PREDICT, "--maps", "npz", "--coco", "--shown", "20"]
    run = started(whole, arguments)
    assert run.wait(600) == 0, run.stdout.read()
    table = killed / "out" / "predictions.csv"
    moments = sorted(random.Random(0).sample(range(1, 1900), 10))
    for moment in moments:
        run = started(killed, arguments)
        # Wherever the machine is then: in the middle of a mask, of a row, between the two.
        while run.poll() is None and not (
            table.is_file() and table.read_bytes().count(b"\n") >= moment
        ):
            time.sleep(0.01)
        time.sleep(random.Random(moment).random() / 20)
        assert run.poll() is None, run.stdout.read()
        run.send_signal(signal.SIGKILL)
        run.wait()
    run = started(killed, arguments)
    assert run.wait(600) == 0, run.stdout.read()
    names = [row["image"] for row in rows(table)]
    assert len(names) == len(set(names)) == 2000
    assert files(killed / "out") == files(whole / "out")


@pytest.mark.slow
def test_a_watched_folder_is_predicted_as_images_come(made, tmp_path):
    shutil.copytree(made, tmp_path / "work")
    work = tmp_path / "work"
    shutil.rmtree(work / "new")
    (work / "new").mkdir()
    run = started(work, [*PREDICT, "--watch", "0.2"])
    table = work / "out" / "predictions.csv"

    def waits_for(count):
        for _ in range(1500):
            if table.is_file() and table.read_bytes().count(b"\n") == count + 1:
                return
            assert run.poll() is None, run.stdout.read()
            time.sleep(0.1)
        raise AssertionError("nothing was predicted")

    save_images(work / "new" / "x", striped(3, seed=1))
    waits_for(3)
    save_images(work / "new" / "y", striped(2, seed=2))
    waits_for(5)
    run.send_signal(signal.SIGINT)
    assert run.wait(120) == 0, run.stdout.read()
    entries = json.loads((work / "out" / "predictions.json").read_text())["images"]
    assert len(entries) == 5


@pytest.mark.slow
def test_two_processes_share_the_images_and_write_one_table(made, tmp_path):
    pytest.importorskip("lightning")
    shutil.copytree(made, tmp_path / "work")
    work = tmp_path / "work"
    environment = os.environ | {
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "OMP_NUM_THREADS": "1",
    }
    subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"),
            *("--master-port", "29533", "-m", "captum_vae", *PREDICT, "--workers", "1"),
        ],
        cwd=work,
        env=environment,
        check=True,
        timeout=300,
    )
    expected = AnomalyDetector.load(work / "detector").predict(work / "new")
    found = rows(work / "out" / "predictions.csv")
    assert [row["image"] for row in found] == expected.names
    scores = torch.tensor([float(row["score"]) for row in found], dtype=torch.float64)
    assert torch.allclose(scores, expected.scores, rtol=1e-5)
    assert not list((work / "out").glob("predictions-*"))


def test_explain_takes_a_detector(folder):
    detect = ["detect", "--model", MODEL, "--scorer", "feature_difference", "--out", "features"]
    detect += ["--value_range=-1,1"]
    assert main([*detect, "--images", "good", "--report", "none", "--device", "cpu"]) == 0
    explain = ["explain", "--model", "features", "--images", "new/a", "--device", "cpu"]
    assert main([*explain, "--out", "maps"]) == 0
    report = json.loads(Path("maps/explain.json").read_text())
    assert report["layer"].startswith("encoder.") and report["images"]["range"] == [-1, 1]


def test_a_detector_calibrates_on_what_the_run_of_its_model_held_out(folder, capsys):
    command = ["fit", "--model.name", "conv", "--data.name", "folder", "--data.root", "good"]
    command += ["--data.held_out", "0.4", "--trainer.steps", "2", "--trainer.batch_size", "4"]
    assert main([*command, "--trainer.accelerator", "cpu", "--out", "run"]) == 0
    assert "held out for calibration: run/held_out.txt" in capsys.readouterr().out
    command = ["detect", "--images", "good", "--model", "run", "--scorer", "mean_image"]
    command += ["--device", "cpu", "--report", "none", "--out", "other"]
    assert main(command) == 0
    assert "calibrating on the images that the model's run held out" in capsys.readouterr().out
    facts = AnomalyDetector.load("other").fitted.facts["normal"]
    assert (facts["fitted"], facts["calibrated"], facts["trained"]) == (36, 24, "")
    assert main([*command[:-1], "third", "--calibration", "apart"]) == 0
    assert AnomalyDetector.load("third").fitted.facts["normal"]["calibrated"] == 30
