"""The frame flags of UCSD: a MATLAB script that lists the anomalous frames of each test clip."""

import re
from pathlib import Path

from captum_vae.data.listing import as_path
from captum_vae.files import reading

MOST_FRAMES = 1_000_000
"""More frames than any clip has; a script that names more is not read."""

_MOST_BYTES = 2**20
_STATEMENT = re.compile(
    r"(?:[{(]\s*(end\s*\+\s*1|\d+)\s*[})]\s*\.\s*)?gt_frame\s*=\s*"
    r"(?:\[([^\]\[]*)\]|(\d[^\]\[;\n]*))"
)


def read_frame_flags(path: str | Path) -> list[frozenset[int]]:
    """Read the anomalous frames of each test clip, in the order of the clips' numbers.

    Lines read ``TestVideoFile{end+1}.gt_frame = [5:90, 140:200];`` or name the clip's number, as
    in ``TestVideoFile{2}.gt_frame = 61:180;``. Frames count from 1, ranges include both ends.

    Args:
        path: The script, as ``Test/UCSDped2.m``.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: There are no flags in it, an entry is neither a number nor a range, a clip is
            named twice or left out, or more than :data:`MOST_FRAMES` frames are flagged.
    """
    path = as_path("path", path)
    wanted = "frame flags as TestVideoFile{end+1}.gt_frame = [5:90];"
    with reading(path, wanted, remedy="unpack the release again, or remove the file"):
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError(f"it has {path.stat().st_size} bytes")
        text = re.sub(r"%.*", "", path.read_text(encoding="latin-1"))
        flags: dict[int, frozenset[int]] = {}
        left = MOST_FRAMES
        statements = _STATEMENT.findall(text)
        if len(statements) != text.count("gt_frame"):
            raise ValueError("one of its statements cannot be read")
        for place, listed, single in statements:
            clip = int(place) if place.isdecimal() else max(flags, default=0) + 1
            if clip in flags:
                raise ValueError(f"it flags clip {clip} twice")
            spans = [_span(part) for part in _parts(listed or single)]
            left -= sum(len(span) for span in spans)
            if left < 0:
                raise ValueError(f"it flags more than {MOST_FRAMES} frames")
            flags[clip] = frozenset(frame for span in spans for frame in span)
        if not flags:
            raise ValueError("no frame flags are in it")
        if sorted(flags) != list(range(1, len(flags) + 1)):
            raise ValueError(f"it flags the clips {sorted(flags)[:20]} and leaves out some before")
    return [flags[clip] for clip in sorted(flags)]


def _parts(entry: str) -> list[str]:
    return re.sub(r"\s*:\s*", ":", entry).replace(",", " ").split()


def _span(part: str) -> range:
    match = re.fullmatch(r"(\d{1,9})(?::(\d{1,9}))?", part)
    if match is None:
        raise ValueError(f"cannot read the frame flags {part!r}; wanted 61 or 61:180")
    first, last = int(match[1]), int(match[2] or match[1])
    if first < 1 or last < first:
        raise ValueError(f"the frame flags {part!r} run backwards or from 0; wanted 61 or 61:180")
    return range(first, last + 1)
