"""A(x) - A(baseline) for every kind of baseline, and the completeness of the path form."""

import pytest
import torch
from torch import nn

from captum_vae import LatentGradCAM, MeanActivation, MeanSumGradCAM, PosteriorAdapter
from captum_vae.attr.reconstruction import reconstruct
from tests.attr.toys import D, ToyVAE, assert_equal, features_and_gradients


@pytest.fixture(scope="module")
def vae():
    torch.manual_seed(6)
    return ToyVAE()


def features_at(vae, layer, x):
    return features_and_gradients(lambda x: vae.encode(x)[0], vae.get_submodule(layer), x)[0]


def contrast_maps(vae, layer, x, origin):
    """sum_k alpha_k (A(x) - A0), with A0 given."""
    module = vae.get_submodule(layer)
    features, gradients = features_and_gradients(lambda x: vae.encode(x)[0], module, x)
    return torch.einsum("bdk,bkhw->bdhw", gradients.mean((3, 4)), features - origin)


layers = pytest.mark.parametrize("layer", ["conv1", "conv2", "act2"])


@layers
@pytest.mark.parametrize(
    "kind", ["batch", "one for all", "number", "callable", "module", "float32"]
)
def test_a_baseline_image_is_compared_in_feature_space(vae, layer, kind):
    x, other = vae.images(3), vae.images(3, seed=1)
    given, image = {
        "batch": (other, other),
        "one for all": (other[:1], other[:1].expand(3, -1, -1, -1)),
        "number": (0.25, torch.full_like(x, 0.25)),
        "callable": (lambda x: x.flip(3), x.flip(3)),
        "module": (nn.Dropout2d(0.5).eval(), x),
        "float32": (other.float(), other.float().double()),
    }[kind]
    wanted = contrast_maps(vae, layer, x, features_at(vae, layer, image))
    found = LatentGradCAM(vae, layer).attribute(x, baselines=given, rectifier="none")
    if kind == "module":  # it returns x itself: there is nothing to see
        assert torch.equal(found, torch.zeros_like(found))
    else:
        assert_equal(found, wanted)


@layers
def test_the_reconstruction_is_decoded_from_the_posterior_mean(vae, layer):
    x = vae.images(3)
    origin = features_at(vae, layer, vae.decode(vae.encode(x)[0]).detach())
    found = LatentGradCAM(vae, layer).attribute(x, baselines="reconstruction", rectifier="none")
    assert_equal(found, contrast_maps(vae, layer, x, origin))


def test_the_reconstruction_in_train_mode_is_decoded_from_the_mean_too():
    vae = ToyVAE().train()
    x = vae.images(3)
    origin = features_at(vae, "conv2", vae.decode(vae.encode(x)[0]).detach())
    cam = LatentGradCAM(vae, "conv2", posterior="encode:[0],[1]")
    found = cam.attribute(x, baselines="reconstruction", rectifier="none")
    assert_equal(found, contrast_maps(vae, "conv2", x, origin))


@pytest.mark.parametrize("method", ["encode", "forward"])
def test_the_reconstruction_works_when_a_method_of_the_model_is_explained(vae, method):
    x = vae.images(3)
    wanted = LatentGradCAM(vae, "conv2").attribute(x, baselines="reconstruction")
    cam = LatentGradCAM(getattr(vae, method), "conv2")
    assert_equal(cam.attribute(x, baselines="reconstruction"), wanted)


class AntixK(ToyVAE):
    """AntixK's interface: encode -> [mu, log_var]; forward -> [recon, input, mu, log_var]."""

    def encode(self, x):
        return list(super().encode(x))

    def forward(self, x):
        mu, logvar = self.encode(x)
        z = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)
        return [self.decode(z), x, mu, logvar]


class ForwardOnly(nn.Module):
    """The authors' interface, forward -> (recon, mu, logvar), with neither encode nor decode."""

    def __init__(self, vae):
        super().__init__()
        self.inner = vae

    def forward(self, x):
        mu, logvar = self.inner.encode(x)
        return self.inner.decode(mu), mu, logvar


class ConvolutionalDecoder(nn.Module):
    """A submodule named decoder and none named decode."""

    def __init__(self, vae):
        super().__init__()
        self.encoder = vae
        self.encoder.forward = vae.encode
        self.decoder = nn.Sequential(vae.to_image, nn.Unflatten(1, vae.shape))


class FlatReconstruction(ToyVAE):
    """pytorch/examples: decode gives rows of pixels, forward -> (rows, mu, logvar)."""

    def decode(self, z):
        return super().decode(z).flatten(1)


