"""The two metrics that hold one factor fixed and ask which: FactorVAE's and beta-VAE's."""

from dataclasses import asdict, dataclass
from typing import NamedTuple

import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from captum_vae.checks import check_choice, whole_number
from captum_vae.metrics.disentanglement.score import DisentanglementScore, checked
from captum_vae.posterior.usage import ACTIVE_KL, PRUNING_STD, is_active

_ELEMENTS = 1 << 22
"""Codes gathered at once, which bounds the memory of many votes."""


@dataclass(frozen=True)
class VoteProtocol:
    """How many votes there are, and how many samples each.

    Attributes:
        samples: Number of images with the same factor value per vote (FactorVAE), or of pairs
            (beta-VAE).
        training_votes: Number of votes that fit the classifier.
        evaluation_votes: Number of fresh votes that give the score.

    Raises:
        TypeError: A number is no whole number.
        ValueError: A number is below 2 (samples) or 1 (votes).
    """

    samples: int
    training_votes: int
    evaluation_votes: int

    def __post_init__(self) -> None:
        """Check the numbers."""
        whole_number("samples", self.samples, least=2)
        whole_number("training_votes", self.training_votes, least=1)
        whole_number("evaluation_votes", self.evaluation_votes, least=1)


VOTE_PROTOCOLS = {
    "paper": VoteProtocol(100, 800, 800),
    "publish": VoteProtocol(100, 800, 5_000),
    "dlib": VoteProtocol(64, 10_000, 5_000),
    "replication_b": VoteProtocol(100, 800, 200),
}
"""``paper``: Kim and Mnih 2018, with as many fresh votes; ``publish``: more of those, for a smaller
error; ``dlib``: disentanglement_lib (Locatello et al. 2019); ``replication_b``: 200 fresh votes, as
in table 1 of the second replication of Liu et al. 2020."""


class Votes(NamedTuple):
    """Draws behind V votes.

    Attributes:
        factor: (V,) numbers of the factor held fixed in each vote.
        rows: (V, L) rows of the codes that share one value of it.
    """

    factor: Tensor
    rows: Tensor


def used_dimensions(
    codes: Tensor,
    *,
    kl: Tensor | None = None,
    std_threshold: float = PRUNING_STD,
    kl_threshold: float = ACTIVE_KL,
) -> Tensor:
    """Which latent dimensions take part in the vote, (D,) bool; the others are pruned.

    As published, a dimension is pruned by a spread of its own threshold, which is not the rule for
    active dimensions (:mod:`captum_vae.posterior.usage`); with ``kl`` it is that rule's KL.

    Args:
        codes: (N, D) posterior means; std (ddof 1) below ``std_threshold`` prunes a dimension.
        kl: (D,) mean KL to the prior in nats; where given, it decides instead of the spread.
        std_threshold: Standard deviation below which a dimension is pruned; 0.05 as published.
        kl_threshold: Nats that the KL of a dimension must exceed.

    Raises:
        TypeError: ``kl`` is no tensor of floats.
        ValueError: ``kl`` does not have D entries.
    """
    if kl is None:
        return codes.std(0) >= std_threshold
    if not isinstance(kl, Tensor) or not kl.is_floating_point():
        kind = kl.dtype if isinstance(kl, Tensor) else f"a {type(kl).__name__}"
        raise TypeError(f"kl is {kind}; wanted a tensor of floats")
    if kl.shape != codes.shape[1:]:
        raise ValueError(f"kl has shape {tuple(kl.shape)}; wanted ({codes.shape[1]},)")
    return is_active(kl.detach().to(codes.device), kl_threshold=kl_threshold)


