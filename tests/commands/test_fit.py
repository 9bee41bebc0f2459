"""``captum-vae fit`` on models, data and files of the user's own."""

import json
import textwrap
from pathlib import Path

import pytest

from captum_vae.commands.main import main
from captum_vae.training import load_vae

MODULE = """
    import torch
    from torch import nn
    from torch.utils.data import Dataset

    from captum_vae.models import ConvVAE

    class Good(ConvVAE):
        def __init__(self, image_size, in_channels, width=4):
            super().__init__(3, image_size=image_size, in_channels=in_channels,
                             channels=[width, 8], hidden=8)
            self.width = width

        @property
        def config(self):
            return {"image_size": self.image_size, "in_channels": self.in_channels,
                    "width": self.width}

    class Plain(nn.Module):
        def __init__(self, image_size, in_channels):
            super().__init__()
            self.layer = nn.Linear(1, 1)

    class NoSize(nn.Module):
        def __init__(self):
            super().__init__()

    class Raises(nn.Module):
        def __init__(self, **options):
            raise KeyError("width")

    def nothing(**options):
        return None

    class Pixels(Dataset):
        def __init__(self, kind="good", count=6):
            self.kind, self.count = kind, count

        def __len__(self):
            return self.count

        def __getitem__(self, index):
            if self.kind == "raises":
                raise KeyError("pixels")
            image = torch.rand(1, 16, 16)
            return {"good": image, "bytes": (image * 255).byte(), "nan": image * float("nan"),
                    "none": None, "sizes": torch.rand(1, 16, 16 + index),
                    "volumes": torch.rand(1, 4, 16, 16)}[self.kind]

    number = 3
"""

SMALL = ["--trainer.steps", "2", "--trainer.batch_size", "4", "--trainer.accelerator", "cpu"]
CONV = ["--model.name", "conv", "--model.options", '{"latent_dims": 2, "channels": [4, 8]}']


@pytest.fixture(autouse=True)
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The current folder holds a module of the user's."""
    (tmp_path / "fit_mine.py").write_text(textwrap.dedent(MODULE))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(__import__("sys").modules, "fit_mine", raising=False)


def test_a_model_and_a_data_set_of_ones_own_are_trained_and_loaded(tmp_path: Path) -> None:
    model = ["--model.name", "fit_mine:Good", "--model.options.width", "5"]
    arguments = [*model, "--data.name", "fit_mine:Pixels", *SMALL, "--out", "run"]
    assert main(["fit", *arguments]) == 0
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["protocol"]["data"]["shape"] == [1, 16, 16]
    from fit_mine import Good

    assert load_vae("run", Good([16, 16], 1, width=5)).width == 5


MODELS = {
    "Plain": "gave Plain, which lacks encode, decode, config, latent_shape, output; wanted",
    "NoSize": "cannot be built with .*image_size.*: TypeError.*called with image_size, in_channels",
    "Raises": "cannot be built with .*KeyError: 'width'",
    "nothing": "gave NoneType, which lacks torch.nn.Module as its base, encode",
    "number": "is a int; wanted a class, or a function that returns a model",
    "Absent": "does not import .*Absent",
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_of_another_contract_is_told_what_to_offer(
    capsys: pytest.CaptureFixture[str], name: str
) -> None:
    import re

    arguments = ["--model.name", f"fit_mine:{name}", "--data.name", "fit_mine:Pixels", *SMALL]
    assert main(["fit", *arguments, "--out", "run"]) == 2
    said = capsys.readouterr().err.strip()
    assert re.search(MODELS[name], said) and len(said.splitlines()) == 1
    assert f"fit_mine:{name}" in said


DATA = {
    "bytes": "divide by 255",
    "nan": "item 0 of the data set has pixels that are NaN or infinite",
    "none": "got NoneType",
    "sizes": "have the shapes",
    "volumes": "(C, H, W), got (1, 4, 16, 16)",
    "raises": "KeyError: 'pixels'",
    "absent": "KeyError: 'absent'",
}


@pytest.mark.parametrize("kind", DATA)
def test_data_that_are_no_images_are_one_line(
    capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    data = ["--data.name", "fit_mine:Pixels", "--data.options.kind", kind]
    assert main(["fit", *CONV, *data, *SMALL, "--out", "run"]) == 2
    said = capsys.readouterr().err.strip()
    assert DATA[kind] in said and len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--trainer.seed", str(2**70)], "must be at most"),
        (["--trainer.steps", "1.5"], "steps"),
        (["--trainer.workers", "-1"], "workers"),
        (["--trainer.batch_size", "four"], "batch_size"),
        (["--objective.learning_rate", "nan"], "learning_rate"),
        (["--objective.warmup_steps", "-2"], "warmup_steps"),
        (["--objective.attention.layer", "encoder.conv9"], "encoder.conv9"),
        (["--data.options.count", "0"], "empty"),
        (["--out", "fit_mine.py"], "fit_mine.py"),
        (["--resume", "yes"], "resume"),
        (["--report_json", "fit_mine.py/report.json"], "fit_mine.py/report.json"),
    ],
)
def test_a_mistake_is_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    given = [*CONV, "--data.name", "fit_mine:Pixels", *SMALL, "--out", "run", *arguments]
    assert main(["fit", *given]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert message in said and said.startswith("captum-vae: error: ")


def test_a_warm_up_longer_than_training_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--objective.warmup_steps", "300", "--out", "run"]
    assert main(["fit", *CONV, "--data.name", "fit_mine:Pixels", *SMALL, *options]) == 0
    assert "warmup_steps 300 is longer than the 2 steps" in capsys.readouterr().err
