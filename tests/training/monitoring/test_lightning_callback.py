"""The callback in Lightning's own trainer: maps are logged and the weights are the same."""

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from captum_vae import watch_forward
from captum_vae.losses import AttentionDisentanglementLoss
from captum_vae.models import ConvVAE
from captum_vae.training import LatentAttentionCallback
from tests.training.monitoring.test_monitor import LAYER, digits

lightning = pytest.importorskip("lightning.pytorch", reason="lightning is not installed")


class Module(lightning.LightningModule):  # type: ignore[misc,name-defined]
    """A user's VAE in Lightning, with and without the disentanglement loss."""

    def __init__(self, overlap: AttentionDisentanglementLoss | None = None) -> None:
        super().__init__()
        self.vae = ConvVAE(6, image_size=16, channels=(4, 8), hidden=16, norm="batch")
        self.overlap = overlap

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x = batch[0]
        with watch_forward(self.vae, LAYER) as watched:
            reconstruction, mean, log_variance = self.vae(x)[:3]
        kl = (mean.square() + log_variance.exp() - log_variance - 1).sum() / 2
        loss = (reconstruction - x).square().sum() + kl
        if self.overlap is not None:
            loss = loss + 50 * self.overlap.of_forward(watched, mean, log_variance)
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), 1e-2)


def fit(
    out: Path, callbacks: list[Any], *, epochs: int = 2, loggers: Any = False, **kw: Any
) -> Any:
    lightning.seed_everything(3)
    module = Module(**kw)
    loader = DataLoader(TensorDataset(digits(), torch.arange(12)), batch_size=4, shuffle=True)
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        callbacks=callbacks,
        logger=loggers,
        default_root_dir=out,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        log_every_n_steps=1,
    )
    trainer.fit(module, loader)
    return module


def callback(images: Tensor | None = None, **options: Any) -> LatentAttentionCallback:
    return LatentAttentionCallback(LAYER, images, **{"model": "vae", "every_n_steps": 2, **options})


@pytest.mark.parametrize("images", [True, False])
def test_weights_are_the_same_bit_for_bit(tmp_path: Path, images: bool) -> None:
    watching = callback(digits() if images else None)
    watched, without = fit(tmp_path, [watching]), fit(tmp_path, [])
    assert watching.monitor.snapshots == 3
    for name, value in without.state_dict().items():
        assert torch.equal(value, watched.state_dict()[name]), name
    assert len(list((tmp_path / "latent_attention").glob("step_*.png"))) == 3
    assert watching.monitor.images is not None and len(watching.monitor.images) == (
        12 if images else 4
    )


def test_every_logger_gets_the_numbers_and_tensorboard_the_pictures(tmp_path: Path) -> None:
    loggers = pytest.importorskip("lightning.pytorch.loggers")
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    both = [
        loggers.CSVLogger(tmp_path, name="csv"),
        loggers.TensorBoardLogger(tmp_path, name="board"),
    ]
    fit(tmp_path, [callback(digits())], loggers=both)
    with open(Path(both[0].log_dir) / "metrics.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["latent/kl"]]
    assert [int(row["step"]) for row in rows] == [2, 4, 6]
    assert all(float(row["latent/kl/5"]) >= 0 for row in rows)

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(both[1].log_dir)
    events.Reload()
    assert [event.step for event in events.Images("latent/attention")] == [2, 4, 6]
    assert not (tmp_path / "latent_attention").exists()


def test_without_a_logger_of_pictures_they_lie_beside_the_logs(tmp_path: Path) -> None:
    loggers = pytest.importorskip("lightning.pytorch.loggers")
    logger = loggers.CSVLogger(tmp_path, name="csv")
    fit(tmp_path, [callback(digits(), every_n_epochs=2)], loggers=logger)
    pictures = sorted((Path(logger.log_dir) / "latent_attention").glob("*.png"))
    assert [path.name for path in pictures] == ["step_00000006.png"]


def test_weights_and_biases_offline_get_the_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb", reason="wandb is not installed")
    loggers = pytest.importorskip("lightning.pytorch.loggers")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    logger = loggers.WandbLogger(save_dir=tmp_path, offline=True, project="latents")
    try:
        fit(tmp_path, [callback(digits(), every_n_steps=6)], loggers=logger)
        assert list(tmp_path.glob("wandb/*/files/media/images/**/*.png"))
    finally:
        logger.experiment.finish()


def test_the_disentanglement_loss_is_three_lines_in_a_module_of_ones_own(tmp_path: Path) -> None:
    with_loss = fit(tmp_path, [], overlap=AttentionDisentanglementLoss("paper"))
    without = fit(tmp_path, [])
    weights = [next(module.vae.encoder.parameters()) for module in (with_loss, without)]
    assert not torch.equal(*weights)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"model": "nowhere"}, ValueError, "model='nowhere' is no submodule of Module; it has vae"),
        ({"model": 3}, TypeError, "model must be the dotted name"),
        ({"every_n_epochs": 0}, ValueError, "every_n_epochs"),
    ],
)
def test_bad_arguments_are_refused_before_training(
    tmp_path: Path, options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        fit(tmp_path, [callback(digits(), **options)])


def test_the_module_itself_may_be_the_vae(tmp_path: Path) -> None:
    class Itself(Module):
        def forward(self, x: Tensor) -> Any:
            return self.vae(x)[:3]

    watching = LatentAttentionCallback("vae." + LAYER, every_n_steps=3, posterior="forward:1,2")
    lightning.seed_everything(3)
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=1,
        callbacks=[watching],
        logger=False,
        default_root_dir=tmp_path,
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    trainer.fit(Itself(), DataLoader(TensorDataset(digits()), batch_size=4))
    assert watching.monitor.snapshots == 1
