"""Stacked copies compute what each copy computes by itself."""

import pytest
import torch

from captum_vae.attr import LatentGradCAM
from captum_vae.losses.density_ratio import discriminator_loss, total_correlation
from captum_vae.models import ConvVAE, FactorDiscriminator, FactorVAE
from captum_vae.models.stacked import StackedDiscriminator, StackedVAE

COPIES = 3


def copies(make, count=COPIES):
    torch.manual_seed(0)
    return [make().double() for _ in range(count)]


def small(**options):
    settings = {"image_size": 16, "channels": (4, 6), "hidden": 10, "output": "logits"}
    return ConvVAE(5, **{**settings, **options})


MAKERS = {
    "factor_vae": lambda: FactorVAE(5, image_size=32),
    "grey": small,
    "colour": lambda: small(in_channels=3, output="sigmoid"),
    "odd_sizes": lambda: small(image_size=(19, 22)),
    "without_hidden_layer": lambda: small(hidden=None),
}


@pytest.mark.parametrize("way", ["each", "grouped"])
@pytest.mark.parametrize("name", MAKERS)
def test_codes_images_and_gradients_are_those_of_each_copy(name, way):
    models = copies(MAKERS[name])
    stack = StackedVAE(models, convolutions=way)
    images = torch.rand(COPIES, 4, models[0].in_channels, *models[0].image_size).double()
    codes = stack.encode(images)
    decoded = stack.decode(codes.mean)
    (decoded.square().sum() + codes.log_variance.sum()).backward()
    for copy, model in enumerate(models):
        mean, log_variance = model.encode(images[copy])
        image = model.decode(mean)
        torch.testing.assert_close(codes.mean[copy], mean)
        torch.testing.assert_close(codes.log_variance[copy], log_variance)
        torch.testing.assert_close(decoded[copy], image)
        (image.square().sum() + log_variance.sum()).backward()
        for weight, parameter in model.named_parameters():
            torch.testing.assert_close(stack.parameters[weight].grad[copy], parameter.grad)


@pytest.mark.parametrize("way", ["each", "grouped"])
@pytest.mark.parametrize("layer", ["conv2", "relu2"])
@pytest.mark.parametrize("name", ["grey", "without_hidden_layer"])
def test_channel_weights_are_the_pooled_gradients_of_each_copy(name, layer, way):
    models = copies(MAKERS[name])
    stack = StackedVAE(models, convolutions=way)
    images = torch.rand(COPIES, 4, 1, 16, 16).double()
    codes = stack.encode(images, layer)
    maps = (stack.channel_weights(codes, layer) @ codes.features.flatten(3)).relu()
    for copy, model in enumerate(models):
        cam = LatentGradCAM(model, model.encoder.get_submodule(layer))
        expected = cam.attribute(images[copy]).flatten(2)
        torch.testing.assert_close(maps[copy], expected, rtol=1e-5, atol=1e-7)


def test_the_closed_form_of_the_discriminators_gradients_is_that_of_autograd():
    models = copies(lambda: FactorDiscriminator(4, hidden=7, layers=3))
    stack = StackedDiscriminator(models)
    z, permuted = torch.randn(2, COPIES, 6, 4).double()
    correlation, loss, gradient = stack.learn(z, permuted)
    for copy, model in enumerate(models):
        codes = z[copy].clone().requires_grad_()
        expected = total_correlation(model(codes))
        torch.testing.assert_close(correlation[copy], expected)
        torch.testing.assert_close(gradient[copy], torch.autograd.grad(expected, codes)[0])
        learned = discriminator_loss(model(z[copy]), model(permuted[copy]))
        torch.testing.assert_close(loss[copy], learned)
        learned.backward()
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(stack.parameters[name].grad[copy], parameter.grad)


def test_weights_go_back_into_their_models():
    models = copies(small)
    stack = StackedVAE(models)
    with torch.no_grad():
        for parameter in stack.parameters.values():
            parameter += 1
    before = [model.mean.weight.clone() for model in models]
    stack.write_back()
    for model, weight in zip(models, before, strict=True):
        torch.testing.assert_close(model.mean.weight, weight + 1)


@pytest.mark.parametrize(
    ("models", "words"),
    [
        ([], "no model to stack"),
        ([small(), small(hidden=9)], "model 1 is .* share one architecture"),
        ([small(norm="batch")], "encoder.norm1 is a BatchNorm2d"),
        ([small(latent="spatial")], "latent='vector'"),
    ],
)
def test_what_cannot_be_stacked_is_refused_by_name(models, words):
    with pytest.raises(ValueError, match=words):
        StackedVAE(models)
