"""A detector on disk: a folder with ``detector.json`` and one file of tensors, nothing that runs.

The JSON names the file of tensors and its SHA-256, and ends in its own, so that any changed bit is
noticed. The tensors' file carries part of its digest in its name and is written first: a killed
save leaves the old detector whole.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from captum_vae.data.value_range import UNIT
from captum_vae.files import DamagedFileError, reading, replacing, write_json
from captum_vae.localization.detector.fitted import Fitted
from captum_vae.localization.detector.image_calibration import ImageCalibration
from captum_vae.localization.detector.model_record import ModelRecord
from captum_vae.localization.detector.options import Promise
from captum_vae.localization.detector.pixel_calibration import PixelThreshold
from captum_vae.localization.detector.scorer_choice import ScorerChoice
from captum_vae.localization.detector.scorer_record import (
    ScorerRecord,
    fitted_state,
    load_fitted_state,
)
from captum_vae.localization.detector.splitting import UnitKind
from captum_vae.localization.protocol import Protocol
from captum_vae.posterior import as_adapter
from captum_vae.provenance import run_record
from captum_vae.version import __version__

FORMAT = "captum_vae detector 2"
FILE = "detector.json"
_WANTED = "a detector saved by captum_vae"
_REMEDY = "copy it again, or fit and save it anew"


@dataclass(frozen=True)
class Loaded:
    """What a saved detector holds.

    Attributes:
        fitted: Everything learned, the model among it.
        asked: What the person said about the scorers.
        layers: The layers that they named.
        posterior: How the model's posterior is read.
        promise: The options of the promise.
    """

    fitted: Fitted
    asked: tuple[str, ...]
    layers: tuple[str, ...]
    posterior: Any
    promise: dict[str, Any]


def save_fitted(
    path: str | Path, fitted: Fitted, promise: Promise, choice: ScorerChoice, posterior: Any
) -> Path:
    """Write what a detector has learned to a folder; see :meth:`AnomalyDetector.save`."""
    from safetensors.torch import save

    model = ModelRecord.of(fitted.model)
    tensors: dict[str, Tensor] = {
        "image.scores": torch.from_numpy(fitted.image.scores),
        "image.units": torch.from_numpy(np.asarray(fitted.image.units, np.int32)),
        "pixel.scores": torch.from_numpy(fitted.pixel.images.scores),
        "pixel.units": torch.from_numpy(np.asarray(fitted.pixel.images.units, np.int32)),
    }
    tensors |= {f"model.{name}": value for name, value in model.weights_of(fitted.model).items()}
    scorers = []
    for number, scorer in enumerate(fitted.scorers):
        record = ScorerRecord.of(scorer)
        scorers.append({"name": record.name, "options": record.options})
        state = fitted_state(scorer)
        tensors |= {f"scorer.{number}.{name}": value for name, value in state.items()}
    # Tensors that share memory, as views of one buffer do, are written apart.
    content = save({name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()})
    digest = hashlib.sha256(content).hexdigest()
    folder = Path(path)
    name = f"tensors-{digest[:12]}.safetensors"
    with replacing(folder / name) as file:
        file.write(content)
    entries: dict[str, Any] = {
        "format": FORMAT,
        "version": __version__,
        "made_by": run_record(torch.device("cpu")),
        "model": {
            "kind": model.kind,
            "name": model.name,
            "config": model.config,
            "digest": model.digest,
            "posterior": posterior if isinstance(posterior, str) else None,
            "posterior_given": posterior is not None,
        },
        "images": {
            "size": list(fitted.size),
            "channels": fitted.channels,
            "value_range": list(fitted.value_range),
        },
        "scorers": scorers,
        "scales": list(fitted.scales),
        "asked": {
            "scorers": [
                one if isinstance(one, str) else ScorerRecord.of(one).name for one in choice.scorers
            ],
            "layers": list(choice.layers),
        },
        "smoothing": fitted.protocol.smoothing,
        "choice": fitted.choice,
        "promise": promise.to_dict(),
        "pixel": fitted.pixel.to_dict(),
        "image": fitted.image.to_dict(),
        "facts": fitted.facts,
        "tensors": {"file": name, "sha256": digest},
    }
    entries = _without_nan(entries)
    write_json(folder / FILE, entries | {"sha256": _digest(entries)})
    for old in folder.glob("tensors-*.safetensors"):
        if old.name != name:
            old.unlink()
    return folder


def read_record(path: str | Path) -> dict[str, Any]:
    """What ``detector.json`` of a saved detector says, every bit checked.

    Args:
        path: The detector's folder, or the file itself.

    Raises:
        FileNotFoundError: There is no detector.
        DamagedFileError: The file was changed, cut short, or is of another program.
    """
    file = Path(path)
    file = file if file.is_file() else file / FILE
    with reading(file, _WANTED, remedy=_REMEDY):
        entries = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(entries, dict) or entries.get("format") != FORMAT:
            raise ValueError("it is a file of another program, or of another version of this one")
        if entries.pop("sha256", None) != _digest(entries):
            raise ValueError("it was changed: its content does not fit its digest")
    return entries


def load_fitted(path: str | Path, model: Any = None, posterior: Any = None) -> Loaded:
    """What a folder holds; see :meth:`AnomalyDetector.load`."""
    entries = read_record(path)
    folder = Path(path).parent if Path(path).is_file() else Path(path)
    tensors = _read_tensors(folder / entries["tensors"]["file"], entries["tensors"]["sha256"])
    file = folder / FILE
    about = entries["model"]
    record = ModelRecord(about["kind"], about["name"], about["config"], about["digest"])
    if record.kind == "package" and model is None:
        try:
            model = record.rebuilt(_part(tensors, "model."))
        except (ValueError, TypeError) as error:
            raise DamagedFileError(file, str(error), _WANTED, _REMEDY) from error
    elif model is None:
        what = "an encoder" if record.kind == "encoder" else f"a model of your own, a {record.name}"
        raise ValueError(
            f"{folder} was fitted with {what}, which is not saved; give it: "
            "AnomalyDetector.load(path, model)"
        )
    elif record.kind == "encoder":
        model = record.around(model, _part(tensors, "model."))
    else:
        record.check(model)
        if isinstance(model, nn.Module):
            model.eval()
    if about["posterior_given"] and about["posterior"] is None and posterior is None:
        raise ValueError(
            f"{folder} was fitted with a posterior that was no words; give it again: "
            "AnomalyDetector.load(path, model, posterior=...)"
        )
    posterior = about["posterior"] if posterior is None else posterior
    adapter = as_adapter(model, posterior)
    scorers = []
    for number, scorer in enumerate(entries["scorers"]):
        built = ScorerRecord(scorer["name"], scorer["options"]).build(model, adapter)
        load_fitted_state(built, _part(tensors, f"scorer.{number}."))
        scorers.append(built)
    low, high = entries["images"].get("value_range", UNIT)
    promise, pixel, image = entries["promise"], entries["pixel"], entries["image"]
    fitted = Fitted(
        model,
        tuple(scorers),
        tuple(entries["scales"]),
        Protocol(size="map", smoothing=entries["smoothing"]),
        entries["choice"],
        (entries["images"]["size"][0], entries["images"]["size"][1]),
        entries["images"]["channels"],
        PixelThreshold(
            pixel["rate"],
            pixel["threshold"],
            _calibration("pixel", pixel["alpha"], tensors, pixel["unit"]),
            pixel["mean_share"],
            pixel["reason"],
        ),
        _calibration("image", promise["alpha"], tensors, image["unit"]),
        entries["facts"],
        (low, high),
    )
    return Loaded(
        fitted,
        tuple(entries["asked"]["scorers"]),
        tuple(entries["asked"]["layers"]),
        posterior,
        promise,
    )


def _calibration(
    part: str, alpha: float, tensors: Mapping[str, Tensor], unit: UnitKind
) -> ImageCalibration:
    scores, units = tensors[f"{part}.scores"].numpy(), tensors[f"{part}.units"].numpy()
    return ImageCalibration(alpha, scores, units, unit)


def _read_tensors(file: Path, digest: str) -> dict[str, Tensor]:
    from safetensors.torch import load

    with reading(file, f"the tensors of {FILE} beside it", remedy=_REMEDY):
        content = file.read_bytes()
        if hashlib.sha256(content).hexdigest() != digest:
            raise ValueError("it was changed: its content does not fit its digest")
        return load(content)


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _digest(entries: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(entries, sort_keys=True).encode()).hexdigest()


def _without_nan(value: Any) -> Any:
    """Plain values for JSON; what is no finite number becomes null."""
    if isinstance(value, Mapping):
        return {str(key): _without_nan(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
