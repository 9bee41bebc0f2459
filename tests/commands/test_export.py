"""``captum-vae export``: a user's model on the command line becomes the file that Python writes."""

import pytest
import torch

from captum_vae import LatentGradCAM
from captum_vae.attr.export import read_metadata
from captum_vae.commands.main import main
from captum_vae.training import load_vae
from tests.attr.export.test_saving import run
from tests.explain import own_models
from tests.explain.own_models import SIDE
from tests.training.small_run import train

OWN = "tests.explain.own_models"
IMAGES = torch.rand(5, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def assert_same_maps(path, model, layer, images, **options):
    maps = run(path, images)["maps"]
    expected = LatentGradCAM(model, layer).attribute(images, **options)
    assert (maps - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize("name", ["maps.onnx", "maps.pt2"])
def test_a_model_of_ones_own_becomes_a_file_of_the_format_that_its_ending_tells(
    tmp_path, capsys, name
):
    path = tmp_path / name
    made = [f"{OWN}:conv_vae", "--model_options", "{latent_dims: 4}", "--layer", "encoder.conv2"]
    chosen = ["--dims", "2,0", "--outputs", "maps,mean", "--options", "{size: input}"]
    assert main(["export", "--model", *made, *chosen, "--out", str(path)]) == 0
    assert str(path) in capsys.readouterr().out
    model = own_models.conv_vae(4).eval()
    assert_same_maps(path, model, "encoder.conv2", IMAGES, target=[2, 0], size="input")
    torch.testing.assert_close(run(path, IMAGES)["mean"], model.encode(IMAGES)[0])
    assert read_metadata(path)["options"]["size"] == "input"


def test_the_folder_of_a_run_is_exported_with_its_weights(tmp_path):
    train(str(tmp_path / "run"), {"steps": 7})
    path = tmp_path / "maps.onnx"
    model = load_vae(tmp_path / "run").eval()
    layer = "encoder.conv1"
    given = ["--model", str(tmp_path / "run"), "--layer", layer, "--out", str(path)]
    assert main(["export", *given]) == 0
    assert_same_maps(path, model, layer, torch.rand(3, model.in_channels, *model.image_size))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--out", "maps.bin"], "whose ending tells no format"),
        (["--layer", "encoder.conv9"], "encoder.conv9"),
        (["--dims", "9"], "9"),
        (["--options", "{rectified: abs}"], "rectified"),
    ],
)
def test_what_cannot_be_is_one_line_and_writes_nothing(
    tmp_path, monkeypatch, capsys, arguments, said
):
    monkeypatch.chdir(tmp_path)
    given = ["export", "--model", f"{OWN}:conv_vae", "--layer", "encoder.conv2", *arguments]
    assert main(given) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
