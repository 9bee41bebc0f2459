"""Thresholds and p-values against brute force, and the promises on images never seen."""

import numpy as np
import pytest

from captum_vae.localization.detector.image_calibration import ImageCalibration
from captum_vae.localization.detector.pixel_calibration import (
    calibrated_threshold,
    highest_scores,
    threshold_above,
    thresholds_of_others,
)


def calibrated(maps, rate, alpha=0.05, units=None, unit="images"):
    """The threshold of maps (N, H, W), every count by hand."""
    units = np.arange(len(maps)) if units is None else np.asarray(units)
    told = ImageCalibration(
        alpha, np.array([highest_scores(one, rate)[0] for one in maps]), units, unit
    )
    others = thresholds_of_others(told)
    passed = sum(int((maps[units == u] >= t).sum()) for u, t in others.items())
    return calibrated_threshold(rate, told, passed / maps.size)


@pytest.mark.parametrize(("rate", "pixels"), [(0.1, 10), (0.1, 9), (0.005, 100), (0.5, 3)])
def test_the_highest_scores_are_one_more_than_may_pass(rate, pixels):
    image_map = np.random.default_rng(0).permutation(pixels).astype(np.float32).reshape(1, -1)
    found = highest_scores(image_map, rate)
    most = int(np.floor(rate * pixels + 1e-9))
    assert sorted(found) == sorted(image_map.ravel())[-most - 1 :] and found[0] == found.min()
    above = np.nextafter(found[0], np.float32(np.inf))
    assert (image_map >= above).sum() == most < (image_map >= found[0]).sum()


def test_the_threshold_is_the_lowest_that_all_but_alpha_of_the_images_keep():
    generator = np.random.default_rng(1)
    maps = generator.gamma(1, generator.random((59, 1, 1)), (59, 8, 25)).astype(np.float32)
    found = calibrated(maps, 0.05)
    candidates = np.unique(np.nextafter(maps, np.float32(np.inf)))
    # 57 of 59 images keep it: with a new one, 57 / 60 = 1 - alpha.
    least = min(t for t in candidates if ((maps >= t).sum((1, 2)) <= 10).sum() >= 57)
    assert found.threshold == least and found.alpha == 0.05 and not found.reason


def test_each_unit_is_counted_at_the_threshold_of_the_others():
    maps = np.random.default_rng(2).normal(0, 1, (30, 10, 10)).astype(np.float32)
    found = calibrated(maps, 0.05)
    passed = 0
    for place in range(30):
        rest = np.delete(maps, place, 0)
        told = np.array([highest_scores(one, 0.05)[0] for one in rest])
        threshold, _ = threshold_above(ImageCalibration(0.05, told, np.arange(29), "images"))
        passed += (maps[place] >= threshold).sum()
    assert found.mean_share == passed / 3000


def skewed_image(generator):
    """Pixels of an image; one image in ten has most of the high scores, as real ones do."""
    return generator.normal(0, 1, 400) + (generator.random() < 0.1) * generator.gamma(1, 2)


def test_a_new_normal_image_keeps_the_pixel_promise_where_few_images_hold_the_tail():
    broken, shares, inside = [], [], []
    for seed in range(150):
        generator = np.random.default_rng(seed)
        maps = np.stack([skewed_image(generator) for _ in range(39)])[:, None].astype(np.float32)
        found = calibrated(maps, 0.01)
        new = np.stack([skewed_image(generator) for _ in range(20)]) >= found.threshold
        broken.append((new.mean(1) > 0.01).mean())
        shares.append(new.mean() - found.mean_share)
        low, high = found.expected_range(20)
        inside.append(low <= broken[-1] <= high)
    assert abs(np.mean(broken) - 0.05) < 3 * np.std(broken) / np.sqrt(150)
    assert abs(np.mean(shares)) < 3 * np.std(shares) / np.sqrt(150) + 2e-4
    assert np.mean(inside) > 0.94


def test_too_few_images_promise_what_they_can_and_say_so():
    maps = np.random.default_rng(3).normal(0, 1, (9, 10, 10)).astype(np.float32)
    found = calibrated(maps, 0.01)
    assert found.alpha == pytest.approx(0.1) and "9 calibration images are too few" in found.reason
    assert "probability 0.9" in found.reason
    assert ((maps >= found.threshold).sum((1, 2)) <= 1).all()
    assert calibrated(maps[:1], 0.01).alpha == 0.5


def test_clips_too_few_for_alpha_are_measured_by_each_other():
    generator = np.random.default_rng(4)
    level = np.repeat(generator.normal(0, 1, 8), 5)[:, None, None]
    maps = (level + generator.normal(0, 0.2, (40, 10, 10))).astype(np.float32)
    found = calibrated(maps, 0.01, alpha=0.05, units=np.repeat(np.arange(8), 5), unit="clips")
    assert found.units == 8 and found.unit == "clips" and np.isfinite(found.threshold)
    assert found.alpha == pytest.approx(1 / 8) and found.reason


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
