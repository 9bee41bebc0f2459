import pytest
import torch
from matplotlib.colors import to_hex

from captum_vae.metrics.activity import ActiveDimensions
from captum_vae.report import draw_active_dimensions
from captum_vae.report.latent_usage import ACTIVE, INACTIVE

USAGE = ActiveDimensions(
    kl=torch.tensor([0.5, 0.001, 2.0]), std=torch.tensor([0.05, 0.3, 1.2]), images=40
)


def test_dimensions_stand_in_the_order_of_their_kl() -> None:
    upper, lower = draw_active_dimensions(USAGE).axes
    assert [tick.get_text() for tick in lower.get_xticklabels()] == ["2", "0", "1"]
    assert [bar.get_height() for bar in upper.patches] == pytest.approx([2.0, 0.5, 0.001])


def test_a_dimension_below_either_threshold_is_grey() -> None:
    upper, _ = draw_active_dimensions(USAGE).axes
    colors = [to_hex(bar.get_facecolor()) for bar in upper.patches]
    assert colors == [ACTIVE, INACTIVE, INACTIVE]


def test_the_title_counts_them() -> None:
    upper, _ = draw_active_dimensions(USAGE).axes
    assert upper.get_title(loc="left").startswith(
        "1 of 3 latent dimensions are active on 40 images"
    )
