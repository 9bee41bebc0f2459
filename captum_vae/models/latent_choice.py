"""How many latent dimensions a linear VAE needs, from what it says of images left out."""

from __future__ import annotations

import torch
from torch import Tensor

FOLDS = 5


def held_out_latent_dim(gram: Tensor, width: int) -> int:
    r"""The number of principal components under which left-out vectors are likeliest.

    The vectors have mean zero. Each fold of consecutive ones is left out once; probabilistic PCA of
    the others, with D components, eigenvalues lambda_d and noise s2_D, gives a left-out vector x

        log p(x) = -1/2 (P log 2 pi + sum_d log lambda_d + (P - D) log s2_D
                         + |x|^2 / s2_D - sum_d (1 / s2_D - 1 / lambda_d) (u_d . x)^2),

    for which inner products are enough: u_d = X' v_d / sqrt(g_d) with the eigenvectors v_d and
    eigenvalues g_d of the Gram matrix of the others, so u_d . x is the product of v_d with theirs
    and x's.

    Args:
        gram: Inner products (n, n) of the vectors, in float64.
        width: P, the numbers in a vector.

    Returns:
        D, from 1 to as many as the smallest training fold leaves noise for.
    """
    count = len(gram)
    places = torch.arange(count, device=gram.device)
    folds = [fold for fold in places.tensor_split(min(FOLDS, count)) if len(fold)]
    fewest = count - max(len(fold) for fold in folds)
    most = max(min(fewest, width) - 1, 1)
    likelihood = sum(_log_likelihoods(gram, fold, width)[:most] for fold in folds)
    assert isinstance(likelihood, Tensor)
    return int(likelihood.argmax()) + 1


def _log_likelihoods(gram: Tensor, fold: Tensor, width: int) -> Tensor:
    """Twice the log-likelihood of a fold by D from 1 on, summed over its vectors, less P log 2 pi.

    Dimensions that leave no noise get minus infinity.
    """
    others = torch.ones(len(gram), dtype=torch.bool, device=gram.device)
    others[fold] = False
    count = int(others.sum())
    values, vectors = torch.linalg.eigh(gram[others][:, others])
    rank = min(count, width)
    values, vectors = values.flip(0)[:rank].clamp_min(0), vectors.flip(1)[:, :rank]
    numbers = torch.arange(1, rank + 1, device=gram.device)
    left = (values.sum() - values.cumsum(0)) / count
    noise = left / (width - numbers).clamp_min(1)
    eigenvalues = values / count
    possible = (left > 1e-10 * eigenvalues.sum()) & (numbers < width)
    tiny = torch.finfo(gram.dtype).tiny
    squares = (gram[fold][:, others] @ vectors).square().sum(0) / values.clamp_min(tiny)
    length = gram.diagonal()[fold].sum()
    quadratic = (length - squares.cumsum(0)) / noise + (
        squares / eigenvalues.clamp_min(tiny)
    ).cumsum(0)
    volume = eigenvalues.clamp_min(tiny).log().cumsum(0) + (width - numbers) * noise.log()
    likelihood: Tensor = -(len(fold) * volume + quadratic)
    return likelihood.where(possible, -torch.inf)
