"""``captum-vae disentangle`` on a FactorVAE trained for a moment."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from captum_vae.commands.main import main
from captum_vae.data import DSprites
from captum_vae.data.dsprites_factors import factor_values
from captum_vae.losses import ELBO
from captum_vae.models import FactorVAE
from captum_vae.training import Trainer, VAEObjective

pytestmark = pytest.mark.filterwarnings("ignore:scores from:UserWarning")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("run")
    trainer = Trainer(steps=1, batch_size=2, accelerator="cpu", progress="off")
    objective = VAEObjective(ELBO("bernoulli", scale="logits"))
    data = DSprites(torch.arange(0, 737_280, 30_001))
    trainer.fit(FactorVAE(4, output="logits"), data, objective, out=folder)
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A part of dSprites as a file."""
    path = tmp_path_factory.mktemp("data") / "part.npz"
    data = DSprites(torch.arange(0, 737_280, 3001))
    pixels = data.images(torch.arange(len(data)))[:, 0].numpy().astype(np.uint8)
    np.savez(path, imgs=pixels, latents_values=factor_values(data.classes).numpy())
    return path


def test_the_command_prints_a_table_writes_the_scores_and_draws(run, images, tmp_path, capsys):
    report, picture = tmp_path / "deep" / "report.json", tmp_path / "figure.png"
    options = ["--samples", "200", "--metrics", "[factor_vae,mig]", "--npz", str(images)]
    files = ["--report_json", str(report), "--figure", str(picture), "--layer", "encoder.relu3"]
    assert main(["disentangle", str(run), *options, *files]) == 0
    printed = capsys.readouterr().out
    assert "| factor_vae |" in printed and "| mig |" in printed and "nats per image" in printed
    stored = json.loads(report.read_text())
    assert set(stored["disentanglement"]["scores"]) == {"factor_vae", "mig"}
    assert stored["disentanglement"]["samples"] == 200
    assert stored["protocol"] == {"votes": "paper", "samples": 200, "prune": "std", "seed": 0}
    assert stored["data"] == {"name": "dsprites", "images": 246, "drawn": False}
    assert stored["step"] == 1 and stored["model"]["config"]["latent_dims"] == 4
    assert stored["active_dimensions"]["dimensions"] == 4
    assert stored["posterior_read_by"].startswith("PosteriorAdapter(call='encode'")
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_the_report_lies_beside_the_checkpoint_by_default(run, images):
    options = ["--samples", "50", "--metrics", "[mig]", "--npz", str(images)]
    assert main(["disentangle", str(run), *options]) == 0
    assert (run / "checkpoints" / "disentanglement.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "no checkpoint or run folder"),
        (["RUN", "--samples", "0"], "samples"),
        (["RUN", "--seed", "-1"], "seed"),
        (["RUN", "--device", "gpu"], "device"),
        (["RUN", "--prune", "mean"], "prune"),
        (["RUN", "--protocol", "quick"], "protocol"),
        (["RUN", "--metrics", "[mig,auc]"], "metrics"),
        (["RUN", "--npz", "RUN/log.jsonl"], "log.jsonl"),
        (["RUN/log.jsonl"], "log.jsonl cannot be read"),
    ],
)
def test_a_mistake_is_one_line(run, images, capsys, arguments, message):
    arguments = [argument.replace("RUN", str(run)) for argument in arguments]
    data = [] if "--npz" in arguments else ["--npz", str(images)]
    assert main(["disentangle", *arguments, *data]) == 2
    said = capsys.readouterr().err.strip()
    assert message in said and len(said.splitlines()) == 1
