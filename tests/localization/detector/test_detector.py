"""A detector on small images: splits, promises, predictions, and what it refuses."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from captum_vae import AnomalyDetector
from captum_vae.data import Sample, SampleDataset
from captum_vae.data.sources import ImageSources
from captum_vae.localization import ReconstructionError
from captum_vae.localization.detector.options import Promise
from captum_vae.localization.detector.promise_check import unlike_where_normal
from captum_vae.localization.detector.splitting import split_normal
from captum_vae.models import ConvVAE

SIDE = 32


def striped(count, seed=0, spots=()):
    """Grey stripes with noise; images whose number is in ``spots`` have a bright square."""
    generator = torch.Generator().manual_seed(seed)
    stripes = torch.sin(torch.arange(SIDE) / 3).expand(SIDE, SIDE) / 4 + 0.4
    images = stripes + 0.05 * torch.randn(count, 1, SIDE, SIDE, generator=generator)
    for number in spots:
        images[number, :, 10:16, 12:18] = 1.0
    return images.clamp(0, 1)


@pytest.fixture(scope="module")
def vae():
    torch.manual_seed(0)
    return ConvVAE(image_size=SIDE, in_channels=1, latent_dims=4).eval()


@pytest.fixture(scope="module")
def detector(vae):
    return AnomalyDetector(vae, "mean_image").fit(striped(80))


def test_no_image_fits_chooses_and_calibrates():
    split = split_normal(100, None, Promise(), choose=True)
    parts = [*split.fitting, *split.choosing, *split.calibrating]
    assert sorted(parts) == list(range(100))
    assert (len(split.fitting), len(split.choosing), len(split.calibrating)) == (55, 20, 25)


def test_whole_clips_are_split_and_weigh_the_same():
    clips = [f"clip{n // 10}" for n in range(200)]
    split = split_normal(200, clips, Promise(alpha=0.2), choose=True)
    parts = [split.fitting, split.choosing, split.calibrating]
    of = [{clips[index] for index in part} for part in parts]
    assert sum(map(len, of)) == 20 == len(set().union(*of))
    assert split.calibrating_units == len(of[2]) == 5


def test_few_images_leave_as_many_to_calibrate_as_alpha_takes_up_to_half():
    assert len(split_normal(50, None, Promise(), choose=False).calibrating) == 19
    assert len(split_normal(30, None, Promise(), choose=False).calibrating) == 15


def test_a_spot_is_found_masked_and_boxed(detector):
    found = detector.predict(striped(6, seed=1, spots=(2, 4)))
    assert set(found.scores.topk(2).indices.tolist()) == {2, 4} and found.anomalous[[2, 4]].all()
    assert found.anomalous.tolist() == (found.p_values <= 0.05).tolist()
    assert found[2].p_value == found.p_values.min() == pytest.approx(1 / 21)
    assert found.masks[2, 11:15, 13:17].all()
    box = found[2].boxes[0]
    assert box.x <= 12 and box.y <= 10 and box.x + box.width >= 18
    assert found[2].verdict == "anomalous" and found.areas[2] == found.masks[2].double().mean()
    assert f"6 images, {int(found.anomalous.sum())} called anomalous" in repr(found)
    assert found._repr_html_().count("<tr>") == 7
    assert len(found[1:3]) == 2 and [one.name for one in found] == list("012345")


@pytest.mark.parametrize(
    "made", ["folder", "paths", "bytes", "floats", "list", "tensor", "samples", "colour"]
)
def test_images_are_read_wherever_they_are(detector, made, tmp_path):
    images = (striped(5, seed=3, spots=(1,)) * 255).round()
    byte = images[:, 0].numpy().astype(np.uint8)
    for number, one in enumerate(byte):
        (tmp_path / "deep" / "er").mkdir(parents=True, exist_ok=True)
        Image.fromarray(one).save(tmp_path / "deep" / "er" / f"{number}.png")
    given = {
        "folder": tmp_path,
        "paths": [str(path) for path in sorted(tmp_path.rglob("*.png"))],
        "bytes": byte,
        "floats": byte.astype(np.float32)[..., None] / 255,
        "list": list(byte),
        "tensor": images / 255,
        "samples": [],
        "colour": np.repeat(byte[..., None], 3, 3),
    }[made]
    if made == "samples":
        given = Labelled(images / 255)
    found = detector.predict(given, batch_size=5)
    expected = detector.predict(images / 255, batch_size=5)
    assert torch.equal(found.scores, expected.scores)


class Labelled(SampleDataset):
    def __init__(self, images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        mask = torch.zeros(SIDE, SIDE, dtype=torch.bool)
        return Sample(self.images[index], mask.fill_(index == 1), int(index == 1), f"{index}", "g")


def test_a_batch_dictionary_gives_columns_and_threads_and_pickles_agree(detector):
    byte = (striped(8, seed=2, spots=(0,)) * 255).byte()[:, 0].numpy()
    batch = {"image": byte, "id": np.arange(8)}
    found = detector(batch)
    assert set(found) == {"image", "id", "score", "p_value", "anomalous", "area", "map", "mask"}
    assert found["map"].shape == (8, SIDE, SIDE) and found["mask"].dtype == bool
    assert set(detector(batch, maps=False)) == set(found) - {"map", "mask"}
    again = pickle.loads(pickle.dumps(detector))
    with ThreadPoolExecutor(4) as pool:
        for other in [*pool.map(detector, [batch] * 8), again(batch)]:
            assert np.array_equal(other["map"], found["map"])
    with pytest.raises(ValueError, match="no column 'image'"):
        detector({"picture": byte})


@pytest.mark.parametrize("score", ["top", "max", "area"])
def test_every_score_rule_keeps_its_promise_and_finds_the_spot(vae, score):
    made = AnomalyDetector(vae, "mean_image", score=score, smoothing=1.0, alpha=0.1)
    made.fit(striped(120))
    check = made.check(striped(200, seed=5))
    assert check.pixels.kept and check.images.kept
    assert made.predict(striped(1, seed=6, spots=(0,))).anomalous.all()
    assert "promised 0.1 at most, seen" in str(check)


class Remembering:
    """Scores by the nearest image of a model's training, as a model trained on it too long does."""

    def __init__(self, images):
        self.images = images

    def fit(self, normal):
        return self

    def score(self, images):
        nearest = (images[:, None] - self.images).square().mean((2, 3, 4)).argmin(1)
        return (images - self.images[nearest]).abs().mean(1)


