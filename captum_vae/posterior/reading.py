"""How to read a model's output: where in it the mean is, and where and what its spread is.

A path leads from the output to a tensor: `[1]`, `mu`, `latent_dist.mean`, `levels[0].mu`. A name
is a key where the object is a mapping that has it, else an attribute; a method is called without
arguments, so `latent_dist.mode` works where mode is a method and where it is a property.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor
from torch.distributions import (
    Distribution,
    Independent,
    LowRankMultivariateNormal,
    MultivariateNormal,
    Normal,
)

from captum_vae.posterior.read_back import may_read_back

Spread = Literal["log_variance", "variance", "std", "log_std"]
SPREADS: tuple[str, ...] = get_args(Spread)


class PosteriorError(ValueError):
    """The posterior cannot be read from the model's output as asked."""


class Half(Enum):
    """One half of dim 1 of a tensor [mean | log-variance]."""

    FIRST = 0
    SECOND = 1


Step = int | str | Half
Path = tuple[Step, ...]


@dataclass(frozen=True)
class Reading:
    """Where the mean and its spread are in the model's output.

    Attributes:
        mean: Path to the mean, or to a distribution object, which brings its own spread.
        second: Path to the second tensor; None when there is none to read.
        spread: What the second tensor is.
        level: Item of the output to take before anything else, of hierarchical models.
        modules: Names of submodules whose outputs are read instead of the model's; the paths then
            start with such a name.
        function: The user's own f(output) -> mean, (mean, second) or a distribution, which then
            replaces the paths.
        note: What detection has to say about the choice.
    """

    mean: Path = ()
    second: Path | None = None
    spread: Spread = "log_variance"
    level: int | None = None
    modules: tuple[str, ...] = ()
    function: Callable[[Any], Any] | None = None
    note: str = ""

    def latent(self, output: object) -> tuple[Tensor, Tensor | None]:
        """The mean (B, ...) and the log-variance in the same shape, or None.

        Raises:
            PosteriorError: A path does not exist or does not lead to a floating tensor.
        """
        if self.level is not None:
            output = _take_level(output, self.level)
        if self.function is not None:
            mean, second = _returned(self.function(output))
        else:
            mean = follow(output, self.mean)
            second = None if self.second is None else follow(output, self.second)
        spread = self.spread
        if second is None and not isinstance(mean, Tensor):
            in_distribution = distribution_parts(mean)
            if in_distribution is not None:
                mean_name, second_name, spread = in_distribution
                second = None if second_name is None else follow(mean, (second_name,))
                mean = follow(mean, (mean_name,))
        mean = _latent_tensor(mean, "mean", self, output)
        if second is None:
            return mean, None
        second = _latent_tensor(second, spread, self, output)
        if second.shape != mean.shape:
            raise PosteriorError(
                f"the {spread} has shape {tuple(second.shape)} and the mean {tuple(mean.shape)}; "
                f"they must be equal (reading: {self})"
            )
        return mean, to_log_variance(second, spread)

    def __str__(self) -> str:
        """The reading in the words a user would type, with what each part is."""
        where = "".join(f"module:{name} " for name in self.modules)
        if self.level is not None:
            where += f"level {self.level} "
        if self.function is not None:
            return where + getattr(self.function, "__qualname__", repr(self.function))
        text = f"{where}'{format_path(self.mean)}' mean"
        if self.second is not None:
            text += f", '{format_path(self.second)}' {self.spread}"
        return text + (f" ({self.note})" if self.note else "")


WORDS = (
    "want 'auto', 'mean', 'chunk', a path such as 1, 'mu' or 'latent_dist.mean', a pair of paths "
    "'MEAN,LOGVAR', 'module:NAME', or a callable"
)
"""What a reading can be said in."""


def parse_reading(read: object, *, level: int | None, spread: Spread | None) -> Reading | None:
    """Turn the words of the table in `PosteriorAdapter` into a Reading; None for "auto".

    Raises:
        TypeError: It is no str, int, pair of those, or callable.
        ValueError: The words are no path.
    """
    if isinstance(read, str) and read == "auto":
        return None
    if callable(read):
        return Reading(function=read, level=level, spread=spread or "log_variance")
    if isinstance(read, str) and read.startswith("module:"):
        if level is not None:
            raise ValueError(f"level={level} with read={read!r}: name that level's own submodule")
        return _parse_modules(read, spread)
    if isinstance(read, int) and not isinstance(read, bool):
        return Reading((read,), level=level)
    if isinstance(read, str):
        words: tuple[object, ...] = tuple(read.split(","))
    elif isinstance(read, tuple):
        words = read
    else:
        words = ()
    if not 1 <= len(words) <= 2 or not all(isinstance(word, str | int) for word in words):
        raise TypeError(f"read={read!r}: {WORDS}")
    paths = [parse_path(str(word)) for word in words]
    if len(paths) == 2:
        named = SPREAD_OF_NAME.get(_plain(paths[1][-1]), "log_variance")
        return Reading(paths[0], paths[1], spread or named, level)
    path = paths[0]
    if path[-1] == "chunk":
        return Reading(
            (*path[:-1], Half.FIRST), (*path[:-1], Half.SECOND), spread or "log_variance", level
        )
    return Reading(path, level=level)


