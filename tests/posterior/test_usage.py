"""One rule for active dimensions, whichever part of the package is asked."""

from pathlib import Path

import pytest
import torch

from captum_vae.attr.arguments import warn_of_collapse
from captum_vae.explain import Explanation
from captum_vae.metrics import active_dimensions
from captum_vae.metrics.disentanglement.votes import used_dimensions
from captum_vae.models import ConvVAE
from captum_vae.posterior import CollapsedPosteriorWarning, Posterior, PosteriorAdapter
from captum_vae.posterior.usage import is_active, rule_in_words, std_over_images

HALF = 10


def posteriors(kl: float, std: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Means (20, 1) at +std and -std, and the log-variance that brings the mean KL to ``kl``."""
    mean = torch.tensor([[std], [-std]], dtype=torch.float64).repeat(HALF, 1)
    # KL = (std^2 + v - 1 - log v) / 2, solved for v > 1 by bisection.
    low, high = 1.0, 50.0
    for _ in range(80):
        v = (low + high) / 2
        below = (std**2 + v - 1 - torch.tensor(v).log().item()) / 2 < kl
        low, high = (v, high) if below else (low, v)
    return mean, torch.full_like(mean, low).log()


@pytest.mark.parametrize(
    ("kl", "std", "active"),
    [
        (0.023, 0.07, False),  # three rules once gave three answers
        (0.023, 0.11, True),
        (0.0099, 0.11, False),
        (0.5, 0.09, False),
        (2.0, 0.0, False),
        (2.0, 1.0, True),
    ],
)
def test_every_part_that_has_a_sample_of_the_data_gives_one_answer(kl, std, active):
    mean, log_variance = posteriors(kl, std)
    report = active_dimensions(mean, log_variance)
    assert report.kl.item() == pytest.approx(kl, abs=1e-6)
    assert report.active.tolist() == [active]
    per_image = torch.full_like(mean, kl)
    told = {"images": [], "device": torch.device("cpu"), "settings": {}, "names": ("x",) * 20}
    explanation = Explanation(torch.zeros(20, 1, 2, 2), (0,), mean, per_image, **told)
    assert explanation.collapsed == (set() if active else {0})
    assert is_active(report.kl, report.std).tolist() == [active]


def test_a_few_images_have_no_spread_and_the_kl_decides():
    assert std_over_images(torch.zeros(9, 3)) is None
    assert torch.equal(std_over_images(torch.tensor([[1.0], [-1.0]] * 5)), torch.tensor([1.0]))
    assert is_active(torch.tensor([0.01, 0.02])).tolist() == [False, True]
    assert rule_in_words() == "KL above 0.01 nats and std of the mean above 0.1"
    assert rule_in_words(std_known=False) == "KL above 0.01 nats"


def test_a_batch_warns_by_the_same_kl(recwarn):
    # KL of N(m, 1) is m^2 / 2: 0.01 nats at m = 0.1414.
    adapter = PosteriorAdapter(ConvVAE(1, image_size=16, channels=(4,), hidden=4))
    warn_of_collapse(Posterior(torch.full((2, 1), 0.142), torch.zeros(2, 1), (1,)), adapter)
    assert not recwarn
    with pytest.warns(CollapsedPosteriorWarning, match="no information"):
        warn_of_collapse(Posterior(torch.full((2, 1), 0.141), torch.zeros(2, 1), (1,)), adapter)


def test_pruning_of_the_factor_vae_metric_by_kl_is_the_rules_kl():
    codes = torch.randn(100, 2)
    assert used_dimensions(codes, kl=torch.tensor([0.023, 0.01])).tolist() == [True, False]


def test_no_other_module_holds_a_threshold_of_its_own():
    package = Path(__file__).parents[2] / "captum_vae"
    owners = [
        path.name
        for path in package.rglob("*.py")
        if any(
            line.startswith(("ACTIVE_KL =", "COLLAPSED_KL =", "_COLLAPSED_KL ="))
            for line in path.read_text().splitlines()
        )
    ]
    assert owners == ["usage.py"]
