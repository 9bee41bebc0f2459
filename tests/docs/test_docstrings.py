"""The examples in docstrings run: every ``>>>`` line, and its output where one is written."""

import doctest
import importlib
import inspect
from collections.abc import Iterator
from typing import Any

import pytest
import torch

import captum_vae
from captum_vae import LatentGradCAM, NormalDifferenceGradCAM
from captum_vae.attr import explanation_func
from captum_vae.models import ConvVAE

PACKAGES = ("attr", "data", "localization", "losses", "metrics", "models", "plugins", "posterior")


def public_objects() -> Iterator[tuple[str, Any]]:
    for package in PACKAGES:
        module = importlib.import_module(f"captum_vae.{package}")
        for name in getattr(module, "__all__", [n for n in vars(module) if n[0].isupper()]):
            found = getattr(module, name)
            if inspect.isclass(found) or inspect.isfunction(found):
                yield f"captum_vae.{package}.{name}", found


EXAMPLES = {
    name: found for name, found in public_objects() if ">>>" in (inspect.getdoc(found) or "")
}


@pytest.fixture
def session() -> dict[str, Any]:
    """What a docstring takes for granted: a VAE, an attribution, images."""
    from captum.metrics import sensitivity_max

    vae = ConvVAE(4, image_size=16, channels=(2, 3, 4), hidden=8).eval()
    images = torch.rand(2, 1, 16, 16)
    return {
        **{name: getattr(captum_vae, name) for name in captum_vae.__all__},
        "NormalDifferenceGradCAM": NormalDifferenceGradCAM,
        "cam": LatentGradCAM(vae, "encoder.conv2"),
        "explanation_func": explanation_func,
        "images": images,
        "loader_of_normal_images": [images],
        "sensitivity_max": sensitivity_max,
        "torch": torch,
        "vae": vae,
        "x": images,
    }


class OnlyWhatIsWritten(doctest.OutputChecker):
    """An example without an output only has to run."""

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        return not want or super().check_output(want, got, optionflags)


# Untrained models.
@pytest.mark.filterwarnings("ignore:the posterior carries no information")
@pytest.mark.parametrize("name", EXAMPLES)
def test_the_example_runs(name: str, session: dict[str, Any]) -> None:
    found = EXAMPLES[name]
    session |= vars(importlib.import_module(found.__module__))
    text = inspect.getdoc(found) or ""
    test = doctest.DocTestParser().get_doctest(text, session, name, found.__module__, 0)
    said: list[str] = []
    runner = doctest.DocTestRunner(OnlyWhatIsWritten())
    runner.run(test, out=said.append)
    assert not runner.failures, "".join(said)


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 10