def _parse_modules(read: str, spread: Spread | None) -> Reading:
    names, _, inner_words = read.removeprefix("module:").partition(":")
    modules = tuple(name.strip() for name in names.split(","))
    if not all(modules) or len(modules) > 2 or (inner_words and len(modules) == 2):
        raise ValueError(
            f"read={read!r}: want 'module:NAME', 'module:MEAN,LOGVAR' or 'module:NAME:READ'"
        )
    if len(modules) == 2:
        return Reading((modules[0],), (modules[1],), spread or "log_variance", modules=modules)
    inner = parse_reading(inner_words or "mean", level=None, spread=spread)
    if inner is None or inner.modules:
        raise ValueError(f"read={read!r}: what follows the submodule must be a stated reading")
    second = None if inner.second is None else (modules[0], *inner.second)
    mean = inner.mean if inner.mean != ("mean",) else ()
    return Reading((modules[0], *mean), second, inner.spread, modules=modules)


_STEP = re.compile(r"""\[\s*['"]?([^\]'"]+?)['"]?\s*\]|\.?([^.\[\]()\s]+)(?:\(\))?""")


def parse_path(words: str) -> Path:
    """Split `latent_dist.mean`, `[0].chunk[1]` or `1` into steps; digits become integers."""
    words = words.strip()
    steps: list[Step] = []
    position = 0
    while position < len(words):
        match = _STEP.match(words, position)
        if match is None:
            break
        step = match.group(1) or match.group(2)
        steps.append(int(step) if re.fullmatch(r"-?\d+", step) else step)
        if steps[-2:] in (["chunk", 0], ["chunk", 1]):
            steps[-2:] = [Half.FIRST if steps[-1] == 0 else Half.SECOND]
        position = match.end()
    if not steps or position < len(words):
        raise ValueError(f"{words!r} is no path into a model's output, such as '[1]' or 'mu'")
    return tuple(steps)


def format_path(path: Path) -> str:
    """The path in the words that `parse_path` takes; "output" for the whole output."""
    text = ""
    for step in path:
        if isinstance(step, Half):
            text += f".chunk[{step.value}]"
        else:
            text += f"[{step}]" if isinstance(step, int) else f".{step}"
    return text.strip(" .") or "output"


def follow(output: object, path: Path) -> object:
    """Walk the path from the output.

    Raises:
        PosteriorError: A step does not exist; the message names it and what exists.
    """
    found = output
    for depth, step in enumerate(path):
        try:
            found = _step(found, step)
        except (LookupError, AttributeError, TypeError, NotImplementedError) as error:
            at = format_path(path[:depth])
            raise PosteriorError(
                f"cannot read '{format_path(path)}': {error}. "
                f"The {at if depth else 'model output'} holds {contents(found)}"
            ) from error
    return found


def _step(found: object, step: Step) -> object:
    if isinstance(step, Half):
        if not isinstance(found, Tensor) or found.ndim < 2 or found.shape[1] % 2:
            raise TypeError("chunk needs one tensor with an even number of channels on dim 1")
        return found.chunk(2, dim=1)[step.value]
    if isinstance(found, Tensor):
        if step == "mean":
            return found
        raise LookupError("a tensor has no items to choose from")
    if isinstance(step, int):
        if not isinstance(found, Mapping) or step in found:
            return cast(Any, found)[step]
        # ModelOutput and its like are mappings that also take positions.
        return tuple(found.values())[step]
    if isinstance(found, Mapping) and step in found:
        return found[step]
    value = getattr(found, step)
    return value() if callable(value) and not isinstance(value, Tensor | Distribution) else value


def _take_level(output: object, level: int) -> object:
    items = tuple(output.values()) if isinstance(output, Mapping) else output
    if not isinstance(items, tuple | list):
        raise PosteriorError(
            f"level={level}, but the model output is no list of levels: it holds {contents(output)}"
        )
    if not -len(items) <= level < len(items):
        raise PosteriorError(f"level={level} is out of range: there are {len(items)} levels")
    return items[level]


def _returned(value: object) -> tuple[object, object]:
    """What the user's own function gave: mean, (mean, second), or a distribution."""
    if isinstance(value, tuple | list) and len(value) == 2:
        return value[0], value[1]
    return value, None


def _latent_tensor(value: object, role: str, reading: Reading, output: object) -> Tensor:
    if not isinstance(value, Tensor):
        raise PosteriorError(
            f"reading {reading}: the {role} is a {type(value).__name__}, not a tensor; "
            f"the model output holds {contents(output)}"
        )
    if not value.is_floating_point() or value.ndim < 2:
        raise PosteriorError(
            f"reading {reading}: the {role} must be a floating-point tensor (B, D) or "
            f"(B, C, h, w), got {tuple(value.shape)} {value.dtype}"
        )
    return value


