"""VAEs of features through ``train``: one is fitted in closed form, one takes steps."""

import json
from types import SimpleNamespace

import pytest
import torch

from captum_vae.models import FeatureVAE, LinearFeatureVAE
from captum_vae.training import closed_form
from captum_vae.training.building import train
from captum_vae.training.configuration import (
    DataConfig,
    ModelConfig,
    ObjectiveConfig,
    TrainerConfig,
)
from captum_vae.training.load import load_vae

HERE = "tests.training.test_feature_models"
ENCODER = {"encoder": "test_resnet", "layers": ["layer1", "layer2"]}


class Scenes(torch.utils.data.Dataset):
    """Images whose brightness and slope vary."""

    def __init__(self, count: int = 24, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        codes = torch.randn(2, count, 1, 1, 1, generator=generator)
        noise = torch.randn(count, 3, 32, 32, generator=generator)
        across = torch.linspace(-1, 1, 32)
        self.images = (0.5 + 0.1 * codes[0] + 0.1 * codes[1] * across + 0.01 * noise).clamp(0, 1)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.images[index]


def run(out, name="linear_features", *, data=None, resume="auto", trainer=None, **options):
    return train(
        ModelConfig(name, {**ENCODER, **options}, initialization="data"),
        DataConfig(f"{HERE}:Scenes", options=data or {}),
        ObjectiveConfig(learning_rate=3e-3),
        TrainerConfig(batch_size=8, accelerator="cpu", progress="off", **(trainer or {})),
        out=out,
        resume=resume,
    )


def test_the_linear_vae_is_fitted_without_a_step_and_loads_from_its_folder(tmp_path):
    vae, dataset, result = run(tmp_path / "run", latent_dims=2)
    assert result.step == 0 and result.active.count == 2
    direct = LinearFeatureVAE(**ENCODER, latent_dims=2, image_size=32)
    direct.features.encoder.load_state_dict(vae.features.encoder.state_dict())
    direct.fit_closed_form(dataset.images)
    torch.testing.assert_close(vae.latent.eigenvalues, direct.latent.eigenvalues)
    again = load_vae(tmp_path / "run")
    assert isinstance(again, LinearFeatureVAE)
    assert torch.equal(again.encode(dataset.images)[0], vae.encode(dataset.images)[0])


def test_auto_chooses_the_dimensions_and_the_checkpoint_knows_how_many(tmp_path):
    vae, dataset, _ = run(tmp_path / "run")
    again = load_vae(tmp_path / "run")
    assert again.latent_dims == vae.latent_dims >= 2
    own = load_vae(
        tmp_path / "run",
        LinearFeatureVAE(**ENCODER, latent_dims=vae.latent_dims, image_size=32, grid=8),
    )
    assert torch.equal(own.encode(dataset.images)[0], vae.encode(dataset.images)[0])


def test_a_run_that_is_done_is_taken_as_it_is_and_another_one_refused(tmp_path, capsys):
    vae, dataset, result = run(tmp_path / "run")
    written = result.checkpoint.read_bytes()
    # An untrained encoder is drawn anew; that of the checkpoint comes back.
    again, _, second = run(tmp_path / "run")
    assert "fitted already" in capsys.readouterr().out
    assert second.checkpoint.read_bytes() == written
    assert torch.equal(again.encode(dataset.images)[0], vae.encode(dataset.images)[0])
    with pytest.raises(ValueError, match="already holds a run"):
        run(tmp_path / "run", resume="never")
    with pytest.raises(ValueError, match=r"other settings \(data\)"):
        run(tmp_path / "run", data={"seed": 1})
    with pytest.raises(ValueError, match=r"other settings \(model\)"):
        run(tmp_path / "run", latent_dims=3)
    with pytest.raises(ValueError, match="no objective to resume from"):
        run(tmp_path / "run", name="features", trainer={"steps": 1})


def test_several_processes_are_refused(tmp_path, monkeypatch):
    fabric = SimpleNamespace(world_size=2, device=torch.device("cpu"))
    monkeypatch.setattr(closed_form, "start_fabric", lambda *settings: fabric)
    with pytest.raises(ValueError, match="by one process; 2 were started"):
        run(tmp_path / "run")


def test_the_convolutional_one_learns_the_features_it_sees(tmp_path):
    options = {"latent_dims": 4, "channels": [16, 16], "hidden": 32}
    vae, dataset, result = run(
        tmp_path / "run", "features", trainer={"steps": 120, "log_every": 20}, **options
    )
    lines = [json.loads(x) for x in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["nll"] < lines[0]["nll"]
    target = vae.features(dataset.images)
    flat = target.transpose(0, 1).flatten(1)
    torch.testing.assert_close(flat.mean(1), torch.zeros(80), atol=1e-4, rtol=0)
    residual = (target - vae.explained(target)).square().mean()
    assert residual < (target - target.mean(0)).square().mean()
    again = load_vae(tmp_path / "run")
    assert isinstance(again, FeatureVAE)
    assert torch.equal(again.encode(dataset.images)[0], vae.encode(dataset.images)[0])