class NamedOutput(nn.Module):
    """forward -> a mapping that holds the reconstruction beside the loss."""

    def __init__(self, vae):
        super().__init__()
        self.inner = vae

    def forward(self, x):
        mu, logvar = self.inner.encode(x)
        return {"loss": mu.sum(), "mu": mu, "logvar": logvar, "recon_x": self.inner.decode(mu)}


INTERFACES = [AntixK, FlatReconstruction, ForwardOnly, NamedOutput, ConvolutionalDecoder]


@pytest.mark.parametrize("interface", INTERFACES)
def test_the_reconstruction_is_found_behind_other_interfaces(interface):
    vae = ToyVAE()
    x = vae.images(3)
    origin = features_at(vae, "conv2", vae.decode(vae.encode(x)[0]).detach())
    wanted = contrast_maps(vae, "conv2", x, origin)
    if issubclass(interface, ToyVAE):
        model = interface()
        model.load_state_dict(vae.state_dict())
        layer = model.conv2
    else:
        model, layer = interface(vae), vae.conv2
    found = LatentGradCAM(model, layer).attribute(x, baselines="reconstruction", rectifier="none")
    assert_equal(found, wanted)


class LogitsInside(nn.Module):
    """forward -> (image, mu, logvar), the image made of what decoder or decode puts out."""

    def __init__(self, by):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU())
        self.fc_mu, self.fc_logvar = nn.Linear(256, 3), nn.Linear(256, 3)
        setattr(self, "pixels" if by == "decode" else "decoder", nn.Linear(3, 64))
        if by == "decode":
            self.decode = lambda z: self.pixels(z).reshape(-1, 1, 8, 8)
        self.by, self.shape_image = (
            by,
            {
                "decode": torch.sigmoid,
                "decoder": torch.sigmoid,
                "tanh": torch.tanh,
                "two channels": lambda out: out.reshape(-1, 1, 8, 8).flip(3),
                "of the input": lambda out: out.sigmoid() * self.scale,
                "twice": lambda out: (out + self.decoder(out[:, :3])).sigmoid(),
            }[by],
        )

    def encode(self, x):
        hidden = self.features(x).flatten(1)
        return self.fc_mu(hidden), self.fc_logvar(hidden)

    def forward(self, x):
        self.scale = x.flatten(1).amax(1, keepdim=True)
        mu, logvar = self.encode(x)
        z = mu + torch.randn_like(mu) * (logvar / 2).exp()
        out = self.decode(z) if self.by == "decode" else self.decoder(z)
        return self.shape_image(out).reshape(x.shape), mu, logvar

    def wanted(self, x):
        self.scale = x.flatten(1).amax(1, keepdim=True)
        mean = self.encode(x)[0]
        out = self.decode(mean) if self.by == "decode" else self.decoder(mean)
        return self.shape_image(out).reshape(x.shape).detach()


@pytest.mark.parametrize("as_dict", [False, True])
@pytest.mark.parametrize("by", ["decode", "decoder", "tanh", "two channels", "of the input"])
def test_what_forward_makes_of_the_decoders_output_is_the_reconstruction(by, as_dict):
    """Many a decoder puts out logits, which forward turns into the image."""
    torch.manual_seed(0)
    vae, x = LogitsInside(by).double().eval(), torch.rand(2, 1, 8, 8, dtype=torch.float64)
    if as_dict:
        forward = vae.forward
        vae.forward = lambda batch: dict(
            zip(("recon", "mu", "logvar"), forward(batch["x"]), strict=True)
        )
        adapter = PosteriorAdapter(vae, call=lambda x: vae({"x": x}), read="mu,logvar")
    else:
        adapter = PosteriorAdapter(vae)
    assert_equal(reconstruct(adapter.prepare(x), (x,)), vae.wanted(x))
    torch.manual_seed(1)
    assert_equal(reconstruct(adapter, (x,)), vae.wanted(x))


class UnnamedDecoder(LogitsInside):
    """A decoder by no name that tells it, or one whose ``decode`` takes no latent, as MONAI's."""

    def __init__(self, decode):
        super().__init__("decoder")
        self.to_pixels = self.decoder
        del self.decoder
        if decode:
            self.decode = nn.Conv2d(7, 7, 3)
        self.by = None

    def forward(self, x):
        mu, logvar = self.encode(x)
        z = mu + torch.randn_like(mu) * (logvar / 2).exp()
        return self.to_pixels(z).sigmoid().reshape(x.shape), mu, logvar


