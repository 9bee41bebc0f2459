"""How each latent dimension changes the reconstruction, against float64 Jacobians by autograd."""

import pytest
import torch
from captum.attr import NoiseTunnel
from torch import nn

from captum_vae import DecoderAttribution
from tests.attr.test_leaves_no_trace import assert_unchanged, trace_of
from tests.attr.toys import D, ToyVAE, assert_equal

READ = "encode:[0],[1]"


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


class CurvedVAE(ToyVAE):
    """A toy whose decoder is not linear in z."""

    def decode(self, z):
        return self.to_image(z.sin() + z**2).unflatten(1, self.shape).sigmoid()


class SpatialVAE(nn.Module):
    """A latent (B, D, 3, 3), decoded by convolutions to (B, 2, 6, 6)."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 2 * D, 3, stride=2, padding=1)
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(D, 4, 2, stride=2), nn.BatchNorm2d(4), nn.SiLU(), nn.Conv2d(4, 2, 1)
        )
        self.double().eval()

    def encode(self, x):
        return self.conv(x).chunk(2, 1)


def jacobian(decode, z):
    """d decode(z)[b] / d z[b], one image and one output after the other: (B, *image, *latent)."""
    rows = [torch.autograd.functional.jacobian(lambda one: decode(one[None])[0], one) for one in z]
    return torch.stack(rows)


def vae_and_images(batch=3):
    vae = CurvedVAE()
    return vae, vae.images(batch)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("dims_per_pass", [None, 1, 2])
def test_the_derivative_is_the_decoders_jacobian(batch, dims_per_pass):
    vae, x = vae_and_images(batch)
    wanted = jacobian(vae.decode, vae.encode(x)[0].detach()).movedim(-1, 1)
    cam = DecoderAttribution(vae, posterior=READ, dims_per_pass=dims_per_pass)
    assert_equal(cam.attribute(x, reduction="none"), wanted)
    assert_equal(cam.attribute(x), wanted.mean(2))
    assert_equal(cam.attribute(x, rectifier="abs", reduction="sum"), wanted.abs().sum(2))
    assert_equal(cam.attribute(x, rectifier="abs", order="after_sum"), wanted.mean(2).abs())


def test_the_derivative_may_be_counted_in_standard_deviations():
    vae, x = vae_and_images()
    mean, log_variance = (t.detach() for t in vae.encode(x))
    wanted = jacobian(vae.decode, mean).movedim(-1, 1).mean(2)
    cam = DecoderAttribution(vae, posterior=READ)
    std = log_variance.exp().sqrt()[..., None, None]
    assert_equal(cam.attribute(x, scale="posterior", step=-2), -2 * std * wanted)
    numbers = torch.tensor([0.5, 2.0, 3.0], dtype=torch.float64)
    assert_equal(cam.attribute(x, scale=numbers), numbers[:, None, None] * wanted)
    assert_equal(cam.attribute(x, scale=0.25), 0.25 * wanted)


@pytest.mark.parametrize("scale", ["prior", "posterior"])
def test_the_traversal_is_the_difference_of_two_reconstructions(scale):
    vae, x = vae_and_images()
    mean, log_variance = (t.detach() for t in vae.encode(x))
    std = torch.ones_like(mean) if scale == "prior" else log_variance.exp().sqrt()
    wanted = []
    for d in range(D):
        moved = mean.clone()
        moved[:, d] += 1.5 * std[:, d]
        wanted.append((vae.decode(moved) - vae.decode(mean)).detach().mean(1))
    found = DecoderAttribution(vae, posterior=READ).attribute(
        x, change="traversal", step=1.5, scale=scale
    )
    assert_equal(found, torch.stack(wanted, 1))


@pytest.mark.parametrize(
    ("target", "dims"),
    [(1, [1]), (-1, [2]), ([2, 0], [2, 0]), (torch.tensor([1, 2]), [1, 2])],
)
def test_target_chooses_dimensions(target, dims):
    vae, x = vae_and_images()
    cam = DecoderAttribution(vae, posterior=READ)
    assert_equal(cam.attribute(x, target), cam.attribute(x)[:, dims])


@pytest.mark.parametrize("change", ["derivative", "traversal"])
def test_a_channel_of_a_spatial_latent_moves_as_a_whole(change):
    vae, x = SpatialVAE(), ToyVAE().images(2)
    mean = vae.encode(x)[0].detach()
    found = DecoderAttribution(vae, posterior=READ).attribute(x, change=change, reduction="none")
    if change == "derivative":
        wanted = jacobian(vae.decoder, mean).sum((-1, -2)).movedim(-1, 1)
    else:
        shift = torch.eye(D, dtype=torch.float64)[:, None, :, None, None]
        wanted = torch.stack([vae.decoder(mean + s) - vae.decoder(mean) for s in shift], 1).detach()
    assert_equal(found, wanted)


def test_the_posteriors_std_of_a_spatial_latent_is_that_of_the_channels_mean():
    vae, x = SpatialVAE(), ToyVAE().images(2)
    cam = DecoderAttribution(vae, posterior=READ)
    std = (vae.encode(x)[1].exp().sum((2, 3)) / 81).sqrt().detach()
    wanted = std[..., None, None] * cam.attribute(x)
    assert_equal(cam.attribute(x, scale="posterior"), wanted)


def test_one_location_of_a_spatial_latent_moves_alone():
    vae, x = SpatialVAE(), ToyVAE().images(2)
    mean = vae.encode(x)[0].detach()
    found = DecoderAttribution(vae, posterior=READ, location=(0, -1)).attribute(x, reduction="none")
    assert_equal(found, jacobian(vae.decoder, mean)[..., 0, 2].movedim(-1, 1))


class Cube(torch.autograd.Function):
    """An operation that knows nothing of forward-mode differentiation."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, gradient):
        return 3 * ctx.saved_tensors[0] ** 2 * gradient


