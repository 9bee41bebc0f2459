"""``captum-vae explain`` from a user's factory or checkpoint to maps and a page."""

import json
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from PIL import Image

from captum_vae import LatentGradCAM
from captum_vae.commands.main import main
from captum_vae.data.arrays import read_images
from tests.explain import own_models
from tests.explain.own_models import SIDE
from tests.report.page_check import Page

OWN = "tests.explain.own_models"


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    random = np.random.default_rng(0)
    for name in ("a10.png", "a2.png", "more/b.png"):
        Image.fromarray(random.integers(0, 255, (SIDE, SIDE), dtype=np.uint8)).save(folder / name)
    return folder


@pytest.fixture
def explain(tmp_path, photos, capsys):
    """Run the command into tmp_path/maps; returns its status and what it printed."""

    def run(model, *arguments, layer="encoder.conv2"):
        source = ["--model", f"{OWN}:{model}"]
        named = [] if layer is None else ["--layer", layer]
        out = ["--out", str(tmp_path / "maps"), "--device", "cpu"]
        given = [] if "--images" in arguments else ["--images", str(photos)]
        status = main(["explain", *source, *named, *given, *out, *arguments])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


def found(tmp_path):
    with np.load(tmp_path / "maps" / "maps.npz") as maps:
        arrays = dict(maps)
    return arrays, json.loads((tmp_path / "maps" / "explain.json").read_text())


def test_a_pythae_model_trained_a_few_steps_gives_a_page_that_opens(explain, tmp_path):
    pytest.importorskip("pythae")
    status, _, errors = explain("pythae_vae", layer="encoder.conv2")
    assert status == 0, errors
    page = Page(tmp_path / "maps" / "index.html")
    assert page.faults == [] and len(page.pictures) == 1
    assert "read='embedding' mean, 'log_covariance' log_variance" in page.text
    arrays, _ = found(tmp_path)
    # Images are brought to the size that pythae's configuration states.
    assert arrays["maps"].shape == (3, 5, 4, 4)


def test_raw_maps_are_those_of_the_attribution_in_natural_order_of_files(explain, tmp_path, photos):
    assert explain("conv_vae")[0] == 0
    arrays, _ = found(tmp_path)
    assert arrays["names"].tolist() == ["a2.png", "a10.png", "more/b.png"]
    pixels = [np.asarray(Image.open(photos / name)) / 255 for name in arrays["names"]]
    images = torch.tensor(np.stack(pixels), dtype=torch.float32)[:, None]
    vae = own_models.conv_vae().eval()
    expected = LatentGradCAM(vae, vae.encoder.conv2).attribute(images)
    torch.testing.assert_close(torch.from_numpy(arrays["maps"]), expected)


def test_dimensions_stand_in_the_order_of_their_kl_and_collapsed_ones_are_marked(explain, tmp_path):
    assert explain("conv_vae")[0] == 0
    arrays, report = found(tmp_path)
    np.testing.assert_allclose(arrays["kl"], [[0.5, 2, 0]] * 3, atol=1e-2)
    assert report["order"] == [1, 0, 2] and report["collapsed"] == [2]
    page = Page(tmp_path / "maps" / "index.html")
    alt = page.pictures[0]["alt"]
    assert "dim 1 2.00 nats, dim 0 0.50 nats, dim 2 collapsed" in alt
    assert "1 of 3 dimensions are collapsed" in page.text


def test_the_page_states_scale_reading_plan_versions_and_command(explain, tmp_path):
    assert explain("conv_vae", "--options.rectifier", "abs")[0] == 0
    arrays, report = found(tmp_path)
    text = Page(tmp_path / "maps" / "index.html").text
    assert f"one colour scale, from 0 to {arrays['maps'].max():.4g}" in text
    assert "PosteriorAdapter(call='encode'" in text and "rectifier=abs" in text
    assert report["plan"].startswith("masked: ") and report["plan"] in text
    assert f"torch {report['packages']['torch']}" in text and report["commit"] in text
    assert report["command"] in text
    assert report["command"].startswith(f"captum-vae explain --model {OWN}:conv_vae")


def test_more_dimensions_than_are_shown_are_all_in_the_numbers(explain, tmp_path):
    assert explain("conv_vae", "--model_options.latent_dims", "128", "--shown_dims", "5")[0] == 0
    arrays, _ = found(tmp_path)
    assert arrays["maps"].shape[1] == 128
    page = Page(tmp_path / "maps" / "index.html")
    assert "123 dimensions of lower KL are not shown" in page.text
    assert page.pictures[0]["alt"].count("dim ") == 5
    assert len(list((tmp_path / "maps" / "overlays").glob("*/*.png"))) == 3 * 5


def test_chosen_dimensions_alone_are_explained(explain, tmp_path):
    assert explain("conv_vae", "--dims", "[2, 0]")[0] == 0
    arrays, _ = found(tmp_path)
    assert arrays["dims"].tolist() == [2, 0] and arrays["maps"].shape[1] == 2


