"""A monitor shows the latent while it trains and leaves no trace in the training."""

import csv
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from captum_vae import LatentGradCAM
from captum_vae.data import OneClassDigits
from captum_vae.models import ConvVAE
from captum_vae.training import LatentMonitor
from captum_vae.training.monitoring.monitor import first_images

LAYER = "encoder.conv2"


class Restless(nn.Module):
    """Draws from every generator, has dropout, and a batch norm that writes buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.vae = ConvVAE(6, image_size=16, channels=(4, 8), hidden=16, norm="batch")
        self.dropout = nn.Dropout(0.3)
        self.frozen = nn.BatchNorm2d(1).eval()

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        noise = random.random() + np.random.rand()  # noqa: NPY002
        mean, log_variance = self.vae.encode(self.dropout(self.frozen(x)))
        return mean + 0 * noise, log_variance

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, log_variance = self.encode(x)
        z = mean + (log_variance / 2).exp() * torch.randn_like(mean)
        return self.vae.decode(z).sigmoid(), mean, log_variance


def digits(count: int = 12) -> Tensor:
    data = OneClassDigits("train", digits=[3], image_size=16)
    return torch.stack([data[i].image for i in range(count)])


def train(monitor: LatentMonitor | None, steps: int = 8) -> nn.Module:
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    torch.manual_seed(0)
    model = Restless().train()
    model.frozen.eval()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for step in range(1, steps + 1):
        x = digits() + 0.1 * torch.randn(12, 1, 16, 16)
        reconstruction, mean, log_variance = model(x)
        kl = (mean.square() + log_variance.exp() - log_variance - 1).sum() / 2
        ((reconstruction - x).square().sum() + kl).backward()
        gradients = [parameter.grad for parameter in model.parameters()]
        if monitor is not None:
            # Between backward and step, where a trace would show.
            monitor(model, step)
        assert all(p.grad is g for p, g in zip(model.parameters(), gradients, strict=True)), (
            "gradients were touched"
        )
        optimizer.step()
        optimizer.zero_grad()
    return model


def everything(model: nn.Module) -> dict[str, Any]:
    state = {name: value.clone() for name, value in model.state_dict().items()}
    state["torch"], state["numpy"] = torch.rand(3), torch.tensor(np.random.rand(3))  # noqa: NPY002
    state["python"] = torch.tensor(random.random())
    state["modes"] = torch.tensor([module.training for module in model.modules()])
    return state


@pytest.mark.parametrize("options", [{}, {"baselines": "reconstruction", "rectifier": "abs"}])
def test_training_is_the_same_bit_for_bit_with_and_without(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    monitor = LatentMonitor(
        "vae." + LAYER, digits(), every_n_steps=3, out=tmp_path, posterior="encode:0,1", **options
    )
    without, watched = everything(train(None)), everything(train(monitor))
    assert monitor.snapshots == 2
    assert all(torch.equal(value, watched[name]) for name, value in without.items())


def test_a_snapshot_holds_the_maps_of_the_model_in_eval_mode() -> None:
    torch.manual_seed(0)
    vae, images = ConvVAE(6, image_size=16, channels=(4, 8), hidden=16, norm="batch"), digits()
    vae.train()
    taken = LatentMonitor(LAYER, images, max_images=3, max_dims=4).snapshot(vae, 5)
    assert vae.training
    vae.eval()
    with torch.no_grad():
        mean, log_variance = vae.encode(images)
    kl = (mean.square() + log_variance.exp() - log_variance - 1).mean(0) / 2
    torch.testing.assert_close(taken.kl, kl)
    assert taken.dims == tuple(sorted(kl.argsort(descending=True)[:4].tolist()))
    wanted = LatentGradCAM(vae, LAYER).attribute(images[:3], target=list(taken.dims))
    torch.testing.assert_close(taken.maps, wanted)
    torch.testing.assert_close(taken.reconstruction, vae.reconstruct(images).detach())
    scalars = taken.scalars()
    assert scalars["latent/kl"] == pytest.approx(float(kl.sum()), rel=1e-5)
    assert {f"latent/kl/{d}" for d in range(6)} <= scalars.keys()


def test_pictures_and_numbers_lie_in_the_folder(tmp_path: Path) -> None:
    vae = ConvVAE(6, image_size=16, channels=(4, 8), hidden=16)
    monitor = LatentMonitor(LAYER, digits(), every_n_steps=10, out=tmp_path)
    taken = [step for step in range(1, 31) if monitor(vae, step) is not None]
    assert taken == [10, 20, 30]
    # A run that went back to a checkpoint appears once.
    LatentMonitor(LAYER, digits(), out=tmp_path).snapshot(vae, 20)
    with open(tmp_path / "latents.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["10", "20"]
    picture = np.asarray(Image.open(tmp_path / "step_00000010.png"))
    assert picture.shape[2] == 3 and len(np.unique(picture)) > 20
    with pytest.raises(ValueError, match="holds the numbers of another model"):
        LatentMonitor(LAYER, digits(), out=tmp_path).snapshot(
            ConvVAE(7, image_size=16, channels=(4, 8), hidden=16), 30
        )


def test_a_loop_may_count_in_strides() -> None:
    vae = ConvVAE(2, image_size=16, channels=(4, 8), hidden=16)
    monitor = LatentMonitor(LAYER, digits(2), every_n_steps=10)
    assert [step for step in range(0, 64, 7) if monitor(vae, step)] == [14, 21, 35, 42, 56, 63]


def test_a_posterior_without_variance_is_ordered_by_its_spread() -> None:
    class Encoder(nn.Sequential):
        pass

    torch.manual_seed(0)
    encoder = Encoder(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 14 * 14, 5))
    taken = LatentMonitor("0", digits(), posterior="mean", max_dims=2).snapshot(encoder, 1)
    assert taken.kl is None and taken.active is None and len(taken.dims) == 2
    assert set(taken.scalars()) == {f"latent/std_of_mean/{d}" for d in range(5)}
    assert taken.reconstruction is None and taken.picture().dtype == torch.uint8


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"layer": 3}, TypeError, "layer must be a torch.nn.Module or its name, got int"),
        ({"images": [1]}, TypeError, r"images is list; wanted a tensor \(N, C, H, W\)"),
        ({"images": torch.zeros(3, 8, 8)}, ValueError, r"images has shape \(3, 8, 8\)"),
        ({"images": torch.zeros(0, 1, 8, 8)}, ValueError, "N >= 1"),
        ({"images": torch.zeros(2, 1, 8, 8, dtype=torch.uint8)}, TypeError, "torch.uint8"),
        ({"every_n_steps": 0}, ValueError, "every_n_steps"),
        ({"max_dims": 1.5}, TypeError, "max_dims"),
        ({"target": 3}, ValueError, "target: a monitor decides this itself"),
    ],
)
def test_bad_arguments_are_refused_by_name(
    arguments: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        LatentMonitor(**{"layer": LAYER, **arguments})


def test_a_layer_that_is_not_there_and_missing_images_are_named() -> None:
    vae = ConvVAE(2, image_size=16, channels=(4, 8), hidden=16)
    with pytest.raises(ValueError, match=r"no images to look at; give images="):
        LatentMonitor(LAYER).snapshot(vae, 1)
    with pytest.raises(ValueError, match="nowhere"):
        LatentMonitor("nowhere", digits()).snapshot(vae, 1)


def test_images_are_found_in_what_loaders_yield() -> None:
    x, labels = torch.rand(4, 1, 8, 8), torch.arange(4)
    for batch in (x, (x, labels), [labels, x], {"label": labels, "image": x}, ((x,), "name")):
        assert first_images(batch) is x
    with pytest.raises(ValueError, match="without a tensor of images"):
        first_images((labels, "name", None))


def test_a_notebook_shows_a_snapshot() -> None:
    vae = ConvVAE(2, image_size=16, channels=(4, 8), hidden=16)
    shown = LatentMonitor(LAYER, digits(2)).snapshot(vae, 1)._repr_png_()
    assert shown.startswith(b"\x89PNG")
