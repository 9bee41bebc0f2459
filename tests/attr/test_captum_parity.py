"""LatentGradCAM is D calls of Captum's Grad-CAM, and the numbers one gets by hand."""

import pytest
import torch
from torch import nn

from captum_vae import LatentGradCAM, MeanSumGradCAM
from captum_vae.models import MNISTVAE, TimmVAE
from tests.attr.toys import SIDE, D, ToyVAE, assert_equal, captum_loop


@pytest.fixture(scope="module")
def mnist_vae():
    torch.manual_seed(1)
    return MNISTVAE(latent_dims=5).double().eval()


@pytest.fixture(scope="module")
def resnet_vae():
    torch.manual_seed(2)
    vae = TimmVAE(
        "resnet18", latent_dims=4, image_size=64, hidden=16, decoder_channels=(8, 8, 8, 8)
    )
    for module in vae.modules():
        if isinstance(module, nn.BatchNorm2d):  # timm starts the last one of each block at zero
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return vae.double().eval()


@pytest.mark.parametrize("layer", ["conv1", "conv2", "relu2"])
@pytest.mark.parametrize("relu", [True, False])
def test_mnist_maps_equal_a_loop_of_captums_grad_cam(mnist_vae, layer, relu):
    x = torch.rand(3, 1, 28, 28, dtype=torch.float64)
    module = mnist_vae.get_submodule(f"encoder.{layer}")
    wanted = captum_loop(lambda x: mnist_vae.encode(x)[0], module, x, 5, relu)
    found = LatentGradCAM(mnist_vae, module).attribute(x, rectifier="relu" if relu else "none")
    assert_equal(found, wanted)


@pytest.mark.parametrize("layer", ["layer1", "layer3", "layer4"])
def test_resnet18_maps_equal_a_loop_of_captums_grad_cam(resnet_vae, layer):
    x = torch.rand(2, 3, 64, 64, dtype=torch.float64)
    module = resnet_vae.get_submodule(f"encoder.backbone.{layer}")
    wanted = captum_loop(lambda x: resnet_vae.encode(x)[0], module, x, 4)
    assert_equal(LatentGradCAM(resnet_vae, module).attribute(x), wanted)


@pytest.mark.parametrize("layer", ["layer2.0.bn1", "layer2.0.act1", "layer4.1.conv2", "bn1"])
def test_resnet18_maps_inside_a_block_equal_a_loop_of_captums_grad_cam(resnet_vae, layer):
    """timm's activations are in place and its blocks have skip connections."""
    x = torch.rand(2, 3, 64, 64, dtype=torch.float64)
    module = resnet_vae.get_submodule(f"encoder.backbone.{layer}")
    wanted = captum_loop(lambda x: resnet_vae.encode(x)[0], module, x, 4, relu=False)
    assert_equal(LatentGradCAM(resnet_vae, module).attribute(x, rectifier="none"), wanted)


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("layer", ["conv1", "act1", "conv2", "act2"])
def test_toy_maps_equal_a_loop_of_captums_grad_cam_in_1_2_and_3_dimensions(axes, layer):
    vae = ToyVAE(axes)
    x = vae.images(3)
    wanted = captum_loop(lambda x: vae.encode(x)[0], vae.get_submodule(layer), x, D, relu=False)
    assert_equal(LatentGradCAM(vae, layer).attribute(x, rectifier="none"), wanted)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_maps_of_the_layers_input_equal_captums(axes):
    vae = ToyVAE(axes)
    x = vae.images(3)
    options = {"attribute_to_layer_input": True}
    wanted = captum_loop(lambda x: vae.encode(x)[0], vae.conv2, x, D, relu=False, **options)
    found = LatentGradCAM(vae, vae.conv2).attribute(x, rectifier="none", **options)
    assert found.shape == (3, D, *(SIDE,) * axes)
    assert_equal(found, wanted)


def test_method_2_equals_captums_grad_cam_of_the_summed_mean():
    vae = ToyVAE()
    x = vae.images(3)
    wanted = captum_loop(lambda x: vae.encode(x)[0].sum(1, keepdim=True), vae.conv1, x, 1)
    assert_equal(MeanSumGradCAM(vae, vae.conv1).attribute(x), wanted)


