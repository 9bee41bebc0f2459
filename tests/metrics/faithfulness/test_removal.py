"""Deletion and insertion against a plain loop, and against a model whose curves are known."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from captum_vae import LatentGradCAM
from captum_vae.metrics.faithfulness import (
    compare_areas,
    noisy_linear_imputation,
    removal_curves,
)
from captum_vae.models import ConvVAE

D = 3


@pytest.fixture
def images() -> Tensor:
    torch.manual_seed(0)
    return torch.rand(4, 2, 6, 6, dtype=torch.float64)


@pytest.fixture
def weights() -> Tensor:
    torch.manual_seed(1)
    return torch.rand(D, 2, 6, 6, dtype=torch.float64)


def linear(weights: Tensor) -> Any:
    return lambda x: torch.einsum("bchw,dchw->bd", x, weights)


def maps_of(images: Tensor, weights: Tensor) -> Tensor:
    return torch.einsum("bchw,dchw->bdhw", images, weights)


@pytest.mark.parametrize("direction", ["deletion", "insertion"])
@pytest.mark.parametrize("fill", [0.0, "mean", "blur", "noisy_linear", "images"])
def test_the_curves_are_those_of_a_plain_loop(
    images: Tensor, weights: Tensor, direction: Any, fill: Any
) -> None:
    if fill == "images":
        fill = torch.rand_like(images)
    maps, codes_of = torch.rand(4, D, 6, 6, dtype=torch.float64), linear(weights)
    found = removal_curves(
        codes_of, images, maps, direction=direction, fill=fill, steps=5, batch_size=7
    )
    whole = codes_of(images)
    for b in range(len(images)):
        for d in range(D):
            order = maps[b, d].flatten().argsort(descending=True)
            for step in range(6):
                first = order[: round(step * 36 / 5)]
                chosen = torch.zeros(36, dtype=torch.bool).index_fill(0, first, True).reshape(6, 6)
                removed = chosen if direction == "deletion" else ~chosen
                changed = images[b].clone()
                changed[:, removed] = filled_in(images[b], removed, fill, b)
                moved = codes_of(changed[None])[0] - whole[b]
                tolerance = 0.2 if isinstance(fill, str) and fill == "noisy_linear" else 1e-9
                assert float(found.dimension[b, d, step]) == pytest.approx(
                    float(moved[d].abs()), abs=tolerance
                )
                assert float(found.latent[b, d, step]) == pytest.approx(
                    float(moved.norm()), abs=tolerance
                )


def filled_in(image: Tensor, removed: Tensor, fill: Any, b: int) -> Tensor:
    if isinstance(fill, float):
        return torch.tensor(fill)
    if isinstance(fill, Tensor):
        return fill[b][:, removed]
    if fill == "mean":
        return image.mean((1, 2))[:, None]
    if fill == "noisy_linear":
        return noisy_linear_imputation(image[None], removed[None], noise=0)[0][:, removed]
    from torchvision.transforms.functional import gaussian_blur

    return gaussian_blur(image, [5, 5], [0.75, 0.75])[:, removed]


def test_of_a_linear_model_no_order_beats_its_own_contributions(
    images: Tensor, weights: Tensor
) -> None:
    codes_of, own = linear(weights), maps_of(images, weights)
    for direction in ("deletion", "insertion"):
        options = {"direction": direction, "fill": 0.0, "steps": 36}
        best = removal_curves(codes_of, images, own, **options)
        contributions = own.flatten(2).sort(dim=2, descending=True).values
        by_hand = torch.cat([torch.zeros(4, D, 1), contributions.cumsum(2)], 2)
        wanted = by_hand if direction == "deletion" else by_hand[..., -1:] - by_hand
        torch.testing.assert_close(best.dimension, wanted.double())
        for seed in range(5):
            torch.manual_seed(seed)
            other = removal_curves(codes_of, images, torch.rand_like(own), **options)
            assert best.area().value > other.area().value
            difference = compare_areas(best, other)
            assert difference.low > 0 and difference.value == pytest.approx(
                best.area().value - other.area().value
            )
        worst = removal_curves(codes_of, images, -own, **options)
        # Backwards is the mirror image.
        assert best.area().value + worst.area().value == pytest.approx(1)


def test_ties_are_broken_by_chance_and_the_same_chance_every_time(
    images: Tensor, weights: Tensor
) -> None:
    flat = torch.zeros(4, D, 6, 6)
    curves = [removal_curves(linear(weights), images, flat, fill=0.0, seed=s) for s in (0, 0, 1)]
    assert torch.equal(curves[0].dimension, curves[1].dimension)
    assert not torch.equal(curves[0].dimension, curves[2].dimension)
    # No corner of a map without preferences goes first: half of the change by half of the pixels.
    assert float(curves[0].area().value) == pytest.approx(0.5, abs=0.06)


def test_an_adapter_is_read_and_chosen_dimensions_are_watched() -> None:
    torch.manual_seed(0)
    vae, x = ConvVAE(5, image_size=16, channels=(4, 8), hidden=16).eval(), torch.rand(3, 1, 16, 16)
    cam = LatentGradCAM(vae, "encoder.conv2", posterior="encode:[0],[1]")
    dims = [4, 1]
    maps = cam.attribute(x, target=dims, size="input")
    found = removal_curves(cam.posterior, x, maps, dims, fill="mean", steps=4)
    gone = x.mean((2, 3), keepdim=True).expand_as(x)
    with torch.no_grad():
        moved = (vae.encode(gone)[0] - vae.encode(x)[0]).abs()[:, dims]
    torch.testing.assert_close(found.dimension[..., -1], moved)
    assert float(found.dimension[..., 0].max()) < 1e-6


def test_the_interval_is_the_bootstraps_and_one_image_has_none(
    images: Tensor, weights: Tensor
) -> None:
    codes_of, own = linear(weights), maps_of(images, weights)
    area = removal_curves(codes_of, images, own, fill=0.0).area(resamples=500)
    assert area.low <= area.value <= area.high and area.images == 4
    alone = removal_curves(codes_of, images[:1], own[:1], fill=0.0).area()
    assert math.isnan(alone.low) and not math.isnan(alone.value)
    assert alone.to_dict()["low"] is None
    nowhere = removal_curves(lambda x: torch.ones(len(x), D), images, own, fill=0.0).area()
    assert math.isnan(nowhere.value)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"maps": torch.zeros(4, 2, 6, 6)}, ValueError, "2 maps an image and 3 latent dimensions"),
        ({"dims": [0, 1]}, ValueError, "dims has 2 dimensions for 3 maps"),
        ({"dims": [0, 1, 3]}, ValueError, "dims"),
        ({"maps": torch.zeros(4, 3, 5, 6)}, ValueError, "size='input'"),
        ({"maps": torch.full((4, 3, 6, 6), math.nan)}, ValueError, "NaN or infinite"),
        ({"images": torch.zeros(4, 2, 6)}, ValueError, "images has shape"),
        ({"images": [1.0]}, TypeError, "images"),
        ({"direction": "delete"}, ValueError, "direction='delete'"),
        ({"fill": "white"}, ValueError, "fill='white'"),
        ({"fill": torch.zeros(1, 2, 6, 6)}, ValueError, "fill has shape"),
        ({"fill": None}, TypeError, "fill is a NoneType"),
        ({"steps": 0}, ValueError, "steps"),
        ({"codes_of": 3}, TypeError, "codes_of is a int"),
        ({"codes_of": lambda x: x}, ValueError, r"codes_of gave \(4, 2, 6, 6\)"),
    ],
)
def test_bad_arguments_are_refused_by_name(
    images: Tensor, weights: Tensor, changes: dict[str, Any], error: type[Exception], words: str
) -> None:
    arguments = {
        "codes_of": linear(weights),
        "images": images,
        "maps": maps_of(images, weights),
        **changes,
    }
    with pytest.raises(error, match=words):
        removal_curves(**arguments)


def test_curves_of_other_images_are_not_compared(images: Tensor, weights: Tensor) -> None:
    own = maps_of(images, weights)
    first = removal_curves(linear(weights), images, own, fill=0.0)
    with pytest.raises(ValueError, match="of 4 images, the second deletion of 3"):
        compare_areas(first, removal_curves(linear(weights), images[:3], own[:3], fill=0.0))


def test_imputation_solves_the_means_of_the_neighbours() -> None:
    torch.manual_seed(0)
    image = torch.rand(1, 2, 5, 7, dtype=torch.float64)
    removed = torch.rand(1, 5, 7) < 0.5
    found = noisy_linear_imputation(image, removed, noise=0)[0]
    assert torch.equal(found[:, ~removed[0]], image[0][:, ~removed[0]])
    for y, x in removed[0].nonzero().tolist():
        around = [
            (found[:, y + dy, x + dx], 2 if 0 in (dy, dx) else 1)
            for dy in (-1, 0, 1)
            for dx in (-1, 0, 1)
            if (dy, dx) != (0, 0) and 0 <= y + dy < 5 and 0 <= x + dx < 7
        ]
        mean = sum(value * weight for value, weight in around) / sum(w for _, w in around)
        torch.testing.assert_close(found[:, y, x], mean)


def test_imputation_without_anything_known_is_the_mean_and_noise_is_seeded() -> None:
    image = torch.rand(2, 1, 4, 4)
    everything = torch.ones(2, 4, 4, dtype=torch.bool)
    found = noisy_linear_imputation(image, everything, noise=0)
    np.testing.assert_allclose(found, image.mean((2, 3), keepdim=True).expand_as(image), rtol=1e-6)
    noisy = [noisy_linear_imputation(image, everything, seed=seed) for seed in (0, 0, 1)]
    assert torch.equal(noisy[0], noisy[1]) and not torch.equal(noisy[0], noisy[2])
    assert float((noisy[0] - found).std()) == pytest.approx(0.01, rel=0.5)
    with pytest.raises(TypeError, match="removed must be a bool tensor"):
        noisy_linear_imputation(image, everything.float())
    with pytest.raises(ValueError, match="removed"):
        noisy_linear_imputation(image, everything[:1])
