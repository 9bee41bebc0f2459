"""The explain page says how faithful its maps are, beside random ones and gradient times input."""

import pytest
import torch

from captum_vae import LatentGradCAM
from captum_vae.explain import explain, write_explanation
from captum_vae.metrics.faithfulness import removal_curves
from tests.explain import own_models
from tests.explain.own_models import SIDE

LAYER = "encoder.conv2"


@pytest.fixture(scope="module")
def images():
    torch.manual_seed(0)
    return torch.rand(5, 1, SIDE, SIDE)


@pytest.fixture(scope="module")
def explanation(images):
    return explain(own_models.conv_vae().eval(), images, LAYER, faithfulness=4)


def test_the_areas_are_those_of_the_metric(explanation, images):
    vae = own_models.conv_vae().eval()
    rows = {(row["direction"], row["map"]): row for row in explanation.faithfulness}
    assert len(rows) == 6
    cam = LatentGradCAM(vae, LAYER)
    order = explanation.order
    maps = cam.attribute(images[:4], target=order, size="input")
    wanted = removal_curves(cam.posterior, images[:4], maps, order, batch_size=16)
    found = rows["deletion", "these maps"]
    assert found["area"]["value"] == pytest.approx(wanted.area().value, rel=1e-5)
    assert found["images"] == 4 and found["difference"] is None
    assert rows["insertion", "random"]["difference"]["value"] is not None


def test_the_page_and_the_json_show_them(explanation, tmp_path):
    page = write_explanation(explanation, tmp_path).read_text(encoding="utf-8")
    assert "Are these maps faithful?" in page and "gradient times input" in page
    assert "faithfulness" in explanation.to_dict()


def test_it_is_left_out_unless_asked_for(images, tmp_path):
    plain = explain(own_models.conv_vae().eval(), images, LAYER)
    assert plain.faithfulness == () and "faithfulness" not in plain.to_dict()


def test_a_map_for_all_dimensions_has_none(images):
    with pytest.raises(ValueError, match="measured against single dimensions"):
        explain(
            own_models.conv_vae().eval(),
            images,
            LAYER,
            attribution="mean_sum_grad_cam",
            faithfulness=2,
        )
