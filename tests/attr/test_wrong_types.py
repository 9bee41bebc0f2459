"""Whatever is given for an argument: it works, or a ValueError or TypeError names the argument."""

import math

import numpy as np
import pytest
import torch

from captum_vae import (
    DecoderAttribution,
    LatentGradCAM,
    MeanActivation,
    MeanSumGradCAM,
    NormalDifferenceGradCAM,
    explanation_func,
    watch_forward,
)
from captum_vae.attr import input_attributions
from captum_vae.localization import (
    ELBOGradient,
    FeatureDifference,
    GradientProjection,
    LatentAttention,
    MeanImageDifference,
    ReconstructionError,
)
from tests.attr.toys import ToyVAE

VAE = ToyVAE()
X = VAE.images(2)
NAN = float("nan")


def broken(value):
    image = X.clone()
    image[1, 0, 2, 2] = value
    return image


ATTRIBUTE = {
    "inputs": [
        None, 3, "x", [], {}, X.numpy(), {"image": X}, [X], X.to(torch.complex128), torch.zeros(()),
        X[:0], (), (X, "x"), (X, None), torch.zeros(0, 2, 6, 6),
    ],
    "target": [
        "a", b"1", 1.5, True, NAN, [], [0, 1.0], [True], 99, -4, 2**70, {}, 1j, torch.tensor([0.5]),
        torch.tensor([True]), np.array([1.0]), np.array([1j]), object(),
    ],
    "attribute_to_layer_input": ["x", 1, 0, None, "input", torch.tensor(True)],
    "preset": ["", None, 3, ["paper"], torch.zeros(3), "Paper"],
    "rectifier": ["", 3, True, ["relu"], torch.relu, np.zeros(3), torch.zeros(2), {}],
    "order": ["", 1, b"after_sum", ("after_sum",)],
    "reduction": ["avg", 0, 1.0, torch.ones(2)],
    "weighting": ["gradcam", 1, X],
    "aggregate": ["median", False, 2, np.ones(2)],
    "baselines": [
        NAN, math.inf, -math.inf, True, 1j, "zero", "", [0.0], {}, X.numpy(), X.to(torch.complex64),
        X > 0, broken(NAN), broken(math.inf), X[:, :1], X[0], X[:, :, :5], (X, X), (),
        MeanActivation, MeanActivation(), object(), lambda x: None, lambda x: "x", b"x",
        lambda x: x[:, :1],
    ],
    "size": [
        "output", 0, -1, 3.5, NAN, True, (1.5, 2), (3,), (3, 3, 3), [True, 2], {}, object(), 1j, "",
        (0, 3), torch.tensor([2.0, 3.0]), b"ab",
    ],
    "n_steps": [0, -1, 1.5, "8", None, True, NAN, 1j, [3], torch.tensor(2.0)],
    "create_graph": ["no", 1, None, 0, torch.tensor(False)],
}  # fmt: skip
CONSTRUCTOR = {
    "layer": [
        3,
        1.5,
        [],
        "",
        "conv9",
        [3],
        ["conv1", 3],
        torch.nn.Conv2d(1, 1, 1),
        b"conv1",
        object(),
    ],
    "of": ["", "median", 3, None, ["mean"], torch.zeros(2), True],
    "location": ["ij", 3, 1.5, (0.5, 1), ["a"], (True, 1)],
    "seed": [1.5, "0", None, True, 2**70, NAN, [0]],
    "reshape_transform": [3, "transpose", [len], torch.zeros(2)],
    "dims_per_pass": [0, -3, 1.5, "4", True, [1], NAN],
    "memory_budget": [0, -1, 0.5, "1GB", True, [1], NAN],
}
DECODER = {
    "change": ["", "finite", 1, None, torch.zeros(2)],
    "step": [NAN, math.inf, "1", None, True, 1j, [1.0]],
    "scale": [
        "unit", NAN, math.inf, None, True, {}, 1j, [1.0, 2.0], object(), torch.ones(3, 3), X > 0,
        [NAN] * 3,
    ],
    "rectifier": ["", 3, torch.zeros(2)],
    "target": [9, 1.5, [], True],
    "size": [0, "output", 2.5],
    "create_graph": [1, "x"],
}  # fmt: skip
SCORERS = {
    "method": (LatentAttention, ["", 1, ["mean_sum"]]),
    "difference": (
        lambda vae, layer, difference: LatentAttention(
            vae, layer, method="normal_difference", difference=difference
        ),
        ["", 2, torch.zeros(2)],
    ),
    "baselines": (LatentAttention, ["zero", None, 0.0, X]),
    "n_steps": (LatentAttention, [0, 1.5, "4", True, None]),
    "rectifier": (LatentAttention, ["gelu", 3]),
    "scale": (FeatureDifference, ["unit", None, 1.0, X]),
    "layers": (lambda vae, layer, layers: LatentAttention(vae, layers), [3, None, {}, [3]]),
    "distance": (
        lambda vae, layer, distance: ReconstructionError(vae, distance=distance),
        [1, "x"],
    ),
    "likelihood": (
        lambda vae, layer, likelihood: ELBOGradient(vae, likelihood=likelihood),
        [1, ""],
    ),
    "steps": (
        lambda vae, layer, steps: GradientProjection(vae, steps=steps),
        [0, 1.5, True, "5", NAN],
    ),
    "step_size": (
        lambda vae, layer, step_size: GradientProjection(vae, step_size=step_size),
        [0, -1.0, NAN, math.inf, "x", True, None],
    ),
    "sparsity": (
        lambda vae, layer, sparsity: GradientProjection(vae, sparsity=sparsity),
        [-1.0, NAN, math.inf, "x", True, None],
    ),
}  # fmt: skip


