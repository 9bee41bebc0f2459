"""How words of a command line become arguments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pytest

from captum_vae.commands.options import as_typed, parse
from captum_vae.commands.yaml_text import MOST_VALUES, YAMLTextError, load_yaml, read_yaml


@dataclass
class Group:
    steps: int = 10
    layers: list[str] | None = None


def command(
    model: str,
    group: Group,
    *,
    dims: Sequence[int] | None = None,
    size: int | tuple[int, int] | None = None,
    value_range: Sequence[float] = (0.0, 1.0),
    metrics: Sequence[Literal["mig", "dci"]] = ("mig",),
    images: Sequence[str] | None = None,
    flag: bool = False,
    options: dict[str, Any] | None = None,
) -> None:
    """A command.

    Args:
        model: A model.
        group: A group.
        dims: Dimensions.
        size: A size.
        value_range: A range.
        metrics: Metrics.
        images: Images.
        flag: A flag.
        options: Options.
    """


def parsed(*words: str) -> dict[str, Any]:
    arguments = ["--model", "m", *words]
    options, _ = parse(
        command, arguments, name="c", doc="A command", positional=False, configs=None
    )
    return options


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        ("--dims 1,2", "dims", [1, 2]),
        ("--dims 1 2", "dims", [1, 2]),
        ("--images a.png b.png", "images", ["a.png", "b.png"]),
        ("--images a,b.png c.png --flag", "images", ["a,b.png", "c.png"]),
        ("--images a.png, b.png", "images", ["a.png", "b.png"]),
        ("--images a.png,b.png", "images", ["a.png", "b.png"]),
        ("--dims [1,2]", "dims", [1, 2]),
        ("--dims=1,2", "dims", [1, 2]),
        ("--dims=[1,2]", "dims", [1, 2]),
        ("--dims 1", "dims", [1]),
        ("--dims -1 0", "dims", [-1, 0]),
        ("--dims 1 2 --flag", "dims", [1, 2]),
        ("--dims null", "dims", None),
        ("--dims []", "dims", []),
        ("--size 64", "size", 64),
        ("--size 64,32", "size", (64, 32)),
        ("--size 64 32", "size", (64, 32)),
        ("--size [64,32]", "size", (64, 32)),
        ("--value_range -1 1", "value_range", [-1.0, 1.0]),
        ("--value-range -1,1", "value_range", [-1.0, 1.0]),
        ("--value_range=1e-3,1", "value_range", [0.001, 1.0]),
        ("--metrics mig dci", "metrics", ["mig", "dci"]),
        ("--metrics dci,mig", "metrics", ["dci", "mig"]),
        ("--metrics dci", "metrics", ["dci"]),
        ("--flag", "flag", True),
        ("--flag false", "flag", False),
        ("--flag=true", "flag", True),
        ("--options.a 1", "options", {"a": 1}),
        ("--options {a:\u00a01}", "options", {"a": 1}),
        ("--group.steps 3", "group", Group(steps=3)),
        ("--group.layers a,b", "group", Group(layers=["a", "b"])),
    ],
)
def test_several_values_are_given_as_somebody_would_write_them(words, name, value):
    found = parsed(*(word.replace("\u00a0", " ") for word in words.split(" ")))[name]
    assert (list(found) if isinstance(value, list) else found) == value


def test_values_that_can_only_be_values_are_taken_and_the_next_word_is_not():
    def positional(run: str, *, metrics: Sequence[Literal["mig", "dci"]] = ()) -> None:
        """A command.

        Args:
            run: A run.
            metrics: Metrics.
        """

    positional.__annotations__ = {
        "run": str,
        "metrics": Sequence[Literal["mig", "dci"]],
        "return": type(None),
    }
    words = ["--metrics", "mig", "dci", "folder"]
    found, _ = parse(positional, words, name="c", doc="", positional=True, configs=None)
    assert found == {"run": "folder", "metrics": ["mig", "dci"]}


@pytest.mark.parametrize(
    ("message", "typed"),
    [
        ("steps=0 must be at least 1", "--group.steps 0 must be at least 1"),
        ("choose one with dims=1", "choose one with --dims 1"),
        ("size is 0; wanted more", "--size is 0; wanted more"),
        ("size matters", "size matters"),
        ("beta=3 is no option here", "beta=3 is no option here"),
        ("x.dims=3 and my-dims=3", "x.dims=3 and my-dims=3"),
        ("say dims= and size=, or size=", "say --dims and --size, or --size"),
        ("pass model=lambda t: t", "pass --model NAME with NAME = lambda t: t"),
        ("pass decoder=NAME", "pass --options.decoder NAME"),
    ],
)
def test_refusals_name_options_as_they_are_typed(message, typed):
    assert as_typed(message, command, {"decoder": "options.decoder"}) == typed


def bomb(levels: int) -> str:
    lines = ["a0: &a0 [1, 1, 1]"]
    lines += [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}, *a{n - 1}]" for n in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize("levels", [11, 15, 20, 40, 100, 300])
def test_an_alias_bomb_is_refused_before_it_unfolds(levels):
    with pytest.raises(YAMLTextError, match=f"unfold to more than {MOST_VALUES} values"):
        load_yaml(bomb(levels))


def test_aliases_that_mean_little_are_read():
    assert load_yaml("a: &a [1, 2]\nb: *a\n") == {"a": [1, 2], "b": [1, 2]}
    assert load_yaml("base: &b {x: 1}\nmine:\n  <<: *b\n  y: 1e-3\n")["mine"] == {
        "x": 1,
        "y": 0.001,
    }


@pytest.mark.parametrize("depth", [51, 100, 1000, 100_000])
@pytest.mark.parametrize("opening", ["[", "{a: ", "- "])
def test_deep_nesting_is_refused_without_running_out_of_stack(depth, opening):
    with pytest.raises(YAMLTextError):
        load_yaml(opening * depth)


def test_a_large_file_is_refused_after_a_part_of_it(tmp_path):
    path = tmp_path / "large.yaml"
    with open(path, "wb") as file:
        file.truncate(10**10)
    with pytest.raises(ValueError, match="large.yaml cannot be read"):
        read_yaml(path)
