import json
from pathlib import Path
from typing import Any

import pytest
import torch

from captum_vae.commands.demo import demo
from captum_vae.commands.main import main
from captum_vae.experiments.demo import COLUMNS, DemoSettings, choose_images, read_digits
from captum_vae.experiments.demo_figures import most_informative
from captum_vae.metrics.activity import ActiveDimensions
from tests.report.page_check import Page

DEFAULTS: dict[str, Any] = {
    "dataset": "digits",
    "root": None,
    "normal": 1,
    "others": (9, 7, 2, 4),
    "layer": "encoder.conv2",
    "latent_dims": 32,
    "steps": 250,
    "seed": 0,
}
PICTURES = ["reconstruction_baseline", "latent_dimensions", "rectifiers", "active_dimensions"]


def settings(**options: Any) -> DemoSettings:
    return DemoSettings(**{**DEFAULTS, **options})


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "made"
    options = "--steps 12 --latent_dims 4 --device cpu --others [7,2]".split()
    assert main(["demo", "--out", str(folder), *options]) == 0
    return folder


def test_the_report_is_whole(out: Path) -> None:
    page = Page(out / "report.html")
    assert page.faults == []
    assert [picture["src"] for picture in page.pictures] == [f"figures/{n}.png" for n in PICTURES]


def test_the_json_tells_settings_versions_and_active_dimensions(out: Path) -> None:
    report = json.loads((out / "report.json").read_text())
    demo_settings = report["protocol"]["demo"]
    assert (demo_settings["others"], demo_settings["steps"]) == ([7, 2], 12)
    assert torch.__version__.startswith(report["packages"]["torch"])
    assert len(report["active_dimensions"]["kl"]) == 4
    assert report["pictures"] == [f"figures/{name}.png" for name in PICTURES]
    assert {"command", "version", "seed", "machine"} <= set(report)


def test_the_report_shows_how_the_posterior_was_read(out: Path) -> None:
    reading = json.loads((out / "report.json").read_text())["posterior_read_by"]
    assert reading.startswith("PosteriorAdapter(call='encode'")
    assert reading in Page(out / "report.html").text


def test_only_the_report_is_left_behind(out: Path) -> None:
    left = sorted(path.name for path in out.iterdir() if path.name != ".lock")
    assert left == ["figures", "report.html", "report.json"]


def test_other_digits_take_turns_with_another_image_each_time() -> None:
    images = choose_images(settings(others=(7, 2)))
    assert images.other_digits == (7, 2, 7, 2)
    assert images.titles == ["1, normal", "1, normal", "7", "2", "7", "2"]
    assert not torch.equal(images.others[0], images.others[2])


def test_explained_images_are_test_images_of_their_digit() -> None:
    images = choose_images(settings(others=(7,)))
    sevens = [sample.image for sample in read_digits(settings(), "test", 7)]
    assert len(images.others) == COLUMNS
    assert all(any(torch.equal(image, seven) for seven in sevens) for image in images.others)


def test_the_seed_chooses_the_images() -> None:
    first, again, other = (choose_images(settings(seed=seed)).others for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_only_active_dimensions_are_shown_by_kl() -> None:
    usage = ActiveDimensions(
        kl=torch.tensor([0.5, 0.001, 2.0, 1.0]),
        std=torch.tensor([0.5, 0.5, 0.5, 0.01]),
        images=9,
    )
    assert most_informative(usage) == [2, 0]
    assert most_informative(usage, 1) == [2]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"dataset": "letters"}, "dataset='letters' is not known; choose one of digits, mnist"),
        ({"dataset": "mnist"}, "dataset='mnist' needs root"),
        ({"root": "somewhere"}, "the digits come with scikit-learn"),
        ({"normal": 10}, "normal=10 must be at most 9; wanted a digit"),
        ({"normal": True}, "normal=True is a bool"),
        ({"normal": 1.5}, "normal=1.5 is no whole number"),
        ({"others": "79"}, "others is '79'; wanted a list of digits"),
        ({"others": 7}, "others is 7; wanted a list of digits"),
        ({"others": (7.5,)}, "others=7.5 is no whole number"),
        ({"latent_dims": 0}, "latent_dims=0 must be at least 1"),
        ({"out": 5}, "out is 5; wanted a path"),
        ({"others": (1, 7)}, r"others is \[1, 7\]; wanted .* none of them the normal 1"),
        ({"others": (7, 7)}, r"others is \[7, 7\]"),
        ({"others": ()}, r"others is \[\]; wanted at least one"),
        ({"others": (12,)}, "others=12 must be at most 9"),
        ({"layer": "encoder.conv9"}, "conv9"),
        ({"layer": "encoder.fc1"}, "spatial"),
        ({"steps": 0}, "steps"),
        ({"seed": -1}, "seed=-1 must be at least 0"),
        ({"seed": 2**70}, "seed=.* must be at most"),
    ],
)
def test_a_wrong_option_is_named_before_training(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        demo(**{"out": str(tmp_path), **options})


def test_missing_mnist_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="t10k-images"):
        demo(str(tmp_path / "out"), dataset="mnist", root=str(tmp_path))


def test_the_command_says_the_error_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--dataset", "mnist"]) == 2
    assert capsys.readouterr().err.strip() == (
        "captum-vae: error: --dataset 'mnist' needs root, the folder of MNIST's IDX files"
    )


@pytest.mark.slow
def test_the_demo_runs_on_mnist(
    tmp_path: Path, data_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    demo(str(tmp_path), dataset="mnist", root=str(data_root / "mnist"), steps=20, device="cpu")
    page = Page(tmp_path / "report.html")
    assert page.faults == []
    assert "6742 images of the digit 1" in " ".join(page.text.split())
    assert capsys.readouterr().out.strip().endswith(f"open {tmp_path / 'report.html'}")
