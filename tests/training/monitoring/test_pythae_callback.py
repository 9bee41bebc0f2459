"""The callback in pythae's own trainer on pythae's own model."""

from pathlib import Path
from typing import Any

import pytest
import torch

from captum_vae.training import PythaeLatentAttentionCallback

pytest.importorskip("pythae", reason="pythae is not installed")

LAYER = "encoder.layers.2"


def fit(out: Path, callbacks: list[Any], epochs: int = 2) -> Any:
    from pythae.data.datasets import BaseDataset
    from pythae.models import VAE, VAEConfig
    from pythae.models.nn.benchmarks.mnist import Encoder_Conv_VAE_MNIST
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    torch.manual_seed(0)
    config = VAEConfig(input_dim=(1, 28, 28), latent_dim=3)
    model = VAE(config, encoder=Encoder_Conv_VAE_MNIST(config))
    data = BaseDataset(torch.rand(12, 1, 28, 28), torch.zeros(12))
    settings = BaseTrainerConfig(
        output_dir=str(out),
        num_epochs=epochs,
        per_device_train_batch_size=4,
        learning_rate=1e-3,
        no_cuda=True,
        seed=3,
    )
    trainer = BaseTrainer(model, data, None, settings, callbacks)
    trainer.train()
    return trainer.model


def test_weights_are_the_same_bit_for_bit_and_maps_are_kept(tmp_path: Path) -> None:
    watching = PythaeLatentAttentionCallback(LAYER)
    watched, without = fit(tmp_path / "a", [watching]), fit(tmp_path / "b", [])
    assert watching.monitor.snapshots == 2
    for name, value in without.state_dict().items():
        assert torch.equal(value, watched.state_dict()[name]), name
    folder = tmp_path / "a" / "latent_attention"
    pictures = sorted(path.name for path in folder.glob("*.png"))
    assert pictures == ["step_00000003.png", "step_00000006.png"]
    lines = (folder / "latents.csv").read_text().splitlines()
    assert lines[0].startswith("step,latent/active_dimensions,latent/kl") and len(lines) == 3


def test_steps_may_decide(tmp_path: Path) -> None:
    images = torch.rand(5, 1, 28, 28)
    watching = PythaeLatentAttentionCallback(
        LAYER, images, out=tmp_path / "maps", every_n_epochs=None, every_n_steps=2
    )
    fit(tmp_path, [watching])
    assert watching.monitor.snapshots == 3
    assert len(list((tmp_path / "maps").glob("*.png"))) == 3


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="every_n_epochs"):
        PythaeLatentAttentionCallback(LAYER, every_n_epochs=0)
