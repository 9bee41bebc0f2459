"""The weights that the authors published of their MNIST VAEs, in this package's model."""

from __future__ import annotations

from pathlib import Path

from captum_vae.models import MNISTVAE
from captum_vae.models.weights import read_weights

_NAMES = {
    "encoder.0": "encoder.conv1",
    "encoder.2": "encoder.conv2",
    "encoder.5": "encoder.fc1",
    "fc1": "mean",
    "fc2": "log_variance",
    "decoder.0": "decoder.fc1",
    "decoder.2": "decoder.fc2",
    "decoder.6": "decoder.deconv1",
    "decoder.8": "decoder.deconv2",
}
"""This package's layers by the names in the authors' code."""


def load_authors_mnist(path: str | Path) -> MNISTVAE:
    """The MNIST VAE of a checkpoint that the authors' code wrote, in eval mode on the CPU.

    Their layers are those of :class:`~captum_vae.models.MNISTVAE` under other names, so the model
    computes the same numbers. Pickled code in the file is refused, not run.

    Args:
        path: What ``train_expVAE.py`` of https://github.com/liuem607/expVAE saves
            (``model_best.pth``, ``checkpoint.pth``), or the state_dict in it alone.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It holds something else than the authors' MNIST VAE.

    Example::

        vae = load_authors_mnist("ckpt/model_best.pth")
        maps = MeanSumGradCAM(vae, "encoder.conv2", preset="authors").attribute(digits)
    """
    found = read_weights(path)
    wanted = {f"{name}.{kind}": layer for name, layer in _NAMES.items() for kind in _KINDS}
    missing = [name for name in wanted if name not in found]
    strange = [name for name in found if name not in wanted]
    if missing or strange:
        words = [f"no {name}" for name in missing[:2]] + [f"{name} besides" for name in strange[:2]]
        raise ValueError(
            f"{path} does not hold the authors' MNIST VAE ({', '.join(words)}); wanted a "
            "checkpoint of their train_expVAE.py"
        )
    vae = MNISTVAE(latent_dims=len(found["fc1.bias"]))
    weights = {f"{layer}.{name.rpartition('.')[2]}": found[name] for name, layer in wanted.items()}
    shapes = {name: tensor.shape for name, tensor in vae.state_dict().items()}
    for name, tensor in weights.items():
        if shapes[name] != tensor.shape:
            raise ValueError(
                f"{path} holds {name} of shape {tuple(tensor.shape)}; wanted "
                f"{tuple(shapes[name])}, that of the authors' MNIST VAE"
            )
    vae.load_state_dict(weights)
    return vae.eval()


_KINDS = ("weight", "bias")
