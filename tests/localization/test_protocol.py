import json
from pathlib import Path

import pytest
import torch
from scipy import ndimage

from captum_vae.localization.preparation import resize_maps, smooth_maps
from captum_vae.localization.protocol import Protocol
from captum_vae.metrics import PixelMetrics


@pytest.mark.parametrize(
    "protocol",
    [
        Protocol(),
        Protocol(frames="anomalous", size="map", smoothing=4.0),
        Protocol(frames="with_masks", size=(120, 180), threshold="oracle", quantile=0.9),
    ],
)
def test_a_protocol_survives_json(protocol: Protocol) -> None:
    choices = json.loads(json.dumps(protocol.to_dict()))
    assert choices.pop("unknown_masks") == "excluded"
    assert Protocol(**choices) == protocol


def test_a_printed_protocol_names_every_choice() -> None:
    text = str(Protocol(smoothing=4))
    for words in ("known truth", "unknown masks excluded", "mask's size", "sigma 4 px", "0.995"):
        assert words in text


def test_an_oracle_threshold_is_labelled_so() -> None:
    assert "oracle, best on the test labels" in str(Protocol(threshold="oracle"))


def test_a_protocol_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Protocol().smoothing = 3.0


@pytest.mark.parametrize(
    "choices",
    [
        {"frames": "some"},
        {"size": "both"},
        {"size": (0, 3)},
        {"size": (3,)},
        {"smoothing": -1.0},
        {"threshold": "best"},
        {"quantile": 1.5},
    ],
)
def test_unknown_choices_are_refused_by_name(choices: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(choices))):
        Protocol(**choices)


EMPTY = torch.zeros(4, 4, dtype=torch.bool)
DEFECT = torch.eye(4, dtype=torch.bool)


@pytest.mark.parametrize(
    ("frames", "kept"),
    [
        # a mask with a defect, an empty mask, labelled normal without mask, nothing known,
        # labelled anomalous without mask
        ("all", [True, True, True, False, False]),
        ("with_masks", [True, True, False, False, False]),
        ("anomalous", [True, False, False, False, False]),
    ],
)
def test_frames_are_chosen_by_what_is_known(frames: str, kept: list[bool]) -> None:
    masks = [DEFECT, EMPTY, None, None, None]
    labels = [1, 0, 0, None, 1]
    _, prepared = Protocol(frames=frames).prepare(torch.rand(5, 4, 4), masks, labels)
    assert [mask is not None for mask in prepared] == kept


def test_clips_without_masks_are_not_counted_as_normal() -> None:
    """A published error: Ped1's 26 clips without masks, anomalies included, taken for normal."""
    maps = torch.rand(6, 4, 4)
    maps, masks = Protocol().prepare(maps, [DEFECT, EMPTY, None, None, None, None])
    metric = PixelMetrics()
    metric.update(maps, masks)
    result = metric.compute()
    assert (result.counts.negatives, result.left_out) == (32 - 4, 4)


def test_maps_are_resized_up_to_each_mask_by_default() -> None:
    masks = [torch.zeros(8, 12, dtype=torch.bool), None, torch.ones(6, 6, dtype=torch.bool)]
    maps, prepared = Protocol().prepare(torch.rand(3, 4, 4), masks)
    assert [tuple(map_.shape) for map_ in maps] == [(8, 12), (4, 4), (6, 6)]
    assert prepared[0] is masks[0] and prepared[2] is masks[2]


def test_masks_shrink_on_request_where_half_of_the_area_was_anomalous() -> None:
    mask = torch.zeros(4, 4, dtype=torch.bool)
    mask[0, :2] = True  # half of the upper left quarter
    mask[3, 3] = True  # a fourth of the lower right one
    maps, masks = Protocol(size="map").prepare(torch.rand(1, 2, 2), [mask])
    assert masks[0].tolist() == [[True, False], [False, False]]
    assert maps[0].shape == (2, 2)


def test_bilinear_truncation_would_have_lost_the_mask() -> None:
    """A published error: masks resized bilinearly and cut to uint8 keep 69% of their area."""
    mask = torch.zeros(60, 60, dtype=torch.bool)
    mask[11:22, 11:22] = True
    _, masks = Protocol(size=(40, 40)).prepare(torch.rand(1, 40, 40), [mask])
    area = float(masks[0].double().mean() / mask.double().mean())
    truncated = torch.nn.functional.interpolate(
        mask[None, None].float(), (40, 40), mode="bilinear", antialias=True
    )
    assert area == pytest.approx(1, abs=0.15)
    assert float(truncated.to(torch.uint8).double().mean() / mask.double().mean()) < 0.75


@pytest.mark.parametrize("sigma", [0.7, 2.0, 5.0])
def test_smoothing_is_scipys_gaussian_filter(sigma: float) -> None:
    maps = torch.randn(3, 17, 23, dtype=torch.float64)
    smooth = smooth_maps(maps, sigma)
    for ours, map_ in zip(smooth, maps, strict=True):
        expected = ndimage.gaussian_filter(map_.numpy(), sigma, mode="nearest")
        assert ours.numpy() == pytest.approx(expected, abs=1e-12)


def test_no_smoothing_leaves_the_map_alone() -> None:
    maps = torch.rand(1, 3, 3)
    assert smooth_maps(maps, 0.0) is maps


def test_resizing_keeps_a_constant_map() -> None:
    assert torch.allclose(resize_maps(torch.full((1, 3, 5), 0.4), (7, 4)), torch.tensor(0.4))


def test_smoothing_is_measured_in_pixels_of_the_mask() -> None:
    maps = torch.rand(1, 4, 4)
    prepared, _ = Protocol(smoothing=1.5).prepare(maps, [torch.zeros(9, 9, dtype=torch.bool)])
    assert torch.equal(prepared[0], smooth_maps(resize_maps(maps, (9, 9)), 1.5)[0])


def test_a_map_does_not_depend_on_its_batch_mates() -> None:
    """A published error: maps normalised over the batch."""
    maps = torch.rand(4, 5, 5) * torch.tensor([1.0, 10.0, 100.0, 1000.0]).view(-1, 1, 1)
    mask = torch.zeros(9, 9, dtype=torch.bool)
    protocol = Protocol(smoothing=1.0)
    together, _ = protocol.prepare(maps, [mask] * 4)
    for index, map_ in enumerate(together):
        alone, _ = protocol.prepare(maps[index : index + 1], [mask])
        torch.testing.assert_close(map_, alone[0])


def test_training_maps_go_through_what_test_maps_go_through() -> None:
    maps = torch.rand(2, 4, 4)
    protocol = Protocol(smoothing=1.0)
    prepared, _ = protocol.prepare(maps, [torch.zeros(8, 8, dtype=torch.bool)] * 2)
    assert torch.equal(protocol.transform(maps, (8, 8)), torch.stack(prepared))


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="one mask or None per map"):
        Protocol().prepare(torch.rand(2, 4, 4), [None])
    with pytest.raises(ValueError, match="labels"):
        Protocol().prepare(torch.rand(1, 4, 4), [None], [0, 1])


def test_maps_of_real_frames_are_brought_to_their_masks(data_root: Path) -> None:
    from captum_vae.data import UCSD

    samples = [UCSD(data_root / "ucsd", "ped2", "test")[index] for index in (0, 150)]
    maps = torch.rand(2, 12, 18)
    prepared, masks = Protocol().prepare(maps, [sample.mask for sample in samples])
    assert [tuple(map_.shape) for map_ in prepared] == [(120, 180)] * 2
    assert all(mask is not None for mask in masks)
