"""Finding the posterior in a model's output by evidence, or refusing with the candidates listed.

The evidence, strongest first: distribution objects; the names a model gives its outputs; values
(encode's halves that forward returns, outputs that change with the seed and so are samples,
copies of the input); and last the convention that of two outputs of equal shape the mean is first.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from captum_vae.posterior.calling import FORWARD
from captum_vae.posterior.probe import Probe
from captum_vae.posterior.reading import (
    Half,
    Path,
    PosteriorError,
    Reading,
    Spread,
    distribution_parts,
    follow,
    format_path,
    named_parts,
    outline,
)

Leaf = tuple[Path, Tensor]


class AmbiguousPosteriorError(PosteriorError):
    """Detection cannot tell where the posterior is.

    Attributes:
        candidates: what may be the mean.
    """

    def __init__(self, message: str, candidates: "Sequence[Candidate]" = ()) -> None:
        """Keeps the candidates beside the message that lists them."""
        super().__init__(message)
        self.candidates = tuple(candidates)


@dataclass(frozen=True)
class Candidate:
    """One tensor (or level) that may be the mean, and the `posterior=` words that choose it."""

    call: str
    path: Path
    shape: tuple[int, ...]
    dtype: torch.dtype
    words: tuple[str, ...]

    def __str__(self) -> str:
        """One line of the message."""
        words = " or ".join(f"posterior={word!r}" for word in self.words)
        where = f"{self.call} -> {format_path(self.path)}"
        return f"{where}: {self.shape} {self.dtype}; choose it with {words}"


@dataclass(frozen=True)
class Search:
    """What detection works on.

    Attributes:
        probe: gives each call's output.
        routes: the calls to consider, in order.
        evidence: name of the call that returns everything the model computes, or None.
        level: the level wanted of a hierarchical model.
        spread: what the second output is, when the user says so.
        one_tensor_is_mean: whether a call that returns one tensor was written to return the mean.
    """

    probe: Probe
    routes: Sequence[str]
    evidence: str | None
    level: int | None
    spread: Spread | None
    one_tensor_is_mean: bool


def detect(search: Search) -> tuple[str, Reading]:
    """The call and the reading that the evidence decides.

    Raises:
        AmbiguousPosteriorError: when it does not decide.
        Exception: the model's own, when no call runs.
    """
    failures: dict[str, Exception] = {}
    for route in search.routes:
        try:
            search.probe.output(route)
        except Exception as error:  # a call that this model does not support, whatever it raises
            failures[route] = error
            continue
        found = _readings(search, route)
        if search.level is None and len(found) > 1:
            raise _ambiguous(
                search, failures, f"{len(found)} levels: PosteriorAdapter(model, level=0)"
            )
        if len(found) == 1 and _contradicted(search, route, found[0]):
            raise _ambiguous(search, failures, f"{route} and {search.evidence} disagree")
        if found:
            return route, _at_level(found, search.level)
    if len(failures) == len(search.routes):
        raise next(iter(failures.values()))
    training = search.probe.owner is not None and search.probe.owner.training
    raise _ambiguous(search, failures, "in eval mode more can be told" if training else "")


def agree(routes: Sequence[str], reading: Reading, probe: Probe) -> str:
    """The call that a stated reading fits: the first, where all that it fits give one same mean.

    Raises:
        PosteriorError: when it fits none.
        AmbiguousPosteriorError: when it fits several that differ.
    """
    means: dict[str, Tensor] = {}
    failures: dict[str, Exception] = {}
    for route in routes:
        try:
            means[route] = reading.latent(probe.output(route))[0]
        except Exception as error:  # the call or the reading does not suit the model
            failures[route] = error
    if not means:
        unread = [error for error in failures.values() if isinstance(error, PosteriorError)]
        if not unread:
            raise next(iter(failures.values()))
        listed = "; ".join(f"{route}: {error}" for route, error in failures.items())
        raise PosteriorError(f"no call of the model can be read as {reading}. {listed}")
    latent = {route: mean for route, mean in means.items() if not _has_input_size(probe, mean)}
    means = latent or means
    route, mean = next(iter(means.items()))
    if not all(_same(mean, other) for other in means.values()):
        listed = ", ".join(f"{name} {tuple(other.shape)}" for name, other in means.items())
        raise AmbiguousPosteriorError(
            f"reading {reading} fits several calls with different results: {listed}. Say which: "
            f"posterior={' or '.join(repr(name + ':...') for name in means)}"
        )
    return route


def _readings(search: Search, route: str) -> list[Reading]:
    """Each reading the route's output allows: none when undecided, several for levels."""
    output = search.probe.output(route)
    if search.one_tensor_is_mean and isinstance(output, Tensor):
        return [Reading(())]
    leaves = outline(output)
    distributions = _distributions(search, route, leaves)
    if distributions:
        return distributions
    named = _named(search, route, leaves)
    if named:
        return named
    tensors = [
        (path, leaf)
        for path, leaf in leaves
        if isinstance(leaf, Tensor) and _may_be_latent(search.probe, route, leaf)
    ]
    if len(tensors) == 1 and len(leaves) == 1:
        return _single(search, route, tensors[0])
    if any(isinstance(path[-1], str) for path, _ in tensors):
        return []
    return _positional(search, route, tensors)


