"""Trained models come from the cache, killed trainings continue, cells are computed once."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from captum_vae.data import OneClassDigits
from captum_vae.experiments import work as work_module
from captum_vae.experiments.work import Work, digest
from captum_vae.models import GaussianVAE
from captum_vae.training import Trainer
from captum_vae.training.fit import DataConfig, ModelConfig, ObjectiveConfig

MODEL = ModelConfig(
    "conv", {"channels": [4, 8], "hidden": 16, "latent_dims": 4, "output": "logits"}
)
DATA = DataConfig("digits", options={"digits": [1], "image_size": 16})
OBJECTIVE = ObjectiveConfig(likelihood="bernoulli")
TRAINER = Trainer(steps=6, batch_size=8, save_every=2)


class Killed(BaseException):
    """Stands for a signal that leaves no time to save."""


def train(work: Work, **changes: Any) -> GaussianVAE:
    chosen = {"model": MODEL, "data": DATA, "objective": OBJECTIVE, "trainer": TRAINER, **changes}
    return work.trained("tiny", **chosen)


@pytest.fixture
def work(tmp_path: Path) -> Work:
    return Work(tmp_path / "out", tmp_path / "models", "cpu", seed=3)


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders that were trained in."""
    folders: list[Path] = []
    original = work_module.train

    def counted(*args: Any, out: Path, **options: Any) -> Any:
        folders.append(out)
        return original(*args, out=out, **options)

    monkeypatch.setattr(work_module, "train", counted)
    return folders


def weights(vae: GaussianVAE) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in vae.parameters()])


def test_the_second_request_is_answered_from_the_cache(work: Work, trainings: list[Path]) -> None:
    first = train(work)
    again = train(replace(work, trainings=[]))
    assert len(trainings) == 1
    assert torch.equal(weights(first), weights(again))
    assert not first.training and not again.training


def test_how_a_run_is_logged_does_not_count_but_what_changes_its_outcome_does(
    work: Work, trainings: list[Path]
) -> None:
    train(work)
    train(work, trainer=replace(TRAINER, log_every=1, save_every=6, progress="off"))
    assert len(trainings) == 1
    for changes in (
        {"trainer": replace(TRAINER, steps=7)},
        {"objective": replace(OBJECTIVE, learning_rate=1e-4)},
        {"data": DataConfig("digits", options={"digits": [3], "image_size": 16})},
        {"model": replace(MODEL, options={**MODEL.options, "latent_dims": 5})},
    ):
        train(work, **changes)
    train(replace(work, seed=4))
    assert len(set(trainings)) == len(trainings) == 6


def test_only_weights_and_the_record_are_kept(work: Work) -> None:
    train(work)
    (folder,) = work.models.iterdir()
    assert {path.name for path in folder.iterdir()} == {"weights.pt", "training.json", "log.jsonl"}
    state = torch.load(folder / "weights.pt", weights_only=True)
    assert set(state) == {"format", "model", "step"}


def test_the_record_of_a_training_is_the_same_from_the_cache(work: Work) -> None:
    train(work)
    train(work)
    first, again = work.trainings
    assert first == again
    assert (first["name"], first["steps"]) == ("tiny", 6)
    assert first["active_dimensions"]["dimensions"] == 4


def test_a_killed_training_continues_to_the_same_weights(
    work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uninterrupted = train(replace(work, models=tmp_path / "elsewhere", trainings=[]))
    read = OneClassDigits.__getitem__
    calls = 0

    def killed_in_the_fourth_step(data: OneClassDigits, index: int) -> Any:
        nonlocal calls
        calls += 1
        # One image tells the shape, twice; then 8 a step.
        if calls > 2 + 3 * 8:
            raise Killed
        return read(data, index)

    with monkeypatch.context() as patch:
        patch.setattr(OneClassDigits, "__getitem__", killed_in_the_fourth_step)
        with pytest.raises(Killed):
            train(work)
    (folder,) = work.models.iterdir()
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["step_00000002.pt"]
    assert torch.equal(weights(train(work)), weights(uninterrupted))


def test_a_collapsed_training_is_named(work: Work) -> None:
    work.trainings = [
        {"name": "one", "active_dimensions": {"active": 0}},
        {"name": "two", "active_dimensions": {"active": 3}},
    ]
    assert work.collapsed == ["one"]


def test_a_cell_is_computed_once_per_key_and_seed(work: Work) -> None:
    calls: list[str] = []

    def compute(name: str) -> dict[str, str]:
        calls.append(name)
        return {"cell": name}

    assert work.stored("cell", {"a": 1}, lambda: compute("first")) == {"cell": "first"}
    assert work.stored("cell", {"a": 1}, lambda: compute("second")) == {"cell": "first"}
    assert work.stored("cell", {"a": 2}, lambda: compute("third")) == {"cell": "third"}
    other_seed = replace(work, seed=4)
    assert other_seed.stored("cell", {"a": 1}, lambda: compute("fourth")) == {"cell": "fourth"}
    assert calls == ["first", "third", "fourth"]


def test_a_cell_that_failed_is_not_stored(work: Work) -> None:
    def fail() -> None:
        raise Killed

    with pytest.raises(Killed):
        work.stored("cell", 1, fail)
    assert work.stored("cell", 1, lambda: 5) == 5


def test_a_digest_does_not_depend_on_the_order_of_keys() -> None:
    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})


def test_a_cell_is_computed_anew_by_other_code(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    commits = iter(["a1", "a1", "b2"])
    monkeypatch.setattr(work_module, "commit", lambda: next(commits))
    counted = [work.stored("cell", [1], lambda number=number: number) for number in range(3)]
    assert counted == [0, 0, 2]


def test_a_training_says_which_code_it_was_trained_by(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work_module, "commit", lambda: "a1")
    train(work)
    monkeypatch.setattr(work_module, "commit", lambda: "b2")
    train(work)
    assert [training["commit"] for training in work.trainings] == ["a1", "a1"]


def test_doubts_name_rendered_data_and_collapsed_models(work: Work) -> None:
    assert work.doubts() == []
    work.trainings.append({"name": "bottle", "active_dimensions": {"active": 0}})
    assert work.doubts(["nothing was learned"], rendered="textures, not on MVTec AD") == [
        "measured on textures, not on MVTec AD",
        "nothing was learned",
        "no dimension is active in the VAE of bottle",
    ]
