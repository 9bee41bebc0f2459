"""Trained models come from the cache, killed trainings continue, cells are computed once."""

import math
import random
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from captum_vae.experiments import work as work_module
from captum_vae.experiments.cost import Planned, StepCost, announcement
from captum_vae.experiments.work import Training, Work, digest, explained_variance, steps_of
from captum_vae.files import DamagedFileError
from captum_vae.models import GaussianVAE
from captum_vae.provenance import Code
from captum_vae.training import Trainer, VAEObjective
from captum_vae.training.building import build_dataset
from captum_vae.training.configuration import DataConfig, ModelConfig, ObjectiveConfig

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
    return work.trained(Training("tiny", **chosen))


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
    kept = {path.name for path in folder.iterdir()} - {".lock"}
    assert kept == {"weights.pt", "training.json", "log.jsonl"}
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
    forward = VAEObjective.forward

    def killed_in_the_fourth_step(objective: Any, model: Any, batch: Any, step: int) -> Any:
        if step == 3:
            raise Killed
        return forward(objective, model, batch, step)

    with monkeypatch.context() as patch:
        patch.setattr(VAEObjective, "forward", killed_in_the_fourth_step)
        with pytest.raises(Killed):
            train(work)
    (folder,) = work.models.iterdir()
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["step_00000002.pt"]
    assert torch.equal(weights(train(work)), weights(uninterrupted))


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


def damaged(text: str) -> list[str]:
    """Ways in which a file of JSON may be damaged."""
    flipped = [text.replace(a, b, 1) for a, b in (("0.25", "0.35"), ("0.25", "0.24"), ("7", "6"))]
    renamed = [text.replace("checksum", "checksun"), text.replace("content", "contest")]
    junk = ["", "{", "[]", "null", "12", '{"a": 1}', text[:40], text + "}", text.replace(":", ";")]
    return [*flipped, *renamed, *junk, "\x00" * 20]


@pytest.mark.parametrize("place", range(15))
def test_a_damaged_cell_is_named_with_the_remedy(work: Work, place: int) -> None:
    value = {"auroc": 0.25, "images": 7}
    work.stored("cell", 1, lambda: value)
    (path,) = (work.out / "cells").iterdir()
    path.write_text(damaged(path.read_text())[place])
    with pytest.raises(DamagedFileError, match=r"cell-\w+.json cannot be read: .*; delete it, and"):
        work.stored("cell", 1, lambda: value)
    path.unlink()
    assert work.stored("cell", 1, lambda: value) == value


def test_a_flipped_bit_of_a_cell_is_noticed_or_changes_nothing(work: Work) -> None:
    value = {"auroc": 0.25, "images": 7, "rows": {"conv1, relu": [0.5, None]}}
    work.stored("cell", 1, lambda: value)
    (path,) = (work.out / "cells").iterdir()
    whole = path.read_bytes()
    noticed = 0
    for place in random.Random(0).choices(range(8 * len(whole)), k=300):
        flipped = bytearray(whole)
        flipped[place // 8] ^= 1 << place % 8
        path.write_bytes(flipped)
        try:
            assert work.stored("cell", 1, lambda: None) == value
        except DamagedFileError as error:
            noticed += 1
            assert path.name in str(error) and "\n" not in str(error)
    assert noticed > 200


def test_a_cell_that_is_no_text_is_named(work: Work) -> None:
    work.stored("cell", 1, lambda: 5)
    (path,) = (work.out / "cells").iterdir()
    path.write_bytes(b"\xff\xfe\x00junk")
    with pytest.raises(DamagedFileError, match=path.name):
        work.stored("cell", 1, lambda: 5)


def test_a_model_whose_weights_are_gone_is_trained_again(work: Work) -> None:
    first = train(work)
    (folder,) = work.models.iterdir()
    (folder / "weights.pt").unlink()
    assert torch.equal(weights(train(work)), weights(first))


@pytest.mark.parametrize("name", ["training.json", "weights.pt"])
def test_a_damaged_model_in_the_cache_is_named(work: Work, name: str) -> None:
    train(work)
    (folder,) = work.models.iterdir()
    (folder / name).write_bytes(b"junk")
    with pytest.raises(ValueError, match=name):
        train(work)


def test_a_cell_that_failed_is_not_stored(work: Work) -> None:
    def fail() -> None:
        raise Killed

    with pytest.raises(Killed):
        work.stored("cell", 1, fail)
    assert work.stored("cell", 1, lambda: 5) == 5


def test_a_digest_does_not_depend_on_the_order_of_keys() -> None:
    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})


