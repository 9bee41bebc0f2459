"""Detectors of models that were trained on images in [-1, 1], against twins that take [0, 1]."""

import numpy as np
import pytest
import torch
from torch import nn

from captum_vae import AnomalyDetector
from captum_vae.commands.main import main
from tests.localization.detector.test_detector import SIDE, striped


class Symmetric(nn.Module):
    """Principal components of images in [-1, 1], read from a layer of features."""

    def __init__(self, dims=6):
        super().__init__()
        images = 2 * striped(60, seed=11).flatten(1) - 1
        torch.manual_seed(0)
        self.features = nn.Conv2d(1, 2, 3, padding=1)
        with torch.no_grad():
            self.features.weight[0] = torch.eye(9)[4].reshape(1, 3, 3)
            self.features.bias.zero_()
        self.register_buffer("mean", images.mean(0))
        self.register_buffer("axes", torch.pca_lowrank(images, dims)[2])

    def encode(self, images):
        mean = (self.features(images)[:, 0].flatten(1) - self.mean) @ self.axes
        return mean, torch.zeros_like(mean)

    def decode(self, latent):
        return (latent @ self.axes.T + self.mean).reshape(-1, 1, SIDE, SIDE)

    def forward(self, images):
        mean, log_variance = self.encode(images)
        return self.decode(mean), mean, log_variance


class Twin(nn.Module):
    """The same model for images in [0, 1]."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def encode(self, images):
        return self.inner.encode(2 * images - 1)

    def decode(self, latent):
        return (self.inner.decode(latent) + 1) / 2

    def forward(self, images):
        mean, log_variance = self.encode(images)
        return self.decode(mean), mean, log_variance


def symmetric():
    return Symmetric().eval()


@pytest.mark.parametrize(
    ("scorer", "options"),
    [
        ("reconstruction_error", {}),
        ("mean_image", {}),
        ("feature_difference", {}),
        ("feature_difference", {"baselines": "explained"}),
        ("latent_attention", {"baselines": "reconstruction"}),
    ],
)
def test_a_model_of_another_range_gives_what_its_twin_gives(scorer, options):
    model = symmetric()
    new = striped(30, seed=1, spots=range(10))
    found = []
    for vae, layer, stated in (
        (model, "features", (-1, 1)),
        (Twin(model).eval(), "inner.features", None),
    ):
        layers = {} if scorer in ("reconstruction_error", "mean_image") else {"layers": layer}
        made = AnomalyDetector(vae, scorer, options=options, value_range=stated, **layers)
        with pytest.warns(UserWarning, match="whether the model was trained"):
            found.append(made.fit(striped(60)).predict(new))
    ours, twins = found
    assert ours.anomalous.any() and ours.anomalous.equal(twins.anomalous)
    assert np.allclose(ours.p_values, twins.p_values)
    ratio = ours.maps.norm() / twins.maps.norm()
    assert torch.allclose(ours.maps, ratio * twins.maps, atol=float(1e-4 * ours.maps.max()))


def test_the_choice_paints_in_the_unit_range_and_measures_in_the_models():
    model = symmetric()
    ways = [(model, "features", (-1, 1)), (Twin(model).eval(), "inner.features", (0, 1))]
    areas = []
    for vae, layer, stated in ways:
        with pytest.warns(UserWarning):
            made = AnomalyDetector(vae, layers=layer, value_range=stated).fit(striped(60))
        ranked = made.fitted.choice["synthetic"]
        areas.append({name.replace("inner.", ""): area for name, area in ranked.items()})
    assert areas[0] == pytest.approx(areas[1], abs=1e-3)


def test_the_range_is_saved_and_exported(tmp_path):
    model, new = symmetric(), striped(12, seed=1, spots=(0, 3))
    with pytest.warns(UserWarning):
        made = AnomalyDetector(model, "reconstruction_error", value_range=(-1, 1)).fit(striped(60))
    expected = made.predict(new)
    again = AnomalyDetector.load(made.save(tmp_path / "d"), model)
    assert torch.equal(again.predict(new).maps, expected.maps)
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    path = made.export(tmp_path / "d.onnx").path
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (maps,) = session.run(["map"], {"image": new.numpy()})
    assert np.abs(maps - expected.maps.numpy()).max() < 1e-5 * expected.maps.max()


def test_a_model_that_shows_another_range_is_refused_until_the_range_is_said():
    model = symmetric()
    with pytest.raises(ValueError, match=r"images in \[-1, 1\].*say value_range=\(-1, 1\)"):
        AnomalyDetector(model, "mean_image").fit(striped(60))
    for stated in ((0, 1), (-1, 1)):
        with pytest.warns(UserWarning):
            AnomalyDetector(model, "mean_image", value_range=stated).fit(striped(60))


def test_images_of_another_range_and_wrong_ranges_are_refused_by_name(tmp_path, capsys):
    with pytest.raises(ValueError, match="values of image .* run from -1"):
        AnomalyDetector(symmetric(), "mean_image").fit(2 * striped(60) - 1)
    with pytest.raises(ValueError, match=r"value_range is \[1, 0\]"):
        AnomalyDetector(symmetric(), "mean_image", value_range=[1, 0])
    with pytest.raises(ValueError, match="value_range is for a VAE of your own"):
        AnomalyDetector.from_backbone("test_resnet", pretrained=False, value_range=(-1, 1))
    with pytest.warns(UserWarning):
        made = AnomalyDetector(symmetric(), "mean_image", value_range=(-1, 1)).fit(striped(60))
    with pytest.raises(ValueError, match="values of images? .*run from"):
        made.predict(2 * striped(3) - 1)
    np.save(tmp_path / "good.npy", (striped(60)[:, 0] * 255).byte().numpy())
    command = ["detect", "--images", str(tmp_path / "good.npy"), "--out", str(tmp_path / "d")]
    command += ["--scorer", "mean_image", "--report", "none", "--device", "cpu"]
    command += ["--model", f"{__name__}:symmetric"]
    assert main(command) == 2
    assert "value_range" in capsys.readouterr().err
    assert main([*command, "--value_range", "-1,1"]) == 0
    assert AnomalyDetector.load(tmp_path / "d", symmetric()).fitted.value_range == (-1, 1)
