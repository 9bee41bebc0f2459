import numpy as np
import pytest
import torch

from captum_vae.metrics.localization import anomalous as anomalous_module
from captum_vae.metrics.localization.anomalous import AnomalousPixels, found_at_thresholds


def by_hand(keys: np.ndarray, sizes: np.ndarray) -> list[tuple[int, int, float]]:
    return [
        (int(key), int((keys >= key).sum()), float((1 / sizes[keys >= key]).sum()))
        for key in sorted(set(keys.tolist()), reverse=True)
    ]


@pytest.mark.parametrize("part", [1, 2, 3, 64, 1 << 17])
@pytest.mark.parametrize("distinct", [1, 3, 400])
def test_each_threshold_finds_what_counting_finds_however_the_codes_are_cut(
    monkeypatch: pytest.MonkeyPatch, part: int, distinct: int
) -> None:
    monkeypatch.setattr(anomalous_module, "_PART", part)
    random = np.random.default_rng(0)
    keys = random.integers(-distinct, distinct, 100)
    sizes = random.integers(1, 1000, 100)
    codes = torch.from_numpy(np.sort((keys << 32) | sizes))
    found = found_at_thresholds(AnomalousPixels(codes), regions=True, dtype=torch.int32)
    expected = by_hand(keys, sizes)
    assert found.keys.tolist() == [row[0] for row in expected]
    assert found.true_positives.tolist() == [row[1] for row in expected]
    assert found.overlap is not None
    assert found.overlap.numpy() == pytest.approx([row[2] for row in expected], rel=1e-12)


def test_no_anomalous_pixel_gives_no_threshold() -> None:
    found = found_at_thresholds(
        AnomalousPixels(torch.zeros(0, dtype=torch.int64)), regions=False, dtype=torch.int64
    )
    assert len(found.keys) == len(found.true_positives) == 0
    assert found.overlap is None
