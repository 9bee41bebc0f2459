"""Third parties' models, data sets and posteriors work wherever a built-in's name does."""

import importlib
import sys

import pytest
import torch

from captum_vae import LatentGradCAM, PosteriorAdapter
from captum_vae.commands.main import main
from captum_vae.models import ConvVAE, build_model
from captum_vae.plugins import PluginError
from captum_vae.posterior import as_adapter
from captum_vae.training import load_vae
from captum_vae.training.building import build_dataset, build_vae
from captum_vae.training.checkpoint import checkpoint_path, write_checkpoint
from captum_vae.training.configuration import DataConfig, ModelConfig
from captum_vae.training.load import describe_model

SOURCE = """
import torch
from captum_vae.data import Sample
from captum_vae.models import ConvVAE
from captum_vae.posterior import PosteriorAdapter


class ThinVAE(ConvVAE):
    def __init__(self, latent_dims=3, *, image_size=8, in_channels=1):
        super().__init__(latent_dims, image_size=image_size, in_channels=in_channels,
                         channels=(2,), hidden=4)


class NoVAE(torch.nn.Linear):
    def __init__(self, image_size, in_channels):
        super().__init__(1, 1)


class Ramps(torch.utils.data.Dataset):
    def __init__(self, root, count=12):
        self.root, self.count = root, count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        if not 0 <= index < self.count:
            raise IndexError(index)
        image = torch.linspace(0, 1, 64).reshape(1, 8, 8).roll(index, 2)
        return Sample(image, None, 0, "", "")


def doubled(model):
    return PosteriorAdapter(model, call="encode", read=lambda out: (2 * out[0], out[1]))


def not_an_adapter(model):
    return model.encode
"""

ENTRIES = """
[captum_vae.models]
thin = registered_names:ThinVAE
nothing = registered_names:NoVAE
[captum_vae.datasets]
ramps = registered_names:Ramps
[captum_vae.posteriors]
doubled = registered_names:doubled
chunk = registered_names:doubled
wrong = registered_names:not_an_adapter
"""


@pytest.fixture(autouse=True)
def third_party(tmp_path, monkeypatch):
    folder = tmp_path / "site"
    info = folder / "third_party-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: third-party\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRIES)
    (folder / "registered_names.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(folder))
    importlib.invalidate_caches()
    yield
    sys.modules.pop("registered_names", None)


def test_fit_trains_a_third_partys_model_on_a_third_partys_data(tmp_path):
    out = tmp_path / "run"
    words = ["fit", "--model.name", "thin", "--data.name", "ramps", "--data.root", "anywhere"]
    words += ["--data.options", "{count: 9}", "--trainer.steps", "2"]
    words += ["--trainer.batch_size", "4", "--trainer.accelerator", "cpu", "--out", str(out)]
    assert main(words) == 0
    vae = load_vae(out)
    assert type(vae).__name__ == "ThinVAE"
    assert vae.config["latent_dims"] == 3


def test_a_reference_trains_too_but_a_checkpoint_never_imports_one(tmp_path):
    vae = build_vae(ModelConfig("registered_names:ThinVAE"), (1, 8, 8))
    assert type(vae).__name__ == "ThinVAE"
    path = checkpoint_path(tmp_path, 1)
    state = {**describe_model(vae), "weights": vae.state_dict(), "name": "registered_names:ThinVAE"}
    write_checkpoint(path, {"model": state})
    with pytest.raises(ValueError, match="not among the models.*load_vae"):
        load_vae(path)


def test_a_model_of_another_contract_is_refused():
    with pytest.raises(ValueError, match="gave NoVAE, which lacks encode, decode, config"):
        build_vae(ModelConfig("nothing"), (1, 8, 8))


def test_a_data_set_gets_its_root_and_options():
    dataset = build_dataset(DataConfig("ramps", root="some", options={"count": 5}))
    assert (dataset.root, len(dataset)) == ("some", 5)
    by_reference = build_dataset(DataConfig("registered_names:Ramps", root="some"))
    assert len(by_reference) == 12


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (DataConfig("ramp"), "datasets: digits, .*did you mean 'ramps'"),
        (DataConfig("ramps", options={"size": 3}), "data.options does not fit Ramps"),
        (DataConfig("registered_names:Absent"), "data.name is .* does not import"),
    ],
)
def test_a_wrong_data_set_is_named(config, words):
    with pytest.raises(ValueError, match=words):
        build_dataset(config)


def test_a_class_name_stands_for_the_name_it_is_registered_under():
    assert type(build_model("ConvVAE", image_size=8)) is ConvVAE
    assert type(build_model("ThinVAE")).__name__ == "ThinVAE"


def test_two_models_of_one_class_name_must_be_told_apart(tmp_path, monkeypatch):
    folder = tmp_path / "other"
    info = folder / "other_party-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other-party\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[captum_vae.models]\nthinner = elsewhere:ThinVAE\nconv = elsewhere:ConvVAE\n"
    )
    monkeypatch.syspath_prepend(str(folder))
    importlib.invalidate_caches()
    with pytest.raises(PluginError, match="name the model as it is registered: .*thin"):
        build_model("ThinVAE")
    with pytest.raises(PluginError, match="'conv' among the models is registered by"):
        build_model("conv")
    assert type(build_model("mnist")).__name__ == "MNISTVAE"


def test_a_registered_posterior_is_chosen_by_its_name():
    vae = ConvVAE(3, image_size=8, in_channels=1, channels=(2,), hidden=4).eval()
    x = torch.rand(2, 1, 8, 8)
    assert torch.equal(as_adapter(vae, "doubled")(x).mean, 2 * vae.encode(x)[0])
    twice = LatentGradCAM(vae, "encoder.conv1", posterior="doubled").attribute(x)
    torch.testing.assert_close(twice, 2 * LatentGradCAM(vae, "encoder.conv1").attribute(x))


def test_a_plugin_cannot_take_a_word_of_the_readings():
    adapter = as_adapter(lambda x: x.repeat(1, 2), "chunk")
    x = torch.rand(2, 4)
    assert isinstance(adapter, PosteriorAdapter)
    assert torch.equal(adapter(x).mean, x)


def test_a_plugin_that_gives_no_adapter_is_refused():
    with pytest.raises(TypeError, match="posterior plugin 'wrong' gave method"):
        as_adapter(ConvVAE(3, image_size=8, in_channels=1, channels=(2,)), "wrong")
