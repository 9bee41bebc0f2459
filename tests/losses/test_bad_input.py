"""What losses cannot be built of or called with: an error that names the argument."""

import math

import numpy as np
import pytest
import torch

from captum_vae.losses import (
    ELBO,
    AttentionDisentanglementLoss,
    attention_overlap,
    bernoulli_nll,
    discriminator_loss,
    free_bits,
    gaussian_nll,
    kl_per_dimension,
    linear_warmup,
    optimal_gaussian_nll,
    pair_overlap,
    permute_dims,
    total_correlation,
)

WORDS = ["", "Paper", None, 1, True, ["paper"], np.array(["a", "b"])]
NUMBERS = [-1, -0.5, math.nan, math.inf, "1", None, True, [1.0], 1j, torch.rand(2)]
COUNTS = [-1, 2.5, "3", None, True, [3], math.nan]
NO_TENSORS = [
    None,
    3.0,
    [[0.5]],
    "maps",
    np.full((2, 3, 4, 4), 0.5),
    torch.ones(2, 3, 4, 4, dtype=torch.long),
    torch.ones(2, 3, 4, 4, dtype=torch.bool),
    torch.ones(2, 3, 4, 4, dtype=torch.complex64),
]
PAIRS = [0, -1, 2.5, True, "some", None, [], [(0, 0)], [(0, 1, 2)], [(0, 1.5)], [0, 1], {"a": 1}]

BUILT = [
    *[(ELBO, "likelihood", value) for value in WORDS],
    *[(ELBO, "scale", value) for value in WORDS],
    *[(ELBO, name, value) for name in ("beta", "free_bits", "variance") for value in NUMBERS],
    (ELBO, "variance", 0),
    *[(ELBO, "warmup_steps", value) for value in COUNTS],
    *[(AttentionDisentanglementLoss, "mode", value) for value in WORDS],
    *[(AttentionDisentanglementLoss, "aggregation", value) for value in WORDS],
    *[(AttentionDisentanglementLoss, "gate", value) for value in WORDS],
    *[(AttentionDisentanglementLoss, "rectifier", v) for v in WORDS if v is not None],
    (AttentionDisentanglementLoss, "rectifier", "none"),
    *[(AttentionDisentanglementLoss, "order", value) for value in WORDS if value is not None],
    *[(AttentionDisentanglementLoss, "seed", value) for value in COUNTS],
    *[(AttentionDisentanglementLoss, "pairs", value) for value in PAIRS],
]


@pytest.mark.parametrize(("loss", "argument", "value"), BUILT)
def test_a_bad_option_of_a_loss_is_named(loss, argument, value):
    with pytest.raises((ValueError, TypeError), match=argument):
        loss(**{argument: value})


@pytest.mark.parametrize("value", NO_TENSORS, ids=lambda value: type(value).__name__)
def test_what_is_no_floating_tensor_is_refused_by_name(value):
    good = torch.rand(2, 3)
    calls = {
        "reconstruction": lambda: gaussian_nll(value, good),
        "target": lambda: bernoulli_nll(good, value),
        "target ": lambda: optimal_gaussian_nll(good, value),
        "mean": lambda: kl_per_dimension(value, good),
        "log_variance": lambda: kl_per_dimension(good, value),
        "log_variance ": lambda: ELBO()(good, good, good, value),
        "kl": lambda: free_bits(value, 0.1),
        "z": lambda: permute_dims(value),
        "the discriminator's output": lambda: total_correlation(value),
        "the discriminator's output ": lambda: discriminator_loss(good[:, :2], value),
        "maps": lambda: attention_overlap(value),
        "maps ": lambda: AttentionDisentanglementLoss()(value),
        "first": lambda: pair_overlap(value, good),
        "second": lambda: pair_overlap(good, value),
        "watched": lambda: AttentionDisentanglementLoss().of_forward(value, good),
        "cam": lambda: AttentionDisentanglementLoss().of_images(value, good),
    }
    for name, call in calls.items():
        with pytest.raises(TypeError, match=f"^{name.strip()} "):
            call()


@pytest.mark.parametrize("mode", ["paper", "normalised", "replication"])
@pytest.mark.parametrize("shape", [(0, 3, 4, 4), (2, 3, 0, 4), (2, 1, 4, 4), (2, 3), (0,), ()])
def test_empty_batches_and_maps_are_refused(mode, shape):
    with pytest.raises(ValueError, match="maps has shape"):
        AttentionDisentanglementLoss(mode)(torch.zeros(shape))


@pytest.mark.parametrize("mode", ["paper", "normalised", "replication"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("everywhere", [False, True])
def test_maps_that_are_not_finite_are_refused_with_the_image(mode, value, everywhere):
    maps = torch.rand(3, 2, 4, 4)
    if everywhere:
        maps[1:] = value
    else:
        maps[1, 1, 2, 3] = value
    with pytest.raises(ValueError, match="NaN or infinite values, first those of image 1"):
        AttentionDisentanglementLoss(mode)(maps)


@pytest.mark.parametrize(
    "call",
    [
        lambda empty: gaussian_nll(empty, empty),
        lambda empty: bernoulli_nll(empty, empty),
        lambda empty: optimal_gaussian_nll(empty, empty),
        lambda empty: ELBO()(empty, empty, empty, empty),
        lambda empty: free_bits(empty, 0.0),
        lambda empty: total_correlation(empty),
        lambda empty: discriminator_loss(empty, empty),
    ],
)
def test_an_empty_batch_is_refused_rather_than_averaged_to_nan(call):
    with pytest.raises(ValueError, match=r"\(0, 2\)"):
        call(torch.zeros(0, 2))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"pairs": [(0, 1)]}, "pairs is a list"),
        ({"pairs": torch.zeros(1, 2)}, "pairs has shape"),
        ({"pairs": torch.tensor([[0, 3]])}, "pairs holds"),
        ({"gates": [1.0, 1.0, 1.0]}, "gates is a list"),
        ({"gates": torch.ones(2)}, "gates has shape"),
        ({"gates": torch.ones(3, dtype=torch.long)}, "gates holds"),
        ({"mode": 3}, "mode=3"),
        ({"aggregation": "max"}, "aggregation='max'"),
    ],
)
def test_options_of_the_overlap_that_do_not_fit_are_named(options, words):
    with pytest.raises((ValueError, TypeError), match=words):
        attention_overlap(torch.rand(2, 3, 4, 4), **options)


@pytest.mark.parametrize("kl", [None, 3.0, [0.1], torch.ones(3).long(), torch.ones(2)])
def test_a_gate_needs_the_kl_of_each_dimension(kl):
    with pytest.raises((ValueError, TypeError), match="kl"):
        AttentionDisentanglementLoss(gate="kl")(torch.rand(2, 3, 4, 4), kl=kl)


@pytest.mark.parametrize("value", COUNTS)
def test_steps_are_whole_numbers(value):
    with pytest.raises((ValueError, TypeError), match="^step"):
        linear_warmup(value, 10)
    with pytest.raises((ValueError, TypeError), match="^warmup_steps"):
        linear_warmup(1, value)


@pytest.mark.parametrize("value", [0, *NUMBERS])
def test_variances_are_positive_numbers(value):
    x = torch.rand(2, 3)
    with pytest.raises((ValueError, TypeError), match="^variance"):
        gaussian_nll(x, x, variance=value)
    with pytest.raises((ValueError, TypeError), match="^minimum_variance"):
        optimal_gaussian_nll(x, x, minimum_variance=value)
