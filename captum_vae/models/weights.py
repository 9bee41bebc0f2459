"""Weights of a backbone from a file of the user's, read without running code in it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from captum_vae.files import DamagedFileError, reading

_WANTED = "a file of weights: .safetensors, or what torch.save writes of a state_dict"
_INNER = ("state_dict_ema", "model_ema", "state_dict", "model")
"""Where training scripts keep the weights within what they save; averaged ones first."""

_PREFIXES = ("_orig_mod.", "module.")
"""What torch.compile and distributed training put in front of names."""


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a file of weights by their names, on the CPU.

    Args:
        path: A .safetensors file, or one that torch.save wrote: a state_dict, or a dict that holds
            one as state_dict or model. Pickled code in it is refused, not run.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It holds something else, or ends too early.
    """
    path = Path(path)
    with reading(path, _WANTED, remedy="download or save it again"):
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            found: Any = load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
        if isinstance(found, Mapping):
            found = next(
                (found[key] for key in _INNER if isinstance(found.get(key), Mapping)), found
            )
        if not isinstance(found, Mapping) or not found:
            raise DamagedFileError(path, f"it holds {type(found).__name__}", _WANTED)
        strangers = [name for name, value in found.items() if not isinstance(value, Tensor)]
        if strangers:
            kind = type(found[strangers[0]]).__name__
            raise DamagedFileError(path, f"its entry {strangers[0]!r} is {kind}", _WANTED)
    return {_without_prefixes(str(name)): tensor for name, tensor in found.items()}


def load_backbone_weights(model: Any, name: str, path: str | Path, *, in_channels: int) -> None:
    """Put a file's weights into a timm model that was built without its classifier.

    A classifier in the file is passed over. The first convolution is adapted to another number of
    channels than three as timm does it, and where a model brings its own conversion, such as a
    ViT's to another image size, that is applied to weights that do not fit as they are.

    Args:
        model: The timm model.
        name: Its name in timm, for messages.
        path: The file.
        in_channels: Number of channels of an image.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It holds no weights, or those of another model; the message says what differs.
    """
    weights = read_weights(path)
    misfits = _misfits(model, name, _adapted(model, weights, in_channels))
    if misfits:
        convert = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
        if convert is None:
            raise _of_another_model(path, name, misfits)
        try:
            weights = convert(dict(weights), model)
        # timm's converters index into what they expect.
        except Exception as error:
            raise _of_another_model(path, name, misfits) from error
        if _misfits(model, name, _adapted(model, weights, in_channels)):
            raise _of_another_model(path, name, misfits)
    model.load_state_dict(_adapted(model, weights, in_channels), strict=False)


def _adapted(model: Any, weights: Mapping[str, Tensor], in_channels: int) -> dict[str, Tensor]:
    """The weights, with the first convolution's summed or repeated for ``in_channels``."""
    from timm.models import adapt_input_conv

    adapted = dict(weights)
    first = model.pretrained_cfg.get("first_conv") or ()
    for layer in (first,) if isinstance(first, str) else first:
        key = f"{layer}.weight"
        if key in adapted and adapted[key].ndim == 4 and adapted[key].shape[1] == 3 != in_channels:
            adapted[key] = adapt_input_conv(in_channels, adapted[key])
    return adapted


def _misfits(model: Any, name: str, weights: Mapping[str, Tensor]) -> list[str]:
    """What keeps weights from being those of ``model``, a few words each."""
    wanted = model.state_dict()
    missing = [f"no {key}" for key in wanted if key not in weights]
    shapes = [
        f"{key} of shape {tuple(weights[key].shape)} instead of {tuple(tensor.shape)}"
        for key, tensor in wanted.items()
        if key in weights and weights[key].shape != tensor.shape
    ]
    surplus = set(weights) - set(wanted)
    if surplus:
        surplus -= _with_classifier(name)
    return missing + shapes + [f"{key} besides" for key in weights if key in surplus]


def _with_classifier(name: str) -> set[str]:
    """Names of the tensors of the whole model."""
    import timm

    return set(timm.create_model(name).state_dict())


def _of_another_model(path: str | Path, name: str, misfits: list[str]) -> ValueError:
    shown = ", ".join(misfits[:3]) + (f" and {len(misfits) - 3} more" if misfits[3:] else "")
    return ValueError(
        f"weights={str(path)!r} holds those of another model than {name}: {shown}; wanted a "
        f"state_dict of timm.create_model({name!r})"
    )


def _without_prefixes(name: str) -> str:
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return name
