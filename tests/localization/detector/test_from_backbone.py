"""Detectors on the features of frozen encoders: timm's by name, and modules of one's own."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

from captum_vae import AnomalyDetector
from captum_vae.localization import Candidates, candidate_scorers
from tests.localization.detector.test_detector import striped

LAYERS = ["layer1", "layer2"]


def encoder(seed=3):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, 2, 1), nn.ReLU(), nn.Conv2d(6, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU()
    )


def test_a_timm_model_is_fitted_and_comes_back_whole(tmp_path):
    torch.manual_seed(0)
    made = AnomalyDetector.from_backbone(
        "test_resnet", LAYERS, image_size=32, channels=1, pretrained=False, latent_dim=3
    ).fit(striped(60))
    images = striped(3, seed=1, spots=(1,))
    found = made.predict(images)
    assert found.scores.argmax() == 1
    made.save(tmp_path)
    again = AnomalyDetector.load(tmp_path)
    assert torch.equal(again.predict(images).maps, found.maps)


def test_threads_and_pickles_of_a_detector_that_hooks_layers_agree():
    made = AnomalyDetector.from_backbone(
        encoder(), ["1", "4"], image_size=32, channels=1, latent_dim=3
    ).fit(striped(40))
    batches = [{"image": striped(4, seed=seed)} for seed in range(8)]
    expected = [made(batch)["map"] for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        for found, alone in zip(pool.map(made, batches), expected, strict=True):
            assert np.array_equal(found["map"], alone)
    again = pickle.loads(pickle.dumps(made))
    assert np.array_equal(again(batches[0])["map"], expected[0])


def test_an_encoder_of_ones_own_is_given_again_and_stays_as_it_was(tmp_path):
    own = encoder()
    before = {name: value.clone() for name, value in own.state_dict().items()}
    made = AnomalyDetector.from_backbone(
        own, ["1", "4"], image_size=32, channels=1, latent_dim=3
    ).fit(striped(60))
    made.save(tmp_path)
    assert own.training
    assert all(torch.equal(before[name], value) for name, value in own.state_dict().items())
    images = striped(3, seed=1)
    again = AnomalyDetector.load(tmp_path, encoder())
    assert torch.equal(again.predict(images).maps, made.predict(images).maps)
    with pytest.raises(ValueError, match="fitted with an encoder, which is not saved"):
        AnomalyDetector.load(tmp_path)
    with pytest.raises(ValueError, match="give the same model"):
        AnomalyDetector.load(tmp_path, encoder(seed=4))
    with pytest.raises(ValueError, match="does not fit the saved detector"):
        AnomalyDetector.load(tmp_path, nn.Sequential(nn.Conv2d(1, 6, 3)))


def test_the_map_is_the_default_of_the_choice_without_labels():
    made = AnomalyDetector.from_backbone(
        encoder(), ["1", "4"], image_size=32, channels=1, latent_dim=3
    ).fit(striped(40))
    (own,) = made.fitted.scorers
    scorer, _ = next(iter(candidate_scorers(Candidates(["features"]), made.fitted.model).values()))
    assert type(own) is type(scorer)
    assert (own.layers, own.baselines, own.distance) == (
        scorer.layers,
        scorer.baselines,
        scorer.distance,
    )


def test_a_layer_that_is_not_there_is_refused_before_any_image_is_read():
    with pytest.raises(ValueError, match="layer9"):
        AnomalyDetector.from_backbone("test_resnet", ["layer9"], pretrained=False)