def test_a_summed_attribution_has_one_column(explain, tmp_path):
    assert explain("conv_vae", "--attribution", "mean_sum_grad_cam")[0] == 0
    page = Page(tmp_path / "maps" / "index.html")
    assert found(tmp_path)[0]["maps"].shape[1] == 1
    assert "One map of 3 latent dimensions together" in page.text
    assert "mean_sum_grad_cam" in page.pictures[0]["alt"]


def test_an_attribution_without_a_layer_is_run_without_one(explain, tmp_path, monkeypatch):
    from captum_vae import DecoderAttribution
    from captum_vae.plugins import Registry

    monkeypatch.setattr(Registry, "load", lambda registry, name: DecoderAttribution)
    arguments = ["--attribution", "decoder_attribution", "--options.rectifier", "abs"]
    assert explain("conv_vae", *arguments, layer=None)[0] == 0
    assert found(tmp_path)[0]["maps"].shape == (3, 3, SIDE, SIDE)
    status, _, error = explain("conv_vae", *arguments)
    assert status == 2 and "the attribution 'decoder_attribution' takes none" in error


def test_maps_under_scales_of_their_own_are_said_to_be(explain, tmp_path):
    assert explain("conv_vae", "--scale", "own")[0] == 0
    assert "a colour scale of its own" in Page(tmp_path / "maps" / "index.html").text


def test_a_fitted_attribution_asks_for_normal_images_and_takes_them(explain, photos):
    arguments = ["--attribution", "normal_difference_grad_cam"]
    status, _, error = explain("conv_vae", *arguments)
    assert status == 2 and "needs normal images to be fitted on; give --normal FOLDER" in error
    assert explain("conv_vae", *arguments, "--normal", str(photos))[0] == 0


def test_baselines_are_taken_by_name(explain, tmp_path, photos):
    maps = []
    normal = ["--normal", str(photos)]
    for words in ("reconstruction", "mean_activation"):
        assert explain("conv_vae", "--options.baselines", words, *normal)[0] == 0
        maps.append(found(tmp_path)[0]["maps"])
    assert not np.allclose(maps[0], maps[1])


def test_tokens_are_explained_through_a_reshape(explain, tmp_path):
    status, printed, _ = explain("tokens", "--list-layers", layer=None)
    assert status == 0
    line = next(line for line in printed.splitlines() if line.startswith("mix "))
    assert "16 x 8" in line and "no: puts out tokens: give --reshape_transform FUNCTION" in line
    reshape = ["--reshape_transform", f"{OWN}:to_grid"]
    assert explain("tokens", *reshape, layer="mix")[0] == 0
    assert found(tmp_path)[0]["maps"].shape == (3, 2, 4, 4)


def test_layers_are_listed_with_shapes_and_ways_without_any_images(capsys):
    assert main(["explain", "--model", f"{OWN}:conv_vae", "--list-layers"]) == 0
    printed = capsys.readouterr().out
    rows = {line.split()[0]: line for line in printed.splitlines()[2:]}
    assert "6 x 4 x 4" in rows["encoder.relu2"]
    assert "yes: pooled weight, all dimensions" in rows["encoder.relu2"]
    assert "yes: pooled weight per image" in rows["encoder.conv2"]
    assert "yes: cotangents up to the convolutions" in rows["encoder.conv1"]
    assert "no: puts out no spatial positions" in rows["mean"]
    assert "no: does not run for the posterior" in rows["decoder"]


def test_every_layer_listed_as_explainable_is_explained_by_that_way():
    from captum_vae.explain.layers import find_listed
    from captum_vae.posterior import as_adapter

    vae = own_models.conv_vae().eval()
    images = torch.rand(2, 1, SIDE, SIDE)
    for layer in find_listed(as_adapter(vae), images):
        if layer.path is not None:
            (plan,) = LatentGradCAM(vae, layer.name).explain_plan(images)
            assert plan.path == layer.path, layer


def test_a_missing_layer_is_asked_for_with_those_there_are(explain):
    status, _, error = explain("conv_vae", layer=None)
    assert status == 2 and len(error.splitlines()) == 1
    assert "layer is missing; choose one with --layer NAME: " in error
    assert "encoder.conv2 (6 x 4 x 4)" in error and "decoder" not in error


def test_a_collapsed_posterior_warns_once(explain, tmp_path):
    status, _, errors = explain("conv_vae", "--dims", "[2]", "--batch_size", "1")
    assert status == 0
    assert errors.count("the posterior carries no information about these images") == 1
    assert "the maps below are noise" in Page(tmp_path / "maps" / "index.html").text


def test_an_array_of_images_is_read_in_any_layout(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (2, 5, 6, 3), dtype=np.uint8)
    expected = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255
    np.save(tmp_path / "last.npy", pixels)
    np.savez(tmp_path / "first.npz", images=expected.numpy(), labels=np.zeros(2))
    torch.save(expected, tmp_path / "tensor.pt")
    for name in ("last.npy", "first.npz", "tensor.pt"):
        images = read_images(tmp_path / name)
        assert len(images) == 2
        torch.testing.assert_close(images[1].image, expected[1])


