"""``explain`` from Python: its arguments, models that want more than images, what it writes."""

import json
import threading

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from captum_vae import LatentGradCAM
from captum_vae.explain import explain, list_layers, write_explanation
from captum_vae.files import holding
from captum_vae.models import ConvVAE
from tests.explain import own_models
from tests.explain.own_models import SIDE

LAYER = "encoder.conv2"


@pytest.fixture
def vae():
    return own_models.conv_vae().eval()


@pytest.fixture
def images():
    return torch.rand(3, 1, SIDE, SIDE)


def test_a_tensor_is_explained_as_by_the_attribution(vae, images):
    explanation = explain(vae, images, LAYER, dims=[2, 0], batch_size=2)
    expected = LatentGradCAM(vae, LAYER).attribute(images, target=[2, 0])
    torch.testing.assert_close(explanation.maps, expected)
    assert explanation.dims == (2, 0) and explanation.kl.shape == (3, 3)
    assert explanation.names == ("images[0]", "images[1]", "images[2]")


def test_layers_are_listed_for_images_and_for_the_size_the_model_states(vae, images):
    by_images, by_size = list_layers(vae, images), list_layers(vae)
    assert by_images.layers == by_size.layers
    (line,) = [line for line in str(by_size).splitlines() if line.startswith(f"{LAYER} ")]
    assert "Conv2d" in line and "6 x 4 x 4" in line and "yes: " in line


class Conditional(ConvVAE):
    """q(z|x, y): the label is another argument."""

    def __init__(self):
        super().__init__(2, image_size=SIDE, channels=(4, 6), hidden=8)

    def encode(self, x, label):
        return super().encode(x + label[:, None, None, None])

    def forward(self, x, label):
        mean, log_variance = self.encode(x, label)
        return self.decode(mean), mean, log_variance


class ByKeyword(Conditional):
    def encode(self, x, *, label):
        return super().encode(x, label)

    def forward(self, x, *, label):
        return super().forward(x, label)


class OfADict(nn.Module):
    def __init__(self):
        super().__init__()
        self.vae = own_models.conv_vae()

    def forward(self, batch):
        return self.vae(batch["pixel_values"])


class OfItsOwn(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        raise KeyError("vocabulary")


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (Conditional, "wants further arguments beside the images: label.*wrap the model in a mod"),
        (ByKeyword, "wants arguments by keyword beside the images: label=.*wrap the model in a"),
        (OfADict, "it looks up \\[.pixel_values.\\] in its batch.*wrap the model in a module"),
        (OfItsOwn, "KeyError: 'vocabulary'\\); the error is the model's own"),
    ],
)
def test_a_model_that_wants_more_than_images_is_told_by_its_kind(model, words, images):
    with pytest.raises(ValueError, match=words) as refused:
        explain(model().eval(), images, "vae.encoder.conv2")
    assert "image_size" not in str(refused.value)


def test_images_of_the_wrong_size_are_told_how_to_say_the_size(vae):
    with pytest.raises(ValueError, match="ConvVAE does not run.*image_size= and channels="):
        explain(vae, torch.rand(2, 1, 20, 20), LAYER)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"model": "vae"}, "model is str; wanted a torch.nn.Module"),
        ({"images": torch.rand(3, SIDE, SIDE)}, r"images has shape \(3, 16, 16\); wanted \(N, C"),
        ({"images": torch.rand(0, 1, SIDE, SIDE)}, "images has shape"),
        ({"images": torch.full((1, 1, SIDE, SIDE), 2.0)}, "run from 2 to 2; wanted 0 to 1"),
        ({"images": torch.full((1, 1, SIDE, SIDE), torch.nan)}, "run from nan to nan"),
        ({"images": torch.zeros(1, 1, SIDE, SIDE).byte()}, "images has dtype torch.uint8"),
        ({"images": 3}, "images is int; wanted a path"),
        ({"images": [torch.rand(1)]}, "images is a data set without samples"),
        ({"layer": None}, "layer is missing; choose one with layer=NAME"),
        ({"layer": 3}, "layer"),
        ({"dims": [7]}, "the posterior has 3 latent dimensions"),
        ({"dims": []}, "target is empty"),
        ({"dims": [0.5]}, "whole numbers"),
        ({"attribution": "latent_cam"}, "did you mean 'latent_grad_cam'"),
        ({"options": {"rectifier": "abz"}}, "choose one of relu, abs"),
        ({"options": {"rectifer": "abs"}}, "options do not fit the attribution"),
        ({"options": {"target": 1}}, "options has target, which have arguments of their own"),
        ({"options": {"preset": [1]}}, "preset"),
        ({"options": {"reduction": "none"}}, "leave out reduction='none'"),
        ({"options": {"baselines": "mean_activation"}}, "give normal=FOLDER"),
        ({"posterior_options": {"spread": "a"}}, "spread="),
        ({"posterior_options": {"nothing": 1}}, "posterior_options do not fit"),
        ({"channels": 0}, "channels=0 must be at least 1"),
        ({"channels": 1.5}, "channels=1.5 is no whole number"),
        ({"image_size": (3, 4, 5)}, "image_size"),
        ({"image_size": -1}, "image_size"),
        ({"value_range": (1, 0)}, "value_range is"),
        ({"value_range": (0, float("inf"))}, "value_range is"),
        ({"value_range": (0,)}, "value_range is"),
        ({"value_range": 3}, "value_range is"),
        ({"batch_size": 0}, "batch_size=0 must be at least 1"),
        ({"batch_size": "2"}, "batch_size"),
    ],
)
def test_a_wrong_argument_is_named(vae, images, arguments, words):
    with pytest.raises((ValueError, TypeError), match=words):
        explain(**{"model": vae, "images": images, "layer": LAYER, **arguments})


