"""Stacked runs are the runs of the trainer: the same losses, weights, files and refusals."""

import json
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from captum_vae.data import DSprites
from captum_vae.experiments.seed_run import SeedRun
from captum_vae.experiments.seed_runs import build_run
from captum_vae.losses import ELBO, AttentionDisentanglementLoss
from captum_vae.models import ConvVAE, FactorDiscriminator
from captum_vae.models.base import GaussianVAE
from captum_vae.training import (
    AttentionTerm,
    FactorVAEObjective,
    NonFiniteLossError,
    Trainer,
    VAEObjective,
    load_vae,
)
from captum_vae.training.checkpoint import list_checkpoints, read_checkpoint
from captum_vae.training.configuration import TrainerConfig
from captum_vae.training.random_state import seed_everything
from captum_vae.training.stacked import StackedRun, fit_stacked
from captum_vae.training.stacked_inputs import BlockNoise

SEEDS = (0, 1, 5)
VARIANTS = ("vae", "factorvae", "paper", "normalised", "replication")


class Squares(Dataset[Tensor]):
    """Fifty images of a bright square, in double precision."""

    def __len__(self) -> int:
        return 50

    def __getitem__(self, index: int) -> Tensor:
        image = torch.zeros(1, 16, 16, dtype=torch.float64)
        row, column = index % 7 + 1, index // 7 + 1
        image[:, row : row + 5, column : column + 4] = 1
        return image


def parts(seed: int, variant: str, **options: Any) -> tuple[nn.Module, VAEObjective]:
    """A small model and its objective before the first step of a seed."""
    seed_everything(seed)
    model = ConvVAE(4, image_size=16, channels=(4, 8), hidden=12, output="logits").double()
    elbo = ELBO("bernoulli", scale="logits", warmup_steps=20)
    if variant == "vae":
        return model, VAEObjective(elbo, **options)
    terms = {}
    if variant != "factorvae":
        loss = AttentionDisentanglementLoss(variant, gate="kl")  # type: ignore[arg-type]
        terms["attention_overlap"] = AttentionTerm(loss, layer="encoder.conv2", weight=20.0)
    discriminator = FactorDiscriminator(4, hidden=20).double()
    return model, FactorVAEObjective(
        elbo, gamma=20.0, discriminator=discriminator, extra_terms=terms, **options
    )


def config(**options: Any) -> TrainerConfig:
    settings = {"batch_size": 8, "accelerator": "cpu", "save_every": 1000, "log_every": 10}
    return TrainerConfig(**{**settings, "progress": "off", **options})


def single(seed: int, variant: str, out: Path, **options: Any) -> nn.Module:
    model, objective = parts(seed, variant)
    trainer = Trainer.of(config(**options, seed=seed))
    trainer.fit(model, Squares(), objective, out=out / f"seed_{seed}")
    return model


def stacked(
    variant: str, out: Path, *, seeds: tuple[int, ...] = SEEDS, at_once: int = 1, **options: Any
) -> list[StackedRun]:
    runs = [StackedRun(seed, *parts(seed, variant), out / f"seed_{seed}") for seed in seeds]  # type: ignore[arg-type]
    fit_stacked(runs, Squares(), config(**options), at_once=at_once)
    return runs


def log_of(out: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "images_per_second"} for line in lines]


@pytest.mark.parametrize(
    ("variant", "at_once"),
    [
        ("normalised", 2),
        *(pytest.param(v, n, marks=pytest.mark.slow) for v in VARIANTS for n in (1, 3)),
    ],
)
def test_a_hundred_steps_are_those_of_the_trainer(
    variant: str, at_once: int, tmp_path: Path
) -> None:
    runs = stacked(variant, tmp_path / "stacked", steps=100, at_once=at_once)
    for run in runs:
        model = single(run.seed, variant, tmp_path / "single", steps=100)
        for name, weight in model.named_parameters():
            trained = run.model.get_parameter(name)
            torch.testing.assert_close(trained, weight, rtol=1e-6, atol=1e-8)
        ours, theirs = log_of(run.out), log_of(tmp_path / "single" / run.out.name)
        assert [line.keys() for line in ours] == [line.keys() for line in theirs]
        for line, other in zip(ours, theirs, strict=True):
            assert line == pytest.approx(other, rel=1e-6, abs=1e-8)


