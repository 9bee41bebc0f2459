"""Writing samples to disk in the layouts of MVTec AD and UCSD, so that other tools can read them.

Images are saved as PNG with eight bits.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from captum_vae.data.sample import Sample


def write_mvtec(
    root: str | Path, category: str, train: Iterable[Sample], test: Iterable[Sample]
) -> Path:
    """Write samples as one category of the MVTec layout, numbered within their kind.

    Args:
        root: folder of the categories; made if missing.
        category: name of the new folder.
        train: normal samples.
        test: samples with label 0 (to ``good``) or 1 (to the folder named by their group).

    Returns:
        The category's folder.

    Raises:
        FileExistsError: when the category exists.
        ValueError: for an anomalous training sample, or a test sample without a label.
    """
    folder = Path(root) / category
    folder.mkdir(parents=True, exist_ok=False)
    for number, sample in enumerate(train):
        _require_normal(sample)
        _save_image(sample.image, folder / "train" / "good" / f"{number:03d}.png")
    written: dict[str, int] = {}
    for sample in test:
        if sample.label is None:
            raise ValueError(f"the test sample {sample.name} has no label; wanted 0 or 1")
        kind = Path(sample.group).name if sample.label else "good"
        number = written.setdefault(kind, 0)
        written[kind] += 1
        _save_image(sample.image, folder / "test" / kind / f"{number:03d}.png")
        if sample.label and sample.mask is not None:
            _save_mask(sample.mask, folder / "ground_truth" / kind / f"{number:03d}_mask.png")
    return folder


def write_ucsd(
    root: str | Path, subset: str, train: Iterable[Sample], test: Iterable[Sample]
) -> Path:
    """Write clips in the UCSD layout: a folder per group, masks in ``<clip>_gt``, flags in ``.m``.

    Groups become ``Train001``, ... and ``Test001``, ... in order of appearance. A clip all of whose
    masks are unknown gets no ``_gt`` folder, as in Ped1.

    Args:
        root: where the subset's folder is made.
        subset: "ped1" or "ped2".
        train: normal frames.
        test: frames with a label.

    Returns:
        The subset's folder.

    Raises:
        FileExistsError: when the subset exists.
        ValueError: for an anomalous training frame, or a test frame without a label.
    """
    folder = Path(root) / f"UCSD{subset}"
    folder.mkdir(parents=True, exist_ok=False)
    for clip, frame, sample in _numbered_frames("Train", train):
        _require_normal(sample)
        _save_image(sample.image, folder / "Train" / clip / f"{frame:03d}.png")
    flags: dict[str, list[int]] = {}
    for clip, frame, sample in _numbered_frames("Test", test):
        if sample.label is None:
            raise ValueError(f"the test frame {sample.name} has no label; wanted 0 or 1")
        anomalous = flags.setdefault(clip, [])
        if sample.label:
            anomalous.append(frame)
        _save_image(sample.image, folder / "Test" / clip / f"{frame:03d}.png")
        if sample.mask is not None:
            _save_mask(sample.mask, folder / "Test" / f"{clip}_gt" / f"{frame:03d}.png")
    lines = ["TestVideoFile = {};"]
    for frames in flags.values():
        lines.append(f"TestVideoFile{{end+1}}.gt_frame = [{' '.join(map(str, frames))}];")
    (folder / "Test").mkdir(exist_ok=True)
    (folder / "Test" / f"UCSD{subset}.m").write_text("\n".join(lines) + "\n", encoding="ascii")
    return folder


def _numbered_frames(prefix: str, samples: Iterable[Sample]) -> Iterable[tuple[str, int, Sample]]:
    counts: dict[str, int] = {}
    for sample in samples:
        counts[sample.group] = counts.get(sample.group, 0) + 1
        clip = list(counts).index(sample.group) + 1
        yield f"{prefix}{clip:03d}", counts[sample.group], sample


def _require_normal(sample: Sample) -> None:
    if sample.label == 1:
        raise ValueError(f"the training sample {sample.name} is anomalous; wanted normal ones")


def _save_image(image: Tensor, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = (image * 255).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(path)


def _save_mask(mask: Tensor, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask.numpy().astype(np.uint8) * 255).save(path)
