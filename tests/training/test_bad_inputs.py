"""What training cannot use is refused by name before the first step, whatever it is."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from captum_vae.losses import ELBO, AttentionDisentanglementLoss
from captum_vae.models import FactorDiscriminator
from captum_vae.training import AttentionTerm, FactorVAEObjective, Trainer, VAEObjective
from captum_vae.training.building import build_dataset, build_objective, build_vae
from captum_vae.training.configuration import (
    AttentionConfig,
    DataConfig,
    ModelConfig,
    ObjectiveConfig,
)
from tests.training.small_run import small_model

NAN = float("nan")

TRAINERS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"steps": 1.5}, TypeError, "steps=1.5"),
    ({"steps": True}, TypeError, "steps=True"),
    ({"steps": "10"}, TypeError, "steps='10'"),
    ({"steps": None}, TypeError, "steps=None"),
    ({"steps": -3}, ValueError, "steps=-3"),
    ({"steps": np.float32(3)}, TypeError, "steps="),
    ({"batch_size": 0}, ValueError, "batch_size=0"),
    ({"batch_size": [8]}, TypeError, r"batch_size=\[8\]"),
    ({"batch_size": NAN}, TypeError, "batch_size=nan"),
    ({"seed": 2**70}, ValueError, "seed=1180591620717411303424 must be at most"),
    ({"seed": -1}, ValueError, "seed=-1"),
    ({"seed": 0.0}, TypeError, "seed=0.0"),
    ({"workers": -1}, ValueError, "workers=-1"),
    ({"workers": False}, TypeError, "workers=False"),
    ({"save_every": 0}, ValueError, "save_every=0"),
    ({"keep": 0}, ValueError, "keep=0"),
    ({"log_every": 2.0}, TypeError, "log_every=2.0"),
    ({"log_every": torch.ones(2, dtype=torch.int64)}, TypeError, "log_every="),
    ({"accelerator": "gpu"}, ValueError, "accelerator='gpu'"),
    ({"accelerator": torch.device("cpu")}, ValueError, "accelerator="),
    ({"precision": "float16"}, ValueError, "precision='float16'"),
    ({"compile": 1}, ValueError, "compile=1"),
    ({"logger": None}, ValueError, "logger=None"),
    ({"progress": 1}, ValueError, "progress=1"),
]


@pytest.mark.parametrize(("options", "kind", "message"), TRAINERS)
def test_options_of_the_trainer(
    options: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        Trainer(**options)


def discriminator() -> FactorDiscriminator:
    return FactorDiscriminator(4, hidden=8, layers=1)


OBJECTIVES: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: VAEObjective(ELBO(), learning_rate=NAN), ValueError, "learning_rate=nan"),
    (lambda: VAEObjective(ELBO(), learning_rate=0), ValueError, "learning_rate=0"),
    (lambda: VAEObjective(ELBO(), learning_rate=-1e-3), ValueError, "learning_rate=-0.001"),
    (lambda: VAEObjective(ELBO(), learning_rate=float("inf")), ValueError, "learning_rate=inf"),
    (lambda: VAEObjective(ELBO(), learning_rate="1e-3"), TypeError, "learning_rate='1e-3'"),
    (lambda: VAEObjective(ELBO(), learning_rate=True), TypeError, "learning_rate=True"),
    (lambda: VAEObjective(ELBO(), learning_rate=None), TypeError, "learning_rate=None"),
    (lambda: VAEObjective("bernoulli"), TypeError, "elbo is a str"),
    (lambda: VAEObjective(None), TypeError, "elbo is a NoneType"),
    (lambda: VAEObjective(ELBO), TypeError, "elbo is a type"),
    (lambda: VAEObjective(nn.Linear(1, 1)), TypeError, "elbo is a Linear"),
    (lambda: VAEObjective(ELBO(), extra_terms=[len]), TypeError, "extra_terms"),
    (lambda: VAEObjective(ELBO(), extra_terms={"a": 3}), TypeError, "extra_terms.*'a': int"),
    (lambda: VAEObjective(ELBO(), extra_terms={3: len}), TypeError, "extra_terms"),
    (lambda: VAEObjective(ELBO(), extra_terms={"a.b": len}), TypeError, "extra_terms"),
    (lambda: VAEObjective(ELBO(), extra_terms={"kl": len}), ValueError, "extra_terms: 'kl'"),
    (
        lambda: FactorVAEObjective(ELBO(), gamma=0, discriminator=discriminator()),
        ValueError,
        "gamma=0",
    ),
    (
        lambda: FactorVAEObjective(ELBO(), gamma="2", discriminator=discriminator()),
        TypeError,
        "gamma='2'",
    ),
    (lambda: FactorVAEObjective(ELBO(), gamma=2, discriminator=8), TypeError, "discriminator is"),
    (
        lambda: FactorVAEObjective(
            ELBO(), gamma=2, discriminator=discriminator(), discriminator_learning_rate=NAN
        ),
        ValueError,
        "discriminator_learning_rate=nan",
    ),
    (lambda: AttentionTerm("paper", layer="encoder.conv1"), TypeError, "loss is a str"),
    (lambda: AttentionTerm(AttentionDisentanglementLoss(), layer=2), TypeError, "layer=2"),
    (lambda: AttentionTerm(AttentionDisentanglementLoss(), layer=""), TypeError, "layer=''"),
    (
        lambda: AttentionTerm(AttentionDisentanglementLoss(), layer="encoder", weight=NAN),
        ValueError,
        "weight=nan",
    ),
    (
        lambda: AttentionTerm(AttentionDisentanglementLoss(), layer="encoder", weight="1"),
        TypeError,
        "weight='1'",
    ),
]


@pytest.mark.parametrize(("make", "kind", "message"), OBJECTIVES)
def test_options_of_the_objective(
    make: Callable[[], Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        make()


CONFIGURATIONS: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: ModelConfig(3), TypeError, "model.name"),
    (lambda: ModelConfig(""), TypeError, "model.name"),
    (lambda: ModelConfig("conv", [1]), TypeError, "model.options"),
    (lambda: ModelConfig("conv", {1: 2}), TypeError, "model.options"),
    (lambda: ModelConfig("conv", initialization="xavier"), ValueError, "model.initialization"),
    (lambda: DataConfig(None), TypeError, "data.name"),
    (lambda: DataConfig("folder", 3), TypeError, "data.root"),
    (lambda: DataConfig("folder", options="x"), TypeError, "data.options"),
    (lambda: DataConfig("folder", augment=True), TypeError, "data.augment"),
    (lambda: ObjectiveConfig("gan"), ValueError, "objective.name='gan'"),
    (lambda: ObjectiveConfig(likelihood=None), ValueError, "objective.likelihood=None"),
    (lambda: ObjectiveConfig(beta=-1), ValueError, "objective.beta=-1"),
    (lambda: ObjectiveConfig(beta=NAN), ValueError, "objective.beta=nan"),
    (lambda: ObjectiveConfig(warmup_steps=1.5), TypeError, "objective.warmup_steps=1.5"),
    (lambda: ObjectiveConfig(free_bits="a"), TypeError, "objective.free_bits='a'"),
    (lambda: ObjectiveConfig(variance=0), ValueError, "objective.variance=0"),
    (lambda: ObjectiveConfig(gamma=1j), TypeError, "objective.gamma=1j"),
    (lambda: ObjectiveConfig(attention={"layer": "x"}), TypeError, "objective.attention"),
    (lambda: AttentionConfig(None), TypeError, "objective.attention.layer"),
    (lambda: AttentionConfig("x", weight=-1), ValueError, "objective.attention.weight=-1"),
    (lambda: AttentionConfig("x", mode="best"), ValueError, "objective.attention.mode='best'"),
    (lambda: AttentionConfig("x", gate=1), ValueError, "objective.attention.gate=1"),
    (lambda: AttentionConfig("x", seed=2**80), ValueError, "objective.attention.seed"),
    (lambda: build_vae(ModelConfig("convv"), (1, 16, 16)), ValueError, "'convv' is not among"),
    (lambda: build_vae(ModelConfig("conv", {"d": 1}), (1, 16, 16)), ValueError, "model.options"),
    (lambda: build_vae(ModelConfig("conv"), (16, 16)), ValueError, r"\(C, H, W\), got \(16, 16\)"),
    (lambda: build_vae(ModelConfig("no:Class"), (1, 16, 16)), ValueError, "model.name is 'no:Cl"),
    (lambda: build_vae(ModelConfig("math:pi"), (1, 16, 16)), ValueError, "model.name='math:pi'"),
    (lambda: build_dataset(DataConfig("digit")), ValueError, "'digit' is not among"),
    (lambda: build_dataset(DataConfig("math:pi")), ValueError, "data.options: .* is a float"),
    (lambda: build_dataset(DataConfig("folder", "$NOWHERE")), ValueError, "data.root is"),
    (lambda: build_dataset(DataConfig("folder", "/nowhere")), FileNotFoundError, "/nowhere"),
    (lambda: build_dataset(DataConfig("digits", options={"n": 1})), ValueError, "data.options"),
    (
        lambda: build_objective(
            ObjectiveConfig(attention=AttentionConfig("encoder.conv9")), small_model()
        ),
        ValueError,
        "encoder.conv9.* is not in ConvVAE",
    ),
    (
        lambda: build_objective(ObjectiveConfig("factor_vae"), small_model(latent="spatial")),
        ValueError,
        "factor_vae.* needs a model with a vector latent",
    ),
]


@pytest.mark.parametrize(("make", "kind", "message"), CONFIGURATIONS)
def test_configurations(make: Callable[[], Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        make()


class Items(Dataset[Any]):
    """Eight items that a function makes."""

    def __init__(self, make: Callable[[int], Any]) -> None:
        self.make = make

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> Any:
        return self.make(index)


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter([torch.rand(1, 16, 16)])


def image(*shape: int, **options: Any) -> Tensor:
    return torch.full(shape or (1, 16, 16), 0.5, **options)


class Bare(nn.Module):
    """A model with every part that training asks for, whose outputs a test chooses."""

    def __init__(self, encoded: Any = None, outputs: Any = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.encoded = encoded or (lambda x, w: (w * x.flatten(1)[:, :2], x.flatten(1)[:, :2]))
        self.outputs = outputs or (lambda x, w: (w * x, *self.encoded(x, w)))

    def encode(self, x: Tensor) -> Any:
        return self.encoded(x, self.weight)

    def forward(self, x: Tensor) -> Any:
        return self.outputs(x, self.weight)


def raising(*_: Any) -> Any:
    raise KeyError("layer")


ARGUMENTS: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "empty": ({"dataset": TensorDataset(torch.zeros(0, 1, 16, 16))}, ValueError, "data set is emp"),
    "no data": ({"dataset": None}, TypeError, "dataset is a NoneType"),
    "a path": ({"dataset": "images/"}, TypeError, "dataset is a str"),
    "a dict": ({"dataset": {0: image()}}, TypeError, "dataset is a dict"),
    "a stream": ({"dataset": Stream()}, TypeError, "dataset is a Stream"),
    "a number": ({"dataset": 8}, TypeError, "dataset is a int"),
    "bytes": ({"dataset": Items(lambda i: image(dtype=torch.uint8))}, TypeError, "divide by 255"),
    "bools": ({"dataset": Items(lambda i: image() > 0)}, TypeError, "floating point.*bool"),
    "complex": ({"dataset": Items(lambda i: image() * 1j)}, TypeError, "floating point.*complex"),
    "doubles": ({"dataset": Items(lambda i: image().double())}, TypeError, "float64.*float32"),
    "arrays": ({"dataset": Items(lambda i: np.ones((1, 16, 16)))}, TypeError, "got ndarray"),
    "labels": ({"dataset": Items(lambda i: (i, image()))}, TypeError, "tuple that starts with the"),
    "no image": ({"dataset": Items(lambda i: {"pixels": image()})}, TypeError, "got dict"),
    "empty tuples": ({"dataset": Items(lambda i: ())}, TypeError, "got tuple"),
    "nothing": ({"dataset": Items(lambda i: None)}, TypeError, "got NoneType"),
    "scalars": ({"dataset": Items(lambda i: torch.tensor(0.5))}, ValueError, r"shape \(C, H, W\)"),
    "no pixels": ({"dataset": Items(lambda i: image(1, 0, 16))}, ValueError, r"shape \(1, 0, 16\)"),
    "NaN": ({"dataset": Items(lambda i: image() * NAN)}, ValueError, "item 0 .* NaN or infinite"),
    "one NaN": (
        {"dataset": Items(lambda i: image() * (NAN if i == 5 else 1))},
        ValueError,
        "item 5 of the data set .* NaN or infinite",
    ),
    "infinite": ({"dataset": Items(lambda i: image() / 0)}, ValueError, "item 0 .* infinite"),
    "sizes": ({"dataset": Items(lambda i: image(1, 16, 16 + i))}, ValueError, "have the shapes"),
    "size": ({"dataset": Items(lambda i: image(1, 20, 20))}, ValueError, r"\(1, 1, 20, 20\)"),
    "channels": ({"dataset": Items(lambda i: image(3, 16, 16))}, ValueError, r"\(1, 3, 16, 16\)"),
    "flat": ({"dataset": Items(lambda i: image(256))}, ValueError, r"\(1, 256\)"),
    "raising": ({"dataset": Items(raising)}, ValueError, "data set cannot give .*KeyError"),
    "no model": ({"model": None}, TypeError, "model is a NoneType"),
    "a name": ({"model": "conv"}, TypeError, "model is a str"),
    "a class": ({"model": Bare}, TypeError, "model is a type"),
    "no encode": ({"model": nn.Linear(4, 4)}, TypeError, r"model is a Linear.*encode\(images\)"),
    "frozen": ({"model": Bare().requires_grad_(False)}, ValueError, "no parameter to train"),
    "encode fails": ({"model": Bare(raising)}, ValueError, "model.encode fails .*KeyError"),
    "one tensor": ({"model": Bare(lambda x, w: w * x)}, ValueError, "gave a tensor of shape"),
    "one part": ({"model": Bare(lambda x, w: (w * x,))}, ValueError, "gave a tuple of 1"),
    "a dict of both": ({"model": Bare(lambda x, w: {"mean": x})}, ValueError, "gave a dict"),
    "unlike parts": (
        {"model": Bare(lambda x, w: (x.flatten(1), x.flatten(1)[:, :2]))},
        ValueError,
        r"mean and log-variance of q\(z\|x\)",
    ),
    "no outputs": ({"model": Bare(outputs=lambda x, w: None)}, ValueError, "gave a NoneType"),
    "two outputs": (
        {"model": Bare(outputs=lambda x, w: (w * x, x.flatten(1)))},
        ValueError,
        r"model\(images\) gave a tuple of 2",
    ),
    "cut": (
        {"model": Bare(outputs=lambda x, w: (w * x[..., 1:], x.flatten(1), x.flatten(1)))},
        ValueError,
        "same shape",
    ),
    "broken": ({"model": Bare(outputs=raising)}, ValueError, "fails on a batch .*KeyError"),
    "no objective": ({"objective": None}, TypeError, "objective is a NoneType"),
    "a loss": ({"objective": nn.MSELoss()}, TypeError, "objective is a MSELoss"),
    "an ELBO": ({"objective": ELBO()}, TypeError, "objective is a ELBO"),
    "wide term": (
        {"objective": VAEObjective(ELBO(), extra_terms={"a": lambda m, b, o: o.mean})},
        ValueError,
        "extra_terms: 'a' gave",
    ),
    "no term": (
        {"objective": VAEObjective(ELBO(), extra_terms={"a": lambda m, b, o: 3})},
        ValueError,
        "extra_terms: 'a' gave int",
    ),
    "no folder": ({"out": None}, TypeError, "out=None"),
    "a number as folder": ({"out": 3}, TypeError, "out=3"),
    "empty folder": ({"out": ""}, TypeError, "out=''"),
    "a file": ({"out": Path(__file__)}, ValueError, "test_bad_inputs.py' is a file"),
    "other word": ({"resume": "yes"}, ValueError, "resume='yes'"),
    "true": ({"resume": True}, ValueError, "resume=True"),
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_arguments_of_fit(tmp_path: Path, name: str) -> None:
    options, kind, message = ARGUMENTS[name]
    given = {
        "model": small_model(),
        "dataset": Items(lambda i: image()),
        "objective": VAEObjective(ELBO()),
        "out": tmp_path / "run",
        **options,
    }
    with pytest.raises(kind, match=message) as caught:
        Trainer(steps=2, batch_size=8, accelerator="cpu", progress="off").fit(**given)
    assert "\n" not in str(caught.value)


def test_the_bare_model_of_these_tests_trains(tmp_path: Path) -> None:
    trainer = Trainer(steps=1, batch_size=4, accelerator="cpu", progress="off")
    data = Items(lambda i: torch.linspace(0, 1, 256).reshape(1, 16, 16) * (i + 1) / 8)
    assert trainer.fit(Bare(), data, VAEObjective(ELBO()), out=tmp_path).step == 1


def test_whole_numbers_of_numpy_become_plain_ones() -> None:
    trainer = Trainer(steps=np.int64(3))
    assert type(trainer.steps) is int
    with pytest.raises(ValueError, match="steps=0"):
        replace(trainer, steps=0)


@pytest.mark.parametrize("name", ["progress", "compile"])
def test_on_and_off_are_what_yaml_makes_of_them(name):
    assert [getattr(Trainer(steps=1, **{name: on}), name) for on in (True, False)] == [
        "on",
        "off",
    ]
