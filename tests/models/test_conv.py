"""ConvVAE and its published settings: sizes, counts by hand, the contract of GaussianVAE."""

import json

import pytest
import torch
from torch import nn

from captum_vae.models import MNISTVAE, UCSDVAE, ConvVAE, FactorVAE, build_model

SMALL = {"channels": (4, 6), "hidden": 8}


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def small_vae(**options: object) -> ConvVAE:
    return ConvVAE(5, **{**SMALL, "image_size": 20, **options})


def test_the_mnist_encoder_has_the_parameters_of_the_published_table():
    conv1 = 1 * 64 * 4 * 4 + 64
    conv2 = 64 * 128 * 4 * 4 + 128
    linear = 128 * 7 * 7 * 1024 + 1024
    assert count(MNISTVAE().encoder) == conv1 + conv2 + linear == 6_555_840


def test_the_mnist_vae_has_the_parameters_its_docstring_states():
    heads = 2 * (1024 * 32 + 32)
    linears = (32 * 1024 + 1024) + (1024 * 6272 + 6272)
    deconvs = (128 * 64 * 16 + 64) + (64 * 1 * 16 + 1)
    assert count(MNISTVAE()) == 6_555_840 + heads + linears + deconvs == 13_216_193


def test_the_ucsd_vae_has_the_parameters_of_the_published_table():
    with torch.device("meta"):
        vae = UCSDVAE()
    convs = (1 * 64 * 16 + 64) + (64 * 128 * 16 + 128) + (128 * 256 * 16 + 256)
    features = 256 * 12 * 12
    encoder = convs + features * 1024 + 1024
    heads = 2 * (1024 * 32 + 32)
    linears = (32 * 1024 + 1024) + (1024 * features + features)
    deconvs = (256 * 128 * 16 + 128) + (128 * 64 * 16 + 64) + (64 * 1 * 16 + 1)
    assert count(vae.encoder) == encoder
    assert count(vae) == encoder + heads + linears + deconvs == 76_948_161


def test_the_layers_have_the_names_users_point_at():
    vae = UCSDVAE(image_size=16)
    for i in (1, 2, 3):
        assert isinstance(vae.get_submodule(f"encoder.conv{i}"), nn.Conv2d)
        relu = vae.get_submodule(f"encoder.relu{i}")
        assert isinstance(relu, nn.ReLU) and not relu.inplace


def test_the_mnist_features_are_14_and_7_pixels_wide():
    encoder = MNISTVAE().encoder
    x = torch.rand(2, 1, 28, 28)
    assert encoder[:2](x).shape == (2, 64, 14, 14)
    assert encoder[:4](x).shape == (2, 128, 7, 7)


