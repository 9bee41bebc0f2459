"""Metrics that predict factors from codes with scikit-learn: DCI and SAP."""

from typing import Literal, NamedTuple, TypeAlias, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.svm import LinearSVC
from torch import Tensor

from captum_vae.checks import check_choice
from captum_vae.metrics.disentanglement.score import DisentanglementScore, checked, undefined

Trees: TypeAlias = Literal["random_forest", "gradient_boosting"]
Predictor: TypeAlias = Literal["linear_svm", "correlation"]

_TRAINING_ROWS, _TEST_ROWS = 10_000, 5_000


class _Split(NamedTuple):
    training_codes: NDArray[np.float64]
    training_factors: NDArray[np.int64]
    test_codes: NDArray[np.float64]
    test_factors: NDArray[np.int64]
    seed: int


def dci_scores(
    codes: Tensor,
    factors: Tensor,
    *,
    trees: Trees = "random_forest",
    generator: torch.Generator | None = None,
) -> tuple[DisentanglementScore, DisentanglementScore, DisentanglementScore]:
    """Disentanglement, completeness and informativeness (Eastwood and Williams 2018, section 2).

    One scikit-learn classifier per factor is trained on 10,000 rows and tested on 5,000 others (two
    thirds and one third of fewer), as in disentanglement_lib, which takes gradient boosting. That
    takes minutes per factor of 32 classes; a random forest, as in the paper, takes seconds. Its
    trees see all dimensions at every split, or unused ones would gain importance by chance.

    Args:
        codes: (N, D) posterior means.
        factors: (N, F) integer classes.
        trees: Either ``random_forest`` (10 trees) or ``gradient_boosting`` (scikit-learn's
            defaults).
        generator: Source of the split and of the classifiers' seed, on the CPU; None takes
            torch's global one.

    Returns:
        Disentanglement: how much a dimension serves one factor only, weighted by its importance.
        Completeness: how much a factor is served by one dimension only. Informativeness: accuracy
        on the test rows, mean over factors. NaN where undefined: with a single factor, a single
        dimension, or where nothing has any importance. Details: importance (D, F), accuracies per
        factor, trees.

    Raises:
        TypeError: The codes are no floats or the factors no integers.
        ValueError: Shapes do not fit, a code is not finite, a factor has only one value,
            or ``trees`` is unknown.
    """
    check_choice("trees", trees, get_args(Trees))
    codes, factors = checked(codes, factors)
    split = _split(codes, factors, generator)
    columns, training, test = [], [], []
    for factor in range(factors.shape[1]):
        classifier = (
            RandomForestClassifier(10, max_features=None, random_state=split.seed)
            if trees == "random_forest"
            else GradientBoostingClassifier(random_state=split.seed)
        )
        classifier.fit(split.training_codes, split.training_factors[:, factor])
        columns.append(np.abs(classifier.feature_importances_))
        training.append(
            float(classifier.score(split.training_codes, split.training_factors[:, factor]))
        )
        test.append(float(classifier.score(split.test_codes, split.test_factors[:, factor])))
    importance = np.stack(columns, axis=1)
    details = {"importance": importance.tolist(), "trees": trees}
    return (
        _concentration("dci_disentanglement", importance, "factor", details),
        _concentration("dci_completeness", importance.T, "dimension", details),
        DisentanglementScore(
            "dci_informativeness",
            float(np.mean(test)),
            details={"training_accuracies": training, "test_accuracies": test, "trees": trees},
        ),
    )