def to_log_variance(second: Tensor, spread: Spread) -> Tensor:
    """Log-variance from whatever the model's second tensor is; same shape.

    Raises:
        PosteriorError: A variance or standard deviation is negative, where values are looked at.
    """
    if spread == "log_variance":
        return second
    if spread == "log_std":
        return 2 * second
    if may_read_back(second) and bool((second < 0).any()):
        raise PosteriorError(
            f"spread={spread!r}, but the second output has negative values; "
            "it may be a log-variance: spread='log_variance'"
        )
    return second.log() if spread == "variance" else 2 * second.log()


# Names that models give to the two tensors, without case and underscores.
MEAN_NAMES = frozenset(
    {"mu", "mean", "loc", "zmu", "zmean", "zloc", "muz", "meanz", "qmu", "qmean"}
)
SPREAD_OF_NAME: dict[str, Spread] = {
    **dict.fromkeys(
        ("logvar", "logvariance", "logcovariance", "zlogvar", "logvarz", "qlogvar"), "log_variance"
    ),
    **dict.fromkeys(("var", "variance", "zvar", "qvar"), "variance"),
    **dict.fromkeys(("std", "stddev", "scale", "zstd", "zscale", "qstd"), "std"),
    **dict.fromkeys(("logstd", "logscale", "zlogstd"), "log_std"),
}


def _plain(step: Step) -> str:
    return str(step).lower().replace("_", "")


def named_parts(names: dict[str, Path]) -> tuple[Path, Path | None, Spread] | None:
    """Mean, second and spread among siblings by their names; None when the names do not decide."""
    plain = {_plain(name): path for name, path in names.items()}
    means = [path for name, path in plain.items() if name in MEAN_NAMES]
    if not means and "logcovariance" in plain and "embedding" in plain:  # pythae's pair
        means = [plain["embedding"]]
    if len(means) != 1:
        return None
    for spread in SPREADS:
        for name, path in plain.items():
            if SPREAD_OF_NAME.get(name) == spread:
                return means[0], path, SPREAD_OF_NAME[name]
    return means[0], None, "log_variance"


def distribution_parts(value: object) -> tuple[str, str | None, Spread] | None:
    """Attribute of the mean, attribute of the spread and its kind; None when no distribution.

    torch.distributions outside the Gaussian family have a mean, but their spread says nothing of a
    Gaussian's log-variance, so it is left out. Others (diffusers) are known by a `sample` method
    beside a `mean` tensor or, when all they have is that, a `mode` method.
    """
    if isinstance(value, Distribution):
        base = value
        while isinstance(base, Independent):
            base = base.base_dist
        gaussian = isinstance(base, Normal | MultivariateNormal | LowRankMultivariateNormal)
        return ("mean", "stddev", "std") if gaussian else ("mean", None, "std")
    if isinstance(value, Tensor | Mapping | tuple | list) or not callable(
        getattr(value, "sample", None)
    ):
        return None
    if isinstance(getattr(value, "mean", None), Tensor):
        attributes = [name for name in SPREAD_ATTRIBUTES if hasattr(value, name)]
        second = attributes[0] if attributes else None
        return "mean", second, SPREAD_OF_NAME[_plain(second)] if second else "std"
    return ("mode", None, "std") if callable(getattr(value, "mode", None)) else None


SPREAD_ATTRIBUTES = ("logvar", "log_var", "log_variance", "std", "stddev", "var", "variance")


def outline(output: object, path: Path = ()) -> list[tuple[Path, object]]:
    """Every tensor and every distribution in the output, with the path to it, in order."""
    if isinstance(output, Tensor) or distribution_parts(output) is not None:
        return [(path, output)]
    if isinstance(output, Mapping):
        items = list(output.items())
    elif isinstance(output, tuple) and hasattr(output, "_fields"):
        items = list(zip(output._fields, output, strict=True))
    elif isinstance(output, tuple | list):
        items = list(enumerate(output))
    elif is_dataclass(output):
        items = [(field.name, getattr(output, field.name)) for field in fields(output)]
    elif len(path) < 3 and hasattr(output, "__dict__") and not isinstance(output, torch.nn.Module):
        items = [(name, value) for name, value in vars(output).items() if name[:1] != "_"]
    else:
        items = []
    return [leaf for step, value in items for leaf in outline(value, (*path, step))]


def contents(output: object) -> str:
    """What the output holds, for messages: path, shape and dtype of every tensor."""
    return (
        ", ".join(
            f"'{format_path(path)}' {tuple(leaf.shape)} {leaf.dtype}"
            if isinstance(leaf, Tensor)
            else f"'{format_path(path)}' {type(leaf).__name__}"
            for path, leaf in outline(output)
        )
        or f"no tensor ({type(output).__name__})"
    )
