"""Active dimensions against statistics worked by hand and computed over the whole set."""

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from captum_vae.metrics.activity import (
    ActiveDimensionAccumulator,
    active_dimensions,
)
from captum_vae.posterior import CollapsedPosteriorWarning


def test_kl_and_std_by_hand() -> None:
    report = active_dimensions(torch.tensor([[1.0], [-1.0]]), torch.zeros(2, 1))
    assert (report.kl.item(), report.std.item(), report.images) == (0.5, 1.0, 2)


def test_active_needs_both_the_kl_and_the_spread() -> None:
    n = 1000
    spread, nothing = torch.randn(n), torch.zeros(n)
    mean = torch.stack([spread, nothing + 2.0, 0.05 * spread], dim=1)
    log_variance = torch.stack([nothing, nothing, nothing - 1.0], dim=1)
    report = active_dimensions(mean, log_variance)
    assert (report.kl > 0.01).tolist() == [True, True, True]
    assert report.active.tolist() == [True, False, False]
    assert report.count == 1


def test_batches_and_added_states_equal_one_pass() -> None:
    mean, log_variance = torch.randn(2, 100, 4)
    whole = active_dimensions(mean, log_variance)
    left, right = ActiveDimensionAccumulator(), ActiveDimensionAccumulator()
    left.update(mean[:30], log_variance[:30])
    left.update(mean[30:55], log_variance[30:55])
    right.update(mean[55:], log_variance[55:])
    assert left.sums is not None and right.sums is not None
    left.sums = left.sums + right.sums
    parts = left.compute()
    torch.testing.assert_close(parts.kl, whole.kl)
    torch.testing.assert_close(parts.std, whole.std)
    torch.testing.assert_close(whole.std, mean.double().std(0, correction=0))
    assert parts.images == 100


def test_constant_pattern_over_positions_is_not_spread_over_the_data() -> None:
    pattern = torch.arange(4.0).reshape(1, 1, 2, 2).repeat(10, 1, 1, 1)
    report = active_dimensions(pattern, torch.zeros_like(pattern))
    assert report.std.item() == 0.0
    assert report.kl.item() == pytest.approx(0.5 * (0 + 1 + 4 + 9))


def test_table_shows_both_numbers_most_informative_first() -> None:
    mean = torch.tensor([[0.0, 1.0], [0.0, -1.0]])
    lines = active_dimensions(mean, torch.zeros(2, 2)).table().splitlines()
    assert lines[0].startswith("1 of 2 latent dimensions active over 2 images")
    assert lines[2].split() == ["1", "0.5000", "1.0000", "yes"]
    assert lines[3].split() == ["0", "0.0000", "0.0000", "-"]


def test_report_survives_json() -> None:
    report = active_dimensions(torch.tensor([[0.0, 1.0], [0.0, -1.0]]), torch.zeros(2, 2))
    back = json.loads(json.dumps(report.to_dict()))
    assert (back["active"], back["dimensions"], back["active_dimensions"]) == (1, 2, [1])


def test_collapsed_posterior_warns() -> None:
    with pytest.warns(CollapsedPosteriorWarning, match="none of the 3 latent dimensions"):
        active_dimensions(torch.zeros(5, 3), torch.zeros(5, 3)).warn_if_collapsed()


def test_a_short_training_is_not_called_collapsed():
    unused = active_dimensions(torch.zeros(5, 3), torch.zeros(5, 3))
    with pytest.warns(UserWarning, match="after 30 steps, too few") as caught:
        unused.warn_if_collapsed(30)
    assert not any(issubclass(w.category, CollapsedPosteriorWarning) for w in caught)
    with pytest.warns(CollapsedPosteriorWarning):
        unused.warn_if_collapsed(1000)


def test_no_image_is_an_error() -> None:
    with pytest.raises(ValueError, match="no image"):
        ActiveDimensionAccumulator().compute()


ONES = torch.ones(4, 3)
BAD: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "array": (lambda: active_dimensions(ONES.numpy(), ONES), TypeError, "mean is a ndarray"),
    "none": (lambda: active_dimensions(ONES, None), TypeError, "log_variance is a NoneType"),
    "list": (lambda: active_dimensions([[1.0]], ONES), TypeError, "mean is a list"),
    "integers": (lambda: active_dimensions(ONES.long(), ONES), TypeError, "mean is torch.int64"),
    "complex": (lambda: active_dimensions(ONES, ONES.cfloat()), TypeError, "complex64"),
    "nan": (lambda: active_dimensions(ONES * math.nan, ONES), ValueError, "mean has values"),
    "infinite": (lambda: active_dimensions(ONES, ONES / 0), ValueError, "log_variance has values"),
    "other shapes": (lambda: active_dimensions(ONES, ONES[:, :2]), ValueError, r"\(4, 3\) and \(4"),
    "one axis": (lambda: active_dimensions(ONES[0], ONES[0]), ValueError, r"got \(3,\)"),
    "no image": (lambda: active_dimensions(ONES[:0], ONES[:0]), ValueError, "no image"),
    "threshold": (
        lambda: active_dimensions(ONES, ONES, kl_threshold="low"),
        *(TypeError, "kl_threshold"),
    ),
    "negative": (lambda: ActiveDimensionAccumulator(std_threshold=-1), ValueError, "std_threshold"),
    "nan threshold": (
        lambda: ActiveDimensionAccumulator(kl_threshold=math.nan),
        *(ValueError, "kl_threshold"),
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_input_is_refused_by_name(kind: str) -> None:
    call, error, message = BAD[kind]
    with pytest.raises(error, match=message):
        call()


def test_a_batch_of_other_dimensions_is_refused() -> None:
    accumulator = ActiveDimensionAccumulator()
    accumulator.update(ONES, ONES)
    with pytest.raises(ValueError, match=r"mean has shape \(4, 2\)"):
        accumulator.update(ONES[:, :2], ONES[:, :2])
