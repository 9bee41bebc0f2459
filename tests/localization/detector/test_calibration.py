"""Thresholds and p-values against brute force, and the promises on images never seen."""

import numpy as np
import pytest

from captum_vae.localization.detector.calibration import LargestScores, leave_one_out_threshold
from captum_vae.localization.detector.image_calibration import ImageCalibration


def largest(values, rate):
    found = LargestScores(rate, sum(len(v) for v in values))
    for unit, scores in enumerate(values):
        found.add(np.asarray(scores, np.float32), unit)
    return found


def brute_force(values, rate):
    """Rank, threshold and scores passed per unit, by trying every rank."""
    values = [np.sort(np.asarray(v, np.float32))[::-1] for v in values]
    pooled = np.sort(np.concatenate(values))[::-1]
    best = None
    for rank in range(len(pooled)):
        passed = []
        for unit, own in enumerate(values):
            others = np.sort(np.concatenate(values[:unit] + values[unit + 1 :]))[::-1]
            passed.append(int((own > others[rank]).sum()) if rank < len(others) else len(own))
        if sum(passed) > rate * len(pooled) + 1e-9:
            return best
        best = pooled[rank], passed
    return best


@pytest.mark.parametrize("seed", range(8))
def test_the_threshold_is_that_of_leaving_out_each_unit_in_turn(seed):
    generator = np.random.default_rng(seed)
    values = [
        generator.gamma(0.3 + 2 * generator.random(), size=int(generator.integers(5, 60)))
        for _ in range(int(generator.integers(3, 9)))
    ]
    found = leave_one_out_threshold(largest(values, 0.1), 0.1, "images")
    expected = brute_force(values, 0.1)
    if expected is None:
        assert found.reason
    else:
        assert (found.threshold, list(found.passed)) == (
            np.nextafter(expected[0], np.float32(np.inf)),
            expected[1],
        )


def test_pruning_keeps_what_the_threshold_needs(monkeypatch):
    generator = np.random.default_rng(0)
    values = [generator.normal(unit % 3, 1, 300_000) for unit in range(12)]
    pruned = largest(values, 0.01)
    whole = LargestScores(0.01, 10**9)
    for unit, scores in enumerate(values):
        whole.add(scores, unit)
    assert sum(len(part) for part in pruned._scores) < 1_200_000
    assert leave_one_out_threshold(pruned, 0.01, "images") == leave_one_out_threshold(
        whole, 0.01, "images"
    )


def skewed_image(generator):
    """Pixels of an image; one image in ten has most of the high scores, as real ones do."""
    return generator.normal(0, 1, 400) + (generator.random() < 0.1) * generator.gamma(1, 2)


def test_the_promised_pixel_rate_is_kept_on_unseen_images_where_few_images_hold_the_tail():
    seen = []
    for seed in range(120):
        generator = np.random.default_rng(seed)
        found = leave_one_out_threshold(
            largest([skewed_image(generator) for _ in range(40)], 0.01), 0.01, "images"
        )
        new = np.stack([skewed_image(generator) for _ in range(40)])
        seen.append((new >= found.threshold).mean())
    assert abs(np.mean(seen) - 0.01) < 3 * np.std(seen) / np.sqrt(len(seen)) + 5e-4


def test_the_share_seen_on_new_images_lies_in_the_expected_range():
    inside = []
    for seed in range(150):
        generator = np.random.default_rng(seed)
        found = leave_one_out_threshold(
            largest([skewed_image(generator) for _ in range(60)], 0.02), 0.02, "images"
        )
        new = np.stack([skewed_image(generator) for _ in range(20)])
        low, high = found.expected_range(20)
        inside.append(low <= (new >= found.threshold).mean() <= high)
    assert np.mean(inside) > 0.9


def test_one_unit_with_all_high_scores_breaks_the_promise_and_says_so():
    found = leave_one_out_threshold(largest([[9.0] * 50, [1.0] * 50], 0.01), 0.01, "clips")
    assert "2 clips are too few to promise 0.01" in found.reason
    assert found.threshold > 9


@pytest.mark.parametrize(("images", "alpha"), [(19, 0.05), (52, 0.05), (30, 0.2)])
def test_a_new_normal_image_is_called_anomalous_with_probability_at_most_alpha(images, alpha):
    generator = np.random.default_rng(0)
    alarms = []
    for _ in range(2000):
        scores = generator.standard_cauchy(images + 1)
        found = ImageCalibration(alpha, scores[1:], np.arange(images), "images")
        alarms.append(found.p_values(scores[:1])[0] <= alpha)
    exact = np.floor(alpha * (images + 1) + 1e-9) / (images + 1)
    assert np.mean(alarms) == pytest.approx(exact, abs=3 * np.sqrt(exact / 2000))
    assert found.estimate == pytest.approx(exact)


def clips(generator, count, frames=12):
    """Frames of clips: those of one clip resemble each other."""
    scores = generator.normal(0, 2, (count, 1)) + generator.normal(0, 0.5, (count, frames))
    return scores.ravel(), np.repeat(np.arange(count), frames)


def test_a_frame_of_a_new_clip_is_called_anomalous_with_probability_at_most_alpha():
    generator = np.random.default_rng(0)
    over_clips, over_frames = [], []
    for _ in range(900):
        scores, units = clips(generator, 21)
        new, rest = scores[-12:], slice(0, -12)
        found = ImageCalibration(0.1, scores[rest], units[rest], "clips")
        assert found.guaranteed
        over_clips.append((found.p_values(new) <= 0.1).mean())
        naive = ImageCalibration(0.1, scores[:12], np.arange(12), "images")
        over_frames.append((naive.p_values(new) <= 0.1).mean())
    assert np.mean(over_clips) < 0.1 + 3 * np.std(over_clips) / 30
    # What calibrating on the frames of one clip, as if they were independent, would have done.
    assert np.mean(over_frames) > 0.3


def test_clips_too_few_for_the_guarantee_measure_each_clip_by_the_others():
    generator = np.random.default_rng(1)
    alarms = []
    for _ in range(400):
        scores, units = clips(generator, 8)
        found = ImageCalibration(0.1, scores[:-12], units[:-12], "clips")
        assert not found.guaranteed
        alarms.append((found.p_values(scores[-12:]) <= 0.1).mean())
    assert "7 clips are too few for a guarantee at 0.1 (it takes 9)" in found.remark
    assert np.mean(alarms) < 0.1 + 3 * np.std(alarms) / 20


def test_p_values_and_threshold_by_hand():
    found = ImageCalibration(0.5, np.array([1.0, 3.0, 2.0]), np.arange(3), "images")
    assert found.p_values([0.0, 1.0, 2.5, 3.0, 4.0]).tolist() == [1.0, 1.0, 0.5, 0.5, 0.25]
    assert found.threshold == 2.0
    weighted = ImageCalibration(0.4, np.array([1.0, 3.0, 2.0]), np.array([0, 0, 1]), "clips")
    assert weighted.p_values([2.5]).tolist() == pytest.approx([1.5 / 3])


def test_too_few_images_for_alpha_call_none_anomalous_and_say_how_many_it_takes():
    found = ImageCalibration(0.05, np.arange(10.0), np.arange(10), "images")
    assert found.threshold == np.inf
    assert found.p_values([99.0])[0] > 0.05
    assert "that takes 19" in found.remark