def test_a_model_in_training_mode_is_refused(vae, images):
    with pytest.raises(ValueError, match="call model.eval\\(\\) first"):
        explain(vae.train(), images, LAYER)


def files(folder):
    kinds = (".png", ".npz", ".json", ".html")
    paths = [path.relative_to(folder) for path in folder.rglob("*") if path.suffix in kinds]
    return {path.as_posix() for path in paths if path.parts[0] != "explorer"}


def test_a_run_on_fewer_images_leaves_no_overlay_of_the_earlier_and_all_that_is_not_ours(
    vae, images, tmp_path
):
    write_explanation(explain(vae, torch.rand(10, 1, SIDE, SIDE), LAYER), tmp_path)
    assert "overlays/0009_images[9]/dim_000.png" in {
        name.replace("_images_9_", "_images[9]") for name in files(tmp_path)
    }
    kept = ["overlays/mine.png", "overlays/0009_images_9_/mine.png", "notes.json"]
    for name in kept:
        (tmp_path / name).write_bytes(b"mine")
    write_explanation(explain(vae, images, LAYER, dims=[1]), tmp_path)
    pictures = {f"overlays/000{n}_images_{n}_/dim_001.png" for n in range(3)}
    written = {"maps.npz", "explain.json", "index.html", "figures/maps_0000.png", *pictures}
    assert files(tmp_path) == written | set(kept)


@pytest.mark.parametrize(
    "listed",
    ["no JSON", "[]", '{"files": 3}', '{"files": [3]}', '{"files": ["../a.png", "/etc/x.png"]}'],
)
def test_a_list_of_files_that_is_not_ours_removes_nothing(vae, images, tmp_path, listed):
    out = tmp_path / "out"
    out.mkdir()
    (tmp_path / "a.png").write_bytes(b"mine")
    (out / "explain.json").write_text(listed)
    write_explanation(explain(vae, images, LAYER), out)
    assert (tmp_path / "a.png").read_bytes() == b"mine"


def test_two_runs_in_one_folder_are_refused(vae, images, tmp_path):
    explanation = explain(vae, images, LAYER)
    held, done = threading.Event(), threading.Event()

    def other():
        with holding(tmp_path):
            held.set()
            done.wait(30)

    run = threading.Thread(target=other)
    run.start()
    held.wait(30)
    try:
        with pytest.raises(ValueError, match="is being written by process"):
            write_explanation(explanation, tmp_path)
    finally:
        done.set()
        run.join()


NAMES = [
    "cost_$5_$x^.png",
    "a$\\frac0$.png",
    "a" * 251 + ".png",
    "\u00e9" * 120 + ".png",
    "\U0001f600.png",
    "caf\udce9.png",
    "<b>&amp;.png",
    "a\nb.png",
    "a...png",
    "%s{0}.png",
    "\u202egnp.png",
]


@pytest.mark.filterwarnings("error:Glyph .* missing from")
@pytest.mark.parametrize("name", NAMES)
def test_any_name_a_file_can_have_is_drawn_and_written(vae, tmp_path, name):
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    Image.fromarray(np.zeros((SIDE, SIDE), np.uint8)).save(photos / name)
    page = write_explanation(explain(vae, photos, LAYER, dims=[0]), out)
    assert page.is_file()
    report = json.loads((out / "explain.json").read_text())
    assert [name.partition("/")[0] for name in report["files"]] == ["overlays", "figures"]
    assert all((out / file).is_file() for file in report["files"])


def test_a_notebook_shows_the_most_used_dimensions_first(vae, images):
    explanation = explain(vae, images, LAYER)
    assert "data:image/png;base64," in explanation._repr_html_()
    assert "3 images, 3 maps each" in explanation._repr_html_()


def test_several_layers_come_from_one_call_and_equal_those_of_single_ones(tmp_path, vae, images):
    both = explain(vae, images, ["encoder.conv1", "encoder.conv2"])
    assert both.layers == ("encoder.conv1", "encoder.conv2")
    assert both.settings["layer"] == ["encoder.conv1", "encoder.conv2"]
    for layer in both.layers:
        alone = explain(vae, images, layer)
        torch.testing.assert_close(both.layer_maps[layer], alone.maps)
    page = write_explanation(both, tmp_path, shown_dims=2, shown_images=1)
    with np.load(tmp_path / "maps.npz") as numbers:
        assert numbers["maps_encoder.conv1"].shape == tuple(both.maps.shape)
        assert "maps_encoder.conv2" in numbers and "maps" not in numbers
    assert (tmp_path / "figures" / "maps_encoder.conv2_0000.png").is_file()
    assert len(list((tmp_path / "overlays").glob("0000_*/encoder.conv1_dim_*.png"))) == 2
    written = page.read_text()
    assert "layers encoder.conv1, encoder.conv2" in written and "Maps at encoder.conv2" in written
    index = (tmp_path / "explorer" / "index.js").read_text()
    assert all(layer in index for layer in both.layers)


@pytest.mark.parametrize("layer", [[], ["encoder.conv1", "encoder.conv1"], 3, ["encoder.conv1", 3]])
def test_layers_that_cannot_be_meant_are_refused(layer, vae, images):
    with pytest.raises((ValueError, TypeError), match="layer is"):
        explain(vae, images, layer)