def _distributions(
    search: Search, route: str, leaves: Sequence[tuple[Path, object]]
) -> list[Reading]:
    readings = []
    for path, leaf in leaves:
        parts = None if isinstance(leaf, Tensor) else distribution_parts(leaf)
        if parts is None:
            continue
        try:
            mean = follow(leaf, (parts[0],))
        except PosteriorError:  # a distribution without a closed-form mean
            continue
        if isinstance(mean, Tensor) and _may_be_latent(search.probe, route, mean):
            second = None if parts[1] is None else (*path, parts[1])
            readings.append(Reading((*path, parts[0]), second, parts[2]))
    return readings


def _named(search: Search, route: str, leaves: Sequence[tuple[Path, object]]) -> list[Reading]:
    """One reading per group of sibling tensors whose names say mean (and spread)."""
    groups: dict[Path, dict[str, tuple[Path, Tensor]]] = {}
    for path, leaf in leaves:
        if path and isinstance(path[-1], str) and isinstance(leaf, Tensor):
            groups.setdefault(path[:-1], {})[path[-1]] = (path, leaf)
    readings = []
    for siblings in groups.values():
        parts = named_parts({name: path for name, (path, _) in siblings.items()})
        if parts is None:
            continue
        mean = next(tensor for path, tensor in siblings.values() if path == parts[0])
        if _may_be_latent(search.probe, route, mean):
            readings.append(Reading(parts[0], parts[1], search.spread or parts[2]))
    return readings


def _positional(search: Search, route: str, tensors: Sequence[Leaf]) -> list[Reading]:
    """Tensors known only by their place: one group, a list of levels, or lists (means, spreads)."""
    groups: dict[Path, list[Leaf]] = {}
    for path, tensor in tensors:
        groups.setdefault(path[:-1], []).append((path, tensor))
    columns = list(groups.values())
    shapes = [[tensor.shape for _, tensor in column] for column in columns]
    if len(columns) == 2 and shapes[0] == shapes[1]:
        if len(shapes[0]) > 1 and all(len(set(column)) == 1 for column in shapes):
            return []  # [[a, b], [c, d]] of one shape: two levels, or means and spreads of levels
        columns = [list(level) for level in zip(*columns, strict=True)]
    readings = [_pair(search, route, column) for column in columns]
    return [reading for reading in readings if reading] if all(readings) else []


def _pair(search: Search, route: str, tensors: Sequence[Leaf]) -> Reading | None:
    """Mean and spread, in this order, among tensors of one shape, samples and copies set aside."""
    if len({tensor.shape for _, tensor in tensors}) != 1 or len(tensors) < 2:
        return None
    reseeded = search.probe.output(route, reseeded=True)
    steady = [(path, tensor) for path, tensor in tensors if _same(tensor, follow(reseeded, path))]
    if not steady and len(tensors) > 2:
        return None  # all are random, as with dropout in train mode
    kept: list[Leaf] = []
    for path, tensor in steady or tensors:
        if not any(_same(tensor, other) for _, other in kept):
            kept.append((path, tensor))
    if len(kept) == 1:
        return Reading(kept[0][0], note="the others are samples or copies of it")
    if len(kept) > 2:
        return None
    (mean, _), (second, values) = kept
    if search.spread is not None:
        return Reading(mean, second, search.spread)
    if bool((values > 0).all()):
        return Reading(
            mean,
            note=f"'{format_path(second)}' is positive everywhere, it may be a standard deviation; "
            "spread= says what it is",
        )
    return Reading(mean, second, "log_variance")


def _single(search: Search, route: str, leaf: Leaf) -> list[Reading]:
    """One tensor: [mean | log-variance], the mean, or neither, as the model's forward proves."""
    path, whole = leaf
    evidence = search.evidence
    if evidence is None or evidence == route:
        return []
    try:
        output = search.probe.output(evidence)
    except Exception:  # a forward that these inputs cannot run gives no evidence
        return []
    returned = [other for _, other in outline(output) if isinstance(other, Tensor)]

    def is_returned(tensor: Tensor) -> bool:
        return any(_same(tensor, other) for other in returned)

    if whole.shape[1] % 2 == 0:
        first, second = whole.chunk(2, dim=1)
        if is_returned(first) and not _same(first, second):
            mean, spread = (*path, Half.FIRST), (*path, Half.SECOND)
            if is_returned(second):
                return [Reading(mean, spread, search.spread or "log_variance")]
            return [Reading(mean, note=f"{evidence} returns it; the second half it does not")]
    steady = _same(whole, follow(search.probe.output(route, reseeded=True), path))
    if is_returned(whole) and steady and not bool((whole == 0).all()):
        return [Reading(path, note=f"{evidence} returns it whole")]
    return []


