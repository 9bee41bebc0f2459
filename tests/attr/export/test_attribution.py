"""``cam.export``: the file gives what eager mode gives, for every path and number of images."""

import os
import subprocess
import sys
import venv

import pytest
import torch

from captum_vae import (
    LatentGradCAM,
    MeanActivation,
    MeanSumGradCAM,
    NormalDifferenceGradCAM,
)
from captum_vae.attr.export import NotExportableError, read_metadata
from captum_vae.models import ConvVAE
from tests.attr.export.test_saving import run

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


@pytest.fixture(scope="module")
def vae():
    torch.manual_seed(0)
    return ConvVAE(4, image_size=24, channels=(4, 6), hidden=8).eval()


IMAGES = torch.rand(7, 1, 24, 24, generator=torch.Generator().manual_seed(1))


def assert_exported(cam, path, format, names=("maps",), **options):
    cam.export(IMAGES[:2], path, format, **options)
    options.pop("outputs", None)
    for count in (1, 7):
        found = run(path, IMAGES[:count])
        expected = cam.attribute(IMAGES[:count], **options)
        expected = expected if isinstance(expected, tuple) else (expected,)
        for name, maps in zip(names, expected, strict=True):
            assert (found[name] - maps).abs().max() <= 1e-5 * maps.abs().max()
    return found


@pytest.mark.parametrize("format", ["onnx", "torch"])
def test_maps_posterior_and_reconstruction_are_those_of_eager_mode(vae, tmp_path, format):
    path = tmp_path / f"maps.{format}"
    found = assert_exported(LatentGradCAM(vae, "encoder.conv1"), path, format, size="input")
    reconstruction, mean, log_variance = vae(IMAGES)
    torch.testing.assert_close(found["mean"], mean)
    torch.testing.assert_close(found["log_variance"], log_variance)
    torch.testing.assert_close(found["reconstruction"], vae.reconstruct(IMAGES))
    assert read_metadata(path)["layers"] == ["encoder.conv1"]
    assert read_metadata(path)["options"]["size"] == "input"


@pytest.mark.parametrize(
    "options",
    [
        {"layer": "encoder.conv2", "preset": "authors", "size": (9, 11)},
        {
            "layer": "encoder.relu2",
            "rectifier": "sigmoid",
            "order": "channelwise",
            "target": [3, 1],
        },
        {"layer": "encoder.conv1", "weighting": "integrated", "baselines": "reconstruction"},
        {"layer": ["encoder.conv1", "encoder.relu2"], "aggregate": "max", "baselines": "mean"},
    ],
)
def test_options_and_layers_are_in_the_file(vae, tmp_path, options):
    options = dict(options)
    cam = LatentGradCAM(vae, options.pop("layer"))
    if options.get("baselines") == "mean":
        options["baselines"] = MeanActivation().fit(cam, [IMAGES])
    several = not isinstance(cam.layer, str)
    names = ("maps_0", "maps_1") if several else ("maps",)
    assert_exported(cam, tmp_path / "maps.onnx", "onnx", names, outputs="maps", **options)


def test_the_mean_sum_is_exported_too(vae, tmp_path):
    assert_exported(MeanSumGradCAM(vae, "encoder.conv1"), tmp_path / "maps.torch", "torch")


@pytest.mark.parametrize("difference", ["mean", "mahalanobis"])
def test_the_difference_to_normal_images_is_exported_with_what_was_fitted(
    vae, tmp_path, difference
):
    cam = NormalDifferenceGradCAM(vae, "encoder.conv1", difference=difference).fit([IMAGES])
    assert_exported(cam, tmp_path / "maps.onnx", "onnx", rectifier="abs")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"baselines": torch.rand(2, 1, 24, 24)}, "one for all"),
        ({"create_graph": True}, "not trained"),
        ({"outputs": ("maps", "codes")}, "'codes'"),
        ({"rectified": "abs"}, "no option rectified"),
    ],
)
def test_options_that_no_file_takes_are_refused(vae, tmp_path, options, said):
    with pytest.raises((ValueError, TypeError), match=said):
        LatentGradCAM(vae, "encoder.conv1").export(IMAGES[:2], tmp_path / "maps.onnx", **options)
    assert not list(tmp_path.iterdir())


def test_a_model_without_a_log_variance_says_to_leave_it_out(tmp_path):
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.Flatten(), torch.nn.Linear(8, 3))
    cam = LatentGradCAM(model.eval(), "0", posterior="mean")
    with pytest.raises(NotExportableError, match="leave it out"):
        cam.export(torch.rand(2, 1, 4, 4), tmp_path / "maps.pt2", "torch")


SERVED = """
import sys
import numpy as np
import onnxruntime
try:
    import torch
except ImportError:
    pass
else:
    raise SystemExit("torch is here")
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
np.save(sys.argv[3], session.run(["maps"], {"input": np.load(sys.argv[2])})[0])
"""


@pytest.mark.slow
def test_onnxruntime_alone_serves_the_file_in_an_environment_without_torch(vae, tmp_path):
    import numpy as np

    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    installed = subprocess.run(
        [python, "-m", "pip", "install", "-q", "numpy", "onnxruntime"],
        capture_output=True,
        text=True,
    )
    if installed.returncode:
        pytest.skip(f"pip cannot install onnxruntime: {installed.stderr.strip()[-200:]}")
    cam = LatentGradCAM(vae, "encoder.conv1")
    cam.export(IMAGES[:2], tmp_path / "maps.onnx")
    np.save(tmp_path / "images.npy", IMAGES.numpy())
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    served = subprocess.run(
        [python, "-c", SERVED, "maps.onnx", "images.npy", "out.npy"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert served.returncode == 0, served.stderr
    expected = cam.attribute(IMAGES)
    found = torch.from_numpy(np.load(tmp_path / "out.npy"))
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert sys.executable != str(python)
