"""A detector as one file: the same numbers in onnxruntime, and the same verdicts without torch."""

import json
import subprocess
import venv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from captum_vae import AnomalyDetector
from tests.localization.detector.test_detector import Remembering, striped
from tests.localization.detector.test_saving import SCORERS, package

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

EXAMPLE = Path(__file__).parents[3] / "examples" / "serve_detector.py"


def features():
    torch.manual_seed(0)
    return AnomalyDetector.from_backbone(
        "test_resnet", ["layer1", "layer2"], image_size=32, channels=1, pretrained=False
    ).fit(striped(60))


def outputs(path, images):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"image": images.numpy()}), strict=True))


def check_same(detector, path, count=20):
    images = striped(count, seed=1, spots=range(0, count, 3))
    found, expected = outputs(path, images), detector.predict(images, batch_size=count)
    assert np.abs(found["map"] - expected.maps.numpy()).max() <= 1e-5 * expected.maps.max()
    assert np.allclose(found["score"], expected.scores, rtol=1e-5)
    assert np.allclose(found["p_value"], expected.p_values, atol=1e-6)
    assert np.array_equal(found["anomalous"].astype(bool), expected.anomalous)
    assert np.mean(found["mask"].astype(bool) != expected.masks.numpy()) < 1e-4
    assert np.allclose(found["area"], expected.areas, atol=1e-3)


def test_a_detector_of_features_runs_in_onnxruntime_with_the_same_numbers(tmp_path):
    detector = features()
    written = detector.export(tmp_path / "d.onnx")
    check_same(detector, written.path)
    session = onnxruntime.InferenceSession(written.path)
    about = session.get_modelmeta().custom_metadata_map
    assert json.loads(about["alpha"]) == 0.05 and json.loads(about["image_size"]) == [32, 32]
    assert json.loads(about["pixel_threshold"]) == detector.threshold


@pytest.mark.parametrize(("scorer", "options"), [SCORERS[0], SCORERS[2], SCORERS[3]])
def test_other_scorers_and_rules_are_exported_too(scorer, options, tmp_path):
    rule = {"reconstruction_error": "area", "feature_difference": "max"}.get(scorer, "top")
    detector = AnomalyDetector(package(), scorer, options=options, score=rule).fit(striped(60))
    check_same(detector, detector.export(tmp_path / "d.onnx").path)


def test_clips_and_several_scorers_are_exported(tmp_path):
    clips = [f"clip{n // 3}" for n in range(60)]
    detector = AnomalyDetector(package(), ["mean_image", "reconstruction_error"], alpha=0.2)
    detector.fit(striped(60), clips=clips)
    check_same(detector, detector.export(tmp_path / "d.onnx").path)


def test_a_program_of_torch_export_gives_the_same(tmp_path):
    detector = features()
    path = detector.export(tmp_path / "d.pt2", format="torch").path
    images = striped(5, seed=1)
    found = torch.export.load(path).module()(images)
    expected = detector.predict(images, batch_size=5)
    assert torch.allclose(found["map"], expected.maps, atol=1e-5)
    assert torch.allclose(found["p_value"], expected.p_values)


def test_what_cannot_be_recorded_is_refused(tmp_path):
    detector = AnomalyDetector(package(), Remembering(striped(2))).fit(striped(60))
    with pytest.raises(TypeError, match="Remembering is a scorer of another package"):
        detector.export(tmp_path / "d.onnx")
    assert not (tmp_path / "d.onnx").exists()
    with pytest.raises(ValueError, match=r"call fit\(normal images\)"):
        AnomalyDetector(package(), "mean_image").export(tmp_path / "d.onnx")


@pytest.mark.slow
def test_an_environment_without_torch_gives_the_same_verdicts_on_100_images(tmp_path):
    detector = features()
    detector.export(tmp_path / "d.onnx")
    images = striped(100, seed=8, spots=range(0, 100, 4))
    paths = []
    for number, image in enumerate(images):
        # Of another size, which both sides bring to the detector's in the same way.
        byte = Image.fromarray((image[0] * 255).round().byte().numpy()).resize((50, 40))
        paths.append(tmp_path / f"{number:03d}.png")
        byte.save(paths[-1])
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    installed = subprocess.run(
        [python, "-m", "pip", "install", "-q", "onnxruntime", "numpy", "pillow"],
        capture_output=True,
        text=True,
    )
    if installed.returncode:
        pytest.skip(f"onnxruntime cannot be installed here: {installed.stderr[-200:]}")
    assert subprocess.run([python, "-c", "import torch"], capture_output=True).returncode
    run = subprocess.run(
        [python, EXAMPLE, tmp_path / "d.onnx", *paths], capture_output=True, text=True, check=True
    )
    lines = [line.split("\t") for line in run.stdout.splitlines()]
    expected = detector.predict([str(path) for path in paths])
    assert [line[0] for line in lines] == [one.verdict for one in expected]
    assert {line[0] for line in lines} == {"normal", "anomalous"}
    p_values = [float(line[1]) for line in lines]
    assert np.allclose(p_values, expected.p_values, atol=1e-6)
