"""FactorVAE's encoder, decoder and discriminator against their published tables."""

import json

import pytest
import torch

from captum_vae.models import FactorDiscriminator, FactorVAE


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_the_encoder_has_the_254848_parameters_of_the_published_code():
    vae = FactorVAE(32)
    convs = (1 * 32 + 32 * 32 + 32 * 64 + 64 * 64) * 16 + 32 + 32 + 64 + 64
    conv_4x4_to_128 = 64 * 128 * 16 + 128
    conv_1x1_to_moments = 128 * 64 + 64
    encoder = count(vae.encoder) + count(vae.mean) + count(vae.log_variance)
    assert encoder == convs + conv_4x4_to_128 + conv_1x1_to_moments == 254_848


def test_the_decoder_mirrors_the_encoder():
    linears = (32 * 128 + 128) + (128 * 1024 + 1024)
    deconvs = (64 * 64 + 64 * 32 + 32 * 32 + 32 * 1) * 16 + 64 + 32 + 32 + 1
    assert count(FactorVAE(32).decoder) == linears + deconvs == 506_497 - 254_848


def test_logits_suit_binary_cross_entropy_with_logits():
    vae = FactorVAE(10, output="logits")
    x = torch.rand(2, 1, 64, 64).round()
    logits, mean, _ = vae(x)
    assert mean.shape == (2, 10)
    loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, x, reduction="sum") / 2
    # Untrained logits are near 0, where every pixel costs log 2.
    assert loss.item() == pytest.approx(4096 * 0.6931, rel=0.02)


def test_the_discriminator_has_six_hidden_layers_of_1000():
    expected = (32 * 1000 + 1000) + 5 * (1000 * 1000 + 1000) + (1000 * 2 + 2)
    assert count(FactorDiscriminator(32)) == expected == 5_040_002


def test_the_discriminator_returns_two_logits_per_sample():
    assert FactorDiscriminator(10, hidden=8)(torch.randn(3, 10)).shape == (3, 2)


def test_the_discriminator_leaks_a_fifth_of_negative_activations():
    discriminator = FactorDiscriminator(1, hidden=1, layers=1)
    with torch.no_grad():
        for parameter in discriminator.parameters():
            parameter.fill_(1.0)
    # fc1: -6 + 1 = -5; leak: -1; logits: -1 + 1 = 0.
    torch.testing.assert_close(discriminator(torch.tensor([[-6.0]])), torch.zeros(1, 2))


def test_the_discriminators_config_rebuilds_it():
    config = json.loads(json.dumps(FactorDiscriminator(4, hidden=8, layers=2).config))
    assert config == {"latent_dims": 4, "hidden": 8, "layers": 2, "slope": 0.2}
    assert FactorDiscriminator(**config).config == config


def test_the_discriminator_refuses_latents_of_another_width():
    with pytest.raises(ValueError, match=r"z has shape \(3, 9\).*\(B, 10\)"):
        FactorDiscriminator(10, hidden=8)(torch.randn(3, 9))