@pytest.mark.parametrize("latent", ["vector", "spatial"])
@pytest.mark.parametrize("image_size", [28, 64, 100, 101, (158, 238), (31, 8)])
def test_the_reconstruction_has_exactly_the_size_of_the_image(image_size, latent):
    vae = small_vae(image_size=image_size, channels=(4, 4, 4), latent=latent)
    height, width = vae.image_size
    reconstruction, mean, log_variance = vae(torch.rand(2, 1, height, width))
    assert reconstruction.shape == (2, 1, height, width)
    expected = (2, 5) if latent == "vector" else (2, 5, height // 8, width // 8)
    assert mean.shape == log_variance.shape == expected
    assert vae.latent_shape == expected[1:]


def test_colour_images_come_back_in_colour():
    vae = small_vae(in_channels=3)
    assert vae(torch.rand(2, 3, 20, 20))[0].shape == (2, 3, 20, 20)


@pytest.mark.parametrize("model", [MNISTVAE, UCSDVAE, FactorVAE])
def test_the_published_models_take_any_image_and_latent_size(model):
    vae = model(3, image_size=(17, 22), in_channels=3)
    reconstruction, mean, _ = vae(torch.rand(1, 3, 17, 22))
    assert reconstruction.shape == (1, 3, 17, 22)
    assert mean.shape == (1, 3)


def test_without_hidden_layer_the_posterior_is_linear_in_the_features():
    vae = small_vae(hidden=None)
    assert count(vae.mean) == 6 * 5 * 5 * 5 + 5
    assert vae(torch.rand(1, 1, 20, 20))[0].shape == (1, 1, 20, 20)


def test_eval_mode_is_deterministic_and_decodes_the_mean():
    vae = small_vae().eval()
    x = torch.rand(3, 1, 20, 20)
    first, mean, _ = vae(x)
    assert torch.equal(first, vae(x)[0])
    assert torch.equal(first, vae.decode(mean))


def test_train_mode_samples_the_posterior():
    vae = small_vae().train()
    mean = torch.full((200_000, 1), 2.0)
    z = vae.reparameterize(mean, torch.full_like(mean, 9.0).log())
    assert z.mean().item() == pytest.approx(2.0, abs=0.05)
    assert z.std().item() == pytest.approx(3.0, abs=0.05)


def test_a_sample_carries_gradients_to_mean_and_log_variance():
    vae = small_vae().train()
    mean = torch.zeros(1, 5, dtype=torch.float64, requires_grad=True)
    log_variance = torch.full((1, 5), 0.3, dtype=torch.float64, requires_grad=True)
    z = vae.reparameterize(mean, log_variance)
    by_mean, by_log_variance = torch.autograd.grad(z.sum(), (mean, log_variance))
    assert torch.equal(by_mean, torch.ones_like(mean))
    # z = mean + exp(lv / 2) eps, so dz / dlv is half of what z adds to the mean.
    torch.testing.assert_close(by_log_variance, (z - mean).detach() / 2)


@pytest.mark.parametrize("latent", ["vector", "spatial"])
@pytest.mark.parametrize("norm", ["none", "batch"])
def test_a_config_that_went_through_json_rebuilds_the_model(norm, latent):
    vae = small_vae(image_size=(21, 30), norm=norm, latent=latent, output="linear").eval()
    config = json.loads(json.dumps(vae.config))
    twin = build_model(type(vae).__name__, **config).eval()
    twin.load_state_dict(vae.state_dict(), strict=True)
    x = torch.rand(2, 1, 21, 30)
    assert config == twin.config
    assert torch.equal(vae(x)[0], twin(x)[0])


def test_a_config_has_the_arguments_of_its_own_class_only():
    assert MNISTVAE(7).config == {
        "latent_dims": 7,
        "image_size": [28, 28],
        "in_channels": 1,
        "output": "sigmoid",
        "latent": "vector",
    }


def test_logits_are_the_sigmoid_output_before_the_sigmoid():
    sigmoid, logits = small_vae(), small_vae(output="logits")
    logits.load_state_dict(sigmoid.state_dict())
    z = torch.randn(2, 5)
    torch.testing.assert_close(torch.sigmoid(logits.decode(z)), sigmoid.decode(z))


def test_reconstruct_gives_the_image_of_the_mean_in_either_mode():
    logits = small_vae(output="logits").train()
    x = torch.rand(2, 1, 20, 20)
    expected = torch.sigmoid(logits.eval()(x)[0])
    assert torch.equal(logits.train().reconstruct(x), expected)


def test_a_linear_output_is_unbounded():
    vae = small_vae(output="linear")
    assert vae.decode(1e4 * torch.randn(4, 5)).abs().max() > 1


def test_a_model_in_float64_answers_in_float64():
    vae = small_vae(norm="batch").double()
    outputs = vae(torch.rand(2, 1, 20, 20, dtype=torch.float64))
    assert {tensor.dtype for tensor in outputs} == {torch.float64}


def test_batch_norm_models_take_a_single_image_in_eval_mode():
    vae = small_vae(norm="batch").eval()
    x = torch.rand(4, 1, 20, 20)
    torch.testing.assert_close(vae(x)[0][:1], vae(x[:1])[0])


@pytest.mark.parametrize("latent", ["vector", "spatial"])
def test_every_parameter_gets_a_gradient(latent):
    vae = small_vae(norm="batch", latent=latent)
    sum(tensor.square().sum() for tensor in vae(torch.rand(2, 1, 20, 20))).backward()
    assert all(parameter.grad is not None for parameter in vae.parameters())


@pytest.mark.parametrize("shape", [(2, 3, 20, 20), (2, 1, 20, 21), (1, 20, 20)])
def test_images_of_another_shape_are_refused_by_name_and_size(shape):
    with pytest.raises(ValueError, match=r"x has shape .* built for \(B, 1, 20, 20\)"):
        small_vae()(torch.rand(shape))


def test_integer_images_are_refused():
    with pytest.raises(TypeError, match="uint8"):
        small_vae()(torch.zeros(1, 1, 20, 20, dtype=torch.uint8))


@pytest.mark.parametrize(("latent", "wanted"), [("vector", r"\(B, 5\)"), ("spatial", "5, 5, 5")])
def test_latents_of_another_shape_are_refused(latent, wanted):
    with pytest.raises(ValueError, match=f"z has shape .*{wanted}"):
        small_vae(latent=latent).decode(torch.rand(2, 6))


def test_an_image_too_small_for_the_halvings_is_refused():
    with pytest.raises(ValueError, match=r"image_size \(7, 64\) .* at least 8 pixels"):
        UCSDVAE(image_size=(7, 64))


def test_an_unknown_model_name_lists_the_known_ones():
    with pytest.raises(ValueError, match="'mnits'.*conv, factor.*did you mean 'mnist'"):
        build_model("mnits")


def test_short_names_build_the_published_models():
    assert type(build_model("mnist")) is MNISTVAE
    assert type(build_model("factor", latent_dims=10)) is FactorVAE
    assert type(build_model("ucsd", image_size=16)) is UCSDVAE
    assert type(build_model("conv")) is ConvVAE
