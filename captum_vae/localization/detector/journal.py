"""The table of a long prediction, written as it goes, from which a killed run goes on.

``predictions.csv`` grows by whole batches. After each, a small file beside it says how many bytes
of the table are complete, and only then does the next batch begin. A run that was killed at any
moment is cut back to there, so that every image is predicted once, in the batches of a run that was
not disturbed. Several processes write a part each, which are joined in the order of the images.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from captum_vae.files import reading, replacing, write_json

COLUMNS = (
    "image",
    "score",
    "p_value",
    "verdict",
    "area",
    "boxes",
    "height",
    "width",
    "reason",
)
"""Columns of ``predictions.csv``. Boxes are JSON: [[x, y, width, height, score], ...] in pixels of
the image; reason says why an image could not be read, whose verdict is ``unreadable``."""

TABLE = "predictions.csv"
_PART = re.compile(r"predictions-\d+-of-\d+\.csv")


class Journal:
    """One process's table, held open while it predicts.

    Args:
        folder: The run's folder.
        rank: The process's number.
        processes: How many there are; a single one writes ``predictions.csv`` itself.
    """

    def __init__(self, folder: Path, rank: int = 0, processes: int = 1) -> None:
        """Cut the table back to its last whole batch, and open it."""
        name = TABLE if processes == 1 else f"predictions-{rank}-of-{processes}.csv"
        self.path = folder / name
        folder.mkdir(parents=True, exist_ok=True)
        cut_back(self.path)
        self._file = open(self.path, "ab")
        if not self._file.tell():
            self.add([dict(zip(COLUMNS, COLUMNS, strict=True))])

    def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write the rows of a batch, whose other files are there, and remember that they are."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        for row in rows:
            writer.writerow([row[column] for column in COLUMNS])
        self._file.write(text.getvalue().encode("utf-8", "backslashreplace"))
        self._file.flush()
        os.fsync(self._file.fileno())
        write_json(progress_file(self.path), {"bytes": self._file.tell()})

    def close(self) -> None:
        """Close the table."""
        self._file.close()


def progress_file(table: Path) -> Path:
    """What says how much of a table is complete."""
    return table.with_name(f".{table.stem}.json")


def cut_back(table: Path) -> None:
    """Leave of a table what whole batches wrote; a table that nothing is known of is emptied."""
    known = progress_file(table)
    complete = 0
    if known.is_file():
        with reading(known, "how much of predictions.csv is complete", remedy="use another folder"):
            complete = int(json.loads(known.read_text(encoding="utf-8"))["bytes"])
    if table.is_file() and table.stat().st_size > complete:
        with open(table, "r+b") as file:
            file.truncate(complete)


def tables(folder: Path) -> list[Path]:
    """The tables in a folder, the joined one first."""
    parts = sorted(path for path in folder.glob("predictions-*.csv") if _PART.match(path.name))
    return [path for path in (folder / TABLE, *parts) if path.is_file()]


def rows_of(table: Path) -> Iterator[dict[str, str]]:
    """The rows of a table, one after the other.

    Raises:
        DamagedFileError: It is no table of predictions.
    """
    with reading(table, "a table of predictions", remedy="use another folder"):
        with open(table, encoding="utf-8", newline="") as file:
            reader = csv.reader(file)
            header = next(reader, None)
            if header is None:
                return
            if tuple(header) != COLUMNS:
                raise ValueError(f"its columns are {', '.join(header)}")
            for values in reader:
                yield dict(zip(COLUMNS, values, strict=True))


def done(folder: Path) -> set[str]:
    """Names of the images that whole batches have predicted."""
    names: set[str] = set()
    for table in tables(folder):
        cut_back(table)
        names.update(row["image"] for row in rows_of(table))
    return names


def join(folder: Path, order: Mapping[str, int]) -> None:
    """Make one table of several processes' parts, in the order of the images.

    Args:
        folder: The run's folder.
        order: Place of every image by its name.
    """
    found = tables(folder)
    if found == [folder / TABLE]:
        return
    places: list[tuple[int, int, int, int]] = []
    for number, table in enumerate(found):
        with open(table, "rb") as file:
            start = len(file.readline())
            while line := file.readline():
                name = next(csv.reader([line.decode("utf-8")]))[0]
                places.append((order.get(name, -1), number, start, len(line)))
                start += len(line)
    places.sort()
    opened = [open(table, "rb") for table in found]
    try:
        with replacing(folder / TABLE) as joined:
            joined.write(opened[0].readline())
            for _, number, start, length in places:
                opened[number].seek(start)
                joined.write(opened[number].read(length))
            size = joined.tell()
    finally:
        for file in opened:
            file.close()
    write_json(progress_file(folder / TABLE), {"bytes": size})
    for table in found:
        if table.name != TABLE:
            table.unlink()
            progress_file(table).unlink(missing_ok=True)


def printable(name: str) -> str:
    """A name on one line, as the table holds it."""
    return name.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
