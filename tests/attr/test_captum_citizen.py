"""Captum's own tools take the attributions: NoiseTunnel, metrics, TCAV, visualization."""

import pytest
import torch
import torch.nn.functional as F
from captum.attr import (
    GradientAttribution,
    LayerAttribution,
    NoiseTunnel,
    visualization,
)
from captum.concept import TCAV, Classifier, Concept
from captum.metrics import infidelity, sensitivity_max
from torch import nn

from captum_vae import LatentGradCAM, MeanSumGradCAM, NormalDifferenceGradCAM, explanation_func
from captum_vae.attr import input_attributions
from tests.attr.toys import D, ToyVAE, assert_equal, features_and_gradients


def noisy_copies(x, samples, stdev, seed):
    """The very noise that NoiseTunnel draws after this seed."""
    torch.manual_seed(seed)
    noise = torch.normal(0, torch.full((len(x) * samples, *x.shape[1:]), stdev))
    return x.repeat_interleave(samples, 0) + noise


@pytest.mark.parametrize("method", [LatentGradCAM, MeanSumGradCAM, NormalDifferenceGradCAM])
def test_every_class_is_a_captum_layer_and_gradient_attribution(method):
    assert issubclass(method, LayerAttribution) and issubclass(method, GradientAttribution)


targets = pytest.mark.parametrize(
    ("target", "dims"),
    [(None, [0, 1, 2]), (1, [1]), ((2, 0), [2, 0]), ([2, 0], [2, 0]), ([1], [1])]
    + [(torch.tensor([0, 2]), [0, 2]), (torch.tensor(1), [1])],
    ids=str,
)


@targets
def test_smoothgrad_is_the_mean_map_of_the_noisy_copies(target, dims):
    vae = ToyVAE()
    x = vae.images(2)
    cam = LatentGradCAM(vae, "conv2")
    copies = cam.attribute(noisy_copies(x, 4, 0.3, seed=5))[:, dims]
    torch.manual_seed(5)
    found = NoiseTunnel(cam).attribute(x, nt_samples=4, stdevs=0.3, target=target)
    assert_equal(found, copies.unflatten(0, (2, 4)).mean(1))


@targets
def test_vargrad_is_the_variance_of_the_maps_of_the_noisy_copies(target, dims):
    vae = ToyVAE()
    x = vae.images(2)
    cam = LatentGradCAM(vae, "conv2")
    copies = cam.attribute(noisy_copies(x, 4, 0.3, seed=5))[:, dims]
    torch.manual_seed(5)
    tunnel = NoiseTunnel(cam)
    found = tunnel.attribute(x, nt_type="vargrad", nt_samples=4, stdevs=0.3, target=target)
    assert_equal(found, copies.unflatten(0, (2, 4)).var(1, correction=0), relative=1e-9)


def test_noise_tunnel_in_small_batches_takes_a_list_target_and_options():
    """3 samples in batches of 2: the list is repeated 2 times, then the remaining one once."""
    vae = ToyVAE()
    x = vae.images(2)
    cam = LatentGradCAM(vae, "conv2")
    tunnel = NoiseTunnel(cam)
    found = tunnel.attribute(
        x, nt_samples=3, nt_samples_batch_size=2, target=[0, 2], rectifier="abs", size="input"
    )
    assert found.shape == (2, 2, 6, 6)


def test_noise_tunnel_without_noise_gives_the_map_itself_for_several_layers_and_baselines():
    vae = ToyVAE()
    x = vae.images(2)
    cam = LatentGradCAM(vae, ["conv1", "conv2"])
    options = {"target": (0, 1), "baselines": torch.zeros_like(x[:1]), "rectifier": "abs"}
    found = NoiseTunnel(cam).attribute(x, nt_samples=2, stdevs=0.0, **options)
    for maps, wanted in zip(found, cam.attribute(x, **options), strict=True):
        assert_equal(maps, wanted)


@pytest.mark.parametrize("method", [MeanSumGradCAM, NormalDifferenceGradCAM])
def test_noise_tunnel_takes_the_one_map_methods(method):
    vae = ToyVAE()
    cam = method(vae, "conv2")
    if method is NormalDifferenceGradCAM:
        cam.fit([vae.images(3)])
    x = vae.images(2)
    wanted = cam.attribute(x, rectifier="abs")
    found = NoiseTunnel(cam).attribute(x, nt_samples=2, stdevs=0.0, rectifier="abs")
    assert_equal(found, wanted)


