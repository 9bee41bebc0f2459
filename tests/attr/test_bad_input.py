"""What a user may get wrong, and the message that says how to put it right."""

import warnings

import pytest
import torch
from torch import nn

from captum_vae import AmbiguousPosteriorError, LatentGradCAM, MeanSumGradCAM
from tests.attr.toys import D, ToyVAE, assert_equal

methods = pytest.mark.parametrize("method", [LatentGradCAM, MeanSumGradCAM])


@methods
def test_a_layer_of_another_model_is_refused_at_once(method):
    message = "layer Conv2d.* is not in the model ToyVAE; take it from the very model"
    with pytest.raises(ValueError, match=message):
        method(ToyVAE(), ToyVAE().conv1)


@methods
def test_a_layers_name_that_does_not_exist_lists_those_that_do(method):
    with pytest.raises(ValueError, match="layer='conv9' is not in ToyVAE; its layers are: conv1"):
        method(ToyVAE(), "conv9")


@pytest.mark.parametrize("layer", [3, [3], nn.Conv2d, [["conv1"]]], ids=str)
def test_something_that_is_no_layer_is_a_type_error(layer):
    with pytest.raises(TypeError, match="layer must be a torch.nn.Module or its name, got"):
        LatentGradCAM(ToyVAE(), layer)


def test_no_layer_at_all_is_refused():
    with pytest.raises(ValueError, match="layer is an empty list"):
        LatentGradCAM(ToyVAE(), [])


def test_a_layer_left_open_for_tcav_is_missed_when_attributing():
    vae = ToyVAE()
    with pytest.raises(TypeError, match="layer must be a torch.nn.Module.*got NoneType"):
        LatentGradCAM(vae, None).attribute(vae.images(2))


def test_a_name_needs_the_model_itself():
    vae = ToyVAE()
    with pytest.raises(ValueError, match="layer='conv1': names need the model itself"):
        LatentGradCAM(lambda x: vae(x), "conv1")


class ConvDecoder(ToyVAE):
    def __init__(self):
        super().__init__()
        self.smooth = nn.Conv2d(2, 2, 3, padding=1).double()

    def decode(self, z):
        return self.smooth(super().decode(z))


@methods
@pytest.mark.parametrize(
    ("posterior", "message"),
    [
        (None, "did not run when the posterior was read by .*choose an encoder layer"),
        ("forward:[1],[2]", "is not on the path to the posterior.*choose an encoder layer"),
    ],
)
def test_a_decoder_layer_is_not_on_the_path(method, posterior, message):
    vae = ConvDecoder()
    with pytest.raises(ValueError, match=message):
        method(vae, vae.smooth, posterior=posterior).attribute(vae.images(2))


def test_weighted_along_a_path_batch_norm_warns_once():
    vae = Normalised().train()
    cam = LatentGradCAM(vae, "conv1", posterior="encode:[0],[1]")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        cam.attribute(vae.images(2), weighting="integrated")
    assert len([w for w in caught if "batch-norm" in str(w.message)]) == 1


class SideBranch(ToyVAE):
    """A convolution whose output only the log-variance reads."""

    def __init__(self):
        super().__init__()
        self.side = nn.Conv2d(2, 8, 6).double()

    def encode(self, x):
        mu, _ = super().encode(x)
        return mu, self.fc_logvar(self.side(x).flatten(1))


@methods
@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("weighting", ["pooled", "elementwise", "integrated"])
def test_a_side_branch_is_not_on_the_path(method, create_graph, weighting):
    vae = SideBranch()
    with pytest.raises(ValueError, match="layer Conv2d.* is not on the path to the posterior"):
        method(vae, "side").attribute(vae.images(2), create_graph=create_graph, weighting=weighting)


def test_of_several_layers_the_one_off_the_path_is_named():
    vae = SideBranch()
    with pytest.raises(ValueError, match=r"layer Conv2d\(2, 8.* is not on the path"):
        LatentGradCAM(vae, ["conv1", "side"]).attribute(vae.images(2))


