"""Finding the posterior in a model's output by evidence, or refusing with the candidates listed.

The evidence, strongest first: distribution objects; the names a model gives its outputs; how it
draws z; the names of the layers that made the outputs; what it decodes (see
`captum_vae.posterior.evidence`). All of it holds for every batch: no value is ever looked at. That
of two outputs the mean is usually the first is no evidence.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from captum_vae.posterior.calling import FORWARD, ModelArgumentsError
from captum_vae.posterior.evidence import (
    Part,
    Sampling,
    decoded,
    dimensions_axis,
    head_of,
    samplings,
    spread_by_name,
    spread_of_scale,
)
from captum_vae.posterior.probe import Probe
from captum_vae.posterior.reading import (
    SPREADS,
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
from captum_vae.posterior.refusal import AmbiguousPosteriorError, ambiguous

Leaves = Sequence[tuple[Path, object]]


@dataclass(frozen=True)
class Search:
    """What detection works on.

    Attributes:
        probe: Gives each call's output and how it was computed.
        twin: Makes the same probe of the model in train mode; gives None where there is none.
        routes: The calls to consider, in order.
        evidence: Name of the call that returns everything the model computes, or None.
        level: The level wanted of a hierarchical model.
        spread: What the second output is, when the user says so.
        one_tensor_is_mean: Whether a call that returns one tensor was written to return the mean.
        pools_positions: Whether positions of the latent will be told from its dimensions.
    """

    probe: Probe
    twin: Callable[[], Probe | None]
    routes: Sequence[str]
    evidence: str | None
    level: int | None
    spread: Spread | None
    one_tensor_is_mean: bool
    pools_positions: bool


def detect(search: Search) -> tuple[str, Reading]:
    """The call and the reading that the evidence decides.

    Raises:
        AmbiguousPosteriorError: It does not decide.
        Exception: The model's own, when no call runs.
    """
    outputs: dict[str, object] = {}
    failures: dict[str, Exception] = {}
    for route in search.routes:
        try:
            outputs[route] = search.probe.output(route)
        except Exception as error:  # a call that this model does not support, whatever it raises
            failures[route] = error
            continue
        found = _readings(search, route)
        if search.level is None and len(found) > 1:
            raise ambiguous(
                outputs,
                failures,
                with_call=not search.one_tensor_is_mean,
                remark=f"{len(found)} levels: say which with PosteriorAdapter(model, level=0), on "
                "the command line --posterior_options '{level: 0}'",
            )
        if found:
            reading = _at_level(found, search.level)
            _check_axis(search, route, reading)
            return route, reading
    if len(failures) == len(search.routes):
        told = [e for e in failures.values() if isinstance(e, ModelArgumentsError)]
        raise next(iter([*told, *failures.values()]))
    raise ambiguous(outputs, failures, with_call=not search.one_tensor_is_mean)


def _check_axis(search: Search, route: str, reading: Reading) -> None:
    """Refuse a latent whose dimensions are on its last axis, which would pass for positions."""
    whole = reading.mean[:-1] if isinstance((reading.mean or (0,))[-1], Half) else reading.mean
    tensor = follow(search.probe.output(route), whole)
    if not search.pools_positions or not isinstance(tensor, Tensor) or tensor.ndim < 3:
        return
    stacked = whole != reading.mean and tensor.shape[1] == 2
    axis = dimensions_axis(search.probe.graph, search.probe.node(route, tensor), stacked=stacked)
    if axis == -1:
        raise PosteriorError(
            f"{route} -> {format_path(reading.mean)} of shape {tuple(tensor.shape)} is the "
            "posterior mean, with its latent dimensions on the last axis. Wanted is (B, D) or "
            "(B, D, *positions): give posterior=f with f(output) -> mean or (mean, log_variance) "
            "in that order of axes, or make every element a dimension with "
            "PosteriorAdapter(model, spatial='flatten'), on the command line "
            "--posterior_options '{spatial: flatten}'"
        )


def agree(routes: Sequence[str], reading: Reading, probe: Probe) -> str:
    """The call that a stated reading fits: the first, where all that it fits compute one same mean.

    Raises:
        PosteriorError: It fits none.
        AmbiguousPosteriorError: It fits several that differ.
    """
    means: dict[str, Tensor] = {}
    failures: dict[str, Exception] = {}
    for route in routes:
        try:
            means[route] = reading.latent(probe.output(route))[0]
        except Exception as error:  # the call or the reading does not suit the model
            failures[route] = error
    if not means:
        told = [e for e in failures.values() if isinstance(e, ModelArgumentsError)]
        unread = [e for e in failures.values() if isinstance(e, PosteriorError)]
        if not unread or len(told) == len(failures):
            raise next(iter(failures.values()))
        listed = "; ".join(f"{route}: {error}" for route, error in failures.items())
        raise PosteriorError(f"no call of the model can be read as {reading}. {listed}")
    latent = {route: mean for route, mean in means.items() if not _has_input_size(probe, mean)}
    means = latent or means
    computed = [torch.unique(probe.elements(route, mean)) for route, mean in means.items()]
    if not all(torch.equal(computed[0], other) for other in computed):
        listed = ", ".join(f"{name} {tuple(other.shape)}" for name, other in means.items())
        raise AmbiguousPosteriorError(
            f"reading {reading} fits several calls with different results: {listed}. Say which: "
            f"posterior={' or '.join(repr(name + ':...') for name in means)}"
        )
    return next(iter(means))


def _readings(search: Search, route: str) -> list[Reading]:
    """Each reading that the evidence decides: none when undecided, several for levels."""
    output = search.probe.output(route)
    if search.one_tensor_is_mean and isinstance(output, Tensor):
        return [Reading(())]
    leaves = outline(output)
    distributions = _distributions(search, route, leaves)
    if distributions:
        return distributions
    named = _named(search, route, leaves)
    if named:
        _check_names(search, route, leaves, named)
    return named or _by_computation(search, route, leaves)


def _distributions(search: Search, route: str, leaves: Leaves) -> list[Reading]:
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


def _named(search: Search, route: str, leaves: Leaves) -> list[Reading]:
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


def _check_names(search: Search, route: str, leaves: Leaves, named: Sequence[Reading]) -> None:
    """Refuse names that say something else than how z is drawn."""
    parts = _parts(search.probe, route, leaves)
    drawn = {r.mean: r for r in _by_sampling(search, search.probe, route, parts)}
    for reading in named:
        if reading.second is None:
            continue
        mean, second = format_path(reading.mean), format_path(reading.second)
        own = drawn.get(reading.mean)
        if reading.second in drawn and own is None:
            raise AmbiguousPosteriorError(
                f"{route} calls {mean!r} the mean and {second!r} its spread, but draws z around "
                f"{second!r}: say which is the mean, with posterior='{route}:{second}' or "
                f"posterior='{route}:{mean}'"
            )
        told = own is not None and own.second == reading.second and search.spread is None
        if own is not None and told and own.spread != reading.spread:
            raise AmbiguousPosteriorError(
                f"{route} calls {second!r} what would be the {reading.spread}, but draws z with it "
                f"as the {own.spread}: say which it is with PosteriorAdapter(model, "
                f"spread={own.spread!r}), on the command line "
                f"--posterior_options '{{spread: {own.spread}}}'"
            )


def _by_computation(search: Search, route: str, leaves: Leaves) -> list[Reading]:
    """Readings of tensors that have no telling names, by how the model computes them."""
    parts = _parts(search.probe, route, leaves)
    readings = _by_sampling(search, search.probe, route, parts)
    if not readings and not _samples(search, search.probe, route):
        readings = _by_sampling_of_twin(search, route, parts)
    readings = _latent_first(search.probe, route, parts, readings)
    by_name = _by_layers(search, route, parts)
    named_seconds = {reading.mean: reading for reading in by_name}
    groups = {reading.mean[:-1] for reading in readings}
    readings = [
        reading if reading.second else named_seconds.get(reading.mean, reading)
        for reading in readings
    ]
    readings += [reading for reading in by_name if reading.mean[:-1] not in groups]
    if not readings and not _samples(search, search.probe, route):
        readings = _by_decoding(search, route, parts)
    order = [path for path, _ in leaves]
    readings.sort(key=lambda reading: order.index(_whole(reading.mean)))
    return [_completed(search, reading, parts) for reading in readings]


def _latent_first(
    probe: Probe, route: str, parts: Sequence[Part], readings: list[Reading]
) -> list[Reading]:
    """The readings without those of the reconstruction, which a model may sample as well."""
    latent = {part.path for part in _with_halves(parts) if _may_be_latent_part(probe, route, part)}
    return [reading for reading in readings if reading.mean in latent] or readings


def _samples(search: Search, probe: Probe, route: str) -> list[Sampling]:
    """Where this call, and the one that computes everything, draw z."""
    nodes = list(probe.trace(route))
    if search.evidence is not None and search.evidence != route:
        try:
            nodes += probe.trace(search.evidence)
        except Exception:  # a forward that these inputs cannot run gives no evidence
            pass
    return samplings(dict.fromkeys(nodes))


def _by_sampling(search: Search, probe: Probe, route: str, parts: Sequence[Part]) -> list[Reading]:
    """The parts to which scaled noise is added are means; what makes the scale is their spread."""
    readings: dict[bytes, Reading] = {}
    candidates = _with_halves(parts)
    for sampling in _samples(search, probe, route):
        elements = probe.graph.elements(sampling.mean)
        mean = next((part for part in candidates if part.holds(elements)), None)
        if mean is None or (mean.key in readings and readings[mean.key].second):
            continue
        found: list[tuple[Spread, Part]] = []
        if sampling.scale is not None:
            scale = probe.graph.elements(sampling.scale)
            for part in candidates:
                alike = part.shape == mean.shape
                kind = spread_of_scale(probe.graph, part, scale) if alike else None
                if kind is not None:
                    found.append((kind, part))
        if found:
            kind, second = min(found, key=lambda one: SPREADS.index(one[0]))
            readings[mean.key] = Reading(mean.path, second.path, kind)
        else:
            readings.setdefault(mean.key, Reading(mean.path))
    return list(readings.values())


def _by_sampling_of_twin(search: Search, route: str, parts: Sequence[Part]) -> list[Reading]:
    """The same of a model that draws z in train mode only, where its outputs are the same."""
    probe = search.twin()
    if probe is None:
        return []
    try:
        leaves = outline(probe.output(route))
    except Exception:  # such as batch norm on a single image
        return []
    twins = _parts(probe, route, leaves)
    own = [(part.path, part.shape[1:]) for part in parts]
    if [(part.path, part.shape[1:]) for part in twins] != own:
        return []
    return _by_sampling(search, probe, route, twins)


def _by_layers(search: Search, route: str, parts: Sequence[Part]) -> list[Reading]:
    """Pairs of parts whose layers are called mean and spread, such as `fc_mu` and `fc_logvar`."""
    graph = search.probe.graph
    readings = []
    candidates = [
        part for part in _with_halves(parts) if _may_be_latent_part(search.probe, route, part)
    ]
    heads = [(part, head) for part in candidates if (head := head_of(graph, part)) is not None]
    means = [part for part, head in heads if head.role == "mean"]
    seen: set[bytes] = set()
    for mean in means:
        if mean.key in seen:
            continue
        seen.add(mean.key)
        pairs = {
            part.key: (part, head)
            for part, head in heads
            if head.role == "spread" and part.shape == mean.shape and _beside(mean, part)
        }
        alike = {
            part.key
            for part in candidates
            if part.shape == mean.shape
            and _beside(mean, part)
            and not part.node.draws - mean.node.draws
        }
        if len(pairs) == 1 and alike == {mean.key, *pairs}:
            ((second, head),) = pairs.values()
            kind = spread_by_name(graph, second, head)
            readings.append(Reading(mean.path, second.path, kind) if kind else Reading(mean.path))
    return readings


def _beside(mean: Part, second: Part) -> bool:
    """Whether two parts belong to one level: siblings, halves, or alike in sibling lists."""
    one, other = mean.path, second.path
    return one[:-1] == other[:-1] or (len(one) == len(other) == 2 and one[-1] == other[-1])


def _by_decoding(search: Search, route: str, parts: Sequence[Part]) -> list[Reading]:
    """Of two tensors of one shape, or two halves, the one that is decoded without noise."""
    call = search.evidence or route
    try:
        output = search.probe.output(call)
    except Exception:  # a forward that these inputs cannot run gives no evidence
        return []
    reconstructions = [
        search.probe.node(call, leaf)
        for _, leaf in outline(output)
        if isinstance(leaf, Tensor) and _has_input_size(search.probe, leaf)
    ]
    candidates = [part for part in parts if _may_be_latent_part(search.probe, route, part)]
    if len(candidates) == 1:
        candidates = list(candidates[0].halves() or ())
    distinct = list({part.key: part for part in reversed(candidates)}.values())[::-1]
    if not reconstructions or len(distinct) != 2 or distinct[0].shape != distinct[1].shape:
        return []
    answers = decoded(search.probe.graph, reconstructions, distinct)
    if sorted(map(str, answers)) != ["False", "True"]:
        return []
    return [Reading(distinct[answers.index(True)].path)]


def _completed(search: Search, reading: Reading, parts: Sequence[Part]) -> Reading:
    """The reading with the second output as far as it can be told, and a note on what cannot."""
    if search.spread is not None and reading.second is not None:
        return replace(reading, spread=search.spread)
    if reading.second is not None:
        return reading
    candidates = _with_halves(parts)
    mean = next(part for part in candidates if part.path == reading.mean)
    others = {
        part.key: part
        for part in candidates
        if part.shape == mean.shape
        and part.key != mean.key
        and part.path[:-1] == mean.path[:-1]
        and not part.node.draws - mean.node.draws
    }
    if len(others) != 1:
        return replace(reading, note="its log-variance is not among the outputs")
    (other,) = others.values()
    if search.spread is not None:
        return replace(reading, second=other.path, spread=search.spread)
    return replace(
        reading,
        note=f"the model does not show what '{format_path(other.path)}' is; spread= says it",
    )


def _parts(probe: Probe, route: str, leaves: Leaves) -> list[Part]:
    """The floating tensors (B, ...) of an output, the input itself set aside."""
    batches = _batches(probe)
    found = []
    for path, leaf in leaves:
        if not isinstance(leaf, Tensor) or not leaf.is_floating_point() or leaf.ndim < 2:
            continue
        node = probe.node(route, leaf)
        if (batches and len(leaf) != len(batches[0])) or not node.of_input:
            continue
        if not leaf.numel() or all(root.name == "leaf" for root in probe.graph.roots(node)):
            continue
        found.append(Part(path, tuple(leaf.shape), node, probe.graph))
    return found


def _with_halves(parts: Sequence[Part]) -> list[Part]:
    """The parts, and behind them the halves of each."""
    return [*parts, *(half for part in parts for half in part.halves() or ())]


def _whole(path: Path) -> Path:
    return path[:-1] if path and isinstance(path[-1], Half) else path


def _may_be_latent_part(probe: Probe, route: str, part: Part) -> bool:
    inputs = _batches(probe)
    return route != FORWARD or all(math.prod(part.shape) != item.numel() for item in inputs)


def _may_be_latent(probe: Probe, route: str, tensor: Tensor) -> bool:
    """Floating, batched, no input; and not the reconstruction, when from forward."""
    inputs = _batches(probe)
    if not tensor.is_floating_point() or tensor.ndim < 2:
        return False
    if inputs and len(tensor) != len(inputs[0]):
        return False
    if route == FORWARD:
        return not _has_input_size(probe, tensor)
    return not any(tensor is item for item in inputs)


def _has_input_size(probe: Probe, tensor: Tensor) -> bool:
    """As many elements as an input, so a reconstruction, perhaps flattened."""
    return any(tensor.numel() == item.numel() for item in _batches(probe))


def _batches(probe: Probe) -> list[Tensor]:
    return [item for item in probe.inputs if isinstance(item, Tensor) and item.ndim > 0]


def _at_level(readings: Sequence[Reading], level: int | None) -> Reading:
    if level is None:
        return readings[0]
    if not -len(readings) <= level < len(readings):
        raise PosteriorError(f"level={level} is out of range: there are {len(readings)} levels")
    chosen = readings[level]
    note = f"level {level} of {len(readings)}"
    return replace(chosen, note=f"{note}; {chosen.note}" if chosen.note else note)


def first_broken(inputs: Iterable[object]) -> str:
    """What is said of the first input that is not finite; "" where all are."""
    for place, item in enumerate(inputs):
        if isinstance(item, Tensor) and item.ndim and not item.isfinite().all():
            row = int((~item.isfinite()).reshape(len(item), -1).any(1).nonzero()[0])
            return f"input {place} is not finite: NaN or infinite values, first in sample {row}"
    return ""
