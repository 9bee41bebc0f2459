"""What the disentanglement metrics refuse, by the argument's name."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

from captum_vae.metrics import (
    VoteProtocol,
    beta_vae_score,
    dci_scores,
    evaluate_disentanglement,
    factor_vae_score,
    mig_score,
    modularity_score,
    sap_score,
    score_disentanglement,
)

CODES, FACTORS = torch.randn(30, 3), torch.randint(0, 2, (30, 2))
FACTORS[:2] = torch.tensor([[0, 1], [1, 0]])
DATA = TensorDataset(torch.rand(30, 1, 2, 2), FACTORS)


def encode(images: torch.Tensor) -> torch.Tensor:
    return images.flatten(1)


BAD_CODES: dict[str, tuple[Any, Any, type[Exception], str]] = {
    "array": (CODES.numpy(), FACTORS, TypeError, "codes is a ndarray"),
    "none": (None, FACTORS, TypeError, "codes is a NoneType"),
    "list": (CODES.tolist(), FACTORS, TypeError, "codes is a list"),
    "factors as array": (CODES, FACTORS.numpy(), TypeError, "factors is a ndarray"),
    "integers": (CODES.long(), FACTORS, TypeError, "posterior means"),
    "complex": (CODES.cfloat(), FACTORS, TypeError, "codes is torch.complex64"),
    "factors as floats": (CODES, FACTORS.float(), TypeError, "integer classes"),
    "complex factors": (CODES, FACTORS.cfloat(), TypeError, "integer classes"),
    "nan": (CODES * math.nan, FACTORS, ValueError, "not finite"),
    "infinite": (CODES / 0, FACTORS, ValueError, "not finite"),
    "no code": (CODES[:0], FACTORS[:0], ValueError, r"codes has shape \(0, 3\)"),
    "no dimension": (CODES[:, :0], FACTORS, ValueError, r"codes has shape \(30, 0\)"),
    "one axis": (CODES[:, 0], FACTORS, ValueError, r"codes has shape \(30,\)"),
    "maps": (CODES[:, :, None], FACTORS, ValueError, r"codes has shape \(30, 3, 1\)"),
    "one factor, one axis": (CODES, FACTORS[:, 0], ValueError, r"factors \(30,\)"),
    "other number": (CODES, FACTORS[:20], ValueError, r"factors \(20, 2\)"),
    "constant factor": (CODES, FACTORS * 0, ValueError, "only one value"),
    "no factor": (CODES, FACTORS[:, :0], ValueError, "factors"),
}


@pytest.mark.parametrize(
    "metric",
    [factor_vae_score, beta_vae_score, mig_score, modularity_score, dci_scores, sap_score],
)
@pytest.mark.parametrize("kind", BAD_CODES)
def test_every_metric_refuses_bad_codes(metric: Callable[..., Any], kind: str) -> None:
    codes, factors, error, message = BAD_CODES[kind]
    with pytest.raises(error, match=message):
        metric(codes, factors)


BAD_OPTIONS: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "one bin": (lambda: mig_score(CODES, FACTORS, bins=1), ValueError, "bins=1"),
    "half a bin": (lambda: modularity_score(CODES, FACTORS, bins=9.5), TypeError, "bins=9.5"),
    "bins in words": (lambda: mig_score(CODES, FACTORS, bins="auto"), TypeError, "bins='auto'"),
    "protocol": (lambda: beta_vae_score(CODES, FACTORS, protocol="x"), ValueError, "protocol='x'"),
    "protocol numbers": (
        lambda: factor_vae_score(CODES, FACTORS, protocol=(100, 800, 800)),
        *(ValueError, "protocol="),
    ),
    "no vote": (lambda: VoteProtocol(10, 0, 10), ValueError, "training_votes=0"),
    "half a vote": (lambda: VoteProtocol(10, 10, 2.5), TypeError, "evaluation_votes=2.5"),
    "one sample": (lambda: VoteProtocol(1, 10, 10), ValueError, "samples=1"),
    "kl list": (lambda: factor_vae_score(CODES, FACTORS, kl=[1, 1, 1]), TypeError, "kl is a list"),
    "kl of another size": (
        lambda: factor_vae_score(CODES, FACTORS, kl=torch.ones(2)),
        *(ValueError, r"kl has shape \(2,\)"),
    ),
    "trees": (lambda: dci_scores(CODES, FACTORS, trees="oak"), ValueError, "trees='oak'"),
    "predictor": (lambda: sap_score(CODES, FACTORS, predictor=1), ValueError, "predictor=1"),
    "metric": (lambda: score_disentanglement(CODES, FACTORS, metrics=["mi"]), ValueError, "mi"),
    "metrics in one word": (
        lambda: score_disentanglement(CODES, FACTORS, metrics="mig"),
        *(TypeError, "metrics is 'mig'"),
    ),
    "seed": (lambda: score_disentanglement(CODES, FACTORS, seed=2**70), ValueError, "seed"),
    "seed in words": (lambda: score_disentanglement(CODES, FACTORS, seed="1"), TypeError, "seed"),
    "samples": (lambda: evaluate_disentanglement(encode, DATA, samples=0), ValueError, "samples=0"),
    "samples as float": (
        lambda: evaluate_disentanglement(encode, DATA, samples=1e3),
        *(TypeError, "samples=1000.0"),
    ),
    "batch size": (
        lambda: evaluate_disentanglement(encode, DATA, batch_size=0),
        *(ValueError, "batch_size=0"),
    ),
    "no encoder": (lambda: evaluate_disentanglement(None, DATA), TypeError, "encode is a NoneType"),
    "encoder of tuples": (
        lambda: evaluate_disentanglement(lambda x: (encode(x), encode(x)), DATA),
        *(TypeError, "encode returned tuple"),
    ),
    "encoder of arrays": (
        lambda: evaluate_disentanglement(lambda x: np.asarray(encode(x)), DATA),
        *(TypeError, "encode returned ndarray"),
    ),
    "encoder of maps": (
        lambda: evaluate_disentanglement(lambda x: x, DATA),
        *(ValueError, "encode returned the shape"),
    ),
    "no image": (
        lambda: evaluate_disentanglement(encode, TensorDataset(torch.rand(0, 1), FACTORS[:0])),
        *(ValueError, "data is empty"),
    ),
}


@pytest.mark.parametrize("kind", BAD_OPTIONS)
def test_bad_options_are_refused_by_name(kind: str) -> None:
    call, error, message = BAD_OPTIONS[kind]
    with pytest.raises(error, match=message):
        call()