def _contradicted(search: Search, route: str, reading: Reading) -> bool:
    """Whether the model's forward, decidable on its own, gives another mean than this route.

    Asked only where the order of the outputs is all that the reading rests on.
    """
    evidence = search.evidence
    by_place = reading.mean and all(isinstance(step, int) for step in reading.mean)
    if not by_place or evidence is None or evidence == route or evidence not in search.routes:
        return False
    try:
        output = search.probe.output(evidence)
    except Exception:  # a forward that these inputs cannot run contradicts nothing
        return False
    others = _readings(search, evidence)
    if len(others) != 1:
        return False
    mean = reading.latent(search.probe.output(route))[0]
    return not _same(mean, others[0].latent(output)[0])


def _may_be_latent(probe: Probe, route: str, tensor: Tensor) -> bool:
    """Floating, batched, no copy of an input; and not the reconstruction, when from forward."""
    inputs = _batches(probe)
    if not tensor.is_floating_point() or tensor.ndim < 2:
        return False
    if inputs and len(tensor) != len(inputs[0]):
        return False
    if route == FORWARD:
        return not _has_input_size(probe, tensor)
    return not any(_same(tensor, item) for item in inputs)


def _has_input_size(probe: Probe, tensor: Tensor) -> bool:
    """As many elements as an input, so a reconstruction, perhaps flattened."""
    return any(tensor.numel() == item.numel() for item in _batches(probe))


def _batches(probe: Probe) -> list[Tensor]:
    return [item for item in probe.inputs if isinstance(item, Tensor) and item.ndim > 0]


def _same(one: Tensor, other: object) -> bool:
    """Equal values, trailing axes of size one aside."""
    if not isinstance(other, Tensor) or one.ndim < 1 or other.ndim < 1:
        return False
    if len(one) != len(other) or one.numel() != other.numel() or one.device != other.device:
        return False
    if one.shape[1:2] != other.shape[1:2] or one.dtype != other.dtype:
        return False
    return torch.equal(one.flatten(), other.flatten())


def _at_level(readings: Sequence[Reading], level: int | None) -> Reading:
    if level is None:
        return readings[0]
    if not -len(readings) <= level < len(readings):
        raise PosteriorError(f"level={level} is out of range: there are {len(readings)} levels")
    chosen = readings[level]
    note = f"level {level} of {len(readings)}"
    return replace(chosen, note=f"{note}; {chosen.note}" if chosen.note else note)


def _ambiguous(
    search: Search, failures: dict[str, Exception], remark: str
) -> AmbiguousPosteriorError:
    lines = []
    candidates: list[Candidate] = []
    prefix = "" if search.one_tensor_is_mean else "{}:"
    for route in search.routes:
        if route in failures:
            failure = failures[route]
            lines.append(f"{route} raised {type(failure).__name__}: {failure}")
        if not search.probe.has_run(route):
            continue
        found = _candidates(route, search.probe.output(route), prefix.format(route))
        candidates += found
        lines += [str(candidate) for candidate in found] or [f"{route} returned no float tensor"]
    if remark:
        lines.append(remark)
    lines.append("a submodule's output: posterior='module:NAME'; or posterior=f, f(output) -> mean")
    listed = "\n  ".join(lines)
    return AmbiguousPosteriorError(
        f"cannot tell which output is the posterior mean. Candidates:\n  {listed}", candidates
    )


def _candidates(route: str, output: object, prefix: str) -> list[Candidate]:
    candidates = []
    for path, leaf in outline(output):
        parts = None if isinstance(leaf, Tensor) else distribution_parts(leaf)
        if parts is not None:
            path = (*path, parts[0])
        try:
            tensor = follow(output, path)
        except PosteriorError:  # a distribution without a closed-form mean
            continue
        if not isinstance(tensor, Tensor) or not tensor.is_floating_point() or tensor.ndim < 2:
            continue
        word = format_path(path) if path else ""
        words = [f"{prefix}{word or 'mean'}"]
        if parts is None and tensor.shape[1] % 2 == 0:
            words.append(f"{prefix}{word + '.' if word else ''}chunk")
        candidates.append(Candidate(route, path, tuple(tensor.shape), tensor.dtype, tuple(words)))
    return candidates
