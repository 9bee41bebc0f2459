"""Single arguments are refused by name, whatever came for them."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from captum_vae.checks import check_choice, real_number, whole_number


def test_a_word_among_the_choices_passes():
    check_choice("order", "after_sum", ("after_sum", "channelwise"))
    check_choice("cache", None, (None, "disk"))


@pytest.mark.parametrize(
    "value",
    ["", "Relu", None, 1, True, 1.5, ["relu"], {"relu": 1}, b"relu", torch.ones(3), np.zeros(200)],
    ids=lambda value: type(value).__name__,
)
def test_anything_else_is_refused_with_the_choices(value):
    with pytest.raises(ValueError, match=r"^rectifier=.* is not known; choose one of relu, abs$"):
        check_choice("rectifier", value, ("relu", "abs"))


@pytest.mark.parametrize("value", [3, np.int8(3), torch.tensor(3)])
def test_integers_of_any_library_are_whole_numbers(value):
    number = whole_number("steps", value, least=1, most=3)
    assert number == 3 and type(number) is int


@pytest.mark.parametrize(
    "value", [True, 1.0, 1.5, "1", None, [1], torch.tensor(1.0), np.float32(1), 1j, torch.ones(2)]
)
def test_what_is_no_whole_number_is_a_type_error(value):
    with pytest.raises(TypeError, match=r"^n_steps="):
        whole_number("n_steps", value)


@pytest.mark.parametrize("value", [0, -1, 11])
def test_a_whole_number_out_of_range_names_the_limit(value):
    with pytest.raises(ValueError, match=rf"^n_steps={value} must be at (least 1|most 10); give"):
        whole_number("n_steps", value, least=1, most=10, hint="give fewer")


@pytest.mark.parametrize("value", [2, 2.0, np.float32(2), np.int64(2), Fraction(2)])
def test_real_numbers_of_any_library_become_floats(value):
    number = real_number("step", value)
    assert number == 2.0 and type(number) is float


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -np.inf])
def test_a_number_that_is_not_finite_is_a_value_error(value):
    with pytest.raises(ValueError, match=r"^step=.* is not finite$"):
        real_number("step", value)


@pytest.mark.parametrize(
    ("value", "limit", "words"),
    [(-1, {"least": 0}, "at least 0"), (0.0, {"above": 0}, "larger than 0")],
)
def test_a_real_number_out_of_range_names_the_limit(value, limit, words):
    with pytest.raises(ValueError, match=rf"^step={value} must be {words}$"):
        real_number("step", value, **limit)


@pytest.mark.parametrize("value", [True, "1", None, 1j, [1.0], np.zeros(3)])
def test_what_is_no_real_number_is_a_type_error(value):
    with pytest.raises(TypeError, match=r"^step=.* is no number$"):
        real_number("step", value)
