"""The step loop: what it learns, writes, refuses and survives."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from captum_vae.losses import ELBO
from captum_vae.metrics.activity import active_dimensions
from captum_vae.models import FactorDiscriminator
from captum_vae.training import (
    FactorVAEObjective,
    NonFiniteLossError,
    Trainer,
    VAEObjective,
    VAEOutputs,
    load_vae,
)
from captum_vae.training.active_report import measure_active_dimensions
from captum_vae.training.checkpoint import list_checkpoints, read_checkpoint
from tests.training.small_run import Noisy, small_model, train


def log_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def trainer(**options: Any) -> Trainer:
    return Trainer(**{"steps": 3, "batch_size": 4, "accelerator": "cpu", **options})


def test_loss_falls_dimensions_become_active_and_the_last_checkpoints_are_kept(
    tmp_path: Path,
) -> None:
    result = train(str(tmp_path), {"steps": 100, "batch_size": 16, "save_every": 30})
    log = log_of(tmp_path)
    assert [line["step"] for line in log] == [*range(7, 100, 7), 100]
    assert log[-1]["nll"] < log[0]["nll"] - 50
    assert result.active.count >= 2
    steps = [path.stem for path in list_checkpoints(tmp_path / "checkpoints")]
    assert steps == ["step_00000090", "step_00000100"]


def test_log_line_is_the_mean_over_its_steps(tmp_path: Path) -> None:
    train(str(tmp_path / "each"), {"steps": 6, "log_every": 1})
    train(str(tmp_path / "mean"), {"steps": 6, "log_every": 3})
    each = [line["kl"] for line in log_of(tmp_path / "each")]
    means = [line["kl"] for line in log_of(tmp_path / "mean")]
    assert means == pytest.approx([sum(each[:3]) / 3, sum(each[3:]) / 3], rel=1e-5)


def test_checkpoint_rebuilds_the_trained_model(tmp_path: Path) -> None:
    model, images = small_model(), torch.rand(2, 1, 16, 16)
    trainer().fit(model, Noisy(), VAEObjective(ELBO()), out=tmp_path)
    torch.testing.assert_close(load_vae(tmp_path)(images), model(images))


@pytest.mark.slow
def test_steps_can_be_added_to_a_finished_run(tmp_path: Path) -> None:
    train(str(tmp_path / "twice"), {"steps": 11})
    train(str(tmp_path / "twice"), {"steps": 23})
    train(str(tmp_path / "once"), {"steps": 23})
    twice, once = (read_checkpoint(tmp_path / name)["model"] for name in ("twice", "once"))
    assert all(torch.equal(twice["weights"][k], v) for k, v in once["weights"].items())


def test_resuming_another_architecture_is_refused_by_name(tmp_path: Path) -> None:
    trainer().fit(small_model(), Noisy(), VAEObjective(ELBO()), out=tmp_path)
    with pytest.raises(ValueError, match="cannot resume from .*latent_dims: 4 .* 5 in the model"):
        trainer().fit(small_model(latent_dims=5), Noisy(), VAEObjective(ELBO()), out=tmp_path)


def test_nan_loss_stops_says_the_step_and_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteLossError, match=r"at step 17 \(.*step_00000014.pt"):
        train(str(tmp_path), {"nan_at": 17})
    last = list_checkpoints(tmp_path / "checkpoints")[-1]
    assert last.name == "step_00000014.pt"
    weights = read_checkpoint(last)["model"]["weights"].values()
    assert all(weight.isfinite().all() for weight in weights)


def test_nan_weight_is_not_saved(tmp_path: Path) -> None:
    class Poison(VAEObjective):
        def forward(self, model: nn.Module, batch: Tensor, step: int) -> dict[str, Tensor]:
            losses = super().forward(model, batch, step)
            # A finite loss with a NaN gradient: sqrt at zero times zero.
            zero = sum(p.sum() for p in model.parameters()) * 0.0
            return {**losses, "loss": losses["loss"] + zero.sqrt()}

    with pytest.raises(NonFiniteLossError, match="weight is NaN or infinite after step 1"):
        trainer(save_every=1).fit(small_model(), Noisy(), Poison(ELBO()), out=tmp_path)
    assert list_checkpoints(tmp_path / "checkpoints") == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_cuda_without_a_device_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="finds no CUDA device"):
        train(str(tmp_path), {"accelerator": "cuda"})


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_trains_saves_and_resumes_on_cuda(tmp_path: Path) -> None:
    train(str(tmp_path), {"steps": 7, "accelerator": "cuda"})
    result = train(str(tmp_path), {"steps": 14, "accelerator": "cuda", "precision": "bfloat16"})
    assert (result.step, result.device.type) == (14, "cuda")


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian", "optimal_gaussian"])
def test_trains_under_bfloat16_with_float32_weights_and_losses(
    tmp_path: Path, likelihood: Any
) -> None:
    model, seen = small_model(), []
    spy = {"spy": lambda model, batch, outputs: seen.append(outputs.mean.dtype) or batch.sum() * 0}
    objective = VAEObjective(ELBO(likelihood), extra_terms=spy)
    trainer(precision="bfloat16").fit(model, Noisy(), objective, out=tmp_path)
    assert set(seen) == {torch.bfloat16}
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


@pytest.mark.slow
def test_compiled_model_is_saved_under_its_own_names(tmp_path: Path) -> None:
    trainer(compile="on").fit(small_model(), Noisy(), VAEObjective(ELBO()), out=tmp_path)
    assert load_vae(tmp_path).config == small_model().config


def test_tensorboard_shows_the_losses(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(str(tmp_path), {"steps": 14, "logger": "tensorboard"})
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    shown = {event.step: event.value for event in events.Scalars("nll")}
    assert shown == pytest.approx({line["step"]: line["nll"] for line in log_of(tmp_path)})


def test_extra_term_is_added_to_the_loss_and_logged(tmp_path: Path) -> None:
    def overlap(model: nn.Module, batch: Tensor, outputs: VAEOutputs) -> Tensor:
        assert outputs.reconstruction.shape == batch.shape
        return outputs.mean.square().mean() + 100.0

    objective = VAEObjective(ELBO(), extra_terms={"overlap": overlap})
    trainer(log_every=1).fit(small_model(), Noisy(), objective, out=tmp_path)
    line = log_of(tmp_path)[0]
    assert line["overlap"] >= 100
    assert line["loss"] == pytest.approx(line["nll"] + line["kl"] + line["overlap"], rel=1e-5)


def test_extra_term_with_weights_is_trained_and_saved(tmp_path: Path) -> None:
    class Pull(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(()))

        def forward(self, model: nn.Module, batch: Tensor, outputs: VAEOutputs) -> Tensor:
            return self.weight.square()

    objective = VAEObjective(ELBO(), extra_terms={"pull": Pull()})
    trainer(save_every=1).fit(small_model(), Noisy(), objective, out=tmp_path)
    assert read_checkpoint(tmp_path)["objective"]["extra_term_pull.weight"] < 1


def factor_objective() -> FactorVAEObjective:
    torch.manual_seed(1)
    discriminator = FactorDiscriminator(4, hidden=8, layers=1)
    return FactorVAEObjective(ELBO("bernoulli"), gamma=5.0, discriminator=discriminator)


def test_factor_vae_resumes_with_its_discriminator(tmp_path: Path) -> None:
    trainer(steps=4).fit(small_model(), Noisy(), factor_objective(), out=tmp_path / "twice")
    trainer(steps=8).fit(small_model(), Noisy(), factor_objective(), out=tmp_path / "twice")
    trainer(steps=8).fit(small_model(), Noisy(), factor_objective(), out=tmp_path / "once")
    twice, once = (read_checkpoint(tmp_path / name)["objective"] for name in ("twice", "once"))
    start = factor_objective().state_dict()
    assert all(torch.equal(twice[k], v) for k, v in once.items())
    assert not torch.equal(
        once["discriminator.network.fc1.weight"], start["discriminator.network.fc1.weight"]
    )


def test_discriminator_loss_does_not_reach_the_vae() -> None:
    model, objective = small_model(), factor_objective()
    objective(model, torch.rand(8, 1, 16, 16), 0)["discriminator_loss"].backward()
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(parameter.grad is not None for parameter in objective.parameters())


def test_factor_vae_loss_is_the_elbo_plus_gamma_times_the_total_correlation() -> None:
    losses = factor_objective()(small_model(), torch.rand(8, 1, 16, 16), 0)
    expected = losses["nll"] + losses["kl"] + 5.0 * losses["total_correlation"]
    torch.testing.assert_close(losses["loss"], expected)


def test_active_dimensions_are_those_of_one_pass_over_the_data() -> None:
    model, images = small_model(), torch.rand(50, 1, 16, 16)
    report = measure_active_dimensions(
        model, torch.utils.data.TensorDataset(images), device=torch.device("cpu"), batch_size=20
    )
    assert model.training
    expected = active_dimensions(*model.eval().encode(images))
    torch.testing.assert_close(report.kl, expected.kl)
    torch.testing.assert_close(report.std, expected.std)
    assert report.images == 50
