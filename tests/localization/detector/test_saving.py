"""Saved without code, loaded the same, and damage is noticed bit for bit."""

import json

import pytest
import torch
from torch import nn

from captum_vae import AnomalyDetector
from captum_vae.files import DamagedFileError
from captum_vae.models import ConvVAE
from tests.localization.detector.test_detector import SIDE, striped


class OwnVAE(nn.Module):
    """A VAE that this package cannot build."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(1, 4, 4, 4), nn.ReLU())
        self.heads = nn.Linear(4 * 64, 6)
        self.decoder = nn.Sequential(nn.Linear(3, SIDE * SIDE), nn.Sigmoid())

    def encode(self, x):
        mu, logvar = self.heads(self.encoder(x).flatten(1)).chunk(2, 1)
        return mu, logvar

    def forward(self, x):
        mu, logvar = self.encode(x)
        return self.decoder(mu).view(-1, 1, SIDE, SIDE), mu, logvar


def own():
    torch.manual_seed(1)
    return OwnVAE().eval()


def package():
    torch.manual_seed(0)
    return ConvVAE(image_size=SIDE, in_channels=1, latent_dims=4).eval()


SCORERS = [
    ("reconstruction_error", {}),
    ("mean_image", {"distance": "absolute", "scale": "location"}),
    ("feature_difference", {"layers": ["encoder.conv1", "encoder.conv2"]}),
    ("latent_attention", {"layers": "encoder.conv2", "rectifier": "abs", "order": "channelwise"}),
    (
        "latent_attention",
        {"layers": "encoder.conv2", "baselines": "mean_activation", "weighting": "elementwise"},
    ),
    ("latent_attention", {"layers": "encoder.conv1", "method": "normal_difference"}),
    ("elbo_gradient", {}),
    ("gradient_projection", {}),
]


@pytest.mark.parametrize(("scorer", "options"), SCORERS)
def test_every_scorer_comes_back_as_it_was(scorer, options, tmp_path):
    made = AnomalyDetector(package(), scorer, options=options).fit(striped(50))
    made.save(tmp_path / "detector")
    again = AnomalyDetector.load(tmp_path / "detector")
    images = striped(4, seed=1, spots=(1,))
    first, second = made.predict(images), again.predict(images)
    for name in ("scores", "p_values", "anomalous", "areas", "maps", "masks"):
        assert torch.equal(getattr(first, name), getattr(second, name)), name
    assert repr(again) == repr(made)
    again.save(tmp_path / "again")
    assert tensors(tmp_path / "again") == tensors(tmp_path / "detector")


def tensors(folder):
    (file,) = folder.glob("tensors-*.safetensors")
    return file.read_bytes()


def test_several_scorers_and_a_choice_come_back(tmp_path):
    made = AnomalyDetector(package(), ["mean_image", "reconstruction_error"]).fit(striped(50))
    chosen = AnomalyDetector(package(), layers="encoder.conv2").fit(striped(50))
    images = striped(3, seed=1)
    for one in (made, chosen):
        one.save(tmp_path / "d")
        again = AnomalyDetector.load(tmp_path / "d")
        assert torch.equal(one.predict(images).maps, again.predict(images).maps)
        assert again.fitted.choice == json.loads(json.dumps(one.fitted.choice))
    assert len(list((tmp_path / "d").iterdir())) == 2


def test_a_model_of_ones_own_is_given_again_and_compared(tmp_path):
    made = AnomalyDetector(own(), "reconstruction_error", image_size=SIDE, channels=1)
    made.fit(striped(50))
    made.save(tmp_path)
    with pytest.raises(ValueError, match="a model of your own, a OwnVAE, which is not saved"):
        AnomalyDetector.load(tmp_path)
    other = own()
    with torch.no_grad():
        other.heads.bias[0] += 1e-6
    with pytest.raises(ValueError, match="give the same model"):
        AnomalyDetector.load(tmp_path, other)
    again = AnomalyDetector.load(tmp_path, own())
    images = striped(3, seed=1)
    assert torch.equal(again.predict(images).maps, made.predict(images).maps)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "detector"
    AnomalyDetector(package(), "mean_image").fit(striped(50)).save(folder)
    return folder


def test_any_changed_byte_is_noticed(saved, tmp_path):
    for name in (path.name for path in saved.iterdir()):
        content = (saved / name).read_bytes()
        for place in [0, 1, len(content) // 3, len(content) // 2, len(content) - 3]:
            copy = tmp_path / f"{name}-{place}"
            copy.mkdir()
            for path in saved.iterdir():
                (copy / path.name).write_bytes(path.read_bytes())
            changed = bytearray(content)
            changed[place] ^= 0x10
            (copy / name).write_bytes(bytes(changed))
            with pytest.raises(DamagedFileError, match=name):
                AnomalyDetector.load(copy)


@pytest.mark.parametrize("kept", [0, 7, 200])
def test_files_cut_short_or_missing_are_named(saved, tmp_path, kept):
    for name in (path.name for path in saved.iterdir()):
        copy = tmp_path / name
        copy.mkdir()
        for path in saved.iterdir():
            (copy / path.name).write_bytes(path.read_bytes())
        (copy / name).write_bytes((saved / name).read_bytes()[:kept])
        with pytest.raises(DamagedFileError, match=name):
            AnomalyDetector.load(copy)
        (copy / name).unlink()
        with pytest.raises(FileNotFoundError, match=name):
            AnomalyDetector.load(copy)


def test_what_is_saved_is_plain_and_says_what_it_was_made_of(saved):
    entries = json.loads((saved / "detector.json").read_text())
    assert entries["format"] == "captum_vae detector 2"
    assert len(entries["model"]["digest"]) == len(entries["facts"]["normal"]["digest"]) == 64
    assert entries["promise"]["alpha"] == 0.05 and entries["made_by"]["version"]
    assert entries["facts"]["normal"]["fitted"] == 31
