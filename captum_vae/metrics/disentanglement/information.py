"""Metrics of mutual information between single dimensions and factors: MIG and modularity."""

import numpy as np
import torch
from scipy.stats import entropy
from sklearn.metrics import mutual_info_score
from torch import Tensor

from captum_vae.checks import whole_number
from captum_vae.metrics.disentanglement.score import DisentanglementScore, checked, undefined


def mig_score(codes: Tensor, factors: Tensor, *, bins: int = 20) -> DisentanglementScore:
    """Mutual information gap (Chen et al. 2018, section 4), codes binned.

    For each factor, the gap between the two dimensions that know most about it, relative to the
    factor's entropy; the score is the mean over factors. A single dimension has no rival: the gap
    is then its whole information.

    Args:
        codes: (N, D) posterior means.
        factors: (N, F) integer classes.
        bins: Number of equal-width bins per dimension, from its smallest to its largest code; 20
            as in disentanglement_lib.

    Returns:
        The score. Details: gaps per factor, mutual_information (D, F) in nats, bins.

    Raises:
        TypeError: The codes are no floats or the factors no integers.
        ValueError: Shapes do not fit, a code is not finite, a factor has only one value,
            or ``bins`` is below 2.
    """
    codes, factors = checked(codes, factors)
    information = mutual_information(binned(codes, bins), factors)
    ranked = information.sort(dim=0, descending=True).values
    runner_up = ranked[1] if len(ranked) > 1 else torch.zeros_like(ranked[0])
    nats = [float(entropy(torch.unique(column, return_counts=True)[1])) for column in factors.T]
    gaps = (ranked[0] - runner_up) / torch.tensor(nats, dtype=torch.float64)
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
        bins: Number of equal-width bins per dimension.

    Returns:
        The score; NaN for a single factor, or if no dimension knows anything. Details: modularity
        per dimension, bins.

    Raises:
        TypeError: The codes are no floats or the factors no integers.
        ValueError: Shapes do not fit, a code is not finite, a factor has only one value,
            or ``bins`` is below 2.
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
    """Equal-width bins of each column.

    Args:
        codes: (N, D) float64.
        bins: How many bins lie between the smallest and the largest code of a column.

    Returns:
        (N, D) int64 bins in 0..bins - 1.

    Raises:
        TypeError: ``bins`` is no whole number.
        ValueError: ``bins`` is below 2.
    """
    bins = whole_number("bins", bins, least=2)
    columns = [
        np.digitize(column, np.histogram_bin_edges(column, bins)[1:-1])
        for column in codes.T.numpy()
    ]
    return torch.from_numpy(np.stack(columns, axis=1))


def mutual_information(first: Tensor, second: Tensor) -> Tensor:
    """Mutual information of every column of one table with every column of another.

    Args:
        first: (N, D) integers.
        second: (N, F) integers.

    Returns:
        (D, F) float64, nats.
    """
    rows = [
        [mutual_info_score(left.numpy(), right.numpy()) for right in second.T] for left in first.T
    ]
    return torch.tensor(rows, dtype=torch.float64)
