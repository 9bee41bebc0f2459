"""Backbones with weights: from a local file, from the hub, frozen or not, and what is refused."""

import copy
import pickle

import pytest
import timm
import torch
from safetensors.torch import save_file

from captum_vae.models import FrozenFeatures, ResNet18VAE, TimmVAE
from captum_vae.models.weights import read_weights
from captum_vae.training.initialization import standardize_encoder

SMALL = {"latent_dims": 4, "hidden": 8, "image_size": 64, "decoder_channels": (8, 8)}


@pytest.fixture(scope="module")
def trained():
    """A whole timm model, with classifier, whose weights and statistics are not initial ones."""
    torch.manual_seed(1)
    model = timm.create_model("test_resnet")
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.uniform_(0.1, 1)
    return model


def held_by(vae: TimmVAE) -> dict[str, torch.Tensor]:
    return vae.encoder.backbone.state_dict()


def check_holds(held: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    assert held
    for name, tensor in held.items():
        assert torch.equal(tensor, wanted[name]), name


@pytest.mark.parametrize("kind", ["safetensors", "pth", "nested", "averaged", "wrapped"])
def test_a_local_file_in_any_usual_form_gives_the_backbone_its_weights(tmp_path, trained, kind):
    state = trained.state_dict()
    path = tmp_path / ("weights.safetensors" if kind == "safetensors" else "weights.pth")
    if kind == "safetensors":
        save_file(state, path)
    else:
        content = {
            "pth": state,
            "nested": {"epoch": 3, "state_dict": state, "args": {"lr": 0.1}},
            "averaged": {
                "model": timm.create_model("test_resnet").state_dict(),
                "model_ema": state,
            },
            "wrapped": {f"module.{name}": tensor for name, tensor in state.items()},
        }[kind]
        torch.save(content, path)
    vae = TimmVAE("test_resnet", weights=path, **SMALL)
    check_holds(held_by(vae), state)
    assert vae.input_scale == "backbone"
    features = FrozenFeatures("test_resnet", ["layer2"], image_size=64, weights=str(path))
    check_holds(features.encoder.state_dict(), state)


def test_a_model_rebuilt_from_its_config_needs_no_file(tmp_path, trained):
    torch.save(trained.state_dict(), tmp_path / "weights.pth")
    vae = TimmVAE("test_resnet", weights=tmp_path / "weights.pth", freeze=True, **SMALL)
    assert vae.config["weights"] is None and vae.config["freeze"] is True
    twin = TimmVAE(**vae.config)
    twin.load_state_dict(vae.state_dict())
    x = torch.rand(2, 3, 64, 64)
    assert torch.equal(twin.eval().encode(x)[0], vae.eval().encode(x)[0])


def test_grey_images_get_the_sum_of_the_colours_weights(tmp_path, trained):
    torch.save(trained.state_dict(), tmp_path / "weights.pth")
    vae = TimmVAE("test_resnet", weights=tmp_path / "weights.pth", in_channels=1, **SMALL)
    first = trained.pretrained_cfg["first_conv"] + ".weight"
    torch.testing.assert_close(
        held_by(vae)[first], trained.state_dict()[first].sum(1, keepdim=True)
    )


def test_a_transformers_positions_are_brought_to_another_image_size(tmp_path):
    torch.save(timm.create_model("test_vit").state_dict(), tmp_path / "vit.pth")
    vae = TimmVAE("test_vit", weights=tmp_path / "vit.pth", **SMALL)
    assert held_by(vae)["pos_embed"].shape[1] < timm.create_model("test_vit").pos_embed.shape[1]
    assert vae.encode(torch.rand(1, 3, 64, 64))[0].isfinite().all()


def test_pickled_code_is_refused_and_not_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"weight": Trap()}, tmp_path / "trap.pth")
    with pytest.raises(ValueError, match="trap.pth cannot be read"):
        TimmVAE("test_resnet", weights=tmp_path / "trap.pth", **SMALL)
    (tmp_path / "bare.pth").write_bytes(pickle.dumps(Trap(), protocol=2))
    with pytest.raises(ValueError, match="bare.pth cannot be read"):
        read_weights(tmp_path / "bare.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.95])
def test_a_file_that_ends_early_is_refused_by_name(tmp_path, trained, ending, share):
    path = tmp_path / f"weights.{ending}"
    if ending == "pth":
        torch.save(trained.state_dict(), path)
    else:
        save_file(trained.state_dict(), path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ValueError, match=rf"weights.{ending} cannot be read.*save it again"):
        read_weights(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (torch.rand(3), "it holds Tensor"),
        ({}, "it holds dict"),
        ({"weight": torch.rand(3), "name": "resnet"}, "its entry 'name' is str"),
    ],
)
def test_a_file_of_something_else_is_refused_by_name(tmp_path, content, words):
    torch.save(content, tmp_path / "weights.pth")
    with pytest.raises(ValueError, match=words):
        read_weights(tmp_path / "weights.pth")


