"""The scorers of a benchmark and what is asked of them, as a user passes them, checked once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from captum_vae.localization.model_pass import device_of
from captum_vae.localization.protocol import Protocol
from captum_vae.localization.scorer import AnomalyScorer, Scorer
from captum_vae.metrics.localization.pixel_counts import Units

Scorers = Mapping[str, AnomalyScorer | tuple[AnomalyScorer, Protocol]]
"""Scorers by their names in the table, some perhaps with a protocol of their own."""


@dataclass(frozen=True)
class Entry:
    """A scorer under a protocol.

    Attributes:
        name: Its name in the table.
        scorer: The scorer.
        protocol: How its maps are compared with masks.
    """

    name: str
    scorer: AnomalyScorer
    protocol: Protocol


def entries_of(scorers: Scorers, protocol: Protocol | None) -> list[Entry]:
    """The scorers with their names and protocols.

    Args:
        scorers: What was passed to ``benchmark``.
        protocol: The protocol of those that have none of their own.

    Raises:
        TypeError: Something is no mapping, no name, no scorer or no protocol.
        ValueError: There is none.
    """
    if not isinstance(scorers, Mapping):
        raise TypeError(
            f"scorers is a {type(scorers).__name__}; wanted a mapping of names to scorers, as "
            "{'reconstruction error': ReconstructionError(vae)}"
        )
    if not scorers:
        raise ValueError("scorers is empty; wanted at least one, by its name in the table")
    if protocol is not None and not isinstance(protocol, Protocol):
        raise TypeError(f"protocol is {protocol!r}; wanted a captum_vae.localization.Protocol")
    return [_entry(name, value, protocol or Protocol()) for name, value in scorers.items()]


def _entry(name: object, value: object, protocol: Protocol) -> Entry:
    if not isinstance(name, str) or not name.strip():
        raise TypeError(f"scorers has the name {name!r}; wanted words, for the table")
    if isinstance(value, tuple):
        if len(value) != 2 or not isinstance(value[1], Protocol):
            raise TypeError(f"scorers[{name!r}] is a tuple; wanted (scorer, Protocol)")
        value, protocol = value
    if isinstance(value, type):
        raise TypeError(
            f"scorers[{name!r}] is the class {value.__name__}; wanted a scorer made by it"
        )
    if not isinstance(value, AnomalyScorer):
        raise TypeError(
            f"scorers[{name!r}] is a {type(value).__name__}; wanted a scorer with fit(normal) and "
            "score(images)"
        )
    return Entry(name, value, protocol)


def check_mode(entry: Entry) -> None:
    """Refuse a scorer of a model whose maps would depend on batch-mates or on chance.

    Raises:
        ValueError: A layer of the model is in training mode where that matters.
    """
    model = getattr(entry.scorer, "model", None)
    for module in model.modules() if isinstance(model, nn.Module) else ():
        if module.training and isinstance(module, (_BatchNorm, _DropoutNd)):
            raise ValueError(
                f"the model of scorers[{entry.name!r}] is in training mode, so that its "
                f"{type(module).__name__} makes maps depend on the batch; call model.eval() first"
            )


def pairs_of(against: object, entries: Sequence[Entry], units: Units) -> list[tuple[str, str]]:
    """The pairs of names that ``against`` asks for.

    Args:
        against: What was passed: a name, or a list of names and pairs.
        entries: The scorers.
        units: What the bootstrap resamples.

    Raises:
        TypeError: Something is no name.
        ValueError: No scorer has that name, or two cannot be compared.
    """
    names = [entry.name for entry in entries]
    wanted = [against] if isinstance(against, str) else against
    if not isinstance(wanted, Sequence):
        raise TypeError(f"against is {against!r}; wanted a scorer's name, or a list of names")
    if wanted and units == "none":
        raise ValueError("against needs counts per image; choose units='images' or 'groups'")
    pairs: list[tuple[str, str]] = []
    for item in wanted:
        if isinstance(item, str):
            (first,) = known_names("against", [item], names)
            pairs += [(first, name) for name in names if name != first]
        elif isinstance(item, (tuple, list)) and len(item) == 2:
            first, second = known_names("against", item, names)
            if first == second:
                raise ValueError(f"against compares {first!r} with itself")
            pairs.append((first, second))
        else:
            raise TypeError(f"against holds {item!r}; wanted a scorer's name, or a pair of names")
    protocols = {entry.name: entry.protocol for entry in entries}
    for first, second in pairs:
        one, other = protocols[first], protocols[second]
        if (one.frames, one.size) != (other.frames, other.size):
            raise ValueError(
                f"against compares {first!r} with {second!r}, whose protocols count other pixels "
                f"({one.frames}, size {one.size}; {other.frames}, size {other.size}); name pairs "
                "under the same frames and size"
            )
    return list(dict.fromkeys(pairs))


def known_names(argument: str, wanted: object, names: Sequence[str]) -> list[str]:
    """The names that an argument gives, all of them names of scorers.

    Args:
        argument: The argument, for messages.
        wanted: What was passed: a name, or several.
        names: The names of the scorers.

    Raises:
        TypeError: Something is no name.
        ValueError: No scorer has that name.
    """
    wanted = [wanted] if isinstance(wanted, str) else wanted
    if not isinstance(wanted, Sequence) or not all(isinstance(name, str) for name in wanted):
        raise TypeError(f"{argument} is {wanted!r}; wanted names of scorers")
    for name in wanted:
        if name not in names:
            raise ValueError(f"{argument} names {name!r}, which is no scorer: {', '.join(names)}")
    return list(wanted)


def common_device(
    device: torch.device | str | None, entries: Sequence[Entry]
) -> torch.device | None:
    """The device as asked for, or that of the scorers' models.

    Args:
        device: What was passed; None takes that of the models, and None where there is no model.
        entries: The scorers.

    Raises:
        ValueError: There is no such device, or the models lie on several.
    """
    if device is not None:
        try:
            return torch.device(device)
        except (RuntimeError, TypeError) as error:
            raise ValueError(f"device is {device!r}; wanted one such as cpu or cuda:0") from error
    scorers = [entry.scorer for entry in entries]
    devices = {device_of(s.model): s for s in scorers if isinstance(s, Scorer)}
    devices.pop(None, None)
    if len(devices) > 1:
        found = " and ".join(map(str, devices))
        raise ValueError(f"the scorers' models lie on {found}; bring them to one device")
    return next(iter(devices), None)