def test_sensitivity_max_is_the_largest_relative_change_of_the_map():
    vae = ToyVAE()
    x = vae.images(3)
    cam = LatentGradCAM(vae, "conv2")
    here = cam.attribute(x, target=1, rectifier="abs").flatten(1)
    there = cam.attribute(x + 0.1, target=1, rectifier="abs").flatten(1)
    found = sensitivity_max(
        explanation_func(cam, rectifier="abs"),
        x,
        perturb_func=lambda inputs: inputs[0] + 0.1 if isinstance(inputs, tuple) else inputs + 0.1,
        n_perturb_samples=2,
        target=1,
    )
    assert_equal(found, (there - here).norm(dim=1) / here.norm(dim=1))


def test_sensitivity_max_takes_several_layers_with_its_own_noise():
    vae = ToyVAE()
    explain = explanation_func(LatentGradCAM(vae, ["conv1", "conv2"]), target=[0, 1])
    found = sensitivity_max(explain, vae.images(3), n_perturb_samples=2)
    assert found.shape == (3,) and bool(found.isfinite().all())


def test_infidelity_is_the_squared_error_of_the_maps_prediction():
    vae = ToyVAE()
    x = vae.images(3)
    mean = lambda x: vae.encode(x)[0]  # noqa: E731
    maps = LatentGradCAM(vae, "conv2").attribute(x, target=2, rectifier="none")
    attributions = input_attributions(maps, x)
    step = torch.linspace(-1, 1, x[0].numel()).reshape(x.shape[1:]).double()
    predicted = (F.interpolate(maps, (6, 6), mode="bilinear") * step).sum((1, 2, 3))
    wanted = (predicted - (mean(x) - mean(x - step))[:, 2]).square()
    found = infidelity(
        mean,
        lambda inputs: (step.expand_as(inputs), inputs - step),
        x,
        attributions,
        target=2,
        n_perturb_samples=2,
    )
    assert_equal(found, wanted.detach())


def test_input_attributions_refuses_several_maps_per_image():
    vae = ToyVAE()
    x = vae.images(2)
    maps = LatentGradCAM(vae, "conv2").attribute(x)
    with pytest.raises(ValueError, match=r"maps has shape \(2, 3, 3, 3\).*aggregate"):
        input_attributions(maps, x)


@pytest.mark.parametrize("axes", [1, 3])
def test_input_attributions_takes_sequences_and_volumes(axes):
    vae = ToyVAE(axes)
    x = vae.images(2)
    maps = LatentGradCAM(vae, "conv2").attribute(x, target=0)
    assert input_attributions(maps, x).shape == x.shape


class FixedDirections(Classifier):
    """Concept directions known beforehand, so that TCAV's scores can be computed by hand."""

    def __init__(self):
        generator = torch.Generator().manual_seed(11)
        self.directions = torch.randn(2, 4 * 3 * 3, generator=generator)

    def train_and_eval(self, dataloader, **kwargs):
        return {}

    def weights(self):
        return self.directions

    def classes(self):
        return [0, 1]


def test_tcav_scores_directions_in_the_channels_that_one_latent_dimension_reads(tmp_path):
    vae = ToyVAE().float()
    x = vae.images(5).float()
    concepts = [
        Concept(number, name, torch.utils.data.DataLoader(vae.images(4, seed=number).float(), 2))
        for number, name in enumerate(["one", "two"])
    ]
    tcav = TCAV(
        TakesImages(vae),
        layers=["vae.conv2"],
        classifier=FixedDirections(),
        layer_attr_method=LatentGradCAM(vae, None),
        save_path=str(tmp_path),
    )
    scores = tcav.interpret(x, [concepts], target=1, reduction="none", rectifier="none")
    features, gradients = features_and_gradients(lambda x: vae.encode(x)[0], vae.conv2, x)
    alpha = gradients[:, 1].mean((2, 3), keepdim=True)
    projections = (alpha * features).flatten(1) @ FixedDirections().weights().t()
    found = scores["0-1"]["vae.conv2"]["sign_count"]
    assert torch.allclose(found, (projections > 0).float().mean(0))


class TakesImages(nn.Module):
    """TCAV names layers from its own model, which may wrap the VAE that is explained."""

    def __init__(self, vae):
        super().__init__()
        self.vae = vae

    def forward(self, x):
        return self.vae(x)[1]


