"""``captum-vae disentangle`` on a FactorVAE trained for a moment."""

import json
import warnings
from pathlib import Path

import pytest
import torch

from captum_vae.commands.main import main
from captum_vae.data import DSprites
from captum_vae.losses import ELBO
from captum_vae.models import FactorVAE
from captum_vae.training import Trainer, VAEObjective, load_vae
from captum_vae.training.model_scores import score_model
from captum_vae.training.traversal_figure import last_convolution

pytestmark = pytest.mark.filterwarnings("ignore:scores from:UserWarning")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("run")
    trainer = Trainer(steps=1, batch_size=2, accelerator="cpu", progress="off")
    objective = VAEObjective(ELBO("bernoulli", scale="logits"))
    data = DSprites(torch.arange(0, 737_280, 3001))
    trainer.fit(FactorVAE(4, output="logits"), data, objective, out=folder)
    return folder


def test_the_command_prints_a_table_and_writes_the_scores(run, tmp_path, capsys):
    report = tmp_path / "deep" / "report.json"
    arguments = ["--samples", "600", "--metrics", "[factor_vae,mig]", "--report_json", str(report)]
    assert main(["disentangle", str(run), *arguments]) == 0
    printed = capsys.readouterr().out
    assert "| factor_vae |" in printed and "| mig |" in printed and "nats per image" in printed
    stored = json.loads(report.read_text())
    assert set(stored["disentanglement"]["scores"]) == {"factor_vae", "mig"}
    assert stored["disentanglement"]["samples"] == 600
    assert stored["protocol"] == {"votes": "paper", "samples": 600, "prune": "std", "seed": 0}
    assert stored["step"] == 1 and stored["model"]["config"]["latent_dims"] == 4
    assert stored["active_dimensions"]["dimensions"] == 4
    assert stored["posterior_read_by"].startswith("PosteriorAdapter(call='encode'")


def test_the_report_lies_beside_the_checkpoint_by_default(run):
    assert main(["disentangle", str(run), "--samples", "300", "--metrics", "[mig]"]) == 0
    assert (run / "checkpoints" / "disentanglement.json").is_file()


def test_traversals_and_maps_are_drawn_on_request(run, tmp_path):
    pytest.importorskip("matplotlib")
    picture = tmp_path / "figure.png"
    arguments = ["--samples", "300", "--metrics", "[mig]", "--figure", str(picture)]
    assert main(["disentangle", str(run), *arguments, "--layer", "encoder.relu3"]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_missing_checkpoint_is_one_line(tmp_path, capsys):
    assert main(["disentangle", str(tmp_path / "nothing")]) == 2
    assert "no checkpoint or run folder" in capsys.readouterr().err


def test_the_reconstruction_is_the_binary_cross_entropy_of_the_mean(run):
    model, data = load_vae(run), DSprites(torch.arange(0, 737_280, 30_001))
    scores = score_model(model, data, metrics=["mig"], samples=20)
    images = data.images(torch.arange(len(data)))
    with torch.no_grad():
        decoded = model.reconstruct(images).clamp(1e-7, 1 - 1e-7)
    bits = -(images * decoded.log() + (1 - images) * (1 - decoded).log())
    assert scores.reconstruction == pytest.approx(bits.flatten(1).sum(1).mean().item(), rel=1e-5)


def test_collapsed_dimensions_can_be_told_by_kl(run):
    model, data = load_vae(run), DSprites(torch.arange(0, 737_280, 30_001))
    with torch.no_grad():
        model.log_variance.weight.zero_()
        model.log_variance.bias.copy_(torch.tensor([0.0, 0.0, -3.0, -3.0]))
        model.mean.weight.zero_()
        model.mean.bias.zero_()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scores = score_model(model, data, metrics=["mig"], samples=20, prune="kl")
    assert scores.disentanglement.used == (2, 3)


def test_one_dimension_moves_at_a_time_in_a_traversal(run):
    pytest.importorskip("matplotlib")
    from captum_vae.training.traversal_figure import VALUES, traverse

    model = load_vae(run)
    image = torch.rand(1, 1, 64, 64)
    drawn = traverse(model, image, [2, 0])
    with torch.no_grad():
        code = model.encode(image)[0]
        code[0, 2] = VALUES[0]
        expected = model.decode(code).sigmoid()[0]
    assert drawn.shape == (2, len(VALUES), 1, 64, 64)
    torch.testing.assert_close(drawn[0, 0], expected)


def test_the_last_convolution_of_the_encoder_is_found():
    assert last_convolution(FactorVAE(4)) == "encoder.conv4"
