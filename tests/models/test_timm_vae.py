"""TimmVAE on several real timm backbones: cutting, naming, sizes, errors."""

import json
import subprocess
import sys

import pytest
import timm
import torch
from torch import nn

from captum_vae.models import ResNet18VAE, TimmVAE, build_model
from captum_vae.models.backbone import probe_features

SMALL = {"latent_dims": 4, "hidden": 8, "image_size": 64, "decoder_channels": (8, 8, 8, 8)}
BACKBONES = ["test_resnet", "test_convnext", "test_efficientnet", "test_vit", "test_byobnet"]


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def idle_parameters(vae: TimmVAE) -> list[str]:
    trained = [(name, p) for name, p in vae.named_parameters() if p.requires_grad]
    return [name for name, parameter in trained if parameter.grad is None]


def small_vae(backbone: str = "test_resnet", **options: object) -> TimmVAE:
    return TimmVAE(backbone, **{**SMALL, **options})


def test_the_resnet18_vae_has_the_parameters_of_the_published_table():
    vae = ResNet18VAE()
    torchvision_resnet18, its_classifier = 11_689_512, 512 * 1000 + 1000
    encoder = torchvision_resnet18 - its_classifier + 512 * 8 * 8 * 1024 + 1024
    heads = 2 * (1024 * 32 + 32)
    linears = (32 * 1024 + 1024) + (1024 * 1024 * 4 * 4 + 1024 * 4 * 4)
    widths = (1024, 512, 256, 128, 64, 32, 3)
    deconvs = sum(a * b * 16 + b for a, b in zip(widths, widths[1:], strict=False))
    norms = sum(2 * width for width in widths[1:-1])
    assert count(vae.encoder) == encoder
    assert count(vae) == encoder + heads + linears + deconvs + norms == 72_803_363


def test_the_resnet18_features_are_timms_own():
    vae = ResNet18VAE(image_size=64).eval()
    backbone = timm.create_model("resnet18", num_classes=0).eval()
    backbone.load_state_dict(vae.encoder.backbone.state_dict())
    x = torch.rand(2, 3, 64, 64)
    seen = []
    handle = vae.get_submodule("encoder.backbone.layer4").register_forward_hook(
        lambda module, inputs, output: seen.append(output)
    )
    vae(x)
    handle.remove()
    torch.testing.assert_close(seen[0], backbone.forward_features(x))


@pytest.mark.parametrize("latent", ["vector", "spatial"])
@pytest.mark.parametrize("head", ["flatten", "pool"])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_backbone_reconstructs_and_trains_all_its_parameters(backbone, head, latent):
    vae = small_vae(backbone, head=head, latent=latent)
    outputs = vae(torch.rand(2, 3, 64, 64))
    assert outputs[0].shape == (2, 3, 64, 64)
    assert outputs[1].shape == (2, *vae.latent_shape)
    sum(tensor.square().sum() for tensor in outputs).backward()
    assert idle_parameters(vae) == []


@pytest.mark.parametrize("latent", ["vector", "spatial"])
@pytest.mark.parametrize("image_size", [28, 64, 100, 101, (158, 238), (2, 40)])
def test_the_reconstruction_has_exactly_the_size_of_the_image(image_size, latent):
    vae = small_vae(image_size=image_size, latent=latent).eval()
    x = torch.rand(1, 3, *vae.image_size)
    assert vae(x)[0].shape == x.shape


@pytest.mark.parametrize(
    ("backbone", "layer", "shape"),
    [
        ("resnet18", "layer2", (128, 8, 8)),
        ("test_resnet", "act1", (32, 32, 32)),
        ("convnext_atto", "stages.1", (80, 8, 8)),
        ("test_vit", "blocks.2", (64, 4, 4)),
    ],
)
def test_a_feature_layer_cuts_the_backbone_behind_it(backbone, layer, shape):
    vae = small_vae(backbone, feature_layer=layer, hidden=None, latent="spatial")
    assert vae.latent_shape == (4, *shape[1:])
    assert vae.mean.in_channels == shape[0]
    vae.get_submodule(f"encoder.backbone.{layer}")
    whole = timm.create_model(backbone, num_classes=0)
    assert count(vae.encoder.backbone) < count(whole)
    assert vae(torch.rand(2, 3, 64, 64))[0].shape == (2, 3, 64, 64)


def test_parameters_the_features_do_not_depend_on_are_frozen():
    class Forked(nn.Module):
        def __init__(self):
            super().__init__()
            self.read = nn.Conv2d(3, 5, kernel_size=2, stride=2)
            self.unread = nn.Conv2d(5, 5, kernel_size=1)

        def forward_intermediates(self, x, **options):
            return [self.read(x)]

    model = Forked()
    assert probe_features(model, 0, (3, 8, 6)) == (5, 4, 3)
    assert all(parameter.requires_grad for parameter in model.read.parameters())
    assert not any(parameter.requires_grad for parameter in model.unread.parameters())


