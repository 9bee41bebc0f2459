"""The authors' checkpoints, written here by a network with their layers and names."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from captum_vae.experiments.authors_weights import load_authors_mnist


class Theirs(nn.Module):
    """The layers of supplement table 1 under the names of the authors' checkpoints."""

    def __init__(self, dims: int = 8) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 64, 4, 2, 1),
            nn.ReLU(),
            nn.Conv2d(64, 128, 4, 2, 1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(128 * 49, 1024),
            nn.ReLU(),
        )
        self.fc1, self.fc2 = nn.Linear(1024, dims), nn.Linear(1024, dims)
        self.decoder = nn.Sequential(
            nn.Linear(dims, 1024),
            nn.ReLU(),
            nn.Linear(1024, 128 * 49),
            nn.ReLU(),
            nn.Unflatten(1, (128, 7, 7)),
            nn.ReLU(),
            nn.ConvTranspose2d(128, 64, 4, 2, 1),
            nn.ReLU(),
            nn.ConvTranspose2d(64, 1, 4, 2, 1),
            nn.Sigmoid(),
        )

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.encoder(images)
        return self.fc1(hidden), self.fc2(hidden)


def checkpoint(model: nn.Module) -> dict[str, Any]:
    optimizer = torch.optim.Adam(model.parameters())
    state = {"epoch": 3, "best_test_loss": 101.5, "state_dict": model.state_dict()}
    return {**state, "optimizer": optimizer.state_dict()}


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "as PyTorch 1.0 wrote"])
def test_the_authors_weights_give_the_authors_numbers(tmp_path: Path, zipped: bool) -> None:
    torch.manual_seed(0)
    theirs = Theirs()
    path = tmp_path / "model_best.pth"
    torch.save(checkpoint(theirs), path, _use_new_zipfile_serialization=zipped)
    ours = load_authors_mnist(path)
    images = torch.rand(2, 1, 28, 28)
    with torch.no_grad():
        for mine, wanted in zip(ours.encode(images), theirs.encode(images), strict=True):
            torch.testing.assert_close(mine, wanted)
        z = torch.randn(2, 8)
        torch.testing.assert_close(ours.decode(z), theirs.decoder(z))
    assert not ours.training


def test_other_weights_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    theirs = Theirs()
    torch.save({"state_dict": theirs.encoder.state_dict()}, path)
    with pytest.raises(ValueError, match=r"does not hold the authors' MNIST VAE \(no encoder.0.w"):
        load_authors_mnist(path)
    wrong = theirs.state_dict()
    wrong["encoder.0.weight"] = torch.zeros(64, 3, 4, 4)
    torch.save(wrong, path)
    with pytest.raises(ValueError, match=r"encoder.conv1.weight of shape \(64, 3, 4, 4\); wanted"):
        load_authors_mnist(path)
    with pytest.raises(FileNotFoundError):
        load_authors_mnist(tmp_path / "missing.pth")
