"""The error of a posterior that cannot be told: what may be the mean, with the words to pass."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from captum_vae.posterior.reading import (
    Path,
    PosteriorError,
    distribution_parts,
    follow,
    format_path,
    outline,
)


class AmbiguousPosteriorError(PosteriorError):
    """Detection cannot tell where the posterior is.

    Attributes:
        candidates: What may be the mean.
    """

    def __init__(self, message: str, candidates: "Sequence[Candidate]" = ()) -> None:
        """Keeps the candidates beside the message that lists them."""
        super().__init__(message)
        self.candidates = tuple(candidates)


@dataclass(frozen=True)
class Candidate:
    """One tensor that may be the mean, and the words for `posterior` that choose it.

    Attributes:
        call: The call whose output holds the tensor.
        path: Where it is in that output.
        shape: Its shape, the batch first.
        dtype: Its type.
        words: What to pass: the tensor as the mean alone, and with each log-variance it may have.
    """

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


def ambiguous(
    outputs: Mapping[str, object],
    failures: Mapping[str, Exception],
    *,
    with_call: bool,
    remark: str = "",
) -> AmbiguousPosteriorError:
    """The error that lists what may be the mean.

    Args:
        outputs: What each call returned, by the word for the call.
        failures: What each other call raised.
        with_call: Whether the words to pass begin with the call, as in `encode:[0]`.
        remark: A line of its own behind the candidates.
    """
    lines = [f"{call} raised {type(error).__name__}: {error}" for call, error in failures.items()]
    candidates: list[Candidate] = []
    for call, output in outputs.items():
        prefix = f"{call}:" if with_call else ""
        found = _candidates(call, output, prefix)
        candidates += found
        lines += [str(candidate) for candidate in found] or [f"{call} returned no float tensor"]
        pairs = _pairs(found, prefix)
        if pairs:
            lines.append(f"mean and log-variance, whichever is first: {pairs}")
    if remark:
        lines.append(remark)
    lines.append(
        "a submodule's output: posterior='module:NAME'; in Python also a function of the output "
        "that gives the mean"
    )
    listed = "\n  ".join(lines)
    return AmbiguousPosteriorError(
        f"cannot tell which output is the posterior mean. Candidates:\n  {listed}", candidates
    )


def _candidates(route: str, output: object, prefix: str) -> list[Candidate]:
    tensors = []
    for path, leaf in outline(output):
        parts = None if isinstance(leaf, Tensor) else distribution_parts(leaf)
        if parts is not None:
            path = (*path, parts[0])
        try:
            tensor = follow(output, path)
        except PosteriorError:  # a distribution without a closed-form mean
            continue
        if isinstance(tensor, Tensor) and tensor.is_floating_point() and tensor.ndim >= 2:
            tensors.append((path, tensor, parts is None))
    candidates = []
    for path, tensor, is_plain in tensors:
        word = format_path(path) if path else ""
        words = [f"{prefix}{word or 'mean'}"]
        if is_plain and tensor.shape[1] % 2 == 0:
            words.append(f"{prefix}{word + '.' if word else ''}chunk")
        candidates.append(Candidate(route, path, tuple(tensor.shape), tensor.dtype, tuple(words)))
    return candidates


def _pairs(candidates: Sequence[Candidate], prefix: str) -> str:
    """The words that read a mean and a log-variance, in either order, from these outputs."""
    words = [
        f"{format_path(one.path)},{format_path(two.path)}"
        for one in candidates
        for two in candidates
        if one is not two and one.shape == two.shape
    ]
    if len(candidates) == 1 and len(candidates[0].words) > 1:
        chunk = candidates[0].words[1].removeprefix(prefix)
        words = [chunk, f"{chunk}[1],{chunk}[0]"]
    return " or ".join(f"posterior={prefix + word!r}" for word in words[:6])
