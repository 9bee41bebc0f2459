"""A run is continued from its own checkpoints, on its own images, by one process at a time."""

import json
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset

from captum_vae.data import Augmented, ImageFolder, OneClassDigits
from captum_vae.losses import ELBO
from captum_vae.training import Trainer, VAEObjective, load_vae
from captum_vae.training.checkpoint import read_checkpoint, write_checkpoint
from captum_vae.training.data_digest import data_digest
from tests.training.small_run import Noisy, small_model, train


def resume(out: Path, steps: int = 16) -> Any:
    return train(str(out), {"steps": steps})


def test_a_finished_run_continues_where_it_stopped(run: Path, tmp_path: Path) -> None:
    resumed, whole = resume(run), train(str(tmp_path / "whole"), {"steps": 16})
    a, b = read_checkpoint(resumed.checkpoint), read_checkpoint(whole.checkpoint)
    assert all(torch.equal(a["model"]["weights"][k], v) for k, v in b["model"]["weights"].items())
    assert resumed.active.count == whole.active.count


def test_a_finished_run_is_reported_again_without_training(run: Path) -> None:
    last = json.loads((run / "log.jsonl").read_text().splitlines()[-1])
    again = resume(run, steps=14)
    assert again.step == 14 and again.checkpoint.name == "step_00000014.pt"
    assert again.losses["nll"] == pytest.approx(last["nll"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 4}, "batch_size was 8, now 4"),
        ({"seed": 4}, "seed was 3, now 4"),
        ({"precision": "bfloat16"}, "precision was 'float32', now 'bfloat16'"),
        ({"plain": True}, "latent_dims|norm: 'batch' in the checkpoint, 'none' in the model"),
    ],
)
def test_other_settings_are_refused_by_name(
    run: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=f"cannot resume from .*step_00000014.pt.*{message}"):
        train(str(run), {"steps": 16, **options})


def test_a_folder_that_holds_a_run_is_refused_on_request(run: Path) -> None:
    with pytest.raises(ValueError, match="already holds a run"):
        Trainer(steps=16, accelerator="cpu").fit(
            small_model(), Noisy(), VAEObjective(ELBO()), out=run, resume="never"
        )


STRAYS: dict[str, Callable[[Path], Any]] = {
    "words": lambda folder: (folder / "step_foo.pt").write_text("notes"),
    "junk": lambda folder: (folder / "step_99999999.pt").write_bytes(b"\x00" * 100),
    "empty": lambda folder: (folder / "step_99999999.pt").touch(),
    "folder": lambda folder: (folder / "step_99999999.pt").mkdir(),
    "foreign": lambda folder: torch.save({"w": torch.ones(3)}, folder / "step_99999999.pt"),
    "tensor": lambda folder: torch.save(torch.ones(3), folder / "step_00000015.pt"),
    "renamed": lambda folder: shutil.copy(folder / "step_00000007.pt", folder / "step_99999999.pt"),
    "dangling": lambda folder: (folder / "step_99999999.pt").symlink_to("gone"),
    "backup": lambda folder: shutil.copy(
        folder / "step_00000007.pt", folder / "step_00000007 (copy).pt"
    ),
    "a model alone": lambda folder: write_checkpoint(
        folder / "step_00000015.pt",
        {"step": 15, "model": read_checkpoint(folder / "step_00000014.pt")["model"]},
    ),
    "other run": lambda folder: shutil.copy(
        _other_run(folder.parent.parent), folder / "step_00000015.pt"
    ),
}


def _other_run(folder: Path) -> Path:
    out = folder / "other"
    return train(str(out), {"steps": 15, "seed": 8, "save_every": 15}).checkpoint