def test_images_take_the_size_channels_and_range_asked_for(explain, tmp_path):
    np.save(tmp_path / "colour.npy", np.full((1, 3, 30, 20), 0.5, dtype="float32"))
    image = read_images(tmp_path / "colour.npy", image_size=(8, 9), channels=1)[0].image
    torch.testing.assert_close(image, torch.full((1, 8, 9), 0.5))
    arguments = ["--images", str(tmp_path / "colour.npy"), "--value_range", "[-1, 1]"]
    assert explain("conv_vae", *arguments)[0] == 0
    mean = found(tmp_path)[0]["mean"]
    grey = torch.zeros(1, 1, SIDE, SIDE)
    np.testing.assert_allclose(mean, own_models.conv_vae().encode(grey)[0].detach(), rtol=1e-5)


@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [
        ("absent", [], "does not import (AttributeError"),
        ("to_grid", [], "do not fit model tests.explain.own_models:to_grid"),
        ("conv_vae", ["--layer", "encoder.conv9"], "encoder.conv9"),
        ("conv_vae", ["--layer", "mean"], "without spatial positions"),
        ("conv_vae", ["--dims", "[7]"], "the posterior has 3 latent dimensions"),
        ("conv_vae", ["--attribution", "latent_cam"], "did you mean 'latent_grad_cam'"),
        ("conv_vae", ["--options.rectifer", "abs"], "options do not fit the attribution"),
        ("conv_vae", ["--options.rectifier", "abz"], "choose one of relu, abs"),
        ("conv_vae", ["--posterior", "forward:[9]"], "[9]"),
        ("conv_vae", ["--image_size", "20"], "ConvVAE does not run on images (3, 1, 20, 20)"),
        ("conv_vae", ["--images", "gone"], "gone does not exist; wanted a folder or a file"),
        ("conv_vae", ["--shown_dims", "0"], "--shown_dims 0 must be at least 1"),
        ("conv_vae", ["--value_range", "[1, 0]"], "value_range is [1.0, 0.0]"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_fix(explain, model, arguments, message):
    status, _, error = explain(model, *arguments)
    assert status == 2
    assert message in error.splitlines()[-1]
    assert error.splitlines()[-1].startswith("captum-vae: error: ")


def test_an_ambiguous_posterior_lists_its_candidates_a_line_each(explain):
    status, _, error = explain("ambiguous")
    assert status == 2
    lines = error.splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith("captum-vae: error: "))
    candidates = [line for line in lines[start + 1 :] if "choose it with --posterior" in line]
    assert candidates
    assert all(line.startswith("    ") for line in candidates)


def test_a_model_that_is_neither_a_path_nor_a_function_is_refused(capsys):
    assert main(["explain", "--model", "nowhere", "--list-layers"]) == 2
    assert "model is 'nowhere', which is no file or folder" in capsys.readouterr().err


def test_a_python_file_is_not_taken_for_a_checkpoint(tmp_path, capsys):
    (tmp_path / "mine.py").write_text("def make(): ...\n")
    assert main(["explain", "--model", str(tmp_path / "mine.py"), "--list-layers"]) == 2
    assert "of its function that returns your model, say mine:NAME" in capsys.readouterr().err


def test_weights_alone_ask_for_a_function_that_loads_them(tmp_path, capsys):
    torch.save({"weight": torch.zeros(1)}, tmp_path / "mine.pt")
    assert main(["explain", "--model", str(tmp_path / "mine.pt"), "--list-layers"]) == 2
    assert "a function that builds it and loads its weights" in capsys.readouterr().err


def test_a_run_of_fit_is_explained_by_its_folder(explain, tmp_path, capsys):
    from captum_vae.training.checkpoint import find_checkpoint

    fit = {
        "model": {"name": "conv", "options": {"channels": [4, 6], "hidden": 8, "latent_dims": 4}},
        "data": {"name": "digits", "options": {"digits": [1], "image_size": SIDE}},
        "objective": {"likelihood": "bernoulli"},
        "trainer": {"steps": 2, "batch_size": 8, "accelerator": "cpu"},
    }
    run = tmp_path / "run"
    flat = [part for key, value in fit.items() for part in (f"--{key}", json.dumps(value))]
    assert main(["fit", *flat, "--out", str(run)]) == 0
    for source in (run, find_checkpoint(run)):
        arguments = ["--images", str(tmp_path / "photos" / "a2.png"), "--layer", "encoder.conv2"]
        out = ["--out", str(tmp_path / "maps")]
        assert main(["explain", "--model", str(source), *arguments, *out]) == 0
        assert found(tmp_path)[0]["maps"].shape == (1, 4, 4, 4)


@pytest.mark.slow
def test_a_factory_in_the_current_folder_is_found_by_the_installed_command(photos, tmp_path):
    (tmp_path / "my_own.py").write_text(
        textwrap.dedent("""
            from captum_vae.models import ConvVAE

            def build():
                return ConvVAE(2, image_size=16, channels=(4, 6), hidden=8)
        """)
    )
    code = "import sys; sys.path = [p for p in sys.path if p]; "
    code += "from captum_vae.commands.main import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "explain", "--model", "my_own:build", "--list-layers"]
    root = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
    environment = {**os.environ, "PYTHONPATH": root}
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "encoder.conv2" in run.stdout
