"""What the posterior room cannot use: an error that names the argument, or says what is wanted."""

import numpy as np
import pytest
import torch
from torch import nn

from captum_vae.posterior import (
    Posterior,
    PosteriorAdapter,
    PosteriorError,
    as_adapter,
    posterior_of_latent,
    standard_normal_kl,
)
from captum_vae.posterior.calling import ModelArgumentsError
from tests.posterior import vaes

NO_TENSORS = [None, 3, [[0.1]], "mean", np.zeros((2, 3)), torch.zeros(2, 3).long()]

OPTIONS = [
    *[
        ("spatial", value)
        for value in ("max", "", None, 3, True, 1.5, [0, 1], (), (0.5, 1), ("a",))
    ],
    *[("level", value) for value in ("0", 1.5, True, [0], (0,), np.nan)],
    *[("spread", value) for value in ("sigma", "", 1, True, ["std"], np.array(["std", "std"]))],
    *[("call", value) for value in ("encodes", "encode.", "", 3, None, ["encode"], True)],
    *[("read", value) for value in (True, 1.5, None, [0, 1], (), (0, 1, 2), "", "a b", {"mu": 1})],
    ("read", "module:"),
    ("read", "module:a,b,c"),
    ("read", "module:a:auto"),
]


@pytest.mark.parametrize(("argument", "value"), OPTIONS)
def test_a_bad_option_of_the_adapter_is_refused(argument, value):
    with pytest.raises((ValueError, TypeError)):
        PosteriorAdapter(vaes.ForwardOnly(), **{argument: value})


@pytest.mark.parametrize("model", [None, 3, "model", [nn.Linear(1, 1)], {}, torch.zeros(2)])
def test_what_is_no_model_is_refused(model):
    with pytest.raises(TypeError, match="must be a module or a callable"):
        as_adapter(model)


@pytest.mark.parametrize("value", NO_TENSORS, ids=lambda value: type(value).__name__)
def test_moments_are_floating_tensors(value):
    good = torch.zeros(2, 3)
    with pytest.raises(TypeError, match="^mean "):
        posterior_of_latent(value, good)
    with pytest.raises(TypeError, match="^mean "):
        standard_normal_kl(value, good)
    if value is not None:  # an unknown log-variance
        with pytest.raises(TypeError, match="^log_variance "):
            posterior_of_latent(good, value)


@pytest.mark.parametrize("shape", [(2, 4), (3,), (2, 3, 1), ()])
def test_moments_have_one_shape(shape):
    with pytest.raises(ValueError, match=r"one shape, got \(2, 3\)"):
        posterior_of_latent(torch.zeros(2, 3), torch.zeros(shape))
    with pytest.raises(ValueError, match="one shape"):
        standard_normal_kl(torch.zeros(2, 3), torch.zeros(shape))


@pytest.mark.parametrize("seed", ["0", 1.5, True, [0], 2**64, np.nan])
def test_a_seed_is_a_whole_number(seed):
    with pytest.raises((ValueError, TypeError), match="seed"):
        Posterior(torch.zeros(2, 3), torch.zeros(2, 3), (3,)).sample(seed=seed)


@pytest.mark.parametrize("generator", [0, "cpu", np.random.default_rng(0)])
def test_a_generator_is_pytorchs(generator):
    with pytest.raises(TypeError, match="wanted a torch.Generator"):
        Posterior(torch.zeros(2, 3), torch.zeros(2, 3), (3,)).sample(generator=generator)


@pytest.mark.parametrize("location", ["01", 3, None, (0.5, 0), (0,), (9, 9), (True, 0), {0, 1}])
def test_a_location_is_one_index_per_axis(location):
    posterior = posterior_of_latent(torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4))
    with pytest.raises((ValueError, TypeError), match="location"):
        posterior.at(location)


class Conditional(vaes.Moments):
    def encode(self, x, y):
        return self.moments(x + y.view(-1, 1, 1, 1))

    def forward(self, x, y):
        mu, logvar = self.encode(x, y)
        return self.image(self.draw(mu, logvar)), mu, logvar


class ByKeyword(Conditional):
    def encode(self, x, *, y):
        return super().encode(x, y)

    def forward(self, x, *, y):
        return super().forward(x, y)


class Optional(Conditional):
    def encode(self, x, y=None):
        return self.moments(torch.cat([x, y]))

    def forward(self, x, y=None):
        return self.encode(x, y)


class OfADict(vaes.Moments):
    def forward(self, batch):
        return super().forward(batch["pixel_values"])


class OfAnObject(vaes.Moments):
    def forward(self, batch):
        return super().forward(batch.images)


class WithoutArguments(vaes.Moments):
    def forward(self):
        return super().forward(torch.zeros(4, *vaes.SHAPE))


KINDS = [
    (
        Conditional(),
        r"further arguments beside the images: y\. .*additional_forward_args=\(y",
    ),
    (Conditional().encode, "encode of Conditional wants further arguments beside the images: y"),
    (lambda x, label: x, "wants further arguments beside the images: label"),
    (ByKeyword(), r"by keyword beside the images: y=\.\.\..*call=lambda x: model\(x, y="),
    (Optional(), "arguments y are left at None"),
    (OfADict(), "looks up .*pixel_values.* in its batch.*dictionary"),
    (OfAnObject(), r"looks up \.images in its batch"),
    (WithoutArguments(), r"takes 0 argument\(s\)"),
]


@pytest.mark.parametrize(("model", "words"), KINDS, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("posterior", [None, "1,2", "forward:1,2"])
def test_a_model_that_wants_other_arguments_is_told_by_its_kind(model, words, posterior):
    if posterior == "forward:1,2" and getattr(model, "__name__", "") == "encode":
        posterior = "encode:1,2"
    with pytest.raises(ModelArgumentsError, match=words) as caught:
        as_adapter(model, posterior)(torch.rand(4, *vaes.SHAPE))
    assert "image_size" not in str(caught.value)
    assert isinstance(caught.value, PosteriorError)


def test_a_model_given_too_much_is_told_what_it_takes():
    with pytest.raises(ModelArgumentsError, match=r"takes 1 argument\(s\), x, and was given 2"):
        as_adapter(vaes.ForwardOnly(), "forward:1,2")(torch.rand(4, *vaes.SHAPE), torch.rand(4))


def test_a_models_own_error_stays_its_own():
    class Own(vaes.Moments):
        def forward(self, x):
            raise KeyError("vocabulary")

    with pytest.raises(KeyError, match="vocabulary"):
        as_adapter(Own())(torch.rand(4, *vaes.SHAPE))
    with pytest.raises(RuntimeError, match="channels"):
        as_adapter(vaes.ForwardOnly())(torch.rand(4, 5, 8, 8))
