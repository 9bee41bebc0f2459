"""Scores of a VAE on dSprites, and the traversals drawn beside its maps."""

import warnings

import pytest
import torch

from captum_vae.data import DSprites
from captum_vae.models import FactorVAE
from captum_vae.training.model_scores import score_model
from captum_vae.training.traversal_figure import last_convolution

pytestmark = pytest.mark.filterwarnings("ignore:scores from:UserWarning")


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"prune": "mean"}, ValueError, "prune='mean'"),
        ({"samples": 0}, ValueError, "samples=0"),
        ({"samples": 1.5}, TypeError, "samples=1.5"),
        ({"seed": -1}, ValueError, "seed=-1"),
        ({"seed": 2**70}, ValueError, "seed=1180591620717411303424"),
    ],
)
def test_options_out_of_range_are_refused_by_name(options, kind, message):
    with pytest.raises(kind, match=message):
        score_model(FactorVAE(4).eval(), DSprites(torch.arange(3)), **options)


@pytest.fixture
def model() -> FactorVAE:
    torch.manual_seed(0)
    return FactorVAE(4, output="logits").eval()


def test_the_reconstruction_is_the_binary_cross_entropy_of_the_mean(model):
    data = DSprites(torch.arange(0, 737_280, 30_001))
    scores = score_model(model, data, metrics=["mig"], samples=20)
    images = data.images(torch.arange(len(data)))
    with torch.no_grad():
        decoded = model.reconstruct(images).clamp(1e-7, 1 - 1e-7)
    bits = -(images * decoded.log() + (1 - images) * (1 - decoded).log())
    assert scores.reconstruction == pytest.approx(bits.flatten(1).sum(1).mean().item(), rel=1e-5)


def test_collapsed_dimensions_can_be_told_by_kl(model):
    data = DSprites(torch.arange(0, 737_280, 30_001))
    with torch.no_grad():
        model.log_variance.weight.zero_()
        model.log_variance.bias.copy_(torch.tensor([0.0, 0.0, -3.0, -3.0]))
        model.mean.weight.zero_()
        model.mean.bias.zero_()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scores = score_model(model, data, metrics=["mig"], samples=20, prune="kl")
    assert scores.disentanglement.used == (2, 3)


def test_one_dimension_moves_at_a_time_in_a_traversal(model):
    pytest.importorskip("matplotlib")
    from captum_vae.training.traversal_figure import VALUES, traverse

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
