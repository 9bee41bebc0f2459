import pytest
import torch

from captum_vae.data import MovingPedestrians


def test_training_clips_are_normal() -> None:
    data = MovingPedestrians(clips=2, frames=10)
    assert len(data) == 20
    assert data.labels == [0] * 20
    assert all(not sample.mask.any() for sample in data if sample.mask is not None)


@pytest.mark.parametrize("vehicle", ["cart", "cyclist"])
def test_the_mask_is_where_the_vehicle_changed_the_picture(vehicle: str) -> None:
    options = {"clips": 2, "frames": 30, "noise": 0.0, "vehicles": [vehicle]}
    data = MovingPedestrians("test", **options)  # type: ignore[arg-type]
    absent = MovingPedestrians("test", **options)  # type: ignore[arg-type]
    absent._walkers = [
        [walker for walker in walkers if walker.kind == "pedestrian"] for walkers in data._walkers
    ]
    seen = 0
    for sample, without in zip(data, absent, strict=True):
        assert sample.mask is not None
        assert torch.equal((sample.image != without.image)[0], sample.mask)
        seen += int(sample.mask.any())
    assert 15 < seen < 45


def test_every_test_clip_has_normal_and_anomalous_frames() -> None:
    data = MovingPedestrians("test", clips=4, frames=40)
    labels = torch.tensor(data.labels).reshape(4, 40)
    assert labels[:, 0].tolist() == [0] * 4
    assert (labels.sum(1) > 10).all()
    assert [data[index].label for index in range(len(data))] == data.labels


def test_frames_are_named_like_ucsd() -> None:
    sample = MovingPedestrians("test", clips=2, frames=5)[7]
    assert (sample.group, sample.name) == ("Test002", "Test002/003")
    assert sample.image.shape == (1, 96, 144)


def test_people_move_before_a_background_that_does_not() -> None:
    data = MovingPedestrians(clips=1, frames=6, noise=0.0)
    changed = (data[5].image - data[0].image).abs()[0] > 0
    assert 0 < changed.float().mean() < 0.3


def test_everything_follows_from_the_seed() -> None:
    a, b, c = (MovingPedestrians(clips=1, frames=3, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(a[2].image, b[2].image)
    assert not torch.equal(a[2].image, c[2].image)


def test_train_and_test_share_the_background_but_not_the_people() -> None:
    train = MovingPedestrians("train", pedestrians=0, noise=0.0, frames=3)
    test = MovingPedestrians("test", pedestrians=0, noise=0.0, frames=3)
    assert torch.equal(train[0].image, test[0].image)
    assert not torch.equal(MovingPedestrians("train")[0].image, MovingPedestrians("test")[0].image)


@pytest.mark.parametrize(
    "options", [{"clips": 0}, {"noise": -1}, {"vehicles": ["tank"]}, {"image_size": 8}]
)
def test_an_option_out_of_range_is_named(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        MovingPedestrians(**options)  # type: ignore[arg-type]