@pytest.mark.parametrize("decode", [False, True])
def test_the_mean_takes_the_place_of_what_alone_has_its_shape(decode):
    torch.manual_seed(0)
    vae, x = UnnamedDecoder(decode).double().eval(), torch.rand(2, 1, 8, 8, dtype=torch.float64)
    adapter = PosteriorAdapter(vae, call="encode", read="0,1")
    wanted = vae.to_pixels(vae.encode(x)[0]).sigmoid().reshape(x.shape).detach()
    assert_equal(reconstruct(adapter, (x,)), wanted)


def test_a_decoder_that_runs_twice_is_given_the_mean_itself():
    torch.manual_seed(0)
    vae, x = LogitsInside("twice").double().eval(), torch.rand(2, 1, 8, 8, dtype=torch.float64)
    mean = vae.encode(x)[0]
    assert_equal(reconstruct(PosteriorAdapter(vae), (x,)), vae.decoder(mean).reshape(x.shape))


def test_a_model_without_a_reconstruction_says_so():
    vae = ToyVAE()
    cam = LatentGradCAM(lambda x: vae.encode(x)[0], vae.conv2)
    with pytest.raises(ValueError, match="gives no reconstruction.*pass a callable"):
        cam.attribute(vae.images(2), baselines="reconstruction")


def test_one_batch_of_reconstructions_uses_no_randomness():
    vae = AntixK()
    x = vae.images(3)
    cam = LatentGradCAM(vae, "conv2")
    first = cam.attribute(x, baselines="reconstruction", rectifier="none")
    torch.manual_seed(99)
    assert_equal(cam.attribute(x, baselines="reconstruction", rectifier="none"), first)


@layers
def test_a_mean_activation_is_the_mean_of_the_normal_images_features(vae, layer):
    x, normal = vae.images(3), vae.images(7, seed=2)
    cam = LatentGradCAM(vae, layer)
    fitted = MeanActivation().fit(cam, normal.split(3))  # batches of 3, 3 and 1
    origin = features_at(vae, layer, normal).mean(0, keepdim=True)
    found = cam.attribute(x, baselines=fitted, rectifier="none")
    assert_equal(found, contrast_maps(vae, layer, x, origin))


def test_a_mean_activation_takes_a_data_loader_with_labels_and_several_layers(vae):
    x, normal = vae.images(3), vae.images(5, seed=2)
    data = torch.utils.data.TensorDataset(normal, torch.arange(5))
    cam = LatentGradCAM(vae, ["conv1", "act2"])
    fitted = MeanActivation().fit(cam, torch.utils.data.DataLoader(data, batch_size=2))
    found = cam.attribute(x, baselines=fitted, rectifier="none")
    for maps, layer in zip(found, ["conv1", "act2"], strict=True):
        origin = features_at(vae, layer, normal).mean(0, keepdim=True)
        assert_equal(maps, contrast_maps(vae, layer, x, origin))


def test_a_mean_activation_of_layer_inputs_is_fitted_as_such(vae):
    x, normal = vae.images(3), vae.images(5, seed=2)
    cam = LatentGradCAM(vae, "act2")
    fitted = MeanActivation().fit(cam, [normal], attribute_to_layer_input=True)
    found = cam.attribute(x, baselines=fitted, attribute_to_layer_input=True, rectifier="none")
    origin = features_at(vae, "conv2", normal).mean(0, keepdim=True)
    assert_equal(found, contrast_maps(vae, "conv2", x, origin))


@pytest.mark.parametrize("weighting", ["pooled", "elementwise", "integrated"])
def test_an_image_that_is_its_own_baseline_has_an_empty_map(vae, weighting):
    x = vae.images(2)
    options = {"weighting": weighting, "rectifier": "abs", "order": "channelwise"}
    found = LatentGradCAM(vae, "conv2").attribute(x, baselines=x, **options)
    assert torch.equal(found, torch.zeros_like(found))


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("layer", ["conv1", "act1", "conv2", "act2"])
def test_the_integrated_map_of_a_smooth_net_sums_to_the_change_of_the_mean(axes, layer):
    """Completeness: sum over positions of map d = mu_d(x) - mu_d(baseline)."""
    vae = ToyVAE(axes, activation=nn.Tanh)
    x, other = vae.images(3), vae.images(3, seed=1)
    found = LatentGradCAM(vae, layer).attribute(
        x, baselines=other, weighting="integrated", rectifier="none", n_steps=16
    )
    wanted = (vae.encode(x)[0] - vae.encode(other)[0]).detach()
    assert_equal(found.flatten(2).sum(2), wanted, relative=1e-8)