@pytest.mark.parametrize("name", STRAYS)
def test_a_stray_file_neither_stops_nor_steers_a_resume(
    run: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    STRAYS[name](run / "checkpoints")
    before = {path.name for path in (run / "checkpoints").iterdir()}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = resume(run)
    assert "resuming after step 14" in capsys.readouterr().out
    assert result.checkpoint.name == "step_00000016.pt"
    assert any("is passed over" in str(warning.message) for warning in caught)
    after = {path.name for path in (run / "checkpoints").iterdir()}
    assert before - after <= {"step_00000007.pt"}, "a stray file was deleted"


def test_a_damaged_checkpoint_is_refused_with_the_good_weights_before_it(run: Path) -> None:
    last = run / "checkpoints" / "step_00000014.pt"
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 4
    last.write_bytes(content)
    with pytest.raises(ValueError, match="step_00000014.pt cannot be read: it is damaged") as told:
        resume(run)
    assert "step_00000007.pt beside it is good: use its weights" in str(told.value)
    last.unlink()
    with pytest.raises(ValueError, match=r"only the last .* resume='weights' goes on from them"):
        resume(run)


def test_a_run_whose_last_checkpoint_is_damaged_goes_on_from_the_weights_before(run: Path) -> None:
    older, last = (run / "checkpoints" / f"step_{step:08d}.pt" for step in (7, 14))
    before = read_checkpoint(older)["model"]["weights"]
    last.write_bytes(content := last.read_bytes()[:-9])
    with pytest.warns(UserWarning, match="step_00000014.pt is damaged, and kept as"):
        result = train(str(run), {"steps": 7}, resume="weights")
    assert result.step == 7
    assert all(
        torch.equal(value, before[name]) for name, value in load_vae(run).state_dict().items()
    )
    assert last.with_suffix(".pt.damaged").read_bytes() == content
    again = train(str(run), {"steps": 16}, resume="weights")
    assert again.step == 16 and again.checkpoint.name == "step_00000016.pt"
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    steps = [line["step"] for line in lines if "step" in line]
    assert steps == sorted(set(steps))


def test_the_last_checkpoint_alone_holds_what_a_resume_needs(run: Path) -> None:
    older, last = (run / "checkpoints" / f"step_{step:08d}.pt" for step in (7, 14))
    assert "optimizers" not in read_checkpoint(older) and "optimizers" in read_checkpoint(last)
    assert older.stat().st_size < 0.5 * last.stat().st_size
    load_vae(older)
    assert resume(run).step == 16
    assert "optimizers" not in read_checkpoint(last)


def test_a_run_whose_checkpoints_are_all_lost_is_not_started_anew(run: Path) -> None:
    for path in (run / "checkpoints").iterdir():
        path.write_bytes(b"")
    with pytest.raises(ValueError, match="holds the log of a run but no checkpoint.*it is empty"):
        resume(run)


def test_a_checkpoint_of_before_there_were_digests_is_resumed(run: Path) -> None:
    for path in (run / "checkpoints").iterdir():
        state = torch.load(path, weights_only=True)
        del state["settings"]["data"]
        torch.save(state, path)
    assert resume(run).step == 16


class Images(Dataset[Tensor]):
    """Images of a data set that says nothing about itself."""

    def __init__(self, images: Tensor) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return self.images[index]


def pixels(count: int = 12, seed: int = 0) -> Tensor:
    return torch.rand(count, 1, 16, 16, generator=torch.Generator().manual_seed(seed))


def with_one_pixel(images: Tensor) -> Tensor:
    changed = images.clone()
    changed[5, 0, 3, 3] = 1 - changed[5, 0, 3, 3].round()
    return changed


OTHERS: dict[str, tuple[Any, Any]] = {
    "other images": (Images(pixels()), Images(pixels(seed=1))),
    "one pixel": (Images(pixels()), Images(with_one_pixel(pixels()))),
    "other order": (Images(pixels()), Images(pixels().flip(0))),
    "mirrored": (Images(pixels()), Images(pixels().flip(-1))),
    "brighter": (Images(pixels()), Images((pixels() + 0.1).clamp(max=1))),
    "tensors": (TensorDataset(pixels()), TensorDataset(pixels(seed=1))),
    "a list": (list(pixels()), list(pixels(seed=1))),
    "transposed shape": (Images(pixels()), Images(pixels().reshape(12, 1, 8, 32))),
    "another digit": (
        OneClassDigits(digits=[1], image_size=16),
        OneClassDigits(digits=[7], image_size=16),
    ),
    "many images": (Images(pixels(640)), Images(pixels(640, seed=1))),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_data_have_another_digest_and_the_same_the_same(name: str) -> None:
    one, other = OTHERS[name]
    assert data_digest(one) == data_digest(one) != data_digest(other)


def test_the_digest_of_random_augmentation_is_the_same_at_every_call() -> None:
    data = Augmented(OneClassDigits(digits=[1], image_size=16), length=80, rotation=20)
    torch.manual_seed(1)
    first = data_digest(data)
    torch.manual_seed(2)
    assert data_digest(data) == first


def test_the_digest_of_an_augmentation_depends_on_the_images_and_the_options() -> None:
    ones, sevens = (OneClassDigits(digits=[digit], image_size=16) for digit in (1, 7))
    options: list[dict[str, Any]] = [{}, {"rotation": 5}, {"mirror": 0}, {"seed": 1}]
    sets = [Augmented(data, length=80, **chosen) for data in (ones, sevens) for chosen in options]
    assert len({data_digest(data) for data in sets}) == len(sets)


def test_reading_for_the_digest_leaves_the_generators_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(())
    torch.manual_seed(5)
    data_digest(Noisy())
    assert torch.rand(()) == expected


def fit(data: Any, out: Path, steps: int) -> Any:
    trainer = Trainer(steps=steps, batch_size=4, accelerator="cpu", progress="off")
    return trainer.fit(small_model(), data, VAEObjective(ELBO()), out=out)


def test_as_many_other_images_are_refused(tmp_path: Path) -> None:
    fit(Images(pixels()), tmp_path, 2)
    with pytest.raises(ValueError, match="data: the 12 images are not those that it was trained"):
        fit(Images(pixels(seed=1)), tmp_path, 4)
    assert fit(Images(pixels()), tmp_path, 4).step == 4


def test_as_many_images_of_another_folder_are_refused(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(6):
            image = Image.fromarray(draw.integers(0, 255, (16, 16), dtype=np.uint8))
            image.save(tmp_path / name / f"{number}.png")
    fit(ImageFolder(tmp_path / "a"), tmp_path / "run", 2)
    with pytest.raises(ValueError, match="the 6 images are not those .* another output folder"):
        fit(ImageFolder(tmp_path / "b"), tmp_path / "run", 4)


HOLD = """
import sys, time
from captum_vae.files import holding
with holding(sys.argv[1]):
    print("held", flush=True)
    time.sleep(100)
"""


def test_two_runs_in_one_folder_are_refused_until_the_first_ends_or_dies(run: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(run)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    with pytest.raises(ValueError, match=rf"is being written by process {holder.pid} on"):
        resume(run)
    holder.kill()
    holder.wait()
    holder.stdout.close()
    assert resume(run).step == 16


class DiesAt(Images):
    """An image whose reading kills the process that reads it."""

    def __getitem__(self, index: int) -> Tensor:
        if index == 3 and torch.utils.data.get_worker_info() is not None:
            os._exit(9)
        return super().__getitem__(index)


class FailsAt(Images):
    """An image that raises what no reader should."""

    def __getitem__(self, index: int) -> Tensor:
        if index == 3:
            raise {"key": KeyError("label"), "file": FileNotFoundError("3.png is gone")}[self.kind]
        return super().__getitem__(index)

    kind = "key"


class FailsWithoutFile(FailsAt):
    kind = "file"


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    ("data", "kind", "message"),
    [
        (FailsAt, ValueError, "data set cannot give the items .*KeyError: 'label'"),
        (FailsWithoutFile, FileNotFoundError, "^3.png is gone$"),
    ],
)
def test_an_image_that_cannot_be_read_is_one_line_also_in_another_process(
    tmp_path: Path, data: Any, kind: type[Exception], message: str, workers: int
) -> None:
    trainer = Trainer(steps=9, batch_size=4, accelerator="cpu", workers=workers)
    with pytest.raises(kind, match=message) as caught:
        trainer.fit(small_model(), data(pixels(12)), VAEObjective(ELBO()), out=tmp_path)
    assert "\n" not in str(caught.value)


def test_a_process_that_reads_and_dies_is_one_line(tmp_path: Path) -> None:
    trainer = Trainer(steps=9, batch_size=4, accelerator="cpu", workers=1)
    with pytest.raises(ChildProcessError, match="a process that loads images died") as caught:
        trainer.fit(small_model(), DiesAt(pixels()), VAEObjective(ELBO()), out=tmp_path)
    assert "\n" not in str(caught.value)
