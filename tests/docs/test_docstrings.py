"""Docstrings are whole sentences, and their examples run: every ``>>>`` line, with its output."""

import ast
import doctest
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
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


SOURCES = sorted(Path(captum_vae.__file__).parent.rglob("*.py"))
NAMED = re.compile(r"\*{0,2}[\w.]+(?: \(.*?\))?: +(.*)")
BEGINNING = re.compile(r"[A-Z`:\"'(\d]")
FRAGMENT = re.compile(r"(Of|As|Over|See) ")


def docstrings(source: Path) -> Iterator[tuple[str, str]]:
    """The name of every module, class and function, and its docstring."""
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
            text = ast.get_docstring(node)
            if text:
                yield getattr(node, "name", source.stem), text


def entries(docstring: str) -> Iterator[str]:
    """What a docstring says of each argument, attribute and error, and of what comes back."""
    for section in re.split(r"\n\n(?=\S)", docstring):
        head, _, rest = section.partition("\n")
        if head in ("Args:", "Attributes:", "Raises:"):
            for entry in re.split(r"\n(?= {4}\S)", rest):
                words = " ".join(entry.split())
                named = NAMED.fullmatch(words)
                yield named[1] if named else f"no name: {words}"
        elif head in ("Returns:", "Yields:"):
            yield " ".join(rest.split())


@pytest.mark.parametrize("source", SOURCES, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_docstrings_are_sentences_for_somebody_who_reads_only_this_one(source: Path) -> None:
    wrong = []
    for name, text in docstrings(source):
        summary = " ".join(text.partition("\n\n")[0].split())
        if not BEGINNING.match(summary[:1]) and not summary.startswith("dSprites"):
            wrong.append(f"{name} begins as a fragment: {summary}")
        for entry in entries(text):
            if not BEGINNING.match(entry) or FRAGMENT.match(entry) or entry[-1] not in ".?!":
                wrong.append(f"{name}: {entry}")
        wrong += [
            f"{name} says {word}" for word in re.findall(r"(?i)\b(?:likewise|as for)\b", text)
        ]
    assert not wrong, "\n".join(wrong)