def test_channel_maps_have_the_features_shape_behind_the_latent_axis():
    vae = ToyVAE()
    x = vae.images(2)
    cam = LatentGradCAM(vae, "conv2")
    assert cam.attribute(x, reduction="none").shape == (2, D, 4, 3, 3)
    assert cam.attribute(x, target=0, reduction="none", size="input").shape == (2, 1, 4, 6, 6)


@pytest.mark.parametrize("method", ["heat_map", "blended_heat_map"])
def test_captums_visualization_draws_a_map_over_its_image(method):
    pytest.importorskip("matplotlib")
    vae = ToyVAE()
    x = vae.images(1)
    maps = LatentGradCAM(vae, "conv2").attribute(x, target=0, rectifier="abs", size="input")
    figure, _ = visualization.visualize_image_attr(
        maps[0].permute(1, 2, 0).numpy(),
        x[0, :1].sigmoid().permute(1, 2, 0).numpy(),
        method=method,
        sign="positive",
        show_colorbar=True,
        use_pyplot=False,
    )
    (drawn, *_) = [image for axis in figure.axes for image in axis.get_images()][-1:]
    assert drawn.get_array().shape[:2] == (6, 6)


def test_interpolate_is_captums_own_and_size_does_the_same_bilinearly():
    vae = ToyVAE()
    x = vae.images(2)
    cam = LatentGradCAM(vae, "conv2")
    assert LatentGradCAM.interpolate is LayerAttribution.interpolate
    maps = cam.attribute(x)
    wanted = LatentGradCAM.interpolate(maps, (6, 6), "bilinear")
    assert_equal(cam.attribute(x, size="input"), wanted)


@pytest.mark.parametrize("method", [LatentGradCAM, MeanSumGradCAM])
def test_the_convergence_delta_of_integrated_maps_is_what_their_sum_lacks(method):
    vae = ToyVAE()
    x = vae.images(3)
    cam, baseline = method(vae, "conv2"), torch.full_like(x, 0.2)
    options = {"weighting": "integrated", "rectifier": "none", "baselines": baseline}
    assert cam.has_convergence_delta()
    few, many = (
        cam.attribute(x, n_steps=n, return_convergence_delta=True, **options) for n in (1, 64)
    )
    values = [vae.encode(point)[0] for point in (x, baseline)]
    difference = values[0] - values[1]
    if method is MeanSumGradCAM:
        difference = difference.sum(1, keepdim=True)
    assert_equal(many[0].flatten(2).sum(2), difference.detach(), relative=2e-2)
    torch.testing.assert_close(many[1], many[0].flatten(2).sum(2) - difference.detach())
    assert many[1].abs().max() <= few[1].abs().max() + 1e-3
    assert torch.equal(many[1], cam.compute_convergence_delta(many[0], baseline, x))


def test_noise_tunnel_returns_the_deltas_and_takes_a_baseline_for_each_image():
    vae = ToyVAE()
    x = vae.images(2)
    cam, baseline = LatentGradCAM(vae, "conv2"), 0.3 * torch.ones_like(x)
    options = {"weighting": "integrated", "rectifier": "none", "baselines": baseline, "target": 1}
    maps, delta = NoiseTunnel(cam).attribute(
        x, nt_samples=3, stdevs=0.0, return_convergence_delta=True, **options
    )
    wanted, deltas = cam.attribute(x, return_convergence_delta=True, **options)
    assert_equal(maps, wanted)
    torch.testing.assert_close(delta, deltas.repeat_interleave(3, 0))


@pytest.mark.parametrize(
    "changes",
    [{"weighting": "pooled"}, {"rectifier": "abs"}, {"baselines": None}, {"size": "input"}],
)
def test_a_convergence_delta_of_other_maps_is_refused(changes):
    vae = ToyVAE()
    x = vae.images(2)
    options = {"weighting": "integrated", "rectifier": "none", "baselines": 0.0, **changes}
    with pytest.raises(ValueError, match="return_convergence_delta wants weighting='integrated'"):
        LatentGradCAM(vae, "conv2").attribute(x, return_convergence_delta=True, **options)
    with pytest.raises(ValueError, match="wanted maps of"):
        LatentGradCAM(vae, "conv2").compute_convergence_delta(torch.zeros(2, 1, 3, 3), 0.0, x)
