"""The sanity check draws a copy's layers from the last to the first, and leaves the model."""

import math

import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from captum_vae import LatentGradCAM
from captum_vae.metrics.faithfulness import randomization_check
from captum_vae.models import ConvVAE


@pytest.fixture
def vae() -> ConvVAE:
    torch.manual_seed(0)
    return ConvVAE(4, image_size=16, channels=(4, 8), hidden=16).eval()


def maps_of(images: torch.Tensor):
    options = {"rectifier": "none", "size": "input"}
    return lambda vae: LatentGradCAM(vae, "encoder.conv1").attribute(images, **options)


def test_maps_change_from_the_last_layer_on_and_the_model_does_not(vae: ConvVAE) -> None:
    images = torch.rand(3, 1, 16, 16)
    before = {name: value.clone() for name, value in vae.state_dict().items()}
    state = torch.get_rng_state()
    found = randomization_check(vae, maps_of(images), within="encoder")
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(value, before[name]) for name, value in vae.state_dict().items())
    names = [
        n for n, m in vae.named_modules() if n.startswith("encoder.") and list(m.parameters(False))
    ]
    assert list(found) == names[::-1] and list(found.values())[-1] < 0.9
    assert found == randomization_check(vae, maps_of(images), within="encoder")


def test_the_similarity_is_spearmans_of_absolute_values(vae: ConvVAE) -> None:
    images = torch.rand(2, 1, 16, 16)
    kept = []

    def remember(model: nn.Module) -> torch.Tensor:
        kept.append(maps_of(images)(model))
        return kept[-1]

    found = randomization_check(vae, remember)
    first, last = (m.abs().flatten(2).flatten(0, 1) for m in (kept[0], kept[-1]))
    wanted = [float(spearmanr(a, b).statistic) for a, b in zip(first, last, strict=True)]
    assert list(found.values())[-1] == pytest.approx(sum(wanted) / len(wanted))


def test_maps_that_do_not_ask_the_model_stay_the_same(vae: ConvVAE) -> None:
    image = torch.rand(2, 3, 8, 8)
    found = randomization_check(vae, lambda _model: image, within="encoder")
    assert set(found.values()) == {1.0} or all(v == pytest.approx(1) for v in found.values())
    flat = randomization_check(vae, lambda _model: torch.ones(2, 3, 8, 8), within="encoder")
    assert all(math.isnan(value) for value in flat.values())


def test_a_layer_that_does_not_say_how_it_is_drawn_is_drawn_alike() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.full((4, 4), 3.0) + torch.randn(4, 4))

    found = randomization_check(Own(), lambda model: model.weight[None])
    assert abs(found[""]) < 1


def test_bad_arguments_are_refused_by_name(vae: ConvVAE) -> None:
    with pytest.raises(TypeError, match="model is a function"):
        randomization_check(lambda x: x, maps_of(torch.rand(1, 1, 16, 16)))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="within='nowhere'"):
        randomization_check(vae, maps_of(torch.rand(1, 1, 16, 16)), within="nowhere")
    with pytest.raises(ValueError, match="no layer within 'ReLU' has weights"):
        randomization_check(nn.ReLU(), lambda model: torch.rand(1, 2))
    with pytest.raises(TypeError, match="maps_of gave a list"):
        randomization_check(vae, lambda model: [1])  # type: ignore[arg-type,return-value]