def test_an_operation_without_a_forward_mode_formula_is_differentiated_twice():
    vae, x = vae_and_images()

    def decode(z):
        return vae.decode(Cube.apply(z))

    def plain(z):
        return vae.decode(z**3)

    wanted = jacobian(plain, vae.encode(x)[0].detach()).movedim(-1, 1).mean(2)
    assert_equal(DecoderAttribution(vae, decode, posterior=READ).attribute(x), wanted)


def test_attention_in_the_decoder_is_differentiated_exactly():
    vae, x = vae_and_images()
    block = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True).double().eval()
    project = nn.Linear(D, 36 * 2 * 4).double()

    def decode(z):
        tokens = block(project(z).unflatten(1, (72, 4)))
        return tokens[..., 0].unflatten(1, (2, 6, 6))

    wanted = jacobian(decode, vae.encode(x)[0].detach()).movedim(-1, 1).mean(2)
    assert_equal(DecoderAttribution(vae, decode, posterior=READ).attribute(x), wanted)


@pytest.mark.parametrize("change", ["derivative", "traversal"])
def test_a_loss_on_the_maps_trains_decoder_and_encoder_as_autograd_says(change):
    vae, x = vae_and_images(2)
    cam = DecoderAttribution(vae, posterior=READ)
    maps = cam.attribute(x, change=change, create_graph=True)
    parameters = [vae.to_image.weight, vae.fc_mu.weight, vae.conv1.weight]
    found = torch.autograd.grad(maps.square().sum(), parameters)

    mean = vae.encode(x)[0]
    if change == "derivative":
        columns = torch.stack(
            [
                torch.stack(
                    [
                        torch.autograd.grad(pixel, mean, create_graph=True)[0][b]
                        for pixel in vae.decode(mean)[b].mean(0).flatten()
                    ],
                    1,
                )
                for b in range(2)
            ]
        )
    else:
        eye = torch.eye(D, dtype=torch.float64)
        change_of = [vae.decode(mean + e) - vae.decode(mean) for e in eye]
        columns = torch.stack(change_of, 1).mean(2)
    wanted = torch.autograd.grad(columns.square().sum(), parameters)
    for one, other in zip(found, wanted, strict=True):
        assert_equal(one, other)


def test_without_create_graph_maps_are_detached_and_no_grad_changes_nothing():
    vae, x = vae_and_images()
    cam = DecoderAttribution(vae, posterior=READ)
    maps = cam.attribute(x)
    assert not maps.requires_grad
    with torch.no_grad():
        assert_equal(cam.attribute(x), maps)


@pytest.mark.parametrize("change", ["derivative", "traversal"])
def test_nothing_of_the_model_is_left_changed(change):
    vae, x = vae_and_images()
    vae.fc_mu.requires_grad_(False)
    before = trace_of(vae, x)
    DecoderAttribution(vae, posterior=READ).attribute(x, change=change)
    assert_unchanged(before, trace_of(vae, x))


def test_nothing_is_left_changed_when_the_decoder_raises():
    vae, x = vae_and_images()
    before = trace_of(vae, x)

    def broken(z):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        DecoderAttribution(vae, broken, posterior=READ).attribute(x)
    assert_unchanged(before, trace_of(vae, x))


def test_a_noisy_decoder_draws_the_same_noise_for_both_ends_of_a_traversal():
    vae, x = vae_and_images(1)

    def noisy(z):
        return vae.decode(z) + torch.randn(len(z), 1, 1, 1, dtype=z.dtype)[:1]

    found = DecoderAttribution(vae, noisy, posterior=READ).attribute(x, change="traversal")
    assert_equal(found, DecoderAttribution(vae, posterior=READ).attribute(x, change="traversal"))