def test_images_kept_from_a_models_training_calibrate_it(vae):
    trained, kept, new = striped(60), striped(60, seed=8), striped(60, seed=9)
    scorer = Remembering(trained)
    with pytest.warns(UserWarning, match="whether the model was trained"):
        naive = AnomalyDetector(vae, scorer).fit(trained)
    assert naive.predict(new).anomalous.double().mean() > 0.9
    made = AnomalyDetector(vae, scorer).fit(trained, calibration=kept)
    facts = made.fitted.facts["normal"]
    assert (facts["fitted"], facts["calibrated"]) == (60, 60) and not made.remarks
    check = made.check(new)
    assert check.pixels.kept and check.images.kept


def test_calibration_files_that_lie_among_the_normal_ones_do_not_fit(vae, tmp_path):
    for number, one in enumerate((striped(45)[:, 0] * 255).byte().numpy()):
        Image.fromarray(one).save(tmp_path / f"{number}.png")
    kept = [str(tmp_path / f"{number}.png") for number in range(20)]
    made = AnomalyDetector(vae, "mean_image").fit(tmp_path, calibration=kept)
    facts = made.fitted.facts["normal"]
    assert (facts["fitted"], facts["calibrated"]) == (25, 20)
    listed = [ImageSources(tmp_path), ImageSources(kept)]
    again = AnomalyDetector(vae, "mean_image").fit(listed[0], calibration=listed[1])
    assert again.fitted.facts["normal"] == facts and facts["digest"]
    with pytest.raises(ValueError, match="calibration holds all images"):
        AnomalyDetector(vae, "mean_image").fit(kept, calibration=kept)


def test_images_taken_differently_are_told_from_those_that_calibrated(detector):
    alike, brighter = striped(60, seed=5), (striped(60, seed=6) + 0.05).clamp(0, 1)
    assert detector.check(alike).unlike > 0.05
    check = detector.check(brighter)
    assert check.unlike < 1e-4 and "taken differently" in str(check)


