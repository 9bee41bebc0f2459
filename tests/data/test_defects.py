import numpy as np
import pytest
import torch

from captum_vae.data import OneClassDigits, Sample, SampleDataset, SyntheticDefects, perlin_noise
from captum_vae.data.defects import outline

KINDS = ("perlin", "cutpaste", "scratch", "blob")


class Photos(SampleDataset):
    """Forty smooth colour images of 48 x 64 pixels, half of them flat black or white."""

    def __init__(self, label: int | None = 0) -> None:
        self.label = label

    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int) -> Sample:
        random = np.random.default_rng(index)
        if index % 2:
            image = torch.full((3, 48, 64), float(index % 4 == 1))
        else:
            noise = perlin_noise(48, 64, (4, 4), random)
            image = torch.from_numpy(0.5 + 0.4 * noise).expand(3, -1, -1).clone()
        return Sample(image, None, self.label, str(index), "g")


@pytest.mark.parametrize("kind", KINDS)
def test_masks_are_exactly_the_pixels_that_changed(kind: str) -> None:
    base, data = Photos(), SyntheticDefects(Photos(), (kind,), contrast=0.1)  # type: ignore[arg-type]
    for index in range(len(data)):
        sample = data[index]
        difference = (sample.image - base[index].image).abs().amax(0)
        assert sample.mask is not None
        assert sample.mask.any()
        assert torch.equal(difference > 0, sample.mask)
        assert difference[sample.mask].min() >= 0.1 - 1e-6
        assert 0 <= sample.image.min()
        assert sample.image.max() <= 1


@pytest.mark.parametrize("kind", ["perlin", "cutpaste", "blob"])
def test_areas_stay_within_what_was_asked(kind: str) -> None:
    data = SyntheticDefects(Photos(), (kind,), area=(0.02, 0.05))  # type: ignore[arg-type]
    areas = torch.stack([data[index].mask.double().mean() for index in range(40)])  # type: ignore[union-attr]
    # At least half of the drawing is visible; wavy outlines add a little to a blob's circle.
    assert areas.min() >= 0.5 * 0.02 - 0.004
    assert areas.max() <= 0.05 * 1.15


def test_kinds_take_turns_and_name_the_samples() -> None:
    data = SyntheticDefects(Photos(), ("blob", "scratch"))
    assert [data[index].group for index in range(4)] == ["blob", "scratch", "blob", "scratch"]
    assert data[3].name == "3#scratch"
    assert data[3].label == 1


def test_samples_depend_on_seed_and_index_alone() -> None:
    one, two = SyntheticDefects(Photos(), seed=1), SyntheticDefects(Photos(), seed=2)
    later = one[3].image
    assert torch.equal(SyntheticDefects(Photos(), seed=1)[3].image, later)
    assert not torch.equal(two[3].image, later)


def test_a_rate_keeps_some_images_normal() -> None:
    data = SyntheticDefects(Photos(), defect_rate=0.5)
    labels = [data[index].label for index in range(40)]
    assert 10 < sum(label == 1 for label in labels) < 30
    normal = data[labels.index(0)]
    assert normal.mask is not None
    assert not normal.mask.any()
    assert torch.equal(normal.image, Photos()[labels.index(0)].image)


def test_small_grey_digits_work() -> None:
    data = SyntheticDefects(OneClassDigits())
    for index in range(8):
        mask = data[index].mask
        assert mask is not None
        assert mask.shape == (28, 28)
        assert mask.any()


def test_an_anomalous_sample_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="4 is labelled anomalous"):
        SyntheticDefects(Photos(label=1))[4]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("kinds", ("hole",)),
        ("kinds", ()),
        ("area", (0.1, 0.01)),
        ("contrast", 0),
        ("defect_rate", 2),
        ("seed", -1),
    ],
)
def test_an_option_out_of_range_is_named(option: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^{option}"):
        SyntheticDefects(Photos(), **{option: value})  # type: ignore[arg-type]


def test_perlin_noise_vanishes_on_its_lattice_and_is_bounded() -> None:
    # Cells of 128 pixels: pixel 127 lies half a pixel, 1/256 of a cell, before the lattice.
    noise = perlin_noise(512, 512, (4, 4), np.random.default_rng(0))
    lattice = noise[127::128, 127::128]
    assert np.abs(lattice).max() < 0.02
    assert 0.5 < np.abs(noise).max() <= 1


@pytest.mark.parametrize("kind", KINDS)
def test_patchy_defects_keep_the_original_outside_and_show_less_inside(kind: str) -> None:
    whole = SyntheticDefects(Photos(), (kind,))  # type: ignore[arg-type]
    patchy = SyntheticDefects(Photos(), (kind,), visibility="patchy")  # type: ignore[arg-type]
    base = Photos()
    for index in range(0, 40, 3):
        strong, weak = whole[index], patchy[index]
        assert strong.mask is not None
        assert torch.equal(strong.mask, weak.mask)
        changed = (weak.image - base[index].image).abs()
        assert changed.sum() < (strong.image - base[index].image).abs().sum()
        # The blur of one pixel reaches four pixels far at most.
        reach = torch.nn.functional.max_pool2d(strong.mask.float()[None], 9, 1, 4)[0] > 0
        assert changed[:, ~reach].max() == 0


def test_outlined_masks_have_no_holes_and_a_margin() -> None:
    ring = np.zeros((32, 32), dtype=bool)
    ring[8:20, 8:20] = True
    ring[12:16, 12:16] = False
    outlined = outline(ring, margin=2)
    assert outlined[8:20, 8:20].all()  # the hole is filled
    assert outlined[6:8, 10:18].all()  # two pixels wider
    assert not outlined[:6].any()


def test_an_outline_stays_inside_the_image() -> None:
    corner = np.zeros((16, 16), dtype=bool)
    corner[:3, :3] = True
    outlined = outline(corner, margin=2)
    assert outlined.shape == (16, 16)
    assert outlined[:4, :4].all()
    assert not outlined[8:].any()


@pytest.mark.parametrize("option", ["visibility", "masks"])
def test_an_unknown_kind_of_visibility_or_mask_is_refused_by_name(option: str) -> None:
    with pytest.raises(ValueError, match=f"{option}=.odd. is not known"):
        SyntheticDefects(Photos(), **{option: "odd"})  # type: ignore[arg-type]