def test_maps_can_be_resized_and_aggregated():
    vae, x = vae_and_images()
    cam = DecoderAttribution(vae, posterior=READ)
    maps = cam.attribute(x, rectifier="abs")
    assert cam.attribute(x, size=12).shape == (3, D, 12, 12)
    assert cam.attribute(x, size="input").shape == (3, D, 6, 6)
    together = cam.attribute(x, rectifier="abs", aggregate="mean")
    assert_equal(together, maps.mean(1, keepdim=True))


class FlatVAE(ToyVAE):
    """Its decoder gives flat images, in a mapping."""

    decode = None

    def decoder(self, z):
        return {"reconstruction": self.to_image(z.sin())}


def test_a_flat_reconstruction_in_a_mapping_is_brought_to_the_images_shape():
    vae = FlatVAE()
    x = vae.images(2)
    found = DecoderAttribution(vae, posterior=READ).attribute(x, reduction="none")
    wanted = jacobian(lambda z: vae.to_image(z.sin()), vae.encode(x)[0].detach()).movedim(-1, 1)
    assert_equal(found, wanted.unflatten(2, vae.shape))


def test_captums_noise_tunnel_takes_it():
    vae, x = vae_and_images()
    cam = DecoderAttribution(vae, posterior=READ)
    found = NoiseTunnel(cam).attribute(x, nt_samples=3, stdevs=0.0, target=1)
    assert_equal(found, cam.attribute(x, target=1))


def test_a_float16_model_gives_float32_maps():
    vae, x = vae_and_images()
    wanted = DecoderAttribution(vae, posterior=READ).attribute(x)
    found = DecoderAttribution(vae.half(), posterior=READ).attribute(x.half())
    assert found.dtype == torch.float32
    assert_equal(found.double(), wanted, 2e-2)


@pytest.mark.parametrize(
    ("decoder", "options", "words"),
    [
        (None, {"change": "jacobian"}, "change='jacobian' is not known; choose one of derivative"),
        (None, {"scale": "data"}, "scale='data' is not known; choose one of prior, posterior"),
        (None, {"scale": torch.ones(2)}, r"scale has shape \(2,\); wanted one number, \(3,\)"),
        (None, {"target": 3}, "target=3 is out of range"),
        (None, {"rectifier": "square"}, "rectifier='square' is not known"),
        (lambda z: z, {}, r"gave Tensor with the tensors \(3, 3\); wanted one image"),
        (lambda z: torch.zeros(len(z), 2, 6, 6), {}, "does not depend on the latent"),
    ],
)
def test_what_does_not_fit_is_named(decoder, options, words):
    vae, x = vae_and_images()
    with pytest.raises(ValueError, match=words):
        DecoderAttribution(vae, decoder, posterior=READ).attribute(x, **options)


def test_the_posteriors_scale_needs_its_variance():
    vae, x = vae_and_images()
    cam = DecoderAttribution(vae, posterior="encode:[0]")
    assert cam.attribute(x).shape == (3, D, 6, 6)
    with pytest.raises(ValueError, match="scale='posterior' needs the posterior's log-variance"):
        cam.attribute(x, scale="posterior")


def test_a_batch_norm_in_training_mode_is_refused():
    vae, x = SpatialVAE().train(), ToyVAE().images(2)
    with pytest.raises(ValueError, match="batch-norm layer .* call model.eval"):
        DecoderAttribution(vae, posterior=READ).attribute(x)


@pytest.mark.parametrize(
    ("decoder", "error", "words"),
    [
        ("to_imag", ValueError, "has no 'to_imag'; .*fc_mu.*to_image"),
        (3, TypeError, "decoder=3 must be a callable"),
    ],
)
def test_a_decoder_that_does_not_exist_is_named(decoder, error, words):
    with pytest.raises(error, match=words):
        DecoderAttribution(ToyVAE(), decoder, posterior=READ)


def test_a_model_without_a_decoder_says_what_it_has():
    model = nn.Sequential(nn.Flatten(), nn.Linear(72, 6))
    with pytest.raises(ValueError, match="neither decode nor decoder; pass decoder="):
        DecoderAttribution(model, posterior="chunk")


def test_the_repr_names_decoder_and_reading():
    text = repr(DecoderAttribution(SpatialVAE(), "decoder.0", posterior=READ, location=(1, 1)))
    assert "decoder=ConvTranspose2d" in text
    assert "location=(1, 1)" in text and "call='encode'" in text
    assert "decoder=ToyVAE.decode" in repr(DecoderAttribution(ToyVAE(), posterior=READ))