def test_a_cell_is_computed_anew_by_other_code(work: Work) -> None:
    codes = [Code("1", "a1", ""), Code("1", "a1", ""), Code("1", "b2", ""), Code("1", "b2", "f00")]
    counted = [
        replace(work, code=code).stored("cell", [1], lambda number=number: number)
        for number, code in enumerate(codes)
    ]
    assert counted == [0, 0, 2, 3]


def test_a_training_says_which_code_it_was_trained_by(work: Work) -> None:
    first = replace(work, code=Code("1", "a1", ""))
    train(first)
    train(replace(work, code=Code("1", "b2", ""), trainings=first.trainings))
    assert [training["commit"] for training in first.trainings] == ["a1", "a1"]


def test_a_training_says_how_much_the_vae_explains(work: Work) -> None:
    vae = train(work)
    images = torch.stack([build_dataset(DATA)[i].image for i in range(len(build_dataset(DATA)))])
    if len(images) <= 128:
        expected = explained_variance(vae, images)
        assert work.trainings[0]["explained_variance"] == pytest.approx(expected, abs=1e-6)
    assert work.trainings[0]["explained_variance"] < 1


def test_doubts_name_rendered_data_and_models_that_have_learned_nothing(work: Work) -> None:
    assert work.doubts() == []
    good = {"name": "tile", "active_dimensions": {"active": 3}, "explained_variance": 0.4}
    work.trainings.append(good)
    assert work.doubts() == []
    work.trainings.append({**good, "name": "bottle", "active_dimensions": {"active": 0}})
    work.trainings.append({**good, "name": "screw", "explained_variance": -0.1})
    work.trainings.append({**good, "name": "zipper", "explained_variance": math.nan})
    rendered, collapsed, unlearned = work.doubts(rendered="textures, not on MVTec AD")
    assert rendered == "measured on textures, not on MVTec AD"
    assert collapsed == "no dimension is active in the VAE of bottle"
    assert unlearned.endswith("the reconstruction by the VAE of screw, zipper")


def test_a_short_training_is_not_told_that_it_collapsed(work: Work) -> None:
    work.trainings.append({"name": "tile", "active_dimensions": {"active": 0}})
    (said,) = work.doubts(share=0.002)
    assert said == "trained on 0.002 times as many images as published, below 0.1"


def test_trainings_are_announced_with_their_time_and_memory(
    work: Work, capsys: pytest.CaptureFixture[str]
) -> None:
    planned = Training("tiny", MODEL, DATA, OBJECTIVE, TRAINER)
    state = torch.get_rng_state()
    work.announce([planned, planned])
    assert torch.equal(torch.get_rng_state(), state)
    said = capsys.readouterr().out
    assert re.match(r"2 trainings to do, 12 steps in all: about \d+ s on cpu and \d\.\d GB", said)
    train(work)
    capsys.readouterr()
    work.announce([planned])
    assert capsys.readouterr().out == "0 trainings to do; 1 are kept from before\n"


def test_a_cost_of_many_steps_is_told_in_hours() -> None:
    planned = [Planned(3, 1000, StepCost(12.0, 10**9)), Planned(1, 1000, StepCost(36.0, 2 * 10**9))]
    said = announcement(planned, 0, torch.device("cpu"), processes=2)
    # 3 * 12,000 s + 36,000 s, two at a time.
    assert "4 trainings to do, 4,000 steps in all, 2 at a time: about 10.0 hours on cpu" in said
    assert "and 4.0 GB of its memory" in said


class Shrinks(nn.Module):
    """Reconstructs an image as a multiple of itself."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def reconstruct(self, images: Tensor) -> Tensor:
        return images * self.factor


@pytest.mark.parametrize(
    ("factor", "share"),
    [
        (1.0, 1.0),
        # 0, 1, 2 lie 1 + 0 + 1 around their mean; halved, each is off by half of itself.
        (0.5, 1 - (0.25 + 1) / 2),
        (0.0, 1 - (1 + 4) / 2),
    ],
)
def test_explained_variance_compares_with_the_mean_image(factor: float, share: float) -> None:
    images = torch.tensor([0.0, 1.0, 2.0]).view(3, 1, 1, 1).expand(3, 1, 1, 2)
    assert explained_variance(Shrinks(factor), images) == pytest.approx(share)


def test_images_that_are_all_alike_leave_nothing_to_explain() -> None:
    assert math.isnan(explained_variance(Shrinks(1.0), torch.ones(2, 1, 1, 2)))


def test_a_length_in_epochs_follows_the_number_of_images() -> None:
    assert steps_of(0, 1000, 32, images=2550) == 79688  # 79687.5, to the even number
    assert steps_of(7, 1000, 32, images=2550) == 7
