"""Published figures that are printed beside ours, from the CSV files in ``published/``.

They are transcribed from the reports themselves:

- ``paper``: Liu et al., Towards Visually Explaining Variational Autoencoders, CVPR 2020, as quoted
  by the second replication's tables; the dSprites figures were read off a plot by a third party;
- ``replication-a``: the first report of the ML Reproducibility Challenge 2020, its public code and
  logs;
- ``replication-b``: the second, "Reproducing Visual Explanations of Variational Autoencoders".

An empty cell means that the source does not say.
"""

from __future__ import annotations

import csv
from pathlib import Path

PUBLISHED = Path(__file__).parent / "published"
"""Folder of the published figures and of the experiments' specifications."""


def published_rows(name: str, **wanted: str) -> list[dict[str, str]]:
    """The rows of a published table, as text by column.

    Args:
        name: The name of the file: ``ucsd_ped1_auroc``, ``mvtec_ad`` or ``dsprites_factorvae``.
        wanted: The values that columns must have.

    Raises:
        KeyError: A column does not exist.
        FileNotFoundError: There is no such file.
    """
    with (PUBLISHED / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [row for row in rows if all(row[column] == v for column, v in wanted.items())]


def published_number(name: str, column: str, **wanted: str) -> float | None:
    """One number of a published table; None where the source does not say.

    Args:
        name: The name of the file.
        column: The column of the number; of ``0.805+-0.059`` it is the mean.
        wanted: The values that other columns must have.

    Raises:
        KeyError: A column does not exist.
        ValueError: Several rows fit.

    Example::

        >>> published_number("ucsd_ped1_auroc", "pixel_auroc", source="paper", layer="conv2")
        0.92
    """
    rows = published_rows(name, **wanted)
    if len(rows) > 1:
        raise ValueError(f"{len(rows)} rows of {name} fit {wanted}; wanted one")
    text = rows[0][column].partition("+-")[0] if rows else ""
    return float(text) if text else None