def test_pooling_leaves_one_number_per_channel_for_the_linear_layers():
    vae = small_vae("resnet18", head="pool")
    assert vae.get_submodule("encoder.head.fc1").in_features == 512


def test_building_does_not_touch_the_batch_norm_statistics():
    vae = small_vae()
    assert torch.equal(vae.encoder.backbone.bn1.running_mean, torch.zeros(32))
    assert all(module.training for module in vae.modules())


def test_a_single_image_passes_in_eval_mode_as_it_does_in_a_batch():
    vae = small_vae().eval()
    x = torch.rand(3, 3, 64, 64)
    torch.testing.assert_close(vae(x)[0][:1], vae(x[:1])[0])


def test_a_model_in_float64_answers_in_float64():
    vae = small_vae(input_scale="backbone").double()
    outputs = vae(torch.rand(2, 3, 64, 64, dtype=torch.float64))
    assert {tensor.dtype for tensor in outputs} == {torch.float64}


@pytest.mark.parametrize("latent", ["vector", "spatial"])
@pytest.mark.parametrize("backbone", ["test_resnet", "test_vit"])
def test_a_config_that_went_through_json_rebuilds_the_model(backbone, latent):
    vae = small_vae(backbone, latent=latent, input_scale="backbone", in_channels=1).eval()
    config = json.loads(json.dumps(vae.config))
    twin = build_model(type(vae).__name__, **config).eval()
    twin.load_state_dict(vae.state_dict(), strict=True)
    x = torch.rand(1, 1, 64, 64)
    assert twin.config == config
    assert torch.equal(vae(x)[0], twin(x)[0])


def test_the_backbones_input_scale_is_applied_before_it():
    scale = small_vae("resnet18", input_scale="backbone").encoder.scale
    x = torch.rand(2, 3, 8, 8)
    expected = (x[:, 1] - 0.456) / 0.224
    torch.testing.assert_close(scale(x)[:, 1], expected)


def test_grey_images_are_scaled_by_the_average_of_the_colours():
    scale = small_vae("resnet18", input_scale="backbone", in_channels=1).encoder.scale
    expected = (0.5 - (0.485 + 0.456 + 0.406) / 3) / ((0.229 + 0.224 + 0.225) / 3)
    assert scale(torch.full((1, 1, 1, 1), 0.5)).item() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("name", "options"), [("timm", {"backbone": "test_resnet"}), ("resnet18", {})]
)
def test_a_pretrained_models_config_needs_no_second_download(monkeypatch, name, options):
    create, asked = timm.create_model, []

    def offline(name, pretrained, **options):
        asked.append(pretrained)
        return create(name, pretrained=False, **options)

    monkeypatch.setattr(timm, "create_model", offline)
    vae = build_model(name, pretrained=True, image_size=32, **options)
    twin = build_model(name, **vae.config)
    twin.load_state_dict(vae.state_dict(), strict=True)
    assert vae.input_scale == twin.input_scale == "backbone"
    assert asked == [True, False]


def test_a_failed_download_says_how_to_go_on(monkeypatch):
    def unreachable(*args, **options):
        raise OSError("no route to host")

    monkeypatch.setattr(timm, "create_model", unreachable)
    with pytest.raises(RuntimeError, match="no route to host.*pretrained=False"):
        small_vae(pretrained=True)


def test_an_unknown_backbone_suggests_near_names():
    with pytest.raises(ValueError, match="'resnet81'.*resnet18"):
        small_vae("resnet81")


def test_an_unknown_feature_layer_lists_the_known_ones():
    with pytest.raises(ValueError, match="'layer5'.*act1, layer1, layer2, layer3, layer4"):
        small_vae(feature_layer="layer5")


def test_an_image_size_that_the_backbone_cannot_take_is_refused():
    with pytest.raises(ValueError, match=r"test_vit cannot take image_size \(60, 60\)"):
        small_vae("test_vit", image_size=60)


@pytest.mark.parametrize(
    ("argument", "value"),
    [("head", "max"), ("input_scale", "zca"), ("decoder_channels", ()), ("hidden", -1)],
)
def test_a_bad_argument_is_named(argument, value):
    with pytest.raises(ValueError, match=argument):
        small_vae(**{argument: value})


def test_the_models_import_without_timm():
    code = (
        "import sys; sys.modules['timm'] = None\n"
        "from captum_vae.models import MNISTVAE, TimmVAE\n"
        "MNISTVAE()\n"
        "try: TimmVAE()\n"
        "except ImportError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install timm" in done.stdout
