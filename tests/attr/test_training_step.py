"""``attribute`` between a training step's forward and backward changes nothing of the step."""

import pytest
import torch
from torch import nn

from captum_vae import (
    DecoderAttribution,
    LatentGradCAM,
    MeanActivation,
    MeanSumGradCAM,
    NormalDifferenceGradCAM,
)
from tests.attr.toys import ToyVAE

pytestmark = pytest.mark.filterwarnings("ignore")


class Normalised(ToyVAE):
    """Batch norm in the encoder and in the decoder, and spectral norm, which has buffers too."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(3).double()
        self.out_norm = nn.BatchNorm2d(2, momentum=None).double()
        self.fc = nn.utils.parametrizations.spectral_norm(self.fc)

    def trunk(self, x):
        features = self.act2(self.conv2(self.act1(self.norm(self.conv1(x)))))
        return self.act3(self.fc(features.flatten(1)))

    def decode(self, z):
        return self.out_norm(super().decode(z))


CALLS = {
    "first call": lambda vae, x: LatentGradCAM(vae, "conv2").attribute(x),
    "stated posterior": lambda vae, x: LatentGradCAM(
        vae, "conv2", posterior="encode:[0],[1]"
    ).attribute(x),
    "whole model": lambda vae, x: LatentGradCAM(
        vae, "conv2", posterior="forward:[1],[2]"
    ).attribute(x),
    "a function": lambda vae, x: LatentGradCAM(lambda x: vae.encode(x)[0], vae.conv2).attribute(x),
    "a method": lambda vae, x: LatentGradCAM(vae.encode, "conv2", posterior="[0],[1]").attribute(x),
    "reconstruction": lambda vae, x: LatentGradCAM(vae, "conv2").attribute(
        x, baselines="reconstruction"
    ),
    "integrated": lambda vae, x: LatentGradCAM(vae, "conv1").attribute(
        x, weighting="integrated", n_steps=2
    ),
    "create_graph": lambda vae, x: LatentGradCAM(vae, "conv1").attribute(x, create_graph=True),
    "mean activation": lambda vae, x: MeanActivation().fit(LatentGradCAM(vae, "conv1"), [x]),
    "normal difference": lambda vae, x: (
        NormalDifferenceGradCAM(vae, "conv1").fit([x]).attribute(x, rectifier="abs")
    ),
    "method 2": lambda vae, x: MeanSumGradCAM(vae, "conv1").attribute(x),
    "plan": lambda vae, x: LatentGradCAM(vae, "conv1").explain_plan(x),
}


def step(between):
    torch.manual_seed(0)
    vae = Normalised().train()
    x = vae.images(4)
    torch.manual_seed(1)
    reconstruction, mean, log_variance = vae(x)
    if between is not None:
        between(vae, x)
    loss = (reconstruction - x).square().sum() + mean.square().sum() + log_variance.exp().sum()
    loss.backward()
    return vae, {name: p.grad for name, p in vae.named_parameters()}


@pytest.mark.parametrize("call", CALLS)
def test_the_users_backward_gives_the_same_gradients(call):
    plain, wanted = step(None)
    vae, found = step(CALLS[call])
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    pairs = zip(vae.named_buffers(), plain.named_buffers(), strict=True)
    assert all(torch.equal(one, other) for (_, one), (_, other) in pairs)


def test_a_decoder_attribution_in_between_changes_nothing_either():
    def between(vae, x):
        vae.eval()
        DecoderAttribution(vae).attribute(x)
        vae.train()

    _, wanted = step(None)
    _, found = step(between)
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