def sap_score(
    codes: Tensor,
    factors: Tensor,
    *,
    predictor: Predictor = "linear_svm",
    generator: torch.Generator | None = None,
) -> DisentanglementScore:
    """Separated attribute predictability (Kumar et al. 2018, section 3).

    For each factor, the gap between the two single dimensions that predict it best; the score is
    the mean over factors. A single dimension has no rival: the gap is then its whole score.

    Args:
        codes: (N, D) posterior means.
        factors: (N, F) integer classes.
        predictor: Either ``linear_svm``, as disentanglement_lib: test accuracy of scikit-learn's
            LinearSVC (C = 0.01, balanced classes), trained on 10,000 rows and tested on 5,000
            others (two thirds and one third of fewer), which cannot tell many ordered classes from
            one number, so that perfect codes of dSprites score about 0.25; or ``correlation``:
            squared correlation over all rows, which takes the classes as numbers.
        generator: Source of the split and of the classifiers' seed, on the CPU; None takes
            torch's global one.

    Returns:
        The score. Details: gaps per factor, scores (D, F), predictor.

    Raises:
        TypeError: The codes are no floats or the factors no integers.
        ValueError: Shapes do not fit, a code is not finite, a factor has only one value,
            or ``predictor`` is unknown.
    """
    check_choice("predictor", predictor, get_args(Predictor))
    codes, factors = checked(codes, factors)
    if predictor == "correlation":
        scores = _squared_correlations(codes, factors.double()).numpy()
    else:
        scores = _svm_accuracies(_split(codes, factors, generator))
    ranked = -np.sort(-scores, axis=0)
    gaps = ranked[0] - (ranked[1] if len(ranked) > 1 else 0)
    return DisentanglementScore(
        "sap",
        float(gaps.mean()),
        details={"gaps": gaps.tolist(), "scores": scores.tolist(), "predictor": predictor},
    )


def _split(codes: Tensor, factors: Tensor, generator: torch.Generator | None) -> _Split:
    count = len(codes)
    order = torch.randperm(count, generator=generator)
    training = order[: min(_TRAINING_ROWS, 2 * count // 3)]
    test = order[len(training) :][:_TEST_ROWS]
    seed = int(torch.randint(2**31 - 1, (), generator=generator))
    if (factors[training] == factors[training[:1]]).all(0).any():
        raise ValueError(
            f"{count} rows are too few: a factor has only one value among the "
            f"{len(training)} training rows"
        )
    return _Split(
        codes[training].numpy(),
        factors[training].numpy(),
        codes[test].numpy(),
        factors[test].numpy(),
        seed,
    )


def _concentration(
    name: str, importance: NDArray[np.float64], over: str, details: dict[str, object]
) -> DisentanglementScore:
    """1 - normalised entropy of each row of (rows, choices), weighted by the rows' sums."""
    choices, total = importance.shape[1], importance.sum()
    if choices == 1:
        return undefined(name, f"there is a single {over}", **details)
    if total == 0:
        return undefined(name, "no dimension has any importance", **details)
    weights = importance.sum(1)
    rows = importance[weights > 0] / weights[weights > 0, None]
    logs = np.log(rows, out=np.zeros_like(rows), where=rows > 0)
    concentration = 1 + (rows * logs).sum(1) / np.log(choices)
    value = float((concentration * weights[weights > 0]).sum() / total)
    return DisentanglementScore(name, value, details=details)


def _squared_correlations(codes: Tensor, factors: Tensor) -> Tensor:
    """(D, F) squared Pearson correlations; 0 for a constant dimension."""
    codes, factors = codes - codes.mean(0), factors - factors.mean(0)
    power = codes.square().sum(0)[:, None] * factors.square().sum(0)
    return torch.where(power > 0, (codes.T @ factors).square() / power, 0.0)


def _svm_accuracies(split: _Split) -> NDArray[np.float64]:
    dimensions, factors = split.training_codes.shape[1], split.training_factors.shape[1]
    scores = np.empty((dimensions, factors))
    for factor in range(factors):
        for dimension in range(dimensions):
            classifier = LinearSVC(C=0.01, class_weight="balanced", random_state=split.seed)
            column = [dimension]
            classifier.fit(split.training_codes[:, column], split.training_factors[:, factor])
            scores[dimension, factor] = classifier.score(
                split.test_codes[:, column], split.test_factors[:, factor]
            )
    return scores