def test_integrated_maps_of_method_2_sum_to_the_change_of_the_summed_mean():
    vae = ToyVAE(activation=nn.Tanh)
    x = vae.images(3)
    found = MeanSumGradCAM(vae, "conv2").attribute(
        x, baselines=0.0, weighting="integrated", rectifier="none", n_steps=16
    )
    wanted = vae.encode(x)[0].sum(1) - vae.encode(torch.zeros_like(x))[0].sum(1)
    assert_equal(found.sum((1, 2, 3)), wanted.detach(), relative=1e-8)


def test_integrated_weights_are_gauss_legendre_averages_along_the_path():
    """Two steps: the points (1 -+ 1/sqrt 3) / 2 of the way, weight 1/2 each."""
    vae = ToyVAE(activation=nn.Tanh)
    x, other = vae.images(3), vae.images(3, seed=1)
    start = vae.conv2(vae.act1(vae.conv1(other))).detach()
    end = vae.conv2(vae.act1(vae.conv1(x))).detach()
    mean_gradient = 0
    for share in ((1 - 3**-0.5) / 2, (1 + 3**-0.5) / 2):
        at = (start + share * (end - start)).requires_grad_()
        codes = vae.fc_mu(vae.act3(vae.fc(vae.act2(at).flatten(1))))
        gradients = [
            torch.autograd.grad(codes[:, d].sum(), at, retain_graph=True)[0] for d in range(D)
        ]
        mean_gradient = mean_gradient + 0.5 * torch.stack(gradients, 1)
    found = LatentGradCAM(vae, "conv2").attribute(
        x, baselines=other, weighting="integrated", rectifier="none", n_steps=2
    )
    assert_equal(found, (mean_gradient * (end - start)[:, None]).sum(2))


def test_without_baselines_the_integrated_path_starts_at_features_of_zero():
    vae = ToyVAE(activation=nn.Tanh)
    x = vae.images(3)
    found = LatentGradCAM(vae, "conv2").attribute(
        x, weighting="integrated", rectifier="none", n_steps=16
    )
    at_zero = vae.fc_mu(vae.act3(vae.fc(torch.zeros(3, 36).double())))
    wanted = (vae.encode(x)[0] - at_zero).detach()
    assert_equal(found.sum((2, 3)), wanted, relative=1e-8)


@pytest.mark.parametrize(
    ("baselines", "message"),
    [
        (torch.zeros(2, 2, 6, 6), r"baselines has shape \(2, 2, 6, 6\), the inputs \(3, 2, 6, 6\)"),
        (torch.zeros(3, 2, 6, 5), r"baselines has shape \(3, 2, 6, 5\)"),
        (torch.zeros(2, 6, 6), r"baselines has shape \(2, 6, 6\).*a leading 1"),
        (torch.tensor(0.5), r"baselines has shape \(\)"),
        ("reconstructed", "baselines='reconstructed' is not known; choose 'reconstruction'"),
        ((0, 0), "baselines has 2 entries for 1 inputs"),
        (MeanActivation(), "baselines holds features of nothing"),
        (lambda x: x[:, :1], r"baselines has shape \(3, 1, 6, 6\)"),
    ],
    ids=["batch", "size", "no batch", "scalar tensor", "word", "two", "unfitted", "callable"],
)
def test_a_baseline_that_does_not_fit_is_refused(vae, baselines, message):
    with pytest.raises(ValueError, match=message):
        LatentGradCAM(vae, "conv2").attribute(vae.images(3), baselines=baselines)


@pytest.mark.parametrize("baselines", [[0.0], {"a": 1}, [torch.zeros(1, 2, 6, 6)]], ids=str)
def test_a_baseline_of_another_kind_is_refused_by_name(vae, baselines):
    with pytest.raises(TypeError, match="baselines=.* is no number; give a tensor, a number"):
        LatentGradCAM(vae, "conv2").attribute(vae.images(3), baselines=baselines)


def test_a_mean_activation_of_other_layers_is_refused(vae):
    fitted = MeanActivation().fit(LatentGradCAM(vae, "conv1"), [vae.images(2)])
    message = r"baselines holds features \[\(3, 6, 6\)\], the layers give \[\(4, 3, 3\)\]"
    with pytest.raises(ValueError, match=message):
        LatentGradCAM(vae, "conv2").attribute(vae.images(3), baselines=fitted)


def test_fitting_a_mean_activation_on_nothing_is_refused(vae):
    with pytest.raises(ValueError, match="batches is empty: MeanActivation needs"):
        MeanActivation().fit(LatentGradCAM(vae, "conv1"), [])
