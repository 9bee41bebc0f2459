"""What is measured: encoders, layers, numbers of latent dimensions, devices."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from captum_vae.models import MNISTVAE, UCSDVAE, FactorVAE, ResNet18VAE
from captum_vae.models.base import GaussianVAE

SEED = 0
LATENT_DIMS = (10, 32, 128, 1000)


@dataclass(frozen=True)
class Encoder:
    """A VAE of the package, the layers explained, and the batch it is explained on.

    Attributes:
        model: class of the VAE.
        layers: layer's name -> its path in the VAE.
        features: layer's name -> ``post-activation``, ``pre-ReLU`` or ``block`` (a residual block's
            output, which is rectified as well).
        batch: number of images.
        image_size: pixels a side.
    """

    model: type[GaussianVAE]
    layers: dict[str, str]
    features: dict[str, str]
    batch: int
    image_size: int


def _conv(model: type[GaussianVAE], layers: tuple[str, ...], image_size: int) -> Encoder:
    return Encoder(
        model,
        {layer: f"encoder.{layer}" for layer in layers},
        {layer: "post-activation" if "relu" in layer else "pre-ReLU" for layer in layers},
        128,
        image_size,
    )


_BLOCKS = ("layer4", "layer3", "layer2", "layer1")
ENCODERS = {
    "MNIST": _conv(MNISTVAE, ("relu2", "conv2", "relu1"), 28),
    "UCSD": _conv(UCSDVAE, ("relu3", "conv3"), 100),
    "FactorVAE": _conv(FactorVAE, ("relu4", "conv4", "relu2", "relu1", "conv1"), 64),
    "ResNet18": Encoder(
        ResNet18VAE,
        {name: f"encoder.backbone.{name}" for name in _BLOCKS},
        dict.fromkeys(_BLOCKS, "block"),
        4,
        256,
    ),
}


@dataclass(frozen=True)
class Setting:
    """One line of the table: every way is timed on it."""

    encoder: str
    layer: str
    dims: int
    batch: int
    image_size: int
    device: str = "cpu"
    dtype: str = "float32"

    def __str__(self) -> str:
        """The name under which pytest lists it."""
        return f"{self.encoder}-{self.layer}-D{self.dims}-{self.device}-{self.dtype}"

    @property
    def features(self) -> str:
        return ENCODERS[self.encoder].features[self.layer]


@dataclass(frozen=True)
class Case:
    """A setting made ready to run.

    Attributes:
        vae: in eval mode, random weights.
        layer: the module explained.
        images: (B, C, H, W).
        dtype: ``float32``, or ``bfloat16`` for autocast.
    """

    vae: GaussianVAE
    layer: nn.Module = field(repr=False)
    images: Tensor = field(repr=False)
    dtype: str = "float32"

    def precision(self) -> AbstractContextManager[object]:
        """The context that a call of the model runs in."""
        if self.dtype == "float32":
            return nullcontext()
        return torch.autocast(self.images.device.type, dtype=getattr(torch, self.dtype))


def build_case(setting: Setting) -> Case:
    """The encoder with random weights and a random batch, from ``SEED``."""
    torch.manual_seed(SEED)
    encoder = ENCODERS[setting.encoder]
    vae = encoder.model(setting.dims, image_size=setting.image_size)
    for module in vae.modules():
        if isinstance(module, nn.BatchNorm2d):  # timm starts the last one of each block at zero
            nn.init.uniform_(module.weight, 0.5, 1.5)
    images = torch.rand(setting.batch, vae.in_channels, *vae.image_size)
    vae = vae.eval().to(setting.device)
    layer = vae.get_submodule(encoder.layers[setting.layer])
    return Case(vae, layer, images.to(setting.device), setting.dtype)


def full_settings() -> Iterator[Setting]:
    """Every encoder, layer, D and device; bfloat16 autocast too where a CUDA device is present."""
    devices = [("cpu", "float32")]
    if torch.cuda.is_available():
        devices += [("cuda", "float32"), ("cuda", "bfloat16")]
    for device, dtype in devices:
        for name, encoder in ENCODERS.items():
            for layer in encoder.layers:
                for dims in LATENT_DIMS:
                    yield Setting(
                        name, layer, dims, encoder.batch, encoder.image_size, device, dtype
                    )


def quick_settings() -> Iterator[Setting]:
    """Every encoder and layer once, on smaller batches and images."""
    small = {"MNIST": (32, 32, 28), "UCSD": (10, 4, 100), "FactorVAE": (10, 32, 64)}
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    for device in devices:
        for name, encoder in ENCODERS.items():
            dims, batch, image_size = small.get(name, (10, 2, 64))
            for layer in encoder.layers:
                yield Setting(name, layer, dims, batch, image_size, device)
