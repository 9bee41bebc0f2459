"""timm backbones as encoders: their own classifier head gives mean and log-variance."""

import pytest
import torch
from torch import nn

from captum_vae import LatentGradCAM
from captum_vae.models import TimmVAE
from tests.attr.toys import assert_equal
from tests.packages.by_autograd import grad_cam, random_batch_norms

timm = pytest.importorskip("timm")

D = 3
BACKBONES = {
    "resnet18": {},
    "convnext_atto": {"depths": (1, 1, 1, 1), "dims": (8, 12, 16, 20)},
    "vit_tiny_patch16_224": {
        "img_size": 32,
        "patch_size": 8,
        "depth": 2,
        "embed_dim": 24,
        "num_heads": 3,
    },
}


def encoder(name):
    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False, num_classes=2 * D, **BACKBONES[name])
    return random_batch_norms(model).double().eval()


def images():
    generator = torch.Generator().manual_seed(1)
    return torch.rand(2, 3, 32, 32, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(
    ("name", "layer", "path"),
    [
        ("resnet18", "layer2", "convolved"),
        ("resnet18", "layer1.0.act1", "convolved"),
        ("resnet18", "layer4", "pooled"),
        ("convnext_atto", "stages.0", "vector_jacobian"),
        ("convnext_atto", "stages.2", "vector_jacobian"),
    ],
)
def test_three_lines_give_the_maps_of_float64_autograd(name, layer, path):
    model = encoder(name)
    cam = LatentGradCAM(model, layer, posterior="chunk")
    maps = cam.attribute(images())
    wanted = grad_cam(lambda x: model(x)[:, :D], model.get_submodule(layer), images())
    assert_equal(maps, wanted)
    assert cam.explain_plan(images())[0].path == path


def to_grid(tokens):
    """(B, 1 + 16, C) -> (B, C, 4, 4), without the class token."""
    return tokens[:, 1:].transpose(1, 2).unflatten(2, (4, 4))


@pytest.mark.parametrize("layer", ["blocks.0", "blocks.1.norm1"])
@pytest.mark.parametrize("of", ["mean", "logvar"])
def test_a_vision_transformers_tokens_are_maps_through_reshape_transform(layer, of):
    model = encoder("vit_tiny_patch16_224")
    cam = LatentGradCAM(model, layer, posterior="chunk", of=of, reshape_transform=to_grid)
    maps = cam.attribute(images())
    half = slice(None, D) if of == "mean" else slice(D, None)
    module = model.get_submodule(layer)
    assert_equal(maps, grad_cam(lambda x: model(x)[:, half], module, images(), to_grid))


def test_a_layer_of_tokens_asks_for_the_reshape_transform():
    model = encoder("vit_tiny_patch16_224")
    cam = LatentGradCAM(model, "head", posterior="chunk")
    with pytest.raises(ValueError, match="reshape_transform"):
        cam.attribute(images())


def test_a_vae_on_a_backbone_needs_no_words_at_all():
    vae = TimmVAE("resnet18", latent_dims=D, image_size=32, hidden=8, decoder_channels=(4, 4, 4, 4))
    vae = random_batch_norms(vae).double().eval()
    layer = vae.encoder.backbone.layer3
    assert isinstance(layer, nn.Module)
    found = LatentGradCAM(vae, layer).attribute(images())
    assert_equal(found, grad_cam(lambda x: vae.encode(x)[0], layer, images()))