class TwoChannels(nn.Module):
    """Features x and -x of a 2x2 image, read by a Linear over the flattened eight values."""

    def __init__(self):
        super().__init__()
        self.features = nn.Conv2d(1, 2, 1, bias=False)
        self.mu = nn.Linear(8, 2)
        self.logvar = nn.Linear(8, 2)
        self.double()
        with torch.no_grad():
            self.features.weight.copy_(torch.tensor([1.0, -1.0]).reshape(2, 1, 1, 1))
            # Rows are latent dimensions; columns the four positions of channel 0, then channel 1.
            self.mu.weight.copy_(
                torch.tensor([[4.0, 0, 0, 4, 1, 1, 1, 1], [0, 0, -8, 0, 2, -2, 2, -6]])
            )

    def encode(self, x):
        flat = self.features(x).flatten(1)
        return self.mu(flat), self.logvar(flat)


def hand_computed_image():
    return torch.tensor([[[[1.0, 2.0], [-3.0, 0.5]]]], dtype=torch.float64)


def test_method_1_is_the_example_computed_by_hand():
    # A0 = x = [[1, 2], [-3, .5]], A1 = -x = [[-1, -2], [3, -.5]].
    # alpha[0] = ((4 + 0 + 0 + 4) / 4, (1 + 1 + 1 + 1) / 4) = (2, 1)
    #   2 A0 + 1 A1 = [[2 - 1, 4 - 2], [-6 + 3, 1 - .5]] = [[1, 2], [-3, .5]]
    # alpha[1] = ((0 + 0 - 8 + 0) / 4, (2 - 2 + 2 - 6) / 4) = (-2, -1)
    #   -2 A0 - 1 A1 = [[-2 + 1, -4 + 2], [6 - 3, -1 + .5]] = [[-1, -2], [3, -.5]]
    # ReLU leaves [[1, 2], [0, .5]] and [[0, 0], [3, 0]].
    wanted = torch.tensor([[[[1, 2], [0, 0.5]], [[0, 0], [3, 0]]]], dtype=torch.float64)
    vae = TwoChannels()
    found = LatentGradCAM(vae, vae.features).attribute(hand_computed_image())
    assert torch.equal(found, wanted)


def test_method_2_is_the_example_computed_by_hand():
    # The weights of the sum are alpha[0] + alpha[1] = (2 - 2, 1 - 1) = (0, 0): the map is zero.
    vae = TwoChannels()
    found = MeanSumGradCAM(vae, vae.features).attribute(hand_computed_image())
    assert torch.equal(found, torch.zeros(1, 1, 2, 2, dtype=torch.float64))


def test_elementwise_weighting_is_the_example_computed_by_hand():
    # d mu0 / d A0 = [[4, 0], [0, 4]], times A0: [[4, 0], [0, 2]];
    # d mu0 / d A1 = [[1, 1], [1, 1]], times A1: [[-1, -2], [3, -.5]]; their sum [[3, -2], [3, 1.5]]
    # d mu1 / d A0 = [[0, 0], [-8, 0]], times A0: [[0, 0], [24, 0]];
    # d mu1 / d A1 = [[2, -2], [2, -6]], times A1: [[-2, 4], [6, 3]]; their sum [[-2, 4], [30, 3]]
    wanted = torch.tensor([[[[3, -2], [3, 1.5]], [[-2, 4], [30, 3]]]], dtype=torch.float64)
    vae = TwoChannels()
    found = LatentGradCAM(vae, vae.features).attribute(
        hand_computed_image(), weighting="elementwise", rectifier="none"
    )
    assert torch.equal(found, wanted)


def test_channelwise_relu_is_the_example_computed_by_hand():
    # d = 0: relu(2 A0) + relu(1 A1) = [[2, 4], [0, 1]] + [[0, 0], [3, 0]] = [[2, 4], [3, 1]]
    # d = 1: relu(-2 A0) + relu(-1 A1) = [[0, 0], [6, 0]] + [[1, 2], [0, .5]] = [[1, 2], [6, .5]]
    wanted = torch.tensor([[[[2, 4], [3, 1]], [[1, 2], [6, 0.5]]]], dtype=torch.float64)
    vae = TwoChannels()
    found = LatentGradCAM(vae, vae.features).attribute(hand_computed_image(), order="channelwise")
    assert torch.equal(found, wanted)


def test_a_number_as_baseline_is_the_example_computed_by_hand():
    # The features of an image of ones are A0 = 1, A1 = -1: the contrasts are x - 1 and 1 - x, so
    # with alpha[0] = (2, 1) the map is 2 (x - 1) + (1 - x) = x - 1 = [[0, 1], [-4, -.5]],
    # and with alpha[1] = (-2, -1) it is its negative.
    first = [[0, 1], [-4, -0.5]]
    second = [[0, -1], [4, 0.5]]
    vae = TwoChannels()
    found = LatentGradCAM(vae, vae.features).attribute(
        hand_computed_image(), baselines=1, rectifier="none"
    )
    assert torch.equal(found, torch.tensor([[first, second]], dtype=torch.float64))