def factor_vae_score(
    codes: Tensor,
    factors: Tensor,
    *,
    protocol: str | VoteProtocol = "paper",
    kl: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> DisentanglementScore:
    """FactorVAE metric (Kim and Mnih 2018, section 4 and appendix B).

    A vote holds one random factor at one of its values, draws L codes, and names the dimension
    whose variance is smallest relative to its variance over all codes. A dimension predicts the
    factor for which it was named most often in training votes (the first of several; the first of
    all if never named, as in disentanglement_lib). The score is the accuracy on fresh votes.

    Args:
        codes: (N, D) posterior means, of 10,000 random images or more.
        factors: (N, F) integer classes.
        protocol: A name in ``VOTE_PROTOCOLS`` or a protocol of one's own.
        kl: (D,) mean KL in nats, to prune by KL instead of spread, as :func:`used_dimensions`
            does.
        generator: Source of randomness, on the CPU; None takes torch's global one.

    Returns:
        The score; 0 with a reason if no dimension is used. Details: training_accuracy,
        evaluation_accuracy, used_dimensions, predicted_factor per dimension, the protocol.

    Raises:
        TypeError: The codes are no floats or the factors no integers.
        ValueError: Shapes do not fit, a code is not finite, a factor has only one value,
            or an unknown protocol.
    """
    codes, factors = checked(codes, factors)
    counts = _protocol(protocol)
    used = used_dimensions(codes, kl=kl) & (codes.std(0) > 0)
    details = {"used_dimensions": used.nonzero().flatten().tolist(), **asdict(counts)}
    if not used.any():
        accuracies = {"training_accuracy": 0.0, "evaluation_accuracy": 0.0}
        return DisentanglementScore(
            "factor_vae", 0.0, "no latent dimension is used", {**accuracies, **details}
        )
    training = draw_votes(factors, counts.training_votes, counts.samples, generator)
    evaluation = draw_votes(factors, counts.evaluation_votes, counts.samples, generator)
    tally = torch.zeros((codes.shape[1], factors.shape[1]), dtype=torch.int64)
    named = steadiest_dimensions(codes, training.rows, used)
    tally.index_put_((named, training.factor), torch.ones_like(named), accumulate=True)
    predicted = tally.argmax(1)
    training_accuracy = _share(predicted[named] == training.factor)
    named = steadiest_dimensions(codes, evaluation.rows, used)
    evaluation_accuracy = _share(predicted[named] == evaluation.factor)
    return DisentanglementScore(
        "factor_vae",
        evaluation_accuracy,
        details={
            "training_accuracy": training_accuracy,
            "evaluation_accuracy": evaluation_accuracy,
            "predicted_factor": predicted.tolist(),
            **details,
        },
    )


def beta_vae_score(
    codes: Tensor,
    factors: Tensor,
    *,
    protocol: str | VoteProtocol = "paper",
    generator: torch.Generator | None = None,
) -> DisentanglementScore:
    """The beta-VAE metric (Higgins et al. 2017, section 3).

    A vote draws L pairs of codes, each pair sharing its value of one factor; a logistic regression
    tells the factor from the mean absolute difference over the pairs. The score is its accuracy on
    fresh votes.

    Args:
        codes: (N, D) posterior means.
        factors: (N, F) integer classes.
        protocol: A name in ``VOTE_PROTOCOLS`` or a protocol of one's own, whose ``samples`` are
            pairs.
        generator: Source of randomness, on the CPU; None takes torch's global one.

    Returns:
        The score. Details: training_accuracy, evaluation_accuracy, the protocol.

    Raises:
        TypeError: The codes are no floats or the factors no integers.
        ValueError: Shapes do not fit, a code is not finite, a factor has only one value,
            or an unknown protocol.
    """
    codes, factors = checked(codes, factors)
    counts = _protocol(protocol)

    def draw(votes: int) -> tuple[Tensor, Tensor]:
        factor = torch.randint(factors.shape[1], (votes,), generator=generator)
        pairs = draw_rows(factors, factor.repeat_interleave(counts.samples), 2, generator)
        features = [
            (codes[first] - codes[second]).abs().mean(1)
            for first, second in _chunks(pairs.view(votes, counts.samples, 2), codes.shape[1])
        ]
        return torch.cat(features), factor

    features, factor = draw(counts.training_votes)
    classifier = LogisticRegression(max_iter=1000).fit(features.numpy(), factor.numpy())
    training_accuracy = float(classifier.score(features.numpy(), factor.numpy()))
    features, factor = draw(counts.evaluation_votes)
    evaluation_accuracy = float(classifier.score(features.numpy(), factor.numpy()))
    return DisentanglementScore(
        "beta_vae",
        evaluation_accuracy,
        details={
            "training_accuracy": training_accuracy,
            "evaluation_accuracy": evaluation_accuracy,
            **asdict(counts),
        },
    )


def draw_votes(
    factors: Tensor, votes: int, samples: int, generator: torch.Generator | None = None
) -> Votes:
    """Draw the factor held fixed in each vote, uniformly, and the rows that share its value."""
    factor = torch.randint(factors.shape[1], (votes,), generator=generator)
    return Votes(factor, draw_rows(factors, factor, samples, generator))


def draw_rows(
    factors: Tensor, factor: Tensor, samples: int, generator: torch.Generator | None = None
) -> Tensor:
    """Draw rows that agree on one factor.

    Args:
        factors: (N, F) int64 classes.
        factor: (V,) numbers of the factor that the rows of each draw agree on.
        samples: The number L of rows in a draw.
        generator: Source of randomness, on the CPU.

    Returns:
        (V, L) rows: the value is uniform over those that occur, the rows uniform over those with
        the value, with replacement.
    """
    value_draws = torch.rand((len(factor), 1), generator=generator, dtype=torch.float64)
    row_draws = torch.rand((len(factor), samples), generator=generator, dtype=torch.float64)
    rows = torch.empty((len(factor), samples), dtype=torch.int64)
    for column in range(factors.shape[1]):
        chosen = factor == column
        order = factors[:, column].argsort(stable=True)
        count = torch.unique_consecutive(factors[order, column], return_counts=True)[1]
        value = (value_draws[chosen] * len(count)).long()
        first = (count.cumsum(0) - count)[value]
        rows[chosen] = order[first + (row_draws[chosen] * count[value]).long()]
    return rows


def steadiest_dimensions(codes: Tensor, rows: Tensor, used: Tensor) -> Tensor:
    """The dimension that each vote names.

    Args:
        codes: (N, D) float64; variances have ddof 1.
        rows: (V, L) rows of each vote.
        used: (D,) bool of the dimensions that may be named.

    Returns:
        (V,) argmin over used dimensions of variance within the vote / variance of all codes.
    """
    numbers = used.nonzero().flatten()
    scaled = codes[:, numbers] / codes[:, numbers].std(0)
    named = [scaled[part].var(1).argmin(1) for (part,) in _chunks(rows[..., None], len(numbers))]
    return numbers[torch.cat(named)]


def _chunks(rows: Tensor, width: int) -> list[tuple[Tensor, ...]]:
    """(V, L, P) rows in parts whose codes fit in memory, each as P tensors (v, L)."""
    step = max(1, _ELEMENTS // (rows.shape[1] * width))
    return [rows[start : start + step].unbind(-1) for start in range(0, len(rows), step)]


def _protocol(protocol: str | VoteProtocol) -> VoteProtocol:
    if isinstance(protocol, VoteProtocol):
        return protocol
    check_choice("protocol", protocol, VOTE_PROTOCOLS)
    return VOTE_PROTOCOLS[protocol]


def _share(hits: Tensor) -> float:
    return float(hits.double().mean())
