"""Weights of few images at a time, and weights kept between passes, change no map."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from captum_vae.localization import LatentAttention, Protocol, benchmark, model_pass
from captum_vae.localization.model_pass import KeptWeights, ModelPass
from tests.attr.toys import ToyVAE, assert_equal


@pytest.mark.parametrize("weighting", ["pooled", "elementwise", "integrated"])
@pytest.mark.parametrize("baselines", ["reconstruction", "mean_activation"])
def test_maps_of_blocks_of_images_equal_those_of_all_at_once(
    weighting: str, baselines: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    vae = ToyVAE()
    scorer = LatentAttention(
        vae, ["conv1", "act2"], rectifier="abs", weighting=weighting, baselines=baselines
    ).fit(vae.images(6, seed=1))
    images = vae.images(11, seed=2)
    wanted = scorer.score(images)
    monkeypatch.setattr(model_pass, "_BLOCK", 1)
    shared = ModelPass(images, vae, scorer.adapter, scorer.layers)
    assert [len(run.codes) for _, run in shared.blocks] == [2, 2, 2, 2, 2, 1]
    assert_equal(scorer.score_pass(shared), wanted, 1e-12)
    assert_equal(shared.features("conv1"), vae.conv1(images), 1e-12)


def test_thresholds_take_the_weights_that_fitting_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    vae = ToyVAE()
    normal, images = vae.images(9, seed=1), vae.images(4, seed=2)
    masks = images[:, 0] > 0.5
    module = sys.modules["captum_vae.attr.engine.channel_weights"]
    computed = []
    original = module._pooled_weights

    def counting(run, *args):  # type: ignore[no-untyped-def]
        computed.append(len(run.codes))
        return original(run, *args)

    monkeypatch.setattr(module, "_pooled_weights", counting)

    def table(weights: KeptWeights | None) -> tuple[float | None, int]:
        scorer = LatentAttention(
            vae, ["conv1", "act2"], rectifier="abs", baselines="mean_activation", scale="location"
        )
        computed.clear()
        found = benchmark(
            {"a": (scorer, Protocol())},
            normal,
            (images, masks),
            batch_size=4,
            units="none",
            progress="off",
            weights=weights,
        )
        return found.row("a").threshold, sum(computed)

    alone, computed_alone = table(None)
    kept, computed_with = table({})
    assert kept == alone
    assert computed_alone - computed_with == 2 * len(normal)  # of both layers


def test_the_evaluation_imports_neither_torchmetrics_nor_lightning() -> None:
    code = (
        "import sys\n"
        "import captum_vae.commands.evaluation_steps, captum_vae.localization.evaluation_page\n"
        "import captum_vae.training.devices, captum_vae.training.load\n"
        "print([m for m in ('torchmetrics', 'lightning', 'torch._dynamo') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_counts_within_one_process_equal_those_of_the_metric() -> None:
    from captum_vae.metrics import PixelMetrics
    from captum_vae.metrics.localization.pixel_counts import PixelCounts

    maps, masks = torch.rand(5, 6, 7), torch.rand(5, 6, 7) > 0.7
    names = [str(number) for number in range(5)]
    plain, metric = PixelCounts(regions=True, units="images"), PixelMetrics(units="images")
    for counts in (plain, metric):
        counts.update(maps, masks, names)
    first, second = plain.result(), metric.compute()
    assert first.scores == second.scores
    assert first.units is not None and second.units is not None
    assert torch.equal(first.units.positives, second.units.positives)
    plain.reset()
    plain.update(maps[:1], masks[:1], names[:1])
    assert int(plain.images) == 1
