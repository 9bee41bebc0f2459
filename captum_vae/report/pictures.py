"""Figures as files."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure


def save_picture(figure: Figure, path: str | Path, *, dpi: int = 160) -> Path:
    """Write a figure as PNG without showing it or touching pyplot's state.

    Args:
        figure: as drawn.
        path: of the file, ending in .png; its folder is created.
        dpi: pixels per inch.

    Raises:
        ValueError: another ending.
    """
    path = Path(path)
    if path.suffix != ".png":
        raise ValueError(f"path is {str(path)!r}; wanted a name that ends in .png")
    path.parent.mkdir(parents=True, exist_ok=True)
    # Without the software's name and date two runs give the same bytes.
    figure.savefig(path, dpi=dpi, metadata={"Software": None})
    return path
