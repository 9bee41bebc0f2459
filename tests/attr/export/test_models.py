"""Exported attributions of the models that people have, at batch 1 and 7 from one file."""

import numpy as np
import pytest
import torch

from captum_vae import LatentGradCAM
from captum_vae.models import MNISTVAE, UCSDVAE, FactorVAE, ResNet18VAE, TimmVAE

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:the posterior carries no information"),
]


def grid(tokens):
    """A ViT's tokens, without the class token, on their grid."""
    patches = tokens[:, 1:]
    side = int(patches.shape[1] ** 0.5)
    return patches.transpose(1, 2).reshape(len(tokens), -1, side, side)


def pythae_vae():
    models = pytest.importorskip("pythae.models", reason="pythae is not installed")
    mnist = pytest.importorskip("pythae.models.nn.benchmarks.mnist")
    config = models.VAEConfig(input_dim=(1, 28, 28), latent_dim=4)
    return models.VAE(config, encoder=mnist.Encoder_Conv_VAE_MNIST(config))


def vit():
    return TimmVAE(
        "vit_tiny_patch16_224",
        latent_dims=4,
        image_size=64,
        in_channels=3,
        hidden=None,
        decoder_channels=(16, 8),
    )


MODELS = {
    "mnist": (MNISTVAE, (1, 28, 28), "encoder.conv2", {}),
    "ucsd": (UCSDVAE, (1, 100, 100), "encoder.conv3", {}),
    "factor": (FactorVAE, (1, 64, 64), "encoder.conv4", {}),
    "resnet18": (lambda: ResNet18VAE(8, image_size=64), (3, 64, 64), "encoder.backbone.layer4", {}),
    "vit": (vit, (3, 64, 64), "encoder.backbone.blocks.10", {"reshape_transform": grid}),
    "pythae": (pythae_vae, (1, 28, 28), "encoder.layers.2", {}),
}


@pytest.mark.parametrize("format", ["onnx", "torch"])
@pytest.mark.parametrize("name", MODELS)
def test_one_file_gives_the_maps_of_eager_mode_at_batch_1_and_7(tmp_path, name, format):
    build, shape, layer, options = MODELS[name]
    torch.manual_seed(0)
    cam = LatentGradCAM(build().eval(), layer, **options)
    path = tmp_path / f"maps.{format}"
    cam.export(torch.rand(2, *shape), path, format=format, outputs=("maps", "mean"), size="input")
    for count in (1, 7):
        images = torch.rand(count, *shape)
        wanted = cam.attribute(images, size="input")
        if format == "onnx":
            session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
            (fed,) = session.get_inputs()
            names = [entry.name for entry in session.get_outputs()]
            found = dict(zip(names, session.run(None, {fed.name: images.numpy()}), strict=True))
        else:
            found = torch.export.load(path).module()(images)
        off = float((torch.as_tensor(found["maps"]) - wanted).abs().max() / wanted.abs().max())
        assert off < 1e-5, f"{name} at batch {count} is off by {off:.1e} of the largest value"
        assert np.isfinite(np.asarray(found["mean"])).all()