@pytest.mark.parametrize(
    ("held", "built", "words"),
    [
        ("test_resnet", "test_convnext", "no stem.0.weight"),
        ("resnet18", "resnet34", r"no layer1.2.conv1.weight, .* and \d+ more"),
        ("resnet34", "resnet18", "layer1.2.conv1.weight besides"),
        ("wide_resnet50_2", "resnet50", "of shape"),
    ],
)
def test_the_weights_of_another_model_are_refused_with_what_differs(tmp_path, held, built, words):
    torch.save(timm.create_model(held).state_dict(), tmp_path / "weights.pth")
    with pytest.raises(ValueError, match=f"another model than {built}: .*{words}"):
        TimmVAE(built, weights=tmp_path / "weights.pth", **SMALL)


def test_a_missing_file_and_two_sources_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no.pth does not exist; wanted a file of weights"):
        TimmVAE("test_resnet", weights=tmp_path / "no.pth", **SMALL)
    with pytest.raises(ValueError, match="two sources"):
        ResNet18VAE(pretrained=True, weights="some.pth")
    with pytest.raises(TypeError, match="freeze"):
        TimmVAE("test_resnet", freeze="yes", **SMALL)


def test_a_hub_that_cannot_be_reached_is_told_with_what_to_do(monkeypatch):
    create = timm.create_model

    def without_hub(name, pretrained=False, **options):
        if pretrained:
            raise OSError("An error happened while trying to locate\nthe file on the Hub")
        return create(name, **options)

    monkeypatch.setattr(timm, "create_model", without_hub)
    with pytest.raises(RuntimeError, match=r"locate the file on the Hub; .* weights=FILE"):
        TimmVAE("test_resnet", pretrained=True, **SMALL)
    with pytest.raises(RuntimeError, match=r"weights=FILE"):
        FrozenFeatures("test_resnet", image_size=64, pretrained=True)


def test_a_frozen_backbone_keeps_weights_and_statistics_while_the_rest_trains():
    vae = TimmVAE("test_resnet", freeze=True, **SMALL).train()
    before = copy.deepcopy(vae.state_dict())
    optimizer = torch.optim.Adam(vae.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        sum(tensor.square().mean() for tensor in vae(torch.rand(4, 3, 64, 64))).backward()
        optimizer.step()
        vae.train()
    after = vae.state_dict()
    backbone = [name for name in before if name.startswith("encoder.backbone.")]
    rest = [name for name in before if not name.startswith("encoder.backbone.")]
    assert backbone and all(torch.equal(before[name], after[name]) for name in backbone)
    assert not all(torch.equal(before[name], after[name]) for name in rest)
    assert vae.training and vae.decoder.training and not vae.encoder.backbone.training
    x = torch.rand(1, 3, 64, 64)
    features = vae.encoder.backbone(x)
    torch.testing.assert_close(vae.eval().encoder.backbone(x), features)


def test_a_backbone_that_is_not_frozen_still_trains():
    vae = TimmVAE("test_resnet", **SMALL).train()
    before = vae.encoder.backbone.bn1.running_mean.clone()
    vae(torch.rand(4, 3, 64, 64))
    assert not torch.equal(before, vae.encoder.backbone.bn1.running_mean)


@pytest.mark.parametrize("how", ["frozen", "with weights"])
def test_data_dependent_initialization_leaves_such_a_backbone_alone(tmp_path, how):
    options = {"freeze": True}
    if how == "with weights":
        torch.save(timm.create_model("test_convnext").state_dict(), tmp_path / "weights.pth")
        options = {"weights": tmp_path / "weights.pth"}
    vae = TimmVAE("test_convnext", **options, **SMALL)
    before = copy.deepcopy(held_by(vae))
    images = torch.rand(16, 3, 64, 64)
    standardize_encoder(vae, images)
    check_holds(held_by(vae), before)
    mean = vae.encode(images)[0]
    torch.testing.assert_close(mean.std(0), torch.ones(4), atol=1e-3, rtol=0)
