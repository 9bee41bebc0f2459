"""Metrics of mutual information between single dimensions and factors: MIG and modularity."""

import torch
from torch import Tensor

from captum_vae.metrics.disentanglement.score import DisentanglementScore, checked, undefined


def mig_score(codes: Tensor, factors: Tensor, *, bins: int = 20) -> DisentanglementScore:
    """Mutual information gap (Chen et al. 2018, section 4), codes binned.

    For each factor, the gap between the two dimensions that know most about it, relative to the
    factor's entropy; the score is the mean over factors. A single dimension has no rival: the gap
    is then its whole information.

    Args:
        codes: (N, D) posterior means.
        factors: (N, F) integer classes.
        bins: equal-width bins per dimension, from its smallest to its largest code; 20 as in
            disentanglement_lib.

    Returns:
        The score. Details: gaps per factor, mutual_information (D, F) in nats, bins.

    Raises:
        TypeError: as :func:`~captum_vae.metrics.disentanglement.score.checked`.
        ValueError: likewise, or ``bins`` is below 2.
    """
    codes, factors = checked(codes, factors)
    information = mutual_information(binned(codes, bins), factors)
    ranked = information.sort(dim=0, descending=True).values
    runner_up = ranked[1] if len(ranked) > 1 else torch.zeros_like(ranked[0])
    entropy = mutual_information(factors, factors).diagonal()
    gaps = (ranked[0] - runner_up) / entropy
    return DisentanglementScore(
        "mig",
        float(gaps.mean()),
        details={
            "gaps": gaps.tolist(),
            "mutual_information": information.tolist(),
            "bins": bins,
        },
    )


def modularity_score(codes: Tensor, factors: Tensor, *, bins: int = 20) -> DisentanglementScore:
    """Modularity (Ridgeway and Mozer 2018, section 3), codes binned.

    A dimension is modular if it knows about one factor only: 1 minus the squared information about
    the others, relative to F - 1 times that about its best. The score is the mean over dimensions;
    one that knows nothing at all counts 0, as in disentanglement_lib.

    Args:
        codes: (N, D) posterior means.
        factors: (N, F) integer classes.
        bins: equal-width bins per dimension.

    Returns:
        The score; NaN for a single factor, or if no dimension knows anything. Details: modularity
        per dimension, bins.

    Raises:
        TypeError: as :func:`~captum_vae.metrics.disentanglement.score.checked`.
        ValueError: likewise, or ``bins`` is below 2.
    """
    codes, factors = checked(codes, factors)
    squared = mutual_information(binned(codes, bins), factors).square()
    best = squared.amax(1)
    if factors.shape[1] == 1:
        return undefined("modularity", "there is a single factor", bins=bins)
    if not best.any():
        return undefined("modularity", "no dimension has information on any factor", bins=bins)
    others = (squared.sum(1) - best) / (best * (factors.shape[1] - 1))
    per_dimension = torch.where(best > 0, 1 - others, 0.0)
    return DisentanglementScore(
        "modularity",
        float(per_dimension.mean()),
        details={"per_dimension": per_dimension.tolist(), "bins": bins},
    )


def binned(codes: Tensor, bins: int) -> Tensor:
    """Equal-width bins of each column: (N, D) floats to (N, D) int64 in 0..bins - 1."""
    if bins < 2:
        raise ValueError(f"bins is {bins}; wanted 2 or more")
    low, high = codes.amin(0), codes.amax(0)
    columns = []
    for dimension in range(codes.shape[1]):
        inner = torch.linspace(
            float(low[dimension]), float(high[dimension]), bins + 1, dtype=codes.dtype
        )[1:-1]
        columns.append(torch.bucketize(codes[:, dimension].contiguous(), inner, right=True))
    return torch.stack(columns, dim=1)


def mutual_information(first: Tensor, second: Tensor) -> Tensor:
    """Mutual information of every column of one table with every column of another.

    Args:
        first: (N, D) integers.
        second: (N, F) integers.

    Returns:
        (D, F) float64, nats.
    """
    left = [torch.unique(column, return_inverse=True)[1] for column in first.unbind(1)]
    right = [torch.unique(column, return_inverse=True)[1] for column in second.unbind(1)]
    rows = [[_information(a, b) for b in right] for a in left]
    return torch.tensor(rows, dtype=torch.float64)


def _information(a: Tensor, b: Tensor) -> float:
    size_a, size_b = int(a.max()) + 1, int(b.max()) + 1
    counts = torch.bincount(a * size_b + b, minlength=size_a * size_b)
    joint = counts.view(size_a, size_b).double() / len(a)
    independent = joint.sum(1, keepdim=True) * joint.sum(0)
    # A sum of rounding errors about 0 may come out negative.
    return max(0.0, float(torch.xlogy(joint, joint / independent).nansum()))
