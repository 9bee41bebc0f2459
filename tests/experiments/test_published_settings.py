"""The settings of scale paper against the two replication reports, field by field."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from captum_vae.experiments import dsprites, mnist, mvtec, ucsd
from captum_vae.experiments.anomaly import AnomalyStudy, Place
from captum_vae.experiments.seed_run import SeedRun
from captum_vae.experiments.seed_runs import _model, _objective, initialize
from captum_vae.experiments.work import Work
from captum_vae.metrics.disentanglement.votes import VOTE_PROTOCOLS, VoteProtocol
from captum_vae.models import MNISTVAE, UCSDVAE, FactorVAE, ResNet18VAE
from captum_vae.training.configuration import DataConfig
from tests.data.layouts import write_mvtec
from tests.experiments.test_anomaly import RenderedTexture, SyntheticDefects


def fields(settings: Any, **published: Any) -> None:
    """Every field is as published."""
    assert {name: getattr(settings, name) for name in published} == published


def test_mnist_is_trained_as_published() -> None:
    # Replication b, section 3.1; loss, optimizer and seed of the authors' train_expVAE.py.
    paper = mnist.EXPERIMENT.settings["paper"]
    fields(paper, batch_size=128, latent_dims=32, learning_rate=1e-3, epochs=100, steps=0)
    demo = mnist.DemoSettings(
        dataset="digits",
        root=None,
        normal=1,
        others=(7,),
        layer="encoder.conv2",
        latent_dims=32,
        steps=0,
        seed=0,
    )
    training = mnist._training(paper, demo, 6742)
    fields(training.objective, likelihood="bernoulli", beta=1.0, warmup_steps=0, name="vae")
    fields(training.model, name="mnist", initialization="pytorch")
    assert training.trainer.steps == round(100 * 6742 / 128)
    assert mnist.DIGITS == {1: (9, 7, 2, 4), 3: (8, 5)}
    vae = MNISTVAE(paper.latent_dims)
    fields(vae, channels=(64, 128), hidden=1024, image_size=(28, 28), output="sigmoid")


def training_of(study: AnomalyStudy, settings: Any) -> Any:
    data = DataConfig("digits")
    place = Place("somewhere", data, data, RenderedTexture("grain", length=1), "t", "t")
    return study._training(settings, place)


def test_ucsd_is_trained_as_published() -> None:
    # Replication b, section 3.2.1; the loss of replication a's train_expVAE.py.
    paper = ucsd.SETTINGS["paper"]
    fields(paper, model="ucsd", image_size=(100, 100), learning_rate=1e-4, batch_size=32)
    fields(paper, epochs=1000, steps=0, training="published", every=1, precision="float32")
    training = training_of(ucsd.STUDY, paper)
    fields(training.objective, likelihood="bernoulli", warmup_steps=0, learning_rate=1e-4)
    fields(training.objective, beta=1.0, free_bits=0.0, attention=None)
    fields(training.model, name="ucsd", options={"latent_dims": 32}, initialization="pytorch")
    fields(training.trainer, batch_size=32, precision="float32")
    vae = UCSDVAE(32)
    fields(vae, channels=(64, 128, 256), hidden=1024, output="sigmoid")
    # Layers, methods and rectifiers of its figure 4.
    assert list(ucsd.LAYERS) == ["conv1", "conv2", "conv3"]
    assert len(ucsd.STUDY.published) == 3 * 2 * 2


def test_mvtec_is_trained_as_published() -> None:
    # Replication b, section 3.2.2.
    paper = mvtec.SETTINGS["paper"]
    fields(paper, model="resnet18", image_size=256, learning_rate=1e-4, batch_size=8, epochs=100)
    fields(paper, augmented=10_000, rotation=30.0, mirror=0.5, padding="black", twice="leather")
    fields(paper, training="published", steps=0, precision="float32", categories=())
    training = training_of(mvtec.STUDY, paper)
    fields(training.objective, likelihood="bernoulli", warmup_steps=0, learning_rate=1e-4)
    fields(training.model, name="resnet18", options={"latent_dims": 32}, initialization="pytorch")
    # Two Linear and six convolutions before the sigmoid. Ours has batch normalisation and ReLU
    # after five of them: after the last, ReLU would keep every pixel of the sigmoid above one half.
    vae = ResNet18VAE(32, image_size=256, output="sigmoid")
    kinds = [type(layer).__name__ for layer in vae.decoder]
    counted = {kind: kinds.count(kind) for kind in ("Linear", "ConvTranspose2d", "BatchNorm2d")}
    assert counted == {"Linear": 2, "ConvTranspose2d": 6, "BatchNorm2d": 5}
    assert kinds[-1] == "Sigmoid"


def test_dsprites_is_trained_as_in_table_1() -> None:
    paper = dsprites.EXPERIMENT.settings["paper"]
    fields(paper, steps=300_000, batch_size=64, learning_rate=1e-4, precision="float32")
    fields(paper, aggregations=("mean", "sum"), rectifiers=("relu", "abs"))
    fields(paper, initializations=("pytorch", "normal", "kaiming"))
    assert {20, 40, 100} <= {*paper.gammas}
    assert {10, 20, 30, 40, 100} == {*paper.gammas}  # the paper's figure
    # Lambda: 1 of replication b; 1, 20, 40 and 80 of replication a, at gamma 40.
    assert paper.weights == (1, 20, 40, 80)
    assert VOTE_PROTOCOLS[paper.protocol] == VoteProtocol(100, 800, 200)
    run = SeedRun("factorvae", 0, steps=1, batch_size=64, gamma=40.0)
    assert (run.latent_dims, run.weight) == (32, 1.0)
    objective = _objective(run)
    vae, discriminator = objective.optimizers(_model(run)).values()
    assert [vae.defaults[name] for name in ("lr", "betas")] == [1e-4, (0.9, 0.999)]
    assert [discriminator.defaults[name] for name in ("lr", "betas")] == [1e-4, (0.5, 0.9)]
    slopes = [getattr(m, "negative_slope", 0.2) for m in objective.discriminator.modules()]
    assert {*slopes} == {0.2}


def test_ours_is_the_named_variant_of_the_training() -> None:
    for study in (ucsd.STUDY, mvtec.STUDY):
        ours = replace(study.settings["paper"], training="ours")
        training = training_of(study, ours)
        assert training.objective.likelihood == "optimal_gaussian"
        assert training.objective.warmup_steps == ours.warmup_steps > 0
        assert training.model.initialization == "data"


def test_normal_and_kaiming_weights_are_those_of_the_adapted_code() -> None:
    torch.manual_seed(0)
    vae = FactorVAE(32)
    transposed = [m for m in vae.modules() if isinstance(m, nn.ConvTranspose2d)]
    before = [m.weight.clone() for m in transposed]
    for how in ("normal", "kaiming"):
        initialize(vae, how)
        for layer in vae.modules():
            if isinstance(layer, (nn.Conv2d, nn.Linear)) and layer.weight.numel() > 5000:
                fan_in = layer.weight[0].numel()
                wanted = 0.02 if how == "normal" else (2 / fan_in) ** 0.5
                assert float(layer.weight.detach().std()) == pytest.approx(wanted, rel=0.1)
                assert not layer.bias.any()
    assert all(torch.equal(m.weight, w) for m, w in zip(transposed, before, strict=True))


def test_replication_as_weights_are_trained_at_gamma_40_alone(tmp_path: Path) -> None:
    paper = dsprites.EXPERIMENT.settings["paper"]
    folders = dsprites.grid(paper, Work(tmp_path, tmp_path, "cpu"))
    runs = [run for of_folder in folders.values() for run in of_folder]
    heavy = {(run.gamma, run.weight, run.variant) for run in runs if run.weight != 1}
    assert heavy == {(40.0, weight, "paper") for weight in (20.0, 40.0, 80.0)}
    otherwise = {(run.gamma, run.variant) for run in runs if run.initialization != "pytorch"}
    assert otherwise == {(40.0, "factorvae")}
    part = replace(paper, gammas=(10.0,), weights=(20.0,), seeds=1, initializations=("pytorch",))
    runs = [r for of in dsprites.grid(part, Work(tmp_path, tmp_path, "cpu")).values() for r in of]
    found = {(r.variant, r.gamma, r.weight) for r in runs}
    assert found == {("factorvae", 10, 1), ("normalised", 10, 1), ("paper", 10, 20)}


def test_a_part_of_the_categories_is_chosen_and_a_missing_one_refused(tmp_path: Path) -> None:
    normal = RenderedTexture("weave", length=2)
    test = SyntheticDefects(RenderedTexture("weave", "test", length=2))
    for name in ("leather", "tile"):
        write_mvtec(tmp_path / "mvtec_ad", name, normal, test)
    chosen = mvtec.EXPERIMENT.chosen("cpu", {"category": ["tile"]})
    assert [place.name for place in mvtec.find_categories(chosen, tmp_path, 0)] == ["tile"]
    with pytest.raises(ValueError, match=r"category is wood, which .* does not hold; wanted some"):
        mvtec.find_categories(replace(chosen, categories=("wood",)), tmp_path, 0)


def test_epochs_replace_the_length_of_every_scale() -> None:
    for study in (ucsd, mvtec):
        for scale in ("smoke", "cpu", "paper"):
            chosen = study.EXPERIMENT.chosen(scale, {"epochs": 0.5})
            assert (chosen.steps, chosen.epochs) == (0, 0.5)
    assert dsprites.EXPERIMENT.chosen("paper", {"epochs": 1.0}).length == 737_280 // 64


@pytest.mark.parametrize(
    ("experiment", "options", "words"),
    [
        (mnist, {"gamma": [1.0]}, "gamma is .* which mnist does not have"),
        (ucsd, {"category": ["x"]}, "category is .* which ucsd does not have"),
        (dsprites, {"seeds": 0}, "seeds=0"),
        (dsprites, {"gamma": []}, "gamma is empty"),
        (dsprites, {"gamma": [-1.0]}, "gamma=-1.0"),
        (dsprites, {"workers": 0}, "workers=0"),
        (dsprites, {"epochs": 0}, "epochs=0"),
        (mvtec, {"workers": -1}, "workers=-1"),
        (ucsd, {"epochs": -2.0}, "epochs=-2.0"),
        (mnist, {"weights": {7: "file"}}, "weights names the digit 7"),
    ],
)
def test_what_chooses_a_part_is_checked(experiment: Any, options: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        experiment.EXPERIMENT.chosen("paper", options)