def cases(table):
    return [
        pytest.param(name, value, id=f"{name}-{number}-{type(value).__name__}")
        for name, values in table.items()
        for number, value in enumerate(values)
    ]


def refuses(name, call):
    """It raises one of the two, in words that hold the argument's name, and not from inside."""
    with pytest.raises((ValueError, TypeError)) as refusal:
        call()
    assert name in str(refusal.value), str(refusal.value)
    assert type(refusal.value) in (ValueError, TypeError)
    assert len(str(refusal.value)) < 900


@pytest.mark.parametrize("method", [LatentGradCAM, MeanSumGradCAM])
@pytest.mark.parametrize(("name", "value"), cases(ATTRIBUTE))
def test_attribute_names_the_argument(method, name, value):
    cam = method(VAE, "conv2")
    options = {"inputs": X, name: value}
    if name == "baselines" and isinstance(value, tuple) and len(value) == 2:
        options["inputs"] = X
    refuses(name, lambda: cam.attribute(**options))


@pytest.mark.parametrize(("name", "value"), cases(CONSTRUCTOR))
def test_the_constructor_names_the_argument(name, value):
    refuses(name, lambda: LatentGradCAM(**{"forward_func": VAE, "layer": "conv2", name: value}))


@pytest.mark.parametrize(("name", "value"), cases(DECODER))
def test_the_decoders_attribution_names_the_argument(name, value):
    refuses(name, lambda: DecoderAttribution(VAE).attribute(X, **{name: value}))


@pytest.mark.parametrize(
    ("name", "value"), cases({name: values for name, (_, values) in SCORERS.items()})
)
def test_a_scorers_constructor_names_the_argument(name, value):
    refuses(name, lambda: SCORERS[name][0](VAE, "conv2", **{name: value}))


@pytest.mark.parametrize(
    "value", [None, 3, "x", X.numpy(), [X], X[0], X[:0], X > 0, X.to(torch.complex64)]
)
def test_scoring_names_the_images(value):
    refuses("images", lambda: ReconstructionError(VAE).score(value))


@pytest.mark.parametrize(
    "value", [None, 3, "x", {}, [], [3], ["x"], [None], [X[0]], [(1, X)], X[:0], [X > 0]]
)
def test_fitting_names_the_normal_images(value):
    refuses("normal", lambda: MeanImageDifference(VAE).fit(value))


@pytest.mark.parametrize("value", [None, 3, "x", X, {}, [3], [None], [("a", X)], [{}], []])
def test_fitting_an_attribution_names_the_batches(value):
    refuses("batches", lambda: NormalDifferenceGradCAM(VAE, "conv2").fit(value))
    refuses("batches", lambda: MeanActivation().fit(LatentGradCAM(VAE, "conv2"), value))


@pytest.mark.parametrize("value", [None, 3, VAE, "x", X])
def test_what_is_no_attribution_is_refused(value):
    refuses("cam", lambda: MeanActivation().fit(value, [X]))
    refuses("cam", lambda: explanation_func(value))


@pytest.mark.parametrize("value", [None, X.numpy(), X[0, 0], X[:, :1, 0], X, 3])
def test_maps_that_are_none_are_refused(value):
    refuses("maps", lambda: input_attributions(value, X))


@pytest.mark.parametrize(
    ("name", "value"),
    cases(
        {
            "target": [9, "a", 1.5, True, []],
            "preset": ["", 3],
            "rectifier": ["x", 3],
            "channel_weights": ["x", None, True],
            "mean": [None, X, 3, torch.zeros(2, 3), X.numpy()],
        }
    ),
)
def test_a_watched_forward_names_the_argument(name, value):
    with watch_forward(VAE, "conv2") as watched:
        mean = VAE.encode(X)[0]
    refuses(name, lambda: watched.maps(**{"mean": mean, name: value}))


@pytest.mark.parametrize("value", [NAN, math.inf, -math.inf])
def test_an_input_that_is_not_finite_is_said_to_be_so(value):
    cam = LatentGradCAM(VAE, "conv2", posterior="encode:[0],[1]", checks="every")
    with pytest.warns(UserWarning, match="inputs holds (NaN|infinite values), first in sample 1"):
        maps = cam.attribute(broken(value))
    assert torch.equal(maps[0], cam.attribute(X)[0])
    with pytest.warns(UserWarning, match="images holds (NaN|infinite values), first in sample 1"):
        ReconstructionError(VAE, posterior="encode:[0],[1]").score(broken(value))


@pytest.mark.parametrize(
    ("options", "calling", "named"),
    [
        ({"posterior": np.zeros(3)}, {}, "posterior"),
        ({"posterior": torch.zeros(3)}, {}, "posterior"),
        ({"posterior": {"mean": 0}}, {}, "posterior"),
        ({"location": torch.tensor(1)}, {}, "location"),
        ({"location": np.array(1)}, {}, "location"),
        ({"location": b"x"}, {}, "location"),
        ({}, {"size": 2**70}, "size"),
        ({}, {"size": (4, 2**40)}, "size"),
        ({}, {"size": torch.tensor(1.5)}, "size"),
        ({}, {"baselines": lambda: 1}, "baselines"),
        ({}, {"baselines": lambda a, b: a}, "baselines"),
    ],
)
def test_arrays_without_axes_and_functions_of_other_arguments_are_named(options, calling, named):
    vae = ToyVAE()
    with pytest.raises((TypeError, ValueError), match=named):
        LatentGradCAM(vae, "conv2", **options).attribute(vae.images(2), **calling)


@pytest.mark.parametrize("layer", [torch.tensor(1), np.array("conv2")])
def test_a_layer_that_is_an_array_without_axes_is_refused(layer):
    with pytest.raises(TypeError, match="layer must be a torch.nn.Module"):
        LatentGradCAM(ToyVAE(), layer)