def test_new_images_that_score_higher_without_being_called_anomalous_are_told_of(detector):
    image = detector.fitted.image
    alike = detector.predict(striped(60, seed=5, spots=range(20))).scores.tolist()
    assert unlike_where_normal(alike, image) == ""
    half = image.scores[image.scores <= image.threshold]
    shifted = [*alike[:20], *np.repeat(half[: len(half) // 3], 5).tolist()]
    assert "taken differently" in unlike_where_normal(shifted, image)
    assert unlike_where_normal([], image) == ""


def test_maps_of_several_scorers_are_averaged_on_a_common_scale(vae):
    several = AnomalyDetector(vae, ["mean_image", "reconstruction_error"], smoothing=0).fit(
        striped(60)
    )
    first, second = several.fitted.scorers
    images = striped(3, seed=4)
    expected = sum(
        s.score(images) / scale
        for s, scale in zip((first, second), several.fitted.scales, strict=True)
    )
    assert torch.allclose(several.maps(images), expected / 2)


def test_a_scorer_is_chosen_on_images_that_neither_fit_nor_calibrate(vae):
    made = AnomalyDetector(vae, layers=["encoder.conv1", "encoder.conv2"]).fit(striped(60))
    assert made.fitted.facts["normal"]["chosen_on"] == 12
    assert made.fitted.choice["painted"] == 3 * 12  # each is painted three times
    assert made.fitted.choice["name"] in repr(made)


def test_layers_that_nobody_names_are_the_encoders_last_of_each_grid(vae):
    made = AnomalyDetector(vae, "feature_difference").fit(striped(50))
    (scorer,) = made.fitted.scorers
    modules = dict(vae.named_modules())
    assert all(name.startswith("encoder.") for name in scorer.layers)
    assert all(isinstance(modules[name], nn.ReLU) for name in scorer.layers)
    own = OwnDecoderFirst().eval()
    found = AnomalyDetector(own, "feature_difference", channels=1).fit(striped(50))
    assert found.fitted.scorers[0].layers == ("look.1",)


class OwnDecoderFirst(nn.Module):
    """A VAE whose decoder, named first, also has grids, and whose encoder has no usual name."""

    def __init__(self):
        super().__init__()
        self.paint = nn.Sequential(
            nn.Linear(2, 64), nn.Unflatten(1, (1, 8, 8)), nn.Upsample(scale_factor=4), nn.Sigmoid()
        )
        self.look = nn.Sequential(nn.Conv2d(1, 4, 4, 4), nn.ReLU())
        self.fc_mu, self.fc_logvar = nn.Linear(256, 2), nn.Linear(256, 2)

    def forward(self, x):
        hidden = self.look(x).flatten(1)
        mu, logvar = self.fc_mu(hidden), self.fc_logvar(hidden)
        return self.paint(mu), mu, logvar


def test_a_scorer_object_is_fitted_and_kept(vae):
    scorer = ReconstructionError(vae, distance="absolute")
    made = AnomalyDetector(vae, scorer).fit(striped(50))
    assert made.fitted.scorers == (scorer,)


def test_clips_too_few_for_the_promise_are_said(vae):
    clips = [f"clip{n // 10}" for n in range(60)]
    with pytest.warns(UserWarning, match="clips are too few for a guarantee"):
        made = AnomalyDetector(vae, "mean_image").fit(striped(60), clips=clips)
    assert made.fitted.image.unit == "clips" and "note: frames of a clip" in repr(made)


def test_one_video_is_cut_into_segments_and_says_so(vae):
    with pytest.warns(UserWarning, match="1 clip is too few to leave whole ones out: cut into 40"):
        made = AnomalyDetector(vae, "mean_image").fit(striped(120), clips=["video"] * 120)
    assert made.fitted.image.unit == "clips" and made.fitted.image.count == 19
    assert made.fitted.image.guaranteed


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda v: AnomalyDetector(v, "nothing"), ValueError, "not among the scorers"),
        (lambda v: AnomalyDetector(v, 3), TypeError, "scorer is 3"),
        (lambda v: AnomalyDetector(v, ["auto", "mean_image"]), ValueError, "'auto' alone"),
        (lambda v: AnomalyDetector(v, alpha=2), ValueError, "alpha=2"),
        (lambda v: AnomalyDetector(v, score="mean"), ValueError, "choose one of top, max, area"),
        (lambda v: AnomalyDetector(v, smoothing=-1), ValueError, "smoothing is -1"),
        (lambda v: AnomalyDetector(v).predict(striped(2)), ValueError, "call fit"),
        (lambda v: AnomalyDetector(v, "mean_image").fit(striped(1)), ValueError, "at least 2"),
        (lambda v: AnomalyDetector(v, "mean_image").fit(3), TypeError, "normal is 3"),
        (lambda v: AnomalyDetector(v, "mean_image").fit("no/such"), FileNotFoundError, "no/such"),
        (
            lambda v: AnomalyDetector(v, "mean_image").fit(Labelled(striped(40))),
            ValueError,
            "anomalous",
        ),
        (
            lambda v: AnomalyDetector(v, "mean_image").fit(striped(40), clips=["a"]),
            ValueError,
            "1 names for 40 images",
        ),
        (
            lambda v: AnomalyDetector(v, "mean_image", units="clips").fit(striped(40)),
            ValueError,
            "which clip each image is of",
        ),
    ],
)
def test_wrong_arguments_are_refused_by_name(vae, call, error, words):
    with pytest.raises(error, match=words):
        call(vae)


def test_images_of_another_size_and_a_model_in_training_are_refused(detector, vae):
    with pytest.raises(ValueError, match=r"fitted on \(B, 1, 32, 32\)"):
        detector.predict(torch.rand(2, 1, 16, 16))
    training = ConvVAE(image_size=SIDE, in_channels=1, latent_dims=4)
    with pytest.raises(ValueError, match=r"model.eval\(\)"):
        AnomalyDetector(training, "mean_image").fit(striped(40))
    assert isinstance(vae, nn.Module)
