"""What hinders an attribution is called by its name."""

import pytest
import torch
from torch import nn

from captum_vae import LatentGradCAM
from tests.attr.toys import ToyVAE


class Inferring(ToyVAE):
    """Part of the model runs under inference_mode, as serving code is often written."""

    def __init__(self, part):
        super().__init__()
        self.part = part

    def encode(self, x):
        with torch.inference_mode(self.part in ("trunk", "all")):
            hidden = self.trunk(x)
        with torch.inference_mode(self.part in ("heads", "all")):
            return self.fc_mu(hidden), self.fc_logvar(hidden)


@pytest.mark.parametrize("weighting", ["pooled", "integrated"])
@pytest.mark.parametrize("part", ["all", "trunk", "heads"])
def test_inference_mode_inside_the_model_is_named(part, weighting):
    vae = Inferring(part)
    cam = LatentGradCAM(vae, "conv1", posterior="encode:[0],[1]")
    with pytest.raises(RuntimeError, match=r"under torch.inference_mode\(\).*torch.no_grad\(\)"):
        cam.attribute(vae.images(2), weighting=weighting)


class InPieces(ToyVAE):
    """A batch of two is encoded slice by slice, as in diffusers."""

    use_slicing = use_tiling = False

    def encode(self, x):
        if not (self.use_slicing or self.use_tiling):
            return super().encode(x)
        parts = [torch.stack(super(InPieces, self).encode(part)) for part in x.split(1)]
        return tuple(torch.cat(parts, 1))


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("way", ["slicing", "tiling"])
def test_an_input_encoded_in_pieces_is_named_with_the_call_that_ends_it(way, inside):
    vae = InPieces()
    setattr(vae, f"use_{way}", True)
    model = vae
    if inside:
        model = nn.Module()
        model.vae, model.encode = vae, vae.encode
    cam = LatentGradCAM(model, vae.conv1, posterior="encode:[0],[1]")
    message = rf"encodes its input in pieces \(use_{way}\); call disable_{way}\(\) on it first"
    with pytest.raises(RuntimeError, match=message):
        cam.attribute(vae.images(2))


@pytest.mark.parametrize("way", ["slicing", "tiling"])
def test_diffusers_own_model_in_pieces_is_named(way):
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    vae = diffusers.AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 2,
        up_block_types=["UpDecoderBlock2D"] * 2,
        block_out_channels=[8, 8],
        norm_num_groups=4,
        sample_size=16,
    ).eval()
    getattr(vae, f"enable_{way}")()
    x = torch.rand(2, 3, 32, 32)
    cam = LatentGradCAM(vae, vae.encoder.conv_in)
    with pytest.raises(RuntimeError, match=rf"use_{way}.*call disable_{way}\(\)"):
        cam.attribute(x)
    getattr(vae, f"disable_{way}")()
    assert torch.isfinite(cam.attribute(x)).all()