class Sprites(Dataset[Tensor]):
    """Forty images from all over dSprites, in double precision."""

    def __init__(self) -> None:
        self.data = DSprites()

    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int) -> Tensor:
        return self.data[index * (len(self.data) // 40)][0].double()


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["factorvae", "normalised"])
def test_the_published_models_take_the_steps_of_the_trainer(
    variant: Literal["factorvae", "normalised"], tmp_path: Path
) -> None:
    def built(seed: int) -> tuple[GaussianVAE, VAEObjective]:
        model, objective = build_run(SeedRun(variant, seed, steps=10, batch_size=8, gamma=40.0))
        objective.discriminator.double()
        return model.double(), objective

    data = Sprites()
    runs = [StackedRun(seed, *built(seed), tmp_path / str(seed)) for seed in (0, 1)]
    fit_stacked(runs, data, config(steps=10))
    for run in runs:
        model, objective = built(run.seed)
        out = tmp_path / f"single_{run.seed}"
        Trainer.of(config(steps=10, seed=run.seed)).fit(model, data, objective, out=out)
        for name, weight in model.named_parameters():
            trained = run.model.get_parameter(name)
            torch.testing.assert_close(trained, weight, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("variant", ["vae", "normalised"])
def test_a_resumed_stack_ends_as_an_uninterrupted_one(variant: str, tmp_path: Path) -> None:
    stacked(variant, tmp_path / "twice", steps=13, at_once=2)
    twice = stacked(variant, tmp_path / "twice", steps=30, at_once=1)
    once = stacked(variant, tmp_path / "once", steps=30, at_once=1)
    for a, b in zip(twice, once, strict=True):
        assert all(torch.equal(w, b.model.get_parameter(n)) for n, w in a.model.named_parameters())


def test_the_trainer_goes_on_where_a_stack_stopped_and_a_stack_where_the_trainer_did(
    tmp_path: Path,
) -> None:
    whole = single(0, "factorvae", tmp_path / "whole", steps=40)
    stacked("factorvae", tmp_path / "a", seeds=(0,), steps=20)
    first = single(0, "factorvae", tmp_path / "a", steps=40)
    single(0, "factorvae", tmp_path / "b", steps=20)
    (second,) = stacked("factorvae", tmp_path / "b", seeds=(0,), steps=40)
    for name, weight in whole.named_parameters():
        torch.testing.assert_close(first.get_parameter(name), weight, rtol=1e-6, atol=1e-8)
        torch.testing.assert_close(second.model.get_parameter(name), weight, rtol=1e-6, atol=1e-8)


def test_each_run_leaves_a_checkpoint_that_rebuilds_its_model(tmp_path: Path) -> None:
    (run, *_) = stacked("factorvae", tmp_path, steps=4, save_every=2, keep=2)
    paths = list_checkpoints(run.out / "checkpoints")
    assert [path.stem for path in paths] == ["step_00000002", "step_00000004"]
    assert "optimizers" not in read_checkpoint(paths[0])
    rebuilt = load_vae(run.out)
    image = torch.rand(2, 1, 16, 16)
    torch.testing.assert_close(rebuilt(image)[1], run.model.float()(image)[1])


@pytest.mark.slow
def test_a_stack_killed_between_two_checkpoints_goes_on_from_the_step_that_all_have(
    tmp_path: Path,
) -> None:
    once = stacked("factorvae", tmp_path / "once", steps=9)
    stacked("factorvae", tmp_path / "killed", steps=4)
    before = (tmp_path / "killed" / "seed_0" / "checkpoints" / "step_00000004.pt").read_bytes()
    stacked("factorvae", tmp_path / "killed", steps=6)
    # As if it had been killed after the first run's checkpoint at step 6 was written.
    stacked("factorvae", tmp_path / "other", steps=4)
    for name in ("seed_1", "seed_5"):
        source = tmp_path / "other" / name / "checkpoints"
        target = tmp_path / "killed" / name / "checkpoints"
        (target / "step_00000006.pt").unlink()
        (target / "step_00000004.pt").write_bytes((source / "step_00000004.pt").read_bytes())
    (tmp_path / "killed" / "seed_0" / "checkpoints" / "step_00000004.pt").write_bytes(before)
    again = stacked("factorvae", tmp_path / "killed", steps=9)
    for a, b in zip(again, once, strict=True):
        assert all(torch.equal(w, b.model.get_parameter(n)) for n, w in a.model.named_parameters())


def test_runs_that_stopped_at_different_steps_are_refused_with_their_steps(tmp_path: Path) -> None:
    stacked("vae", tmp_path, seeds=(0,), steps=3)
    stacked("vae", tmp_path, seeds=(1,), steps=5)
    with pytest.raises(ValueError, match=r"different steps \(seed_0: 3, seed_1: 5\)"):
        stacked("vae", tmp_path, seeds=(0, 1), steps=9)


def test_a_seed_that_diverges_is_named(tmp_path: Path) -> None:
    runs = [StackedRun(seed, *parts(seed, "vae"), tmp_path / str(seed)) for seed in (3, 4)]  # type: ignore[arg-type]
    with torch.no_grad():
        runs[1].model.get_parameter("mean.bias").fill_(float("nan"))
    with pytest.raises(NonFiniteLossError, match="the loss of seed 4 is not finite at step 0"):
        fit_stacked(runs, Squares(), config(steps=3))


def test_noise_drawn_in_blocks_depends_on_seed_and_step_alone() -> None:
    def source(*seeds: int) -> BlockNoise:
        return BlockNoise(seeds, (3, 2), discriminated=True, device=torch.device("cpu"))

    together, alone = source(1, 2), source(2)
    for step in (0, 1, 63, 64, 5):
        for a, b in zip(together.draw(step), alone.draw(step), strict=True):
            assert a is not None and b is not None
            assert torch.equal(a[1], b[0]) and not torch.equal(a[0], a[1])
    assert not torch.equal(alone.draw(0).decoded, alone.draw(1).decoded)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"learning_rate": 0.5}, "stacked runs differ in their seed alone"),
        ({"layer": "encoder.conv1"}, "maps at encoder.conv2 or encoder.relu2, got encoder.conv1"),
        ({"pairs": 2}, "not a number of them"),
    ],
)
def test_objectives_that_cannot_be_stacked_are_refused(
    change: dict[str, Any], words: str, tmp_path: Path
) -> None:
    def run(seed: int, **options: Any) -> StackedRun:
        model, objective = parts(seed, "factorvae")
        if "learning_rate" in options:
            objective.learning_rate = options["learning_rate"]
        elif options:
            loss = AttentionDisentanglementLoss(pairs=options.get("pairs", "all"))
            term = AttentionTerm(loss, layer=options.get("layer", "encoder.conv2"))
            objective.extra_terms = {"attention_overlap": term}
        return StackedRun(seed, model, objective, tmp_path / str(seed))  # type: ignore[arg-type]

    first = {} if "learning_rate" in change else change
    with pytest.raises(ValueError, match=words):
        fit_stacked([run(0, **first), run(1, **change)], Squares(), config(steps=1))


def test_a_cuda_graph_without_a_cuda_device_is_refused(tmp_path: Path) -> None:
    run = StackedRun(0, *parts(0, "vae"), tmp_path)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="needs a CUDA device"):
        fit_stacked([run], Squares(), config(steps=1), cuda_graph="on")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("graph", ["off", "on"])
def test_a_gpu_trains_to_the_losses_of_the_cpu(graph: Any, tmp_path: Path) -> None:
    def trained(name: str, **options: Any) -> list[dict[str, Any]]:
        runs = []
        for seed in SEEDS:
            model, objective = parts(seed, "normalised")
            runs.append(
                StackedRun(seed, model.float(), objective.float(), tmp_path / name / str(seed))
            )  # type: ignore[arg-type]
        data = [image.float() for image in Squares()]  # type: ignore[attr-defined]
        fit_stacked(runs, data, config(steps=300, **options.pop("config")), **options)  # type: ignore[arg-type]
        return [log_of(run.out)[-1] for run in runs]

    gpu = trained("gpu", config={"accelerator": "cuda"}, cuda_graph=graph)
    cpu = trained("cpu", config={})
    for a, b in zip(gpu, cpu, strict=True):
        assert a["nll"] == pytest.approx(b["nll"], rel=0.1)