def test_a_detached_layer_is_not_on_the_path():
    class Detached(ToyVAE):
        def encode(self, x):
            hidden = self.act1(self.conv1(x)).detach()
            hidden = self.act3(self.fc(self.act2(self.conv2(hidden)).flatten(1)))
            return self.fc_mu(hidden), self.fc_logvar(hidden)

    vae = Detached()
    with pytest.raises(ValueError, match="is not on the path.*a detach or no_grad in the model"):
        LatentGradCAM(vae, "conv1").attribute(vae.images(2))


class Loop(nn.Module):
    """One convolution run twice."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3, padding=1)
        self.fc_mu = nn.Linear(72, D)
        self.fc_logvar = nn.Linear(72, D)
        self.double().eval()

    def encode(self, x):
        flat = self.conv(self.conv(x).relu()).flatten(1)
        return self.fc_mu(flat), self.fc_logvar(flat)


@methods
@pytest.mark.parametrize("attribute_to_layer_input", [False, True])
def test_a_layer_used_twice_is_refused(method, attribute_to_layer_input):
    with pytest.raises(RuntimeError, match="layer Conv2d.* ran twice in one forward"):
        method(Loop(), "conv").attribute(
            torch.randn(2, 2, 6, 6).double(), attribute_to_layer_input=attribute_to_layer_input
        )


@pytest.mark.parametrize("layer", ["fc", "act3"])
def test_features_without_positions_are_refused(layer):
    vae = ToyVAE()
    message = r"puts out \(2, 8\), features without spatial positions; choose a layer before"
    with pytest.raises(ValueError, match=message):
        LatentGradCAM(vae, layer).attribute(vae.images(2))


def test_features_of_another_batch_size_are_refused():
    class Crops(ToyVAE):
        def encode(self, x):
            mu, logvar = super().encode(torch.cat([x, x.flip(3)]))
            return mu[: len(x)], logvar[: len(x)]

    vae = Crops()
    message = r"puts out \(4, 3, 6, 6\) for a batch of 2; wanted \(B, K, \*spatial\)"
    with pytest.raises(ValueError, match=message):
        LatentGradCAM(vae, "conv1").attribute(vae.images(2))


def test_a_layer_with_several_tensors_is_refused():
    class Pair(nn.Module):
        def forward(self, x):
            return x, x + 1

    class TwoOutputs(ToyVAE):
        def __init__(self):
            super().__init__()
            self.pair = Pair()

        def encode(self, x):
            return super().encode(self.pair(x)[0])

    vae = TwoOutputs()
    with pytest.raises(RuntimeError, match="puts out 2 tensors; choose a layer inside it"):
        LatentGradCAM(vae, "pair").attribute(vae.images(2))


def test_a_layer_that_puts_out_a_mapping_is_refused():
    class Mapping(nn.Module):
        def forward(self, x):
            return {"features": x}

    class Wrapped(ToyVAE):
        def __init__(self):
            super().__init__()
            self.mapping = Mapping()

        def encode(self, x):
            return super().encode(self.mapping(x)["features"])

    vae = Wrapped()
    with pytest.raises(RuntimeError, match="gives dict, not a tensor of features; choose"):
        LatentGradCAM(vae, "mapping").attribute(vae.images(2))


def test_a_posterior_that_cannot_be_told_lists_the_candidates():
    class Unclear(ToyVAE):
        def encode(self, x):
            mu, logvar = super().encode(x)
            return mu, logvar, mu * 2

        def forward(self, x):
            return self.encode(x)

    vae = Unclear()
    with pytest.raises(AmbiguousPosteriorError) as caught:
        LatentGradCAM(vae, "conv1").attribute(vae.images(2))
    message = str(caught.value)
    for words in ("cannot tell which output", "[0]", "[1]", "[2]", "(2, 3)", "posterior="):
        assert words in message
    assert_equal(
        LatentGradCAM(vae, "conv1", posterior="encode:[0]").attribute(vae.images(2)),
        LatentGradCAM(vae, "conv1", posterior=lambda out: out[0]).attribute(vae.images(2)),
    )


@methods
def test_inference_mode_is_refused_with_the_way_out(method):
    vae = ToyVAE()
    cam = method(vae, "conv1")
    with torch.inference_mode():
        with pytest.raises(RuntimeError, match=r"use torch.no_grad\(\) instead"):
            cam.attribute(vae.images(2))


@methods
def test_tensors_made_in_inference_mode_are_refused_with_the_way_out(method):
    vae = ToyVAE()
    with torch.inference_mode():
        x = vae.images(2) * 1
    with pytest.raises(RuntimeError, match=r"inputs were made under.*pass inputs.clone\(\)"):
        method(vae, "conv1").attribute(x)
    method(vae, "conv1").attribute(x.clone())


@methods
def test_an_empty_batch_is_refused(method):
    vae = ToyVAE()
    with pytest.raises(ValueError, match=r"inputs has shape \(0, 2, 6, 6\): the batch is empty"):
        method(vae, "conv1").attribute(vae.images(2)[:0])


def test_a_number_as_input_is_refused():
    with pytest.raises(ValueError, match=r"inputs has shape \(\)"):
        LatentGradCAM(ToyVAE(), "conv1").attribute(torch.tensor(1.0))


@methods
@pytest.mark.parametrize("layer", ["conv1", "act2"])
def test_nan_in_the_features_warns_and_names_the_first_sample(method, layer):
    vae = ToyVAE()
    x = vae.images(4)
    cam = method(vae, layer)
    wanted = cam.attribute(x)
    x[2:, 0, 1, 1] = float("nan")
    with pytest.warns(UserWarning, match="hold NaN, first in sample 2"):
        maps = cam.attribute(x, checks="every")
    assert_equal(maps[:2], wanted[:2])


def test_infinite_features_do_not_warn_of_nan():
    vae = ToyVAE()
    x = vae.images(2)
    x[0, :, 0, 0] = torch.tensor([float("inf"), 0.0])
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*NaN.*")
        LatentGradCAM(vae, "conv1", posterior="encode:[0]").attribute(x)


class Normalised(ToyVAE):
    def __init__(self, **options):
        super().__init__()
        self.norm = nn.BatchNorm2d(2, **options).double()
        self.eval()

    def encode(self, x):
        return super().encode(self.norm(x))


def test_batch_norm_in_train_mode_warns():
    vae = Normalised().train()
    cam = LatentGradCAM(vae, "conv1", posterior="encode:[0],[1]")
    with pytest.warns(UserWarning, match=r"batch-norm layer.*call model.eval\(\) first"):
        cam.attribute(vae.images(2))


def test_batch_norm_without_running_statistics_warns_in_eval_mode_too():
    vae = Normalised(track_running_stats=False)
    with pytest.warns(UserWarning, match="batch-norm layer.*other images of the batch"):
        LatentGradCAM(vae, "conv1").attribute(vae.images(2))


def test_batch_norm_in_eval_mode_does_not_warn():
    vae = Normalised()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        LatentGradCAM(vae, "conv1").attribute(vae.images(2))


def test_a_good_call_warns_of_nothing():
    vae = ToyVAE()
    x = vae.images(2)
    cam = LatentGradCAM(vae, ["conv1", "act1", "conv2", "act2"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for weighting in ("pooled", "elementwise", "integrated"):
            for create_graph in (False, True):
                cam.attribute(x, weighting=weighting, create_graph=create_graph)


def test_the_warnings_point_at_the_users_line():
    vae = Normalised().train()
    x = vae.images(2)
    x[0] = float("nan")
    cam = LatentGradCAM(vae, "conv1", posterior="encode:[0],[1]")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        cam.attribute(x)
    assert len(caught) >= 2
    assert {warning.filename for warning in caught} == {__file__}
